"""The command line: `python -m xr2text report FILE... --out DIR` and `python -m xr2text info CONFIG_OR_CHECKPOINT`."""

import argparse
import sys
from pathlib import Path

from tqdm.auto import tqdm

DEFAULT_CHECKPOINT = Path(__file__).resolve().parent.parent / "checkpoints" / "xr2text-iu"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m xr2text", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    report = commands.add_parser("report", help="write the report of each radiograph")
    report.add_argument("files", nargs="+", type=Path, metavar="FILE", help="PNG, JPEG, TIFF, WebP, BMP or DICOM")
    report.add_argument("--out", required=True, type=Path, metavar="DIR", help="a folder per file is made here")
    report.add_argument("--maps", action="store_true", help="also maps.npz, the seven maps in original pixels")
    report.add_argument("--checkpoint", default=DEFAULT_CHECKPOINT, help="folder or Hugging Face Hub id")
    report.set_defaults(run=run_report)

    info = commands.add_parser("info", help="print a model's parameters, part by part")
    info.add_argument("source", metavar="CONFIG_OR_CHECKPOINT", type=Path, help="a YAML config or a checkpoint folder")
    info.set_defaults(run=run_info)

    args = parser.parse_args(argv)
    return args.run(args)


def run_report(args: argparse.Namespace) -> int:
    """Reports file by file; a file that is refused is named with the reason, and the exit code is then 1."""
    from xr2text.config import ConfigError
    from xr2text.imaging.read import ImageError
    from xr2text.inference.export import write_report
    from xr2text.inference.reporter import Reporter
    from xr2text.model.xr2text import CheckpointError

    try:
        reporter = Reporter.from_pretrained(args.checkpoint)
    except (CheckpointError, ConfigError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    refused = 0
    for file, folder in tqdm(list(zip(args.files, output_folders(args.files, args.out), strict=True)), unit="file"):
        try:
            write_report(reporter.report(file), folder, with_maps=args.maps)
        except ImageError as error:
            refused += 1
            tqdm.write(f"{file}: {error}", file=sys.stderr)
        except OSError as error:
            refused += 1
            tqdm.write(f"{file}: the report could not be written: {error}", file=sys.stderr)
        except MemoryError:
            refused += 1
            tqdm.write(f"{file}: the picture is too large for this machine's memory", file=sys.stderr)
    if refused:
        print(f"{refused} of {len(args.files)} files without a report", file=sys.stderr)
    return 1 if refused else 0


def output_folders(files: list[Path], out: Path) -> list[Path]:
    """A folder per file, by its stem; files of the same stem are numbered, so that none overwrites another."""
    folders: list[Path] = []
    for file in files:
        folder, number = out / file.stem, 2
        while folder in folders:
            folder, number = out / f"{file.stem}-{number}", number + 1
        folders.append(folder)
    return folders


def run_info(args: argparse.Namespace) -> int:
    """Prints the parameters of each part. The model is laid out without memory for weights, and none are fetched."""
    from xr2text.config import ConfigError
    from xr2text.model.info import describe

    try:
        print(describe(args.source))
    except (ConfigError, FileNotFoundError) as error:
        print(f"info: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
