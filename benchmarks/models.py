"""Models with random weights for the speed and memory benchmarks: ours by a config, and transformers' own
VisionEncoderDecoderModel (Swin and BART's decoder) of the same sizes; and random batches for both."""

from pathlib import Path

import torch
from torch import nn
from transformers import BartConfig, SwinConfig, SwinModel, VisionEncoderDecoderConfig, VisionEncoderDecoderModel

from xr2text.anatomy import REGIONS
from xr2text.config import Config, ModelConfig, load_config
from xr2text.model.generate import ReportGenerator
from xr2text.model.summary import BART_VOCAB_SIZE
from xr2text.model.xr2text import XR2Text
from xr2text.phantom.drawing import draw_phantom
from xr2text.text.tokenizer import BOS, EOS, PAD, VOCAB_SIZE, train_tokenizer

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
SWIN_BASE = {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32], "window_size": 12}
SWIN_WIDTHS = range(8, 129, 4)  # of the first stage, among which a small peer is chosen
TINY = (
    "model.image_size=64", "model.encoder.name=lcnet_050", "model.encoder.stride=16", "model.width=32",
    "model.dropout=0.1", "model.decoder.layers=1", "generation.max_tokens=40", "training.batch_size=4",
)  # fmt: skip
SIZES = {
    "tiny": (("phantom.yaml",), TINY),
    "compact": (("iu_xray.yaml",), ("model.encoder.frozen_groups=0", "training.ema_decay=null")),
    "full": (("full.yaml", "hardware/a100_80gb.yaml"), ()),
    "full on 8 GB": (("full.yaml", "hardware/8gb.yaml"), ()),
}


def sized_config(size: str, *overrides: str) -> Config:
    """The config of one of SIZES; "auto" precision is bf16 on a GPU and none on a CPU."""
    files, own = SIZES[size]
    config = load_config([CONFIGS / file for file in files], [*own, *overrides])
    if config.training.mixed_precision == "auto":
        config.training.mixed_precision = "bf16" if torch.cuda.is_available() else "no"
    return config


def vocabulary(config: ModelConfig) -> int:
    return VOCAB_SIZE if config.decoder.weights is None else BART_VOCAB_SIZE


def our_generator(config: Config, device: str) -> ReportGenerator:
    """A model of random weights, and a tokenizer whose vocabulary is filled up to the model's."""
    size = vocabulary(config.model)
    tokenizer = train_tokenizer([draw_phantom(seed, 32).findings_text for seed in range(20)])
    tokenizer.add_tokens([f" word{number}" for number in range(size - len(tokenizer))])
    with torch.device(device):
        model = XR2Text(config.model, size)
    return ReportGenerator(model.to(device), tokenizer, config.generation)


def stock_model(config: ModelConfig, device: str, vocab_size: int | None = None) -> VisionEncoderDecoderModel:
    """A Swin encoder and a BART decoder of our decoder's sizes, without a text encoder. The Swin is Swin-Base where
    ours is one, else the one whose number of parameters is nearest to that of our encoder and projection."""
    decoder = BartConfig(
        vocab_size=vocab_size or vocabulary(config), d_model=config.width, encoder_layers=0,
        decoder_layers=config.decoder.layers, encoder_attention_heads=config.heads,
        decoder_attention_heads=config.heads, encoder_ffn_dim=4 * config.width, decoder_ffn_dim=4 * config.width,
        max_position_embeddings=config.decoder.max_positions, dropout=config.dropout,
        attention_dropout=0.0, bos_token_id=BOS, pad_token_id=PAD, eos_token_id=EOS, decoder_start_token_id=EOS,
        is_decoder=True, add_cross_attention=True,
    )  # fmt: skip
    both = VisionEncoderDecoderConfig.from_encoder_decoder_configs(_swin_like(config), decoder)
    both.decoder_start_token_id, both.pad_token_id, both.eos_token_id = EOS, PAD, EOS
    with torch.device(device):
        return VisionEncoderDecoderModel(config=both).to(device)


def _swin_like(config: ModelConfig) -> SwinConfig:
    if config.encoder.name.startswith("swin_base"):
        return SwinConfig(image_size=config.image_size, **SWIN_BASE)
    with torch.device("meta"):
        model = XR2Text(config, vocabulary(config))
        wanted = parameters(model.encoder) + parameters(model.projection)
        choices = [
            SwinConfig(
                image_size=config.image_size, embed_dim=width, depths=[2, 2, 6, 2], num_heads=[2, 4, 8, 16],
                window_size=max(2, config.image_size // 32),
            )
            for width in SWIN_WIDTHS
        ]  # fmt: skip
        counts = [parameters(SwinModel(choice, add_pooling_layer=False)) for choice in choices]
    return min(zip(choices, counts, strict=True), key=lambda pair: abs(pair[1] - wanted))[0]


def search_stock(stock: VisionEncoderDecoderModel, images: torch.Tensor, beams: int, tokens: int) -> None:
    """The stock model's beam search of exactly `tokens` tokens, from images [B, 3, S, S]."""
    stock.generate(
        images, num_beams=beams, min_new_tokens=tokens, max_new_tokens=tokens, do_sample=False, early_stopping=True,
        pad_token_id=PAD, eos_token_id=EOS,
    )  # fmt: skip


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def random_batch(config: Config, device: str) -> dict[str, torch.Tensor]:
    """A batch as `data.dataset.collate` makes it: noise for images, and random reports of the longest length.

    Shapes: B batch, S image side, T tokens, K regions, F findings, H x W patch grid.
    """
    count, tokens, side = config.training.batch_size, config.generation.max_tokens, config.model.image_size
    grid, findings = side // config.model.encoder.stride, len(config.model.findings)
    masks = torch.full((count, len(REGIONS), grid, grid), 1.0 / grid**2)
    batch = {
        "pixel_values": torch.randn(count, 3, side, side),
        "box": torch.tensor([0.0, 0.0, 1.0, 1.0]).repeat(count, 1),
        "labels": torch.randint(6, 400, (count, tokens)),
        "segmentation_targets": masks,  # [B, K, H, W]
        "finding_labels": torch.zeros(count, findings),  # [B, F]
        "reported_findings": torch.zeros(count, findings),  # [B, F]
        "finding_regions": torch.zeros(count, findings, len(REGIONS), dtype=torch.bool),  # [B, F, K]
    }
    return {name: value.to(device) for name, value in batch.items()}
