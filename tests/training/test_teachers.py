import pytest
import torch

from xr2text.config import ConfigError
from xr2text.data.dataset import ReportDataset
from xr2text.data.sources import PhantomImage, Study
from xr2text.training.teachers import taught_findings

NAMES = ["cardiomegaly", "pleural effusion"]


def saved(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("teachers") / "one"
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def teacher(make_tiny):
    return make_tiny(findings={"pleural effusion": ["left lung"], "cardiomegaly": ["heart"]})


@pytest.fixture(scope="module")
def folder(teacher, tmp_path_factory):
    return saved(teacher, tmp_path_factory)


@pytest.fixture(scope="module")
def data(tiny_model):
    labelled = ({"cardiomegaly": 1, "pleural effusion": 0}, {"pleural effusion": 1})
    studies = [
        Study(f"study {seed}", "", (PhantomImage(seed, 80),), "Normal heart.", "", "", "", "train", "", labels)
        for seed, labels in enumerate(labelled)
    ]
    studies.append(studies[1])  # stands twice, as films with outlines do
    return ReportDataset(studies, tiny_model.transform, tiny_model.tokenizer, 30, findings=NAMES, training=True)


@pytest.fixture(scope="module")
def said(teacher, data):
    """What the teacher thinks of each example, in the order of NAMES."""
    rows = []
    for _, image in data.examples:
        pixels, geometry = teacher.transform(image.read())
        with torch.no_grad():
            tokens = teacher.look(pixels[None], torch.tensor([geometry.box])).tokens
            rows.append(teacher.finding_head(tokens)[0].sigmoid().flip(0))
    return torch.stack(rows)


def test_the_head_learns_labels_and_what_teachers_say(data, folder, said):
    taught = taught_findings(data, [folder], NAMES, 0.25)
    expected = 0.75 * torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]) + 0.25 * said
    expected[1:, 0] = said[1:, 0]  # nobody labelled the heart there
    torch.testing.assert_close(taught, expected, rtol=0, atol=1e-5)


def test_several_teachers_are_heard_by_their_mean(data, folder, said, make_tiny, tmp_path_factory):
    other = make_tiny(findings={"cardiomegaly": ["heart"], "pleural effusion": ["left lung"]})
    with torch.no_grad():
        other.finding_head.classify.bias += 20  # sees everything
    taught = taught_findings(data, [folder, saved(other, tmp_path_factory)], NAMES, 1.0)
    torch.testing.assert_close(taught, (said + 1) / 2, rtol=0, atol=1e-4)


def test_a_teacher_must_know_the_findings(data, folder):
    with pytest.raises(ConfigError, match="does not predict 'mass'"):
        taught_findings(data, [folder], [*NAMES[:1], "mass"], 0.5)
