"""What all tests share: a tiny model, built in seconds, with random weights and no network."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # two tests at a time: threads that wait for each other crawl
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

from xr2text.config import DecoderConfig, EncoderConfig, GenerationConfig, HaqtConfig, ModelConfig
from xr2text.model.checkpoint import Checkpoint
from xr2text.model.xr2text import XR2Text
from xr2text.phantom.drawing import draw_phantom
from xr2text.text.tokenizer import train_tokenizer


def tiny_config(findings: tuple[str, ...] = (), **haqt) -> ModelConfig:
    """64 px, a 4 x 4 grid, width 32."""
    return ModelConfig(
        image_size=64,
        width=32,
        heads=4,
        findings=list(findings),
        encoder=EncoderConfig(name="lcnet_050", stride=16),
        haqt=HaqtConfig(**{"global_queries": 2, "region_queries": 2, "cross_region_layers": 1} | haqt),
        decoder=DecoderConfig(layers=1),
    )


def build_tiny(findings: tuple[str, ...] = (), **haqt) -> Checkpoint:
    phantoms = [draw_phantom(seed, 32) for seed in range(30)]
    tokenizer = train_tokenizer([text for one in phantoms for text in (one.findings_text, one.impression_text)], 400)
    torch.manual_seed(0)
    model = XR2Text(tiny_config(findings, **haqt), len(tokenizer)).eval()
    return Checkpoint(model, tokenizer, GenerationConfig(num_beams=2, max_tokens=40), "xr2text-tiny")


@pytest.fixture(scope="session")
def tiny() -> Checkpoint:
    """A random model in evaluation mode; tests that change it build their own with `make_tiny`."""
    return build_tiny()


@pytest.fixture(scope="session")
def make_tiny():
    return build_tiny


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny, tmp_path_factory):
    """The folder of a checkpoint that any part of the program loads."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    tiny.save_pretrained(folder)
    return folder


@pytest.fixture
def tiny_training() -> dict:
    """Settings of a training that takes seconds, on phantoms; `output` is the test's own."""
    return {
        "name": "xr2text-test",
        "model": tiny_config().model_dump(),
        "data": {"source": "phantom", "phantoms": 20, "workers": 0},
        "training": {"epochs": 2, "batch_size": 4},
        "generation": {"num_beams": 1, "max_tokens": 30},
    }
