"""Phantoms: drawn by the program, no files."""

from collections.abc import Iterator

from xr2text.config import DataConfig
from xr2text.data.study import LATERAL, PhantomImage, Study
from xr2text.phantom.drawing import draw_phantom
from xr2text.phantom.text import FINDINGS

FIRST_SEED = {"train": 0, "val": 10_000_000}


def phantom_studies(config: DataConfig) -> Iterator[Study]:
    """`data.phantoms` studies for training and a tenth as many, rounded up, for validation."""
    for split, first in FIRST_SEED.items():
        count = config.phantoms if split == "train" else -(-config.phantoms // 10)
        for seed in range(first, first + count):
            phantom, images = draw_phantom(seed), (PhantomImage(seed), PhantomImage(seed, view=LATERAL))
            yield Study(
                f"phantom-{seed}", f"phantom-{seed}", images, phantom.findings_text, phantom.impression_text,
                split=split, source_findings=phantom.findings_text,
                labels={name: int(name in phantom.findings) for name in FINDINGS},
            )  # fmt: skip
