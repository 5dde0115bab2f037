"""Fills the cache of resized images, each process its share."""

from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from xr2text.config import Config
from xr2text.data.cache import ImageCache
from xr2text.data.examples import examples_of
from xr2text.data.parallel import worker_map
from xr2text.data.study import Image
from xr2text.data.study_table import StudyTable


@dataclass(frozen=True)
class Prepared:
    """How many entries were there and how many were made, and why the others could not be."""

    kept: int
    made: int
    errors: tuple[str, ...]


def shown_images(config: Config, splits: dict[str, StudyTable]) -> list[Image]:
    """The radiographs that training, validation or evaluation shows, each once."""
    impression = config.generation.impression
    examples = [examples_of(studies, split == "train", impression) for split, studies in splits.items()]
    return list(dict.fromkeys(image for part in examples for _, image in part))


def prepare_images(
    config: Config,
    splits: dict[str, StudyTable],
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
    cache = ImageCache(Path(config.data.cache), config.model.image_size)
    images = shown_images(config, splits)
    share = images[rank * len(images) // count : (rank + 1) * len(images) // count]
    with worker_map(processes) as each:
        bar = tqdm(
            each(cache.prepare, share), "preparing", len(share), unit="image", disable=not progress, mininterval=2
        )
        outcomes = list(bar)
    kept, made = outcomes.count("kept"), outcomes.count("made")
    return Prepared(kept, made, tuple(outcome for outcome in outcomes if outcome not in ("kept", "made")))
