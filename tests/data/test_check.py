"""`data check` on small copies with planted faults."""

import shutil

import cv2
import pandas as pd

from xr2text.config import layout_config
from xr2text.data.check import check_source


def check(tree, *overrides, **options):
    config = layout_config(["data.source=mimic_cxr", f"data.root={tree}", *overrides])
    return check_source(config, **options)


def radiograph(tree, study, view=0):
    """A study's image, in the order of their names."""
    return sorted(tree.glob(f"files/*/*/s{study}/*.jpg"))[view]


def report(tree, study):
    return next(tree.glob(f"files/*/*/s{study}.txt"))


def test_a_sound_set_is_counted(tree):
    found = check(tree)
    assert found.failures == [] and found.warnings == []
    text = found.text("made up")
    assert "# made up: training can start" in text
    assert "| train | 48 | 32 | 72 | 48 | 24 | 0 | 0 | 0 | 0 | 0 | 0 |" in text
    assert "| val | 6 | 4 | 9 | 6 | 3 | 0 | 0 | 0 | 0 | 0 | 0 |" in text
    assert "| cardiomegaly |" in text and "## Stages of the curriculum" in text and "| all | 4-4 |" in text
    words = sum(int(line.split()[1]) for line in text.split("```")[1].splitlines() if "#" in line)
    assert words == 60


def test_planted_faults_are_named(tree):
    damaged, gone = radiograph(tree, 50000020), radiograph(tree, 50000022)
    damaged.write_bytes(damaged.read_bytes()[:300])
    gone.unlink()
    report(tree, 50000024).write_text("FINAL REPORT\n\n FINDINGS: ___\n")
    shutil.copy(radiograph(tree, 50000002), radiograph(tree, 50000026))  # a validation image in training
    found = check(tree)
    assert found.failures == ["3 of 48 training radiographs would be skipped, more than data.max_skip_fraction 0.05"]
    texts = "\n".join(found.warnings)
    assert f"unreadable image of train: {damaged}: This JPEG file is damaged" in texts
    assert f"unreadable image of train: {gone} is missing" in texts
    assert "empty report: study '50000024' of train" in texts
    assert "duplicate image: studies '50000026' (train), '50000002' (val) share an image" in texts
    assert "| train | 48 | 32 | 72 | 48 | 24 | 0 | 1 | 1 | 1 | 1 | 1 |" in found.text("x")
    assert check(tree, "data.max_skip_fraction=0.1").failures == []
    quick = "\n".join(check(tree, read_images=False).warnings)
    assert f"unreadable image of train: {gone} is missing" in quick and str(damaged) not in quick


def test_a_validation_image_that_cannot_be_read_stops_a_training(tree):
    image = radiograph(tree, 50000002)
    image.write_bytes(b"")
    assert [line[:26] for line in check(tree).failures] == ["unreadable image of val: /"]
    apart = check(tree, "data.tuning_fraction=0.3")  # other studies are then validated on, and these kept for later
    assert apart.failures == [] and f"unreadable image of the source's own val: {image}" in "\n".join(apart.warnings)
    assert check(tree, read_images=False).failures == []
    image.unlink()
    assert check(tree, read_images=False).failures == [f"unreadable image of val: {image} is missing"]


def test_what_stops_a_training_is_a_failure(tree):
    path = tree / "mimic-cxr-2.0.0-split.csv.gz"
    table = pd.read_csv(path, dtype=str)
    table.loc[table["study_id"] == "50000019", "split"] = "test"
    table.to_csv(path, index=False)
    stages = "training.curriculum=[{name: all, epochs: 1}, {name: normal, epochs: 1, max_findings: 0}]"
    found = check(tree, stages, "model.findings=[edema,nonsense]").failures
    assert found[0].startswith("two splits: data.source 'mimic_cxr': patient '12000004' stands in two splits: study")
    assert found[1] == "model.findings: no training study is labelled 'nonsense'"
    assert "stage 'normal' (normal studies only) leaves out" in found[2] and len(found) == 3


def test_a_layout_without_validation_studies_fails(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), cv2.UMat(80, 80, cv2.CV_8UC1).get())
    (tmp_path / "manifest.csv").write_text("id,image,findings,split\na,a.png,Clear.,train\n")
    config = layout_config(["data.source=manifest", f"data.root={tmp_path}"])
    found = check_source(config)
    assert found.failures == [
        "there is no study for val",
        "no training study has an impression, which generation.impression=true needs",
    ]
