"""The whole recipe of a checkpoint: its training, and cross-validation of its finding head.

    python -m scripts.recipe configs/iu_xray.yaml

The config is trained as it is, and once more without each fold of the patients, then without reports. Each fold reads
the studies that it has not seen: so each training study that has a report is judged by a model that never saw its
patient. Scaling, threshold and measures of the findings that come of all folds are written into the checkpoint, and the
table of its model card is printed. On a CPU two trainings run at a time, since two threads wait for each other within
one. A stopped call goes on where it was: what RUNS/CONFIG holds is not trained again, also where train.py has put it
there. After a change of the code or the settings, remove it.
"""

import argparse
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

import train
from scripts.ablation import trained
from xr2text.config import load_config
from xr2text.errors import XR2TextError
from xr2text.model.checkpoint import Checkpoint
from xr2text.model.xr2text import XR2Text
from xr2text.parallel import usable_cores
from xr2text.training.card import findings_table
from xr2text.training.data import load_split_studies, make_loader, prepare_data
from xr2text.training.validate import fit_calibration, predict

NO_REPORTS = (
    *(f"training.losses.{term}=0" for term in ("ce", "focal", "rdrop")),
    "training.metric_for_best_model=[epoch]",
)  # for the folds, which are faster so, while the finding head sees as much: benchmarks/iu_ablation.md


class Launcher:
    """Runs train.py in up to `jobs` processes at a time, each on its share of the cores. After a failure it starts no
    more."""

    def __init__(self, jobs: int):
        self.threads = max(1, usable_cores() // jobs)
        self.lines: SimpleQueue[int] = SimpleQueue()  # of the terminal, free for a progress bar
        self.running: set[subprocess.Popen] = set()
        self.stopped = False
        for line in range(jobs):
            self.lines.put(line)

    def __call__(self, options: list[str]) -> None:
        if self.stopped:
            return
        line = self.lines.get()
        run = [option.removeprefix("output=") for option in options if option.startswith("output=")][-1]
        environment = os.environ | {
            "OMP_NUM_THREADS": str(self.threads), "TQDM_POSITION": str(line),
            "TQDM_BAR_FORMAT": run.replace("{", "{{").replace("}", "}}") + ": {l_bar}{bar}{r_bar}",
        }  # fmt: skip
        with subprocess.Popen([sys.executable, train.__file__, *options], env=environment) as process:
            self.running.add(process)
            if self.stopped:  # meanwhile
                process.terminate()
            process.wait()
        self.running.remove(process)
        self.stopped |= process.returncode != 0
        self.lines.put(line)

    def stop(self) -> None:
        """Asks the running processes to save their states and end, and starts no more."""
        self.stopped = True
        for process in list(self.running):
            process.terminate()


def train_together(config: str, runs: dict[Path, list[str]], jobs: int) -> list[Path]:
    """Trains a config with the overrides of each folder, `jobs` at a time, and gives their checkpoints. If one fails or
    is stopped, or this process is asked to stop, the others save their states and end."""
    launcher, pool = Launcher(jobs), ThreadPoolExecutor(jobs)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    calls = [pool.submit(trained, config, changes, folder, launcher) for folder, changes in runs.items()]
    try:
        for call in as_completed(calls):
            call.result()
    except KeyboardInterrupt:
        raise SystemExit("stopped as asked: the same call goes on from there") from None
    finally:
        for call in calls:
            call.cancel()
        launcher.stop()
        pool.shutdown()
        signal.signal(signal.SIGTERM, before)
    return [call.result() for call in calls]


def fold_runs(runs: Path, folds: int, overrides: list[str]) -> dict[Path, list[str]]:
    """The folders of the cross-validation's trainings, with the overrides of each."""
    return {
        runs / "folds" / f"{fold + 1}-of-{folds}": [
            *overrides, *NO_REPORTS, f"data.tuning_fraction={1 / folds}", f"data.tuning_fold={fold}"
        ]
        for fold in range(folds)
    }  # fmt: skip


def load_fold(
    config_file: str, overrides: list[str], folder: Path, accelerator: Accelerator
) -> tuple[XR2Text, DataLoader]:
    """The model of a fold's training, and the studies of the patients that it has left out."""
    config, checkpoint = load_config(config_file, overrides), Checkpoint.from_pretrained(folder)
    model = checkpoint.model.to(accelerator.device)
    data = prepare_data(config, load_split_studies(config), checkpoint.tokenizer, model.transform)
    return model, make_loader(data.val, config, accelerator)


def judged_fold(config_file: str, overrides: list[str], folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Finding logits and labels [N, F] of the patients that this fold's training has left out."""
    accelerator = Accelerator()
    _, logits, labels = predict(
        *load_fold(config_file, overrides, folder, accelerator), accelerator, read_reports=False
    )
    return logits, labels


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a YAML file, see configs/")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of it")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1 if torch.cuda.is_available() else 2, help="trainings at a time")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR")
    args = parser.parse_args(argv)
    if args.jobs < 1:
        parser.error("--jobs: at least 1")
    if args.folds < 2:
        parser.error("--folds: at least 2, so that there are patients to train on")
    try:
        config = load_config(args.config, args.set)
    except XR2TextError as error:
        parser.error(str(error))
    if not config.training.losses.findings:
        parser.error(f"{args.config} teaches no finding head: training.losses.findings has no weight")
    folds = fold_runs(args.runs, args.folds, args.set)
    folder, *judges = train_together(args.config, {args.runs: args.set, **folds}, args.jobs)
    parts = [
        judged_fold(args.config, overrides, judge) for overrides, judge in zip(folds.values(), judges, strict=True)
    ]
    logits, labels = (torch.cat(part) for part in zip(*parts, strict=True))
    checkpoint = Checkpoint.from_pretrained(folder)
    checkpoint.model.calibration = fit_calibration(logits, labels, checkpoint.model.config.findings)
    checkpoint.save_pretrained(folder, card=checkpoint.card)
    print(f"{findings_table(checkpoint.model.calibration)}\n\ncheckpoint: {folder}")


if __name__ == "__main__":
    main()
