import io
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from xr2text.imaging.radiograph import ImageError, Radiograph
from xr2text.imaging.read import radiograph_from_array
from xr2text.inference.gate import (
    CHILD,
    DOUBTFUL,
    PASSES,
    REFUSED,
    SHIPPED_GATE,
    UNUSUAL,
    DoubtfulImageError,
    Gate,
    GateResult,
    RefusedImageError,
    put_right,
)
from xr2text.inference.reporter import Reporter
from xr2text.model.checkpoint import CheckpointError
from xr2text.phantom.drawing import draw_phantom


@pytest.fixture(scope="module")
def gate():
    return Gate.load()


def phantom(seed, size=320):
    return draw_phantom(seed, size).radiograph


@pytest.mark.parametrize("seed", range(900, 910))
def test_upright_films_pass_as_they_are(gate, seed):
    result = gate(phantom(seed))
    assert result.verdict == PASSES and not result.notes and not result.reason
    np.testing.assert_array_equal(result.radiograph.pixels, phantom(seed).pixels)


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("turned", range(4))
def test_turned_and_negative_films_are_put_right_and_the_reader_told(gate, turned, negative):
    upright = phantom(77)
    pixels = np.ascontiguousarray(np.rot90(upright.pixels, -turned))  # clockwise
    result = gate(Radiograph(1 - pixels if negative else pixels, "PNG"))
    assert result.verdict == PASSES
    np.testing.assert_allclose(result.radiograph.pixels, upright.pixels, atol=1e-6)
    words = " ".join(result.notes)
    assert ("negative" in words) == negative and ("turned" in words) == (turned > 0)


def test_putting_right_undoes_quarters_clockwise():
    pixels = np.arange(12, dtype=np.float32).reshape(3, 4) / 12
    clockwise = Radiograph(cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE), "array")
    np.testing.assert_array_equal(put_right(clockwise, 1, False).pixels, pixels)
    np.testing.assert_allclose(put_right(Radiograph(1 - pixels, "array"), 0, True).pixels, pixels, atol=1e-6)


def drawing():
    image = Image.new("L", (300, 300), 255)
    pen = ImageDraw.Draw(image)
    pen.ellipse((60, 60, 240, 240), outline=0, width=6)
    pen.text((100, 140), "not a film", fill=0)
    return np.asarray(image)


OTHERS = {
    "black": np.zeros((200, 180), np.uint8),
    "white": np.full((200, 180), 255, np.uint8),
    "noise": np.random.default_rng(0).integers(256, size=(220, 200), dtype=np.uint8),
    "ramp": np.tile(np.linspace(0, 255, 240).astype(np.uint8), (200, 1)),
    "checkerboard": (np.indices((200, 200)).sum(0) // 20 % 2 * 255).astype(np.uint8),
    "drawing": drawing(),
    "piece of a film": np.round(phantom(5, 800).pixels[300:480, 100:280] * 255).astype(np.uint8),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_pictures_are_stopped_with_the_reason(gate, name):
    result = gate(radiograph_from_array(OTHERS[name]))
    assert result.verdict in (DOUBTFUL, REFUSED)
    assert result.reason.endswith(".") and not result.notes


def blurred(pixels):
    return cv2.GaussianBlur(pixels, (0, 0), 8)


def framed(pixels):
    return cv2.copyMakeBorder(pixels, *[85] * 4, cv2.BORDER_CONSTANT, value=0)


def noisy(pixels):
    noise = np.random.default_rng(0).normal(0, 0.15, pixels.shape)
    return np.clip(pixels + noise, 0, 1).astype(np.float32)


@pytest.mark.parametrize("spoil", [blurred, framed, noisy])
def test_a_film_that_passes_and_is_unlike_the_others_is_doubted(gate, tiny_checkpoint, spoil):
    film = phantom(3)
    spoilt = Radiograph(spoil(film.pixels), "phantom")
    assert gate(film).reason == "" and gate.admit(film) == (film, ())
    assert gate(spoilt).verdict == PASSES and gate.admit(spoilt) == (spoilt, (UNUSUAL,))
    reporter = Reporter.from_pretrained(tiny_checkpoint)
    assert UNUSUAL in reporter.report(spoilt).doubts and UNUSUAL not in reporter.report(film).doubts


def test_the_reporter_stops_them_too_and_goes_on_past_a_doubt_alone(tiny_checkpoint, monkeypatch):
    reporter = Reporter.from_pretrained(tiny_checkpoint)
    film, verdict = phantom(3), []
    monkeypatch.setattr(Gate, "forward", lambda self, given: GateResult(verdict[0], given, (), "It is strange."))
    verdict[:] = [DOUBTFUL]
    with pytest.raises(DoubtfulImageError, match="It is strange"):
        reporter.report(film)
    assert "It is strange." in reporter.report(film, force=True).doubts
    verdict[:] = [REFUSED]
    for force in (False, True):
        with pytest.raises(RefusedImageError):
            reporter.report(film, force=force)
    noted = replace(film, notes=("Its bits were moved.",))
    with pytest.raises(DoubtfulImageError, match=r"It is strange\. Its bits were moved\."):
        reporter.report(noted)
    assert reporter.report(noted, force=True).warnings[:2] == ("It is strange.", "Its bits were moved.")
    assert issubclass(RefusedImageError, ImageError) and issubclass(DoubtfulImageError, ImageError)


def test_a_film_that_was_put_right_is_reported_as_it_should_lie(tiny_checkpoint):
    reporter = Reporter.from_pretrained(tiny_checkpoint)
    content = io.BytesIO()
    upright = np.round(phantom(12).pixels * 255).astype(np.uint8)
    Image.fromarray(255 - np.rot90(upright, 2)).save(content, "PNG")
    report = reporter.report(content.getvalue())
    np.testing.assert_allclose(report.radiograph.pixels, upright / 255, atol=1e-6)
    assert [note.split()[3] for note in report.warnings[:2]] == ["a", "turned"]
    plain = reporter.report(upright)
    assert (plain.findings, plain.warnings) == (report.findings, report.warnings[2:])


def test_a_gate_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="no gate"):
        Gate.load(tmp_path / "none")
    shutil.copytree(SHIPPED_GATE, tmp_path / "gate")
    (tmp_path / "gate" / "gate.safetensors").write_bytes(b"half a file")
    with pytest.raises(CheckpointError, match="no gate that can be read"):
        Gate.load(tmp_path / "gate")


def unsaid(radiograph):
    """The same without a header's word on its view."""
    return replace(radiograph, view=None)


@pytest.mark.parametrize("seed", range(900, 905))
def test_the_lateral_of_two_files_is_found_and_refused_alone(gate, seed):
    drawn = draw_phantom(seed, 320)
    frontal, lateral = unsaid(drawn.radiograph), unsaid(drawn.lateral)
    assert (gate.view(frontal), gate.view(lateral)) == ("frontal", "lateral")
    with pytest.raises(ImageError, match="lateral view"):
        gate.admit(lateral)


def test_the_header_goes_before_what_an_image_looks_like(gate):
    drawn = draw_phantom(902, 320)
    assert gate.view(replace(drawn.radiograph, view="lateral")) == "lateral"
    assert gate.view(replace(drawn.lateral, view="AP")) == "frontal"
    assert gate.view(radiograph_from_array(OTHERS["noise"])) is None


def test_a_header_that_says_another_body_part_can_be_overruled(gate):
    hand = replace(phantom(3), contradiction="The file says that this shows another body part (hand).")
    with pytest.raises(DoubtfulImageError, match=r"\(hand\)"):
        gate.admit(hand)
    assert gate.admit(hand, force=True) == (hand, (hand.contradiction,))
    both = replace(radiograph_from_array(OTHERS["noise"]), contradiction=hand.contradiction)
    with pytest.raises(RefusedImageError, match=r"\(hand\)\. This is no chest radiograph"):
        gate.admit(both, force=True)


def test_a_childs_radiograph_is_doubted(gate):
    child = replace(phantom(3), child=True)
    result = gate(child)
    assert (result.verdict, result.reason) == (DOUBTFUL, CHILD)
    with pytest.raises(DoubtfulImageError, match="child"):
        gate.admit(child)
    assert gate.admit(child, force=True) == (child, (CHILD,))
    assert gate(replace(unsaid(draw_phantom(3, 320).lateral), child=True)).verdict == REFUSED
