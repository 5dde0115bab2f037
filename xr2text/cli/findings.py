"""Labels the findings of reports: 1 present, 0 absent, -1 uncertain, empty not mentioned. Rows stay in their order.

Of a whole report its findings and impression are read, of a text without headings all of it.
"""

import argparse
from pathlib import Path

from xr2text.cli.options import positive, written_to
from xr2text.errors import XR2TextError
from xr2text.parallel import usable_cores

HELP = "label the findings of reports in a CSV file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("reports", type=Path, metavar="REPORTS.csv")
    add("--column", required=True, help="the column that holds the reports")
    add("--whole", action="store_true", help="read every section, the history and the technique, too")
    add("--keep", nargs="*", action="extend", default=[], metavar="COLUMN", help="columns to copy beside the labels")
    add("--out", required=True, type=Path, metavar="LABELS.csv")
    add("--processes", type=positive, default=usable_cores(), metavar="N", help="that share the work")


def run(args: argparse.Namespace) -> int:
    from xr2text.data.tables import read_table
    from xr2text.files import atomic_write
    from xr2text.text.findings.labeler import label_reports
    from xr2text.text.findings.table import FINDING_NAMES
    from xr2text.text.sections import asserted_text

    if clashing := sorted(set(args.keep) & set(FINDING_NAMES)):
        raise XR2TextError(f"--keep {clashing[0]!r}: the labels have a column of this name; rename the table's")
    reports = read_table(args.reports, (args.column, *args.keep))
    texts = reports[args.column] if args.whole else reports[args.column].map(asserted_text)
    labels = label_reports(texts.tolist(), args.processes, progress=True)
    table = reports[list(dict.fromkeys(args.keep))].join(labels.set_axis(reports.index))
    with written_to(args.out), atomic_write(args.out) as draft:
        table.to_csv(draft, index=False)
    print(f"{len(table)} reports, {labels.shape[1]} findings: {args.out}")
    return 0
