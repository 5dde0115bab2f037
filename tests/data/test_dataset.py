import cv2
import numpy as np
import pytest
import torch

from xr2text.anatomy import REGION_NAMES
from xr2text.data.dataset import ReportDataset, collate
from xr2text.data.examples import MASK_REPEATS
from xr2text.data.segmentation import OUTLINED
from xr2text.data.study import ImageFile, PhantomImage, Study, UnreadableImageError
from xr2text.data.study_table import StudyTable
from xr2text.imaging.transform import ImageTransform
from xr2text.text.tokenizer import IGNORED, train_tokenizer

TRANSFORM = ImageTransform(64, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def study(name, images, findings="The heart is normal.", impression="No disease.", labels=(), masks=None):
    return Study(name, name, tuple(images), findings, impression, labels=dict(labels), masks=masks)


STUDIES = StudyTable.of([
    study("a", [PhantomImage(1, 64), PhantomImage(2, 64)]),
    study("b", [PhantomImage(3, 64, view="lateral")], findings="Clear lungs."),
    study("c", [PhantomImage(4, 64)], findings="", impression=""),
    study("d", [PhantomImage(5, 64), PhantomImage(6, 64, "lateral")], impression="", labels={"nodule": -1, "edema": 0}),
])  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["The heart is normal. No disease. Clear lungs."] * 4, 300)


def test_findings_know_where_the_report_places_them(tokenizer):
    text = "There is a nodule in the right upper lobe. No pleural effusion. The heart may be enlarged."
    names = ["pleural effusion", "nodule", "cardiomegaly"]
    table = StudyTable.of([study("a", [PhantomImage(1, 64)], findings=text)])
    batch = collate([ReportDataset(table, TRANSFORM, tokenizer, 60, findings=names, with_finding_regions=True)[0]])
    regions = [
        [name for name, named in zip(REGION_NAMES, row, strict=True) if named] for row in batch["finding_regions"][0]
    ]
    assert regions == [[], ["right lung"], ["heart"]]
    assert not ReportDataset(table, TRANSFORM, tokenizer, 60, findings=names)[0]["finding_regions"].any()


def test_a_lateral_view_comes_with_its_study_and_is_dropped_now_and_then_in_training(tokenizer):
    data = ReportDataset(STUDIES, TRANSFORM, tokenizer, 40, with_lateral=True)
    batch = collate([data[0], data[1], data[3]])
    assert batch["lateral_pixel_values"].shape == (1, 3, 64, 64) and batch["lateral_rows"].tolist() == [2]
    lateral, _ = TRANSFORM(PhantomImage(6, 64, "lateral").read())
    torch.testing.assert_close(batch["lateral_pixel_values"][0], lateral, atol=0.01, rtol=0)
    assert "lateral_rows" not in collate([ReportDataset(STUDIES, TRANSFORM, tokenizer, 40)[3]])
    training = ReportDataset(STUDIES, TRANSFORM, tokenizer, 40, with_lateral=True, training=True)
    last, shown = len(training) - 1, []
    for epoch in range(40):
        training.set_epoch(epoch)
        shown.append(training[last]["lateral"] is not None)
    assert 15 <= sum(shown) <= 33  # of 40, of which 24 are expected


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


def test_augmentation_is_reproducible_and_changes_with_the_epoch(tokenizer):
    data = ReportDataset(STUDIES, TRANSFORM, tokenizer, 40, training=True)
    first = data[0]["pixel_values"]
    torch.testing.assert_close(data[0]["pixel_values"], first)
    data.set_epoch(1)
    assert (data[0]["pixel_values"] - first).abs().mean() > 0.01


@pytest.fixture
def outlined(tmp_path):
    """A study whose organs are bright rectangles."""
    grey = np.zeros((100, 80), np.uint8)
    files = []
    for name, (rows, columns) in {"right_lung": ((20, 70), (10, 32)), "left_lung": ((20, 70), (48, 70)),
                                  "heart": ((45, 70), (32, 55))}.items():  # fmt: skip
        mask = np.zeros_like(grey)
        mask[slice(*rows), slice(*columns)] = 255
        grey[mask > 0] = 200
        files.append(tmp_path / f"{name}.png")
        cv2.imwrite(str(files[-1]), mask)
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    image = ImageFile(tmp_path / "grey.png", "frontal")
    return study("outlined", [image], findings="", impression="", masks=tuple(files))


def test_outlined_regions_become_targets_that_move_with_the_image(tokenizer, outlined):
    data = ReportDataset(StudyTable.of([*STUDIES, outlined]), TRANSFORM, tokenizer, 40, grid=(16, 16), training=True)
    assert [shown.id for shown, _ in data.examples].count("outlined") == MASK_REPEATS
    assert data[0]["segmentation_targets"].isnan().all() and data[len(data) - 1]["labels"] == []
    seen = []
    for epoch in range(6):
        data.set_epoch(epoch)
        example = data[len(data) - 1]
        targets = example["segmentation_targets"]
        torch.testing.assert_close(targets.sum((1, 2)), torch.ones(7))
        grey = TRANSFORM.denormalise(example["pixel_values"])
        bright = torch.nn.functional.adaptive_avg_pool2d((grey > 0.5 * grey.max())[None].float(), 16)[0]
        organs = targets[[REGION_NAMES.index(name) for name in OUTLINED]].sum(0)
        around = torch.nn.functional.max_pool2d(bright[None], 3, stride=1, padding=1)[0]
        assert organs[bright > 0.9].min() > 0 and organs[around == 0].max() == 0
        seen.append(organs)
    assert any((organs - seen[0]).abs().max() > 1e-3 for organs in seen[1:])
    batch = collate([data[0], data[len(data) - 1]])
    assert batch["segmentation_targets"].shape == (2, 7, 16, 16) and (batch["labels"][1] == IGNORED).all()


def test_the_longest_examples_are_those_that_can_be_read(tokenizer, tmp_path):
    texts = ["Clear lungs.", "Clear lungs. The heart is normal.", "Clear lungs. " * 9]
    images = [PhantomImage(1, 64), PhantomImage(2, 64), ImageFile(tmp_path / "missing.png")]
    studies = [study(str(number), [images[number]], text) for number, text in enumerate(texts)]
    data = ReportDataset(StudyTable.of(studies), TRANSFORM, tokenizer, 60)
    assert [example["index"] for example in data.longest_examples(3)] == [1, 0, 1]
    counts = data.token_counts()
    assert counts[:2] == [len(data[index]["labels"]) for index in (0, 1)] and counts[2] == max(counts)
    with pytest.raises(UnreadableImageError, match=r"missing\.png"):
        data[2]
    assert "skipped" not in collate([data[0]])
    assert collate([data[0] | {"skipped": {2: "gone"}}])["skipped"] == {2: "gone"}
