"""Language scores of generated reports: BLEU, ROUGE-L, CIDEr and METEOR under three named protocols.

The scores are pycocoevalcap's, as in the published tables; its PTB tokenizer is not used. What a protocol does to the
texts moves BLEU-4 severalfold, so a number is printed with its protocol. `r2gen` is that of R2Gen (Chen et al., EMNLP
2020, arXiv:2010.16056) and of the systems that compare themselves with it. There a reference is read back from the
word numbers that the network was trained on, so it is cut, and its rare words are `<unk>`.

Shapes: N studies, S bootstrap samples.
"""

import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor import meteor as meteor_module
from pycocoevalcap.rouge.rouge import Rouge

PROTOCOLS: dict[str, str] = {
    "r2gen": "R2Gen's cleaning in lower case, references cut to R2Gen's length with rare words as <unk>, predictions "
    "cut to the length that R2Gen's search may write; no PTB tokenizer.",
    "full": "R2Gen's cleaning in lower case, whole texts, every word kept; no PTB tokenizer.",
    "cased": "Texts as they are, words parted at white space only; no PTB tokenizer.",
}
UNKNOWN = "<unk>"
_UNKNOWN_IN_CLEANING = "\ue000"  # a private-use character, which no report contains and no cleaning changes
_STRIPPED = str.maketrans("", "", ".,?;*!%^&_+()[]{}:<=>@\"'/\\")
_NUMBERING = (
    ("1. ", ""),
    *((f". {number}. ", ". ") for number in range(2, 6)),
    *((f" {number}. ", ". ") for number in range(2, 6)),
)
METEOR_SECONDS = 300.0  # for Java to start and load METEOR's tables, which takes about 15 s; many studies get more


@dataclass(frozen=True)
class R2GenRules:
    """R2Gen's settings for a data set."""

    min_count: int  # least number of occurrences in the cleaned train reports, for a word of the vocabulary
    max_words: int  # longest reference: max_seq_length less its start token; a prediction may have one more word
    replacements: tuple[tuple[str, str], ...]  # in order, before lower-casing and division into sentences


R2GEN_RULES: dict[str, R2GenRules] = {
    "iu_xray": R2GenRules(3, 59, (*(("..", "."),) * 3, *_NUMBERING)),
    "mimic_cxr": R2GenRules(
        10, 99, (("\n", " "), *(("__", "_"),) * 7, *(("  ", " "),) * 6, *(("..", "."),) * 8, *_NUMBERING)
    ),
}


def clean_r2gen(text: str, dataset: str = "iu_xray") -> str:
    """A report as R2Gen's tokenizer cleans it: lower-case words, each sentence closed by " .", single spaces.

    Follows `clean_report_iu_xray` and `clean_report_mimic_cxr` of R2Gen's modules/tokenizers.py with their quirks:
    "rib 1. The" loses its 1, "and/or" is "andor", a sentence without a word stays as a full stop, and a text without a
    word is ".". Hyphens, digits and "xxxx" stay.
    """
    for old, new in R2GEN_RULES[dataset].replacements:
        text = text.replace(old, new)
    sentences = text.strip().lower().split(". ")
    return _single_spaced(" . ".join(sentence.translate(_STRIPPED) for sentence in sentences) + " .")


@dataclass(frozen=True)
class R2GenVocabulary:
    """The words that R2Gen's tokenizer knows; every other word of a reference becomes `<unk>`."""

    words: frozenset[str]
    dataset: str  # a key of R2GEN_RULES

    @classmethod
    def from_reports(cls, train_reports: Iterable[str], dataset: str = "iu_xray") -> "R2GenVocabulary":
        """The frequent words of train reports, which are given uncleaned, as the source has them."""
        counts = Counter(word for report in train_reports for word in clean_r2gen(report, dataset).split())
        least = R2GEN_RULES[dataset].min_count
        return cls(frozenset(word for word, count in counts.items() if count >= least), dataset)


@dataclass(frozen=True)
class LanguageScores:
    """A system's scores over all studies: CIDEr 0 to 10, `combined` 0 to 2, the others 0 to 1."""

    bleu_1: float
    bleu_2: float
    bleu_3: float
    bleu_4: float
    rouge_l: float
    cider: float
    combined: float  # BLEU-4 + ROUGE-L
    meteor: float | None  # None where it was not asked for or could not be computed


@dataclass(frozen=True, eq=False)
class LanguageResult:
    """The scores of a system, with the values of each study that their bootstrap needs."""

    scores: LanguageScores
    meteor_note: str | None  # why `scores.meteor` is None
    bleu_statistics: np.ndarray  # [N, 10]: n-grams written and n-grams right for n = 1..4, words, reference words
    rouge_l: np.ndarray  # [N]
    cider: np.ndarray  # [N]


def score_language(
    references: Sequence[str],
    predictions: Sequence[str],
    protocol: str,
    vocabulary: R2GenVocabulary | None = None,
    meteor: bool = True,
) -> LanguageResult:
    """Scores generated reports against the reference reports of the same studies.

    BLEU is corpus BLEU (Papineni et al., ACL 2002). ROUGE-L (Lin, 2004; beta 1.2) and CIDEr (Vedantam et al.,
    arXiv:1411.5726; CIDEr-D) are means over studies; CIDEr weighs n-grams by how rare they are in these references, so
    it compares systems on one split only. METEOR 1.5 (Denkowski & Lavie, WMT 2014) lower-cases under `cased`, too.

    In `r2gen` a prediction's word outside the vocabulary matches nothing; a `<unk>` that it writes matches another.

    Args:
        references: N reports as the source has them, uncleaned; none may be empty.
        predictions: N generated reports in the same order; an empty one scores low.
        protocol: one of PROTOCOLS.
        vocabulary: needed by `r2gen`. Its data set's rules clean the texts, in `full` too; without it, IU X-Ray's.
        meteor: whether to run METEOR, which needs Java; without it the score is None and `meteor_note` says why.
    """
    references, predictions = _prepare(references, predictions, protocol, vocabulary)
    bleu, bleu_statistics = _score_bleu(references, predictions)
    by_study = [{number: [text] for number, text in enumerate(texts)} for texts in (references, predictions)]
    rouge_l, cider = Rouge().compute_score(*by_study)[1], Cider().compute_score(*by_study)[1]
    meteor_score, meteor_note = _score_meteor(references, predictions) if meteor else (None, "not asked for")
    mean_rouge_l = float(rouge_l.mean())
    scores = LanguageScores(*bleu, mean_rouge_l, float(cider.mean()), bleu[3] + mean_rouge_l, meteor_score)
    return LanguageResult(scores, meteor_note, bleu_statistics, rouge_l, cider)


def language_intervals(result: LanguageResult, samples: int = 1000, seed: int = 0) -> dict[str, tuple[float, float]]:
    """95 % percentile bootstrap intervals over studies (Efron & Tibshirani, 1993) by the names of LanguageScores.

    CIDEr keeps the n-gram weights of the whole set. METEOR has no interval: its corpus score is not a mean over
    studies. The same seed draws the same studies for every system.
    """
    columns = np.column_stack([result.bleu_statistics, result.rouge_l, result.cider])  # [N, 12]
    studies = len(columns)
    generator = np.random.default_rng(seed)
    totals = np.stack([columns[generator.integers(studies, size=studies)].sum(axis=0) for _ in range(samples)])
    bleu = bleu_from_statistics(totals[:, :10])  # [S, 4]
    rouge_l, cider = totals[:, 10] / studies, totals[:, 11] / studies
    values = {f"bleu_{n}": bleu[:, n - 1] for n in (1, 2, 3, 4)}
    values |= {"rouge_l": rouge_l, "cider": cider, "combined": bleu[:, 3] + rouge_l}
    return {name: tuple(np.percentile(value, (2.5, 97.5)).tolist()) for name, value in values.items()}


def bleu_from_statistics(totals: np.ndarray) -> np.ndarray:
    """Corpus BLEU-1 to BLEU-4 [S, 4] by pycocoevalcap's formula, with its two constants against division by zero, from
    sums over studies of `LanguageResult.bleu_statistics` [S, 10]."""
    small, tiny = 1e-9, 1e-15
    written, right, words, reference_words = totals[:, :4], totals[:, 4:8], totals[:, 8:9], totals[:, 9:10]
    products = np.cumprod((right + tiny) / (written + small), axis=1)
    means = products ** (1 / np.arange(1, 5))  # geometric, over n-grams up to each n
    ratio = (words + tiny) / (reference_words + small)
    return means * np.exp(np.minimum(0.0, 1 - 1 / ratio))


def _prepare(
    references: Sequence[str], predictions: Sequence[str], protocol: str, vocabulary: R2GenVocabulary | None
) -> tuple[list[str], list[str]]:
    """References and predictions as the scorers read them: tokens with one space between."""
    if protocol == "cased":
        return [_single_spaced(text) for text in references], [_single_spaced(text) for text in predictions]
    dataset = vocabulary.dataset if vocabulary else "iu_xray"
    references = [clean_r2gen(text, dataset) for text in references]
    predictions = [_clean_prediction(text, dataset) for text in predictions]
    if protocol == "full":
        return references, predictions
    longest = R2GEN_RULES[dataset].max_words
    known = [[word if word in vocabulary.words else UNKNOWN for word in text.split()] for text in references]
    cut = [" ".join(words[:longest]) for words in known]
    return cut, [" ".join(text.split()[: longest + 1]) for text in predictions]


def _clean_prediction(text: str, dataset: str) -> str:
    if not text.strip():
        return ""  # stays empty, without a full stop
    kept = clean_r2gen(text.replace(UNKNOWN, _UNKNOWN_IN_CLEANING), dataset)
    return kept.replace(_UNKNOWN_IN_CLEANING, UNKNOWN)


def _single_spaced(text: str) -> str:
    return " ".join(text.split())


def _score_bleu(references: list[str], predictions: list[str]) -> tuple[list[float], np.ndarray]:
    """Corpus BLEU-1 to BLEU-4, and the statistics [N, 10] that they are made of."""
    scorer = BleuScorer(n=4)
    for reference, prediction in zip(references, predictions, strict=True):
        scorer += (prediction, [reference])
    bleu, _ = scorer.compute_score(option="closest", verbose=0)
    statistics = [[*row["guess"], *row["correct"], row["testlen"], row["reflen"][0]] for row in scorer.ctest]
    return [float(score) for score in bleu], np.array(statistics, dtype=float)


def _score_meteor(references: list[str], predictions: list[str]) -> tuple[float | None, str | None]:
    """METEOR of the whole set, or None and the reason.

    The jar and its options are pycocoevalcap's, and so is the score, but it is run on two files: pycocoevalcap's class,
    which talks with Java line by line, waits for ever where Java dies under way.
    """
    java = shutil.which("java")
    if java is None:
        return None, "no Java: METEOR is a Java program, and there is no java executable on the path"
    jar = Path(meteor_module.__file__).with_name(meteor_module.METEOR_JAR)
    seconds = METEOR_SECONDS + 0.1 * len(references)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("predictions.txt", "references.txt")]
        for file, texts in zip(files, (predictions, references), strict=True):
            lines = "".join(f"{text}\n" for text in texts)
            file.write_text(lines, encoding="utf-8", errors="replace", newline="\n")
        command = [java, "-Xmx2G", "-jar", jar, *files, "-l", "en", "-norm"]
        try:
            run = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=seconds
            )
        except subprocess.TimeoutExpired:
            return None, f"Java did not finish METEOR within {seconds:.0f} seconds"
        except OSError as error:
            return None, f"no Java: the java executable on the path cannot be run ({error.strerror})"
    score = re.search(r"^Final score:\s+([\d.E-]+)$", run.stdout, re.MULTILINE)
    if run.returncode != 0 or score is None:
        said = " ".join(run.stderr.split())[-200:] or "it said nothing"
        return None, f"Java stopped without a METEOR score (exit status {run.returncode}): {said}"
    return float(score[1]), None
