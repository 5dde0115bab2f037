"""The evaluation of a split: its reports scored beside two baselines and the published systems, with pictures.

OUT/table.md           what people compare, also printed
OUT/metrics.json       every number of it
OUT/predictions.csv    id, reference, generated, findings (that the generated report asserts)
OUT/findings.png       F1 of each finding
OUT/examples.html      the worst and the best studies with their overlays
OUT/calibration.png    of the finding head, where the model has one and the data labels
OUT/work               batches of predictions and image features, from which a stopped evaluation goes on

Shapes: N studies, M train studies, C feature width, K regions, H x W patch grid.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from xr2text import __version__
from xr2text.config import DataConfig
from xr2text.data.sources import load_studies
from xr2text.data.study import DataError, Study
from xr2text.data.tables import read_table
from xr2text.evaluation import clinical, language, plots, tables
from xr2text.evaluation.baselines import best_constant, retrieve
from xr2text.evaluation.degeneration import TrainingText, count_degeneration
from xr2text.evaluation.predict import Predictions, image_features, processes, write_predictions
from xr2text.imaging.transform import ImageTransform
from xr2text.inference.confidence import FindingReading, read_findings
from xr2text.inference.overlay import Canvas, draw_grey
from xr2text.model.checkpoint import Checkpoint
from xr2text.model.xr2text import XR2Text
from xr2text.text.findings.labeler import label_reports
from xr2text.text.findings.table import SIDED_FINDINGS

WRITTEN = ["id", "reference", "generated", "findings"]  # columns of predictions.csv


def evaluate(
    checkpoint: Checkpoint,
    data: DataConfig,
    out: Path,
    split: str = "test",
    batch_size: int = 16,
    meteor: bool = True,
    predictions_file: Path | None = None,
    train_root: Path | None = None,
) -> dict | None:
    """Scores a split and fills the folder `out`. Returns the content of metrics.json on the main process, else None.

    To be called by all processes of a launch together. A study without a findings section is not scored.

    Args:
        checkpoint: writes the reports. The retrieval baseline uses its image features, for others' predictions, too.
        meteor: whether to run METEOR, which needs Java.
        predictions_file: a CSV of another system's reports, columns id and findings; None: the checkpoint writes them.
        train_root: the folder of the train and validation studies, where data.root holds the scored ones alone.

    Raises:
        DataError: the data are not as expected, or the file of predictions has not exactly the scored studies.
        PredictionError: `out` holds another evaluation's work.
    """
    train, val, scored = _splits(data, checkpoint.model.config.findings, split, train_root)
    work, writer = out / "work", f"{checkpoint.name} {__version__}"
    if predictions_file is None:
        name, both = writer, checkpoint.model.lateral is not None
        predictions = write_predictions(checkpoint, scored, work / "predictions", batch_size, both)
        alone = write_predictions(checkpoint, scored, work / "predictions-frontal", batch_size) if both else None
    else:
        name, predictions, alone = predictions_file.stem, read_predictions_file(predictions_file, scored), None
    train_features = image_features(checkpoint, train, work / "features-train", batch_size)
    features = image_features(checkpoint, scored, work / "features", batch_size)
    processes().destroy_process_group()  # from here on, only the main process
    if not processes().is_main_process:
        return None
    score = _Scorer(train, scored, dataset_of(data, scored), meteor)
    system = score(predictions.findings)
    patients = [[study.patient for study in part] for part in (train, scored)]
    retrieved = [train[index].source_findings for index in retrieve(train_features, features, *patients)]
    constant = best_constant(_findings(train), _findings(val), score.combined)
    baselines = {
        "constant": {"text": constant, **score([constant] * len(scored)).metrics},
        "retrieval": {"features_of": writer, **score(retrieved).metrics},
    }
    metrics = {
        "model": name, "dataset": score.dataset, "split": split, "studies": len(scored),
        "published_test": split == "test" and has_published_split(data),
        "protocols": language.PROTOCOLS, "clinical_convention": clinical.CONVENTION,
        **system.metrics, "baselines": baselines,
    }  # fmt: skip
    if alone is not None:  # scores from frontal views only, for a model that reads both
        metrics["frontal_alone"] = score(alone.findings).metrics | _head_metrics(checkpoint.model, scored, alone)
    metrics |= _head_metrics(checkpoint.model, scored, predictions, out / "calibration.png")
    plots.finding_bars(metrics).savefig(out / "findings.png")
    examples = _examples(score.labels, system, scored, predictions, checkpoint.model.transform)
    page = plots.examples_page(examples, f"{tables.subject(metrics)}: the worst and the best")
    _write(out, metrics, page, scored, predictions.findings, system.labels)
    return metrics


def _head_metrics(
    model: XR2Text, studies: Sequence[Study], predictions: Predictions, picture: Path | None = None
) -> dict:
    """Metrics of the finding head, and its calibration as a picture where `picture` is given; empty without a head or
    known labels."""
    head = _head_tables(model.config.findings, studies, predictions)
    if head is None:
        return {}
    if picture is not None:
        plots.reliability_figure(clinical.calibration_bins(*head)).savefig(picture)
    return {"finding_head": asdict(clinical.score_head(*head)), "head_agreement": _head_agreement(model, predictions)}


def read_predictions_file(path: Path, studies: Sequence[Study]) -> Predictions:
    """Reads another system's reports from a CSV file with the columns id and findings, or a predictions.csv of
    `evaluate`, whose column generated is then used.

    Raises:
        DataError: the file or a column is missing, or it does not hold each of the studies exactly once.
    """
    table = read_table(path, ("id", "findings"))
    counts, wanted = Counter(table["id"]), {study.id for study in studies}
    if wrong := sorted(name for name in counts.keys() | wanted if counts[name] != (name in wanted)):
        raise DataError(
            f"{path} holds study {wrong[0]!r} {counts[wrong[0]]} times ({len(wrong)} such); accepted: each of the "
            f"{len(wanted)} scored studies exactly once"
        )
    texts = dict(zip(table["id"], table["generated" if list(table) == WRITTEN else "findings"], strict=True))
    return Predictions([texts[study.id] for study in studies], [""] * len(studies))


def _splits(
    data: DataConfig, findings: Sequence[str], split: str, train_root: Path | None
) -> tuple[list[Study], list[Study], list[Study]]:
    """The train, validation and scored studies that have a findings section."""
    studies = known = load_studies(data, findings)
    if train_root is not None:
        known = load_studies(data.model_copy(update={"root": str(train_root)}), findings)
    parts = []
    for name, table in (("train", known), ("val", known), (split, studies)):
        parts.append([study for study in table[name] if study.source_findings.strip()])
        if not parts[-1]:
            raise DataError(
                f"{data.root or data.source} has no study with findings in split {name!r}; the baselines come from "
                "train and val (--train-root names another folder)"
            )
    return tuple(parts)


def dataset_of(data: DataConfig, studies: Sequence[Study]) -> str | None:
    """The public data set of these studies, "iu_xray" or "mimic_cxr", known by the layout or, in R2Gen's, by the ids;
    else None."""
    if data.source != "r2gen":
        return {"indiana": "iu_xray", "openi": "iu_xray", "mimic_cxr": "mimic_cxr"}.get(data.source)
    for name, pattern in (("iu_xray", r"CXR\d+_.*|\d{1,4}"), ("mimic_cxr", r"[0-9a-f]{8}(-[0-9a-f]{8}){4}|s?\d{8}")):
        if all(re.fullmatch(pattern, study.id) for study in studies):
            return name
    return None


def has_published_split(data: DataConfig) -> bool:
    """Whether the splits are those of the published figures: R2Gen's of IU X-Ray, or the official ones of MIMIC-CXR."""
    return data.source in ("r2gen", "mimic_cxr") or data.split_file is not None


def _findings(studies: Sequence[Study]) -> list[str]:
    return [study.source_findings for study in studies]


@dataclass(frozen=True, eq=False)
class _SystemScores:
    """A system's part of metrics.json, with the values of each study behind it."""

    metrics: dict
    labels: pd.DataFrame  # of its reports
    rouge_l: np.ndarray  # [N], protocol full


class _Scorer:
    """Scores any system's findings texts against the references of the scored split."""

    def __init__(self, train: Sequence[Study], scored: Sequence[Study], dataset: str | None, meteor: bool):
        self.references, self.meteor, self.dataset = _findings(scored), meteor, dataset
        self.labels = label_reports(self.references)
        # Other data sets are cleaned by the rules for IU X-Ray.
        self.vocabulary = language.R2GenVocabulary.from_reports(_findings(train), self.dataset or "iu_xray")
        self.training = TrainingText.from_reports(
            text for study in train for text in (study.findings, study.impression)
        )

    def combined(self, references: Sequence[str], predictions: Sequence[str]) -> float:
        """BLEU-4 + ROUGE-L under the protocol r2gen, for any references."""
        return language.score_language(references, predictions, "r2gen", self.vocabulary, meteor=False).scores.combined

    def __call__(self, texts: list[str]) -> _SystemScores:
        results = {
            protocol: language.score_language(self.references, texts, protocol, self.vocabulary, self.meteor)
            for protocol in tqdm(language.PROTOCOLS, desc="scoring", unit="protocol", leave=False)
        }
        labels = label_reports(texts)
        metrics = {
            "language": {protocol: asdict(result.scores) for protocol, result in results.items()},
            "meteor_note": results["r2gen"].meteor_note,
            "clinical": asdict(clinical.score_clinical(self.labels, labels)),
            "intervals": {
                "language": {protocol: language.language_intervals(result) for protocol, result in results.items()},
                "clinical": clinical.clinical_intervals(self.labels, labels),
            },
            "distinct_findings": len(set(texts)),
            "degeneration": count_degeneration(texts, self.training),
        }
        return _SystemScores(metrics, labels, results["full"].rouge_l)


def _examples(
    labels: pd.DataFrame,
    system: _SystemScores,
    studies: Sequence[Study],
    predictions: Predictions,
    transform: ImageTransform,
) -> dict[str, list[plots.Example]]:
    """The worst and the best reports, by heading; `labels` are those of the references."""
    matches = [plots.FindingMatch.of(*rows) for rows in zip(labels.iloc, system.labels.iloc, strict=True)]
    return {
        heading: [_example(studies[i], i, predictions, matches[i], transform) for i in chosen]
        for heading, chosen in plots.worst_and_best(matches, system.rouge_l).items()
    }


def _head_tables(
    findings: Sequence[str], studies: Sequence[Study], predictions: Predictions
) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """The known labels, and the finding head's probabilities; None where either is missing. Findings of one
    side are left out where the head has the general finding, which would count twice."""
    if predictions.probabilities is None or not any(name in study.labels for study in studies for name in findings):
        return None
    probabilities = pd.DataFrame(predictions.probabilities, columns=list(findings))
    probabilities = probabilities[[name for name in findings if SIDED_FINDINGS.get(name, ("",))[0] not in findings]]
    names = list(probabilities.columns)
    labels = pd.DataFrame([{name: study.labels.get(name) for name in names} for study in studies])
    return labels, probabilities


def _head_agreement(model: XR2Text, predictions: Predictions) -> dict[str, int]:
    """How many findings the head counts as present, and how many of them the reports assert, deny, or pass over."""
    thresholds = [model.calibration.thresholds.get(name, 0.5) for name in model.config.findings]
    seen: Counter[str | None] = Counter()
    for findings, impression, row in zip(
        predictions.findings, predictions.impressions, predictions.probabilities.tolist(), strict=True
    ):
        readings = map(FindingReading, model.config.findings, row, thresholds)
        read = read_findings(f"{findings}\n\n{impression}", readings)
        seen.update(reading.written for reading in read if reading.seen)
    return {"seen": seen.total(), "asserted": seen["present"] + seen["uncertain"], "denied": seen["absent"]}


def _example(
    study: Study, index: int, predictions: Predictions, match: plots.FindingMatch, transform: ImageTransform
) -> plots.Example:
    """A study with the region maps of its report, where there are any."""
    radiograph = study.main_image.read()
    canvas = Canvas(draw_grey(radiograph.pixels, long_side=512))
    if predictions.maps is not None:
        grid = predictions.maps[index].astype(np.float32)  # [K, H, W]
        maps = transform(radiograph)[1].map_to_original(grid, canvas.grey.shape)
        canvas = Canvas(canvas.grey, np.round(255 * maps / maps.max((1, 2), keepdims=True)).astype(np.uint8))
    return plots.Example(study.id, match, canvas, study.source_findings, predictions.findings[index])


def _write(
    out: Path, metrics: dict, page: str, studies: Sequence[Study], texts: list[str], labels: pd.DataFrame
) -> None:
    """Writes metrics.json, table.md, examples.html and predictions.csv."""
    (out / "examples.html").write_text(page, encoding="utf-8")
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / "table.md").write_text(tables.markdown_table(metrics), encoding="utf-8")
    names = {1: "{}", -1: "{} (uncertain)"}  # of the findings that a report asserts
    asserted = [[names[value].format(name) for name, value in row.dropna().items() if value] for row in labels.iloc]
    columns = ([study.id for study in studies], _findings(studies), texts, map("; ".join, asserted))
    pd.DataFrame(zip(*columns, strict=True), columns=WRITTEN).to_csv(out / "predictions.csv", index=False)
