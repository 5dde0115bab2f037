import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from xr2text.data.study import DataError, ImageFile, PhantomImage, Study
from xr2text.evaluation.predict import PredictionError, image_features, write_predictions
from xr2text.model.checkpoint import Checkpoint

STUDIES = [Study(f"study {n}", f"patient {n}", (PhantomImage(n, 64),)) for n in range(7)]


@pytest.fixture(scope="module")
def checkpoint(make_tiny):
    return make_tiny(findings=("nodule", "cardiomegaly"))


@pytest.fixture(scope="module")
def whole(checkpoint, tmp_path_factory):
    """The folder of a run that was never stopped, 7 studies in 4 batches, and its predictions."""
    folder = tmp_path_factory.mktemp("whole") / "predictions"
    return folder, write_predictions(checkpoint, STUDIES, folder, 2)


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


def test_every_batch_is_a_file(whole):
    folder, predictions = whole
    assert sorted(contents(folder)) == [*(f"batch-0000{number}.npz" for number in range(4)), "manifest.json"]
    assert len(predictions.findings) == len(predictions.impressions) == 7
    assert predictions.probabilities.shape == (7, 2) and predictions.maps.shape == (7, 7, 4, 4)


def test_a_prediction_is_what_the_model_makes_of_the_image(checkpoint, whole):
    pixels, geometry = checkpoint.model.transform(STUDIES[3].images[0].read())
    generated = checkpoint.generator.generate(pixels[None], torch.tensor([geometry.box]))
    expected = checkpoint.model.finding_probabilities(generated.finding_logits)[0].tolist()
    _, predictions = whole
    assert (predictions.findings[3], predictions.impressions[3]) == (
        generated.reports[0].findings,
        generated.reports[0].impression,
    )
    # The model sees the image as in validation, in 8 bits.
    assert predictions.probabilities[3].tolist() == pytest.approx(expected, abs=1e-3)
    np.testing.assert_allclose(predictions.maps[3], generated.visual.region_maps[0].numpy(), atol=1e-2)


def test_without_a_finding_head_and_regions_are_no_probabilities_and_maps(tiny, make_tiny, tmp_path):
    assert write_predictions(tiny, STUDIES[:1], tmp_path / "head", 1).probabilities is None
    assert write_predictions(make_tiny(projection="linear"), STUDIES[:1], tmp_path / "linear", 1).maps is None


def test_a_lateral_view_is_read_where_it_is_asked_for(make_tiny, tmp_path):
    checkpoint = make_tiny(("cardiomegaly",), lateral_queries=2)
    images = [(PhantomImage(1, 64),), (PhantomImage(2, 64), PhantomImage(2, 64, "lateral"))]
    studies = [Study(str(number), str(number), part) for number, part in enumerate(images)]
    frontal = write_predictions(checkpoint, studies, tmp_path / "frontal", 2)
    both = write_predictions(checkpoint, studies, tmp_path / "both", 2, lateral=True)
    assert frontal.probabilities[0] == pytest.approx(both.probabilities[0], abs=1e-5)
    assert abs(frontal.probabilities[1] - both.probabilities[1]).item() > 1e-4
    with pytest.raises(PredictionError, match="lateral"):
        write_predictions(checkpoint, studies, tmp_path / "both", 2)


def test_an_interrupted_run_goes_on_where_it_was(checkpoint, whole, tmp_path, monkeypatch, capfd):
    with monkeypatch.context() as patch:
        first = count_calls(patch, checkpoint.generator, "generate", stop_after=2)
        with pytest.raises(KeyboardInterrupt):
            write_predictions(checkpoint, STUDIES, tmp_path, 2)
    assert len(first) == 2 and len(contents(tmp_path)) == 3
    (tmp_path / "batch-00001.npz").rename(tmp_path / ".batch-00001.npz.draft")  # what a kill leaves behind

    with monkeypatch.context() as patch:
        second = count_calls(patch, checkpoint.generator, "generate")
        again = write_predictions(checkpoint, STUDIES, tmp_path, 2)
        assert len(second) == 3
        write_predictions(checkpoint, STUDIES, tmp_path, 2)
        assert len(second) == 3
    folder, predictions = whole
    assert again.findings == predictions.findings
    (tmp_path / ".batch-00001.npz.draft").unlink()
    assert contents(tmp_path) == contents(folder)
    assert "3/3" in capfd.readouterr().err


def test_a_folder_of_something_else_is_refused_and_stays(checkpoint, whole):
    folder, _ = whole
    before = contents(folder)
    quick = Checkpoint(
        checkpoint.model, checkpoint.tokenizer, checkpoint.generation.model_copy(update={"num_beams": 1})
    )
    attempts = {
        "studies": lambda: write_predictions(checkpoint, STUDIES[1:], folder, 2),
        "batch_size": lambda: write_predictions(checkpoint, STUDIES, folder, 3),
        "generation": lambda: write_predictions(quick, STUDIES, folder, 2),
        "generation, kind, lateral": lambda: image_features(checkpoint, STUDIES, folder, 2),
    }
    for differing, attempt in attempts.items():
        with pytest.raises(PredictionError, match=rf"differ in {differing}\); remove {folder}"):
            attempt()
    assert contents(folder) == before


def test_another_models_predictions_are_refused(checkpoint, make_tiny, whole):
    changed = make_tiny(findings=("nodule", "cardiomegaly"))
    changed.model.calibration = replace(changed.model.calibration, scaling={"nodule": [2.0, 0.0]})
    with pytest.raises(PredictionError, match=r"differ in model\)"):
        write_predictions(changed, STUDIES, whole[0], 2)


def test_a_folder_with_files_of_its_own_is_not_taken(checkpoint, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(PredictionError, match=r"manifest\.json"):
        write_predictions(checkpoint, STUDIES, tmp_path, 2)
    assert contents(tmp_path) == {"notes.txt": b"mine"}


def test_features_do_not_depend_on_the_batch_and_are_kept(checkpoint, tmp_path, monkeypatch):
    together = image_features(checkpoint, STUDIES, tmp_path / "three", 3)
    singly = image_features(checkpoint, STUDIES, tmp_path / "one", 1)
    assert together.shape == (7, checkpoint.model.encoder.width) and together.dtype == np.float32
    np.testing.assert_allclose(together, singly, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-3
    calls = count_calls(monkeypatch, checkpoint.model.encoder, "forward")
    np.testing.assert_array_equal(image_features(checkpoint, STUDIES, tmp_path / "three", 3), together)
    assert not calls


def test_a_damaged_file_is_named(checkpoint, tmp_path):
    image_features(checkpoint, STUDIES, tmp_path, 3)
    for content in (b"", b"PK", (tmp_path / "batch-00002.npz").read_bytes()):
        (tmp_path / "batch-00001.npz").write_bytes(content)
        with pytest.raises(PredictionError, match=r"batch-00001\.npz"):
            image_features(checkpoint, STUDIES, tmp_path, 3)


def test_a_study_is_shown_by_its_first_frontal_image(checkpoint, tmp_path):
    frontal, lateral = PhantomImage(1, 64), PhantomImage(2, 64, view="lateral")
    shown = [(lateral, frontal, PhantomImage(3, 64)), (frontal,), (lateral,)]
    studies = [replace(STUDIES[0], id=f"study {n}", images=images) for n, images in enumerate(shown)]
    features = image_features(checkpoint, studies, tmp_path, 3)
    np.testing.assert_allclose(features[0], features[1], atol=1e-5)
    assert np.abs(features[0] - features[2]).max() > 1e-3


def test_files_hold_no_path_and_no_patient(checkpoint, tmp_path):
    file = tmp_path / "image of Doe.png"
    Image.fromarray((PhantomImage(1, 64).read().pixels * 255).astype(np.uint8)).save(file)
    study = replace(STUDIES[0], patient="Doe", images=(ImageFile(file, "frontal"),))
    write_predictions(checkpoint, [study], tmp_path / "predictions", 1)
    assert not any(b"Doe" in content for content in contents(tmp_path / "predictions").values())
    assert json.loads((tmp_path / "predictions" / "manifest.json").read_text())["batch_size"] == 1


def test_an_image_that_cannot_be_read_is_named_and_what_was_finished_stays(checkpoint, tmp_path):
    lost = replace(STUDIES[2], images=(ImageFile(tmp_path / "lost.png", "frontal"),))
    with pytest.raises(DataError, match=r"lost\.png"):
        write_predictions(checkpoint, [*STUDIES[:2], lost], tmp_path / "out", 1)
    assert {"batch-00000.npz", "manifest.json"} <= contents(tmp_path / "out").keys()


def test_a_study_without_an_image_and_one_that_stands_there_twice_are_refused(checkpoint, tmp_path):
    with pytest.raises(PredictionError, match="'study 0' has no image"):
        write_predictions(checkpoint, [replace(STUDIES[0], images=())], tmp_path, 1)
    with pytest.raises(PredictionError, match="'study 0' is asked for more than once"):
        write_predictions(checkpoint, STUDIES[:1] * 2, tmp_path, 1)
