"""scripts.ablation: its variants fit the configs that it is for, and a run is scored and not repeated."""

import pandas as pd
import pytest
import yaml

from scripts import ablation
from xr2text.config import load_config


@pytest.mark.parametrize("config", ["configs/iu_xray.yaml", "configs/phantom.yaml"])
@pytest.mark.parametrize("name", ablation.VARIANTS)
def test_every_variant_is_a_valid_config(config, name):
    load_config(config, ablation.changes_of(name, config, []))


def test_another_curriculum_keeps_the_epochs():
    iu, phantom = "configs/iu_xray.yaml", "configs/phantom.yaml"
    easy, without = "with an epoch of easy studies first", "without curriculum"
    assert not ablation.differs(iu, [], without)
    assert ablation.changes_of(easy, iu, ["training.epochs=1"]) == []
    for name, config in ((easy, iu), (without, phantom)):
        changed = load_config(config, ablation.changes_of(name, config, []))
        assert changed.training.total_epochs == load_config(config).training.total_epochs
        assert bool(changed.training.curriculum) == (name == easy)


def test_a_variant_that_changes_nothing_is_told_from_one_that_does():
    iu, phantom = "configs/iu_xray.yaml", "configs/phantom.yaml"
    names = ("without focal loss", "with focal loss")
    assert [ablation.differs(iu, [], name) for name in names] == [False, True]
    assert [ablation.differs(phantom, [], name) for name in names] == [True, False]


def test_a_single_run_has_an_interval_and_several_have_a_spread():
    first, second = (0.5, (0.4, 0.6)), (0.7, (0.6, 0.8))
    assert ablation.cell([first]) == "0.500 (0.400 to 0.600)"
    assert ablation.cell([first, second]) == "0.600 ± 0.141"
    text = ablation.table({"all parts": [{"BLEU-4": first, "AUC": (0.8, None)}], "linear": [{"BLEU-4": second}]})
    assert text.splitlines()[-1] == "| linear | 0.700 (0.600 to 0.800) | – |"


@pytest.mark.slow
def test_a_variant_is_trained_once(tiny_training, tmp_path, monkeypatch):
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(tiny_training | {"output": "none"}))
    options = [str(config), "--variants", "without curriculum", "--runs", str(tmp_path / "runs")]
    ablation.main(options)
    monkeypatch.setattr(ablation.train, "main", lambda argv: pytest.fail("trained again"))
    ablation.main([*options, "--out", str(tmp_path / "table.md")])
    assert "| without curriculum |" in (tmp_path / "table.md").read_text()


def test_a_stopped_training_ends_the_call(monkeypatch, tmp_path):
    monkeypatch.setattr(ablation.train, "main", lambda argv: None)
    with pytest.raises(SystemExit, match="the same call goes on from there"):
        ablation.trained("configs/iu_xray.yaml", [], tmp_path)


@pytest.mark.parametrize(("columns", "figures"), [({"finding_auc": [0.7, 0.8, 0.75]}, {"AUC": (0.8, None)}), ({}, {})])
def test_a_training_without_reports_has_the_figures_of_the_epoch_that_was_kept(tmp_path, columns, figures):
    history = pd.DataFrame({"epoch": [1, 2, 3], "score": [1, 3, 2], "validation ce": [1, 1, 1]} | columns)
    history.to_csv(tmp_path / "history.csv", index=False)
    changes = ["training.losses.ce=0", "data.segmentation=null", *ablation.NO_MASKS]
    config = load_config("configs/iu_xray.yaml", changes)
    assert ablation.scored(config, tmp_path / "checkpoint", tmp_path) == figures
