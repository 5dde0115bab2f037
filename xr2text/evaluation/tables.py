"""The scores of an evaluation as tables for people, in Markdown that also lines up in a terminal.

`metrics` is throughout what the evaluation writes to metrics.json: numbers as fractions, None where a score is not
defined (no such finding, no Java for METEOR).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from xr2text.evaluation.published import DATASET_NAMES, published_rows

Metrics = Mapping[str, Any]

UNDEFINED, NOT_LISTED = "–", "-"
LANGUAGE_COLUMNS = {
    "bleu_1": "BLEU-1",
    "bleu_2": "BLEU-2",
    "bleu_3": "BLEU-3",
    "bleu_4": "BLEU-4",
    "meteor": "METEOR",
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr",
}
AVERAGES = {
    "micro_14": "micro-average, 14 findings",
    "macro_14": "macro-average, 14 findings",
    "micro_5": "micro-average, 5 findings",
    "macro_5": "macro-average, 5 findings",
}
_WITH_INTERVAL = ("bleu_4", "rouge_l")


def markdown_table(metrics: Metrics) -> str:
    """All of an evaluation that a person compares: ours beside the baselines and the published systems.

    Args:
        metrics: as in metrics.json; `finding_head` and `meteor_note`, why there is no METEOR, may be absent.

    Returns:
        Markdown, its first line saying what was scored: the language scores under the protocol r2gen with the findings'
        F1, the other two protocols, the findings one by one, and the finding head where there is one.

    Raises:
        KeyError: for a part of `metrics` that is not there.
    """
    sections = [subject(metrics), _r2gen_section(metrics), _protocol_section(metrics), _finding_section(metrics)]
    if "finding_head" in metrics:
        sections.append(_head_section(metrics["finding_head"]))
    return "\n\n".join(sections) + "\n"


def subject(metrics: Metrics) -> str:
    """What was scored, in a line: model, data set, split and number of studies."""
    dataset = metrics["dataset"]
    name = DATASET_NAMES.get(dataset, dataset) or "a data set without published results"
    return f"{metrics['model']} on {name}, split {metrics['split']}, {metrics['studies']} studies"


def systems(metrics: Metrics) -> dict[str, Metrics]:
    """The three that are scored alike, by name: the model, the retrieval baseline and the constant one."""
    baselines = metrics["baselines"]
    return {
        metrics["model"]: metrics,
        "retrieval baseline": baselines["retrieval"],
        "constant baseline": baselines["constant"],
    }


def finding_name(key: str) -> str:
    return key.replace("_", " ")


def findings_by_support(metrics: Metrics) -> list[str]:
    """The findings' keys, the commonest in the references first, those of equal support by name."""
    findings = metrics["clinical"]["findings"]
    return sorted(findings, key=lambda key: (-findings[key]["support"], key))


def aligned_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table with padded cells, the first `left` columns flush left and the others flush right.

    Raises:
        ValueError: a row that is longer or shorter than the header.
    """
    if odd := [row for row in rows if len(row) != len(header)]:
        raise ValueError(f"a row of {len(odd[0])} cells under a header of {len(header)}: {', '.join(odd[0])}")
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (header, *rows)]
    widths = [max(3, *(len(cell) for cell in column)) for column in zip(*lines, strict=True)]
    padded = [
        [cell.ljust(widths[i]) if i < left else cell.rjust(widths[i]) for i, cell in enumerate(line)] for line in lines
    ]
    rule = ["-" * width if i < left else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (padded[0], rule, *padded[1:]))


def _number(value: float | None, undefined: str = UNDEFINED) -> str:
    return undefined if value is None or math.isnan(value) else f"{value:.3f}"


def _with_interval(value: float | None, interval: Sequence[float | None] | None) -> str:
    """Such as "0.165 [0.151, 0.180]"; the value alone where its interval is not defined."""
    ends = [] if interval is None else [_number(end) for end in interval]
    return f"{_number(value)} [{', '.join(ends)}]" if ends and UNDEFINED not in ends else _number(value)


def _language_cells(scores: Metrics, protocol: str) -> dict[str, str]:
    cells = {key: _number(scores["language"][protocol][key]) for key in LANGUAGE_COLUMNS}
    if cells["meteor"] == UNDEFINED and _why_no_meteor(scores).startswith("no Java"):
        cells["meteor"] = "no Java"
    return cells


def _why_no_meteor(scores: Metrics) -> str:
    """The evaluation's own note where it left one; METEOR is a Java program, and nothing else is optional in it."""
    return scores["meteor_note"] if scores.get("meteor_note") else "no Java: METEOR is a Java program"


def _r2gen_section(metrics: Metrics) -> str:
    rows = [_r2gen_row(name, scores) for name, scores in systems(metrics).items()]
    published, comparable = published_rows(metrics["dataset"]), metrics["split"] == "test"
    for row in published:
        scores = [_number(getattr(row, key), NOT_LISTED) for key in LANGUAGE_COLUMNS if key != "cider"]
        rows.append([row.system if comparable else f"{row.system} *", *scores, *[NOT_LISTED] * 4])
    header = ["System", *LANGUAGE_COLUMNS.values(), "Findings micro-F1 (14)", "Micro-F1 (5)", "Contradictions"]

    paragraphs = [
        "## Language under the protocol r2gen, and findings",
        aligned_table(header, rows),
        f"Protocol r2gen: {metrics['protocols']['r2gen']}",
        f"Micro-F1 over 14 and over 5 findings: {metrics['clinical_convention']}",
        "Contradictions: findings that a report says are present and its reference says are absent, over all studies.",
        "In brackets: 95 % bootstrap intervals over the studies.",
        _variety(metrics),
    ]
    if metrics["language"]["r2gen"]["meteor"] is None:
        paragraphs.append(f"METEOR: {_why_no_meteor(metrics)}.")
    if published and not comparable:
        paragraphs.append(
            f"Rows marked *: published figures are on the test split, these scores on the split {metrics['split']}: "
            "the two are not comparable."
        )
    if published:
        sources = [f"- {row.system}: {row.source}" for row in published]
        paragraphs.append("\n".join([f'Published rows ("{NOT_LISTED}": not published, or not at hand):', "", *sources]))
    return "\n\n".join(paragraphs)


def _r2gen_row(name: str, scores: Metrics) -> list[str]:
    language, clinical = scores["language"]["r2gen"], scores["clinical"]
    intervals = scores["intervals"]
    cells = _language_cells(scores, "r2gen")
    for key in _WITH_INTERVAL:
        cells[key] = _with_interval(language[key], intervals["language"]["r2gen"][key])
    f1 = [
        _with_interval(clinical[average]["f1"], intervals["clinical"][average]["f1"])
        for average in ("micro_14", "micro_5")
    ]
    return [name, *cells.values(), *f1, str(clinical["contradictions"])]


def _variety(metrics: Metrics) -> str:
    """How many different texts each wrote: a model that writes one text for every film can score well on language."""
    counts = [f"{name} {scores['distinct_findings']}" for name, scores in systems(metrics).items()]
    slips = [f"{slip} {count}" for slip, count in metrics["slips"].items()]
    contradicted = metrics["clinical"]["studies_with_contradiction"]
    return (
        f"Different findings texts for {metrics['studies']} studies: {', '.join(counts)}. "
        f"Studies in which {metrics['model']} contradicts the reference: {contradicted}. "
        f"Its findings texts with {', '.join(slips)}."
    )


def _protocol_section(metrics: Metrics) -> str:
    rows = [
        [protocol, name, *_language_cells(scores, protocol).values()]
        for protocol in ("full", "cased")
        for name, scores in systems(metrics).items()
    ]
    return "\n\n".join(
        [
            "## Language under the other protocols",
            aligned_table(["Protocol", "System", *LANGUAGE_COLUMNS.values()], rows, left=2),
            *(f"Protocol {protocol}: {metrics['protocols'][protocol]}" for protocol in ("full", "cased")),
        ]
    )


def _finding_section(metrics: Metrics) -> str:
    clinical = [scores["clinical"] for scores in systems(metrics).values()]
    rows, left_out = [], []
    for key in findings_by_support(metrics):
        ours = metrics["clinical"]["findings"][key]
        if ours["support"] == 0 and ours["asserted"] == 0:
            left_out.append(finding_name(key))
            continue
        scores = _finding_scores([each["findings"][key] for each in clinical])
        rows.append([finding_name(key), str(ours["support"]), *scores, str(ours["contradictions"])])
    rows += [[name, "", *_finding_scores([each[key] for each in clinical]), ""] for key, name in AVERAGES.items()]

    header = ["Finding", "Support", "Precision", "Recall", "F1", "F1 retrieval", "F1 constant", "Contradictions"]
    paragraphs = [f"## Findings of {metrics['model']}, one by one", aligned_table(header, rows)]
    if left_out:
        paragraphs.append(f"Neither in a reference nor written by the model: {', '.join(left_out)}.")
    return "\n\n".join(paragraphs)


def _finding_scores(scores: Sequence[Metrics]) -> list[str]:
    """Precision, recall and F1 of the first system, the F1 alone of the others."""
    ours, *others = scores
    return [_number(ours[key]) for key in ("precision", "recall", "f1")] + [_number(other["f1"]) for other in others]


def _head_section(head: Metrics) -> str:
    findings = head["findings"]
    header = ["Finding", "Positives", "Of them uncertain", "Studies", "AUC", "AUC, certain", "Average precision"]
    rows = [
        [
            finding_name(key),
            str(findings[key]["positives"]),
            str(findings[key]["uncertain"]),
            str(findings[key]["studies"]),
            _number(findings[key]["auc"]),
            _number(findings[key]["certain_auc"]),
            _number(findings[key]["average_precision"]),
        ]
        for key in sorted(findings, key=lambda key: (-findings[key]["positives"], key))
    ]
    return "\n\n".join(
        [
            "## Finding head",
            aligned_table(header, rows),
            f"Over the findings with at least {head['min_positives']} positives: mean AUC {_number(head['mean_auc'])}, "
            f"mean average precision {_number(head['mean_average_precision'])}. "
            f"Expected calibration error {_number(head['ece'])}. A finding that a report has as uncertain counts as "
            'positive; in "AUC, certain" its studies are left out.',
        ]
    )
