"""What all tests share: a tiny model, built in seconds, with random weights and no network."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

from xr2text.config import (
    DecoderConfig,
    EncoderConfig,
    GenerationConfig,
    HaqtConfig,
    ImageConfig,
    ModelConfig,
)
from xr2text.model.xr2text import XR2Text
from xr2text.phantom.drawing import draw_phantom
from xr2text.text.tokenizer import train_tokenizer


def tiny_config(findings: dict[str, list[str]] | None = None, finding_tokens=False, **haqt) -> ModelConfig:
    """64 px, a 4 x 4 grid, width 32."""
    return ModelConfig(
        image=ImageConfig(size=64),
        encoder=EncoderConfig(name="lcnet_050", stride=16),
        haqt=HaqtConfig(
            **{"width": 32, "global_queries": 2, "region_queries": 2, "heads": 4, "cross_region_layers": 1} | haqt
        ),
        decoder=DecoderConfig(
            vocab_size=400, layers=1, heads=4, feed_forward=64, max_positions=64, finding_tokens=finding_tokens
        ),
        findings=findings or {},
    )


def build_tiny(**haqt) -> XR2Text:
    config = tiny_config(**haqt)
    phantoms = [draw_phantom(seed, 32) for seed in range(30)]
    tokenizer = train_tokenizer(
        [text for one in phantoms for text in (one.findings_text, one.impression_text)], config.decoder.vocab_size
    )
    config.decoder.vocab_size = len(tokenizer)
    torch.manual_seed(0)
    generation = GenerationConfig(num_beams=2, max_tokens=40, findings_tokens=25)
    return XR2Text(config, tokenizer, generation, "xr2text-tiny").eval()


@pytest.fixture(scope="session")
def tiny_model() -> XR2Text:
    """A random model in evaluation mode; tests that change it build their own with `make_tiny`."""
    return build_tiny()


@pytest.fixture(scope="session")
def make_tiny():
    return build_tiny


@pytest.fixture
def tiny_training() -> dict:
    """Settings of a training that takes seconds, on phantoms; `output` is the test's own."""
    return {
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


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_model, tmp_path_factory):
    """The folder of a checkpoint that any part of the program loads."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    tiny_model.save_pretrained(folder)
    return folder
