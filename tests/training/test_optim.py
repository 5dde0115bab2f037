import pytest
import torch

from xr2text.config import LossConfig, TrainingConfig
from xr2text.training.objective import Objective
from xr2text.training.optim import (
    StageSpan,
    average_weights,
    build_optimizer,
    build_schedule,
    matrices_to_bf16,
    prepare_model,
)


def test_parameters_are_grouped_by_module(make_tiny):
    model = make_tiny(("cardiomegaly",), lateral_queries=2).model
    optimizer = build_optimizer(model, TrainingConfig(lr_encoder=1.0, lr_projection=2.0, lr_decoder=3.0))
    rate = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    assert set(rate) == {id(parameter) for parameter in model.parameters()}
    for module, expected in (
        (model.encoder, 1.0),
        (model.projection.router, 2.0),
        (model.projection.priors.refiners, 2.0),
        (model.lateral, 2.0),
        (model.finding_head, 2.0),
        (model.finding_tokens, 3.0),
        (model.decoder, 3.0),
    ):
        assert {rate[id(parameter)] for parameter in module.parameters()} == {expected}
    assert {rate[id(parameter)] for parameter in model.projection.prior_parameters()} == {0.4}
    for group in optimizer.param_groups:
        decayed = group["weight_decay"] > 0
        assert all((parameter.ndim > 1 and group["name"] != "priors") == decayed for parameter in group["params"])


def test_a_part_whose_rate_is_0_is_frozen(make_tiny, batch):
    model = make_tiny(("cardiomegaly",)).model
    settings = TrainingConfig(lr_encoder=0.0, lr_projection=0.0, lr_decoder=0.1)
    objective = Objective(model, LossConfig())
    prepare_model(model, settings)
    optimizer = build_optimizer(model, settings)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    objective.train()
    objective(batch, 0.0).loss.backward()
    optimizer.step()
    after = model.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder", "finding_tokens"}
    assert not model.encoder.training and not model.projection.training and model.decoder.training


@pytest.mark.parametrize("start", [None, "another"])
def test_what_goes_on_keeps_the_statistics_of_its_many_radiographs(make_tiny, batch, start):
    model = make_tiny().model
    prepare_model(model, TrainingConfig(init_from=start))
    before = {name: value.clone() for name, value in model.encoder.named_buffers() if "running" in name}
    model.train()
    model(batch["pixel_values"], batch["box"], batch["labels"])
    kept = [torch.equal(before[name], value) for name, value in model.encoder.named_buffers() if name in before]
    assert kept and all(kept) == (start is not None)


def rates(spans, updates):
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    schedule, values = build_schedule(optimizer, spans), []
    for _ in range(updates):
        values.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return values


def test_the_schedule_warms_up_and_ends_at_its_floor():
    values = rates([StageSpan("all", 200)], 201)
    assert values[0] == pytest.approx(0.1) and values[9] == max(values) == pytest.approx(1)
    assert values[105] == pytest.approx(0.51, abs=0.02) and values[199] == pytest.approx(0.02) == values[200]


def test_each_stage_has_its_factor():
    spans = [StageSpan("first", 300), StageSpan("second", 300, 0.5)]
    whole, parts = rates([StageSpan("all", 600)], 600), rates(spans, 600)
    assert parts[:300] == whole[:300] and parts[300:] == pytest.approx([rate / 2 for rate in whole[300:]])


def test_the_average_follows_the_weights_and_is_a_model(make_tiny, batch):
    model = make_tiny(("cardiomegaly",)).model
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    assert average_weights(model, None, optimizer) is None
    average = average_weights(model, 0.75, optimizer)
    first, averaged = next(model.parameters()), next(average.module.parameters())
    optimizer.step()  # the first update copies
    before = first.detach().clone()
    first.grad = -torch.ones_like(first)
    optimizer.step()
    torch.testing.assert_close(averaged, before + 0.25)
    bart = average.module.decoder.bart
    assert bart.lm_head.weight is bart.model.shared.weight  # still tied
    with torch.no_grad():
        logits = average.module(batch["pixel_values"], batch["box"], batch["labels"]).logits
    assert torch.isfinite(logits).all()
    again = average_weights(make_tiny(("cardiomegaly",)).model, 0.75, optimizer)
    again.load_state_dict(average.state_dict())
    assert torch.equal(next(again.module.parameters()), averaged)


def test_whole_numbers_are_not_averaged():
    model = torch.nn.Module()
    model.weight = torch.nn.Parameter(torch.ones(1))
    model.register_buffer("index", torch.arange(1000))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    average = average_weights(model, 0.9999, optimizer)
    for _ in range(3):
        optimizer.step()
    assert torch.equal(average.module.index, model.index)


@pytest.mark.parametrize("checkpointing", ["none", "encoder", "all"])
def test_the_switches_reach_the_model(make_tiny, checkpointing):
    model = make_tiny().model
    prepare_model(model, TrainingConfig(gradient_checkpointing=checkpointing))
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert bool(model.encoder.momenta) == (checkpointing != "none")
    assert model.decoder.bart.is_activation_checkpointing == (checkpointing == "all")


def test_8_bit_states_under_bf16_come_with_bf16_weights(make_tiny):
    model = make_tiny().model
    prepare_model(model, TrainingConfig(optimizer="adamw_8bit", mixed_precision="bf16"))
    assert any(parameter.dtype == torch.bfloat16 for parameter in model.parameters())


def relative(value, expected):
    return ((value - expected).norm() / expected.norm()).item()


def test_weights_in_bfloat16_compute_the_same_within_their_precision(make_objective, batch):
    objective = make_objective(ce=1, focal=0.5, findings=1, load_balance=0.1).train()

    def loss_and_gradient():
        torch.manual_seed(3)
        objective.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = objective(batch, 0.5).loss
        loss.backward()
        return loss.item(), torch.cat([parameter.grad.float().flatten() for parameter in objective.parameters()])

    plain = loss_and_gradient()
    matrices_to_bf16(objective.model)
    priors = {id(parameter) for parameter in objective.model.projection.prior_parameters()}
    found = {(each.ndim > 1 and id(each) not in priors, each.dtype) for each in objective.model.parameters()}
    assert found == {(True, torch.bfloat16), (False, torch.float32)}
    loss, gradient = loss_and_gradient()
    assert loss == pytest.approx(plain[0], rel=5e-3) and relative(gradient, plain[1]) < 0.05


@pytest.fixture
def eager_torchao():
    """Compiling the step of its optimiser would take half a minute."""
    pytest.importorskip("torchao", reason="torchao is not installed")
    with torch.compiler.set_stance("force_eager"):
        yield


def test_eight_bit_states_are_small_and_still_learn(make_objective, batch, eager_torchao):
    objective = make_objective(ce=1).train()
    optimizer = build_optimizer(objective.model, TrainingConfig(optimizer="adamw_8bit", lr_decoder=1e-2))
    losses = []
    for _ in range(5):
        losses.append(objective(batch, 0.5).loss)
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0]
    large = next(parameter for parameter in objective.model.encoder.parameters() if parameter.numel() >= 4096)
    codes = optimizer.state[large]["exp_avg"].codes
    assert codes.dtype == torch.uint8 and codes.numel() == large.numel()


def test_steps_too_small_for_bfloat16_are_made_on_average(make_tiny, eager_torchao):
    settings = TrainingConfig(optimizer="adamw_8bit", mixed_precision="bf16", lr_decoder=1e-4)
    model = make_tiny().model.train()
    matrices_to_bf16(model)
    weight = model.decoder.bart.model.decoder.layers[0].fc1.weight
    weight.data.fill_(0.5)  # its neighbours are 2e-3 and 4e-3 away, twenty steps and more
    optimizer = build_optimizer(model, settings)
    for _ in range(20):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    assert weight.dtype == torch.bfloat16
    assert weight.float().mean().item() == pytest.approx(0.5 - 20 * 1e-4, abs=3e-4)


def test_gradient_checkpointing_changes_neither_gradients_nor_statistics(make_tiny, make_objective, batch):
    models = []
    for checkpointing in (False, True):
        objective = make_objective(make_tiny(), ce=1).train()
        if checkpointing:
            objective.model.enable_gradient_checkpointing()
        for _ in range(2):
            torch.manual_seed(3)
            objective(batch, 0.5).loss.backward()
        models.append(objective.model)
    plain, checkpointed = models
    for (name, parameter), same in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, same.grad, msg=name)
    for (name, buffer), same in zip(plain.named_buffers(), checkpointed.buffers(), strict=True):
        if buffer.is_floating_point():
            assert torch.equal(buffer, same), name
