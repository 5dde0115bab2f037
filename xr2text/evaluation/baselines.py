"""The baselines: a constant report, and the report of the most similar image.

On the Indiana collection language scores are nearly blind to the image: a constant report comes close to published
systems.

Shapes: N studies, M train studies, C feature width.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.preprocessing import StandardScaler, normalize
from tqdm.auto import tqdm

WORD = re.compile(r"\w+")
CENTRAL, FREQUENT = 30, 10  # finalists for the constant report
SIMILARITIES = 2**25  # similarities in memory at a time, 8 bytes each


def best_constant(
    candidates: Sequence[str], references: Sequence[str], score: Callable[[Sequence[str], Sequence[str]], float]
) -> str:
    """The text that scores best when it is given for every study.

    Scoring every text would take long, so finalists are drawn first: the FREQUENT commonest texts and the
    CENTRAL ones nearest to the references, by the mean cosine between sets of one to four consecutive words.

    Args:
        candidates: the train studies' texts, each as often as it stands there; empty ones are passed over.
        references: the validation studies' texts. Choosing on the test split would be choosing by the answer.
        score: references and as many predictions -> a number, the higher the better; of equal texts the first wins.

    Raises:
        ValueError: there is no text to choose from or to compare with.
    """
    counts = Counter(text for text in candidates if WORD.search(text))
    if not counts or not any(map(WORD.search, references)):
        raise ValueError("a constant report is chosen among train texts on reference texts, and there is none")
    texts = list(counts)  # in the order of their first study
    finalists = [*np.argsort(-_centrality(texts, references), kind="stable")[:CENTRAL].tolist()]
    finalists += sorted(range(len(texts)), key=lambda index: -counts[texts[index]])[:FREQUENT]
    bar = tqdm(sorted(set(finalists)), desc="constant report", leave=False, mininterval=2)
    scores = {index: score(references, [texts[index]] * len(references)) for index in bar}
    return texts[max(scores, key=scores.__getitem__)]


def _centrality(texts: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Mean cosine of each text with the references, over sets of one to four consecutive words."""
    vectorizer = CountVectorizer(ngram_range=(1, 4), token_pattern=WORD.pattern, binary=True, dtype=np.float64)
    rows = normalize(vectorizer.fit_transform([*texts, *references]))
    centre = np.asarray(rows[len(texts) :].mean(0)).ravel()
    return rows[: len(texts)] @ centre


def retrieve(
    train_features: np.ndarray, features: np.ndarray, train_patients: Sequence[str], patients: Sequence[str]
) -> np.ndarray:
    """The most similar train study of each study: highest cosine of features standardised over the train studies.

    A study of the same patient is never taken, so the train studies may hold the very ones that are asked about.

    Args:
        train_features, features: [M, C] and [N, C].
        train_patients, patients: whose study each is.

    Returns:
        [N] indices into the train studies; of studies alike to nine decimals the first.

    Raises:
        ValueError: a value is not finite, or all train studies are of the patient who is asked about.
    """
    studies_of: dict[str, list[int]] = {}
    for index, patient in enumerate(train_patients):
        studies_of.setdefault(patient, []).append(index)
    scale = StandardScaler().fit(train_features.astype(np.float64))
    known = _unit_rows(train_features, scale)
    rows = max(1, SIMILARITIES // len(known))
    nearest = np.empty(len(features), dtype=np.int64)
    for start in range(0, len(features), rows):
        part = slice(start, start + rows)
        # Rounded, so that ties do not depend on the order of summation in a matrix product.
        similarity = (_unit_rows(features[part], scale) @ known.T).round(9)
        for row, patient in zip(similarity, patients[part], strict=True):
            row[studies_of.get(patient, [])] = -np.inf
            if np.isneginf(row).all():
                raise ValueError(f"all train studies are of patient {patient!r}, so there is none to take")
        nearest[part] = similarity.argmax(1)
    return nearest


def _unit_rows(features: np.ndarray, scale: StandardScaler) -> np.ndarray:
    """Standardised rows of length 1, float64. Raises ValueError where a value is not finite."""
    return normalize(scale.transform(features.astype(np.float64)))
