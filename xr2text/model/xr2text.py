"""XR2Text: an image encoder, HAQT-ARR and a BART decoder.

Shapes: B batch, S image side, Q visual tokens, L lateral tokens, D width, T report tokens, V vocabulary, F findings.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import nn

from xr2text.config import ModelConfig
from xr2text.imaging.transform import ImageTransform
from xr2text.model.decoder import Context, TextDecoder
from xr2text.model.encoder import ImageEncoder
from xr2text.model.findings import FindingCalibration, FindingHead, FindingTokens
from xr2text.model.haqt_arr import HaqtArr, LinearProjection, VisualTokens, patch_coordinates
from xr2text.model.lateral import LateralImages, LateralQueries


@dataclass
class XR2TextOutput(VisualTokens):
    """The output of one forward pass: the visual tokens, and what is predicted from them.

    Attributes:
        finding_logits: [B, F] in the order of `config.findings`; None where it is empty.
        logits: [B, T, V] of the report; None without labels.
    """

    finding_logits: torch.Tensor | None = None
    logits: torch.Tensor | None = None


class XR2Text(nn.Module):
    """Radiograph -> report tokens. Weights are random, see `model.checkpoint`. Raises ConfigError where parts do
    not fit each other, or a finding has no regions."""

    def __init__(self, config: ModelConfig, vocab_size: int):
        super().__init__()
        self.config = config
        self.encoder = ImageEncoder(config.encoder, config.image_size, summary=bool(config.findings))
        self.transform = ImageTransform(config.image_size, self.encoder.mean, self.encoder.std)
        projection = HaqtArr if config.haqt.projection == "haqt_arr" else LinearProjection
        self.projection = projection(config, self.encoder.width, self.encoder.grid)
        self.lateral = None
        if config.haqt.lateral_queries:
            self.lateral = LateralQueries(config, self.encoder.width, self.encoder.grid)
        self.decoder = TextDecoder(config, vocab_size)
        self.finding_head = self.finding_tokens = None
        if config.findings:
            self.finding_head = FindingHead(config, self.encoder.pooled_width)
            self.finding_tokens = FindingTokens(len(config.findings), config.width)
        self.calibration = FindingCalibration()
        self.frozen: list[nn.Module] = []

    def freeze(self, modules: Iterable[nn.Module]) -> None:
        """Excludes these parts of the model from training."""
        for module in modules:
            module.requires_grad_(False).eval()
            self.frozen.append(module)

    def train(self, mode: bool = True) -> "XR2Text":
        """Keeps frozen parts in evaluation mode: no dropout, and unchanged statistics of normalisation."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def forward(
        self,
        pixel_values: torch.Tensor,
        box: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        lateral: LateralImages | None = None,
    ) -> XR2TextOutput:
        """Teacher forcing: images [B, 3, S, S] and labels [B, T] (token ids, IGNORED where padded) -> the output,
        with the report's logits. `box` and `lateral` as for `encode_image`."""
        visual = self.encode_image(pixel_values, box, lateral)
        finding_logits = self.predict_findings(visual)
        logits = None if labels is None else self.decoder(self.decoder_context(visual, finding_logits), labels)
        return XR2TextOutput(**vars(visual), finding_logits=finding_logits, logits=logits)

    def encode_image(
        self, pixel_values: torch.Tensor, box: torch.Tensor | None = None, lateral: LateralImages | None = None
    ) -> VisualTokens:
        """Frontal images [B, 3, S, S] -> visual tokens. Both views pass through the encoder in one batch.

        Args:
            box: [B, 4] each radiograph's place on its canvas (`Geometry.box`); None where it fills the canvas.
            lateral: of the studies that have a lateral view. Raises ValueError where the model reads none.
        """
        if box is None:
            box = pixel_values.new_tensor([0.0, 0.0, 1.0, 1.0]).expand(len(pixel_values), -1)
        if lateral is None:
            features, pooled = self.encoder(pixel_values)
            return replace(self.projection(features, box), pooled=pooled)
        if self.lateral is None:
            raise ValueError("this model reads frontal views alone")
        count = len(pixel_values)
        features, pooled = self.encoder(torch.cat([pixel_values, lateral.pixel_values]))
        _, inside = patch_coordinates(self.encoder.grid, lateral.box)
        frontal, sides = (None, None) if pooled is None else (pooled[:count], pooled[count:])
        side = self.lateral(features[count:], inside, sides, lateral.rows, count)
        return replace(self.projection(features[:count], box), pooled=frontal, lateral=side)

    def predict_findings(self, visual: VisualTokens) -> torch.Tensor | None:
        """The finding head's logits [B, F]; None without findings."""
        return None if self.finding_head is None else self.finding_head(visual)

    def finding_probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """The head's logits [B, F] -> calibrated probabilities [B, F]."""
        return self.calibration.probabilities(logits, self.config.findings)

    def findings_present(self, logits: torch.Tensor) -> torch.Tensor:
        """Which findings count as present: logits [B, F] -> [B, F] bool."""
        return self.calibration.present(logits, self.config.findings)

    def decoder_context(
        self, visual: VisualTokens, finding_logits: torch.Tensor | None, finding_labels: torch.Tensor | None = None
    ) -> Context:
        """The decoder's input: visual tokens, lateral tokens, then a token for each finding that is present.

        Args:
            finding_labels: [B, F], 1 present, 0 absent, NaN where not known. They take the place of what the head sees,
                so that in training the decoder learns to say what the finding tokens say.
        """
        parts = [(visual.tokens, visual.tokens.new_ones(visual.tokens.shape[:2]))]
        if visual.lateral is not None:
            tokens = visual.lateral.tokens
            parts.append((tokens, visual.lateral.present[:, None].to(tokens.dtype).expand(tokens.shape[:2])))
        if self.finding_tokens is not None:
            present = self.findings_present(finding_logits.detach())
            if finding_labels is not None:
                present = torch.where(finding_labels.isnan(), present, finding_labels == 1)
            parts.append(self.finding_tokens(present))
        tokens, masks = zip(*parts, strict=True)
        return Context(torch.cat(tokens, dim=1), torch.cat(masks, dim=1))

    def enable_gradient_checkpointing(self, text: bool = True) -> None:
        """Computes activations within the encoder's stages twice and, with `text`, also BART's, which saves memory.

        Raises:
            ConfigError: timm's model cannot do it.
        """
        self.encoder.enable_gradient_checkpointing()
        if text:
            self.decoder.bart.activation_checkpointing_enable({"use_reentrant": False})
