"""The terms of the loss, as pure functions. A term is a pair: a sum, and the count of what it sums over.

Shapes: B batch, T tokens, M tokens that are not padding, D width, V vocabulary, P passes of the decoder (2 for R-Drop,
else 1), K regions, H x W patch grid, F findings.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from xr2text.text.tokenizer import IGNORED

Term = tuple[torch.Tensor, torch.Tensor]

VOCABULARY_CHUNK = 256  # tokens whose logits are in memory at a time
CUT_SLOPE = 12.0  # steepness of the soft cut of a map, per fraction of its maximum
HIDDEN, TOUCHED = 0.7, 0.3  # black fraction of a region from which it is hidden, or partly hidden


def vocabulary_terms(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    labels: torch.Tensor,
    label_smoothing: float,
    gamma: float,
) -> dict[str, Term]:
    """The terms of the report's tokens, averaged over passes; the logits of all tokens are never in memory together.

    "ce": cross-entropy with label smoothing, as F.cross_entropy has it. "focal": (1 - p)^gamma * cross-entropy (Lin et
    al., ICCV 2017). "rdrop": symmetric Kullback-Leibler divergence of the two passes, half the sum of both directions
    (Wu et al., NeurIPS 2021); 0 for a single pass.

    Args:
        hidden: [P, B, T, D] the decoder's last states, of two passes under different dropout or of one.
        weight, bias: [V, D] and [V], the output layer.
        labels: [B, T], IGNORED where padded.
    """
    known = known_tokens(labels)
    states, targets = hidden.flatten(1, 2)[:, known], labels.flatten()[known]  # [P, M, D], [M]

    def sums(states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        log_p = F.linear(states, weight, bias).float().log_softmax(-1)  # [P, m, V]
        right = log_p.gather(-1, targets.expand(len(log_p), -1)[..., None]).squeeze(-1)  # [P, m]
        smoothed = (1 - label_smoothing) * right + label_smoothing * log_p.mean(-1)
        focal = (1 - right.exp()).clamp_min(1e-8) ** gamma * right
        divergence = right.new_zeros(())
        if len(log_p) == 2:
            divergence = 0.5 * ((log_p[0].exp() - log_p[1].exp()) * (log_p[0] - log_p[1])).sum()
        return torch.stack([-smoothed.sum() / len(log_p), -focal.sum() / len(log_p), divergence])

    totals, count = _in_chunks(sums, states, targets), _count(targets)
    return {name: (total, count) for name, total in zip(("ce", "focal", "rdrop"), totals.expand(3), strict=True)}


def _in_chunks(function: Callable[..., torch.Tensor], states: torch.Tensor, *per_token: torch.Tensor) -> torch.Tensor:
    """Sums `function` over chunks of the tokens in states [..., M, D]. Each chunk is computed again in the backward
    pass."""
    total = 0.0 * states.float().sum()  # keeps the graph for a batch without tokens
    for start in range(0, states.shape[-2], VOCABULARY_CHUNK):
        part = slice(start, start + VOCABULARY_CHUNK)
        chunk = (states[..., part, :], *(values[part] for values in per_token))
        total = total + checkpoint(function, *chunk, use_reentrant=False)
    return total


def reported_rows(labels: torch.Tensor) -> torch.Tensor:
    """The rows of labels [B, T] that hold a token; the first row where none does, so that there is something to
    compute."""
    rows = (labels != IGNORED).any(1).nonzero().squeeze(1)
    return rows if len(rows) else rows.new_zeros(1)


def known_tokens(labels: torch.Tensor) -> torch.Tensor:
    """[M] positions of the tokens that are not padding, in the flattened labels [B*T]."""
    return (labels.flatten() != IGNORED).nonzero().squeeze(1)


def _count(targets: torch.Tensor) -> torch.Tensor:
    return torch.tensor(len(targets), device=targets.device)


def load_balance_term(mean_weights: torch.Tensor) -> Term:
    """Keeps the router from forgetting regions: KL(mean routing || uniform), as mixtures of experts balance their load
    (Shazeer et al., ICLR 2017). An image may rest on one region alone as long as others rest on others.

    Args:
        mean_weights: [K], the mean over all images, summing to 1.
    """
    divergence = (mean_weights * (mean_weights * len(mean_weights)).clamp_min(1e-12).log()).sum()
    return divergence, torch.ones_like(divergence)


def mask_kl_term(maps: torch.Tensor, masks: torch.Tensor) -> Term:
    """Draws each region's attention over its mask: KL(mask || attention) (Kullback and Leibler, 1951).

    Args:
        maps: [B, K, H, W], each summing to 1.
        masks: the same; NaN where a region has no mask, and is passed over.
    """
    known, masks = ~masks.isnan().any(-1).any(-1), masks.nan_to_num().float()
    tiny = torch.finfo(torch.float32).tiny
    divergence = (masks * (masks.clamp_min(tiny).log() - maps.float().clamp_min(1e-9).log())).sum((-1, -2))  # [B, K]
    return (divergence * known).sum(), known.sum()


def soft_iou_term(maps: torch.Tensor, masks: torch.Tensor) -> Term:
    """1 - intersection over union of mask and attention (Rahman and Wang, ISVC 2016). Attention is cut softly at half
    its maximum, where it is cut to be shown and measured. Arguments as of `mask_kl_term`."""
    known = ~masks.isnan().any(-1).any(-1)  # [B, K]
    cut, mask = maps.float().flatten(2), masks.nan_to_num().float().flatten(2)  # [B, K, H*W]
    cut = (CUT_SLOPE * (cut / cut.amax(-1, keepdim=True) - 0.5)).sigmoid()
    mask = mask / mask.amax(-1, keepdim=True).clamp_min(1e-9)
    both = (cut * mask).sum(-1)
    missed = 1 - both / (cut.sum(-1) + mask.sum(-1) - both)
    return (missed * known).sum(), known.sum()


def findings_term(answers: torch.Tensor, given: torch.Tensor, labels: torch.Tensor) -> Term:
    """Binary cross-entropy of logits [A, B, F], where `given` [A, B], with labels [B, F]: 1 present, 0 absent, NaN
    unknown."""
    known, labels = ~labels.isnan() & given[..., None], labels.nan_to_num().expand_as(answers)
    total = F.binary_cross_entropy_with_logits(answers.float(), labels, weight=known.float(), reduction="sum")
    return total, known.sum()


def occluded_labels(labels: torch.Tensor, regions: torch.Tensor, covered: torch.Tensor) -> torch.Tensor:
    """The labels of findings in an image of which a part is black.

    A finding whose regions are all black is not seen. Of a finding that lies in a black region and in another nothing
    is known.

    Args:
        labels: [B, F] 1 present, 0 absent, NaN not known.
        regions: [B, F, K] bool, the regions that each finding lies in.
        covered: [B, K] fraction of each region that is black.
    """
    gone = (~regions | (covered >= HIDDEN)[:, None]).all(-1)  # [B, F]
    touched = (regions & (covered >= TOUCHED)[:, None]).any(-1)
    present = labels == 1
    return labels.masked_fill(present & touched, torch.nan).masked_fill(present & gone, 0.0)
