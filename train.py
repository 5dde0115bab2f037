"""Trains XR2Text: `accelerate launch train.py --config configs/phantom.yaml [--set training.epochs=3] [--resume]`.

Writes into the config's `output` folder: config.yaml, history.csv, samples.md, states/ (to resume from), best/ (the
checkpoint with the lowest validation loss) and, at the end, checkpoint/ (the same, with its model card) and
validation_reports.csv.
"""

import argparse
import os
import sys
from pathlib import Path

import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, Subset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from xr2text.config import Config, ConfigError, load_config, save_config
from xr2text.data.dataset import ReportDataset, collate
from xr2text.data.sources import DataError, Study, load_studies
from xr2text.model.xr2text import CheckpointError, XR2Text
from xr2text.text.tokenizer import load_bart_tokenizer, train_tokenizer
from xr2text.training.card import model_card
from xr2text.training.history import append_history, append_samples, write_table
from xr2text.training.loop import (
    NonFiniteLossError,
    Progress,
    save_state,
    saved_states,
    train_one_epoch,
    validate,
    write_reports,
)
from xr2text.training.optim import build_optimizer, build_schedule


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train XR2Text.")
    parser.add_argument("--config", required=True, help="a YAML file, see configs/")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides, e.g. training.epochs=3")
    parser.add_argument("--resume", action="store_true", help="go on from the last state in the output folder")
    args = parser.parse_args(argv)
    try:
        train(load_config(args.config, args.set), command(args.config, args.set), args.resume)
    except (ConfigError, DataError, NonFiniteLossError, CheckpointError) as error:
        sys.exit(f"train.py: {error}")


def train(config: Config, started_by: str, resume: bool) -> None:
    settings, output = config.training, Path(config.output)
    states = saved_states(output / "states")
    if states and not resume:
        raise ConfigError(f"{output} holds a run already: --resume goes on with it; or choose another output")
    if resume and not states:
        raise ConfigError(f"--resume: there is no saved state in {output / 'states'}")
    accelerator = Accelerator(
        mixed_precision=precision(settings.precision),
        gradient_accumulation_steps=settings.accumulation,
        step_scheduler_with_optimizer=False,
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=settings.seed),
    )
    set_seed(settings.seed)

    # The data, and the tokenizer that its reports are written in.
    studies = load_studies(config.data, config.model.image.size)
    accelerator.print("studies:", ", ".join(f"{len(part)} {split}" for split, part in studies.items()))
    for split in ("train", "val"):
        if not studies[split]:
            raise DataError(f"data.source {config.data.source!r} gives no study for {split}")
    tokenizer = prepare_tokenizer(config, studies["train"], states)
    config.model.decoder.vocab_size = len(tokenizer)
    check_studies(config, studies["train"])
    if resume and load_config(output / "config.yaml").model != config.model:
        raise ConfigError(f"--resume: the model's settings differ from those in {output / 'config.yaml'}")

    # The model, from its initial weights.
    model = XR2Text(config.model, tokenizer, config.generation, config.name)
    if settings.start_from is not None:
        model.load_weights(settings.start_from)
    elif not resume:
        model.load_initial_weights()
    model.freeze_untrained(settings.losses)
    model = model.to(memory_format=torch.channels_last)

    def dataset(split: str) -> ReportDataset:
        training = split == "train"
        data = ReportDataset(
            studies[split], model.transform, tokenizer, config.generation.max_tokens, config.generation.impression,
            findings=config.model.findings, training=training, augment=training and settings.augment,
            seed=settings.seed,
        )  # fmt: skip
        if config.data.keep_in_memory:
            data.read_all(progress=accelerator.is_local_main_process)
        return data

    def loader(data: ReportDataset, shuffle: bool = False) -> DataLoader:
        # A generator of its own: opening a loader must not move the random state that dropout draws from, or a resumed
        # run would differ from one that never stopped.
        return accelerator.prepare(
            DataLoader(
                data, settings.batch_size, shuffle, collate_fn=collate, num_workers=config.data.workers,
                generator=torch.Generator().manual_seed(settings.seed),
            )
        )  # fmt: skip

    train_data, val_data = dataset("train"), dataset("val")
    train_loader, val_loader = loader(train_data, shuffle=True), loader(val_data)
    sample_loader = loader(Subset(val_data, range(min(settings.sample_reports, len(val_data)))))

    # The optimiser; its schedule counts real updates.
    optimizer = build_optimizer(model, settings)
    updates = settings.epochs * -(-len(train_loader) // settings.accumulation)
    schedule = build_schedule(optimizer, settings, updates)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    progress = Progress()
    accelerator.register_for_checkpointing(progress, schedule)
    if resume:
        accelerator.load_state(str(states[-1]))
        accelerator.print(f"resumed at epoch {progress.epoch + 1}, batch {progress.batch}")
    if accelerator.is_main_process:
        output.mkdir(parents=True, exist_ok=True)
        save_config(config, output / "config.yaml")
        tokenizer.save_pretrained(str(output / "tokenizer"))
    accelerator.print(
        f"{len(train_data)} radiographs, {settings.epochs} epochs, {updates} updates on {accelerator.device}"
    )

    def save() -> None:
        save_state(accelerator, output / "states", progress, settings.keep)

    while progress.epoch < settings.epochs:
        train_data.set_epoch(progress.epoch)
        train_losses, finished = train_one_epoch(
            wrapped, train_loader, optimizer, schedule, accelerator, progress, settings, save
        )
        if not finished:
            save()
            accelerator.print("time is up: the state is saved, --resume goes on")
            return
        val_loss = validate(wrapped, val_loader, accelerator)
        samples = write_reports(model, sample_loader, accelerator)
        losses = {**{f"train {name}": value for name, value in train_losses.items()}, "validation tokens": val_loss}
        accelerator.print(
            f"epoch {progress.epoch}:", ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
        )
        best = val_loss < progress.best_loss
        progress.best_loss = min(val_loss, progress.best_loss)
        if best and accelerator.is_main_process:
            model.save_pretrained(output / "best")
        save()
        if accelerator.is_main_process:
            row = {"epoch": progress.epoch, **losses, "seconds": round(progress.seconds, 1)}
            append_history(output / "history.csv", row)
            append_samples(output / "samples.md", progress.epoch, val_data, samples)

    # The finished checkpoint: the best weights as they are stored, with a model card that says what they do.
    finished = output / "checkpoint"
    if accelerator.is_main_process:
        best_model = XR2Text.from_pretrained(output / "best")
        best_model.generation = config.generation  # a resumed run may search in another way
        best_model.save_pretrained(finished, config.half_precision_checkpoint)
    accelerator.wait_for_everyone()
    model = XR2Text.from_pretrained(finished).to(accelerator.device)
    reports = write_reports(model, val_loader, accelerator)
    if accelerator.is_main_process:
        write_table(output / "validation_reports.csv", val_data, reports)
        card = model_card(config, started_by, train_data, val_data, reports, progress, accelerator.device)
        model.save_pretrained(finished, config.half_precision_checkpoint, card)
        print(f"checkpoint: {finished}")
    accelerator.end_training()


def command(config_file: str, overrides: list[str]) -> str:
    """The command that started the run, without the places on this machine that it read from and wrote to."""
    kept = [
        one
        for one in overrides
        if not one.startswith(("output=", "data.root=", "data.split_file=", "training.start_from="))
    ]
    file = Path(config_file).name if Path(config_file).is_absolute() else config_file
    return f"accelerate launch train.py --config {file}" + (f" --set {' '.join(kept)}" if kept else "")


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


def prepare_tokenizer(config: Config, studies: list[Study], states: list[Path]) -> PreTrainedTokenizerBase:
    """The resumed run's tokenizer, BART's own, or one learned from the training reports."""
    if states:
        return AutoTokenizer.from_pretrained(str(Path(config.output) / "tokenizer"))
    if config.training.start_from is not None:
        return XR2Text.from_pretrained(config.training.start_from).tokenizer
    if config.model.decoder.weights is not None:
        return load_bart_tokenizer(config.model.decoder.weights)
    texts = (text for study in studies for text in (study.findings, study.impression) if text)
    return train_tokenizer(texts, config.model.decoder.vocab_size)


def check_studies(config: Config, studies: list[Study]) -> None:
    """Every finding that the head predicts, and an impression where one is asked for, must stand in some study."""
    if config.generation.impression and not any(study.impression for study in studies):
        raise DataError("no training study has an impression: generation.impression=false trains on findings alone")
    labelled = frozenset().union(*(study.labels for study in studies if study.labels is not None))
    unknown = [name for name in config.model.findings if name not in labelled]
    if unknown:
        raise DataError(f"model.findings: no training study is labelled {unknown[0]!r}")


if __name__ == "__main__":
    main()
