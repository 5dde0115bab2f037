"""What a run starts from: the accelerator, and the model with its first weights and its tokenizer."""

import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path

import torch
from accelerate import Accelerator, DataLoaderConfiguration, DistributedType
from accelerate.utils import ProjectConfiguration
from transformers import AutoTokenizer

from xr2text.config import Config, ConfigError, TrainingConfig, load_config, save_config
from xr2text.data.study import Study
from xr2text.model.checkpoint import Checkpoint
from xr2text.model.summary import BART_VOCAB_SIZE, parameters_by_part
from xr2text.model.xr2text import XR2Text
from xr2text.text.tokenizer import VOCAB_SIZE, load_bart_tokenizer, train_tokenizer
from xr2text.training.data import build_curriculum, load_split_studies
from xr2text.training.optim import matrices_to_bf16
from xr2text.training.report import shown_settings


def make_accelerator(config: Config) -> Accelerator:
    """Raises ConfigError for a precision that this machine does not have, a tracker that is not installed, and a launch
    that does not fit. Writes the precision that "auto" has become into the config."""
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
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != accelerator.num_processes:
        raise ConfigError(
            f"{launched} processes were launched, but accelerate joins {accelerator.num_processes} of them; on CPUs, "
            "start them by ACCELERATE_USE_CPU=true torchrun --nproc_per_node N train.py ..."
        )
    if accelerator.distributed_type == DistributedType.FSDP:
        _check_fsdp(settings)
    return accelerator


def _check_fsdp(settings: TrainingConfig) -> None:
    for refused, why in (
        (settings.ema_decay is not None, "ema_decay keeps a whole copy of the weights, which FSDP is to avoid"),
        (settings.bf16_weights, "optimizer adamw_8bit leaves some weights in float32, which FSDP cannot gather"),
        (settings.losses.scst, "losses.scst draws reports of different lengths, for which FSDP cannot gather shards"),
    ):
        if refused:
            raise ConfigError(f"training.{why}: take another, or DDP")


def _precision(choice: str) -> str:
    """The mixed precision of this run: as chosen, else as accelerate was launched, else as the hardware allows."""
    if choice == "fp16" and not torch.cuda.is_available():
        raise ConfigError("training.mixed_precision fp16 needs a GPU; a CPU takes no or bf16")
    if choice != "auto":
        return choice
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if launched != "no" or not torch.cuda.is_available():
        return launched
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def started_command(config_files: list[str], overrides: list[str]) -> str:
    """The command that started the run, without the places on this machine that it read from and wrote to."""
    places = ("output=", "data.root=", "data.split_file=", "data.labelled_images=", "data.segmentation=", "data.cache=",
              "training.init_from=")  # fmt: skip
    files = " ".join(Path(file).name if Path(file).is_absolute() else file for file in config_files)
    kept = [override for override in overrides if not override.startswith(places)]
    return f"accelerate launch train.py --config {files}" + (f" --set {' '.join(kept)}" if kept else "")


def first_checkpoint(config: Config, train_studies: Iterable[Study], resume: bool) -> Checkpoint:
    """The model and tokenizer that the run starts from: those of `init_from`, the pretrained parts that the config
    names, or new ones. A resumed run's weights come later, with its state.

    Raises:
        ConfigError: the settings do not fit the resumed run, or the model of `init_from`.
        CheckpointError: `init_from` cannot be read.
    """
    start = config.training.init_from
    if resume:
        _check_resumed(config)
        tokenizer = AutoTokenizer.from_pretrained(Path(config.output) / "tokenizer")
        model = XR2Text(config.model, len(tokenizer))
    elif start is not None:
        given = Checkpoint.from_pretrained(start)
        tokenizer, model = given.tokenizer, XR2Text(config.model, len(given.tokenizer))
        _take_weights(model, given.model, start)
    else:
        tokenizer = _new_tokenizer(config, train_studies)
        model = XR2Text(config.model, len(tokenizer))
        model.load_pretrained_parts()
    return Checkpoint(model, tokenizer, config.generation, config.name)


def _new_tokenizer(config: Config, studies: Iterable[Study]):
    """BART's, or one that is learned from the training reports."""
    if config.model.decoder.weights is not None:
        return load_bart_tokenizer(config.model.decoder.weights)
    return train_tokenizer(text for study in studies for text in (study.findings, study.impression) if text)


def _take_weights(model: XR2Text, given: XR2Text, name: str) -> None:
    """Weights and calibration."""
    if model.config.findings != given.config.findings:
        raise ConfigError(f"training.init_from: {name} predicts other findings than model.findings names")
    try:
        model.load_state_dict(given.state_dict())
    except RuntimeError as error:
        raise ConfigError(f"training.init_from: {name} does not fit the settings of model: {error}") from error
    model.calibration = given.calibration


def prepare_model(model: XR2Text, settings: TrainingConfig) -> None:
    """How a model saves time and memory in training; it is changed in place."""
    if settings.gradient_checkpointing != "none":
        model.enable_gradient_checkpointing(text=settings.gradient_checkpointing == "all")
    if settings.bf16_weights:
        matrices_to_bf16(model)
    model.to(memory_format=torch.channels_last)


def _check_resumed(config: Config) -> None:
    """What decides the model and the order of the studies must be as it was; a batch that was halved stays so."""
    file, settings = Path(config.output) / "config.yaml", config.training
    saved = load_config(file)
    if saved.model != config.model:
        raise ConfigError(f"--resume: the model's settings differ from those in {file}")
    for name in ("curriculum", "seed"):
        if getattr(saved.training, name) != getattr(settings, name):
            raise ConfigError(f"--resume: training.{name} differs from that in {file}")
    per_update = saved.training.batch_size * saved.training.gradient_accumulation_steps
    if per_update != settings.batch_size * settings.gradient_accumulation_steps:
        raise ConfigError(f"--resume: training.batch_size times gradient_accumulation_steps is {per_update} in {file}")
    settings.batch_size = saved.training.batch_size
    settings.gradient_accumulation_steps = saved.training.gradient_accumulation_steps


def start_output(config: Config, checkpoint: Checkpoint, accelerator: Accelerator) -> None:
    """The run's folder with its resolved settings and tokenizer; opens the trackers."""
    output = Path(config.output)
    if accelerator.is_main_process:
        save_config(config, output / "config.yaml")
        checkpoint.tokenizer.save_pretrained(output / "tokenizer")
    if config.training.report_to:
        logs = {"wandb": {"dir": str(output / "trackers")}}  # it would write into the working folder
        accelerator.init_trackers(config.name, config=shown_settings(config), init_kwargs=logs)


def describe_run(config: Config) -> str:
    """What a run of this config would be: parameters, stages and updates (of one process). Fetches no weights."""
    with torch.device("meta"):
        model = XR2Text(config.model, BART_VOCAB_SIZE if config.model.decoder.weights else VOCAB_SIZE)
    parts = parameters_by_part(model)
    width = max(map(len, parts))
    curriculum = build_curriculum(config, load_split_studies(config)["train"])
    per_update = config.training.batch_size * config.training.gradient_accumulation_steps
    updates = {stage.name: stage.epochs * -(-len(stage.indices) // per_update) for stage in curriculum.stages}
    return "\n".join([
        *(f"  {part:<{width}}  {count:>13,}" for part, count in (parts | {"total": sum(parts.values())}).items()),
        "",
        curriculum.table(),
        "",
        "updates: " + ", ".join(f"{name} {count:,}" for name, count in updates.items()),
        f"in all {sum(updates.values()):,} of {per_update} radiographs on one process",
    ])  # fmt: skip
