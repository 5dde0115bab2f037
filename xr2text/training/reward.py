"""What a written findings section is worth beside the reference: its language, and what it asserts.

Letters: N reports.
"""

from collections.abc import Sequence

import numpy as np

from xr2text.evaluation.language import bleu_from_statistics, score_language
from xr2text.text.findings import CHEXPERT_14, label_reports


def report_rewards(references: Sequence[str], written: Sequence[str], findings_weight: float) -> np.ndarray:
    """Scores of N findings sections, each by itself.

    Returns:
        [N] BLEU-4 + ROUGE-L under the protocol `full`, and `findings_weight` times the F1 of those of CheXpert's 14,
        "no finding" among them, that the two assert as present or uncertain (1 where neither text has any); 0 where
        there is no reference.
    """
    rewards, known = np.zeros(len(references)), [bool(text.strip()) for text in references]
    if not any(known):
        return rewards
    pairs = [(one, other) for one, other, there in zip(references, written, known, strict=True) if there]
    language = score_language(*zip(*pairs, strict=True), "full", meteor=False)
    rewards[known] = bleu_from_statistics(language.bleu_statistics)[:, 3] + language.rouge_l
    if findings_weight:
        reference, own = (_asserted(texts) for texts in zip(*pairs, strict=True))
        both, either = (reference & own).sum(1), reference.sum(1) + own.sum(1)
        rewards[known] += findings_weight * np.where(either > 0, 2 * both / np.maximum(either, 1), 1.0)
    return rewards


def _asserted(texts: Sequence[str]) -> np.ndarray:
    """[N, 14] bool."""
    return label_reports(list(texts))[list(CHEXPERT_14)].fillna(0).to_numpy(int) != 0
