"""What a frozen model sees of the training radiographs is computed once."""

import json

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from xr2text.config import ConfigError, load_config
from xr2text.data.dataset import collate
from xr2text.data.study import UnreadableImageError
from xr2text.model.lateral import LateralImages
from xr2text.training.data import load_split_studies, prepare_data
from xr2text.training.objective import Objective
from xr2text.training.seen import see_all
from xr2text.training.setup import make_accelerator
from xr2text.training.skipped import Skipped

FROZEN = ("training.lr_encoder=0", "training.lr_projection=0")


@pytest.fixture
def prepare(write_config, make_tiny):
    """A frozen model with its training data, and what it has seen of them."""

    def start():
        config = load_config(write_config(), [*FROZEN, "model.haqt.lateral_queries=2"])
        checkpoint, accelerator = make_tiny(lateral_queries=2), make_accelerator(config)
        studies = load_split_studies(config)
        data = prepare_data(config, studies, checkpoint.tokenizer, checkpoint.model.transform)
        skipped = Skipped(data.train, 0.5)
        return config, checkpoint.model, data, skipped, accelerator

    return start


def test_what_is_seen_once_is_what_validation_sees(prepare):
    config, model, data, skipped, accelerator = prepare()
    seen = see_all(model, data.train, skipped, config, accelerator)
    assert "pixel_values" not in data.train[3] and len(seen.tokens) == len(data.train)
    data.train.unreadable, data.train.training = None, False
    batch = collate([data.train[index] for index in (3, 7)])
    visual = model.encode_image(batch["pixel_values"], batch["box"], LateralImages.of(batch))
    for now, before in ((visual, seen), (visual.lateral, seen.lateral)):
        torch.testing.assert_close(before.tokens[[3, 7]].float(), now.tokens, atol=5e-3, rtol=5e-3)
    assert seen.lateral.present[[3, 7]].tolist() == visual.lateral.present.tolist() == [True, True]


def test_the_loss_is_that_of_the_images(prepare, monkeypatch):
    config, model, data, skipped, accelerator = prepare()
    objective = Objective(model, config.training.losses).eval()
    data.train.training = False
    with_images = objective(collate([data.train[0], data.train[1]]), 0.0).loss
    objective.seen = see_all(model, data.train, skipped, config, accelerator)
    monkeypatch.setattr("xr2text.training.objective.LATERAL_DROPPED", 0.0)
    batch = collate([data.train[0], data.train[1]])
    both = objective(batch, 0.0).loss
    torch.testing.assert_close(both, with_images, atol=1e-2, rtol=1e-2)
    monkeypatch.setattr("xr2text.training.objective.LATERAL_DROPPED", 1.0)
    assert objective(batch, 0.0).loss != both, "the lateral view is left out"


def test_a_radiograph_that_cannot_be_read_is_skipped_in_every_epoch(prepare, monkeypatch):
    config, model, data, skipped, accelerator = prepare()
    view = data.train._view

    def broken(image, random, masks=None):
        if image == data.train.examples[2][1]:
            raise UnreadableImageError("cut short")
        return view(image, random, masks)

    monkeypatch.setattr("xr2text.data.dataset.ReportDataset._view", lambda self, *given: broken(*given))
    see_all(model, data.train, skipped, config, accelerator)
    assert list(skipped.reasons) == [(data.train.examples[2][0].id, "cut short")]
    with pytest.raises(UnreadableImageError, match="cut short"):
        data.train[2]


def test_a_training_of_the_decoder_alone_leaves_the_rest_as_it_was(run, write_config, tmp_path):
    first, second = write_config("first", everything=True), write_config("second", everything=True)
    run(first)
    terms = [f"training.losses.{term}=0" for term in ("load_balance", "findings", "occlusion")]
    run(second, f"training.init_from={tmp_path / 'first' / 'checkpoint'}", *FROZEN, *terms)
    before, after = (load_file(tmp_path / name / "checkpoint" / "model.safetensors") for name in ("first", "second"))
    weights = [name for name, value in before.items() if value.is_floating_point()]  # the average of counts is no count
    changed = {name.split(".")[0] for name in weights if not torch.allclose(before[name], after[name])}
    assert changed == {"decoder", "finding_tokens"}
    calibrations = (json.loads((tmp_path / name / "checkpoint" / "config.json").read_text()) for name in
                    ("first", "second"))  # fmt: skip
    assert len({json.dumps(config["calibration"]) for config in calibrations}) == 1
    assert "train occlusion" not in pd.read_csv(tmp_path / "second" / "history.csv")


@pytest.mark.parametrize("term", ["load_balance", "findings", "occlusion"])
def test_a_loss_of_what_is_frozen_is_an_error(write_config, term):
    others = [f"training.losses.{name}=0" for name in ("load_balance", "findings", "occlusion") if name != term]
    with pytest.raises(ConfigError, match=f"training.losses.{term} has a weight, but lr_encoder and lr_projection"):
        load_config(write_config(everything=True), [*FROZEN, *others])
