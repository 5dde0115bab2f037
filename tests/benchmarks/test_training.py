"""benchmarks.train_speed and train_memory for real, at tiny size on the CPU."""

import re

import pytest

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


@pytest.mark.parametrize(
    ("gpu", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H100 PCIe", 756), ("NVIDIA A100-SXM4-80GB", 312), ("NVIDIA L40", 181),
        ("NVIDIA L4", 121), ("NVIDIA GeForce RTX 4060", None),
    ],
)  # fmt: skip
def test_a_gpus_peak_is_known_by_its_name(gpu, peak):
    assert train_speed.known_peak(gpu) == peak


def test_the_estimate_is_within_a_tenth_of_what_is_measured(tmp_path, capsys):
    picture = tmp_path / "parts.png"
    train_memory.main(["--size", "tiny", "--device", "cpu", "--batch", "4", "--picture", str(picture)])
    rows = re.findall(r"\| (\d+) \| ([\d.]+) GiB .* ([\d.]+) \|$", capsys.readouterr().out, re.MULTILINE)
    assert [batch for batch, _, _ in rows] == ["4"]
    assert all(0.9 < float(share) < 1.1 for _, _, share in rows) and picture.stat().st_size > 1000
