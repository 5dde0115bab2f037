"""The checkpoint at the end of a run: the best weights, with a model card that states only what the run knows."""

import re
from pathlib import Path

import pandas as pd
import torch
from accelerate import Accelerator
from huggingface_hub import ModelCard

from xr2text.config import TERMS, Config, load_config
from xr2text.data.sources.layout import REPLAYED
from xr2text.model.checkpoint import Checkpoint
from xr2text.model.findings import LEAST_AUC, LEAST_CASES, FindingCalibration
from xr2text.text.sections import ReportText
from xr2text.training.data import TrainingData, make_loader
from xr2text.training.report import best_epoch, write_table
from xr2text.training.skipped import Skipped
from xr2text.training.validate import write_reports

_INDIANA = "the Indiana University (Open-i) collection, CC BY-NC-ND 4.0: these weights are not for commercial use"
_DATA = {
    "indiana": _INDIANA,
    "openi": _INDIANA,
    "mimic_cxr": "MIMIC-CXR, under the PhysioNet Credentialed Health Data License, which says who may have the weights",
    "hub": "a data set of the Hugging Face Hub; its licence applies to these weights",
    "manifest": "the trainer's data set; its licence applies to these weights",
    "r2gen": "a data set in R2Gen's layout; its licence applies to these weights",
    "phantom": "synthetic phantoms drawn by the program: this checkpoint knows nothing of real patients",
}
_LICENCE = {"indiana": "cc-by-nc-nd-4.0", "openi": "cc-by-nc-nd-4.0", "phantom": "apache-2.0"}  # else "other"
_FREE = "apache-2.0"  # this licence is replaced by that of data used later


def finish_run(config: Config, command: str, data: TrainingData, skipped: Skipped, accelerator: Accelerator) -> None:
    """Writes RUN/checkpoint, the best weights with their model card, and their validation reports. `command` is the
    command that started the run."""
    output = Path(config.output)
    checkpoint = Checkpoint.from_pretrained(output / "best")
    checkpoint.generation = config.generation  # a resumed run may have other search settings
    checkpoint.model.to(accelerator.device)
    reports = {}
    if config.training.losses.learn_reports:
        reports = write_reports(checkpoint.generator, make_loader(data.val, config, accelerator), accelerator)
    if accelerator.is_main_process:
        if reports:
            write_table(output / "validation_reports.csv", data.val, reports)
        history = pd.read_csv(output / "history.csv")
        studies = _studies(data, len(skipped.reasons))
        card = model_card(config, command, studies, history, list(reports.values()), checkpoint.model.calibration)
        checkpoint.save_pretrained(output / "checkpoint", card=checkpoint.card + card)
        print(f"checkpoint: {output / 'checkpoint'}")
        if skipped.reasons:
            print(skipped.summary(output))


def _studies(data: TrainingData, skipped: int) -> str:
    """A sentence on the training and validation studies."""
    reported = {study.id for study, _ in data.train.examples if study.findings or study.impression}
    replayed = {name for name in reported if name.startswith(REPLAYED)}
    masked = {study.id for study, _ in data.train.examples if study.masks is not None}
    labelled = {study.id for study, _ in data.train.examples} - reported - masked
    counts = {
        "for training": len(reported - replayed),
        "replayed from an earlier training": len(replayed),
        "with labels alone, for the finding head": len(labelled),
        "with masks of lungs and heart, from which the other four regions are derived": len(masked),
        "skipped, not readable or without a report": skipped,
        "for validation": len(data.val),
    }
    return "; ".join(f"{count:,} {what}" for what, count in counts.items() if count)


def findings_table(calibration: FindingCalibration) -> str:
    """How well the head knows each finding, as a Markdown table; empty where nothing was measured."""
    if not calibration.measures:
        return ""

    def cell(interval: list[float] | None) -> str:
        return "" if interval is None else "{:.2f} ({:.2f} to {:.2f})".format(*interval)

    rows = [
        f"| {name} | {measure.positives} | {cell(measure.sensitivity)} | {cell(measure.specificity)} | "
        f"{cell(measure.auc)} | {'yes' if measure.assessed else 'no'} |"
        for name, measure in sorted(calibration.measures.items(), key=lambda pair: -pair[1].positives)
    ]
    return "\n".join([
        "\n**Findings.** Measured on studies that it was not trained on, 95 % intervals. Not assessed: fewer than "
        f"{LEAST_CASES} cases, or an area under the ROC curve whose interval reaches below {LEAST_AUC}.\n",
        "| finding | cases | sensitivity | specificity | AUC | assessed |", "|---|---:|---:|---:|---:|---|", *rows, "",
    ])  # fmt: skip


def card_head(config: Config, given: Checkpoint | None) -> str:
    """The beginning of the model card of a run's checkpoints: licence, name, data and first weights.

    Args:
        given: the checkpoint whose weights are the start. Its licence, unless it is a free one, and its data are kept.
    """
    licence, data = _LICENCE.get(config.data.source, "other"), _DATA[config.data.source]
    if config.data.replay is not None:
        earlier = load_config(config.data.replay).data.source
        data += f". Replayed beside them: {_DATA[earlier]}"
        licence = _LICENCE.get(earlier, "other") if licence == _FREE else licence
    start = config.model.encoder.weights or "random weights"
    if given is not None:
        card = given.card or ""
        kept = ModelCard(card).data.license if card else None
        row = re.search(r"^\| data \| (.*) \|$", card, re.MULTILINE)
        licence = kept if kept not in (None, _FREE) else licence
        data += f". Before, for {given.name}: {row[1]}" if row else ""
        start = f"those of {given.name}, licence {kept or 'not known'}"
    return f"""---
license: {licence}
library_name: xr2text
pipeline_tag: image-to-text
tags: [radiology, chest-x-ray, report-generation]
---

# {config.name}

Writes Findings and Impression for a frontal chest radiograph and shows, for seven anatomical regions, where it looked.
Research software, not a medical device: nothing that it writes may guide the care of a patient.

## Training

| | |
|---|---|
| data | {data} |
| first weights | {start} |
"""


def model_card(
    config: Config, command: str, studies: str, history: pd.DataFrame, reports: list[ReportText],
    calibration: FindingCalibration,
) -> str:  # fmt: skip
    """The rest of the model card, after `card_head`.

    Args:
        studies: that the model was trained and validated on, in words.
        history: history.csv of the run.
        reports: the generated ones of every validation study; none where the run did not learn to write.
        calibration: of the finding head, with its measures.
    """
    training, model = config.training, config.model
    best, seconds = best_epoch(history), history["seconds"].iloc[-1]
    losses = {name: getattr(training.losses, name) for name in TERMS}
    stages = ", ".join(f"{stage.name} {stage.epochs}" for stage in training.curriculum) or "all studies in every epoch"
    written = ""
    if reports:
        sections = [report.findings for report in reports]
        written = f"""| combined: BLEU-4 + ROUGE-L, protocol full | {best["combined"]:.3f} |
| different reports / studies | {len(set(reports))} / {len(reports)} |
| different findings sections / studies | {len(set(sections))} / {len(reports)} |
| without a findings section | {sections.count("")} |
"""
    views = "A frontal and a lateral view" if model.haqt.lateral_queries else "A single frontal view, no lateral one"
    return f"""| studies | {studies} |
| model | `{model.encoder.name}` at {model.image_size} px, HAQT-ARR, {model.decoder.layers}-layer BART decoder |
| loss terms and their weights | {", ".join(f"{name} {weight:g}" for name, weight in losses.items() if weight)} |
| stages and their epochs | {stages} |
| schedule | {len(history)} epochs, the best kept; updates on {training.studies_per_update} studies of each process |
| duration | {seconds / 60:.0f} minutes of training on a {"GPU" if torch.cuda.is_available() else "CPU"} |
| command | `{command}` |

Sentences with a de-identified word ("XXXX") are left out of the training reports.

## Measured on the validation studies

| | |
|---|---|
| {" + ".join(training.metric_for_best_model)}, by which epoch {int(best["epoch"])} was chosen | {best["score"]:.3f} |
{written}{findings_table(calibration)}
The validation studies chose the epoch, so these are a little flattering. Language and clinical scores against
published systems are not part of this card.

## Limits

{views}; no comparison with earlier studies, no clinical history. A fluent sentence is no evidence that the image shows
what it says. Attention maps show where the model looked, which need not be why.
"""
