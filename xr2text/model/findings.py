"""Findings: predicted from the whole image and from the tokens of their regions, calibrated, and handed to the decoder.

Shapes: B batch, Q visual tokens, G global queries, K regions, R queries per region, L lateral queries, F findings,
D width, P width of the encoder's summary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn

from xr2text.anatomy import REGIONS
from xr2text.config import ConfigError, ModelConfig
from xr2text.model.haqt_arr import VisualTokens
from xr2text.text.findings.table import FINDING_REGIONS

POOLED_DROPOUT = 0.2  # dropout on the encoder's summary
RARE = -3.0  # initial bias of the logits, since findings are rare
LEAST_CASES, LEAST_AUC = 10, 0.6  # below, a finding is not assessed
UNSCALED = [1.0, 0.0]  # slope and intercept
Interval = list[float]  # a proportion or area, and the ends of its interval of 95 %


@dataclass(frozen=True)
class FindingMeasure:
    """How well the head knows a finding on studies that it was not trained on, at its threshold (the AUC has none).
    None where there are no cases to measure by."""

    positives: int
    negatives: int
    sensitivity: Interval | None
    specificity: Interval | None
    auc: Interval | None

    @property
    def assessed(self) -> bool:
        """Whether there were enough cases, and the AUC is clearly above chance."""
        return self.positives >= LEAST_CASES and self.auc is not None and self.auc[1] >= LEAST_AUC

    @property
    def prevalence(self) -> float:
        """The fraction of the studies that had it, in [0, 1]."""
        return self.positives / max(1, self.positives + self.negatives)


@dataclass
class FindingCalibration:
    """Turns the finding head's logits into probabilities and presence. Fitted on studies that the head was not trained
    on.

    Attributes:
        scaling: slope and intercept of each finding, whose probability is sigmoid(slope * logit + intercept) (Platt,
            "Probabilistic Outputs for Support Vector Machines", 1999); 1 and 0 where a name is missing.
        thresholds: probability from which each finding counts as present; 0.5 where a name is missing.
        measures: how well each finding is known; empty where nobody has measured.
    """

    scaling: dict[str, list[float]] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)
    measures: dict[str, FindingMeasure] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: dict) -> "FindingCalibration":
        """The inverse of `dataclasses.asdict`. Raises TypeError for other keys."""
        measures = {name: FindingMeasure(**values) for name, values in data.get("measures", {}).items()}
        return cls(**{**data, "measures": measures})

    def probabilities(self, logits: torch.Tensor, findings: Sequence[str]) -> torch.Tensor:
        """Logits [B, F] -> probabilities [B, F]."""
        slopes, intercepts = logits.new_tensor([self.scaling.get(name, UNSCALED) for name in findings]).unbind(-1)
        return (slopes * logits + intercepts).sigmoid()

    def present(self, logits: torch.Tensor, findings: Sequence[str]) -> torch.Tensor:
        """Whether each finding counts as present: logits [B, F] -> [B, F] bool."""
        thresholds = [self.thresholds.get(name, 0.5) for name in findings]
        return self.probabilities(logits, findings) >= logits.new_tensor(thresholds)


class FindingHead(nn.Module):
    """One logit per finding: the mean of what the whole image, its regions' tokens and the whole lateral view say.

    The first and the last are linear layers on the encoder's summary, as in a plain classifier. The second is the
    log-sum-exp over the tokens of the finding's own regions and those of the lateral view: it is present if any shows
    it. Each learns the labels alone: in a sum, the one that learns them faster, by heart even, would leave the others
    nothing to learn.

    Args:
        pooled_width: P.

    Raises:
        ConfigError: `text.findings.table.FINDING_REGIONS` lacks a name.
    """

    def __init__(self, config: ModelConfig, pooled_width: int):
        super().__init__()
        names, lateral = config.findings, config.haqt.lateral_queries
        if unknown := [name for name in names if name not in FINDING_REGIONS]:
            raise ConfigError(f"model.findings has {unknown[0]!r}; accepted: {', '.join(FINDING_REGIONS)}")
        self.global_queries = config.haqt.global_queries
        self.classify = nn.Linear(config.width, len(names))
        self.classify_image = nn.Linear(pooled_width, len(names))
        self.classify_lateral = nn.Linear(config.width, len(names)) if lateral else None
        self.classify_lateral_image = nn.Linear(pooled_width, len(names)) if lateral else None
        seen_in = torch.tensor([[region.name in FINDING_REGIONS[name] for name in names] for region in REGIONS])
        for layer in (self.classify, self.classify_image, self.classify_lateral, self.classify_lateral_image):
            if layer is not None:
                nn.init.constant_(layer.bias, RARE)
        self.register_buffer("region_mask", torch.where(seen_in, 0.0, -torch.inf), persistent=False)  # [K, F]

    def forward(self, visual: VisualTokens) -> torch.Tensor:
        """Visual tokens -> logits [B, F]."""
        answers, given = self.answers(visual)
        return torch.where(given[..., None], answers, 0.0).sum(0) / given.sum(0)[:, None]

    def answers(self, visual: VisualTokens) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [A, B, F] of the A = 2 or 3 classifiers: the whole image, the tokens and, where any study has one, the
        lateral view; and which of them each study has, [A, B] bool."""
        answers = [self.classify_image(self._drop(visual.pooled)).float(), self._scores(visual).logsumexp(1)]
        given = [torch.ones(len(visual.pooled), dtype=torch.bool, device=visual.pooled.device)] * 2
        if visual.lateral is not None:
            answers.append(self.classify_lateral_image(self._drop(visual.lateral.pooled)).float())
            given.append(visual.lateral.present)
        return torch.stack(answers), torch.stack(given)

    def attribution(self, visual: VisualTokens) -> torch.Tensor:
        """Where the tokens' logit of each finding comes from, [B, F, K + 1], each row summing to 1; the last place is
        the lateral view.

        The gradient of the log-sum-exp by each token's score, summed over a place's tokens.
        """
        shares = self._scores(visual).softmax(1).transpose(1, 2)  # [B, F, K*R + L]
        regional = self._count(visual)
        regions = shares[..., :regional].unflatten(-1, (len(REGIONS), -1)).sum(-1)
        return torch.cat([regions, shares[..., regional:].sum(-1, keepdim=True)], dim=-1)

    def _scores(self, visual: VisualTokens) -> torch.Tensor:
        """The score of each finding from each region token and lateral token, [B, K*R + L, F]; -inf outside the
        finding's regions, and for lateral tokens of studies without a lateral view."""
        regional = visual.tokens[:, self.global_queries :]  # [B, K*R, D]
        mask = self.region_mask.repeat_interleave(regional.shape[1] // len(REGIONS), 0)  # [K*R, F]
        scores = self.classify(regional).float() + mask
        if visual.lateral is None:
            return scores
        lateral = self.classify_lateral(visual.lateral.tokens).float()  # [B, L, F]
        return torch.cat([scores, lateral.masked_fill(~visual.lateral.present[:, None, None], -torch.inf)], dim=1)

    def _count(self, visual: VisualTokens) -> int:
        """K*R, the number of region tokens."""
        return visual.tokens.shape[1] - self.global_queries

    def _drop(self, pooled: torch.Tensor) -> torch.Tensor:
        return F.dropout(pooled, POOLED_DROPOUT, self.training)


class FindingTokens(nn.Module):
    """A token for each finding. The decoder reads it beside the visual tokens where the finding is present, much as in
    PromptMRG (Jin et al., AAAI 2024)."""

    def __init__(self, findings: int, width: int):
        super().__init__()
        self.name = nn.Parameter(torch.randn(findings, width))
        self.norm = nn.LayerNorm(width)

    def forward(self, present: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Presence of the findings [B, F] bool -> tokens [B, F, D], and the mask [B, F] of the tokens to be read."""
        tokens = self.norm(self.name).expand(len(present), -1, -1)
        return tokens, present.to(tokens.dtype)
