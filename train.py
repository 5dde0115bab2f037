"""Trains XR2Text: `accelerate launch train.py --config configs/phantom.yaml [--set training.epochs=3] [--resume]`.

Several config files are read one over the other: `--config configs/full.yaml configs/hardware/8gb.yaml`.

Writes into the config's `output` folder: config.yaml, history.csv, training_report.md (with its pictures in report/),
skipped.csv (what could not be used, and why), trackers/, states/ (to resume from), best/ (the checkpoint with the
highest score) and, at the end, checkpoint/ (the same, with its model card) and, where it learns reports,
validation_reports.csv. `--dry-run` prints parameters, stages and updates, and trains nothing.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import set_seed

from xr2text.config import Config, TrainingConfig, load_config
from xr2text.errors import XR2TextError
from xr2text.model.xr2text import XR2Text
from xr2text.training.card import finish_run
from xr2text.training.data import TrainingData, load_split_studies, prepare_data, stage_loaders
from xr2text.training.loop import Clock, train_one_epoch
from xr2text.training.memory import fit_batch
from xr2text.training.objective import Objective
from xr2text.training.optim import average_weights, build_optimizer, build_schedule, prepare_model, stage_spans
from xr2text.training.report import write_epoch
from xr2text.training.setup import (
    describe_run,
    first_checkpoint,
    make_accelerator,
    start_output,
    started_command,
)
from xr2text.training.skipped import Skipped
from xr2text.training.state import Progress, StopRequest, full_disk_as_error, only_run, save_state, state_to_resume
from xr2text.training.validate import Validator


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train XR2Text.")
    add = partial(parser.add_argument, nargs="+", action="extend")
    add("--config", required=True, metavar="YAML", help="see configs/; later files win")
    add("--set", default=[], metavar="KEY=VALUE", help="e.g. training.epochs=3")
    parser.add_argument("--resume", action="store_true", help="go on from the last state in the output folder")
    parser.add_argument("--dry-run", action="store_true", help="print parameters, stages and updates, and stop")
    args = parser.parse_args(argv)
    try:
        config = load_config(args.config, args.set)
        if args.dry_run:
            print(describe_run(config))
        else:
            with full_disk_as_error(), only_run(Path(config.output), config.data.cache):
                train(config, started_command(args.config, args.set), args.resume)
    except XR2TextError as error:
        sys.exit(f"train.py: {error}")


def train(config: Config, command: str, resume: bool) -> None:
    settings, output = config.training, Path(config.output)
    state, notes = state_to_resume(output, resume)
    accelerator = make_accelerator(config)
    accelerator.print(*notes, sep="\n", end="\n" if notes else "")
    set_seed(settings.seed)

    # The model, and what it is shown in the stages of the curriculum.
    studies = load_split_studies(config)
    checkpoint = first_checkpoint(config, studies["train"], resumed=state is not None)
    model = checkpoint.model
    data = prepare_data(config, studies, checkpoint.tokenizer, model.transform)
    stages = data.curriculum.stages
    accelerator.print(data.curriculum.table())
    skipped = Skipped(data.train, config.data.max_skip_fraction)
    objective = build_objective(model, data, settings, accelerator)
    loaders = stage_loaders(config, data, skipped, accelerator)

    # The optimiser; its schedule counts the real updates of all stages.
    optimizer = build_optimizer(model, settings)
    plan = stage_spans(stages, loaders, settings.gradient_accumulation_steps)
    schedule = build_schedule(optimizer, plan)
    average = average_weights(model, settings.ema_decay, optimizer)
    wrapped, optimizer = accelerator.prepare(objective, optimizer)
    if accelerator.num_processes > 1:
        set_seed(settings.seed, device_specific=True)  # each has its own dropout

    # What is saved and resumed.
    progress = Progress(
        sum(span.updates for span in plan), accelerator.num_processes, settings.batch_size, len(data.train),
        calibration=model.calibration,
    )  # fmt: skip
    accelerator.register_for_checkpointing(progress, schedule, skipped, *([average] if average else []))
    start_output(config, checkpoint, state is not None, accelerator)
    validate = Validator(config, data, checkpoint, average, accelerator)
    if state is not None:
        accelerator.load_state(str(state))
        model.calibration = progress.calibration
        accelerator.print(f"resumed at epoch {progress.epoch + 1}, batch {progress.batch}")
    skipped.add_empty()
    save = partial(save_state, accelerator, output, progress)
    with StopRequest() as stop:
        clock = Clock(accelerator, progress, plan, stop, save, settings.hourly_rate)
        while progress.epoch < settings.total_epochs:
            loader = loaders[stages.index(data.curriculum.stage_at(progress.epoch))]
            data.train.set_epoch(progress.epoch)
            trained = train_one_epoch(
                wrapped, loader, optimizer, schedule, accelerator, progress, settings, clock.after_update
            )
            if trained is None:
                accelerator.print("stopped as asked: the state is saved, --resume goes on")
                return
            skipped.gather(output)
            scores, samples = validate(progress)
            figures = {"epoch": progress.epoch, **trained, **scores, "seconds": round(progress.seconds, 1)}
            write_epoch(config, stages, figures, samples, accelerator)
            save()
    finish_run(config, command, data, skipped, accelerator)
    accelerator.end_training()


def build_objective(
    model: XR2Text, data: TrainingData, settings: TrainingConfig, accelerator: Accelerator
) -> Objective:
    """The model with its loss, on its device. A batch that cannot fit is halved now, not found at the longest report of
    the first epoch."""
    objective = Objective(model, settings.losses)
    prepare_model(model, settings)
    objective.to(accelerator.device)
    fit_batch(objective, data.train, settings, accelerator)
    return objective


if __name__ == "__main__":
    main()
