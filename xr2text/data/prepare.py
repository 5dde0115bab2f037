"""Fills the image cache; several processes share the work."""

from pathlib import Path
from typing import NamedTuple

from tqdm.auto import tqdm

from xr2text.config import Config
from xr2text.data.cache import ImageCache
from xr2text.data.examples import examples_of
from xr2text.data.study_table import StudyTable
from xr2text.parallel import worker_map


class Prepared(NamedTuple):
    """Number of entries kept and made, and the errors of the images that could not be read."""

    kept: int
    made: int
    errors: list[str]


def prepare_images(
    config: Config,
    splits: dict[str, StudyTable],
    rank: int = 0,
    count: int = 1,
    processes: int = 1,
    progress: bool = True,
) -> Prepared:
    """Makes the cache entries, where missing or out of date, of all radiographs that training, validation or evaluation
    show. What a stopped run has made is not made again.

    Args:
        rank, count: this share among all, which may be on several machines that see the same folder.
        processes: that work on this share.
    """
    cache, impression = ImageCache(Path(config.data.cache), config.model.image_size), config.generation.impression
    examples = [examples_of(studies, split == "train", impression) for split, studies in splits.items()]
    pairs = [pair for part in examples for pair in part]
    images = [image for _, image in pairs]
    if config.model.haqt.lateral_queries:
        images += [lateral for study, _ in pairs if (lateral := study.lateral_image) is not None]
    images = list(dict.fromkeys(images))
    share = images[rank * len(images) // count : (rank + 1) * len(images) // count]
    with worker_map(processes) as each:
        bar = tqdm(each(cache.prepare, share), "preparing", len(share), unit="image", disable=not progress)
        outcomes = list(bar)
    errors = [outcome for outcome in outcomes if outcome not in ("kept", "made")]
    return Prepared(outcomes.count("kept"), outcomes.count("made"), errors)
