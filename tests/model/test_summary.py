import sys
from pathlib import Path

import pytest

from xr2text.cli.main import main
from xr2text.model.summary import describe, parameters_by_part

CONFIGS = Path(__file__).parents[2] / "configs"


def total(text: str) -> int:
    return int(text.splitlines()[-1].split()[1].replace(",", ""))


def test_the_full_model_has_549_million_parameters():
    assert abs(total(describe(CONFIGS / "full.yaml")) / 549e6 - 1) < 0.01


def test_the_compact_model_fits_in_25_megabytes_of_half_precision():
    assert total(describe(CONFIGS / "iu_xray.yaml")) * 2 < 25e6


def test_parts_add_up_to_the_model(tiny):
    parts = parameters_by_part(tiny.model)
    assert sum(parts.values()) == sum(parameter.numel() for parameter in tiny.model.parameters())
    assert "other" not in parts


def test_a_checkpoint_is_described_too(tiny_checkpoint, tiny):
    assert total(describe(tiny_checkpoint)) == sum(parameter.numel() for parameter in tiny.model.parameters())


def test_the_command_prints_and_fails_in_words(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["xr2text"])
    assert main(["info", str(CONFIGS / "phantom.yaml")]) == 0
    assert "image encoder" in capsys.readouterr().out
    assert main(["info", "configs/none.yaml"]) == 2
    assert "no config file" in capsys.readouterr().err
    (tmp_path / "weights.yaml").write_bytes(b"\xff\xfe\x00\x01")
    (tmp_path / "config.json").write_text("[]")
    for broken in (tmp_path / "weights.yaml", tmp_path):
        assert main(["info", str(broken)]) == 2
        assert str(broken) in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([])
