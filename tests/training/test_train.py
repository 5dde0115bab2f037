"""train.py for real, on a few phantoms."""

import csv
import json
import math
import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from xr2text.model.checkpoint import Checkpoint
from xr2text.training import validate
from xr2text.training.objective import Objective
from xr2text.training.report import best_epoch
from xr2text.training.state import saved_states

ROOT = Path(__file__).parents[2]
CURVE = ("train ", "region ", "validation", "bleu", "combined", "finding")


def weights(folder):
    return load_file(folder / "model.safetensors")


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_the_last_epoch_is_kept_where_that_is_asked_for(run, write_config, tmp_path):
    run(write_config(), "training.metric_for_best_model=[epoch]", "training.epochs=2")
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert best_epoch(history)["epoch"] == history["epoch"].max() == 2


@pytest.mark.parametrize(("metric", "validated"), [("epoch", [1, 1, 2]), ("combined", [2, 2, 2])])
def test_epochs_whose_scores_choose_nothing_are_validated_on_fewer_studies(
    run, write_config, monkeypatch, metric, validated
):
    sizes = {"predict": [], "write_reports": []}

    def counting(name):
        function = getattr(validate, name)

        def counted(model, loader, *args):
            sizes[name].append(len(loader.dataset))
            return function(model, loader, *args)

        return counted

    for name in sizes:
        monkeypatch.setattr(f"xr2text.training.validate.{name}", counting(name))
    monkeypatch.setattr("xr2text.training.data.WATCHED_STUDIES", 1)
    monkeypatch.setattr("xr2text.training.data.WATCHED_REPORTS", 1)
    run(write_config(), f"training.metric_for_best_model=[{metric}]", "training.epochs=3")
    assert sizes == {"predict": validated, "write_reports": validated}


def test_a_run_ends_with_a_checkpoint_its_card_its_history_and_its_report(run, write_config, tmp_path):
    """With all stages, every term that needs neither masks nor draws, and an average of the weights."""
    config, output = write_config(everything=True, report_to=["tensorboard"]), tmp_path / "run"
    run(config, "training.metric_for_best_model=[combined,findings_f1]")

    checkpoint = Checkpoint.from_pretrained(output / "checkpoint")
    assert checkpoint.name == "xr2text-test" and set(checkpoint.model.calibration.thresholds) == {"cardiomegaly"}
    history = pd.read_csv(output / "history.csv")
    assert history["stage"].tolist() == ["warmup", "easy", "hard"] and history["epoch"].tolist() == [1, 2, 3]
    assert history["train ce"].is_monotonic_decreasing
    assert history["train findings"][2] < history["train findings"][1], "the first stage has none"
    summed = (history["combined"] + history["findings_f1"]).round(3)
    pd.testing.assert_series_equal(history["score"], summed, check_names=False)
    best = int(best_epoch(history)["epoch"])
    card = (output / "checkpoint" / "README.md").read_text()
    assert f"combined + findings_f1, by which epoch {best} was chosen" in card
    assert "A single frontal view, no lateral one;" in card
    assert "20 for training; 2 for validation" in card and "phantoms" in card and "--config run.yaml" in card
    reports = list(csv.DictReader((output / "validation_reports.csv").open()))
    assert len({row["id"] for row in reports}) == 2 and all(row["findings"] and row["impression"] for row in reports)
    resolved = yaml.safe_load((output / "config.yaml").read_text())
    assert resolved["training"]["mixed_precision"] == "no"

    text = (output / "training_report.md").read_text()
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert len(pictures) == 4  # two of curves, two of samples
    assert all(cv2.imread(str(output / picture)).std() > 5 for picture in pictures)
    assert "| warmup | easy | 2 |" in text and "| easy | hard | 3 |" in text and "phantom-10000000" in text
    logged = list((output / "trackers").rglob("events.*"))
    assert logged and not any(str(tmp_path).encode() in file.read_bytes() for file in logged)


def test_a_stopped_run_resumes_to_the_same_weights(run, write_config, tmp_path, stop_at, capsys, no_report):
    """Stopped by SIGTERM in the first epoch and in the second, the run ends as if it had never been stopped."""
    whole, parts = write_config("whole", everything=True), write_config("parts", everything=True)
    run(whole)
    stop_at(1)
    run(parts)
    assert saved_states(tmp_path / "parts")[-1].name == "step-00000001"
    assert "stopped as asked: the state is saved, --resume goes on" in capsys.readouterr().out
    stop_at(3)
    run(parts, resume=True)
    stop_at(None)
    run(parts, resume=True)
    assert same(weights(tmp_path / "whole" / "checkpoint"), weights(tmp_path / "parts" / "checkpoint"))
    curves = [pd.read_csv(tmp_path / name / "history.csv") for name in ("whole", "parts")]
    names = [name for name in curves[0] if name.startswith(CURVE)]
    pd.testing.assert_frame_equal(curves[0][names], curves[1][names], check_exact=True)


def test_a_resumed_run_must_have_the_same_model_and_batches(run, write_config, stop_at):
    config = write_config()
    stop_at(1)
    run(config)
    for override, message in (
        ("model.haqt.global_queries=3", r"model\.haqt\.global_queries is 3, and 2 in .*config\.yaml"),
        ("training.batch_size=2", r"training\.batch_size is 2, and 4 in"),
        ("training.seed=2", r"training\.seed is 2, and 0 in .*What may change: data\.cache, "),
        ("data.phantoms=30", r"data\.phantoms is 30, and 20 in"),
        ("training.lr_decoder=0.1", r"training\.lr_decoder is 0\.1"),
        ("training.losses.focal=1", r"training\.losses\.focal is 1\.0, and 0\.0 in"),
        ("training.curriculum=[{name: all, epochs: 2}]", r"training\.curriculum is \["),
    ):
        with pytest.raises(SystemExit, match=message):
            run(config, override, resume=True)


def test_a_resumed_run_tells_what_was_changed(run, write_config, tmp_path, stop_at, no_report):
    config = write_config(gradient_accumulation_steps=2)
    stop_at(1)
    run(config)
    run(config, "training.epochs=3", resume=True)
    run(config, "training.epochs=1", "training.batch_size=8", "training.gradient_accumulation_steps=1", resume=True)
    text = (tmp_path / "run" / "config.yaml").read_text()
    assert re.findall(r"# until .*: (training.*)", text) == ["training.epochs: 2", "training.epochs: 3"]
    kept = yaml.safe_load(text)["training"]
    assert (kept["epochs"], kept["batch_size"], kept["gradient_accumulation_steps"]) == (1, 4, 2)


def test_an_older_state_is_taken_where_the_newest_is_damaged(run, write_config, tmp_path, stop_at, capsys, no_report):
    """And --resume without any state begins, as a script that is submitted again needs it."""
    whole, parts = write_config("whole"), write_config("parts")
    run(whole)
    stop_at(1)
    (tmp_path / "parts" / "states").mkdir(parents=True)
    run(parts, resume=True)
    assert "the run starts from the beginning" in capsys.readouterr().out
    run(parts, resume=True)
    newest = saved_states(tmp_path / "parts")[-1]
    (newest / "optimizer.bin").write_bytes((newest / "optimizer.bin").read_bytes()[:-100])
    stop_at(None)
    run(parts, resume=True)
    told = "step-00000002 is damaged (optimizer.bin): the run goes on from step-00000001"
    assert told in capsys.readouterr().out
    assert same(weights(tmp_path / "whole" / "checkpoint"), weights(tmp_path / "parts" / "checkpoint"))


def test_a_dry_run_prints_the_run_and_trains_nothing(run, write_config, tmp_path, capsys):
    import train as train_script

    train_script.main(["--config", str(write_config(everything=True)), "--dry-run"])
    printed = capsys.readouterr().out
    assert "image encoder" in printed and "| warmup | 1-1 | normal studies only |" in printed
    assert "updates: warmup 2, easy " in printed and not (tmp_path / "run").exists()


def test_later_config_files_and_repeated_overrides_win(write_config, tmp_path, capsys):
    import train as train_script

    (tmp_path / "hardware.yaml").write_text("training: {batch_size: 2, gradient_accumulation_steps: 5}\n")
    files = ["--config", str(write_config()), "--config", str(tmp_path / "hardware.yaml")]
    train_script.main(
        [*files, "--set", "training.epochs=3", "data.phantoms=30", "--set", "training.seed=1", "--dry-run"]
    )
    assert "in all 9 of 10 radiographs" in capsys.readouterr().out  # 3 epochs of 30


def test_a_loss_that_is_not_finite_stops_the_run_before_it_changes_a_weight(run, write_config, tmp_path, monkeypatch):
    forward, trained = Objective.forward, {}

    def broken(self, *args, **kwargs):
        output = forward(self, *args, **kwargs)
        if self.alone:
            return output
        trained.update(model=self.model, before={name: value.clone() for name, value in self.state_dict().items()})
        output.losses["ce"], output.loss = output.losses["ce"] * math.nan, output.loss * math.nan
        return output

    monkeypatch.setattr(Objective, "forward", broken)
    with pytest.raises(SystemExit, match=r"not finite at update 0: ce nan; studies: phantom-\d+"):
        run(write_config())
    after = trained["model"].state_dict()
    assert all(torch.equal(value, after[name.removeprefix("model.")]) for name, value in trained["before"].items())
    assert not (tmp_path / "run" / "checkpoint").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training.epoch=3"], r"did you mean 'training\.epochs'"),
        (["training.mixed_precision=fp16"], "fp16 needs a GPU"),
        (["data.source=indiana"], r"data\.root"),
        (["model.findings=[gout]"], "gout"),
        (["training.init_from=runs/none/best"], "no checkpoint folder at"),
        (["output=/dev/null/run"], "output /dev/null/run cannot be written"),
        (["data.cache=/dev/null/cache"], r"data\.cache /dev/null/cache cannot be written"),
        (
            [
                "model.findings=[cardiomegaly]",
                "training.losses.findings=1",
                "training.metric_for_best_model=[finding_auc]",
            ],
            "finding_auc needs a finding with 15 validation studies",
        ),
    ],
)
def test_wrong_settings_end_in_a_sentence(run, write_config, overrides, message):
    with pytest.raises(SystemExit, match=message):
        run(write_config(), *overrides)


@pytest.mark.slow
def test_a_full_disk_ends_in_a_sentence_and_loses_nothing(run, write_config, tmp_path, stop_at, no_report):
    """Files may not grow beyond 100 kB, as if there were no more room."""
    config = write_config()
    stop_at(1)
    run(config)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(SystemExit, match=r"could not be written.*--resume goes on from step-00000001"):
            run(config, resume=True)
        stop_at(None)
        with pytest.raises(SystemExit, match="states saved before are whole"):  # the best checkpoint this time
            run(config, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in (tmp_path / "run" / "states").iterdir()] == ["step-00000001"]
    run(config, resume=True)
    assert (tmp_path / "run" / "checkpoint" / "model.safetensors").is_file()


@pytest.mark.slow
def test_a_second_training_goes_on_from_the_first(run, write_config, tmp_path, no_report):
    """From the first one's checkpoint; parts at a rate of 0 end as they began."""
    findings = ["model.findings=[cardiomegaly]", "training.losses.findings=1", "training.epochs=1"]
    run(write_config("first"), *findings)
    before = weights(tmp_path / "first" / "best")
    run(write_config("second"), *findings, f"training.init_from={tmp_path / 'first' / 'best'}",
        "training.lr_projection=0")  # fmt: skip
    after = weights(tmp_path / "second" / "best")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.endswith("fc1.weight") for name in changed)
    assert not any(name.startswith(("projection.", "finding_head.")) for name in changed)
    card = (tmp_path / "second" / "checkpoint" / "README.md").read_text()
    assert "| first weights | those of xr2text-test, licence apache-2.0 |" in card


@pytest.mark.slow
def test_findings_alone_can_be_learned_in_batches_of_like_length(run, write_config, tmp_path, no_report):
    run(write_config(), "generation.impression=false", "training.group_by_length=true", "training.epochs=1")
    reports = list(csv.DictReader((tmp_path / "run" / "validation_reports.csv").open()))
    assert all(row["findings"] and not row["impression"] for row in reports)
    settings = json.loads((tmp_path / "run" / "checkpoint" / "config.json").read_text())
    assert settings["generation"]["impression"] is False


def test_a_run_that_learns_no_reports_writes_none(run, write_config, tmp_path):
    losses = "training.losses={ce: 0.0, findings: 1.0}"
    run(write_config(), "model.findings=[cardiomegaly]", losses, "training.metric_for_best_model=[epoch]",
        "training.epochs=1")  # fmt: skip
    output = tmp_path / "run"
    assert not (output / "validation_reports.csv").exists()
    assert not {"bleu_4", "combined", "findings_f1", "validation ce"} & set(pd.read_csv(output / "history.csv"))
    text = (output / "training_report.md").read_text()
    assert "**Radiologist.**" in text and "**Model.**" not in text and "BLEU" not in text
    assert all((output / picture).is_file() for picture in re.findall(r"!\[.*?\]\((.*?)\)", text))
    card = (output / "checkpoint" / "README.md").read_text()
    assert "| epoch, by which epoch 1 was chosen | 1.000 |" in card and "different reports" not in card


LAUNCHERS = {
    1: ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", "--num_machines", "1",
        "--mixed_precision", "no", "--dynamo_backend", "no"],
    2: ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
}  # fmt: skip


def launch(config, *options, processes=None):
    launcher = LAUNCHERS[processes] if processes else []
    beside = {"LOCAL_WORLD_SIZE": "2"} if processes == 1 else {}  # half of the cores, for the other test that runs
    return subprocess.Popen(
        [sys.executable, *launcher, "train.py", "--config", str(config), *options], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"} | beside,
    )  # fmt: skip


def finish(process):
    printed = process.communicate(timeout=240)[0]
    assert process.returncode == 0, printed[-6000:]
    return printed


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_weights(run, write_config, tmp_path, no_report):
    torch.set_num_threads(1)  # as the launched one: sums in another order differ in the last bit
    run(write_config("whole", everything=True))
    parts = write_config("parts", everything=True)
    process = launch(parts)
    while not saved_states(tmp_path / "parts"):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)
    process.kill()
    process.wait()
    run(parts, resume=True)
    assert same(weights(tmp_path / "whole" / "checkpoint"), weights(tmp_path / "parts" / "checkpoint"))


@pytest.mark.slow
def test_a_run_whose_launcher_is_ended_saves_and_stops(write_config, tmp_path):
    launcher = launch(write_config(everything=True), "--set", "data.phantoms=2000", processes=1)
    lines = iter(launcher.stdout.readline, "")
    assert any("epoch 1/3" in line for line in lines)
    launcher.terminate()
    launcher.wait()
    assert "stopped as asked" in launcher.stdout.read()  # which ends when train.py has ended
    assert len(saved_states(tmp_path / "run")) == 1


@pytest.mark.slow
def test_launched_on_a_process_and_on_two_a_run_gives_the_same_curve(write_config, tmp_path):
    """On the same studies to an update; without dropout, drawn findings and batch statistics, which are a process's."""
    curves = []
    for processes in LAUNCHERS:
        config, output = write_config(f"run{processes}", everything=True, batch_size=4 // processes), f"run{processes}"
        settings = yaml.safe_load(config.read_text())
        settings["model"] |= {"encoder": {"name": "convnext_atto", "stride": 16}, "dropout": 0.0, "findings": []}
        settings["training"]["losses"] |= {"rdrop": 0, "findings": 0, "occlusion": 0}
        settings["data"]["phantoms"] = 24  # 8, 16 and 24 in the stages: no batch is filled up with repetitions
        config.write_text(yaml.safe_dump(settings))
        finish(launch(config, processes=processes))
        curves.append(pd.read_csv(tmp_path / output / "history.csv"))
        reports = pd.read_csv(tmp_path / output / "validation_reports.csv")
        assert reports["id"].nunique() == len(reports) == 3  # each study's once
        assert saved_states(tmp_path / output)[-1].name == "step-00000012"
    names = [name for name in curves[0] if name.startswith(CURVE)]
    pd.testing.assert_frame_equal(curves[0][names], curves[1][names], rtol=2e-4, atol=1e-6)
