import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from xr2text.anatomy import REGION_NAMES
from xr2text.imaging.radiograph import ImageError, Radiograph
from xr2text.inference.confidence import FindingError
from xr2text.inference.gate import DoubtfulImageError
from xr2text.inference.reporter import Reporter, free_cores
from xr2text.model.checkpoint import CheckpointError
from xr2text.model.findings import FindingCalibration, FindingMeasure
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
    sentence = reporter.report(film).sentences[0]
    weights = dict.fromkeys(REGION_NAMES, 0.0) | {"heart": 0.7, "spine": 0.3}
    assert replace(sentence, region_weights=weights).region == "heart"
    assert replace(sentence, region_weights={}).region is None


def test_a_lateral_view_is_read_beside_the_frontal_one(make_tiny, reporter, film):
    both, lateral = Reporter(make_tiny(("cardiomegaly",), lateral_queries=2)), draw_phantom(1, 200).lateral
    report, alone = both.report(film, lateral), both.report(film)
    assert report.lateral is lateral and report.lateral_map.shape == (4, 4)
    assert report.lateral_map.sum() == pytest.approx(1, abs=1e-5)
    assert all(0 < sentence.lateral_weight < 1 for sentence in report.sentences)
    assert report.finding_readings[0].probability != alone.finding_readings[0].probability
    assert alone.lateral is None and not any(sentence.lateral_weight for sentence in alone.sentences)
    first, second = both.reports([(film, lateral), film])
    assert (first.findings, second.findings) == (report.findings, alone.findings) and second.lateral is None
    unread = reporter.report(film, lateral)  # a checkpoint that reads frontal views alone
    assert unread.lateral is None and any("lateral view was not read" in warning for warning in unread.warnings)


def test_what_a_header_says_against_a_radiograph_is_told(make_tiny, film):
    both, words = Reporter(make_tiny((), lateral_queries=2)), "The file says that this is a CT image."
    hand = replace(draw_phantom(1, 200).lateral, contradiction=words)
    with pytest.raises(DoubtfulImageError, match="a CT image"):
        both.report(film, hand)
    assert both.report(film, hand, force=True).notes == (words,)
    wrong = replace(draw_phantom(1, 200).radiograph, contradiction=words)
    assert words in both.report(wrong).notes, "without a gate a report is written of every image"


def test_the_maps_are_the_attention_of_the_model(reporter, film):
    """What is shown is what the pass over this image gave, brought to the image's pixels."""
    report = reporter.report(film)
    pixels, geometry = reporter.model.transform(report.radiograph)
    attention = (
        reporter.model.encode_image(pixels[None], pixels.new_tensor([geometry.box])).region_maps[0].detach().numpy()
    )
    np.testing.assert_allclose(report.grid_maps, attention, atol=1e-6)
    x = (np.arange(240) + 0.5) / 240
    maps = zip(REGION_NAMES, report.maps, strict=True)
    centre = {name: (region.sum(0) * x).sum() / region.sum() for name, region in maps}
    assert centre["right lung"] < 0.45 < 0.55 < centre["left lung"]


def test_every_way_in_gives_the_same_report(reporter, film):
    first = reporter.report(film)
    pixels = cv2.imread(str(film), cv2.IMREAD_GRAYSCALE)
    for given in (str(film), film.read_bytes(), pixels, Image.fromarray(pixels), first.radiograph):
        again = reporter.report(given)
        assert (again.findings, again.impression) == (first.findings, first.impression)
        np.testing.assert_allclose(again.grid_maps, first.grid_maps, atol=1e-6)


def test_a_search_stops_when_its_time_is_over(reporter, film):
    steps = []

    def wait(*_):
        steps.append(len(steps))
        time.sleep(0.05)

    handle = reporter.model.decoder.bart.register_forward_pre_hook(wait)
    try:
        with pytest.raises(TimeoutError, match=r"within 0\.5 seconds"):
            reporter.report(film, max_time=0.5)
        assert 0 < len(steps) <= 12
        late = len(steps)
        assert reporter.report(film).findings, "the next one has its own time"
    finally:
        handle.remove()
    assert len(steps) - late > 12


def test_many_reports_are_written_in_batches_and_in_order(reporter, film, tmp_path, monkeypatch):
    """A file that is refused leaves its place to the reason, and the others as they are alone."""
    generate, sizes = reporter.generator.generate, []

    def watched(pixel_values, *args, **options):
        sizes.append(len(pixel_values))
        return generate(pixel_values, *args, **options)

    (tmp_path / "text.png").write_text("not an image")
    images = [film, tmp_path / "text.png", *(draw_phantom(seed, 200).radiograph for seed in range(3))]
    alone = [reporter.report(image) for image in (images[0], *images[2:])]
    monkeypatch.setattr(reporter.generator, "generate", watched)
    reports = list(reporter.reports(iter(images), batch_size=3))
    assert sizes == [2, 2] and isinstance(reports.pop(1), ImageError)
    for report, expected in zip(reports, alone, strict=True):
        assert (report.findings, report.impression) == (expected.findings, expected.impression)
        np.testing.assert_allclose(report.grid_maps, expected.grid_maps, atol=1e-5)
        for sentence, other in zip(report.sentences, expected.sentences, strict=True):
            assert sentence.text == other.text and sentence.confidence == pytest.approx(other.confidence, abs=1e-4)
    assert list(reporter.reports([])) == []


@pytest.mark.parametrize("free", [1, 2, 8])
def test_the_encoder_takes_the_free_cores_and_the_search_a_single_thread(reporter, film, monkeypatch, free):
    before, counts = torch.get_num_threads(), {"encoder": set(), "search": set()}
    monkeypatch.setattr("xr2text.inference.reporter.free_cores", lambda: free)
    model = reporter.model
    handles = [
        part.register_forward_pre_hook(lambda *_, name=name: counts[name].add(torch.get_num_threads()))
        for name, part in (("encoder", model.encoder), ("search", model.decoder.bart))
    ]
    try:
        torch.set_num_threads(2)
        Reporter(reporter.checkpoint, "cpu").report(film)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
        for handle in handles:
            handle.remove()
    assert counts == {"encoder": {min(free, 2)}, "search": {1}}


def test_at_least_one_core_is_free():
    assert 1 <= free_cores() <= os.cpu_count()


def test_two_threads_write_one_report_after_the_other(reporter, film, monkeypatch):
    generate, at_work, most = reporter.generator.generate, [], []

    def watched(*args, **options):
        at_work.append(1)
        most.append(len(at_work))
        time.sleep(0.1)
        try:
            return generate(*args, **options)
        finally:
            at_work.pop()

    monkeypatch.setattr(reporter.generator, "generate", watched)
    with ThreadPoolExecutor(3) as threads:
        reports = list(threads.map(reporter.report, [film] * 3))
    assert most == [1, 1, 1] and len({report.findings for report in reports}) == 1


def test_warnings_say_what_a_reader_should_know(reporter):
    pixels = draw_phantom(1, 64).pixels
    small = Radiograph(pixels=pixels[:30, :30], source="array", view="lateral")
    text = " ".join(Reporter(reporter.checkpoint).report(small).warnings)  # without a gate, which stops it
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


@pytest.fixture(scope="module")
def with_findings(make_tiny):
    checkpoint = make_tiny(("cardiomegaly", "pleural effusion"))
    checkpoint.model.calibration = FindingCalibration({}, {}, {"cardiomegaly": FindingMeasure(2, 9, None, None, None)})
    return Reporter(checkpoint)


def test_the_report_follows_what_a_person_sets(with_findings, film, monkeypatch):
    model, presence = with_findings.model, []
    head = model.findings_present
    monkeypatch.setattr(model, "findings_present", lambda logits: presence.append(head(logits)) or presence[-1])
    plain = with_findings.report(film)
    for state in ("present", "absent"):
        presence.clear()
        report = with_findings.report(film, findings={"pleural effusion": state})
        assert {bool(given[0, 1]) for given in presence} == {state == "present"}, "what the decoder reads"
        heart, effusion = report.finding_readings
        assert report.set_findings == {"pleural effusion": state} and effusion.seen == (state == "present")
        assert (heart.set_to, heart.probability) == (None, pytest.approx(plain.finding_readings[0].probability))
        assert effusion.probability == pytest.approx(plain.finding_readings[1].probability), "the head's, as before"
    assert plain.set_findings == {} and not heart.assessed and effusion.assessed
    with pytest.raises(FindingError, match="accepted: cardiomegaly, pleural effusion"):
        with_findings.report(film, findings={"effusion": "present"})


def test_a_report_is_written_anew_without_its_radiograph(with_findings, film):
    plain, setting = with_findings.report(film), {"cardiomegaly": "present"}
    bare = replace(plain, radiograph=replace(plain.radiograph, pixels=np.empty((0, 0), np.float32)))
    rewritten, expected = with_findings.rewrite(bare, setting), with_findings.report(film, findings=setting)
    assert (rewritten.findings, rewritten.impression) == (expected.findings, expected.impression)
    assert [one.set_to for one in rewritten.finding_readings] == ["present", None]
    np.testing.assert_array_equal(rewritten.grid_maps, plain.grid_maps)
    assert rewritten.warnings == plain.warnings
    for one, other in zip(rewritten.sentences, expected.sentences, strict=True):
        assert one.text == other.text and one.confidence == pytest.approx(other.confidence, abs=1e-5)
    back = with_findings.rewrite(rewritten, {})
    assert (back.findings, back.set_findings) == (plain.findings, {})
    (batched,) = with_findings.reports([film], findings=setting)
    assert batched.findings == expected.findings
