import numpy as np
import pytest
import torch

from xr2text.data.dataset import ReportDataset, collate, vary
from xr2text.data.sources import PhantomImage, Study
from xr2text.imaging.transform import ImageTransform
from xr2text.text.tokenizer import IGNORED, train_tokenizer

TRANSFORM = ImageTransform(64, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def study(name, images, findings="The heart is normal.", impression="No disease.", labels=None):
    return Study(name, name, tuple(images), findings, impression, "", "", "train", findings, labels)


STUDIES = [
    study("a", [PhantomImage(1, 64), PhantomImage(2, 64)]),
    study("b", [PhantomImage(3, 64, view="lateral")], findings="Clear lungs."),
    study("c", [PhantomImage(4, 64)], findings="", impression=""),
    study("d", [PhantomImage(5, 64), PhantomImage(6, 64, view="lateral")], impression="", labels=frozenset({"nodule"})),
]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["The heart is normal. No disease. Clear lungs."] * 4, 300)


def test_training_takes_every_frontal_image_with_a_report(tokenizer):
    data = ReportDataset(STUDIES, TRANSFORM, tokenizer, 40, training=True)
    assert [(one.id, image.seed) for one, image in data.examples] == [("a", 1), ("a", 2), ("d", 5)]


def test_evaluation_takes_every_study_once(tokenizer):
    data = ReportDataset(STUDIES, TRANSFORM, tokenizer, 40)
    assert [(one.id, image.seed) for one, image in data.examples] == [("a", 1), ("b", 3), ("c", 4), ("d", 5)]


def test_a_batch_has_the_models_shapes(tokenizer):
    data = ReportDataset(STUDIES, TRANSFORM, tokenizer, 40)
    batch = collate([data[0], data[3]])
    assert batch["pixel_values"].shape == (2, 3, 64, 64) and batch["box"].tolist() == [[0, 0, 1, 1]] * 2
    assert batch["labels"].shape[0] == 2 and (batch["labels"][1] == IGNORED).any()
    assert batch["index"].tolist() == [0, 3]


def test_finding_labels_follow_the_models_order_and_unknown_is_not_absent(tokenizer):
    data = ReportDataset(STUDIES, TRANSFORM, tokenizer, 40, findings=["edema", "nodule"])
    assert data[3]["finding_labels"].tolist() == [0, 1]
    assert data[0]["finding_labels"].isnan().all()
    assert collate([data[0], data[3]])["finding_labels"].shape == (2, 2)


def test_images_in_memory_are_the_same(tokenizer):
    plain = ReportDataset(STUDIES, TRANSFORM, tokenizer, 40)
    kept = ReportDataset(STUDIES, TRANSFORM, tokenizer, 40)
    kept.read_all(progress=False)
    for index in range(len(plain)):
        torch.testing.assert_close(plain[index]["pixel_values"], kept[index]["pixel_values"])


def test_augmentation_is_reproducible_and_changes_with_the_epoch(tokenizer):
    data = ReportDataset(STUDIES, TRANSFORM, tokenizer, 40, training=True, augment=True)
    first = data[0]["pixel_values"]
    torch.testing.assert_close(data[0]["pixel_values"], first)
    data.set_epoch(1)
    assert (data[0]["pixel_values"] - first).abs().mean() > 0.01


def test_augmentation_never_mirrors_and_never_leaves_the_picture():
    """A bright mark at the upper left stays there, and the padding stays black."""
    canvas = np.zeros((64, 64), np.float32)
    canvas[:, 8:56] = 0.3
    canvas[12:22, 14:24] = 1
    box = (8 / 64, 0.0, 56 / 64, 1.0)
    for seed in range(50):
        varied = vary(canvas, box, np.random.default_rng(seed))
        assert varied.min() >= 0 and varied.max() <= 1
        assert varied[:, :8].max() == 0 and varied[:, 56:].max() == 0
        y, x = np.nonzero(varied > 0.75 * varied.max())
        assert x.mean() < 32 and y.mean() < 32
