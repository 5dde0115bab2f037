"""The findings as a plain image classifier sees them: what the model's finding head is to be measured by.

    python -m benchmarks.plain_classifier configs/iu_xray.yaml \\
        --score data.source=r2gen data.split_file=null data.tuning_fraction=0 --out benchmarks/plain_classifier.md

The config's image encoder, the mean over the frontal radiograph, dropout and one linear layer, trained on the config's
studies with their labels; then scored on the validation split, as `xr2text evaluate` scores the finding head, on
findings of one side too. `--set model.encoder.name=...` compares encoders; `--epochs` gives them equal time.
`--uncertain` says what a finding that a report has as uncertain is to the training, `--repeat` shows studies with rare
findings more often.

Shapes: B batch, E examples, F findings, S image side.
"""

import argparse
import math
from pathlib import Path
from statistics import fmean

import pandas as pd
import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, WeightedRandomSampler
from tqdm.auto import tqdm
from transformers import AutoTokenizer

from benchmarks.common import CHECKPOINT, machine, publish
from xr2text.config import Config, load_config
from xr2text.data.dataset import ReportDataset, collate
from xr2text.evaluation.clinical import score_head
from xr2text.imaging.transform import ImageTransform
from xr2text.model.encoder import ImageEncoder
from xr2text.training.data import load_split_studies, prepare_data
from xr2text.training.losses import findings_term
from xr2text.training.optim import average_weights

BATCH, RATE, DECAY = 32, 4e-4, 0.995
UNCERTAIN = {"present": 1.0, "half": 0.5, "unknown": torch.nan}  # labels of an uncertain finding
FRONTAL_IMAGES = (
    "data.segmentation=null", "model.haqt.lateral_queries=0", "training.recombined=0",
    *(f"training.losses.{term}=0" for term in ("mask_kl", "soft_iou", "occlusion")),
)  # fmt: skip


class PlainClassifier(nn.Module):
    """Images [B, 3, S, S] -> logits [B, F]."""

    def __init__(self, config: Config):
        super().__init__()
        self.encoder = ImageEncoder(config.model.encoder, config.model.image_size)
        self.encoder.load_pretrained()
        self.dropout = nn.Dropout(0.2)
        self.classify = nn.Linear(self.encoder.pooled_width, len(config.model.findings))

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.classify(self.dropout(self.encoder(pixel_values)[1]))


def examples(config: Config, model: PlainClassifier, split: str) -> tuple[ReportDataset, torch.Tensor]:
    """The examples of "train" or "val", and their labels [E, F]: 1 present, 0 absent, -1 uncertain, NaN unknown."""
    transform = ImageTransform(config.model.image_size, model.encoder.mean, model.encoder.std)
    studies = load_split_studies(config)
    prepared = prepare_data(config, studies, AutoTokenizer.from_pretrained(CHECKPOINT), transform)
    data = prepared.train if split == "train" else prepared.val
    return data, torch.from_numpy(studies[split].labels(config.model.findings)[data.examples.rows])


def repeat_factors(labels: torch.Tensor, threshold: float) -> torch.Tensor:
    """[E], how often each example is shown (repeat factor sampling, Gupta et al., "LVIS", CVPR 2019): the root of
    `threshold` over the frequency of its rarest finding, and at least once."""
    positive = labels.nan_to_num().abs() > 0
    factors = (threshold / positive.float().mean(0).clamp_min(1 / len(labels))).sqrt().clamp_min(1)  # [F]
    return torch.where(positive, factors, 1.0).amax(1)


def train(model: PlainClassifier, data: ReportDataset, epochs: int, repeats: torch.Tensor) -> PlainClassifier:
    """Trains the model. Returns the average of the weights.

    Args:
        repeats: [E], how often each example is shown against the others; an epoch is as long whatever they are.
    """
    alike = bool((repeats == 1).all())
    sampler = None if alike else WeightedRandomSampler(repeats.tolist(), len(data))
    loader = DataLoader(data, BATCH, shuffle=alike, sampler=sampler, collate_fn=collate, drop_last=True)
    optimizer = AdamW([parameter for parameter in model.parameters() if parameter.requires_grad], RATE)
    schedule = OneCycleLR(optimizer, RATE, total_steps=epochs * len(loader), pct_start=0.1)
    average = average_weights(model, DECAY, optimizer)
    for epoch in range(epochs):
        data.set_epoch(epoch)
        model.train()
        for batch in tqdm(loader, desc=f"epoch {epoch + 1}/{epochs}"):
            logits = model(batch["pixel_values"])[None]  # of a single answer
            given = torch.ones(logits.shape[:2], dtype=torch.bool)
            total, count = findings_term(logits, given, batch["finding_labels"])
            optimizer.zero_grad()
            (total / count).backward()
            optimizer.step()
            schedule.step()
    return average.module


@torch.inference_mode()
def score(model: PlainClassifier, data: ReportDataset, labels: torch.Tensor) -> str:
    model.eval()
    seen = [model(batch["pixel_values"]).sigmoid() for batch in DataLoader(data, BATCH, collate_fn=collate)]
    tables = (pd.DataFrame(values, columns=data.findings) for values in (labels, torch.cat(seen)))
    scores = score_head(*tables)
    if scores.mean_auc is None:
        raise SystemExit(f"no finding has {scores.min_positives} positives among the validation studies")
    scored = {name: found for name, found in scores.findings.items() if found.positives >= scores.min_positives}
    lines = ["| finding | cases | AUC | AUC, certain |", "|---|---:|---:|---:|"]
    certain = {name: found.certain_auc for name, found in scored.items() if found.certain_auc is not None}
    for name, found in scored.items():
        lines.append(f"| {name} | {found.positives} | {found.auc:.3f} | {certain.get(name, math.nan):.3f} |")
    certain = fmean(certain.values()) if certain else math.nan
    return "\n".join([*lines, f"| mean | | {scores.mean_auc:.3f} | {certain:.3f} |"])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a YAML file, see configs/")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of it")
    parser.add_argument("--score", nargs="+", default=[], metavar="KEY=VALUE", help="overrides for the scoring alone")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--uncertain", choices=UNCERTAIN, default="present")
    parser.add_argument(
        "--repeat", type=float, default=0.0, metavar="F", help="studies with findings rarer than this; 0: all alike"
    )
    parser.add_argument("--out", type=Path, help="also write the table here")
    args = parser.parse_args(argv)
    overrides = [*args.set, *FRONTAL_IMAGES]
    config, scoring = load_config(args.config, overrides), load_config(args.config, [*overrides, *args.score])
    torch.manual_seed(config.training.seed)
    model = PlainClassifier(config)
    data, labels = examples(config, model, "train")
    data.finding_labels[labels == -1] = UNCERTAIN[args.uncertain]
    model = train(model, data, args.epochs, repeat_factors(labels, args.repeat))
    validation, truth = examples(scoring, model, "val")
    text = f"{len(data)} radiographs, {args.epochs} epochs; {len(validation)} validation studies. {machine()}.\n\n"
    text += score(model, validation, truth)
    publish("The findings as a plain classifier sees them", text, args.out)


if __name__ == "__main__":
    main()
