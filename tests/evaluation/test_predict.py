import json
import multiprocessing
import os
import shutil
import socket
from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
import torch
from PIL import Image

from xr2text.config import DataConfig, GenerationConfig
from xr2text.data.sources import DataError, ImageFile, PhantomImage, load_studies
from xr2text.evaluation.predict import PredictionError, image_features, read_predictions, write_predictions
from xr2text.evaluation.processes import Processes
from xr2text.model.xr2text import XR2Text

ONE = Processes()
STUDIES = load_studies(DataConfig(source="phantom", phantom_train=1, phantom_val=7), 64)["val"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """So that every process computes with as many, and none waits for threads that a fork has left behind."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    """Files are compared byte by byte, also with those of processes that share no GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture(scope="module")
def checkpoint(make_tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    make_tiny(findings={"nodule": ["left lung", "right lung"], "cardiomegaly": ["heart"]}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(checkpoint):
    return XR2Text.from_pretrained(checkpoint)


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    """The folder of a run that was never stopped: 7 studies in 4 batches."""
    folder = tmp_path_factory.mktemp("whole") / "predictions"
    write_predictions(model, STUDIES, folder, 2, ONE)
    return folder


def count_calls(monkeypatch, owner, name, stop_after=None):
    """The list that grows with each call; calls after `stop_after` raise, as a kill would end the run."""
    calls, original = [], getattr(owner, name)

    def counted(*args, **kwargs):
        if len(calls) == stop_after:
            raise KeyboardInterrupt
        calls.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, counted)
    return calls


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_every_study_is_written_once_in_order(model, whole):
    predictions = read_predictions(whole, STUDIES)
    assert [one.id for one in predictions] == [study.id for study in STUDIES]
    assert [one.id for one in read_predictions(whole, STUDIES[::-1])] == [study.id for study in STUDIES[::-1]]
    assert sorted(contents(whole)) == [*(f"batch-0000{number}.json" for number in range(4)), "manifest.json"]
    assert len(json.loads((whole / "batch-00003.json").read_text())) == 1


def test_a_prediction_is_what_the_model_writes_of_the_image(model, whole):
    pixels, geometry = model.transform(STUDIES[3].images[0].read())
    box = torch.tensor([geometry.box])
    report = model.generate(pixels[None], box).reports[0]
    with torch.inference_mode():
        expected = model(pixels[None], box).finding_logits[0].sigmoid().tolist()
    prediction = read_predictions(whole, STUDIES)[3]
    assert (prediction.findings, prediction.impression) == (report.findings, report.impression)
    assert list(prediction.probabilities) == ["nodule", "cardiomegaly"]
    # The picture is shown as in validation, in 8 bits.
    assert list(prediction.probabilities.values()) == pytest.approx(expected, abs=1e-3)


def test_without_a_finding_head_there_are_no_probabilities(tiny_model, tmp_path):
    assert [one.probabilities for one in write_predictions(tiny_model, STUDIES[:1], tmp_path, 1, ONE)] == [None]


def test_the_search_follows_the_settings(model, whole, tmp_path):
    short = write_predictions(model, STUDIES, tmp_path, 4, ONE, GenerationConfig(1, max_tokens=6, findings_tokens=3))
    assert all(len(a.findings) < len(b.findings) for a, b in zip(short, read_predictions(whole, STUDIES), strict=True))


def test_an_interrupted_run_goes_on_where_it_was(model, whole, tmp_path, monkeypatch, capfd):
    with monkeypatch.context() as patch:
        first = count_calls(patch, model, "generate", stop_after=2)
        with pytest.raises(KeyboardInterrupt):
            write_predictions(model, STUDIES, tmp_path, 2, ONE)
    assert len(first) == 2 and len(contents(tmp_path)) == 3

    with monkeypatch.context() as patch:
        second = count_calls(patch, model, "generate")
        write_predictions(model, STUDIES, tmp_path, 2, ONE)
        assert len(second) == 2
        write_predictions(model, STUDIES, tmp_path, 2, ONE)
        assert len(second) == 2
    assert contents(tmp_path) == contents(whole)
    assert "2/4" in capfd.readouterr().err


def test_a_file_that_was_half_written_does_not_count(model, whole, tmp_path, monkeypatch):
    write_predictions(model, STUDIES[:2], tmp_path, 2, ONE)
    (tmp_path / "batch-00000.json").rename(tmp_path / ".batch-00000.json.77")  # what a kill leaves behind
    calls = count_calls(monkeypatch, model, "generate")
    assert len(write_predictions(model, STUDIES[:2], tmp_path, 2, ONE)) == 2 and len(calls) == 1


def take_part(rank, port, model, predictions, features, summary):
    """What one of two processes does, with the variables that a launcher sets."""
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": rank, "LOCAL_RANK": rank
    }  # fmt: skip
    shown = StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(shown), Processes.from_environment() as processes:
        calls = count_calls(patch, model, "generate")
        written = write_predictions(model, STUDIES, predictions, 2, processes)
        shape = image_features(model, STUDIES, features, 2, processes).shape
    summary.write_text(json.dumps([len(written), len(calls), *shape, "4/4" in shown.getvalue()]))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork processes")
def test_two_processes_finish_what_one_began_byte_for_byte(model, whole, tmp_path, capfd):
    predictions, features, alone = tmp_path / "predictions", tmp_path / "features", tmp_path / "alone"
    predictions.mkdir()
    for name in ("manifest.json", "batch-00000.json"):
        shutil.copy(whole / name, predictions)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Forked, since a fresh process would import libraries for longer than it works.
    started = [
        multiprocessing.get_context("fork").Process(
            target=take_part, args=(rank, port, model, predictions, features, tmp_path / rank)
        )
        for rank in ("0", "1")
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
        process.kill()
    assert [process.exitcode for process in started] == [0, 0], capfd.readouterr().err
    # Batch 0 was there: one process wrote batch 2, the other batches 1 and 3, and one alone showed progress.
    width = model.encoder.width
    summaries = [json.loads((tmp_path / rank).read_text()) for rank in ("0", "1")]
    assert summaries == [[7, 1, 7, width, True], [7, 2, 7, width, False]]
    assert contents(predictions) == contents(whole)
    image_features(model, STUDIES, alone, 2, ONE)
    assert contents(features) == contents(alone)


def test_a_folder_of_something_else_is_refused_and_stays(model, make_tiny, whole):
    before = contents(whole)
    other = XR2Text(model.config, model.tokenizer, model.generation)
    short = replace(model.generation, num_beams=1)
    attempts = {
        "model": lambda: write_predictions(other, STUDIES, whole, 2, ONE),
        "studies": lambda: write_predictions(model, STUDIES[1:], whole, 2, ONE),
        "batch_size": lambda: write_predictions(model, STUDIES, whole, 3, ONE),
        "generation": lambda: write_predictions(model, STUDIES, whole, 2, ONE, short),
        "generation, kind": lambda: image_features(model, STUDIES, whole, 2, ONE),
    }
    for differing, attempt in attempts.items():
        with pytest.raises(PredictionError, match=rf"differ in {differing}\); remove {whole}"):
            attempt()
    assert contents(whole) == before


def test_a_folder_with_files_of_its_own_is_not_taken(model, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(PredictionError, match=r"manifest\.json"):
        write_predictions(model, STUDIES, tmp_path, 2, ONE)
    assert contents(tmp_path) == {"notes.txt": b"mine"}


def test_a_missing_a_doubled_and_a_damaged_prediction_are_named(model, whole, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    with pytest.raises(PredictionError, match=f"{STUDIES[0].id!r} is asked for more than once"):
        read_predictions(folder, [*STUDIES, STUDIES[0]])
    with pytest.raises(PredictionError, match="more than once"):
        write_predictions(model, [STUDIES[0]] * 2, tmp_path / "new", 2, ONE)
    (folder / "batch-00001.json").unlink()
    with pytest.raises(PredictionError, match=f"{STUDIES[2].id!r}; 2 of 7 are missing"):
        read_predictions(folder, STUDIES)
    shutil.copy(folder / "batch-00000.json", folder / "batch-00001.json")
    with pytest.raises(PredictionError, match=f"more than one prediction for study {STUDIES[0].id!r}"):
        read_predictions(folder, STUDIES)
    (folder / "batch-00001.json").write_text("[{")
    with pytest.raises(PredictionError, match=r"batch-00001\.json is damaged"):
        read_predictions(folder, STUDIES)


def test_features_do_not_depend_on_the_batch_and_are_kept(model, tmp_path, monkeypatch):
    together = image_features(model, STUDIES, tmp_path / "three", 3, ONE)
    singly = image_features(model, STUDIES, tmp_path / "one", 1, ONE)
    assert together.shape == (7, model.encoder.width) and together.dtype == np.float32
    np.testing.assert_allclose(together, singly, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-3
    calls = count_calls(monkeypatch, model.encoder, "forward")
    np.testing.assert_array_equal(image_features(model, STUDIES, tmp_path / "three", 3, ONE), together)
    assert not calls
    (tmp_path / "three" / "batch-00001.npy").write_bytes(b"")
    with pytest.raises(PredictionError, match=r"batch-00001\.npy is damaged"):
        image_features(model, STUDIES, tmp_path / "three", 3, ONE)


def test_a_study_is_shown_by_its_first_frontal_image(model, tmp_path):
    frontal, lateral = PhantomImage(1, 64), PhantomImage(2, 64, view="lateral")
    shown = [(lateral, frontal, PhantomImage(3, 64)), (frontal,), (lateral,)]
    studies = [replace(STUDIES[0], id=f"study {n}", images=images) for n, images in enumerate(shown)]
    features = image_features(model, studies, tmp_path, 3, ONE)
    np.testing.assert_allclose(features[0], features[1], atol=1e-5)
    assert np.abs(features[0] - features[2]).max() > 1e-3


def test_files_hold_no_path_and_no_patient(model, tmp_path):
    film = tmp_path / "film of Doe.png"
    Image.fromarray((PhantomImage(1, 64).read().pixels * 255).astype(np.uint8)).save(film)
    study = replace(STUDIES[0], patient="Doe", images=(ImageFile(film, "frontal"),))
    write_predictions(model, [study], tmp_path / "predictions", 1, ONE)
    image_features(model, [study], tmp_path / "features", 1, ONE)
    written = b"".join(
        file.read_bytes() for name in ("predictions", "features") for file in (tmp_path / name).iterdir()
    )
    assert study.id.encode() in written and b"Doe" not in written and str(tmp_path).encode() not in written


def test_an_unreadable_image_stops_the_run_and_is_named(model, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    studies = [*STUDIES[:2], replace(STUDIES[2], images=(ImageFile(bad, "frontal"),))]
    with pytest.raises(DataError) as error:
        write_predictions(model, studies, tmp_path / "out", 1, ONE)
    assert str(error.value).startswith(f"{bad}: This file is not an accepted image")
    assert {"batch-00000.json", "manifest.json"} <= contents(tmp_path / "out").keys()


@pytest.mark.parametrize(
    ("studies", "sizes", "message"),
    [
        ([], (1, 1), "no study"),
        (STUDIES, (0, 1), "batch_size is 0"),
        (STUDIES, (1, 0), "readers is 0"),
        ([replace(STUDIES[0], images=())], (1, 1), f"{STUDIES[0].id!r} has no image"),
    ],
)
def test_what_cannot_be_done_is_said(model, tmp_path, studies, sizes, message):
    with pytest.raises(ValueError, match=message):
        write_predictions(model, studies, tmp_path, sizes[0], ONE, readers=sizes[1])


def set_launcher(monkeypatch, **variables):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_processes_follow_the_launchers_variables(monkeypatch):
    set_launcher(monkeypatch)
    assert Processes.from_environment() == Processes(0, 1, 0)
    set_launcher(monkeypatch, RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
    with Processes.from_environment() as processes:
        assert processes.is_main and processes.device == torch.device("cpu")
        processes.wait()
    set_launcher(monkeypatch, WORLD_SIZE="2")
    with pytest.raises(ValueError, match="lacks RANK, LOCAL_RANK"):
        Processes.from_environment()
    set_launcher(monkeypatch, RANK="2", WORLD_SIZE="2", LOCAL_RANK="0")
    with pytest.raises(ValueError, match="RANK below WORLD_SIZE"):
        Processes.from_environment()


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert Processes(3, 4, 1).device == torch.device("cuda", 1)
    with pytest.raises(ValueError, match="no GPU of its own, there are 2"):
        _ = Processes(2, 3, 2).device
