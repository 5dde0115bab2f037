"""`data check` on small copies with planted faults."""

import shutil
import subprocess
import sys

import cv2
import pandas as pd
import yaml

from xr2text.cli.main import main
from xr2text.config import layout_config
from xr2text.data.check import check_source
from xr2text.data.page import draw_page


def check(tree, *overrides, **options):
    config = layout_config(["data.source=mimic_cxr", f"data.root={tree}", *overrides])
    return check_source(config, progress=False, **options)


def film(tree, study, view=0):
    """A study's films, in the order of their names."""
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
    damaged, gone = film(tree, 50000020), film(tree, 50000022)
    damaged.write_bytes(damaged.read_bytes()[:300])
    gone.unlink()
    report(tree, 50000024).write_text("FINAL REPORT\n\n FINDINGS: ___\n")
    shutil.copy(film(tree, 50000002), film(tree, 50000026))  # a validation film in training
    found = check(tree)
    assert found.failures == ["3 of 48 training radiographs are bad, more than data.max_bad_share 0.05"]
    texts = "\n".join(found.warnings)
    assert f"unreadable image of train: {damaged}: This JPEG file is damaged" in texts
    assert f"unreadable image of train: {gone} is missing" in texts
    assert "empty report: study '50000024' of train" in texts
    assert "duplicate image: studies '50000026' (train), '50000002' (val) share a picture" in texts
    assert "| train | 48 | 32 | 72 | 48 | 24 | 0 | 1 | 1 | 1 | 1 | 1 |" in found.text("x")
    assert check(tree, "data.max_bad_share=0.1").failures == []
    assert not any("unreadable" in line for line in check(tree, read_images=False).warnings)


def test_a_validation_film_that_cannot_be_read_stops_a_training(tree):
    film(tree, 50000002).write_bytes(b"")
    assert [line[:26] for line in check(tree).failures] == ["unreadable image of val: /"]


def test_what_stops_a_training_is_a_failure(tree):
    path = tree / "mimic-cxr-2.0.0-split.csv.gz"
    table = pd.read_csv(path, dtype=str)
    table.loc[table["study_id"] == "50000019", "split"] = "test"
    table.to_csv(path, index=False)
    stages = "training.curriculum=[{name: all, epochs: 1}, {name: normal, epochs: 1, normal_only: true}]"
    found = check(tree, stages, "model.findings.nonsense=[spine]").failures
    assert found[0].startswith("two splits: data.source 'mimic_cxr': patient '12000004' stands in two splits: study")
    assert found[1] == "model.findings: no training study is labelled 'nonsense'"
    assert "stage 'normal' (normal studies only) leaves out" in found[2] and len(found) == 3


def test_a_layout_without_validation_studies_fails(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), cv2.UMat(80, 80, cv2.CV_8UC1).get())
    (tmp_path / "manifest.csv").write_text("id,image,findings,split\na,a.png,Clear.,train\n")
    config = layout_config(["data.source=manifest", f"data.root={tmp_path}"])
    found = check_source(config, progress=False)
    assert found.failures == [
        "there is no study for val",
        "no training study has an impression, which generation.impression=true needs",
    ]


def test_a_page_of_studies_is_drawn_also_where_a_film_is_damaged(tree, tmp_path):
    film(tree, 50000002).write_bytes(b"")
    draw_page(check(tree, read_images=False).splits, tmp_path / "page.png")
    page = cv2.imread(str(tmp_path / "page.png"))
    assert page.shape[:2] == (1380, 1280) and page.std() > 30


def test_the_command_writes_its_text_and_says_by_its_exit_code_whether_training_would_fail(tree, tmp_path, capsys):
    out = ["--out", str(tmp_path / "check"), "--processes", "1"]
    assert main(["data", "check", "mimic_cxr", "--root", str(tree), *out]) == 0
    assert "training can start" in (tmp_path / "check" / "check.md").read_text()
    assert (tmp_path / "check" / "studies.png").is_file()
    film(tree, 50000002).unlink()
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"name": "x", "output": "y", "data": {"source": "mimic_cxr", "root": str(tree)}}))
    assert main(["data", "check", str(config), *out]) == 1
    assert "training would fail" in capsys.readouterr().out
    assert main(["data", "check", "mimic_cxr", "--root", str(tmp_path / "nowhere"), *out]) == 2
    assert main(["data", "check", "nonsense", *out]) == 2
    assert "accepted: indiana, openi, r2gen, mimic_cxr, hub, manifest" in capsys.readouterr().err


def test_several_processes_find_the_same(tree, tmp_path):
    film(tree, 50000020).write_bytes(b"\xff\xd8\xff broken")
    command = [sys.executable, "-m", "xr2text", "data", "check", "mimic_cxr", "--root", str(tree), "--processes", "2"]
    done = subprocess.run([*command, "--out", str(tmp_path / "out")], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = check(tree)
    assert (tmp_path / "out" / "check.md").read_text() == found.text(f"mimic_cxr {tree}")
