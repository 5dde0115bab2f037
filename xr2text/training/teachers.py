"""What earlier checkpoints say of the training films, for the finding head to learn beside the labels (knowledge
distillation, Hinton et al., arXiv:1503.02531).

Letters: N examples, F findings.
"""

import math
from collections.abc import Sequence

import torch
from tqdm.auto import tqdm

from xr2text.config import ConfigError
from xr2text.data.dataset import ReportDataset
from xr2text.data.study import Image, UnreadableImageError
from xr2text.model.xr2text import XR2Text

BATCH = 32


def taught_findings(
    data: ReportDataset, teachers: Sequence[str], findings: Sequence[str], share: float, progress: bool = False
) -> torch.Tensor:
    """What the finding head is to learn of each example.

    Args:
        data: whose films are shown to the teachers as they are, each once and in one size.
        teachers: checkpoint folders or hub ids.
        findings: names, in the order of `data.finding_labels`.
        share: of the teachers' mean probability; the rest is the label. Where there is no label, it is all theirs.

    Returns:
        [N, F] float32 in [0, 1].

    Raises:
        ConfigError: a teacher does not predict one of the findings.
        CheckpointError: a teacher cannot be read.
    """
    first: dict[Image, int] = {}  # films stand repeatedly
    for index, (_, image) in enumerate(data.examples):
        first.setdefault(image, index)
    total = torch.zeros(len(first), len(findings))
    for name in teachers:
        teacher = XR2Text.from_pretrained(name)
        teacher.config.finding_scales = []  # one size of each film is enough, in a third of the time
        known = list(teacher.config.findings)
        missing = [finding for finding in findings if finding not in known]
        if missing:
            raise ConfigError(f"training.teachers: {name} does not predict {missing[0]!r}")
        columns = [known.index(finding) for finding in findings]
        total += _probabilities(teacher, data, list(first.values()), progress)[:, columns]
    row = {image: number for number, image in enumerate(first)}
    said = (total / len(teachers))[[row[image] for _, image in data.examples]]
    labels = data.finding_labels
    return torch.where(labels.isnan(), said, (1 - share) * labels.nan_to_num() + share * said)


@torch.inference_mode()
def _probabilities(teacher: XR2Text, data: ReportDataset, indices: list[int], progress: bool) -> torch.Tensor:
    """[len(indices), the teacher's findings] float32, NaN for a film that cannot be read."""
    found = torch.full((len(indices), len(teacher.config.findings)), math.nan)
    starts = range(0, len(indices), BATCH)
    for start in tqdm(starts, desc="asking a teacher", disable=not progress, leave=False, mininterval=2):
        shown = {}
        for row in range(start, min(start + BATCH, len(indices))):
            try:
                shown[row] = teacher.transform(data.examples[indices[row]][1].read())
            except UnreadableImageError:
                continue  # the training leaves it out, too
        if shown:
            images = torch.stack([image for image, _ in shown.values()])
            boxes = torch.tensor([geometry.box for _, geometry in shown.values()])
            logits = teacher.see_findings(teacher.look(images, boxes), images, boxes)
            found[list(shown)] = teacher.finding_probabilities(logits)
    return found
