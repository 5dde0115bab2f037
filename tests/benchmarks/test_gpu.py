"""benchmarks.gpu: every row has its process and its limit, and what fails is lost alone."""

import json
from dataclasses import replace

import pytest

from benchmarks import gpu


def fail(error: Exception):
    def measure(size: str) -> str:
        raise error

    return measure


@pytest.mark.slow
def test_a_tiny_row_is_measured_in_its_process(tmp_path, monkeypatch):
    monkeypatch.setitem(gpu.ROWS, "training", replace(gpu.ROWS["training"], limit=280))  # for a busy machine
    out = tmp_path / "gpu.md"
    gpu.main(["--size", "tiny", "--only", "training", "--out", str(out)])
    results = gpu.former_results(out)
    assert "studies per second" in results.pop("training")
    assert set(results.values()) == {gpu.UNKNOWN}


def test_a_slow_row_is_stopped():
    assert gpu.measured("training", "tiny", 0.1) == "not measured: stopped after 0 s"


def test_a_row_names_the_library_that_it_lacks(monkeypatch, capsys):
    row = replace(gpu.ROWS["training"], measure=fail(ModuleNotFoundError("no", name="torchao")))
    monkeypatch.setitem(gpu.ROWS, "training", row)
    gpu.main(["--row", "training"])
    assert json.loads(capsys.readouterr().out) == "not measured: needs torchao, which is not installed"


def test_rows_that_are_not_measured_again_stay(tmp_path, monkeypatch):
    out, said = tmp_path / "gpu.md", iter(("first", "second", "third"))
    monkeypatch.setattr(gpu, "measured", lambda name, size, limit: next(said))
    gpu.main(["--only", "training", "stock", "--out", str(out)])
    gpu.main(["--only", "stock", "--out", str(out)])
    results = gpu.former_results(out)
    assert (results["training"], results["stock"], results["rdrop"]) == ("first", "third", gpu.UNKNOWN)


def test_no_row_starts_when_the_time_is_up(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "WHOLE_SECONDS", 4)
    monkeypatch.setattr(gpu, "measured", lambda *_: pytest.fail("started"))
    gpu.main(["--out", str(tmp_path / "gpu.md")])
    assert set(gpu.former_results(tmp_path / "gpu.md").values()) == {gpu.UNKNOWN}
