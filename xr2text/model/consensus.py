"""Which of several drafts of one report says what most of the others say too."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

LONGEST = 4  # words of a phrase, as in BLEU-4


def consensus(drafts: Sequence[Sequence[int]], beta: float = 1.0) -> np.ndarray:
    """What each of S drafts, lists of token ids, has in common with the others.

    Minimum Bayes risk decoding (Kumar & Byrne, NAACL 2004) takes the draft that is highest: under the model, the one
    that is most like what the report may be.

    Args:
        beta: how many times as much it counts that a draft has the others' phrases as that the others have its own;
            above 1, longer drafts are taken, which leave less unsaid.

    Returns:
        [S] in [0, 1]: the F-beta of the phrases of one to four tokens, mean over these lengths and over the other
        drafts.

    Raises:
        ValueError: there are fewer than two drafts.
    """
    if len(drafts) < 2:
        raise ValueError(f"a consensus needs at least 2 drafts, not {len(drafts)}")
    likeness = np.zeros((len(drafts), len(drafts)))
    for length in range(1, LONGEST + 1):
        counts = [Counter(zip(*(draft[start:] for start in range(length)), strict=False)) for draft in drafts]
        columns = {phrase: column for column, phrase in enumerate({phrase for one in counts for phrase in one})}
        table = np.zeros((len(drafts), len(columns)))
        for row, one in zip(table, counts, strict=True):
            row[[columns[phrase] for phrase in one]] = list(one.values())
        shared = np.minimum(table[:, None], table[None]).sum(-1)  # [S, S]
        total = table.sum(1)
        likeness += (1 + beta**2) * shared / np.maximum(total[:, None] + beta**2 * total[None], 1)
    np.fill_diagonal(likeness, 0)
    return likeness.sum(1) / (LONGEST * (len(drafts) - 1))
