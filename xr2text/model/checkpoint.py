"""Checkpoints: a folder, or a repository of the Hugging Face Hub, that holds a model and all that it needs to write.

config.json                the model's settings, those of its search, its calibration and its name; if it was trained on
                           masks, keys of the radiographs that were held out
model.safetensors          weights; parameters in float16
tokenizer.json, ...        the tokenizer
preprocessor_config.json   image size, resize rule, mean and standard deviation
README.md                  the model card
"""

import json
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from huggingface_hub import ModelHubMixin, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_model, save_file
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from xr2text import __version__
from xr2text.config import GenerationConfig, ModelConfig, build
from xr2text.errors import XR2TextError
from xr2text.files import replace_folder
from xr2text.model.findings import FindingCalibration
from xr2text.model.generate import ReportGenerator
from xr2text.model.xr2text import XR2Text

CONFIG_FILE, WEIGHTS_FILE, PREPROCESSOR_FILE = "config.json", "model.safetensors", "preprocessor_config.json"
TOKENIZER_FILE, CARD_FILE = "tokenizer.json", "README.md"
SECTIONS = {"xr2text_version", "name", "model", "generation", "calibration"}  # of config.json


class CheckpointError(XR2TextError):
    """A checkpoint that is missing, incomplete or does not fit; the message says which file and why."""


class Checkpoint(ModelHubMixin, library_name="xr2text", tags=["chest-x-ray", "radiology-report-generation"]):
    """The content of a checkpoint folder. `push_to_hub` comes from huggingface_hub.

    Args:
        model: its weights and calibration.
        tokenizer: of the model's vocabulary.
        generation: settings of the search.
        name: of the model, shown with its reports.
        card: text of the model card; None: huggingface_hub writes a short one.
        held_out: keys of the radiographs with masks that it was not trained on, see `data.segmentation`; None: not
            known.
    """

    def __init__(
        self, model: XR2Text, tokenizer: PreTrainedTokenizerBase, generation: GenerationConfig, name: str = "xr2text",
        card: str | None = None, held_out: list[str] | None = None,
    ):  # fmt: skip
        self.model, self.tokenizer, self.generation = model, tokenizer, generation
        self.name, self.card, self.held_out = name, card, held_out

    @cached_property
    def generator(self) -> ReportGenerator:
        """A report generator with the checkpoint's settings."""
        return ReportGenerator(self.model, self.tokenizer, self.generation)

    def save_pretrained(
        self, save_directory: str | Path, *, card: str | None = None, repo_id: str | None = None,
        push_to_hub: bool = False, **options,
    ) -> str | None:  # fmt: skip
        """Writes the folder; one that stood there is replaced only once the new one is whole. `card` is the text of the
        model card, from now on; the others are huggingface_hub's."""
        self.card = card if card is not None else self.card
        with replace_folder(Path(save_directory)) as draft:
            super().save_pretrained(draft)
        return self.push_to_hub(repo_id or Path(save_directory).name, **options) if push_to_hub else None

    def _save_pretrained(self, save_directory: Path) -> None:
        parameters, buffers = dict(self.model.named_parameters()), dict(self.model.named_buffers())
        # Of tensors that are tied, one is stored.
        state = {name: value for name, value in self.model.state_dict().items() if name in parameters | buffers}
        state = {name: (value.half() if name in parameters else value).contiguous() for name, value in state.items()}
        save_file(state, save_directory / WEIGHTS_FILE, metadata={"format": "pt"})
        settings = {
            "xr2text_version": __version__,
            "name": self.name,
            "model": self.model.config.model_dump(),
            "generation": self.generation.model_dump(),
            "calibration": asdict(self.model.calibration),
        } | ({} if self.held_out is None else {"held_out": self.held_out})
        for file, content in ((CONFIG_FILE, settings), (PREPROCESSOR_FILE, _preprocessor(self.model))):
            (save_directory / file).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        self.tokenizer.save_pretrained(save_directory)
        if self.card is not None:
            (save_directory / CARD_FILE).write_text(self.card, encoding="utf-8")

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options) -> "Checkpoint":
        """Reads a checkpoint folder, or a Hub id, which is downloaded once. The model is in evaluation mode, float32.

        Args:
            options: of huggingface_hub's `snapshot_download`, such as `revision` and `token`.

        Raises:
            CheckpointError: a file is missing or damaged, or the weights do not fit the config one to one.
            ConfigError: config.json has an unknown key or a value that is not accepted.
        """
        folder = _checkpoint_folder(pretrained_model_name_or_path, **options)
        for file in (CONFIG_FILE, WEIGHTS_FILE, PREPROCESSOR_FILE, TOKENIZER_FILE):
            if not (folder / file).is_file():
                raise CheckpointError(f"{folder} is not a checkpoint: {file} is missing")
        where = folder / CONFIG_FILE
        settings = _read_json(where)
        if not isinstance(settings, dict) or settings.keys() - {"held_out"} != SECTIONS:
            raise CheckpointError(f"{where}: its keys must be {', '.join(sorted(SECTIONS))}")
        config = build(ModelConfig, settings["model"], where=f"{where}: model")
        generation = build(GenerationConfig, settings["generation"], where=f"{where}: generation")
        try:
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        except Exception as error:  # tokenizers raises plain Exception, and transformers whatever it stumbles over
            raise CheckpointError(f"{folder}: the tokenizer cannot be read: {error}") from error
        network = XR2Text(config, len(tokenizer)).eval()
        try:
            network.calibration = FindingCalibration.from_json(settings["calibration"])
        except (TypeError, AttributeError) as error:
            raise CheckpointError(f"{where}: calibration: {error}") from error
        if _read_json(folder / PREPROCESSOR_FILE) != _preprocessor(network):
            raise CheckpointError(f"{folder}: {PREPROCESSOR_FILE} disagrees with the model's encoder and image size")
        try:
            load_model(network, folder / WEIGHTS_FILE)
        except (OSError, SafetensorError, RuntimeError) as error:
            raise CheckpointError(f"{folder / WEIGHTS_FILE} does not fit this model's config: {error}") from error
        file = folder / CARD_FILE
        card = file.read_text("utf-8") if file.is_file() else None
        return cls(network, tokenizer, generation, settings["name"], card, settings.get("held_out"))


def _checkpoint_folder(path_or_id: str | Path, **options) -> Path:
    folder = Path(path_or_id)
    if folder.is_dir():
        return folder
    # A mistyped local folder is not looked up on the Hub, where somebody else may own its name.
    local = folder.is_absolute() or str(path_or_id).startswith((".", "~")) or folder.parts[0] in ("checkpoints", "runs")
    if local or len(folder.parts) != 2 or Path(folder.parts[0]).is_dir():
        raise CheckpointError(f"no checkpoint folder at {path_or_id}")
    try:
        return Path(snapshot_download(str(path_or_id), **options))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"{path_or_id} is neither a folder here nor a model that the Hugging Face Hub gives: {error}"
        ) from error


def _preprocessor(model: XR2Text) -> dict[str, Any]:
    transform = model.transform
    return {"resize": "letterbox", "size": transform.size, "mean": [*transform.mean], "std": [*transform.std]}


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{file} is not valid JSON: {error}") from error
