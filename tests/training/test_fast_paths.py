"""What makes a training faster or smaller, against the plain path."""

import pytest
import torch

from xr2text.config import Config, ConfigError, DataConfig, EncoderConfig, GenerationConfig, LossConfig, TrainingConfig
from xr2text.model.encoder import ImageEncoder
from xr2text.training.data import LengthGroups
from xr2text.training.losses import Objective
from xr2text.training.optim import build_optimizer, matrices_to_bf16
from xr2text.training.setup import build_model

LOSSES = LossConfig(focal=0.5, regions=0.1, consistency=0.1, alignment=0.1)


def batch(size=4):
    random = torch.Generator().manual_seed(5)
    return {"pixel_values": torch.rand(size, 3, 64, 64, generator=random),
            "box": torch.tensor([[0.0, 0.0, 1.0, 1.0]] * size),
            "labels": torch.randint(5, 100, (size, 12), generator=random),
            "finding_labels": torch.zeros(size, 0)}  # fmt: skip


def loss_and_gradient(objective):
    torch.manual_seed(3)
    objective.zero_grad()
    loss = objective(batch(), 0.5).loss
    loss.backward()
    return loss.item(), torch.cat([one.grad.float().flatten() for one in objective.parameters()])


def far(one, other):
    """Norm of the difference of two vectors, relative to theirs."""
    return ((one - other).norm() / other.norm()).item()


def test_fused_window_attention_is_the_same_attention():
    pixels, maps, gradients = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(6)), [], []
    for fused in (False, True):
        torch.manual_seed(0)
        encoder = ImageEncoder(EncoderConfig("swin_tiny_patch4_window7_224", 32, fused_attention=fused), 64)
        for name, parameter in encoder.named_parameters():
            if "relative_position" in name:
                torch.nn.init.normal_(parameter)
        attention = [module.fused_attn for module in encoder.modules() if hasattr(module, "fused_attn")]
        assert attention and all(one == fused for one in attention)
        maps.append(encoder(pixels))
        maps[-1][:, :, ::3].sum().backward()
        gradients.append(torch.cat([one.grad.flatten() for one in encoder.parameters() if one.grad is not None]))
    assert far(maps[1], maps[0]) < 1e-4 and far(gradients[1], gradients[0]) < 1e-4


def test_compiled_layers_compute_the_same(make_tiny):
    model = make_tiny().train()
    objective = Objective(model, LOSSES)
    plain = loss_and_gradient(objective)
    model.compile_layers(backend="aot_eager")
    compiled = [module for module in model.modules() if module._compiled_call_impl is not None]
    assert len(compiled) == 2  # the decoder's layer, and the one between regions
    loss, gradient = loss_and_gradient(objective)
    assert loss == pytest.approx(plain[0], rel=1e-4) and far(gradient, plain[1]) < 1e-4


def test_weights_in_bfloat16_compute_the_same_within_their_precision(make_tiny):
    model = make_tiny().train()
    objective = Objective(model, LOSSES)
    with torch.autocast("cpu", torch.bfloat16):
        plain = loss_and_gradient(objective)
    matrices_to_bf16(model)
    priors = {id(one) for one in model.projection.prior_parameters()}
    kinds = {(one.ndim > 1 and id(one) not in priors, one.dtype) for one in model.parameters()}
    assert kinds == {(True, torch.bfloat16), (False, torch.float32)}
    with torch.autocast("cpu", torch.bfloat16):
        loss, gradient = loss_and_gradient(objective)
    assert loss == pytest.approx(plain[0], rel=5e-3) and far(gradient, plain[1]) < 0.05


def test_steps_too_small_for_bfloat16_are_made_on_average(make_tiny):
    pytest.importorskip("torchao", reason="torchao is not installed")
    settings = TrainingConfig(
        optimizer="adamw_8bit", precision="bf16", bf16_weights=True, weight_decay=0.0, lr_decoder=1e-4
    )  # fmt: skip
    model = make_tiny().train()
    matrices_to_bf16(model)
    weight = model.decoder.bart.model.decoder.layers[0].fc1.weight
    weight.data.fill_(0.5)  # its neighbours are 2e-3 and 4e-3 away, twenty steps and more
    optimizer = build_optimizer(model, settings)
    with torch.compiler.set_stance("force_eager"):
        for _ in range(20):
            weight.grad = torch.ones_like(weight)
            optimizer.step()
    assert weight.dtype == torch.bfloat16
    assert weight.float().mean().item() == pytest.approx(0.5 - 20 * 1e-4, abs=3e-4)


def test_bfloat16_weights_ask_for_what_they_need():
    with pytest.raises(ConfigError, match="adamw_8bit"):
        TrainingConfig(bf16_weights=True, precision="bf16")
    with pytest.raises(ConfigError, match="ema_decay"):
        TrainingConfig(bf16_weights=True, precision="bf16", optimizer="adamw_8bit", ema_decay=0.99)


def test_the_switches_reach_the_model(tiny_model):
    def built(**training):
        generation = GenerationConfig(max_tokens=40, findings_tokens=25)
        settings = TrainingConfig(**training)
        config = Config("tiny", "none", tiny_model.config, DataConfig("phantom"), settings, generation)
        return build_model(config, tiny_model.tokenizer, resume=False)

    plain, compiled = built(), built(compile=True)
    small = built(bf16_weights=True, optimizer="adamw_8bit", precision="bf16")
    for model, has_bf16, is_compiled in ((plain, False, False), (compiled, False, True), (small, True, False)):
        assert any(one.dtype == torch.bfloat16 for one in model.parameters()) == has_bf16
        assert any(one._compiled_call_impl is not None for one in model.modules()) == is_compiled


def test_batches_of_like_lengths_hold_every_example_once():
    lengths = torch.randint(5, 160, (403,), generator=torch.Generator().manual_seed(7)).tolist()
    groups = LengthGroups(lengths, 8, seed=1)
    first, again = list(groups), list(groups)
    groups.set_epoch(1)
    assert first == again != list(groups) and sorted(first) == list(range(403)) and len(groups) == 403

    def padding(order):
        batches = [[lengths[index] for index in order[start : start + 8]] for start in range(0, 403, 8)]
        return sum(max(one) * len(one) - sum(one) for one in batches)

    assert padding(first) < 0.1 * padding(range(403))
    assert [lengths[batch[0]] for batch in (first[:8], first[8:16], first[16:24])] != sorted(lengths)[:3]
