"""`data check` counts what a data set holds and what is wrong; `data prepare` keeps its index and resized images."""

import argparse
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from xr2text.cli.options import LAYOUTS, positive, written_to
from xr2text.parallel import usable_cores

if TYPE_CHECKING:
    from xr2text.config import Config

HELP = "check a data set, or prepare it for training"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="task", required=True)
    check = commands.add_parser("check", help="count what it holds and what is wrong; exit code 1: training would fail")
    prepare = commands.add_parser("prepare", help="read a source once, and keep its index and resized images")
    for add in (check.add_argument, prepare.add_argument):
        add("source", metavar="SOURCE", help=f"a layout ({', '.join(LAYOUTS)}) or a YAML config")
        add("--root", metavar="DIR", help="the data set's folder, where a layout is named")
        add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="e.g. model.image_size=512")
        add("--processes", type=positive, metavar="N", help="that share the work; default: all cores")
    check.add_argument("--quick", action="store_true", help="do not open the images")
    check.add_argument("--out", type=Path, default=Path("runs/data_check"), metavar="DIR", help="check.md, studies.png")
    prepare.add_argument("--cache", metavar="DIR", help="in place of the config's data.cache")
    prepare.add_argument("--download", action="store_true", help="openi: fetch the archives into the root first")


def run(args: argparse.Namespace) -> int:
    return {"check": run_check, "prepare": run_prepare}[args.task](args)


def data_config(source: str, root: str | None, overrides: list[str]) -> "Config":
    """The settings that a YAML file has, or a layout's name and folder, with overrides.

    Raises:
        ConfigError: a setting is unknown or out of its range.
    """
    from xr2text.config import ConfigError, layout_config, load_config

    given = [f"data.root={root}"] if root is not None else []
    if source in LAYOUTS:
        return layout_config([f"data.source={source}", *given, *overrides])
    if not Path(source).is_file():
        raise ConfigError(f"SOURCE is {source!r}; accepted: {', '.join(LAYOUTS)}, or the path of a YAML config")
    return load_config(source, [*given, *overrides])


def run_check(args: argparse.Namespace) -> int:
    """0: a training can start, 1: it would fail."""
    from xr2text.data.check import check_source
    from xr2text.data.page import draw_page

    config = data_config(args.source, args.root, args.set)
    check = check_source(config, args.processes or usable_cores(), read_images=not args.quick)
    text = check.text(f"{config.data.source} {config.data.root or ''}".strip())
    print(text)
    with written_to(args.out):
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "check.md").write_text(text, encoding="utf-8")
        draw_page(check.splits, args.out / "studies.png")
    print(f"written to {args.out}")
    return 1 if check.failures else 0


def run_prepare(args: argparse.Namespace) -> int:
    """Alone or as a process of `accelerate launch`. 0: every image is there, 1: some cannot be read."""
    from accelerate import PartialState

    from xr2text.config import ConfigError
    from xr2text.data.prepare import prepare_images
    from xr2text.data.sources import load_studies
    from xr2text.data.sources.openi import download_openi
    from xr2text.files import remove_drafts

    config = data_config(args.source, args.root, [*([f"data.cache={args.cache}"] if args.cache else []), *args.set])
    if config.data.cache is None:
        raise ConfigError("data.cache names no folder to prepare; give one in the config or by --cache")
    if args.download and (config.data.source != "openi" or config.data.root is None):
        raise ConfigError("--download fetches Open-i's archives: it needs data.source openi and a data.root")
    state = PartialState(cpu=True, timeout=timedelta(hours=24))  # how long the fastest process may wait for the slowest
    with written_to(config.data.cache):
        if state.is_main_process:
            if args.download:
                download_openi(Path(config.data.root))
            load_studies(config.data, config.model.findings, anew=True)
            remove_drafts(Path(config.data.cache))
        state.wait_for_everyone()
        splits = load_studies(config.data, config.model.findings)
        cores = args.processes or max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        done = prepare_images(config, splits, state.process_index, state.num_processes, cores, state.is_main_process)
        state.wait_for_everyone()
        state.destroy_process_group()
    for error in done.errors:
        print(f"not prepared: {error}", file=sys.stderr)
    share = f" (share {state.process_index + 1} of {state.num_processes})" if state.num_processes > 1 else ""
    print(f"{config.data.cache}: {done.made:,} made, {done.kept:,} kept, {len(done.errors):,} not readable{share}")
    return 1 if done.errors else 0
