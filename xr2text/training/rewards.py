"""What a drawn findings section is worth beside the reference, for self-critical training. Shapes: N reports."""

from collections.abc import Callable, Sequence

import numpy as np

from xr2text.text.findings.labeler import label_reports
from xr2text.text.findings.table import CHEXPERT_14


def rouge_l(references: Sequence[str], drawn: Sequence[str]) -> np.ndarray:
    """[N] in [0, 1], under the protocol `full` (see `evaluation.language`)."""
    from xr2text.evaluation.language import score_language  # needs pycocoevalcap, which other losses do without

    return score_language(references, drawn, "full", meteor=False).rouge_l


def findings_f1(references: Sequence[str], drawn: Sequence[str]) -> np.ndarray:
    """[N] in [0, 1]: F1 of CheXpert's findings that the two texts have as present or uncertain; 1 where neither has
    any."""
    asserted = [
        label_reports(list(texts))[list(CHEXPERT_14)].fillna(0).to_numpy() != 0 for texts in (references, drawn)
    ]
    both, either = (asserted[0] & asserted[1]).sum(1), asserted[0].sum(1) + asserted[1].sum(1)
    return np.where(either > 0, 2 * both / np.maximum(either, 1), 1.0)


REWARDS: tuple[Callable[[Sequence[str], Sequence[str]], np.ndarray], ...] = (rouge_l, findings_f1)


def total_reward(references: Sequence[str], drawn: Sequence[str]) -> np.ndarray:
    """[N] the sum of all rewards; `references` are not empty."""
    return sum(reward(references, drawn) for reward in REWARDS)
