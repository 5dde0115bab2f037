import importlib.util
import os

import pytest
import torch

from xr2text.config import ConfigError, DataConfig, GenerationConfig, layout_config, load_config
from xr2text.data.segmentation import segmented_studies, study_key
from xr2text.data.sources import load_studies
from xr2text.model.findings import FindingCalibration
from xr2text.training.card import card_head
from xr2text.training.setup import first_checkpoint, make_accelerator, started_command


def test_launches_that_do_not_fit_are_refused(write_config, monkeypatch):
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        make_accelerator(load_config(write_config(mixed_precision="fp16")))
    small = write_config(optimizer="adamw_8bit", mixed_precision="bf16", ema_decay=0.99)
    with pytest.raises(ConfigError, match="ema_decay"):
        make_accelerator(load_config(small))
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ConfigError, match="pip install wandb"):
            make_accelerator(load_config(write_config(report_to=["wandb"])))
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match="3 processes were launched, but accelerate joins 1"):
        make_accelerator(load_config(write_config()))


def test_one_process_in_place_of_several_is_said(write_config, monkeypatch, capsys):
    """What accelerate launch --cpu --num_processes 2 sets."""
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "NO")
    make_accelerator(load_config(write_config()))
    assert "has started one process" in (said := capsys.readouterr().out) and "torchrun --nproc_per_node" in said


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system cannot give a process fewer cores")
def test_a_launched_process_takes_its_share_of_the_cores(write_config, monkeypatch):
    def threads(cores, **environment):
        with monkeypatch.context() as patch:
            patch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
            for name, value in environment.items():
                patch.setenv(name, value)
            torch.set_num_threads(1)
            make_accelerator(load_config(write_config()))
            return torch.get_num_threads()

    launched = {"ACCELERATE_DYNAMO_BACKEND": "NO", "OMP_NUM_THREADS": "1"}
    before = torch.get_num_threads()
    try:
        assert threads(6, **launched) == 6
        assert threads(6, **launched, LOCAL_WORLD_SIZE="2") == 3
        assert threads(1, **launched, LOCAL_WORLD_SIZE="2") == 1
        assert threads(6, **launched | {"OMP_NUM_THREADS": "4"}) == 1  # someone chose; torch has heeded it
        assert threads(6) == 1  # no launcher
    finally:
        torch.set_num_threads(before)


def test_the_command_names_no_place_of_this_machine():
    command = started_command(
        ["configs/full.yaml", "/secret/8gb.yaml"], ["data.root=/secret", "output=/secret", "training.epochs=3"]
    )
    assert command == "accelerate launch train.py --config configs/full.yaml 8gb.yaml --set training.epochs=3"


def test_the_card_names_what_is_replayed_and_its_licence(tmp_path):
    (tmp_path / "earlier.yaml").write_text("{name: earlier, output: none, data: {source: indiana}}")
    replay = f"data.replay={tmp_path / 'earlier.yaml'}"
    card = card_head(layout_config(["data.source=phantom", replay]), None)
    assert "license: cc-by-nc-nd-4.0" in card and "Replayed beside them: the Indiana University" in card
    assert replay not in started_command(["run.yaml"], [replay])


def test_a_checkpoint_gives_weights_tokenizer_and_calibration(write_config, make_tiny, tmp_path):
    given = make_tiny(("cardiomegaly",))
    given.model.calibration = FindingCalibration({"cardiomegaly": [1.3, 0.5]}, {"cardiomegaly": 0.2})
    given.generation, given.held_out = GenerationConfig(num_beams=2, length_penalty=3.5), ["a", "b"]
    given.save_pretrained(tmp_path / "given", card="---\nlicense: cc-by-nc-nd-4.0\n---\n# x\n| data | some films |\n")
    config = load_config(write_config(everything=True, init_from=str(tmp_path / "given")))
    checkpoint = first_checkpoint(config, [], resumed=False)
    assert checkpoint.model.calibration == given.model.calibration
    assert checkpoint.held_out == ["a", "b"]
    assert (config.generation.num_beams, config.generation.length_penalty) == (1, 3.5)  # the config says 1 beam
    assert checkpoint.card.startswith("---\nlicense: cc-by-nc-nd-4.0\n") and "# xr2text-test" in checkpoint.card
    assert "Before, for xr2text-tiny: some films |" in checkpoint.card
    assert "those of xr2text-tiny, licence cc-by-nc-nd-4.0" in checkpoint.card
    assert checkpoint.tokenizer.get_vocab() == given.tokenizer.get_vocab()
    for value, expected in zip(checkpoint.model.parameters(), given.model.parameters(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-6)  # stored in float16
    config.model.findings = ["left lung nodule"]
    with pytest.raises(ConfigError, match="predicts other findings"):
        first_checkpoint(config, [], resumed=False)
    config.model.findings, config.model.haqt.global_queries = ["cardiomegaly"], 3
    with pytest.raises(ConfigError, match=r"does not fit .*haqt\.global_queries is 3, and 2 there"):
        first_checkpoint(config, [], resumed=False)


def test_radiographs_that_were_held_out_are_known_to_the_checkpoint(write_config, make_tiny, tmp_path):
    """And of a second training with masks only those that neither saw."""
    for name in "abcdefghij":
        for folder in ("images", "masks/right_lung", "masks/left_lung", "masks/heart"):
            (tmp_path / "films" / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / "films" / folder / f"{name}.png").write_bytes(b"")
    studies = {study.id[-1]: study_key(study) for study in segmented_studies(tmp_path / "films")}
    config = load_config(write_config(), [f"data.segmentation={tmp_path / 'films'}"])
    phantoms = load_studies(DataConfig(source="phantom", phantoms=4))["train"]
    assert first_checkpoint(config, phantoms, resumed=False).held_out == [studies["e"], studies["j"]]
    given = make_tiny()
    given.held_out = [studies["b"], studies["j"]]
    given.save_pretrained(tmp_path / "given")
    config.training.init_from = str(tmp_path / "given")
    assert first_checkpoint(config, [], resumed=False).held_out == [studies["j"]]
