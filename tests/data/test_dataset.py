import cv2
import numpy as np
import pytest
import torch

from xr2text.anatomy import REGION_NAMES
from xr2text.data.dataset import ReportDataset, collate, vary
from xr2text.data.segmentation import OUTLINED
from xr2text.data.sources import ImageFile, PhantomImage, Study
from xr2text.imaging.transform import ImageTransform
from xr2text.text.tokenizer import IGNORED, train_tokenizer

TRANSFORM = ImageTransform(64, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def study(name, images, findings="The heart is normal.", impression="No disease.", labels=(), masks=None):
    labels = dict(labels)
    return Study(name, name, tuple(images), findings, impression, "", "", "train", findings, labels, masks)


STUDIES = [
    study("a", [PhantomImage(1, 64), PhantomImage(2, 64)]),
    study("b", [PhantomImage(3, 64, view="lateral")], findings="Clear lungs."),
    study("c", [PhantomImage(4, 64)], findings="", impression=""),
    study(
        "d",
        [PhantomImage(5, 64), PhantomImage(6, 64, view="lateral")],
        impression="",
        labels={"nodule": -1, "edema": 0},
    ),
]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["The heart is normal. No disease. Clear lungs."] * 4, 300)


def test_training_takes_every_frontal_image_with_a_report(tokenizer):
    data = ReportDataset(STUDIES, TRANSFORM, tokenizer, 40, training=True)
    assert [(one.id, image.seed) for one, image in data.examples] == [("a", 1), ("a", 2), ("d", 5)]


def test_tokens_know_the_regions_that_their_sentence_speaks_of(tokenizer):
    text = "The heart is normal. Clear lungs."
    data = ReportDataset([study("a", [PhantomImage(1, 64)], findings=text)], TRANSFORM, tokenizer, 60, grounded=True)
    batch = collate([data[0], ReportDataset(STUDIES, TRANSFORM, tokenizer, 60)[0]])
    regions = batch["token_regions"]
    assert regions.shape == (*batch["labels"].shape, 7) and not regions[1].any()
    words = {
        tuple(name for name, one in zip(REGION_NAMES, row, strict=True) if one): tokenizer.decode(
            batch["labels"][0][(regions[0] == row).all(-1) & (batch["labels"][0] != IGNORED)]
        )
        for row in regions[0].unique(dim=0)
    }
    assert words["heart",].strip() == "The heart is normal."
    assert words["right lung", "left lung"].strip() == "Clear lungs."
    assert "No disease." in words[()] and len(words) == 3


def test_findings_know_where_the_report_places_them(tokenizer):
    text = "There is a nodule in the right upper lobe. No pleural effusion. The heart may be enlarged."
    names = ["pleural effusion", "nodule", "cardiomegaly"]
    one = study("a", [PhantomImage(1, 64)], findings=text)
    batch = collate([ReportDataset([one], TRANSFORM, tokenizer, 60, findings=names, placed=True)[0]])
    places = batch["finding_places"][0]
    told = [[name for name, there in zip(REGION_NAMES, row, strict=True) if there] for row in places]
    assert told == [[], ["right lung"], ["heart"]]
    assert not ReportDataset([one], TRANSFORM, tokenizer, 60, findings=names)[0]["finding_places"].any()


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
    assert data[3]["finding_labels"].tolist() == [0, 1]  # uncertain counts as present
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
        varied, _ = vary(canvas, box, np.random.default_rng(seed))
        assert varied.min() >= 0 and varied.max() <= 1
        assert varied[:, :8].max() == 0 and varied[:, 56:].max() == 0
        y, x = np.nonzero(varied > 0.75 * varied.max())
        assert x.mean() < 32 and y.mean() < 32


@pytest.fixture
def outlined(tmp_path):
    """A film whose organs are bright rectangles, and its study."""
    film = np.zeros((100, 80), np.uint8)
    files = []
    for name, (rows, columns) in {"right_lung": ((20, 70), (10, 32)), "left_lung": ((20, 70), (48, 70)),
                                  "heart": ((45, 70), (32, 55))}.items():  # fmt: skip
        mask = np.zeros_like(film)
        mask[slice(*rows), slice(*columns)] = 255
        film[mask > 0] = 200
        files.append(tmp_path / f"{name}.png")
        cv2.imwrite(str(files[-1]), mask)
    cv2.imwrite(str(tmp_path / "film.png"), film)
    image = ImageFile(tmp_path / "film.png", "frontal")
    return study("outlined", [image], findings="", impression="", masks=tuple(files))


def test_outlined_regions_become_targets_that_move_with_the_image(tokenizer, outlined):
    data = ReportDataset(
        [*STUDIES, outlined], TRANSFORM, tokenizer, 40, grid=(16, 16), mask_repeats=3, training=True, augment=True
    )
    assert [one.id for one, _ in data.examples].count("outlined") == 3
    assert data[0]["region_targets"].isnan().all() and data[len(data) - 1]["labels"] == []
    seen = []
    for epoch in range(6):
        data.set_epoch(epoch)
        example = data[len(data) - 1]
        targets = example["region_targets"]
        torch.testing.assert_close(targets.sum((1, 2)), torch.ones(7))
        grey = TRANSFORM.denormalise(example["pixel_values"])
        bright = torch.nn.functional.adaptive_avg_pool2d((grey > 0.5 * grey.max())[None].float(), 16)[0]
        organs = targets[[REGION_NAMES.index(name) for name in OUTLINED]].sum(0)
        around = torch.nn.functional.max_pool2d(bright[None], 3, stride=1, padding=1)[0]
        assert organs[bright > 0.9].min() > 0 and organs[around == 0].max() == 0
        seen.append(organs)
    assert any((one - seen[0]).abs().max() > 1e-3 for one in seen[1:])
    batch = collate([data[0], data[len(data) - 1]])
    assert batch["region_targets"].shape == (2, 7, 16, 16) and (batch["labels"][1] == IGNORED).all()
