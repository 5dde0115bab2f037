"""Findings: predicted from the tokens of their regions, calibrated, and handed to the decoder as tokens.

Shapes: B batch, Q visual tokens, G global queries, K regions, R queries per region, F findings, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from xr2text.anatomy import REGIONS
from xr2text.config import ConfigError
from xr2text.text.findings.table import FINDING_REGIONS

PRESENCE_SLOPE = 2.0  # of a finding's presence at its threshold, per unit of logit
LEAST_CASES, LEAST_AUC = 10, 0.6  # below, a finding is not assessed
Interval = list[float]  # a proportion or area, and the ends of its interval of 95 %


@dataclass(frozen=True)
class FindingMeasure:
    """How well the head knows a finding, on validation studies; at its threshold, but for the area under the ROC curve.
    None where there are no cases to tell by."""

    positives: int
    negatives: int
    sensitivity: Interval | None
    specificity: Interval | None
    auc: Interval | None

    @property
    def assessed(self) -> bool:
        """Whether it had cases enough and is told from chance."""
        return self.positives >= LEAST_CASES and self.auc is not None and self.auc[1] >= LEAST_AUC


@dataclass
class FindingCalibration:
    """From the finding head's logits to probabilities and presence; fitted on validation studies.

    Attributes:
        temperature: that logits are divided by (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017).
        thresholds: probability from which each finding counts as present; 0.5 where a name is missing.
        measures: how well each finding is known; empty where nobody has measured.
    """

    temperature: float = 1.0
    thresholds: dict[str, float] = field(default_factory=dict)
    measures: dict[str, FindingMeasure] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: dict) -> "FindingCalibration":
        """The inverse of `dataclasses.asdict`. Raises TypeError for other keys."""
        measures = {
            name: FindingMeasure(
                **{key: tuple(value) if isinstance(value, list) else value for key, value in one.items()}
            )
            for name, one in data.get("measures", {}).items()
        }
        return cls(**{**data, "measures": measures})

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits -> probabilities, the same shape."""
        return (logits / self.temperature).sigmoid()

    def presence(self, logits: torch.Tensor, findings: Sequence[str]) -> torch.Tensor:
        """How far each finding counts as present: logits [B, F] -> [B, F] in [0, 1], 0.5 at the finding's threshold."""
        thresholds = logits.new_tensor([self.thresholds.get(name, 0.5) for name in findings])
        return (PRESENCE_SLOPE * (logits - thresholds.logit() * self.temperature)).sigmoid()


class FindingHead(nn.Module):
    """One logit per finding, read from the tokens of its own regions alone, which `global_queries` tokens precede.

    A finding is present if any of these tokens shows it: its logit is the log-sum-exp of theirs. Raises ConfigError for
    a name that `text.findings.table.FINDING_REGIONS` lacks.
    """

    def __init__(self, findings: Sequence[str], width: int, global_queries: int):
        super().__init__()
        if unknown := [name for name in findings if name not in FINDING_REGIONS]:
            raise ConfigError(f"model.findings has {unknown[0]!r}; accepted: {', '.join(FINDING_REGIONS)}")
        self.global_queries = global_queries
        self.classify = nn.Linear(width, len(findings))
        seen_in = torch.tensor([[region.name in FINDING_REGIONS[name] for name in findings] for region in REGIONS])
        self.register_buffer("region_mask", torch.where(seen_in, 0.0, -torch.inf), persistent=False)  # [K, F]

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Visual tokens [B, Q, D] -> logits [B, F]."""
        return self._scores(tokens).logsumexp((1, 2))

    def attribution(self, tokens: torch.Tensor) -> torch.Tensor:
        """From which regions each logit comes: visual tokens [B, Q, D] -> [B, F, K], each row summing to 1.

        The gradient of the log-sum-exp by each token's score, summed over a region's tokens.
        """
        scores = self._scores(tokens)
        return scores.flatten(1, 2).softmax(1).view_as(scores).sum(2).transpose(1, 2)

    def _scores(self, tokens: torch.Tensor) -> torch.Tensor:
        """Visual tokens [B, Q, D] -> what each region token says of each finding [B, K, R, F]."""
        regional = tokens[:, self.global_queries :].unflatten(1, (len(REGIONS), -1))  # [B, K, R, D]
        return self.classify(regional).float() + self.region_mask[:, None]


class FindingTokens(nn.Module):
    """Findings as tokens that the decoder reads beside the visual ones, as in PromptMRG (Jin et al., AAAI 2024).

    Each is the finding's name, and a mixture of its absence and its presence."""

    def __init__(self, findings: int, width: int):
        super().__init__()
        self.name = nn.Parameter(torch.randn(findings, width) * 0.5)
        self.absent = nn.Parameter(torch.randn(findings, width) * 0.5)
        self.present = nn.Parameter(torch.randn(findings, width) * 0.5)
        self.norm = nn.LayerNorm(width)

    def forward(self, presence: torch.Tensor) -> torch.Tensor:
        """How far each finding is present, [B, F] in [0, 1] -> tokens [B, F, D]."""
        presence = presence[..., None].to(self.name.dtype)
        return self.norm(self.name + (1 - presence) * self.absent + presence * self.present)
