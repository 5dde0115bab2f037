import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from xr2text.anatomy import REGION_NAMES
from xr2text.cli.main import main
from xr2text.cli.report import unique_names
from xr2text.imaging.radiograph import ImageError, Radiograph
from xr2text.inference.reporter import Reporter
from xr2text.model.steps import Steps
from xr2text.model.xr2text import CheckpointError
from xr2text.phantom.drawing import draw_phantom


@pytest.fixture(scope="module")
def reporter(tiny_checkpoint):
    return Reporter.from_pretrained(tiny_checkpoint)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A phantom as a PNG, taller than wide."""
    path = tmp_path_factory.mktemp("films") / "film.png"
    cv2.imwrite(str(path), np.round(draw_phantom(1, (300, 240)).pixels * 255).astype(np.uint8))
    return path


def test_a_report_holds_all_its_parts(reporter, film):
    report = reporter.report(film)
    assert report.findings and report.impression and report.model == "xr2text-tiny 0.1.0"
    assert tuple(report.region_weights) == REGION_NAMES
    assert sum(report.region_weights.values()) == pytest.approx(1, abs=1e-5)
    assert report.maps.shape == (7, 300, 240) and report.maps.dtype == np.float32
    np.testing.assert_allclose(report.maps.max(axis=(1, 2)), 1)
    assert report.maps.min() >= 0
    assert {sentence.section for sentence in report.sentences} == {"findings", "impression"}
    text = " ".join(sentence.text for sentence in report.sentences)
    assert text == f"{report.findings} {report.impression}"
    for sentence in report.sentences:
        assert tuple(sentence.region_weights) == REGION_NAMES
        assert sum(sentence.region_weights.values()) == pytest.approx(1, abs=1e-5)


def test_a_sentence_has_a_place(reporter, film):
    report = reporter.report(film)
    heart = replace(report.sentences[0], region_weights=dict.fromkeys(REGION_NAMES, 0.0) | {"heart": 0.7, "spine": 0.3})
    assert heart.region == "heart"
    place = 0.7 * report.grid_maps[REGION_NAMES.index("heart")] + 0.3 * report.grid_maps[REGION_NAMES.index("spine")]
    np.testing.assert_allclose(report.sentence_map(heart), place, rtol=1e-5)


def test_the_maps_are_the_attention_of_the_model(reporter, film):
    """What is shown is what the pass over this image gave, brought to the image's pixels."""
    report = reporter.report(film)
    pixels, geometry = reporter.model.transform(report.radiograph)
    attention = reporter.model.look(pixels[None], pixels.new_tensor([geometry.box])).region_maps[0].detach().numpy()
    np.testing.assert_allclose(report.grid_maps, attention, atol=1e-6)
    x = (np.arange(240) + 0.5) / 240
    centre = {name: (one.sum(0) * x).sum() / one.sum() for name, one in zip(REGION_NAMES, report.maps, strict=True)}
    assert centre["right lung"] < 0.45 < 0.55 < centre["left lung"]


def test_every_way_in_gives_the_same_report(reporter, film):
    first = reporter.report(film)
    pixels = cv2.imread(str(film), cv2.IMREAD_GRAYSCALE)
    for given in (str(film), film.read_bytes(), pixels, Image.fromarray(pixels), first.radiograph):
        again = reporter.report(given)
        assert (again.findings, again.impression) == (first.findings, first.impression)
        np.testing.assert_allclose(again.grid_maps, first.grid_maps, atol=1e-6)


def test_a_search_stops_when_its_time_is_over(reporter, film, monkeypatch):
    step, steps = Steps.step, []

    def slow_step(self, ids):
        steps.append(len(steps))
        time.sleep(0.05)
        return step(self, ids)

    monkeypatch.setattr(Steps, "step", slow_step)
    with pytest.raises(TimeoutError):
        reporter.report(film, seconds=0.5)
    assert 0 < len(steps) <= 10
    late = len(steps)
    assert reporter.report(film).findings, "the next one has its own time"
    assert len(steps) - late > 10


def test_two_threads_write_one_report_after_the_other(reporter, film, monkeypatch):
    generate, at_work, most = reporter.model.generate, [], []

    def watched(*args, **options):
        at_work.append(1)
        most.append(len(at_work))
        time.sleep(0.1)
        try:
            return generate(*args, **options)
        finally:
            at_work.pop()

    monkeypatch.setattr(reporter.model, "generate", watched)
    with ThreadPoolExecutor(3) as threads:
        one, *others = threads.map(reporter.report, [film] * 3)
    assert most == [1, 1, 1] and all(other.findings == one.findings for other in others)


def test_warnings_say_what_a_reader_should_know(reporter):
    pixels = draw_phantom(1, 64).pixels
    small = Radiograph(pixels=pixels[:30, :30], source="array", modality=None, body_part=None, view="lateral")
    text = " ".join(Reporter(reporter.model).report(small).warnings)  # without a gate, which stops it
    assert "lateral" in text and "small" in text
    usual = " ".join(reporter.report(draw_phantom(1, 128).radiograph).warnings)
    assert "lateral" not in usual and "small" not in usual


def test_a_linear_projection_has_no_reporter(make_tiny):
    with pytest.raises(CheckpointError, match="linear"):
        Reporter(make_tiny(projection="linear"))


def test_a_file_that_is_no_image_is_refused(reporter, tmp_path):
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(ImageError):
        reporter.report(tmp_path / "text.png")


def test_the_command_writes_a_folder_per_file_and_goes_on_past_a_bad_one(tiny_checkpoint, film, tmp_path, capsys):
    bad = tmp_path / "bad.png"
    bad.write_text("not an image")
    code = main(["report", str(film), str(bad), str(film), "--out", str(tmp_path / "out"), "--maps",
                 "--checkpoint", str(tiny_checkpoint)])  # fmt: skip
    assert code == 1
    errors = capsys.readouterr().err
    assert "bad.png" in errors and "1 of 3 files" in errors and "Traceback" not in errors
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["film", "film-2"]
    folder = tmp_path / "out" / "film"
    assert sorted(path.name for path in folder.iterdir()) == ["maps.npz", "overlay.png", "report.json", "report.txt"]
    written = json.loads((folder / "report.json").read_text())
    assert {"findings", "impression", "sentences", "regions", "model", "warnings"} <= written.keys()
    assert [region["name"] for region in written["regions"]] == list(REGION_NAMES)
    with np.load(folder / "maps.npz", allow_pickle=False) as stored:
        assert stored["maps"].shape == (7, 300, 240) and list(stored["regions"]) == list(REGION_NAMES)


def test_the_command_succeeds_as_a_program(tiny_checkpoint, film, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "xr2text", "report", str(film), "--out", str(tmp_path),
         "--checkpoint", str(tiny_checkpoint)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "film" / "maps.npz").exists()


def test_the_command_names_a_missing_checkpoint(film, tmp_path, capsys):
    assert main(["report", str(film), "--out", str(tmp_path), "--checkpoint", "/no/such"]) == 2
    assert "/no/such" in capsys.readouterr().err


def test_files_of_one_stem_do_not_overwrite_each_other(tmp_path):
    files = [Path("a/film.png"), Path("b/film.dcm"), Path("film-2.png")]
    assert unique_names(files) == ["film", "film-2", "film-2-2"]
