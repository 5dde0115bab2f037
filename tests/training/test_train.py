"""train.py for real, on a few phantoms."""

import copy
import csv
import json
import math
import os
import re
import resource
import shutil
import signal
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

import train as train_script
from xr2text.config import TrainingConfig
from xr2text.model.xr2text import XR2Text
from xr2text.text.tokenizer import known_words
from xr2text.training import memory
from xr2text.training.losses import TERMS, Objective
from xr2text.training.optim import StageSpan, build_optimizer, build_schedule
from xr2text.training.state import saved_states

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(tiny_training, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tiny_training | {"output": str(tmp_path / "run")}))
    return path


def run(config, *overrides, resume=False):
    train_script.main(["--config", str(config), "--set", *overrides, *(["--resume"] if resume else [])])


def test_a_run_ends_with_a_checkpoint_its_card_and_its_history(config, tmp_path):
    run(config)
    output = tmp_path / "run"
    model = XR2Text.from_pretrained(output / "checkpoint")
    assert model.name == "xr2text-test"
    card = (output / "checkpoint" / "README.md").read_text()
    assert "20 for training" in card and "phantoms" in card and f"--config {config.name}" in card
    rows = list(csv.DictReader((output / "history.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[1]["train loss"]) < float(rows[0]["train loss"])
    reports = list(csv.DictReader((output / "validation_reports.csv").open()))
    assert len({row["id"] for row in reports}) == 5 and all(row["findings"] for row in reports)
    assert (output / "samples.md").read_text().count("generated:") == 6
    assert len(saved_states(output / "states")) == 2
    resolved = yaml.safe_load((output / "config.yaml").read_text())
    assert resolved["training"]["epochs"] == 2 and resolved["training"]["clip_norm"] == 1.0
    settings = json.loads((output / "checkpoint" / "config.json").read_text())
    assert settings["generation"]["findings_tokens"] == 20


def test_the_finding_head_learns_with_its_loss(config, tmp_path):
    run(config, "model.findings.cardiomegaly=[heart]", "training.losses.findings=1.0", "data.phantom_train=40",
        "training.epochs=3")  # fmt: skip
    first, last = (load_file(path / "model.safetensors") for path in saved_states(tmp_path / "run" / "states"))
    assert not torch.equal(first["model.finding_head.classify.weight"], last["model.finding_head.classify.weight"])
    rows = list(csv.DictReader((tmp_path / "run" / "history.csv").open()))
    assert float(rows[-1]["train findings"]) < float(rows[0]["train findings"])
    assert XR2Text.from_pretrained(tmp_path / "run" / "checkpoint").config.findings == {"cardiomegaly": ["heart"]}


def test_the_best_epoch_is_the_one_of_the_chosen_scores(config, tmp_path):
    run(config, "training.best_by=[combined,findings_f1]", "training.epochs=3")
    rows = pd.read_csv(tmp_path / "run" / "history.csv")
    pd.testing.assert_series_equal(rows["score"], rows["combined"] + rows["findings_f1"], check_names=False)
    best = int(rows.loc[rows["score"].idxmax(), "epoch"])
    card = (tmp_path / "run" / "checkpoint" / "README.md").read_text()
    assert f"by which epoch {best} was chosen" in card and "combined + findings_f1" in card
    with pytest.raises(SystemExit, match="finding_auc needs a weight"):
        run(config, "training.best_by=[finding_auc]", f"output={tmp_path / 'other'}")


def test_a_stopped_run_resumes_to_the_same_weights(config, tmp_path):
    """Stopped within the first epoch and again later, the run ends as if it had never been stopped."""
    run(config, f"output={tmp_path / 'whole'}")
    run(config, "training.stop_after_minutes=0.0")
    states = saved_states(tmp_path / "run" / "states")
    assert states[-1].name == "step-00000001"
    with pytest.raises(SystemExit, match="--resume"):
        run(config)
    run(config, "training.stop_after_minutes=0.0", resume=True)
    run(config, resume=True)
    whole, parts = (load_file(tmp_path / name / "checkpoint" / "model.safetensors") for name in ("whole", "run"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


STAGES = [
    {"name": "warmup", "epochs": 1, "normal_only": True},
    {"name": "easy", "epochs": 1, "max_findings": 1, "lr_factor": 0.5},
    {"name": "hard", "epochs": 1},
]
EVERYTHING = {"tokens": 1, "label_smoothing": 0.1, "focal": 0.5, "regions": 0.1, "consistency": 0.1, "grounding": 0.1,
              "findings": 1, "alignment": 0.1, "rdrop": 0.5}  # fmt: skip


@pytest.fixture
def full_config(tiny_training):
    """Writes settings with stages, every term of the loss that needs neither outlines nor draws, and an average of the
    weights."""

    def write(path, output, **training):
        settings = copy.deepcopy(tiny_training) | {"output": str(output)}
        settings["model"]["findings"] = {"cardiomegaly": ["heart"]}
        settings["model"]["decoder"]["finding_tokens"] = True
        settings["training"] = {
            "batch_size": 4, "curriculum": STAGES, "losses": EVERYTHING, "ema_decay": 0.9,
        } | training  # fmt: skip
        path.write_text(yaml.safe_dump(settings))
        return path

    return write


def launch(config, *options, **popen):
    return subprocess.Popen(
        [sys.executable, "train.py", "--config", str(config), *options], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | {"OMP_NUM_THREADS": "1"}, **popen
    )  # fmt: skip


def wait_for_state(process, folder, number):
    while not (saved_states(folder) and int(saved_states(folder)[-1].name.split("-")[1]) >= number):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)


def test_killed_and_terminated_a_run_resumes_to_the_same_weights(tmp_path, full_config):
    """With stages and an average: killed by SIGKILL at any moment, stopped by SIGTERM, and the end is the same."""
    whole = full_config(tmp_path / "whole.yaml", tmp_path / "whole")
    torch.set_num_threads(1)  # as the launched ones: sums in another order differ in the last bit
    run(whole)
    parts = full_config(tmp_path / "parts.yaml", tmp_path / "parts", checkpoint_minutes=0.0)
    states = tmp_path / "parts" / "states"
    process = launch(parts)
    wait_for_state(process, states, 2)
    process.kill()
    process.wait()
    process = launch(parts, "--resume")
    wait_for_state(process, states, 4)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 0 and "stopped as asked: the state is saved" in said
    run(parts, resume=True)
    first, second = (load_file(tmp_path / name / "checkpoint" / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    columns = [
        "epoch",
        "stage",
        *(f"train {term}" for term in EVERYTHING if term in TERMS),
        "validation tokens",
        "combined",
    ]
    one, other = (pd.read_csv(tmp_path / name / "history.csv")[columns] for name in ("whole", "parts"))
    pd.testing.assert_frame_equal(one, other, rtol=1e-6)
    kept = [XR2Text.from_pretrained(tmp_path / name / "checkpoint").config for name in ("whole", "parts")]
    assert kept[0] == kept[1] and set(kept[0].finding_thresholds) == {"cardiomegaly"}
    assert one["stage"].tolist() == ["warmup", "easy", "hard"] and (one["train rdrop"] > 0).all()


def test_a_full_disk_ends_in_one_sentence_and_loses_nothing(config, tmp_path):
    """Files may not grow beyond 100 kB, as if there were no more room."""
    run(config, "training.stop_after_minutes=0.0")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(SystemExit, match=r"could not be written.*--resume goes on from step-00000001"):
            run(config, "training.stop_after_minutes=0.0", resume=True)
        with pytest.raises(SystemExit, match="states saved before are whole"):  # the best checkpoint this time
            run(config, "training.trackers=[]", resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in (tmp_path / "run" / "states").iterdir()] == ["step-00000001"]
    run(config, resume=True)
    assert (tmp_path / "run" / "checkpoint" / "model.safetensors").is_file()


def test_a_run_shows_itself_in_pictures(tmp_path, full_config):
    run(full_config(tmp_path / "config.yaml", tmp_path / "run"))
    text = (tmp_path / "run" / "training_report.md").read_text()
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert len(pictures) == 9
    for name in pictures:
        assert cv2.imread(str(tmp_path / "run" / name)).std() > 5
    assert "| warmup | easy | 2 |" in text and "| easy | hard | 3 |" in text and "phantom-10000000" in text
    logged = list((tmp_path / "run" / "trackers").rglob("events.*"))
    assert logged and not any(str(tmp_path).encode() in file.read_bytes() for file in logged)


def test_reports_of_like_length_come_together(config, tmp_path, monkeypatch):
    widths = []
    forward = Objective.forward
    monkeypatch.setattr(
        Objective,
        "forward",
        lambda self, batch, done: widths.append(batch["labels"].shape) or forward(self, batch, done),
    )
    run(config, "training.epochs=1", "training.group_by_length=true", "generation.max_tokens=100")
    grouped = widths[2:]  # two steps try the longest batch
    widths.clear()
    shutil.rmtree(tmp_path / "run")
    run(config, "training.epochs=1", "generation.max_tokens=100")
    assert sum(rows for rows, _ in grouped) == sum(rows for rows, _ in widths[2:]) == 20
    assert sum(rows * tokens for rows, tokens in grouped) < sum(rows * tokens for rows, tokens in widths[2:])


def test_a_dry_run_tells_the_run_and_trains_nothing(tmp_path, capsys, full_config):
    config = full_config(tmp_path / "config.yaml", tmp_path / "run")
    train_script.main(["--config", str(config), "--dry-run"])
    said = capsys.readouterr().out
    assert "image encoder" in said and "| warmup | 1-1 | normal studies only |" in said
    assert "updates: warmup " in said and "memory of a step on the longest batch, precision no: " in said
    assert not (tmp_path / "run").exists()


def test_a_batch_that_does_not_fit_is_found_at_once_or_halved(config, tmp_path, monkeypatch):
    whole_step, tried = memory._whole_step, []

    def small_machine(objective, batch, settings, accelerator):
        tried.append(len(batch["index"]))
        if tried[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
        whole_step(objective, batch, settings, accelerator)

    monkeypatch.setattr(memory, "_whole_step", small_machine)
    with pytest.raises(SystemExit, match=r"a batch of 8 images of 64 x 64 .* does not fit .*training\.fit_batch=true"):
        run(config, "training.batch_size=8")
    assert not (tmp_path / "run").exists() and tried == [8]
    with pytest.raises(SystemExit, match="not even a batch of 5 fits"):
        run(config, "training.batch_size=5", "training.fit_batch=true")
    run(config, "training.batch_size=8", "training.fit_batch=true", "training.epochs=1")
    assert tried == [8, 5, 8, 4, 2]
    resolved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["training"]
    assert (resolved["batch_size"], resolved["accumulation"]) == (2, 4)
    assert saved_states(tmp_path / "run" / "states")[-1].name == "step-00000003"  # 20 studies, 8 to an update


def test_a_resumed_run_must_have_the_same_model_and_batches(config):
    run(config, "training.stop_after_minutes=0.0")
    with pytest.raises(SystemExit, match="model's settings differ"):
        run(config, "model.haqt.global_queries=3", resume=True)
    with pytest.raises(SystemExit, match=r"training\.batch_size differs"):
        run(config, "training.batch_size=2", resume=True)


def test_a_second_phase_starts_from_a_checkpoint(config, tmp_path):
    """With the encoder frozen, its weights end as they began and the rest moves on."""
    run(config, "training.epochs=1")
    first = tmp_path / "run" / "best"
    run(config, f"training.start_from={first}", "model.encoder.frozen=true", f"output={tmp_path / 'second'}")
    before, after = (load_file(folder / "model.safetensors") for folder in (first, tmp_path / "second" / "best"))
    same = {key: torch.equal(before[key], after[key]) for key in before}
    assert all(equal for key, equal in same.items() if key.startswith("encoder."))
    assert not any(equal for key, equal in same.items() if key.endswith("query_proj.weight"))
    assert (first / "tokenizer.json").read_text() == (tmp_path / "second" / "best" / "tokenizer.json").read_text()
    words = known_words(XR2Text.from_pretrained(tmp_path / "second" / "best").tokenizer)
    assert {"the", "lungs"} <= words.keys() and "<findings>" not in words
    with pytest.raises(SystemExit, match="does not fit"):
        run(config, f"training.start_from={first}", "model.haqt.global_queries=3", f"output={tmp_path / 'third'}")


def test_a_second_phase_draws_reports_and_learns_from_their_scores(config, tmp_path):
    """From the first phase's calibration; parts at a rate of 0 end as they began; and it stops and resumes."""
    findings = (
        "model.findings.cardiomegaly=[heart]",
        "model.decoder.finding_tokens=true",
        "training.losses.findings=1",
    )
    run(config, *findings, "training.epochs=1")
    first, second = tmp_path / "run" / "best", tmp_path / "second"
    kept = json.loads((first / "config.json").read_text())
    kept["model"] |= {"finding_temperature": 1.3, "finding_thresholds": {"cardiomegaly": 0.2}}
    (first / "config.json").write_text(json.dumps(kept))
    before = load_file(first / "model.safetensors")
    with pytest.raises(SystemExit, match="predicts other findings"):
        run(config, "model.findings.left lung nodule=[left lung]", *findings[1:], f"training.start_from={first}",
            f"output={second}")  # fmt: skip
    reward = (*findings, f"training.start_from={first}", f"training.teachers=[{first}]", f"output={second}",
              "training.losses.reward=1", "training.losses.reward_distance=0.1", "training.losses.tokens=0",
              "training.lr_projection=0", "training.lr_priors=0")  # fmt: skip
    run(config, *reward, "training.stop_after_minutes=0.0")
    assert yaml.safe_load((second / "config.yaml").read_text())["model"]["finding_temperature"] == 1.3
    state = torch.load(saved_states(second / "states")[-1] / "custom_checkpoint_0.pkl", weights_only=True)
    assert (state["temperature"], state["thresholds"]) == (1.3, {"cardiomegaly": 0.2})
    shutil.rmtree(first)  # all that is needed stands in the run's own folder
    run(config, *reward, resume=True)
    history = pd.read_csv(second / "history.csv")
    assert (history["train reward"] != 0).any() and len(history) == 2
    after = load_file(second / "best" / "model.safetensors")
    same = {key: torch.equal(before[key], after[key]) for key in before}
    assert all(equal for key, equal in same.items() if key.startswith(("projection.", "finding_head.")))
    assert not any(equal for key, equal in same.items() if key.endswith("fc1.weight"))


def test_findings_alone_can_be_learned(config, tmp_path):
    run(config, "generation.impression=false", "training.epochs=1")
    with (tmp_path / "run" / "validation_reports.csv").open() as file:
        assert all(row["findings"] and not row["impression"] for row in csv.DictReader(file))


def test_a_loss_that_is_not_finite_stops_the_run(config, tmp_path, monkeypatch):
    forward = Objective.forward

    def broken(self, *args, **kwargs):
        output = forward(self, *args, **kwargs)
        output.losses["tokens"] = output.losses["tokens"] * math.nan
        output.loss = output.loss * math.nan
        return output

    monkeypatch.setattr(Objective, "forward", broken)
    with pytest.raises(SystemExit, match=r"not finite at update 0: tokens nan; studies: phantom-\d+"):
        run(config)
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_wrong_settings_end_in_one_sentence(config):
    with pytest.raises(SystemExit, match=r"did you mean 'training\.epochs'"):
        run(config, "training.epoch=3")
    with pytest.raises(SystemExit, match=r"did you mean 'training\.curriculum\.max_findings'"):
        run(config, "training.curriculum=[{name: easy, epochs: 1, max_finding: 1}]")
    with pytest.raises(SystemExit, match=r"training\.epochs is 5; the stages of training\.curriculum have 2"):
        run(config, "training.curriculum=[{name: all, epochs: 2}]", "training.epochs=5")
    with pytest.raises(SystemExit, match="no saved state"):
        run(config, resume=True)
    with pytest.raises(SystemExit, match="no training study is labelled 'gout'"):
        run(config, "model.findings.gout=[spine]")
    with pytest.raises(SystemExit, match="fp16 needs a GPU"):
        run(config, "training.precision=fp16")
    with pytest.raises(SystemExit, match=r"data\.root"):
        run(config, "data.source=indiana")


LAUNCHERS = {
    1: ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", "--num_machines", "1",
        "--mixed_precision", "no", "--dynamo_backend", "no"],
    2: ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
}  # fmt: skip


@pytest.mark.parametrize("processes", LAUNCHERS)
def test_launched_as_a_user_does(config, tmp_path, processes):
    """By accelerate on one process, and on two, which share the work and write every study's report once."""
    settings = ["training.epochs=1", "training.losses.reward=0.1"]
    done = subprocess.run(
        [sys.executable, *LAUNCHERS[processes], "train.py", "--config", str(config), "--set", *settings],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    rows = list(csv.DictReader((tmp_path / "run" / "validation_reports.csv").open()))
    assert len({row["id"] for row in rows}) == len(rows) == 5
    batches = math.ceil(20 / 4 / processes)
    assert saved_states(tmp_path / "run" / "states")[-1].name == f"step-{batches:08d}"


def test_two_processes_and_one_give_the_same_curve(tmp_path, full_config):
    """Such terms with the same studies to an update; without dropout and batch statistics, which differ by process."""
    curves = []
    for processes in (1, 2):
        output = tmp_path / f"run{processes}"
        config = full_config(tmp_path / f"config{processes}.yaml", output, batch_size=4 // processes, augment=False)
        settings = yaml.safe_load(config.read_text())
        settings["model"]["encoder"] = {"name": "convnext_atto", "stride": 16}
        settings["model"]["haqt"]["dropout"] = settings["model"]["decoder"]["dropout"] = 0.0
        settings["model"]["decoder"]["predicted_findings"] = 0.0  # which are drawn at random
        settings["training"]["losses"] = EVERYTHING | {"rdrop": 0}  # it needs dropout
        settings["data"]["phantom_train"] = 24  # 8, 16 and 24 in the stages: no batch is filled up with repetitions
        config.write_text(yaml.safe_dump(settings))
        done = subprocess.run(
            [sys.executable, *LAUNCHERS[processes], "train.py", "--config", str(config)], cwd=ROOT, text=True,
            capture_output=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        curves.append(pd.read_csv(output / "history.csv"))
    names = [name for name in curves[0] if name.startswith(("train ", "region ", "validation", "bleu", "combined"))]
    assert {f"train {term}" for term in EVERYTHING if term in TERMS and term != "rdrop"} < set(names)
    pd.testing.assert_frame_equal(curves[0][names], curves[1][names], rtol=2e-4, atol=1e-6)


def test_parameters_are_grouped_by_module(make_tiny):
    model = make_tiny(findings={"cardiomegaly": ["heart"]})
    config = TrainingConfig(lr_encoder=1.0, lr_projection=2.0, lr_decoder=3.0, lr_priors=4.0, weight_decay=0.1)
    optimizer = build_optimizer(model, config)
    rate = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    assert set(rate) == {id(parameter) for parameter in model.parameters()}
    refiners = model.projection.priors.refiners
    for module, expected in (
        (model.encoder, 1.0),
        (model.projection.router, 2.0),
        (refiners, 2.0),
        (model.finding_head, 2.0),
        (model.decoder, 3.0),
    ):
        assert {rate[id(parameter)] for parameter in module.parameters()} == {expected}
    assert {rate[id(parameter)] for parameter in model.projection.prior_parameters()} == {4.0}
    cross_attention = model.decoder.bart.model.decoder.layers[0].encoder_attn.k_proj.weight
    assert rate[id(cross_attention)] == 3.0
    for group in optimizer.param_groups:
        decayed = group["weight_decay"] > 0
        assert all((parameter.ndim > 1 and group["name"] != "priors") == decayed for parameter in group["params"])


def test_the_schedule_warms_up_and_ends_at_its_floor(make_tiny):
    config = TrainingConfig(lr_encoder=1.0, lr_projection=1.0, lr_decoder=1.0, warmup_share=0.1, lr_floor=0.05)
    optimizer = build_optimizer(make_tiny(), config)
    schedule = build_schedule(optimizer, config, [StageSpan(100)])
    rates = []
    for _ in range(101):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(0.1) and rates[9] == max(rates) == pytest.approx(1)
    assert rates[55] == pytest.approx(0.525, abs=0.02) and rates[99] == pytest.approx(0.05) == rates[100]


def test_a_frozen_encoder_is_not_trained(config, tmp_path):
    run(config, "model.encoder.frozen=true", "training.epochs=1")
    trained = load_file(tmp_path / "run" / "best" / "model.safetensors")
    run(config, "model.encoder.frozen=true", "training.epochs=2", f"output={tmp_path / 'longer'}")
    longer = load_file(tmp_path / "longer" / "best" / "model.safetensors")
    same = {key: torch.equal(trained[key], longer[key]) for key in trained}
    assert all(equal for key, equal in same.items() if key.startswith("encoder."))
    assert not all(equal for key, equal in same.items() if key.startswith("projection."))
