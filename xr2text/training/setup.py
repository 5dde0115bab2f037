"""What a run starts from: the accelerator, and the model with its first weights and its tokenizer."""

import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import torch
from accelerate import Accelerator, DataLoaderConfiguration, DistributedType
from accelerate.utils import ProjectConfiguration
from transformers import AutoTokenizer

from xr2text.config import Config, ConfigError, load_config, save_config
from xr2text.data.study import Study
from xr2text.model.checkpoint import Checkpoint
from xr2text.model.summary import parameter_table, unweighted_model
from xr2text.model.xr2text import XR2Text
from xr2text.text.tokenizer import load_bart_tokenizer, train_tokenizer
from xr2text.training.data import build_curriculum, load_split_studies

PLACES = {
    "output",
    "data.root",
    "data.split_file",
    "data.labelled_images",
    "data.segmentation",
    "data.cache",
    "training.init_from",
    "model.encoder.weights",
    "model.decoder.weights",
}  # settings that tell of this machine's folders


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
    for refused, why in (
        (settings.ema_decay is not None, "ema_decay keeps a whole copy of the weights, which FSDP is to avoid"),
        (settings.bf16_weights, "optimizer adamw_8bit leaves some weights in float32, which FSDP cannot gather"),
    ):
        if refused and accelerator.distributed_type == DistributedType.FSDP:
            raise ConfigError(f"training.{why}: do without, or take DDP")
    return accelerator


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
    files = " ".join(Path(file).name if Path(file).is_absolute() else file for file in config_files)
    kept = [override for override in overrides if override.split("=")[0] not in PLACES]
    return f"accelerate launch train.py --config {files}" + (f" --set {' '.join(kept)}" if kept else "")


def first_checkpoint(config: Config, train_studies: Iterable[Study], resume: bool) -> Checkpoint:
    """The model and tokenizer that the run starts from: those of `init_from`, the pretrained parts that the config
    names, or new ones. A resumed run's weights come later, with its state.

    Raises:
        ConfigError: the settings do not fit the resumed run, or the model of `init_from`.
        CheckpointError: `init_from` cannot be read.
    """
    start, given = config.training.init_from, None
    if resume:
        _check_resumed(config)
        tokenizer = AutoTokenizer.from_pretrained(Path(config.output) / "tokenizer")
    elif start is not None:
        given = Checkpoint.from_pretrained(start)
        tokenizer = given.tokenizer
    elif config.model.decoder.weights is not None:
        tokenizer = load_bart_tokenizer(config.model.decoder.weights)
    else:
        texts = (text for study in train_studies for text in (study.findings, study.impression) if text)
        tokenizer = train_tokenizer(texts)
    model = XR2Text(config.model, len(tokenizer))
    if given is not None:
        if given.model.config.findings != config.model.findings:
            raise ConfigError(f"training.init_from: {start} predicts other findings than model.findings names")
        try:
            model.load_state_dict(given.model.state_dict())
        except RuntimeError as error:
            raise ConfigError(f"training.init_from: {start} does not fit the settings of model: {error}") from error
        model.calibration = given.model.calibration
    elif not resume:
        model.load_pretrained_parts()
    return Checkpoint(model, tokenizer, config.generation, config.name)


def _check_resumed(config: Config) -> None:
    """What decides the model and the order of the studies must be as it was; a batch that was halved stays so."""
    file, settings = Path(config.output) / "config.yaml", config.training
    saved, kept = load_config(file), load_config(file).training
    for name, same in (
        ("model", saved.model == config.model),
        ("training.curriculum", kept.curriculum == settings.curriculum),
        ("training.seed", kept.seed == settings.seed),
        (
            "training.batch_size times gradient_accumulation_steps",
            kept.studies_per_update == settings.studies_per_update,
        ),
    ):
        if not same:
            raise ConfigError(f"--resume: {name} differs from that in {file}")
    settings.batch_size, settings.gradient_accumulation_steps = kept.batch_size, kept.gradient_accumulation_steps


def start_output(config: Config, checkpoint: Checkpoint, accelerator: Accelerator) -> None:
    """The run's folder with its resolved settings and tokenizer; opens the trackers."""
    output = Path(config.output)
    if accelerator.is_main_process:
        save_config(config, output / "config.yaml")
        checkpoint.tokenizer.save_pretrained(output / "tokenizer")
    if config.training.report_to:
        flat = pd.json_normalize(config.model_dump()).iloc[0].items()
        shown = {name: value if isinstance(value, int | float) else str(value) for name, value in flat}
        shown = {name: value for name, value in shown.items() if name not in PLACES}
        logs = {"wandb": {"dir": str(output / "trackers")}}  # it would write into the working folder
        accelerator.init_trackers(config.name, config=shown, init_kwargs=logs)


def describe_run(config: Config) -> str:
    """What a run of this config would be: parameters, stages and updates (of one process). Fetches no weights."""
    curriculum = build_curriculum(config, load_split_studies(config)["train"])
    studies = config.training.studies_per_update
    updates = {stage.name: stage.epochs * -(-len(stage.indices) // studies) for stage in curriculum.stages}
    counts = ", ".join(f"{name} {count:,}" for name, count in updates.items())
    return (
        f"{parameter_table(unweighted_model(config.model))}\n\n{curriculum.table()}\n\nupdates: {counts}\n"
        f"in all {sum(updates.values()):,} of {studies} radiographs on one process"
    )
