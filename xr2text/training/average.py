"""One checkpoint out of several of one model: the mean of their weights."""

from collections.abc import Sequence
from pathlib import Path

import torch

from xr2text.config import ConfigError
from xr2text.model.xr2text import XR2Text


@torch.no_grad()
def average_checkpoints(folders: Sequence[str | Path]) -> XR2Text:
    """A model soup (Wortsman et al., ICML 2022): of runs from the same start, the mean is often better than each.

    Everything but the weights is the first one's: its settings, the finding head's calibration, tokenizer and search.

    Raises:
        ConfigError: there is one folder alone, or a checkpoint is of another model than the first.
        CheckpointError: a checkpoint cannot be read.
    """
    if len(folders) < 2:
        raise ConfigError("an average needs at least 2 checkpoints")
    first, *others = (XR2Text.from_pretrained(folder) for folder in folders)
    weights, vocabulary = first.state_dict(), first.tokenizer.get_vocab()
    shapes = {name: value.shape for name, value in weights.items()}
    for folder, other in zip(folders[1:], others, strict=True):
        same = (
            list(other.config.findings.items()) == list(first.config.findings.items())
            and other.config.image == first.config.image
            and other.tokenizer.get_vocab() == vocabulary
            and {name: value.shape for name, value in other.state_dict().items()} == shapes
        )
        if not same:
            raise ConfigError(f"{folder} is of another model than {folders[0]}: they have no common average")
    every = [weights, *(other.state_dict() for other in others)]
    first.load_state_dict({  # whole, since some weights stand under several names
        name: torch.stack([one[name] for one in every]).mean(0) if value.is_floating_point() else value
        for name, value in weights.items()
    })  # fmt: skip
    return first
