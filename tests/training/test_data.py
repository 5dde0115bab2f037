from dataclasses import replace

import pytest
import torch

from xr2text.config import LossConfig, load_config
from xr2text.data.sources.layout import set_apart
from xr2text.data.study import DataError, Study
from xr2text.data.study_table import StudyTable
from xr2text.training.data import SCORED_REPORTS, LengthGroups, load_split_studies, prepare_data


def test_batches_of_like_lengths_hold_every_example_once():
    lengths = torch.randint(5, 160, (403,), generator=torch.Generator().manual_seed(7)).tolist()
    groups = LengthGroups(lengths, 8, seed=1)
    first = list(groups)
    groups.set_epoch(0)
    again = list(groups)
    groups.set_epoch(1)
    assert first == again != list(groups) and sorted(first) == list(range(403)) and len(groups) == 403

    def padding(order):
        batches = [[lengths[index] for index in order[start : start + 8]] for start in range(0, 403, 8)]
        return sum(max(batch) * len(batch) - sum(batch) for batch in batches)

    assert padding(first) < 0.15 * padding(range(403))


def test_examples_know_what_the_terms_of_the_loss_need(write_config, tiny):
    config = load_config(write_config(everything=True))
    data = prepare_data(config, load_split_studies(config), tiny.tokenizer, tiny.model.transform)
    assert (len(data.train), len(data.val), len(data.scored)) == (20, 2, min(2, SCORED_REPORTS))
    assert [stage.name for stage in data.curriculum.stages] == ["warmup", "easy", "hard"]
    for part, known in ((data.train, True), (data.val, False)):  # the places of findings, which `occlusion` asks for
        assert any(part[index]["finding_regions"].any() for index in range(len(part))) == known


def test_fewer_validation_studies_still_have_reports_where_reports_are_learned(write_config, tiny, monkeypatch):
    monkeypatch.setattr("xr2text.training.data.WATCHED_STUDIES", 1)
    config = load_config(write_config())
    studies = load_split_studies(config)
    first, *others = studies["val"]
    studies["val"] = StudyTable.of([replace(first, findings="", impression="", source_findings=""), *others], True)

    def watched():
        data = prepare_data(config, studies, tiny.tokenizer, tiny.model.transform)
        return [list(part.indices) for part in data.watched]

    assert watched() == [[1], [1]]
    config.training.losses = LossConfig(ce=0, load_balance=1)
    assert watched()[0] == [0]


def test_augmentation_is_as_strong_as_the_config_says(write_config, tiny):
    def images(*overrides):
        config = load_config(write_config(), list(overrides))
        data = prepare_data(config, load_split_studies(config), tiny.tokenizer, tiny.model.transform).train
        first = data[0]["pixel_values"]
        data.set_epoch(1)
        return first, data[0]["pixel_values"]

    torch.testing.assert_close(*images("data.augmentation=0"))
    weak, strong = ((first - second).abs().mean() for first, second in (images("data.augmentation=0.2"), images()))
    assert 0.01 < weak < strong


def test_of_a_patient_who_is_validated_on_nothing_is_trained_on():
    texts = {"a": "The heart is large.", "b": "", "c": "Clear."}
    studies = [
        Study(f"{patient}{name}", patient, (), findings=text)
        for patient in map(str, range(60)) for name, text in texts.items() if (name, patient) != ("c", "7")
    ]  # fmt: skip
    studies.append(Study("image", "x", ()))  # without a report, of somebody else
    parts = set_apart(StudyTable.of(studies), 1 / 3)
    trained, judged = (set(parts[name].column("patient").to_pylist()) for name in ("train", "val"))
    assert judged and not trained & judged and "x" in trained
    assert all(study.findings for study in parts["val"])
    assert len(parts["train"]) == sum(study.patient in trained for study in studies)


def test_findings_without_a_label_are_refused_in_a_new_training(write_config):
    overrides = ["model.findings=[gout]"]
    with pytest.raises(DataError, match="no training study is labelled 'gout'"):
        load_split_studies(load_config(write_config(), overrides))
    load_split_studies(load_config(write_config(), [*overrides, "training.init_from=checkpoints/xr2text-iu"]))
