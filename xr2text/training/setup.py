"""What a run starts from: the accelerator, its precision and the model's first weights."""

import importlib.util
import os
from pathlib import Path

import torch
from accelerate import Accelerator, DataLoaderConfiguration, DistributedType
from accelerate.utils import ProjectConfiguration

from xr2text.config import Config, ConfigError, TrainingConfig, load_checkpoint_config, load_config
from xr2text.model.xr2text import CONFIG_FILE, XR2Text
from xr2text.training.optim import matrices_to_bf16
from xr2text.training.state import saved_states


def states_to_resume(output: Path, resume: bool) -> list[Path]:
    """The run's saved states, none for a new run. Raises ConfigError where `resume` and the folder do not agree."""
    states = saved_states(output / "states")
    if states and not resume:
        raise ConfigError(f"{output} holds a run already: --resume goes on with it; or choose another output")
    if resume and not states:
        raise ConfigError(f"--resume: there is no saved state in {output / 'states'}")
    return states


def make_accelerator(config: Config) -> Accelerator:
    """Raises ConfigError for a precision that this machine does not have, or a tracker that is not installed, and for a
    launch that does not fit."""
    settings = config.training
    for tracker in settings.trackers:
        if importlib.util.find_spec(tracker) is None:
            raise ConfigError(f"training.trackers: {tracker} is not installed: pip install {tracker}")
    accelerator = Accelerator(
        mixed_precision=precision(settings.precision),
        gradient_accumulation_steps=settings.accumulation,
        step_scheduler_with_optimizer=False,
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=settings.seed),
        log_with=settings.trackers or None,
        project_config=ProjectConfiguration(project_dir=config.output, logging_dir=f"{config.output}/trackers"),
    )
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != accelerator.num_processes:
        raise ConfigError(
            f"{launched} processes were launched, but accelerate joins {accelerator.num_processes} of them; on CPUs, "
            "start them by ACCELERATE_USE_CPU=true torchrun --nproc_per_node N train.py ..."
        )
    if accelerator.distributed_type == DistributedType.FSDP:
        if settings.ema_decay is not None:
            raise ConfigError(
                "training.ema_decay keeps a whole copy of the weights, which FSDP is there to avoid: set it null"
            )
        if settings.bf16_weights:
            raise ConfigError(
                "training.bf16_weights leaves some weights in float32, which FSDP cannot gather with them"
            )
        if settings.losses.reward:
            raise ConfigError(
                "training.losses.reward draws reports of other lengths on each process, for which FSDP's shards cannot "
                "be gathered: set it 0, or take DDP"
            )
    return accelerator


def precision(choice: str) -> str:
    """The mixed precision of this run: as chosen, else as accelerate was launched, else as the hardware allows."""
    if choice == "fp16" and not torch.cuda.is_available():
        raise ConfigError("training.precision fp16 needs a GPU; a CPU takes no or bf16")
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if choice != "auto" or launched != "no":
        return choice if choice != "auto" else launched
    if not torch.cuda.is_available():
        return "no"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def started_command(config_file: str, overrides: list[str]) -> str:
    """The command that started the run, without the places on this machine that it read from and wrote to."""
    kept = [
        one
        for one in overrides
        if not one.startswith(
            ("output=", "data.root=", "data.split_file=", "data.cache=", "training.start_from=", "training.teachers=")
        )
    ]
    file = Path(config_file).name if Path(config_file).is_absolute() else config_file
    return f"accelerate launch train.py --config {file}" + (f" --set {' '.join(kept)}" if kept else "")


def build_model(config: Config, tokenizer, resume: bool) -> XR2Text:
    """The model with its first weights: those that the config names, an earlier phase's, or (resumed) none yet."""
    if resume:
        _check_resumed(config)
    settings = config.training
    model = XR2Text(config.model, tokenizer, config.generation, config.name)
    if resume:
        pass  # they come with the state
    elif settings.start_from is not None:
        model.load_weights(settings.start_from)
        _take_calibration(config, settings.start_from)
    else:
        model.load_initial_weights()
    return switch_on(model, settings)


def switch_on(model: XR2Text, settings: TrainingConfig) -> XR2Text:
    """What of a model is trained, and how it saves time and memory in that; the model itself is changed."""
    model.freeze_untrained(settings.losses)
    if settings.gradient_checkpointing:
        model.enable_gradient_checkpointing(settings.checkpoint_text)
    if settings.bf16_weights:
        matrices_to_bf16(model)
    if settings.compile:
        model.compile_layers()
    return model.to(memory_format=torch.channels_last)


def _take_calibration(config: Config, checkpoint: str) -> None:
    """The finding head's temperature and thresholds come with its weights. Raises ConfigError where it predicts other
    findings, or in another order."""
    _, given, _ = load_checkpoint_config(Path(checkpoint) / CONFIG_FILE)
    if list(given.findings.items()) != list(config.model.findings.items()):
        raise ConfigError(f"training.start_from: {checkpoint} predicts other findings than model.findings names")
    config.model.finding_temperature = given.finding_temperature
    config.model.finding_thresholds = given.finding_thresholds


def _check_resumed(config: Config) -> None:
    """What decides the model and the order of the studies must be as it was; a batch that was fitted stays."""
    file = Path(config.output) / "config.yaml"
    saved = load_config(file)
    saved.model.finding_temperature = config.model.finding_temperature  # these are fitted, and come with the state
    saved.model.finding_thresholds = config.model.finding_thresholds
    if saved.model != config.model:
        raise ConfigError(f"--resume: the model's settings differ from those in {file}")
    if config.training.fit_batch:
        config.training.batch_size, config.training.accumulation = (
            saved.training.batch_size,
            saved.training.accumulation,
        )
    for name in ("batch_size", "accumulation", "curriculum", "seed"):
        if getattr(saved.training, name) != getattr(config.training, name):
            raise ConfigError(f"--resume: training.{name} differs from that in {file}")
