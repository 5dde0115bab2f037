import dataclasses
from functools import cache
from itertools import combinations
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.transforms import Bbox
from test_tables import made_up_metrics

from xr2text.evaluation import plots as pictures
from xr2text.evaluation.plots import Example, examples_page, finding_bars, reliability_figure, wrap
from xr2text.inference.overlay import Canvas
from xr2text.phantom.drawing import draw_phantom

LONG_NAME = "degenerative_change_of_the_thoracic_spine_with_osteophytes"
SENTENCE = "the heart is enlarged with mild central vascular congestion , and the left base is hazy . "


@cache
def make_canvas(seed=1, height=120, width=100):
    phantom = draw_phantom(seed, (height, width))
    return Canvas((phantom.pixels * 255).astype(np.uint8), phantom.masks.astype(np.uint8) * 255)


def make_example(study="CXR1", score=0.25, words=6, **changes):
    text = " ".join((SENTENCE * (words // 16 + 1)).split()[:words])
    example = Example(study, score, make_canvas(), text, text, ("cardiomegaly",), ("edema",), ("fracture",))
    return dataclasses.replace(example, **changes)


def make_bins(**changes):
    arrays = {
        "edges": np.linspace(0, 1, 6),
        "counts": np.array([900, 80, 0, 20, 3]),
        "mean_probability": np.array([0.05, 0.28, np.nan, 0.7, 0.9]),
        "share_positive": np.array([0.02, 0.3, np.nan, 0.6, 1.0]),
    }
    return SimpleNamespace(**(arrays | changes))


def draw(function, *arguments):
    """The picture, and the page that it was drawn on."""
    pages, finish = [], pictures._Page.finish

    def keep(page, height):
        pages.append(page)
        return finish(page, height)

    with mock.patch.object(pictures._Page, "finish", keep):
        picture = function(*arguments)
    return picture, pages[0]


@pytest.fixture(scope="module")
def bars():
    return draw(finding_bars, made_up_metrics())


def texts_of(page):
    return [text.get_text() for text in page.figure.texts]


def assert_nothing_is_clipped(page, picture):
    box = page.figure.get_tightbbox(page.drawing.get_renderer()).extents * pictures.DPI
    assert box[0] >= 0
    assert box[1] >= 0
    assert box[2] <= picture.width
    assert box[3] <= picture.height


def assert_no_text_covers_another(page):
    renderer = page.drawing.get_renderer()
    boxes = {text: text.get_window_extent(renderer) for text in page.figure.texts}
    for one, other in combinations(boxes, 2):
        assert not boxes[one].fully_overlaps(boxes[other]), (one.get_text(), other.get_text())
    for film, x, top in page.films:
        height, width = film.shape[:2]
        place = Bbox.from_bounds(x, page.figure.bbox.height - top - height, width, height)
        assert not any(box.fully_overlaps(place) for box in boxes.values())


def colour_at(picture, colour):
    """How many pixels are of that colour."""
    return (np.asarray(picture) == np.round(np.array(to_rgb(colour)) * 255).astype(np.uint8)).all(axis=2).sum()


def test_bars_grow_with_f1(bars):
    low, _ = bars
    metrics = made_up_metrics()
    metrics["clinical"]["findings"]["lung_opacity"]["f1"] = 0.9
    high = finding_bars(metrics)
    assert low.size == high.size
    model, retrieval, _ = pictures.SYSTEM_COLOURS
    assert colour_at(high, model) > colour_at(low, model) + 1000
    assert colour_at(high, retrieval) == colour_at(low, retrieval)


def test_bars_stand_beside_names_and_supports_by_support_with_the_averages_on_top(bars):
    axes = bars[1].figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "micro-average, 14 findings", "micro-average, 5 findings",
        "no finding  (200)", "lung opacity  (40)", "cardiomegaly  (30)", "pleural effusion  (30)",
    ]  # fmt: skip
    assert axes.yaxis_inverted()


def test_each_f1_is_written(bars):
    numbers = [text.get_text() for text in bars[1].figure.axes[0].texts]
    assert numbers == [
        "0.63", "0.32", "0.82", "0.31", "0.40", "0.00",
        "0.30", "0.15", "0.50", "0.50", "0.50", "0.50",
        "0.05", "0.03", "0.00", "0.00", "0.00", "0.00",
    ]  # fmt: skip


def test_the_title_of_the_bars_says_what_was_scored(bars):
    assert "xr2text-iu 0.1.0 on IU X-Ray, split test, 590 studies" in texts_of(bars[1])


def test_long_names_are_not_clipped_and_another_finding_is_another_row(bars):
    metrics = made_up_metrics()
    metrics["model"] = "a-model-of-a-very-long-name-" * 4 + "0.1.0"
    for scores in (metrics, *metrics["baselines"].values()):
        findings = scores["clinical"]["findings"]
        findings[LONG_NAME] = findings["cardiomegaly"] | {"f1": 1.0}
        scores["intervals"]["clinical"]["micro_14"]["f1"] = [0.2, 1.0]
    picture, page = draw(finding_bars, metrics)
    assert_nothing_is_clipped(page, picture)
    assert_no_text_covers_another(page)
    assert picture.height >= bars[0].height + pictures.ROW_HEIGHT


def test_an_undefined_f1_is_a_dash_and_a_finding_without_support_is_left_out(bars):
    metrics = made_up_metrics()
    for scores in (metrics, *metrics["baselines"].values()):
        for finding in scores["clinical"]["findings"].values():
            finding["support"] = 0
    metrics["clinical"]["micro_5"]["f1"] = metrics["intervals"]["clinical"]["micro_5"]["f1"] = None
    picture, page = draw(finding_bars, metrics)
    assert picture.height < bars[0].height
    assert [text.get_text() for text in page.figure.axes[0].texts] == ["0.63", "–", "0.30", "0.15", "0.05", "0.03"]


def test_long_reports_are_neither_clipped_nor_laid_over_anything():
    names = (LONG_NAME, "pleural effusion", "enlarged cardiomediastinum")
    examples = [
        make_example("CXR1", 0.1, words=120, matched=names, missed=names, invented=names * 2),
        make_example("CXR2", 0.9, words=3, canvas=make_canvas(2, 60, 200)),
        make_example("a-study-with-a-long-id-" * 12, 0.5, reference="w" * 300, generated=""),
    ]
    picture, page = draw(examples_page, examples, "Single studies of a model, ordered by a score, " * 6)
    assert picture.mode == "RGB"
    assert picture.width == pictures.PAGE_WIDTH
    assert_nothing_is_clipped(page, picture)
    assert_no_text_covers_another(page)
    shown = [" ".join(text.split()) for text in texts_of(page)]
    assert examples[0].reference in shown
    assert "(no text)" in shown


def test_all_the_words_of_a_text_stay_in_order():
    lines = wrap(SENTENCE * 5, 30, len)
    assert max(map(len, lines)) <= 30
    assert " ".join(lines).split() == (SENTENCE * 5).split()
    assert wrap("a " + "b" * 7 + " c", 3, len) == ["a", "bbb", "bbb", "b c"]
    assert wrap("", 3, len) == [""]


def test_a_dollar_is_no_formula():
    _, page = draw(examples_page, [make_example(reference="from $1 to $2_x", generated="100 % \\frac{")], "a $ and a $")
    assert "from $1 to $2_x" in texts_of(page)


def headers(page):
    return [text.split()[1] for text in texts_of(page) if text.startswith("study ")]


def test_the_lowest_stand_first_then_the_highest():
    scores = {"a": 0.3, "b": 0.9, "c": 0.1, "d": 0.5}
    _, page = draw(examples_page, [make_example(name, score) for name, score in scores.items()], "t")
    assert headers(page) == ["c", "a", "b", "d"]
    texts = texts_of(page)
    assert texts.index("Lowest scores") < texts.index("Highest scores")


def test_at_most_ten_are_drawn_and_none_twice():
    bare = {"reference": "", "generated": "", "matched": (), "missed": (), "invented": ()}
    _, page = draw(examples_page, [make_example(str(i), i / 20, **bare) for i in range(13)], "t")
    assert headers(page) == ["0", "1", "2", "3", "4", "12", "11", "10", "9", "8"]


def test_one_example_has_one_heading_and_none_is_refused():
    _, page = draw(examples_page, [make_example()], "t")
    assert "Highest scores" not in texts_of(page)
    with pytest.raises(ValueError, match="at least one"):
        examples_page([], "t")


def test_the_films_are_drawn_pixel_by_pixel_with_and_without_regions():
    example = make_example(canvas=make_canvas(1, 330, 275))
    picture, page = draw(examples_page, [example], "t")
    picture = np.asarray(picture)
    (film, x, top), (painted, *_) = page.films
    assert film.shape == painted.shape == (330, 275, 3)
    assert (picture[top : top + 330, x : x + 275] == example.canvas.grey[..., None]).all()
    assert (painted != film).any(axis=2).mean() > 0.3


def test_the_lists_are_in_their_colours():
    few, fewer = draw(examples_page, [make_example(missed=())], "t")
    many, more = draw(examples_page, [make_example(missed=("edema", "pneumothorax", "pleural effusion"))], "t")
    assert colour_at(many, pictures.MISSED) > colour_at(few, pictures.MISSED)
    assert "none" in texts_of(fewer)
    assert "none" not in texts_of(more)


def test_a_canvas_without_maps_is_drawn_twice_as_it_is():
    _, page = draw(examples_page, [make_example(canvas=Canvas(make_canvas().grey))], "t")
    (film, *_), (painted, *_) = page.films
    assert (film == painted).all()


def test_the_reliability_shows_the_bins_that_hold_something():
    bins = make_bins()
    picture, page = draw(reliability_figure, bins)
    assert_nothing_is_clipped(page, picture)
    main, numbers = page.figure.axes
    filled = [0, 1, 3, 4]
    assert main.lines[1].get_xdata().tolist() == bins.mean_probability[filled].tolist()
    assert main.lines[1].get_ydata().tolist() == bins.share_positive[filled].tolist()
    assert [bar.get_height() for bar in numbers.patches] == bins.counts.tolist()
    assert any("1003 pairs" in text for text in texts_of(page))


def test_the_reliability_changes_with_the_data():
    one = reliability_figure(make_bins())
    other = reliability_figure(make_bins(share_positive=np.array([0.4, 0.4, np.nan, 0.4, 0.4])))
    assert one.size == other.size
    assert (np.asarray(one) != np.asarray(other)).any()


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"edges": np.linspace(0, 1, 5)}, "5 edges, 5 counts"), ({"counts": np.zeros(5, int)}, "All bins are empty")],
)
def test_bins_that_make_no_diagram_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        reliability_figure(make_bins(**changes))
