"""scripts.measure_findings."""

import json

import numpy as np

from scripts.measure_findings import main
from xr2text.config import layout_config
from xr2text.data.sources import load_studies

PHANTOMS = ["data.source=phantom", "data.phantoms=200"]


def test_it_writes_what_the_checkpoint_knows_and_changes_nothing_else(make_tiny, tmp_path, capsys):
    folder, names = tmp_path / "tiny", ["cardiomegaly", "pleural effusion"]
    make_tiny(tuple(names), lateral_queries=2).save_pretrained(folder, card="# tiny")
    before, weights = json.loads((folder / "config.json").read_text()), (folder / "model.safetensors").read_bytes()
    main([str(folder), "--set", *PHANTOMS])
    after = json.loads((folder / "config.json").read_text())
    measures = after["calibration"].pop("measures")
    before["calibration"].pop("measures")
    assert after == before and (folder / "model.safetensors").read_bytes() == weights
    assert (folder / "README.md").read_text() == "# tiny"
    studies = load_studies(layout_config(PHANTOMS).data, names)["val"]
    positives = (np.abs(studies.labels(names)) == 1).sum(0).tolist()
    assert any(positives)
    assert [measures[name]["positives"] for name in names] == positives
    assert "| cardiomegaly |" in capsys.readouterr().out
