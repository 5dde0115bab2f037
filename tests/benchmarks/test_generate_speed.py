"""benchmarks.generate_speed for real, on a tiny model."""

import re

import pytest

from benchmarks.generate_speed import main


def test_a_checkpoint_is_timed_against_the_stock_model(tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("xr2text.inference.gate.Gate.load", lambda: None)
    out = tmp_path / "table.md"
    main(["--checkpoint", str(tiny_checkpoint), "--count", "2", "--threads", "1", "--out", str(out)])
    text = out.read_text()
    assert float(re.search(r"\*\*([\d.]+) times as fast", text)[1]) > 0
    assert "ours: a report, beam 3" in text and "2 films" in text


def test_a_config_is_timed_in_batches(config_file, capsys):
    options = ["--config", str(config_file), "--batch", "2", "--count", "1", "--beams", "2", "--threads", "1"]
    main([*options, "--precision", "bf16", "--device", "cpu"])
    printed = capsys.readouterr().out
    assert "batch 2" in printed and re.search(r"\| stock \| \d+ M \| [\d.]+ \|", printed)
    with pytest.raises(SystemExit):
        main(["--config", str(config_file), "--precision", "int3"])
