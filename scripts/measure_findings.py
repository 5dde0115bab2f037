"""Measures how well a checkpoint's finding head knows each finding, on the validation studies of a data set:

    python -m scripts.measure_findings checkpoints/xr2text-iu --set data.source=r2gen data.root=data/iu_xray

Writes it into the checkpoint and prints the table of its model card. Thresholds and temperature stay as they are. A
training measures on what it validated on; this is for studies that it has not seen.
"""

import argparse

from accelerate import Accelerator
from torch.utils.data import DataLoader

from xr2text.config import layout_config
from xr2text.data.dataset import ReportDataset, collate
from xr2text.data.sources import load_studies
from xr2text.model.checkpoint import Checkpoint
from xr2text.training.card import findings_table
from xr2text.training.validate import measure_finding, predict


def measure(checkpoint: Checkpoint, overrides: list[str]) -> None:
    """Puts the measures into the checkpoint's calibration.

    Args:
        overrides: settings of `data`, as dotted overrides.

    Raises:
        ConfigError, DataError: as the settings or the data set have it.
    """
    model, names = checkpoint.model, checkpoint.model.config.findings
    studies = load_studies(layout_config(overrides).data, names)["val"]
    examples = ReportDataset(
        studies, model.transform, checkpoint.tokenizer, checkpoint.generation.max_tokens, findings=names,
        with_lateral=model.lateral is not None,
    )  # fmt: skip
    accelerator = Accelerator()
    model.to(accelerator.device)
    _, logits, labels = predict(model, accelerator.prepare(DataLoader(examples, 16, collate_fn=collate)), accelerator)
    probabilities, thresholds = model.calibration.probabilities(logits), model.calibration.thresholds
    model.calibration.measures = {
        name: measure_finding(probabilities[:, column], labels[:, column], thresholds.get(name, 0.5))
        for column, name in enumerate(names)
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure how well a checkpoint knows each finding.")
    parser.add_argument("checkpoint", help="its folder")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="e.g. data.source=r2gen")
    args = parser.parse_args(argv)
    checkpoint = Checkpoint.from_pretrained(args.checkpoint)
    measure(checkpoint, args.set)
    checkpoint.save_pretrained(args.checkpoint, card=checkpoint.card)
    print(findings_table(checkpoint.model.calibration))


if __name__ == "__main__":
    main()
