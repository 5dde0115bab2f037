"""Fills the cache of resized images, each process its share."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xr2text.config import Config
from xr2text.data.cache import ImageCache
from xr2text.data.examples import examples_of
from xr2text.data.parallel import on_each
from xr2text.data.study import SPLITS, Image, Study


@dataclass(frozen=True)
class Prepared:
    """How many entries were there and how many were made, and why the others could not be."""

    kept: int
    made: int
    errors: tuple[str, ...]


def shown_images(config: Config, splits: dict[str, Sequence[Study]]) -> list[Image]:
    """The radiographs that training, validation or evaluation shows, each once."""
    impression = config.generation.impression
    examples = [examples_of(splits[split], split == "train", impression) for split in SPLITS]
    return list(dict.fromkeys(image for one in examples for _, image in one))


def prepare_images(
    config: Config,
    splits: dict[str, Sequence[Study]],
    rank: int = 0,
    count: int = 1,
    processes: int = 1,
    progress: bool = True,
) -> Prepared:
    """Makes the entries that are missing or out of date; what a stopped run has made is not made again.

    Args:
        rank, count: this share among all, which may be on several machines that see the same folder.
        processes: that work on this share.
    """
    cache = ImageCache(Path(config.data.cache), config.model.image.size)
    images = shown_images(config, splits)
    own = images[rank * len(images) // count : (rank + 1) * len(images) // count]
    kept, made, errors = 0, 0, []
    for outcome in on_each(cache.prepare, own, processes, "preparing", progress):
        kept, made = kept + (outcome == "kept"), made + (outcome == "made")
        if outcome not in ("kept", "made"):
            errors.append(outcome)
    return Prepared(kept, made, tuple(errors))
