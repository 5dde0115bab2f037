"""The peer of the speed and memory tables: transformers' own VisionEncoderDecoderModel, Swin and BART's decoder, in the
sizes of a config of ours; and what the tables say of the machine."""

import os
import platform
from datetime import date

import timm
import torch
import transformers
from torch import nn
from transformers import (
    BartConfig,
    SwinConfig,
    SwinModel,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
)

from xr2text.config import ModelConfig
from xr2text.model.xr2text import XR2Text
from xr2text.text.tokenizer import BOS, EOS, PAD

SWIN_BASE = {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32], "window_size": 12}
SWIN_WIDTHS = range(8, 129, 4)  # of the first stage, among which a small peer is chosen


def stock_model(config: ModelConfig) -> VisionEncoderDecoderModel:
    """Random weights: a Swin-Base where ours has one, else the Swin whose parameters are nearest to those of our
    encoder and projection; and a BART decoder of our decoder's sizes. It has no text encoder: the stock model has
    none."""
    ours = config.decoder
    decoder = BartConfig(
        vocab_size=ours.vocab_size, d_model=config.haqt.width, encoder_layers=0, decoder_layers=ours.layers,
        encoder_attention_heads=ours.heads, decoder_attention_heads=ours.heads, encoder_ffn_dim=ours.feed_forward,
        decoder_ffn_dim=ours.feed_forward, max_position_embeddings=ours.max_positions, dropout=ours.dropout,
        attention_dropout=0.0, bos_token_id=BOS, pad_token_id=PAD, eos_token_id=EOS, decoder_start_token_id=EOS,
        is_decoder=True, add_cross_attention=True,
    )  # fmt: skip
    encoder = _swin_like(config)
    both = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    both.decoder_start_token_id, both.pad_token_id, both.eos_token_id = EOS, PAD, EOS
    return VisionEncoderDecoderModel(config=both)


def _swin_like(config: ModelConfig) -> SwinConfig:
    size = config.image.size
    if config.encoder.name.startswith("swin_base"):
        return SwinConfig(image_size=size, drop_path_rate=config.encoder.drop_path, **SWIN_BASE)
    with torch.device("meta"):
        model = XR2Text(config)
        wanted = parameters(model.encoder) + parameters(model.projection)
        choices = [
            SwinConfig(
                image_size=size, embed_dim=width, depths=[2, 2, 6, 2], num_heads=[2, 4, 8, 16],
                window_size=max(2, size // 32), drop_path_rate=config.encoder.drop_path,
            )
            for width in SWIN_WIDTHS
        ]  # fmt: skip
        counts = [parameters(SwinModel(choice, add_pooling_layer=False)) for choice in choices]
    return min(zip(choices, counts, strict=True), key=lambda pair: abs(pair[1] - wanted))[0]


def parameters(model: nn.Module) -> int:
    return sum(one.numel() for one in model.parameters())


def machine(device: torch.device) -> str:
    """The device, the versions and the day, as a table's first line has them."""
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    else:
        where = f"{torch.get_num_threads()} threads on {os.cpu_count()} CPU cores ({platform.machine()})"
    versions = f"PyTorch {torch.__version__}, transformers {transformers.__version__}, timm {timm.__version__}"
    return f"{where}, {versions}, {date.today()}"
