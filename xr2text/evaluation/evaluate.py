"""A whole evaluation: reports of a split, scored beside two baselines and the published systems, and its pictures.

OUT/table.md           what people compare, also printed
OUT/metrics.json       every number of it
OUT/predictions.csv    id, reference, generated, findings (that the generated report asserts)
OUT/findings.png       F1 of each finding; OUT/examples.png, the worst and the best studies with their overlays
OUT/calibration.png    of the finding head, where the model has one and the data labels
OUT/work               batches of predictions and image features, from which a stopped evaluation goes on
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from xr2text import __version__
from xr2text.config import DataConfig
from xr2text.data.sources import SPLITS, DataError, Study, load_studies, read_table
from xr2text.evaluation import clinical, language, tables
from xr2text.evaluation import plots as pictures
from xr2text.evaluation.baselines import best_constant, retrieve
from xr2text.evaluation.degeneration import count_slips
from xr2text.evaluation.examples import worst_and_best
from xr2text.evaluation.predict import Prediction, image_features, write_predictions
from xr2text.evaluation.processes import Processes
from xr2text.inference.reporter import Reporter
from xr2text.model.xr2text import XR2Text
from xr2text.text.findings.labeler import label_reports


@dataclass(frozen=True)
class EvaluationSettings:
    """How a split is scored.

    Attributes:
        split: which studies are scored.
        batch_size: studies that the model sees together.
        samples: of the bootstrap behind the 95 % intervals.
        meteor: whether to run METEOR, which needs Java.
        predictions: a CSV of another system's reports, columns id and findings; None: the checkpoint writes them.
        train_root: the folder of the train and validation studies, where data.root holds the scored ones alone.
    """

    split: str = "test"
    batch_size: int = 16
    samples: int = 1000
    meteor: bool = True
    predictions: Path | None = None
    train_root: Path | None = None


def evaluate(
    model: XR2Text, data: DataConfig, settings: EvaluationSettings, out: Path, processes: Processes
) -> dict | None:
    """Scores a split and fills the folder `out`.

    To be called by all processes of a launch together. A study without a findings section is not scored.

    Args:
        model: writes the reports; the retrieval baseline uses its image features, in scoring others' predictions too.

    Returns:
        what metrics.json holds, on the main process; None on the others.

    Raises:
        DataError: the data are not as expected, have no study to score, to learn the baselines from, or, in the file of
            predictions, not exactly the scored studies.
        PredictionError: `out` holds another evaluation's work.
    """
    train, val, scored = _splits(data, settings)
    work = out / "work"
    if settings.predictions is None:
        predictions = write_predictions(model, scored, work / "predictions", settings.batch_size, processes)
        name = f"{model.name} {__version__}"
    else:
        predictions = read_predictions_file(settings.predictions, scored)
        name = settings.predictions.stem
    train_features = image_features(model, train, work / "features-train", settings.batch_size, processes)
    features = image_features(model, scored, work / "features", settings.batch_size, processes)
    if not processes.is_main:
        return None

    score = _Scorer.of(train, scored, settings)
    constant = best_constant(
        [study.source_findings for study in train], [study.source_findings for study in val], score.combined
    )
    nearest = retrieve(train_features, features, [study.patient for study in train], [one.patient for one in scored])
    texts = {
        "system": [one.findings for one in predictions],
        "constant": [constant] * len(scored),
        "retrieval": [train[index].source_findings for index in nearest],
    }
    systems = {name: score(own) for name, own in tqdm(texts.items(), desc="scoring", unit="system")}
    metrics = {
        "model": name,
        "dataset": score.dataset,
        "split": settings.split,
        "studies": len(scored),
        "protocols": language.PROTOCOLS,
        "clinical_convention": clinical.CONVENTION,
        **systems["system"].metrics,
        "baselines": {
            "constant": {"text": constant, **systems["constant"].metrics},
            "retrieval": {"features_of": f"{model.name} {__version__}", **systems["retrieval"].metrics},
        },
    }
    head = _head_tables(model, scored, predictions)
    if head is not None:
        metrics["finding_head"] = clinical.score_head(*head).as_dict()
    _write(out, metrics, scored, texts["system"], systems["system"].labels)
    pictures.finding_bars(metrics).save(out / "findings.png")
    if head is not None:
        pictures.reliability_figure(clinical.calibration_bins(*head)).save(out / "calibration.png")
    own = systems["system"]
    shown = worst_and_best(scored, texts["system"], score.reference_labels, own.labels, own.rouge_l)
    shows_regions = settings.predictions is None and model.config.haqt.projection == "haqt_arr"
    reporter = Reporter(model) if shows_regions else None
    drawn = [one.draw(reporter) for one in tqdm(shown, desc="drawing", unit="study")]
    title = f"{tables.subject(metrics)}: the worst and the best"
    pictures.examples_page(drawn, title).save(out / "examples.png")
    return metrics


def read_predictions_file(path: Path, studies: Sequence[Study]) -> list[Prediction]:
    """Another system's reports, from a CSV with the columns id and findings; or the predictions.csv of an evaluation,
    whose column generated is then taken.

    Raises:
        DataError: the file or a column is missing, or it does not hold each of the studies exactly once.
    """
    table = read_table(path, ("id", "findings"))
    column = "generated" if "generated" in table.columns else "findings"
    doubled = table["id"][table["id"].duplicated()]
    if len(doubled):
        raise DataError(f"{path} holds study {doubled.iloc[0]!r} more than once")
    texts = dict(zip(table["id"], table[column], strict=True))
    wanted = {study.id for study in studies}
    for ids, problem in ((wanted - texts.keys(), "no prediction for"), (texts.keys() - wanted, "a prediction for")):
        if ids:
            raise DataError(
                f"{path} holds {problem} study {sorted(ids)[0]!r} ({len(ids)} such); accepted: each of the "
                f"{len(wanted)} scored studies exactly once"
            )
    return [Prediction(study.id, texts[study.id], "", None) for study in studies]


def _splits(data: DataConfig, settings: EvaluationSettings) -> tuple[list[Study], list[Study], list[Study]]:
    """Train, validation and scored studies, those with a findings section."""
    if settings.split not in SPLITS:
        raise DataError(f"--split must be one of {', '.join(SPLITS)}, not {settings.split!r}")
    image_size = 128  # at which phantoms are drawn
    studies = load_studies(data, image_size)
    known = studies
    if settings.train_root is not None:
        known = load_studies(DataConfig(**{**vars(data), "root": str(settings.train_root)}), image_size)
    chosen = [known["train"], known["val"], studies[settings.split]]
    train, val, scored = ([study for study in part if study.source_findings.strip()] for part in chosen)
    for part, name, purpose in (
        (scored, settings.split, "to score"),
        (train, "train", "to take the vocabulary and the retrieval baseline from"),
        (val, "val", "to choose the constant baseline on"),
    ):
        if not part:
            where = " (--train-root names another folder)" if name != settings.split else ""
            raise DataError(f"{data.root or data.source} has no study with findings in split {name!r} {purpose}{where}")
    return train, val, scored


def dataset_of(studies: Sequence[Study]) -> str | None:
    """Which public data set these are, by their ids: "iu_xray", "mimic_cxr", or None."""
    for name, pattern in (("iu_xray", r"CXR\d+_.*|\d{1,4}"), ("mimic_cxr", r"[0-9a-f]{8}(-[0-9a-f]{8}){4}|s?\d{8}")):
        if all(re.fullmatch(pattern, study.id) for study in studies):
            return name
    return None


@dataclass(frozen=True, eq=False)
class _SystemScores:
    """One system's part of metrics.json, and what it rests on of each study."""

    metrics: dict
    labels: pd.DataFrame  # of its reports
    rouge_l: np.ndarray  # [N], protocol full


@dataclass(frozen=True, eq=False)
class _Scorer:
    """Scores any system's findings texts against the references of the scored split."""

    references: list[str]
    reference_labels: pd.DataFrame
    vocabulary: language.R2GenVocabulary
    dataset: str | None
    settings: EvaluationSettings

    @classmethod
    def of(cls, train: Sequence[Study], scored: Sequence[Study], settings: EvaluationSettings) -> "_Scorer":
        dataset = dataset_of(scored)
        vocabulary = language.R2GenVocabulary.from_reports(
            [study.source_findings for study in train], dataset or "iu_xray"
        )
        references = [study.source_findings for study in scored]
        return cls(references, label_reports(references), vocabulary, dataset, settings)

    @property
    def rules(self) -> str:
        """Whose rules R2Gen's cleaning follows; a data set of one's own is cleaned as IU X-Ray."""
        return self.dataset or "iu_xray"

    def combined(self, references: Sequence[str], predictions: Sequence[str]) -> float:
        """BLEU-4 + ROUGE-L under r2gen, for any references."""
        result = language.score_language(references, predictions, "r2gen", self.vocabulary, self.rules, meteor=False)
        return result.scores.combined

    def __call__(self, texts: list[str]) -> _SystemScores:
        results = {
            protocol: language.score_language(
                self.references, texts, protocol, self.vocabulary, self.rules, self.settings.meteor
            )
            for protocol in language.PROTOCOLS
        }
        labels, samples = label_reports(texts), self.settings.samples
        intervals = {name: language.language_intervals(result, samples) for name, result in results.items()}
        metrics = {
            "language": {protocol: result.scores.as_dict() for protocol, result in results.items()},
            "meteor_note": results["r2gen"].meteor_note,
            "clinical": clinical.score_clinical(self.reference_labels, labels).as_dict(),
            "intervals": {
                "language": intervals,
                "clinical": clinical.clinical_intervals(self.reference_labels, labels, samples),
            },
            "distinct_findings": len(set(texts)),
            "slips": count_slips(texts),
        }
        return _SystemScores(metrics, labels, results["full"].rouge_l)


def _head_tables(
    model: XR2Text, studies: Sequence[Study], predictions: Sequence[Prediction]
) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Labels that the source knows, and the finding head's probabilities; None where either is missing."""
    names = list(model.config.findings)
    if predictions[0].probabilities is None or not any(name in study.labels for study in studies for name in names):
        return None
    ids = [study.id for study in studies]
    labels = pd.DataFrame([{name: study.labels.get(name) for name in names} for study in studies], index=ids)
    return labels, pd.DataFrame([one.probabilities for one in predictions], index=ids, columns=names)


def _write(out: Path, metrics: dict, studies: Sequence[Study], texts: list[str], labels: pd.DataFrame) -> None:
    """metrics.json, table.md and predictions.csv."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / "table.md").write_text(tables.markdown_table(metrics), encoding="utf-8")
    columns = {
        "id": [study.id for study in studies],
        "reference": [study.source_findings for study in studies],
        "generated": texts,
        "findings": ["; ".join(_asserted(row)) for _, row in labels.iterrows()],
    }
    pd.DataFrame(columns).to_csv(out / "predictions.csv", index=False)


def _asserted(labels: pd.Series) -> list[str]:
    """The findings that a report asserts, the doubtful ones marked."""
    return [f"{name} (uncertain)" if value == -1 else name for name, value in labels.dropna().items() if value]
