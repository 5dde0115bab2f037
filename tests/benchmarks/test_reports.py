"""benchmarks.report_speed, report_load and evidence on phantoms and a tiny checkpoint."""

import cv2
import numpy as np
import pytest

from benchmarks import evidence, report_load, report_speed
from benchmarks.common import frontal_files
from xr2text.phantom.drawing import draw_phantom


@pytest.fixture
def collection(tmp_path):
    """Three phantoms laid out as the Indiana collection is."""
    (tmp_path / "images").mkdir()
    lines = ["uid,filename,projection"]
    for seed in range(3):
        cv2.imwrite(
            str(tmp_path / "images" / f"{seed}.png"), np.round(255 * draw_phantom(seed, 64).pixels).astype(np.uint8)
        )
        lines.append(f"{seed},{seed}.png,{'Lateral' if seed == 1 else 'Frontal'}")
    (tmp_path / "indiana_projections.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_frontal_files_are_taken_again_where_there_are_fewer(collection):
    assert [file.stem for file in frontal_files(collection, 3)] == ["0", "2", "0"]


@pytest.mark.slow
def test_a_checkpoint_is_timed_against_the_stock_model(collection, tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(report_speed, "loading_seconds", lambda checkpoint: 0.0)  # three processes
    monkeypatch.setattr(report_speed, "THREADS", {"one thread": (1, True), "as it ships": (1, False)})
    out = collection / "table.md"
    root, checkpoint = str(collection), str(tiny_checkpoint)
    counts = ["--count", "2", "--loaded-count", "1"]
    report_speed.main(["--root", root, "--checkpoint", checkpoint, *counts, "--out", str(out)])
    text = out.read_text()
    assert text.count("| two busy processes |") == text.count("| free |") == 2


@pytest.mark.slow
def test_a_batch_of_radiographs_is_timed(collection, tiny_checkpoint, tmp_path):
    times, memory, whole = report_load.report(
        frontal_files(collection, 5), tmp_path / "out", str(tiny_checkpoint), "off"
    )
    assert len(times) == 5 and max(times) <= whole and memory and all(memory)


def test_both_occlusions_have_the_same_size():
    maps = np.random.default_rng(0).random((7, 16, 16)) ** 4
    here, elsewhere = evidence.occlusion_masks(maps, 2, 5)
    assert here.sum() == elsewhere.sum() > 0 and not (here & elsewhere).any()
