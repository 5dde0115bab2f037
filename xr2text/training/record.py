"""What a run keeps and shows of each epoch: scores, the best checkpoint, history, samples, trackers."""

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import psutil
import torch
from accelerate import Accelerator, DistributedType
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.utils.data import DataLoader

from xr2text.config import Config, save_config
from xr2text.data.curriculum import Stage
from xr2text.data.dataset import collate
from xr2text.data.sources import DataError
from xr2text.evaluation.clinical import score_clinical
from xr2text.evaluation.language import score_language
from xr2text.model.xr2text import XR2Text
from xr2text.text.findings.labeler import label_reports
from xr2text.text.sections import ReportText
from xr2text.training.calibration import fit_temperature, fit_thresholds, mean_auc
from xr2text.training.data import TrainingData
from xr2text.training.history import append_history, append_samples
from xr2text.training.loop import EpochResult, validate, write_reports
from xr2text.training.optim import WeightAverage
from xr2text.training.report import Sample, write_training_report
from xr2text.training.state import Progress

SCORE_PROTOCOL = "full"


def start_output(config: Config, data: TrainingData, accelerator: Accelerator) -> None:
    """The run's folder with its resolved settings and tokenizer; opens the trackers."""
    output = Path(config.output)
    if accelerator.is_main_process:
        output.mkdir(parents=True, exist_ok=True)
        save_config(config, output / "config.yaml")
        data.tokenizer.save_pretrained(str(output / "tokenizer"))
    if config.training.trackers:
        logs = {"wandb": {"dir": str(output / "trackers")}}  # it would write into the working folder
        accelerator.init_trackers(config.name, config=shown_settings(config), init_kwargs=logs)


def shown_settings(config: Config) -> dict[str, str | float]:
    """Every setting that says nothing of this machine's folders, by its dotted name, for the trackers."""
    flat = pd.json_normalize(asdict(config)).iloc[0].to_dict()
    places = ("output", "data.root", "data.split_file", "data.cache", "training.start_from", "model.encoder.weights",
              "model.decoder.weights")  # fmt: skip
    return {
        name: value if isinstance(value, int | float | str) else str(value)
        for name, value in flat.items()
        if name not in places
    }


def peak_memory() -> float:
    """GiB that this process has held at most: of the GPU where there is one, else of the machine."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset / 2**30
    import resource  # Windows has none

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**30


def restore_calibration(model: XR2Text, progress: Progress) -> None:
    """The finding head's temperature and thresholds as the last validation fitted them."""
    model.config.finding_temperature, model.config.finding_thresholds = progress.temperature, dict(progress.thresholds)


class RunRecord:
    """Validates after each epoch and writes down and draws what it came to.

    Args:
        model: under training; validated with its average's weights where there is one.
    """

    def __init__(
        self,
        config: Config,
        data: TrainingData,
        model: XR2Text,
        average: WeightAverage,
        loaders: tuple[DataLoader, DataLoader],
        accelerator: Accelerator,
    ):
        self.config, self.data, self.model, self.average = config, data, model, average
        self.val_loader, self.scored_loader = loaders
        self.accelerator, self.output = accelerator, Path(config.output)
        self.reference_labels: pd.DataFrame | None = None

    def validate(self, progress: Progress) -> dict[str, float]:
        """Loss per token, and BLEU-4, ROUGE-L and their sum; the best epoch's weights are kept."""
        started = time.monotonic()
        with self._evaluated() as model:
            loss, logits, labels = validate(model, self.val_loader, self.accelerator)
            found = self._calibrate(model, progress, logits, labels)
            self.reports = write_reports(model, self.scored_loader, self.accelerator)
            scores = self._language(self.reports) | self._clinical(self.reports) | found
            score = sum(scores[name] for name in self.config.training.best_by)
            self.samples = self._samples(model) if self.accelerator.is_main_process else []
            if score > progress.best_score:
                progress.best_score, progress.best_combined = score, scores["combined"]
                progress.best_epoch = progress.epoch
                if self.accelerator.is_main_process:
                    model.save_pretrained(self.output / "best")
        progress.validation_seconds = time.monotonic() - started
        return {"validation tokens": loss, "score": score, **scores}

    def _calibrate(
        self, model: XR2Text, progress: Progress, logits: torch.Tensor | None, labels: torch.Tensor
    ) -> dict[str, float]:
        """Fits the finding head's temperature and thresholds, with which this epoch's reports are written."""
        if logits is None or not self.config.training.losses.findings:
            return {}
        progress.temperature = fit_temperature(logits, labels)
        probabilities = (logits / progress.temperature).sigmoid()
        progress.thresholds = fit_thresholds(probabilities, labels, list(model.config.findings))
        restore_calibration(model, progress)
        restore_calibration(self.model, progress)
        auc = mean_auc(logits, labels)
        if math.isnan(auc) and "finding_auc" in self.config.training.best_by:
            raise DataError("training.best_by: finding_auc needs a finding that 15 validation studies have")
        return {"finding_auc": auc}

    def _clinical(self, reports: dict[int, ReportText]) -> dict[str, float]:
        """Micro-F1 of the findings that the reports assert, over CheXpert's 14 and over 5 of them."""
        if self.reference_labels is None:
            texts = [self.data.val.examples[index][0].source_findings for index in sorted(reports)]
            self.reference_labels = label_reports(texts)
        written = label_reports([reports[index].findings for index in sorted(reports)])
        score = score_clinical(self.reference_labels, written)
        return {"findings_f1": score.micro_14.f1 or 0.0, "findings_f1_5": score.micro_5.f1 or 0.0}

    @contextmanager
    def _evaluated(self) -> Iterator[XR2Text]:
        """The model as it is validated and kept: with its average's weights, or gathered where processes share them."""
        if self.accelerator.distributed_type == DistributedType.FSDP:
            whole = XR2Text(self.config.model, self.data.tokenizer, self.config.generation, self.config.name)
            options = StateDictOptions(full_state_dict=True)
            whole.load_state_dict(get_model_state_dict(self.model, options=options))
            yield whole.to(self.accelerator.device)
        else:
            with self.average.applied_to(self.model):
                yield self.model

    def _samples(self, model: XR2Text) -> list[Sample]:
        """The first scored studies with what the model makes of them now."""
        indices = sorted(self.reports)[: self.config.training.sample_reports]
        if not indices:
            return []
        batch = collate([self.data.val[index] for index in indices])
        pixels = self.data.val.transform.denormalise(batch["pixel_values"])
        with torch.inference_mode(), self.accelerator.autocast():
            device = self.accelerator.device
            visual = model.look(batch["pixel_values"].to(device), batch["box"].to(device))
        samples = []
        for place, index in enumerate(indices):
            study = self.data.val.examples[index][0]
            maps = None if visual.region_maps is None else visual.region_maps[place].float().cpu().numpy()
            samples.append(Sample(study.id, pixels[place].numpy(), maps, study.report, self.reports[index]))
        return samples

    def _language(self, reports: dict[int, ReportText]) -> dict[str, float]:
        examples = self.data.val.examples
        references = [examples[index][0].source_findings for index in sorted(reports)]
        written = [reports[index].findings for index in sorted(reports)]
        scores = score_language(references, written, SCORE_PROTOCOL, meteor=False).scores
        return {"bleu_4": scores.bleu_4, "rouge_l": scores.rouge_l, "combined": scores.combined}

    def write(self, progress: Progress, stage: Stage, result: EpochResult, scores: dict[str, float]) -> None:
        """History, sample reports and trackers, on the main process."""
        train = {name if name.startswith("region ") else f"train {name}": value for name, value in result.means.items()}
        shown = {name: value for name, value in {**train, **scores}.items() if not name.startswith("region ")}
        text = ", ".join(f"{name} {value:.4f}" for name, value in shown.items())
        self.accelerator.print(f"epoch {progress.epoch} ({stage.name}): {text}")
        row = {"epoch": progress.epoch, "stage": stage.name, **train, **scores, "seconds": round(progress.seconds, 1),
               "samples_per_second": round(result.samples_per_second, 2),
               "peak_memory_gib": round(peak_memory(), 3)}  # fmt: skip
        numbers = {name.replace(" ", "/", 1): value for name, value in row.items() if isinstance(value, float)}
        self.accelerator.log(numbers, step=progress.epoch)
        if self.accelerator.is_main_process:
            history = append_history(self.output / "history.csv", row)
            append_samples(self.output / "samples.md", progress.epoch, self.samples)
            stages = self.data.curriculum.stages
            write_training_report(self.output, self.config.name, history, stages, self.samples)
