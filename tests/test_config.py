import re
from pathlib import Path

import pytest

from xr2text.config import Config, ConfigError, load_config, save_config

CONFIGS = Path(__file__).parents[1] / "configs"
MINIMAL = "name: a\noutput: b\ndata: {source: phantom}\n"


@pytest.fixture
def yaml(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_committed_config_loads(path):
    assert isinstance(load_config(path), Config)


def test_numbers_written_as_text_are_numbers(yaml):
    assert load_config(yaml(MINIMAL + "training: {lr_decoder: 1e-4}\n")).training.lr_decoder == 1e-4


def test_overrides_win_and_keep_their_type(yaml):
    config = load_config(yaml(MINIMAL), ["training.epochs=3", "model.encoder.frozen=true", "data.root=null"])
    assert (config.training.epochs, config.model.encoder.frozen, config.data.root) == (3, True, None)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.epoch=3", "did you mean 'training.epochs'"),
        ("epochs=3", "did you mean 'training.epochs'"),
        ("training.epochs=many", "could not be converted to Integer"),
        ("model.haqt.heads=7", "must be a multiple"),
        ("data.source=ftp", "accepted: 'indiana'"),
        ("training.epochs=0", "at least 1"),
        ("training.epochs", "no '='"),
        ("model.findings.nodule=[lung]", "accepted: 'right lung'"),
        ("model.findings.nodule=[]", "names no region"),
        ("model.finding_scales=[0.9]", "needs model.findings"),
        ("model={findings: {nodule: [heart]}, finding_scales: [3]}", "must be in [0.5, 2] and not 1"),
        ("training.losses.findings=1", "names none"),
        ("training.losses.tokens=0", "at least one weight"),
        ("model.haqt.cross_region_layers=0", "at least 1"),
        ("model.decoder.dropout=2", "in [0, 1)"),
        ("generation.max_tokens=4000", "max_positions"),
        ("generation.agreement=0.1", "names none to predict"),
        ("generation.draws=8", "generation.num_beams=1"),
        ("generation.temperature=0", "above 0"),
        ("generation.top_p=0", "in (0, 1]"),
        ("generation.consensus_beta=0", "above 0"),
        ("generation.length_bonus=-1", "at least 0"),
        ("generation.length_bonus=0.1", "generation.draws must be above 0"),
        ("generation.top_p=0.9", "generation.draws must be above 0"),
        ("training.teachers=[runs/one]", "teach the finding head"),
        ("training.losses.reward_distance=0.1", "measured from training.start_from"),
        ("training.losses.hidden=1", "names none"),
        ("training.losses.hidden_share=0", "in (0, 1]"),
        ("training.losses.reward_unsure=1.5", "in [0, 1]"),
        ("training.losses.overlap=1", "names no outlines"),
        ("data.mask_holdout=5", "names none"),
    ],
)
def test_wrong_settings_are_named(yaml, override, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        load_config(yaml(MINIMAL), [override])


def test_findings_add_up_and_an_empty_mapping_empties_them(yaml):
    path = yaml(MINIMAL + "model: {findings: {nodule: [heart]}}\n")
    assert set(load_config(path, ["model.findings.mass=[heart]"]).model.findings) == {"nodule", "mass"}
    assert load_config(path, ["model.findings={}"]).model.findings == {}


def test_a_file_gives_what_differs_from_the_one_that_it_extends(yaml, tmp_path):
    (tmp_path / "base.yaml").write_text(MINIMAL + "training: {epochs: 7, batch_size: 3}\n")
    path = yaml("extends: base.yaml\noutput: c\ntraining: {epochs: 9}\n")
    config = load_config(path, ["training.seed=5"])
    assert (config.name, config.output, config.training.epochs, config.training.batch_size) == ("a", "c", 9, 3)
    assert config.training.seed == 5
    with pytest.raises(ConfigError, match=r"no config file at .*none\.yaml"):
        load_config(yaml("extends: none.yaml\n"))
    with pytest.raises(ConfigError, match=r"config\.yaml, which extends .*base\.yaml: unknown key 'epoch'"):
        load_config(yaml("extends: base.yaml\nepoch: 3\n"))
    with pytest.raises(ConfigError, match="extends itself"):
        load_config(yaml("extends: config.yaml\n"))


def test_missing_and_malformed_files_are_named(yaml, tmp_path):
    with pytest.raises(ConfigError, match="no config file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="name"):
        load_config(yaml("output: b\ndata: {source: phantom}\n"))
    with pytest.raises(ConfigError, match="mapping"):
        load_config(yaml("- a\n- b\n"))
    with pytest.raises(ConfigError, match="YAML"):
        load_config(yaml("model: {image: [}\n"))


def test_a_saved_config_is_read_back_the_same(yaml, tmp_path):
    config = load_config(yaml(MINIMAL), ["training.lr_encoder=3e-5"])
    save_config(config, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml") == config
