"""The start of a run: the accelerator, and the model with its first weights and its tokenizer."""

import importlib.util
import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate import Accelerator, DataLoaderConfiguration, DistributedType
from accelerate.utils import ProjectConfiguration
from transformers import AutoTokenizer

from xr2text.config import Config, ConfigError, GenerationConfig, Settings, load_config, save_config
from xr2text.data.segmentation import held_out, segmented_studies, study_key
from xr2text.data.study import Study
from xr2text.model.checkpoint import Checkpoint
from xr2text.model.summary import parameter_table, unweighted_model
from xr2text.model.xr2text import XR2Text
from xr2text.parallel import usable_cores
from xr2text.text.tokenizer import load_bart_tokenizer, train_tokenizer
from xr2text.training.card import card_head
from xr2text.training.data import build_curriculum, load_split_studies
from xr2text.training.state import LAUNCHERS

PLACES = {
    "output",
    "data.root",
    "data.split_file",
    "data.labelled_images",
    "data.segmentation",
    "data.replay",
    "data.cache",
    "training.init_from",
    "model.encoder.weights",
    "model.decoder.weights",
}  # settings that contain paths of this machine
SEVERAL = "several on CPUs are started by ACCELERATE_USE_CPU=true torchrun --nproc_per_node N train.py ..."
CARD = "card.md"  # in a run's folder: the beginning of its checkpoints' model cards
MAY_CHANGE = PLACES - {"data.replay"} | {
    "name",
    "data.workers",
    "data.max_skip_fraction",
    "training.epochs",
    "training.gradient_checkpointing",
    "training.report_to",
    "training.hourly_rate",
    "generation.num_beams",
    "generation.length_penalty",
}  # in a resumed run; a data folder may move, but none may be added or removed, see `_check_resumed`


def make_accelerator(config: Config) -> Accelerator:
    """Sets up accelerate, and writes the precision that "auto" stands for into the config. Raises ConfigError for a
    precision that this machine lacks, a tracker that is not installed, and a launch that does not fit."""
    settings = config.training
    for tracker in settings.report_to:
        if importlib.util.find_spec(tracker) is None:
            raise ConfigError(f"training.report_to: {tracker} is not installed: pip install {tracker}")
    settings.mixed_precision = _precision(settings.mixed_precision)
    if settings.bf16_weights and settings.ema_decay is not None:
        raise ConfigError("training.ema_decay: an average of weights in bfloat16 loses its small changes; set it null")
    accelerator = Accelerator(
        mixed_precision=settings.mixed_precision,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        step_scheduler_with_optimizer=False,
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=settings.seed),
        log_with=settings.report_to or None,
        project_config=ProjectConfiguration(project_dir=config.output, logging_dir=f"{config.output}/trackers"),
    )
    if accelerator.device.type == "cpu":
        _use_cores(accelerator.num_processes)
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != accelerator.num_processes:
        joined = accelerator.num_processes
        raise ConfigError(f"{launched} processes were launched, but accelerate joins {joined} of them; {SEVERAL}")
    if "MASTER_ADDR" in os.environ and "WORLD_SIZE" not in os.environ and not LAUNCHERS.isdisjoint(os.environ):
        accelerator.print(f"accelerate launch has started one process, whatever --num_processes says; {SEVERAL}")
    for refused, why in (
        (settings.ema_decay is not None, "ema_decay keeps a whole copy of the weights, which FSDP is to avoid"),
        (settings.bf16_weights, "optimizer adamw_8bit leaves some weights in float32, which FSDP cannot gather"),
    ):
        if refused and accelerator.distributed_type == DistributedType.FSDP:
            raise ConfigError(f"training.{why}: do without, or take DDP")
    return accelerator


def _use_cores(processes: int) -> None:
    """Gives the process its share of the cores; launchers limit it to one thread."""
    if LAUNCHERS.isdisjoint(os.environ) or os.environ.get("OMP_NUM_THREADS") != "1":
        return
    torch.set_num_threads(max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", processes))))


def _precision(choice: str) -> str:
    """The mixed precision of this run: as configured, else as given to `accelerate launch`, else as the
    hardware allows: bf16 or fp16 on a GPU, no on a CPU."""
    if choice == "fp16" and not torch.cuda.is_available():
        raise ConfigError("training.mixed_precision fp16 needs a GPU; a CPU takes no or bf16")
    if choice != "auto":
        return choice
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if launched != "no" or not torch.cuda.is_available():
        return launched
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def started_command(config_files: list[str], overrides: list[str]) -> str:
    """The command that started the run, without paths of this machine."""
    files = " ".join(Path(file).name if Path(file).is_absolute() else file for file in config_files)
    kept = [override for override in overrides if override.split("=")[0] not in PLACES]
    return f"accelerate launch train.py --config {files}" + (f" --set {' '.join(kept)}" if kept else "")


def first_checkpoint(config: Config, train_studies: Iterable[Study], resumed: bool) -> Checkpoint:
    """The model, tokenizer and beginning of the model card that the run starts from: those of `init_from`, pretrained
    parts named in the config, or new ones. The weights of a resumed run are loaded later, with its state. Search
    settings that the config leaves out are those of `init_from`, or of the resumed run.

    Raises:
        ConfigError: the settings do not fit the resumed run, or the model of `init_from`.
        CheckpointError: `init_from` cannot be read.
    """
    start, given, output = config.training.init_from, None, Path(config.output)
    if resumed:
        _check_resumed(config)
        tokenizer = AutoTokenizer.from_pretrained(output / "tokenizer")
    elif start is not None:
        given = Checkpoint.from_pretrained(start)
        tokenizer = given.tokenizer
        _keep_search(config, given.generation)
    elif config.model.decoder.weights is not None:
        tokenizer = load_bart_tokenizer(config.model.decoder.weights)
    else:
        texts = (text for study in train_studies for text in (study.findings, study.impression) if text)
        tokenizer = train_tokenizer(texts)
    model = XR2Text(config.model, len(tokenizer))
    if given is not None:
        _copy_weights(given.model, model, start)
    elif not resumed:
        model.encoder.load_pretrained()
        model.decoder.load_pretrained()
    card = (output / CARD).read_text(encoding="utf-8") if resumed else card_head(config, given)
    return Checkpoint(model, tokenizer, config.generation, config.name, card, _held_out(config, given))


def _held_out(config: Config, given: Checkpoint | None) -> list[str] | None:
    """Keys of the radiographs with masks that this run is not trained on and that `given`, as far as it says, was not
    trained on."""
    before = None if given is None else given.held_out
    if config.data.segmentation is None:
        return before
    keys = map(study_key, held_out(segmented_studies(config.data.segmentation)))
    return [key for key in keys if before is None or key in before]


def _copy_weights(given: XR2Text, model: XR2Text, start: str) -> None:
    """Copies weights and calibration. Raises ConfigError where `model` does not fit the checkpoint `start`."""
    if given.config.findings != model.config.findings:
        raise ConfigError(f"training.init_from: {start} predicts other findings than model.findings names")
    try:
        model.load_state_dict(given.state_dict())
    except RuntimeError as error:
        differing = _changes(given.config, model.config).items()
        words = "; ".join(f"{name} is {now!r}, and {there!r} there" for name, (there, now) in differing)
        raise ConfigError(f"training.init_from: {start} does not fit the settings of model: {words}") from error
    model.calibration = given.calibration


def _keep_search(config: Config, before: GenerationConfig) -> None:
    """Takes search settings that the config leaves out from `before`."""
    for name in GenerationConfig.model_fields.keys() - config.generation.model_fields_set:
        setattr(config.generation, name, getattr(before, name))


def _check_resumed(config: Config) -> None:
    """Refuses changes of what decides the model, its loss or the order of the studies; see MAY_CHANGE. A batch that was
    halved stays halved."""
    file, settings = Path(config.output) / "config.yaml", config.training
    before = load_config(file)
    _keep_search(config, before.generation)
    if before.training.studies_per_update == settings.studies_per_update:
        for name in ("batch_size", "gradient_accumulation_steps"):
            setattr(settings, name, getattr(before.training, name))
    wrong = [
        f"{name} is {new!r}, and {old!r} in {file}"
        for name, (old, new) in _changes(before, config).items()
        if name not in MAY_CHANGE or (name.startswith("data.") and name != "data.cache" and None in (old, new))
    ]
    if wrong:
        raise ConfigError(
            f"--resume: {'; '.join(wrong)}. What may change: {', '.join(sorted(MAY_CHANGE))}, and training.batch_size "
            "where its product with gradient_accumulation_steps stays"
        )


def _changes(before: Settings, now: Settings) -> dict[str, tuple[Any, Any]]:
    """The settings that differ, by dotted name: (before, now)."""
    old, new = (pd.json_normalize(settings.model_dump()).to_dict("records")[0] for settings in (before, now))
    return {name: (old.get(name), value) for name, value in new.items() if old.get(name) != value}


def start_output(config: Config, checkpoint: Checkpoint, resumed: bool, accelerator: Accelerator) -> None:
    """Writes settings and tokenizer into the run's folder, and opens the trackers. In a resumed run, the settings begin
    with a comment for each changed one."""
    output = Path(config.output)
    if accelerator.is_main_process:
        file, lines = output / "config.yaml", []
        if resumed:
            lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("# until ")]
            changes = _changes(load_config(file), config).items()
            lines += [f"# until {datetime.now():%Y-%m-%d %H:%M}: {name}: {before!r}" for name, (before, _) in changes]
        save_config(config, file, lines)
        checkpoint.tokenizer.save_pretrained(output / "tokenizer")
        (output / CARD).write_text(checkpoint.card, encoding="utf-8")
    if config.training.report_to:
        flat = pd.json_normalize(config.model_dump()).to_dict("records")[0].items()
        shown = {name: value if isinstance(value, int | float) else str(value) for name, value in flat}
        shown = {name: value for name, value in shown.items() if name not in PLACES}
        logs = {"wandb": {"dir": str(output / "trackers")}}  # it would write into the working folder
        accelerator.init_trackers(config.name, config=shown, init_kwargs=logs)


def describe_run(config: Config) -> str:
    """A description of what the config would train: parameters, stages and updates (of one process). No weights are
    downloaded."""
    curriculum = build_curriculum(config, load_split_studies(config)["train"])
    studies = config.training.studies_per_update
    updates = {stage.name: stage.epochs * -(-len(stage.indices) // studies) for stage in curriculum.stages}
    counts = ", ".join(f"{name} {count:,}" for name, count in updates.items())
    return (
        f"{parameter_table(unweighted_model(config.model))}\n\n{curriculum.table()}\n\nupdates: {counts}\n"
        f"in all {sum(updates.values()):,} of {studies} radiographs on one process"
    )
