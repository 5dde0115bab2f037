"""Trains XR2Text: `accelerate launch train.py --config configs/phantom.yaml [--set training.epochs=3] [--resume]`.

Writes into the config's `output` folder: config.yaml, history.csv, training_report.md (with its pictures in report/),
samples.md, left_out.csv (what could not be used, and why), trackers/, states/ (to resume from), best/ (the checkpoint
with the highest Combined, BLEU-4 + ROUGE-L) and, at the end, checkpoint/ (the same, with its model card) and
validation_reports.csv. `--dry-run` shows what a run would be, and trains nothing.
"""

import argparse
import sys
from pathlib import Path

from accelerate.utils import set_seed
from safetensors import SafetensorError

from xr2text.config import Config, ConfigError, load_config
from xr2text.data.sources import DataError
from xr2text.model.xr2text import CheckpointError
from xr2text.training.bad import LeftOut, StageExamples
from xr2text.training.clock import Clock
from xr2text.training.data import make_loader, prepare_data
from xr2text.training.finish import describe_run, finish_run
from xr2text.training.loop import NonFiniteLossError, train_one_epoch
from xr2text.training.losses import Objective
from xr2text.training.memory import OutOfMemoryError, fit_batch
from xr2text.training.optim import EarlyStopping, StageSpan, WeightAverage, build_optimizer, build_schedule
from xr2text.training.record import RunRecord, restore_calibration, start_output
from xr2text.training.setup import build_model, make_accelerator, started_command, states_to_resume
from xr2text.training.state import Progress, StateError, StopRequest, disk_is_full, save_state


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train XR2Text.")
    parser.add_argument("--config", required=True, help="a YAML file, see configs/")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides, e.g. training.epochs=3")
    parser.add_argument("--resume", action="store_true", help="go on from the last state in the output folder")
    parser.add_argument("--dry-run", action="store_true", help="print parameters, stages, updates and memory, and stop")
    args = parser.parse_args(argv)
    try:
        config = load_config(args.config, args.set)
        if args.dry_run:
            print(describe_run(config))
        else:
            train(config, started_command(args.config, args.set), args.resume)
    except (ConfigError, DataError, NonFiniteLossError, CheckpointError, StateError, OutOfMemoryError) as error:
        sys.exit(f"train.py: {error}")
    except (OSError, SafetensorError) as error:
        if not disk_is_full(error):
            raise
        sys.exit(f"train.py: {error}; the states saved before are whole, and --resume goes on from the last")


def train(config: Config, started_by: str, resume: bool) -> None:
    settings, output = config.training, Path(config.output)
    states = states_to_resume(output, resume)
    accelerator = make_accelerator(config)
    set_seed(settings.seed)

    # The data, in the stages of the curriculum.
    data = prepare_data(config, resumed=resume, progress=accelerator.is_local_main_process)
    config.model.decoder.vocab_size = len(data.tokenizer)
    accelerator.print(data.curriculum.table())

    # The model and its loss; a batch that cannot fit is found now, not at the longest report of the first epoch.
    model = build_model(config, data.tokenizer, resume)
    objective = Objective(model, settings.losses).to(accelerator.device)
    settings = config.training = fit_batch(objective, data.train, config.training, accelerator)
    accelerator.gradient_accumulation_steps = settings.accumulation
    stages = data.curriculum.stages
    most_bad = int(config.data.max_bad_share * len(data.train))
    shown = [StageExamples(data.train, stage.indices, most_bad) for stage in stages]
    loaders = [make_loader(part, config, accelerator, shuffle=True) for part in shown]
    val_loader, scored_loader = (make_loader(part, config, accelerator) for part in (data.val, data.scored))

    # The optimiser; its schedule counts the real updates of all stages.
    optimizer = build_optimizer(model, settings, objective.own_parameters())
    spans = [
        StageSpan(stage.epochs * -(-len(loader) // settings.accumulation), stage.config.lr_factor)
        for stage, loader in zip(stages, loaders, strict=True)
    ]
    schedule = build_schedule(optimizer, settings, spans)
    wrapped, optimizer = accelerator.prepare(objective, optimizer)
    average, patience = WeightAverage(model, settings.ema_decay), EarlyStopping(settings.patience)
    progress = Progress(
        processes=accelerator.num_processes,
        temperature=config.model.finding_temperature,
        thresholds=dict(config.model.finding_thresholds),
    )
    accelerator.register_for_checkpointing(progress, schedule, average, patience)
    start_output(config, data, accelerator)
    if resume:
        accelerator.load_state(str(states[-1]))
        restore_calibration(model, progress)
        accelerator.print(f"resumed at epoch {progress.epoch + 1}, batch {progress.batch}")
    left_out = LeftOut(data.train, config.data.max_bad_share, progress, accelerator)
    left_out.add_empty()
    record = RunRecord(config, data, model, average, (val_loader, scored_loader), accelerator)

    def save() -> None:
        save_state(accelerator, output / "states", progress, settings.keep)
        clock.saved()

    with StopRequest() as stop:
        plan = [(stage.name, span.updates) for stage, span in zip(stages, spans, strict=True)]
        clock = Clock(settings, progress, stop, plan)
        while progress.epoch < settings.total_epochs and not patience.over:
            stage = data.curriculum.stage_at(progress.epoch)
            data.train.set_epoch(progress.epoch)
            result = train_one_epoch(
                wrapped, loaders[stages.index(stage)], optimizer, schedule, accelerator, progress, settings,
                sum(span.updates for span in spans), after_update=lambda: average.update(model),
                due=lambda: clock.due(accelerator), save=save, left_out=left_out,
            )  # fmt: skip
            if not result.finished:
                accelerator.print(f"{clock.reason}: the state is saved, --resume goes on")
                return
            left_out.gather(output)
            scores = record.validate(progress)
            patience.step(scores["score"])
            record.write(progress, stage, result, scores)
            save()
    finish_run(config, started_by, data, val_loader, progress, accelerator)
    if left_out.summary(output):
        accelerator.print(left_out.summary(output))
    accelerator.end_training()


if __name__ == "__main__":
    main()
