"""Validation after each epoch: loss, finding head, written reports and their scores; the best weights are kept.

Shapes: B batch, T tokens, N studies, F findings.
"""

import math
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from accelerate import Accelerator, DistributedType
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from xr2text.config import Config
from xr2text.data.dataset import collate
from xr2text.data.study import DataError
from xr2text.evaluation.clinical import MIN_POSITIVES, score_clinical, score_head
from xr2text.evaluation.language import score_language
from xr2text.model.checkpoint import Checkpoint
from xr2text.model.findings import UNSCALED, FindingCalibration, FindingMeasure
from xr2text.model.generate import ReportGenerator
from xr2text.model.lateral import LateralImages
from xr2text.model.xr2text import XR2Text
from xr2text.text.findings.labeler import label_reports
from xr2text.text.sections import ReportText
from xr2text.text.tokenizer import IGNORED
from xr2text.training.data import TrainingData, make_loader, progress_bar
from xr2text.training.report import Sample
from xr2text.training.state import Progress

SAMPLES = 3  # scored studies in the training report
LEAST_POSITIVES = 20  # below, a finding takes the common scaling, since its own would be chance
SCORE_DIGITS = 3  # of the score: where two epochs differ by less, the one with the lower validation loss is kept
LIKELY = 0.5  # threshold of a finding that is not assessed: present where that is more likely than not
THRESHOLDS = torch.linspace(0.02, 0.8, 79)


class Validator:
    """Validates the model, or the average of its weights, and keeps the best in RUN/best.

    Args:
        checkpoint: with the model that is trained.
        average: of its weights; None: there is none.

    Raises:
        DataError: a chosen metric cannot be computed on these validation studies.
    """

    def __init__(
        self,
        config: Config,
        data: TrainingData,
        checkpoint: Checkpoint,
        average: AveragedModel | None,
        accelerator: Accelerator,
    ):
        self.config, self.data, self.checkpoint, self.average = config, data, checkpoint, average
        self.accelerator = accelerator
        labels = data.val.finding_labels  # [N, F]
        scored = ((labels == 1).sum(0) >= MIN_POSITIVES) & (labels == 0).any(0)  # [F]
        if "finding_auc" in config.training.metric_for_best_model and not scored.any():
            raise DataError(
                f"metric_for_best_model: finding_auc needs a finding with {MIN_POSITIVES} validation studies that have "
                "it and one that does not; choose among combined, findings_f1, findings_f1_5 and epoch"
            )
        # By whether the scores choose: the studies to validate on, and those whose reports are written.
        self.loaders = {
            chooses: [make_loader(part, config, accelerator) for part in parts]
            for chooses, parts in ((True, (data.val, data.scored)), (False, data.watched))
        }

    def __call__(self, progress: Progress) -> tuple[dict[str, float], list[Sample]]:
        """Returns scores by name, of which "score" decides the best epoch, and on the main process the first scored
        studies."""
        model, settings = self._evaluated_model(), self.config.training
        model.calibration = progress.calibration
        chooses = settings.metric_for_best_model != ["epoch"] or progress.epoch == settings.total_epochs
        loader, scored_loader = self.loaders[chooses]
        loss, logits, labels = predict(model, loader, self.accelerator, settings.losses.learn_reports)
        scores = {} if loss is None else {"validation ce": loss}
        if settings.losses.findings:
            kept = None if settings.init_from is None else progress.calibration
            fitted = fit_calibration(logits, labels, self.config.model.findings, kept)
            progress.calibration = model.calibration = self.checkpoint.model.calibration = fitted
            tables = (pd.DataFrame(values, columns=self.config.model.findings) for values in (labels, logits.sigmoid()))
            auc = None if labels.isnan().all() else score_head(*tables).mean_auc
            scores["finding_auc"] = math.nan if auc is None else auc
        start = self.checkpoint
        best = Checkpoint(model, start.tokenizer, self.config.generation, self.config.name, start.card, start.held_out)
        reports = {}
        if settings.losses.learn_reports:
            reports = write_reports(best.generator, scored_loader, self.accelerator)
            scores |= self._score(reports)
        if empty := sum(not report.findings for report in reports.values()):
            self.accelerator.print(f"{empty} of {len(reports)} written reports have no findings section")
        metrics = scores | {"epoch": progress.epoch}
        scores["score"] = round(sum(metrics[name] for name in settings.metric_for_best_model), SCORE_DIGITS)
        merit = scores["score"], -(loss or 0.0)
        if merit > progress.best:
            progress.best = merit
            if self.accelerator.is_main_process:
                best.save_pretrained(Path(self.config.output) / "best")
        samples = self._samples(model, reports) if self.accelerator.is_main_process else []
        return scores, samples

    def _evaluated_model(self) -> XR2Text:
        """The model that is validated and kept: the average of the weights, or the whole model where processes share
        its weights."""
        if self.average is not None:
            return self.average.module
        if self.accelerator.distributed_type != DistributedType.FSDP:
            return self.checkpoint.model
        whole = XR2Text(self.config.model, len(self.checkpoint.tokenizer))
        options = StateDictOptions(full_state_dict=True)
        whole.load_state_dict(get_model_state_dict(self.checkpoint.model, options=options))
        return whole.to(self.accelerator.device)

    def _score(self, reports: dict[int, ReportText]) -> dict[str, float]:
        """Scores of written reports: language of the findings sections, protocol `full`, and micro-F1 of their
        findings."""
        references = [self.data.val.examples[index][0].source_findings for index in sorted(reports)]
        written = [reports[index].findings for index in sorted(reports)]
        language = score_language(references, written, "full", meteor=False).scores
        clinical = score_clinical(label_reports(references), label_reports(written))
        return {
            "bleu_4": language.bleu_4, "rouge_l": language.rouge_l, "combined": language.combined,
            "findings_f1": clinical.micro_14.f1 or 0.0, "findings_f1_5": clinical.micro_5.f1 or 0.0,
        }  # fmt: skip

    @torch.inference_mode()
    def _samples(self, model: XR2Text, reports: dict[int, ReportText]) -> list[Sample]:
        """The first scored studies with the model's maps and reports."""
        indices = sorted(self.data.scored.indices)[:SAMPLES]
        batch = collate([self.data.val[index] for index in indices])
        radiographs = self.data.val.transform.denormalise(batch["pixel_values"])  # [B, S, S]
        with self.accelerator.autocast():
            device = self.accelerator.device
            maps = model.encode_image(batch["pixel_values"].to(device), batch["box"].to(device)).region_maps
        maps = [None] * len(indices) if maps is None else maps.float().cpu().numpy()
        return [
            Sample(self.data.val.examples[index][0], radiograph.numpy(), attention, reports.get(index))
            for index, radiograph, attention in zip(indices, radiographs, maps, strict=True)
        ]


@torch.inference_mode()
def predict(
    model: XR2Text, loader: DataLoader, accelerator: Accelerator, read_reports: bool
) -> tuple[float | None, torch.Tensor | None, torch.Tensor]:
    """Runs the model over the validation studies, each counted once. Returns the mean cross-entropy per token (None
    without `read_reports`), the finding head's logits [N, F] (None without a head) and the labels [N, F]."""
    model.eval()
    sums, logits, finding_labels = [], [], []
    for batch in progress_bar(loader, "validation", accelerator):
        labels = batch["labels"] if read_reports else None
        with accelerator.autocast():
            output = model(batch["pixel_values"], batch["box"], labels, LateralImages.of(batch))
        if labels is not None:
            per_token = F.cross_entropy(
                output.logits.float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
            )  # [B, T]
            per_study = torch.stack([per_token.sum(1), (labels != IGNORED).sum(1).float()], dim=1)  # [B, 2]
            sums.append(accelerator.gather_for_metrics(per_study).sum(0))
        if output.finding_logits is not None:
            both = torch.stack([output.finding_logits.float(), batch["finding_labels"]], dim=1)  # [B, 2, F]
            both = accelerator.gather_for_metrics(both).cpu()
            logits.append(both[:, 0])
            finding_labels.append(both[:, 1])
    loss = None
    if sums:
        total, tokens = torch.stack(sums).sum(0).tolist()
        if not tokens:
            raise DataError("no validation study has a report, so there is nothing to validate on")
        loss = total / tokens
    if not logits:
        return loss, None, torch.empty(0, 0)
    return loss, torch.cat(logits), torch.cat(finding_labels)


@torch.inference_mode()
def write_reports(generator: ReportGenerator, loader: DataLoader, accelerator: Accelerator) -> dict[int, ReportText]:
    """Generates a report of each study. Returns the reports by example index, on every process."""
    generator.model.eval()
    reports: dict[int, ReportText] = {}
    for batch in progress_bar(loader, "writing reports", accelerator):
        with accelerator.autocast():
            generated = generator.generate(batch["pixel_values"], batch["box"], LateralImages.of(batch)).reports
        pairs = list(zip(batch["index"].tolist(), generated, strict=True))
        reports.update(accelerator.gather_for_metrics(pairs, use_gather_object=True))
    return reports


def fit_calibration(
    logits: torch.Tensor, labels: torch.Tensor, findings: list[str], kept: FindingCalibration | None = None
) -> FindingCalibration:
    """Fits scaling and thresholds of a finding head with logits [N, F] and labels [N, F], NaN where unknown; see
    LEAST_POSITIVES and LIKELY.

    Args:
        kept: an earlier calibration, of which stays what there are too few positives to fit anew.
    """
    common = dict(zip(findings, ((labels == 1).sum(0) >= LEAST_POSITIVES).tolist(), strict=True))
    if kept is not None and not any(common.values()):
        return kept
    shared = fit_scaling(logits, labels)
    scaling = {
        name: fit_scaling(logits[:, column], labels[:, column]) if common[name] else shared
        for column, name in enumerate(findings)
    }
    fitted = FindingCalibration(scaling)
    probabilities = fitted.probabilities(logits, findings)
    columns = list(zip(findings, probabilities.T, labels.T, strict=True))
    assessed = torch.tensor([measure_finding(*column, LIKELY).assessed for _, *column in columns])
    threshold = fit_threshold(probabilities[:, assessed], labels[:, assessed]) if assessed.any() else LIKELY
    for (name, *column), known in zip(columns, assessed, strict=True):
        fitted.thresholds[name] = threshold if known else LIKELY
        fitted.measures[name] = measure_finding(*column, fitted.thresholds[name])
    if kept is not None:
        for new, old in (
            (fitted.scaling, kept.scaling), (fitted.thresholds, kept.thresholds), (fitted.measures, kept.measures)
        ):  # fmt: skip
            new |= {name: value for name, value in old.items() if not common[name]}
    return fitted


def measure_finding(probabilities: torch.Tensor, labels: torch.Tensor, threshold: float) -> FindingMeasure:
    """How well a head knows a finding, from probabilities and labels [N], NaN where unknown. Intervals of the
    proportions are Wilson's, that of the AUC Hanley and McNeil's (Radiology 1982)."""
    positive, negative = probabilities[labels == 1], probabilities[labels == 0]

    def proportion(right: torch.Tensor) -> list[float] | None:
        if not len(right):
            return None
        interval = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
        return _rounded(right.float().mean().item(), interval.low, interval.high)

    auc = None
    if len(positive) and len(negative):
        above = (positive[:, None] > negative).sum() + (positive[:, None] == negative).sum() / 2
        area = (above / (len(positive) * len(negative))).item()
        pairs = (len(positive) - 1) * (area / (2 - area) - area**2)
        pairs += (len(negative) - 1) * (2 * area**2 / (1 + area) - area**2)
        error = 1.96 * math.sqrt((area * (1 - area) + pairs) / (len(positive) * len(negative)))
        auc = _rounded(area, max(0.0, area - error), min(1.0, area + error))
    shares = proportion(positive >= threshold), proportion(negative < threshold)
    return FindingMeasure(len(positive), len(negative), *shares, auc)


def _rounded(*values: float) -> list[float]:
    return [round(float(value), 3) for value in values]


def fit_scaling(logits: torch.Tensor, labels: torch.Tensor) -> list[float]:
    """Slope and intercept that turn logits into probabilities, fitted on labels of the same shape, NaN where unknown; 1
    and 0 where all known labels are equal."""
    known = ~labels.isnan()
    if len(labels[known].unique()) < 2:
        return list(UNSCALED)
    model = LogisticRegression().fit(logits[known][:, None].numpy(), labels[known].numpy())
    return _rounded(model.coef_.item(), model.intercept_.item())


def fit_threshold(probabilities: torch.Tensor, labels: torch.Tensor) -> float:
    """The common threshold of probabilities [N, F] with the best F0.5, in which precision weighs twice as much as
    recall (van Rijsbergen, Information Retrieval, 1979); of equals the highest."""
    known, positive = ~labels.isnan(), labels == 1
    called = (probabilities[None] >= THRESHOLDS[:, None, None]) & known  # [thresholds, N, F]
    right, called = (called & positive).sum((1, 2)), called.sum((1, 2))  # [thresholds]
    scores = 1.25 * right / (called + 0.25 * positive.sum()).clamp_min(1)
    return round(THRESHOLDS[(scores == scores.max()).nonzero().max()].item(), 2)
