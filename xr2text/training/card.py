"""The model card of a finished training: what the run itself knows, nothing more."""

import torch

from xr2text.config import Config
from xr2text.data.dataset import ReportDataset
from xr2text.text.sections import ReportText
from xr2text.training.losses import TERMS
from xr2text.training.state import Progress

_INDIANA = (
    "the Indiana University (Open-i) chest X-ray collection, whose licence is CC BY-NC-ND 4.0: "
    "these weights are for research, not for commercial use"
)
_DATA = {
    "indiana": _INDIANA,
    "openi": _INDIANA,
    "mimic_cxr": (
        "MIMIC-CXR, under the PhysioNet Credentialed Health Data License: who may have these weights is for those to "
        "ask who signed it"
    ),
    "hub": "a data set in the form of the Hugging Face Hub; its licence applies to these weights",
    "manifest": "a data set of one's own; its licence applies to these weights",
    "r2gen": "a data set in R2Gen's layout; its licence applies to these weights",
    "phantom": "synthetic phantoms drawn by the program: this checkpoint knows nothing of real patients",
}
_LICENCE = {"indiana": "cc-by-nc-nd-4.0", "openi": "cc-by-nc-nd-4.0", "phantom": "apache-2.0"}  # else "other"


def model_card(
    config: Config,
    command: str,
    train_data: ReportDataset,
    val_data: ReportDataset,
    reports: dict[int, ReportText],
    progress: Progress,
    device: torch.device,
) -> str:
    """README.md of a checkpoint.

    Args:
        command: that the run was started with.
        reports: generated for every validation study.
    """
    training, encoder = config.training, config.model.encoder
    start = f"`{encoder.weights}`" if encoder.weights else "random weights"
    if training.start_from is not None:
        start = "the best weights of an earlier phase" + (", the encoder frozen" if encoder.frozen else "")
    weights = {name: getattr(training.losses, name) for name in TERMS}
    losses = ", ".join(f"{name} {weight:g}" for name, weight in weights.items() if weight)
    stages = ", ".join(f"{stage.name} {stage.epochs}" for stage in training.curriculum) or "one, with every study"
    layers = config.model.decoder.layers
    model = f"`{encoder.name}` at {config.model.image.size} px from {start}, HAQT-ARR, {layers}-layer BART decoder"
    shown = [study for study, _ in train_data.examples]
    reported = [study for study in shown if study.report != ReportText("", "")]
    trained = len({study.id for study in reported})
    counts = f"{trained} for training ({len(reported)} frontal radiographs), {len(val_data)} for validation"
    films = len({study.id for study in shown if study.report == ReportText("", "") and study.masks is None})
    outlined = len({study.id for study in shown if study.masks is not None})
    further = ""
    if films:
        further += (
            f"\n| further films | {films} with labels of findings and without reports: they teach the finding head |"
        )
    if outlined:
        further += (
            f"\n| outlined films | {outlined} with outlines of lungs and heart, over which attention was drawn; the "
            "places of the other four regions are derived from these by rule |"
        )
    if progress.left_out:
        further += (
            f"\n| left out | {len(progress.left_out)} radiographs or studies: not readable, or without a report |"
        )
    others = sum(not study.frontal_images for study, _ in val_data.examples)
    other_views = f", {others} of them on a lateral view for want of a frontal one" if others else ""
    return f"""---
license: {_LICENCE.get(config.data.source, "other")}
library_name: xr2text
pipeline_tag: image-to-text
tags: [radiology, chest-x-ray, report-generation]
---

# {config.name}

Writes Findings and Impression for one frontal chest radiograph and shows, for seven anatomical regions, where it
looked. Research software, not a medical device: nothing that it writes may guide the care of a patient.

## Training

| | |
|---|---|
| data | {_DATA[config.data.source]} |
| studies | {counts}{other_views} |{further}
| model | {model} |
| loss terms and their weights | {losses} |
| stages | {stages} |
| schedule | {progress.epoch} epochs, the best kept, batch {training.batch_size}, accumulation {training.accumulation} |
| duration | {progress.seconds / 60:.0f} minutes of training on {"a GPU" if device.type == "cuda" else "a CPU"} |
| command | `{command}` |

Sentences with a de-identified word ("XXXX") are left out of the training reports.

## Measured on the validation studies

| | |
|---|---|
| {" + ".join(training.best_by)} by which epoch {progress.best_epoch} was chosen | {progress.best_score:.3f} |
| combined: BLEU-4 + ROUGE-L, protocol full | {progress.best_combined:.3f} |
| different reports / studies | {len(set(reports.values()))} / {len(reports)} |
| different findings texts / studies | {len({report.findings for report in reports.values()})} / {len(reports)} |
| reports with "XXXX" | {sum("xxxx" in f"{one.findings} {one.impression}".lower() for one in reports.values())} |

The validation studies chose the epoch, so these are a little flattering. Language and clinical scores against
published systems are not part of this card.

## Limits

One frontal view; no comparison with earlier studies, no lateral view, no clinical history. A fluent sentence is no
evidence that the image shows what it says. Attention maps show where the model looked, which need not be why.
"""
