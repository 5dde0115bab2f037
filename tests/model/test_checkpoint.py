import json
import shutil

import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import load_file, save_file

from xr2text.config import ConfigError
from xr2text.model.checkpoint import Checkpoint, CheckpointError
from xr2text.model.findings import FindingCalibration, FindingMeasure


@pytest.fixture
def copy_of(tiny_checkpoint, tmp_path):
    return shutil.copytree(tiny_checkpoint, tmp_path / "copy")


def edit(file, change) -> None:
    settings = json.loads(file.read_text())
    change(settings)
    file.write_text(json.dumps(settings))


def test_a_checkpoint_is_the_same_model(tiny, tiny_checkpoint, batch):
    loaded = Checkpoint.from_pretrained(tiny_checkpoint)
    assert not loaded.model.training and loaded.model.config == tiny.model.config and loaded.name == "xr2text-tiny"
    assert loaded.generation == tiny.generation
    buffers = dict(tiny.model.named_buffers())
    for name, value in tiny.model.state_dict().items():
        kept = value if name in buffers else value.half().float()
        assert torch.equal(loaded.model.state_dict()[name], kept), name
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
    assert len(loaded.generator.generate(*batch).reports) == 2


def test_the_folder_holds_what_is_announced_and_no_pickle(tiny_checkpoint):
    names = {path.name for path in tiny_checkpoint.iterdir()}
    assert {"config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json", "README.md"} <= names
    assert not any(name.endswith((".bin", ".pt", ".pth", ".pkl")) for name in names)
    preprocessor = json.loads((tiny_checkpoint / "preprocessor_config.json").read_text())
    assert preprocessor == {
        "resize": "letterbox", "size": 64, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
    }  # fmt: skip
    state = load_file(tiny_checkpoint / "model.safetensors")
    assert state["projection.global_queries"].dtype == torch.float16
    assert {value.dtype for name, value in state.items() if "running_var" in name} == {torch.float32}


def test_its_card_stays_with_it(tiny_checkpoint, tmp_path):
    loaded = Checkpoint.from_pretrained(tiny_checkpoint)
    assert "xr2text" in loaded.card
    loaded.save_pretrained(tmp_path / "saved", card="# A card")
    Checkpoint.from_pretrained(tmp_path / "saved").save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "README.md").read_text() == "# A card"


def test_a_calibration_is_kept(make_tiny, tmp_path):
    checkpoint = make_tiny(("cardiomegaly",))
    measure = FindingMeasure(12, 80, [0.8, 0.7, 0.9], None, [0.9, 0.8, 0.95])
    checkpoint.model.calibration = FindingCalibration(
        {"cardiomegaly": [1.7, -0.1]}, {"cardiomegaly": 0.31}, {"cardiomegaly": measure}
    )
    checkpoint.save_pretrained(tmp_path / "kept")
    assert Checkpoint.from_pretrained(tmp_path / "kept").model.calibration == checkpoint.model.calibration


def test_it_can_be_pushed_to_the_hub(tiny, monkeypatch):
    sent = {}
    monkeypatch.setattr(HfApi, "create_repo", lambda self, repo_id, **_: type("Repo", (), {"repo_id": repo_id}))

    def upload(self, repo_id, folder_path, **_):
        sent[repo_id] = {path.name for path in folder_path.iterdir()}

    monkeypatch.setattr(HfApi, "upload_folder", upload)
    tiny.push_to_hub("someone/a-model")
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= sent["someone/a-model"]


def test_saving_again_replaces_the_folder_whole(tiny, tmp_path):
    for _ in range(2):
        tiny.save_pretrained(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_failed_save_leaves_the_old_checkpoint(tiny, copy_of, monkeypatch):
    before = (copy_of / "model.safetensors").read_bytes()

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(tiny.tokenizer, "save_pretrained", fail)
    with pytest.raises(OSError, match="disk full"):
        tiny.save_pretrained(copy_of)
    assert (copy_of / "model.safetensors").read_bytes() == before
    assert [path.name for path in copy_of.parent.iterdir()] == ["copy"]


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json"])
def test_a_missing_file_is_named(copy_of, file):
    (copy_of / file).unlink()
    with pytest.raises(CheckpointError, match=file):
        Checkpoint.from_pretrained(copy_of)


def test_weights_load_strictly(copy_of):
    path = copy_of / "model.safetensors"
    state = load_file(path)
    name = "projection.global_queries"
    for changed in (
        {key: value for key, value in state.items() if key != name},
        state | {"extra": torch.zeros(1)},
        state | {name: torch.zeros(3)},
    ):
        save_file(changed, path)
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            Checkpoint.from_pretrained(copy_of)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        Checkpoint.from_pretrained(copy_of)


@pytest.mark.parametrize(
    ("section", "key", "words"),
    [
        ("model", "dropot", "unknown key"),
        ("generation", "beams", "unknown key"),
        ("calibration", "heat", "calibration"),
        (None, "extra", "its keys must be"),
    ],
)
def test_an_unknown_config_key_is_an_error(copy_of, section, key, words):
    edit(copy_of / "config.json", lambda settings: (settings[section] if section else settings).update({key: 1}))
    with pytest.raises((CheckpointError, ConfigError), match=words):
        Checkpoint.from_pretrained(copy_of)


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", [b"[]", b"null", b"{}", b"garbage", b"\xff\xfe\x00"])
def test_a_damaged_file_is_an_error_in_words(copy_of, file, content):
    (copy_of / file).write_bytes(content)
    with pytest.raises((CheckpointError, ConfigError), match=str(copy_of)):
        Checkpoint.from_pretrained(copy_of)


def test_a_preprocessor_that_disagrees_is_an_error(copy_of):
    edit(copy_of / "preprocessor_config.json", lambda settings: settings.update(size=32))
    with pytest.raises(CheckpointError, match="disagrees"):
        Checkpoint.from_pretrained(copy_of)


@pytest.mark.parametrize(
    "name", ["/no/such/folder", "./nowhere", "one-word", "checkpoints/mistyped", "someone/never-published-this"]
)
def test_a_checkpoint_that_is_nowhere_is_an_error(name):
    with pytest.raises(CheckpointError):
        Checkpoint.from_pretrained(name)


@pytest.mark.parametrize(
    "switch", ["use_spatial_priors", "use_prior_refinement", "use_adaptive_routing", "cross_region_layers"]
)
def test_each_switch_changes_the_model_and_is_saved(make_tiny, tiny, tmp_path, batch, switch):
    checkpoint = make_tiny(**{switch: 0})
    assert checkpoint.model.state_dict().keys() < tiny.model.state_dict().keys()
    checkpoint.save_pretrained(tmp_path / "model")
    loaded = Checkpoint.from_pretrained(tmp_path / "model")
    assert not getattr(loaded.model.config.haqt, switch)
    edit(tmp_path / "model" / "config.json", lambda settings: settings["model"]["haqt"].update({switch: 1}))
    with pytest.raises(CheckpointError, match="does not fit"):
        Checkpoint.from_pretrained(tmp_path / "model")
