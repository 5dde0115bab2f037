"""benchmarks.cost_growth for real, on a tiny config."""

import re

from benchmarks.cost_growth import main


def test_cost_grows_with_each(config_file, tmp_path, capsys):
    picture = tmp_path / "growth.png"
    main([
        "--config", str(config_file), "--set", "training.precision=bf16", "--sizes", "64", "128", "--batches", "4", "8",
        "--tokens", "30", "60", "--tflops", "1", "--picture", str(picture), "--out", str(tmp_path / "table.md"),
    ])  # fmt: skip
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (\d+) \| ([\d.]+) \| ([\d,.]+) \|", capsys.readouterr().out, re.MULTILINE)
    assert [row[:3] for row in rows] == [("64", "4", "30"), ("128", "4", "30"), ("64", "8", "30"), ("64", "4", "60")]
    assert picture.stat().st_size > 1000 and "estimated, not measured" in (tmp_path / "table.md").read_text()
