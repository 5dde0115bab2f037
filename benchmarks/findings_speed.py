"""How many reports a second the findings reader labels, on one process and on two.

    python -m benchmarks.findings_speed data/iu_xray/indiana_reports.csv --columns findings impression

A sentence that was read once is not read again, so the rate depends on how often reports repeat themselves. The second
table is the worst case: every sentence is made different from all others by a number. Loading the reader is left out of
one process's time, and counted in two processes' time, as each of them loads it.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from datetime import date
from itertools import count
from pathlib import Path

from xr2text.data.sources import read_table
from xr2text.text.findings import labeler as findings

MIMIC_CXR = 377_110  # its images, more than its reports


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def all_different(texts: list[str], copies: int) -> list[str]:
    """The reports `copies` times over, each sentence with a number of its own."""
    number = count()
    return [
        " ".join(f"{sentence.rstrip('.')} {next(number)}." for sentence in findings.report_sentences(text))
        for _ in range(copies)
        for text in texts
    ]


def table(texts: list[str]) -> str:
    distinct = len({sentence for text in texts for sentence in findings.report_sentences(text)})
    lines = [
        f"{len(texts)} reports, {distinct} distinct sentences\n",
        "| processes | reports a second | distinct sentences a second | 377,110 reports at this rate |",
        "|---:|---:|---:|---:|",
    ]
    for processes in (1, 2):
        taken = seconds(lambda processes=processes: findings.label_reports(texts, processes, progress=True))
        rate = len(texts) / taken
        lines.append(f"| {processes} | {rate:.0f} | {distinct / taken:.0f} | {MIMIC_CXR / rate / 60:.1f} min |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", type=Path, help="a CSV file of reports")
    parser.add_argument("--columns", nargs="+", required=True, help="joined to one text each")
    parser.add_argument("--copies", type=int, default=4, help="of the reports in the worst case")
    parser.add_argument("--out", type=Path, help="also write the tables here")
    args = parser.parse_args()
    reports = read_table(args.reports, tuple(args.columns))[args.columns].agg(" ".join, axis=1).tolist()
    findings.WORTH_PROCESSES = 0
    loading = seconds(lambda: findings.label_report("No pleural effusion."))
    machine = f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}"
    text = (
        f"Measured {date.today()} on {machine}; loading the reader takes {loading:.1f} s.\n\n{table(reports)}\n\n"
        f"Worst case: {table(all_different(reports, args.copies))}\n"
    )
    print(text)
    if args.out is not None:
        args.out.write_text(f"# Speed of the findings reader\n\n{text}")


if __name__ == "__main__":
    main()
