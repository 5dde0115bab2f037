"""Memory: the estimate against a step that is really made, and a try that leaves no trace."""

import copy

import pytest
import torch
from accelerate import Accelerator
from torch.distributed._tools.mem_tracker import MemTracker

from xr2text.config import Config, DataConfig, GenerationConfig, LossConfig, TrainingConfig
from xr2text.data.dataset import ReportDataset
from xr2text.data.sources import load_studies
from xr2text.training.losses import Objective
from xr2text.training.memory import estimate_memory, try_longest_batch
from xr2text.training.optim import build_optimizer

LOSSES = LossConfig(focal=0.5, regions=0.1, consistency=0.1, alignment=0.1, rdrop=0.5)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_estimate_is_near_a_real_step(make_tiny, checkpointing):
    model = make_tiny().train()
    settings = TrainingConfig(batch_size=8, losses=LOSSES, gradient_checkpointing=checkpointing)
    config = Config(
        "tiny",
        "none",
        model.config,
        DataConfig("phantom"),
        settings,
        GenerationConfig(max_tokens=60, findings_tokens=40),
    )
    told = estimate_memory(config, "no")
    if checkpointing:
        model.enable_gradient_checkpointing()
    objective = Objective(model, LOSSES)
    optimizer = build_optimizer(model, settings, objective.own_parameters())
    batch = {"pixel_values": torch.rand(8, 3, 64, 64), "box": torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 8),
             "labels": torch.randint(5, 100, (8, 60)), "finding_labels": torch.zeros(8, 0)}  # fmt: skip

    def step():
        objective(batch, 0.5).loss.backward()
        optimizer.step()

    step()
    optimizer.zero_grad()
    tracker = MemTracker()
    tracker.track_external(model, objective, optimizer, *batch.values())
    with tracker:
        step()
    real = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    assert sum(told.values()) == pytest.approx(real, rel=0.1)


def test_what_needs_less_is_told_to_need_less(make_tiny):
    def total(frozen=False, **training):
        settings, model = TrainingConfig(batch_size=8, **training), make_tiny().config
        model.encoder.frozen = frozen
        generation = GenerationConfig(max_tokens=60, findings_tokens=40)
        return estimate_memory(Config("tiny", "none", model, DataConfig("phantom"), settings, generation), "no")

    plain = total()
    eight_bit, average, rdrop, reward, held = (
        total(optimizer="adamw_8bit"), total(ema_decay=0.9), total(losses=LossConfig(rdrop=1.0)),
        total(losses=LossConfig(reward=1.0)),
        total(losses=LossConfig(reward=1.0, reward_distance=0.1), start_from="none"),
    )  # fmt: skip
    assert eight_bit["optimiser"] < 0.3 * plain["optimiser"] and average["average"] > 0
    assert rdrop["activations"] > plain["activations"] and reward["activations"] > plain["activations"]
    assert held["weights"] > reward["weights"]  # the decoder that the run began with
    assert held["optimiser"] == reward["optimiser"]
    both, encoder = total(gradient_checkpointing=True), total(gradient_checkpointing=True, checkpoint_text=False)
    assert both["activations"] < encoder["activations"] < plain["activations"]
    assert sum(total(accumulation=2).values()) > sum(plain.values())
    frozen = total(frozen=True)
    assert frozen["optimiser"] < plain["optimiser"] and frozen["activations"] < plain["activations"]


def test_the_try_leaves_no_trace(make_tiny):
    model = make_tiny(findings={"cardiomegaly": ["heart"]})
    objective, settings = Objective(model, LOSSES), TrainingConfig(batch_size=4, accumulation=2)
    studies = load_studies(DataConfig("phantom", phantom_train=6, phantom_val=1), 64)["train"]
    data = ReportDataset(studies, model.transform, model.tokenizer, 40, True, findings=model.config.findings,
                         training=True, augment=False, seed=0)  # fmt: skip
    before, random = copy.deepcopy(objective.state_dict()), torch.get_rng_state()
    try_longest_batch(objective, data, settings, Accelerator(cpu=True))
    assert all(torch.equal(value, before[name]) for name, value in objective.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in objective.parameters())


def test_checkpointing_changes_neither_gradients_nor_statistics(make_tiny):
    batch = {"pixel_values": torch.rand(4, 3, 64, 64), "box": torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 4),
             "labels": torch.randint(5, 100, (4, 12)), "finding_labels": torch.zeros(4, 0)}  # fmt: skip
    models = []
    for checkpointing in (False, True):
        model = make_tiny().train()
        if checkpointing:
            model.enable_gradient_checkpointing()
        for _ in range(2):
            torch.manual_seed(3)
            Objective(model, LossConfig())(batch, 0.5).loss.backward()
        models.append(model)
    plain, checkpointed = models
    for (name, one), other in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), name
        if one.grad is not None:
            torch.testing.assert_close(one.grad, other.grad)
    for (name, one), other in zip(plain.named_buffers(), checkpointed.buffers(), strict=True):
        if one.is_floating_point():
            assert torch.equal(one, other), name


def test_eight_bit_states_are_small_and_still_learn(make_tiny):
    pytest.importorskip("torchao", reason="torchao is not installed")
    model = make_tiny().train()
    optimizer = build_optimizer(model, TrainingConfig(optimizer="adamw_8bit", lr_decoder=1e-2))
    batch = torch.rand(2, 3, 64, 64), torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 2), torch.randint(5, 100, (2, 12))
    losses = []
    with torch.compiler.set_stance("force_eager"):  # compiling its step would take half a minute
        for _ in range(5):
            losses.append(model(*batch).loss)
            losses[-1].backward()
            optimizer.step()
            optimizer.zero_grad()
    assert losses[-1] < losses[0]
    large = next(one for one in model.encoder.parameters() if one.numel() >= 4096)
    codes = optimizer.state[large]["exp_avg"].codes
    assert codes.dtype == torch.uint8 and codes.numel() == large.numel()
