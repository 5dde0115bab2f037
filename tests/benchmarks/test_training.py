"""benchmarks.train_speed and train_memory for real, at tiny size on the CPU."""

import re

from benchmarks import train_memory, train_speed


def test_training_is_timed_against_the_stock_model(tmp_path, capsys):
    picture = tmp_path / "time.png"
    train_speed.main([
        "--size", "tiny", "--device", "cpu", "--batch", "2", "--steps", "2", "--warmup", "1", "--peak-tflops", "0.1",
        "--picture", str(picture), "--out", str(tmp_path / "table.md"),
    ])  # fmt: skip
    text = (tmp_path / "table.md").read_text()
    assert float(re.search(r"\*\*([\d.]+) times the studies", text)[1]) > 0
    share = re.search(r"\| ours \|.*\| ([\d.]+) % \|", text)
    assert 0 < float(share[1]) < 100 and "batch 2 x 1" in text and picture.stat().st_size > 1000


def test_the_estimate_is_within_a_tenth_of_what_is_measured(tmp_path, capsys):
    picture = tmp_path / "parts.png"
    train_memory.main(["--size", "tiny", "--device", "cpu", "--batch", "4", "--picture", str(picture)])
    rows = re.findall(r"\| (\d+) \| ([\d.]+) GiB .* ([\d.]+) \|$", capsys.readouterr().out, re.MULTILINE)
    assert [batch for batch, _, _ in rows] == ["4"]
    assert all(0.9 < float(share) < 1.1 for _, _, share in rows) and picture.stat().st_size > 1000
