"""What a written findings section is worth beside the reference: its language, and what it asserts.

Letters: N reports.
"""

from collections.abc import Sequence

import numpy as np

from xr2text.evaluation.language import bleu_from_statistics, score_language
from xr2text.text.findings.labeler import NO_FINDING, label_reports
from xr2text.text.findings.table import CHEXPERT_14

METEOR_ALPHA = 0.9  # how far METEOR's mean counts recall above precision (Lavie and Agarwal, WMT 2007)


def report_rewards(
    references: Sequence[str],
    written: Sequence[str],
    findings_weight: float,
    recall_weight: float = 0.0,
    findings: Sequence[str] = CHEXPERT_14,
    unsure_match: float = 1.0,
    false_cost: float = 0.0,
) -> np.ndarray:
    """Scores of N findings sections that are written for one batch.

    Args:
        unsure_match: how far a finding that one text asserts and the other has as uncertain counts as the same.

    Returns:
        [N] under the protocol `full`, what each adds to the batch's BLEU-4 (see `bleu_gains`) and its ROUGE-L;
        `recall_weight` times METEOR's mean of precision and recall over equal words, where recall counts nine tenths;
        `findings_weight` times the F1 of those of `findings` that the two have as present or uncertain (1 where
        neither text has any); and minus `false_cost` for each of `findings` but "no finding" that the reference has not
        so; 0 where there is no reference.
    """
    rewards, known = np.zeros(len(references)), [bool(text.strip()) for text in references]
    if not any(known):
        return rewards
    pairs = [(one, other) for one, other, there in zip(references, written, known, strict=True) if there]
    language = score_language(*zip(*pairs, strict=True), "full", meteor=False)
    rewards[known] = bleu_gains(language.bleu_statistics) + language.rouge_l
    if recall_weight:
        own, right, wanted = language.bleu_statistics[:, [0, 4, 9]].T  # words
        rewards[known] += recall_weight * right / np.maximum(METEOR_ALPHA * wanted + (1 - METEOR_ALPHA) * own, 1)
    if findings_weight or false_cost:
        reference, own = (_positive(texts, findings) for texts in zip(*pairs, strict=True))
        same = np.where(reference == own, 1.0, unsure_match) * ((reference != 0) & (own != 0))
        both, either = same.sum(1), (reference != 0).sum(1) + (own != 0).sum(1)
        rewards[known] += findings_weight * np.where(either > 0, 2 * both / np.maximum(either, 1), 1.0)
        abnormal = np.array(findings) != NO_FINDING
        rewards[known] -= false_cost * ((own != 0) & (reference == 0))[:, abnormal].sum(1)
    return rewards


def bleu_gains(statistics: np.ndarray) -> np.ndarray:
    """What each report adds to the corpus BLEU-4 of all N, which is no mean over reports: N times its derivative by
    that report's weight. Of two reports of one study, the one that gains more would raise the corpus score more; so
    lengths count by the corpus's, and a short report is no loss where others are long.

    Args:
        statistics: [N, 10] as `evaluation.language.LanguageResult.bleu_statistics`.

    Returns:
        [N], 0 in the mean.
    """
    totals = np.maximum(statistics.sum(0), 1.0)  # an n-gram length that never is right pulls once one is
    written, right, words, reference_words = totals[:4], totals[4:8], totals[8], totals[9]
    gains = (statistics[:, 4:8] / right - statistics[:, :4] / written).mean(1)
    if words < reference_words:  # the brevity penalty exp(1 - reference words / words)
        gains += (reference_words / words * statistics[:, 8] - statistics[:, 9]) / words
    return len(statistics) * bleu_from_statistics(totals[None])[0, 3] * gains


def _positive(texts: Sequence[str], findings: Sequence[str]) -> np.ndarray:
    """[N, F]: 1 present, -1 uncertain, 0 neither."""
    return label_reports(list(texts))[list(findings)].fillna(0).to_numpy(int)
