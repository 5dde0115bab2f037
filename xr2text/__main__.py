"""The command line: `python -m xr2text report | evaluate | localize | findings | data | average | info | deploy`, each
with --help."""

import argparse
import os
import sys
from pathlib import Path

from tqdm.auto import tqdm

from xr2text.config import SOURCES

LAYOUTS = tuple(name for name in SOURCES if name != "phantom")
DEFAULT_CHECKPOINT = Path(__file__).resolve().parent.parent / "checkpoints" / "xr2text-iu"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m xr2text", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    report = commands.add_parser("report", help="write the report of each radiograph")
    report.add_argument("files", nargs="+", type=Path, metavar="FILE", help="PNG, JPEG, TIFF, WebP, BMP or DICOM")
    report.add_argument("--out", required=True, type=Path, metavar="DIR", help="a folder per file is made here")
    report.add_argument("--maps", action="store_true", help="also maps.npz, the seven maps in original pixels")
    report.add_argument(
        "--also", nargs="+", default=[], choices=("pdf", "fhir", "dicom-sr"), metavar="DOCUMENT",
        help="documents to write also: pdf, fhir (a DiagnosticReport), dicom-sr (a DICOM Structured Report)",
    )  # fmt: skip
    report.add_argument(
        "--identity", action="store_true", help="the Structured Report names the patient as the DICOM file does"
    )
    report.add_argument(
        "--force", action="store_true", help="also where it is doubtful whether a file is a frontal chest radiograph"
    )
    report.add_argument("--checkpoint", default=DEFAULT_CHECKPOINT, help="folder or Hugging Face Hub id")
    report.set_defaults(run=run_report)

    evaluate = commands.add_parser("evaluate", help="score the reports of a data set's split beside baselines")
    evaluate.add_argument("--checkpoint", default=DEFAULT_CHECKPOINT, help="folder or Hugging Face Hub id")
    evaluate.add_argument("--source", required=True, choices=LAYOUTS, help="layout of the data set")
    evaluate.add_argument(
        "--root", required=True, type=Path, metavar="DIR", help="the data set's folder; hub: or its id"
    )
    evaluate.add_argument("--split", default="test", choices=("train", "val", "test"))
    evaluate.add_argument("--split-file", type=Path, metavar="FILE", help="indiana, openi: an R2Gen annotation.json")
    evaluate.add_argument("--train-root", type=Path, metavar="DIR", help="where train and val lie, if not in --root")
    evaluate.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="table, metrics, predictions, pictures"
    )
    evaluate.add_argument("--predictions", type=Path, metavar="CSV", help="score these (columns id, findings) instead")
    evaluate.add_argument("--batch-size", type=positive, default=16, metavar="N")
    evaluate.add_argument("--no-meteor", action="store_true", help="skip METEOR, whose Java program takes minutes")
    evaluate.set_defaults(run=run_evaluate)

    localize = commands.add_parser("localize", help="compare the region maps with outlines of lungs and heart")
    localize.add_argument("masks", type=Path, metavar="DIR", help="images/ and masks/right_lung, left_lung, heart/")
    localize.add_argument("--checkpoint", default=DEFAULT_CHECKPOINT, help="folder or Hugging Face Hub id")
    localize.add_argument(
        "--holdout", type=positive, default=0, metavar="N",
        help="only every N-th film: those that a training with data.mask_holdout=N did not see",
    )  # fmt: skip
    localize.set_defaults(run=run_localize)

    findings = commands.add_parser("findings", help="label the findings of reports in a CSV file")
    findings.add_argument("reports", type=Path, metavar="REPORTS.csv")
    findings.add_argument("--column", required=True, help="the column that holds the reports")
    findings.add_argument("--keep", nargs="*", default=[], metavar="COLUMN", help="columns to copy beside the labels")
    findings.add_argument("--out", required=True, type=Path, metavar="LABELS.csv")
    findings.add_argument("--processes", type=positive, default=os.cpu_count(), metavar="N", help="that share the work")
    findings.set_defaults(run=run_findings)

    add_data_commands(commands)

    info = commands.add_parser("info", help="print a model's parameters, part by part")
    info.add_argument("source", metavar="CONFIG_OR_CHECKPOINT", type=Path, help="a YAML config or a checkpoint folder")
    info.set_defaults(run=run_info)

    average = commands.add_parser("average", help="write the mean of several checkpoints of one model as a checkpoint")
    average.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT", help="folders; all but weights is the first's")
    average.add_argument("--out", required=True, type=Path, metavar="DIR", help="the new folder, weights in float16")
    average.set_defaults(run=run_average)

    deploy = commands.add_parser("deploy", help="put the page on the Hugging Face Hub as a Space")
    deploy.add_argument("space", metavar="OWNER/NAME")
    deploy.add_argument("--model", metavar="HUB_ID", help="a checkpoint on the Hub, in place of the shipped one")
    deploy.add_argument("--private", action="store_true", help="a new Space is seen by its owner alone")
    deploy.set_defaults(run=run_deploy)

    args = parser.parse_args(argv)
    return args.run(args)


def add_data_commands(commands: argparse._SubParsersAction) -> None:
    """`data check` and `data prepare`."""
    data = commands.add_parser("data", help="check a data set, or prepare it for training").add_subparsers(
        required=True
    )
    check = data.add_parser("check", help="count what a data set holds and what is wrong; exit code 1: training fails")
    check.add_argument("source", metavar="SOURCE", help=f"a layout ({', '.join(LAYOUTS)}) or a YAML config")
    check.add_argument("--root", metavar="DIR", help="the data set's folder, where a layout is named")
    check.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of the config")
    check.add_argument("--quick", action="store_true", help="do not open the images")
    check.add_argument("--processes", type=positive, default=os.cpu_count(), metavar="N", help="that read the images")
    check.add_argument("--out", type=Path, default=Path("runs/data_check"), metavar="DIR", help="check.md, studies.png")
    check.set_defaults(run=run_data_check)

    prepare = data.add_parser("prepare", help="read a source once, and keep its index and resized images")
    prepare.add_argument("source", metavar="SOURCE", help=f"a YAML config or a layout ({', '.join(LAYOUTS)})")
    prepare.add_argument("--root", metavar="DIR", help="the data set's folder, where a layout is named")
    prepare.add_argument("--cache", metavar="DIR", help="in place of the config's data.cache")
    prepare.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="e.g. model.image.size=512")
    prepare.add_argument("--processes", type=positive, metavar="N", help="that share the work; default: one per core")
    prepare.add_argument("--download", action="store_true", help="openi: fetch the archives into the root first")
    prepare.set_defaults(run=run_data_prepare)


def positive(text: str) -> int:
    """A whole number of at least 1, for argparse."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


def run_report(args: argparse.Namespace) -> int:
    """Reports file by file; a file that is refused is named with the reason, and the exit code is then 1."""
    from xr2text.config import ConfigError
    from xr2text.export.files import ExportError, write_report
    from xr2text.imaging.radiograph import ImageError
    from xr2text.inference.gate import DoubtfulImageError
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
            write_report(
                reporter.report(file, args.force), folder, with_maps=args.maps, documents=args.also, source=file,
                identity=args.identity,
            )  # fmt: skip
        except ExportError as error:
            refused += 1
            tqdm.write(f"{file}: the report is there, but not all documents: {error}", file=sys.stderr)
        except ImageError as error:
            refused += 1
            hint = " --force writes it all the same." if isinstance(error, DoubtfulImageError) else ""
            tqdm.write(f"{file}: {error}{hint}", file=sys.stderr)
        except OSError as error:
            refused += 1
            tqdm.write(f"{file}: the report could not be written: {error}", file=sys.stderr)
        except MemoryError:
            refused += 1
            tqdm.write(f"{file}: the picture is too large for this machine's memory", file=sys.stderr)
    if refused:
        print(f"{refused} of {len(args.files)} files without all that was asked for", file=sys.stderr)
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


def run_evaluate(args: argparse.Namespace) -> int:
    """Evaluates a checkpoint or a file of predictions; alone, or as one of the processes of `accelerate launch`."""
    from xr2text.config import ConfigError, DataConfig
    from xr2text.data.sources import DataError
    from xr2text.evaluation.evaluate import EvaluationSettings, evaluate
    from xr2text.evaluation.predict import PredictionError
    from xr2text.evaluation.processes import LauncherError, Processes
    from xr2text.model.xr2text import CheckpointError, XR2Text
    from xr2text.text.findings.table import FINDING_NAMES

    paths = {"root": args.root, "split_file": args.split_file}
    settings = EvaluationSettings(
        split=args.split, batch_size=args.batch_size, meteor=not args.no_meteor, predictions=args.predictions,
        train_root=args.train_root,
    )  # fmt: skip
    try:
        with Processes.from_environment() as processes:
            model = XR2Text.from_pretrained(args.checkpoint)
            read = set(model.config.findings) <= set(FINDING_NAMES)  # else the head has the source's own names
            labels = "reports" if read else "indexed"
            data = DataConfig(args.source, labels=labels, **{name: path and str(path) for name, path in paths.items()})
            evaluate(model, data, settings, args.out, processes)
            if processes.is_main:
                print((args.out / "table.md").read_text(encoding="utf-8"))
                print(f"written to {args.out}")
    except (CheckpointError, ConfigError, DataError, PredictionError, LauncherError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"evaluate: {args.out} could not be written: {error}", file=sys.stderr)
        return 2
    return 0


def run_localize(args: argparse.Namespace) -> int:
    """Prints how well the maps of lungs and heart lie on their outlines, also of films that are moved."""
    from xr2text.config import ConfigError
    from xr2text.data.sources import DataError
    from xr2text.evaluation.localization import localize, table
    from xr2text.model.xr2text import CheckpointError, XR2Text

    try:
        model = XR2Text.from_pretrained(args.checkpoint)
        print(table(localize(model, args.masks, progress=True, holdout=args.holdout)))
    except (CheckpointError, ConfigError, DataError, ValueError) as error:
        print(f"localize: {error}", file=sys.stderr)
        return 2
    return 0


def run_findings(args: argparse.Namespace) -> int:
    """Labels reports: 1 present, 0 absent, -1 uncertain, empty not mentioned; rows stay in their order."""
    from xr2text.data.sources import DataError, read_table
    from xr2text.text.findings.labeler import label_reports

    try:
        reports = read_table(args.reports, (args.column, *args.keep))
    except DataError as error:
        print(f"findings: {error}", file=sys.stderr)
        return 2
    labels = label_reports(reports[args.column].tolist(), args.processes, progress=True)
    table = reports[args.keep].join(labels)
    try:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        draft = args.out.with_name(f".{args.out.name}.draft")
        table.to_csv(draft, index=False)
        os.replace(draft, args.out)
    except OSError as error:
        print(f"findings: {args.out} could not be written: {error}", file=sys.stderr)
        return 2
    print(f"{len(table)} reports, {labels.shape[1]} findings: {args.out}")
    return 0


def data_config(source: str, root: str | None, overrides: list[str]):
    """The settings that a YAML file has, or a layout's name and folder, with overrides.

    Raises:
        ConfigError: a setting is unknown or of the wrong kind.
    """
    from xr2text.config import ConfigError, layout_config, load_config

    given = [f"data.root={root}"] if root is not None else []
    if source in LAYOUTS:
        return layout_config([f"data.source={source}", *given, *overrides])
    if not Path(source).is_file():
        raise ConfigError(f"SOURCE is {source!r}; accepted: {', '.join(LAYOUTS)}, or the path of a YAML config")
    return load_config(source, [*given, *overrides])


def run_data_check(args: argparse.Namespace) -> int:
    """Prints what a data set holds; 0: a training can start, 1: it would fail, 2: the data set could not be read."""
    from xr2text.config import ConfigError
    from xr2text.data.check import check_source
    from xr2text.data.page import draw_page
    from xr2text.data.sources import DataError

    try:
        config = data_config(args.source, args.root, args.set)
        check = check_source(config, args.processes, read_images=not args.quick)
    except (ConfigError, DataError) as error:
        print(f"data check: {error}", file=sys.stderr)
        return 2
    text = check.text(f"{config.data.source} {config.data.root or ''}".strip())
    print(text)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "check.md").write_text(text, encoding="utf-8")
        draw_page(check.splits, args.out / "studies.png")
    except OSError as error:
        print(f"data check: {args.out} could not be written: {error}", file=sys.stderr)
        return 2
    print(f"written to {args.out}")
    return 1 if check.failures else 0


def run_data_prepare(args: argparse.Namespace) -> int:
    """Prepares a source, alone or as one of the processes of `accelerate launch`; exit code 1: not all images."""
    from xr2text.config import ConfigError
    from xr2text.data.index import open_studies
    from xr2text.data.prepare import prepare_images
    from xr2text.data.sources import DataError
    from xr2text.data.sources.download import download_openi
    from xr2text.evaluation.processes import LauncherError, Processes
    from xr2text.files import remove_drafts

    try:
        config = data_config(args.source, args.root, [*([f"data.cache={args.cache}"] if args.cache else []), *args.set])
        if config.data.cache is None:
            raise ConfigError("data.cache names no folder to prepare; give one in the config or by --cache")
        if args.download and (config.data.source != "openi" or config.data.root is None):
            raise ConfigError("--download fetches Open-i's archives: it needs data.source openi and a data.root")
        size = config.model.image.size
        with Processes.from_environment() as processes:
            if processes.is_main:
                if args.download:
                    download_openi(Path(config.data.root))
                open_studies(config.data, size, anew=True)
                remove_drafts(Path(config.data.cache))
            processes.wait()
            splits = open_studies(config.data, size)
            own = args.processes or max(1, os.cpu_count() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
            done = prepare_images(config, splits, processes.rank, processes.count, own, processes.is_main)
            processes.wait()
    except (ConfigError, DataError, LauncherError) as error:
        print(f"data prepare: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"data prepare: could not be written: {error}", file=sys.stderr)
        return 2
    for error in done.errors:
        print(f"not prepared: {error}", file=sys.stderr)
    share = f" (share {processes.rank + 1} of {processes.count})" if processes.count > 1 else ""
    print(f"{config.data.cache}: {done.made:,} made, {done.kept:,} kept, {len(done.errors):,} not readable{share}")
    return 1 if done.errors else 0


def run_average(args: argparse.Namespace) -> int:
    from xr2text.config import ConfigError
    from xr2text.model.xr2text import CheckpointError
    from xr2text.training.average import average_checkpoints

    if args.out.exists():
        print(f"average: {args.out} is there already; choose another --out", file=sys.stderr)
        return 2
    try:
        average_checkpoints(args.checkpoints).save_pretrained(args.out, half_precision=True)
    except (CheckpointError, ConfigError) as error:
        print(f"average: {error}", file=sys.stderr)
        return 2
    print(f"the mean of {len(args.checkpoints)} checkpoints is in {args.out}")
    return 0


def run_info(args: argparse.Namespace) -> int:
    """Prints the parameters of each part. The model is laid out without memory for weights, and none are fetched."""
    from xr2text.errors import XR2TextError
    from xr2text.model.summary import describe

    try:
        print(describe(args.source))
    except XR2TextError as error:
        print(f"info: {error}", file=sys.stderr)
        return 2
    return 0


def run_deploy(args: argparse.Namespace) -> int:
    """Uploads the page, with huggingface_hub's own progress bars."""
    from xr2text.deploy import DeployError, deploy

    try:
        print(deploy(args.space, args.model, args.private))
    except DeployError as error:
        print(f"deploy: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
