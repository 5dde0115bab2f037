"""train.py for real, on a few phantoms."""

import csv
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import train as train_script
from xr2text.config import TrainingConfig
from xr2text.model.xr2text import XR2Text
from xr2text.training.losses import Objective
from xr2text.training.optim import StageSpan, build_optimizer, build_schedule
from xr2text.training.state import saved_states

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "name": "xr2text-test",
    "model": {
        "image": {"size": 64},
        "encoder": {"name": "lcnet_050"},
        "haqt": {"width": 32, "global_queries": 2, "region_queries": 2, "heads": 4, "cross_region_layers": 1},
        "decoder": {"vocab_size": 400, "layers": 1, "heads": 4, "feed_forward": 64, "max_positions": 128},
    },
    "data": {"source": "phantom", "phantom_train": 20, "phantom_val": 5, "workers": 0},
    "training": {"epochs": 2, "batch_size": 4},
    "generation": {"num_beams": 1, "max_tokens": 30, "findings_tokens": 20},
}


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(SETTINGS | {"output": str(tmp_path / "run")}))
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


def test_a_resumed_run_must_have_the_same_model(config):
    run(config, "training.stop_after_minutes=0.0")
    with pytest.raises(SystemExit, match="model's settings differ"):
        run(config, "model.haqt.global_queries=3", resume=True)


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
    with pytest.raises(SystemExit, match="does not fit"):
        run(config, f"training.start_from={first}", "model.haqt.global_queries=3", f"output={tmp_path / 'third'}")


def test_findings_alone_can_be_learned(config, tmp_path):
    run(config, "generation.impression=false", "training.epochs=1")
    with (tmp_path / "run" / "validation_reports.csv").open() as file:
        assert all(row["findings"] and not row["impression"] for row in csv.DictReader(file))


def test_a_loss_that_is_not_finite_stops_the_run(config, tmp_path, monkeypatch):
    forward = Objective.forward

    def broken(self, *args, **kwargs):
        output = forward(self, *args, **kwargs)
        output.loss = output.loss * math.nan
        return output

    monkeypatch.setattr(Objective, "forward", broken)
    with pytest.raises(SystemExit, match="not finite at update 0: tokens"):
        run(config)
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_wrong_settings_end_in_one_sentence(config):
    with pytest.raises(SystemExit, match=r"did you mean 'training\.epochs'"):
        run(config, "training.epoch=3")
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
    done = subprocess.run(
        [sys.executable, *LAUNCHERS[processes], "train.py", "--config", str(config), "--set", "training.epochs=1"],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    rows = list(csv.DictReader((tmp_path / "run" / "validation_reports.csv").open()))
    assert len({row["id"] for row in rows}) == len(rows) == 5
    batches = math.ceil(20 / 4 / processes)
    assert saved_states(tmp_path / "run" / "states")[-1].name == f"step-{batches:08d}"


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
    assert rates[55] == pytest.approx(0.525, abs=0.02) and rates[100] == pytest.approx(0.05)


def test_a_frozen_encoder_is_not_trained(config, tmp_path):
    run(config, "model.encoder.frozen=true", "training.epochs=1")
    trained = load_file(tmp_path / "run" / "best" / "model.safetensors")
    run(config, "model.encoder.frozen=true", "training.epochs=2", f"output={tmp_path / 'longer'}")
    longer = load_file(tmp_path / "longer" / "best" / "model.safetensors")
    same = {key: torch.equal(trained[key], longer[key]) for key in trained}
    assert all(equal for key, equal in same.items() if key.startswith("encoder."))
    assert not all(equal for key, equal in same.items() if key.startswith("projection."))
