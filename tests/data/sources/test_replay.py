"""Studies of an earlier training among new ones."""

import csv

import pytest
import yaml

from xr2text.config import ConfigError, DataConfig
from xr2text.data.sources import load_studies
from xr2text.data.sources.layout import set_apart
from xr2text.data.study import DataError


@pytest.fixture
def new(tmp_path, png):
    """Settings of a table of three studies for training and one for validation, and the earlier config's file."""
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "image", "findings", "split"])
        for name, split in (("a", "train"), ("b", "train"), ("c", "train"), ("d", "val")):
            (tmp_path / f"{name}.png").write_bytes(png())
            rows.writerow([name, f"{name}.png", "The heart is enlarged.", split])
    earlier = tmp_path / "earlier.yaml"
    earlier.write_text(
        yaml.safe_dump({"name": "earlier", "output": "none", "data": {"source": "phantom", "phantoms": 20}})
    )
    return DataConfig(source="manifest", root=str(tmp_path), replay=str(earlier)), earlier


def replayed(studies):
    return [study for study in studies if study.id.startswith("replayed-")]


def test_one_comes_for_each_new_one_and_for_training_alone(new):
    config, _ = new
    splits = load_studies(config)
    old = replayed(splits["train"])
    assert len(splits["train"]) == 6 and len(old) == 3 and len(splits["val"]) == 1
    assert all(study.patient.startswith("replayed-") and study.findings for study in old)
    assert any(study.labels for study in old), "labelled by their reports, as the new ones are"
    again = replayed(load_studies(config)["train"])
    assert [study.id for study in again] == [study.id for study in old]


def test_none_is_for_validation(new):
    config, _ = new
    train = load_studies(config)["train"]
    parted = set_apart(train, 1.0)
    assert len(parted["val"]) == 3 and not replayed(parted["val"])
    assert len(parted["train"]) == len(replayed(parted["train"])) == 3


def test_the_index_follows_the_earlier_config(new, tmp_path):
    config, earlier = new
    config.cache = str(tmp_path / "cache")
    before = replayed(load_studies(config)["train"])
    earlier.write_text(earlier.read_text().replace("20", "4"))
    assert {study.id for study in replayed(load_studies(config)["train"])} != {study.id for study in before}


def test_what_is_wrong_with_the_earlier_one_is_said_of_it(new):
    config, earlier = new
    earlier.write_text(
        yaml.safe_dump({"name": "earlier", "output": "none", "data": {"source": "indiana", "root": "nowhere"}})
    )
    with pytest.raises(DataError, match=r"data.replay .*earlier.yaml: .*no folder nowhere"):
        load_studies(config)
    with pytest.raises(ConfigError, match="no config file at"):
        load_studies(config.model_copy(update={"replay": "missing.yaml"}))
