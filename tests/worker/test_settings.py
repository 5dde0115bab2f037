"""Which studies the worker takes, and the settings that say so."""

import json
from argparse import ArgumentParser
from datetime import date
from pathlib import Path

import pytest
import yaml

from xr2text.cli import worker
from xr2text.cli.main import main
from xr2text.config import ConfigError, load_config
from xr2text.imaging.radiograph import ImageError
from xr2text.worker.settings import Rules, WorkerConfig

CONFIGS = Path(__file__).parents[2] / "configs" / "worker"


def series(**tags):
    return {"MainDicomTags": tags, "Instances": ["1"]}


def test_rules_take_series_and_name_themselves():
    rules = Rules(body_parts=["Chest"], stations=["ROOM1"], max_age_days=7)
    chest = series(Modality="DX", BodyPartExamined="CHEST ", StationName="ROOM1")
    assert rules.taken([chest, series(Modality="CT")]) == [chest]
    for name, other in (
        ("modalities", {"Modality": "CT"}),
        ("body_parts", {"BodyPartExamined": "HAND"}),
        ("stations", {}),
    ):
        tags = {**chest["MainDicomTags"], **other} if other else {"Modality": "CR", "BodyPartExamined": "CHEST"}
        with pytest.raises(ImageError, match=name):
            rules.taken([series(**tags)])
    today = date(2026, 1, 10)
    rules.check_age("20260103", today)
    Rules().check_age("", today)
    for study_date in ("20260102", "", "2026.1.9"):
        with pytest.raises(ImageError, match="older than 7 days"):
            rules.check_age(study_date, today)


def test_settings_come_from_a_file_and_are_checked(tmp_path, capsys):
    config = load_config(CONFIGS / "worker.yaml", ["send_to=PACS"], WorkerConfig)
    assert config.rules.max_age_days == 7 and config.send_to == "PACS" and "CR" in config.rules.modalities
    (tmp_path / "w.yaml").write_text("rules: {modality: [CR]}\n")
    assert main(["worker", "--config", str(tmp_path / "w.yaml")]) == 2
    assert "unknown key 'rules.modality'; did you mean 'rules.modalities'?" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="metadata"):
        load_config([], ["metadata=3"], WorkerConfig)


def test_the_shipped_compose_file_fits_the_worker():
    services = yaml.safe_load((CONFIGS / "compose.yaml").read_text())["services"]
    parser = ArgumentParser()
    worker.add_arguments(parser)
    args = parser.parse_args(services["worker"]["command"].split()[2:])
    assert (
        load_config([CONFIGS.parents[1] / file for file in args.config], [f"port={args.port}"], WorkerConfig).port
        == 9100
    )
    assert (
        args.orthanc == "http://orthanc:8042" and json.loads((CONFIGS / "orthanc.json").read_text())["CheckRevisions"]
    )
