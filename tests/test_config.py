import re
from pathlib import Path

import pytest

from xr2text.config import Config, ConfigError, layout_config, load_config, save_config, setting_names

CONFIGS = Path(__file__).parents[1] / "configs"
SHIPPED, HARDWARE = sorted(CONFIGS.glob("*.yaml")), sorted(CONFIGS.glob("hardware/*.yaml"))
MINIMAL = "name: a\noutput: b\ndata: {source: phantom}\n"


@pytest.fixture
def yaml(tmp_path):
    def write(text: str, name: str = "config.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_there_are_at_most_seventy_settings():
    names = setting_names()
    assert len(names) == len(set(names)) <= 70 and "training.curriculum.max_findings" in names


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_config_loads_alone_and_with_every_hardware(path):
    assert isinstance(load_config(path), Config)
    for hardware in HARDWARE:
        combined, alone = load_config([path, hardware]), load_config(path)
        assert combined.training.losses == alone.training.losses and combined.model == alone.model
        assert combined.training.batch_size * combined.training.gradient_accumulation_steps == 32


def test_numbers_written_as_text_are_numbers(yaml):
    assert load_config(yaml(MINIMAL + "training: {lr_decoder: 1e-4}\n")).training.lr_decoder == 1e-4


def test_mixed_precision_no_need_not_be_quoted(yaml):
    assert load_config(yaml(MINIMAL), ["training.mixed_precision=no"]).training.mixed_precision == "no"


def test_overrides_win_and_keep_their_type(yaml):
    config = load_config(yaml(MINIMAL), ["training.epochs=3", "model.decoder.use_text_encoder=true", "data.root=null"])
    assert (config.training.epochs, config.model.decoder.use_text_encoder, config.data.root) == (3, True, None)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.epoch=3", "did you mean 'training.epochs'"),
        ("epochs=3", "did you mean 'training.epochs'"),
        ("training.curriculum=[{name: easy, epochs: 1, max_finding: 1}]", "'training.curriculum.max_findings'"),
        ("training.epochs=many", "training.epochs is 'many': input should be a valid integer"),
        ("training.epochs=0", "training.epochs is 0: input should be greater than or equal to 1"),
        ("training.epochs", "no '='"),
        ("data.root=@x", "not valid YAML"),
        ("training.ema_decay=0", "training.ema_decay is 0: input should be greater than 0"),
        ("data.source=ftp", "'indiana'"),
        ("model.heads=7", "must be a multiple"),
        ("model.dropout=2", "model.dropout is 2: input should be less than 1"),
        ("model.findings=[nodule,nodule]", "names one twice"),
        ("model={findings: [nodule], haqt: {projection: linear}}", "haqt.projection must be 'haqt_arr'"),
        ("generation.max_tokens=4000", "positions for 256 tokens"),
        ("training={epochs: 5, curriculum: [{name: all, epochs: 2}]}", "the stages of curriculum have 2"),
        ("training.curriculum=[{name: a, epochs: 1},{name: a, epochs: 1}]", "two stages have the same name"),
        ("training.losses.ce=0", "at least one weight"),
        ("training.losses.findings=1", "names none to predict"),
        ("training.losses.occlusion=1", "names none to predict"),
        ("training.losses.soft_iou=1", "names no masks"),
        ("training.losses.load_balance=1 model.haqt.use_adaptive_routing=false", "there is no router"),
        ("training.losses.load_balance=1 model.haqt.projection=linear", "has no regions"),
        ("training.losses.rdrop=1 model.dropout=0", "both passes would be the same"),
        ("training.metric_for_best_model=[finding_auc]", "needs a weight of training.losses.findings"),
        (
            "model.findings=[nodule] training.losses={ce: 0, findings: 1} training.metric_for_best_model=[combined]",
            "combined needs a weight of training.losses.ce, focal or rdrop",
        ),
    ],
)
def test_wrong_settings_are_named(yaml, override, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        load_config(yaml(MINIMAL), re.split(r" (?=\w+\.)", override))


def test_a_changed_setting_is_checked_too(yaml):
    config = load_config(yaml(MINIMAL))
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        config.training.batch_size = 0


def test_a_file_gives_what_differs_from_the_one_that_it_extends(yaml):
    yaml(MINIMAL + "training: {epochs: 7, batch_size: 3}\n", "base.yaml")
    path = yaml("extends: base.yaml\noutput: c\ntraining: {epochs: 9}\n")
    config = load_config([path, yaml("training: {batch_size: 4}\n", "more.yaml")], ["training.seed=5"])
    assert (config.name, config.output, config.training.epochs) == ("a", "c", 9)
    assert (config.training.batch_size, config.training.seed) == (4, 5)
    with pytest.raises(ConfigError, match=r"no config file at .*none\.yaml"):
        load_config(yaml("extends: none.yaml\n"))
    with pytest.raises(ConfigError, match="extends itself"):
        load_config(yaml("extends: config.yaml\n"))


def test_missing_and_malformed_files_are_named(yaml, tmp_path):
    with pytest.raises(ConfigError, match="no config file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="name is missing"):
        load_config(yaml("output: b\ndata: {source: phantom}\n"))
    with pytest.raises(ConfigError, match="mapping"):
        load_config(yaml("- a\n- b\n"))
    with pytest.raises(ConfigError, match="YAML"):
        load_config(yaml("model: {heads: [}\n"))


def test_a_saved_config_is_read_back_the_same(yaml, tmp_path):
    config = load_config(yaml(MINIMAL), ["training.lr_encoder=3e-5"])
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml") == config


def test_work_on_the_data_alone_needs_no_file():
    assert layout_config(["data.source=r2gen", "data.root=x"]).data.root == "x"
