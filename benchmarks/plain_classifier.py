"""The findings as a plain image classifier sees them: what the model's finding head is to be measured by.

    python -m benchmarks.plain_classifier configs/iu_xray.yaml \\
        --score data.source=r2gen data.split_file=null data.tuning_fraction=0 --out benchmarks/plain_classifier.md

The config's image encoder, the mean over the frontal radiograph, dropout and one linear layer, trained on the config's
studies with their labels; then scored on the validation split, as `xr2text evaluate` scores the finding head, on
findings of one side too. `--set model.encoder.name=...` compares encoders; `--epochs` gives them equal time.
"""

import argparse
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import AutoTokenizer

from benchmarks.common import CHECKPOINT, machine, publish
from xr2text.config import Config, load_config
from xr2text.data.dataset import ReportDataset, collate
from xr2text.evaluation.clinical import score_head
from xr2text.imaging.transform import ImageTransform
from xr2text.model.encoder import ImageEncoder
from xr2text.training.data import TrainingData, load_split_studies, prepare_data
from xr2text.training.losses import findings_term
from xr2text.training.optim import average_weights

BATCH, RATE, DECAY = 32, 4e-4, 0.995
FRONTAL_IMAGES = (
    "data.segmentation=null", "model.haqt.lateral_queries=0",
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


def examples(config: Config, model: PlainClassifier) -> TrainingData:
    transform = ImageTransform(config.model.image_size, model.encoder.mean, model.encoder.std)
    return prepare_data(config, load_split_studies(config), AutoTokenizer.from_pretrained(CHECKPOINT), transform)


def train(model: PlainClassifier, data: ReportDataset, epochs: int) -> PlainClassifier:
    """Returns the average of the weights."""
    loader = DataLoader(data, BATCH, shuffle=True, collate_fn=collate, drop_last=True)
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
def score(model: PlainClassifier, data: ReportDataset) -> str:
    model.eval()
    batches = [
        (batch["finding_labels"], model(batch["pixel_values"]).sigmoid())
        for batch in DataLoader(data, BATCH, collate_fn=collate)
    ]
    labels, seen = (pd.DataFrame(torch.cat(part), columns=data.findings) for part in zip(*batches, strict=True))
    scores = score_head(labels, seen)
    if scores.mean_auc is None:
        raise SystemExit(f"no finding has {scores.min_positives} positives among the validation studies")
    lines = ["| finding | cases | AUC |", "|---|---:|---:|"]
    lines += [
        f"| {name} | {finding.positives} | {finding.auc:.3f} |"
        for name, finding in scores.findings.items()
        if finding.positives >= scores.min_positives
    ]
    return "\n".join([*lines, f"| mean | | {scores.mean_auc:.3f} |"])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a YAML file, see configs/")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of it")
    parser.add_argument("--score", nargs="+", default=[], metavar="KEY=VALUE", help="overrides for the scoring alone")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--out", type=Path, help="also write the table here")
    args = parser.parse_args(argv)
    overrides = [*args.set, *FRONTAL_IMAGES]
    config, scoring = load_config(args.config, overrides), load_config(args.config, [*overrides, *args.score])
    torch.manual_seed(config.training.seed)
    model = PlainClassifier(config)
    data = examples(config, model).train
    model = train(model, data, args.epochs)
    validation = examples(scoring, model).val
    text = f"{len(data)} radiographs, {args.epochs} epochs; {len(validation)} validation studies. {machine()}.\n\n"
    text += score(model, validation)
    publish("The findings as a plain classifier sees them", text, args.out)


if __name__ == "__main__":
    main()
