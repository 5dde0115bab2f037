"""The tables of an evaluation, in Markdown that also lines up in a terminal.

`metrics` is throughout what the evaluation writes to metrics.json: numbers as fractions, None where a score is not
defined (no such finding, no Java for METEOR).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from xr2text.evaluation.published import DATASET_NAMES, PUBLISHED, SOURCES

Metrics = Mapping[str, Any]

UNDEFINED, NOT_LISTED = "–", "-"
LANGUAGE_COLUMNS = {f"bleu_{n}": f"BLEU-{n}" for n in (1, 2, 3, 4)}
LANGUAGE_COLUMNS |= {"meteor": "METEOR", "rouge_l": "ROUGE-L", "cider": "CIDEr"}
AVERAGES = {f"{way}_{count}": f"{way}-average, {count} findings" for count in (14, 5) for way in ("micro", "macro")}


def markdown_table(metrics: Metrics) -> str:
    """All tables of an evaluation in Markdown: the model beside the baselines and the published systems.

    Its first line says what was scored. Then come the language scores under the protocol r2gen with the findings' F1,
    the other two protocols, the findings one by one, and the finding head where there is one.
    """
    sections = [subject(metrics), _r2gen_section(metrics), _protocol_section(metrics), _finding_section(metrics)]
    if "finding_head" in metrics:
        sections.append(_head_section(metrics["finding_head"], metrics.get("frontal_alone", {}).get("finding_head")))
        sections.append(_agreement_in_words(metrics["head_agreement"]))
    return "\n\n".join(sections) + "\n"


def subject(metrics: Metrics) -> str:
    """A line that names what was scored: model, data set, split and number of studies."""
    name = DATASET_NAMES.get(metrics["dataset"], "a data set without published results")
    return f"{metrics['model']} on {name}, split {metrics['split']}, {metrics['studies']} studies"


def systems(metrics: Metrics) -> dict[str, Metrics]:
    """The three scored systems by name: the model, the retrieval baseline and the constant baseline."""
    baselines = {f"{name} baseline": metrics["baselines"][name] for name in ("retrieval", "constant")}
    return {metrics["model"]: metrics, **baselines}


def findings_by_support(metrics: Metrics) -> list[str]:
    """The names of the findings, the most frequent in the references first, and of equal support by name."""
    findings = metrics["clinical"]["findings"]
    return sorted(findings, key=lambda name: (-findings[name]["support"], name))


def aligned_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table with padded cells, the first `left` columns flush left and the others flush right."""
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (header, *rows)]
    widths = [max(3, *(len(cell) for cell in column)) for column in zip(*lines, strict=True)]
    padded = [
        [cell.ljust(widths[i]) if i < left else cell.rjust(widths[i]) for i, cell in enumerate(line)] for line in lines
    ]
    rule = ["-" * width if i < left else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (padded[0], rule, *padded[1:]))


def _number(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:.3f}"


def _with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    """A value with its interval, such as "0.165 [0.151, 0.180]"; without it where the interval is undefined."""
    return f"{_number(value)} [{', '.join(map(_number, interval))}]" if interval else _number(value)


def _language_cells(scores: Metrics, protocol: str) -> dict[str, str]:
    cells = {key: _number(scores["language"][protocol][key]) for key in LANGUAGE_COLUMNS}
    if (scores["meteor_note"] or "").startswith("no Java"):
        cells["meteor"] = "no Java"
    return cells


def _r2gen_section(metrics: Metrics) -> str:
    rows = [_r2gen_row(name, scores) for name, scores in systems(metrics).items()]
    if "frontal_alone" in metrics:
        rows.insert(1, _r2gen_row(f"{metrics['model']}, frontal views alone", metrics["frontal_alone"]))
    published, comparable = PUBLISHED.get(metrics["dataset"], {}), metrics["published_test"]
    for system, scores in published.items():
        cells = [NOT_LISTED if score is None else _number(score) for score in scores]
        rows.append([system if comparable else f"{system} *", *cells, *[NOT_LISTED] * 4])
    header = ["System", *LANGUAGE_COLUMNS.values(), "Findings micro-F1 (14)", "Micro-F1 (5)", "Contradictions"]

    paragraphs = [
        "## Language under the protocol r2gen, and findings",
        aligned_table(header, rows),
        f"Protocol r2gen: {metrics['protocols']['r2gen']}",
        f"Micro-F1 over 14 and over 5 findings: {metrics['clinical_convention']}",
        "Contradictions: findings that a report says are present and its reference says are absent, over all studies.",
        "In brackets: 95 % bootstrap intervals over the studies.",
        *_texts_in_words(metrics),
    ]
    if metrics["meteor_note"]:
        paragraphs.append(f"METEOR: {metrics['meteor_note']}.")
    if published and not comparable:
        paragraphs.append(
            f"Rows marked *: published figures are on the published test split, these scores on this split "
            f"{metrics['split']}: the two are not comparable."
        )
    if published:
        sources = [f"- {system}: {SOURCES[system]}" for system in published]
        paragraphs.append("\n".join([f'Published rows ("{NOT_LISTED}": not published, or not at hand):', "", *sources]))
    return "\n\n".join(paragraphs)


def _r2gen_row(name: str, scores: Metrics) -> list[str]:
    language, clinical, intervals = scores["language"]["r2gen"], scores["clinical"], scores["intervals"]
    cells = _language_cells(scores, "r2gen")
    for key in ("bleu_4", "rouge_l"):
        cells[key] = _with_interval(language[key], intervals["language"]["r2gen"][key])
    f1 = [_with_interval(clinical[key]["f1"], intervals["clinical"][key]["f1"]) for key in ("micro_14", "micro_5")]
    return [name, *cells.values(), *f1, str(clinical["contradictions"])]


def _texts_in_words(metrics: Metrics) -> list[str]:
    """How many different texts each system wrote, since few may score well on language, and the faults of the model's
    texts."""
    counts = [f"{name} {scores['distinct_findings']}" for name, scores in systems(metrics).items()]
    faults = [f"{fault.replace('_', ' ')} {count}" for fault, count in metrics["degeneration"].items()]
    contradicted = metrics["clinical"]["studies_with_contradiction"]
    return [
        f"Different findings texts for {metrics['studies']} studies: {', '.join(counts)}. "
        f"Studies in which {metrics['model']} contradicts the reference: {contradicted}.",
        f"Degeneration, findings texts of {metrics['model']} with a {', '.join(faults)}.",
    ]


def _protocol_section(metrics: Metrics) -> str:
    protocols = ("full", "cased")
    rows = [
        [protocol, name, *_language_cells(scores, protocol).values()]
        for protocol in protocols
        for name, scores in systems(metrics).items()
    ]
    table = aligned_table(["Protocol", "System", *LANGUAGE_COLUMNS.values()], rows, left=2)
    notes = [f"Protocol {protocol}: {metrics['protocols'][protocol]}" for protocol in protocols]
    return "\n\n".join(["## Language under the other protocols", table, *notes])


def _finding_section(metrics: Metrics) -> str:
    clinical = [scores["clinical"] for scores in systems(metrics).values()]
    rows, left_out = [], []
    for name in findings_by_support(metrics):
        score = metrics["clinical"]["findings"][name]
        if score["support"] == 0 and score["asserted"] == 0:
            left_out.append(name)
            continue
        rates = _rates_in_cells([each["findings"][name] for each in clinical])
        rows.append([name, str(score["support"]), *rates, str(score["contradictions"])])
    rows += [[name, "", *_rates_in_cells([each[key] for each in clinical]), ""] for key, name in AVERAGES.items()]
    header = ["Finding", "Support", "Precision", "Recall", "F1", "F1 retrieval", "F1 constant", "Contradictions"]
    paragraphs = [f"## Findings of {metrics['model']}, one by one", aligned_table(header, rows)]
    if left_out:
        paragraphs.append(f"Neither in a reference nor written by the model: {', '.join(left_out)}.")
    return "\n\n".join(paragraphs)


def _rates_in_cells(scores: Sequence[Metrics]) -> list[str]:
    """Precision, recall and F1 of the first system, and only F1 of the others."""
    rates = [scores[0][key] for key in ("precision", "recall")]
    return list(map(_number, [*rates, *(score["f1"] for score in scores)]))


def _head_section(head: Metrics, alone: Metrics | None) -> str:
    findings = head["findings"]
    counts = {"positives": "Positives", "uncertain": "Of them uncertain", "studies": "Studies"}
    areas = {"auc": "AUC", "certain_auc": "AUC, certain", "average_precision": "Average precision"}
    rows = [
        [name, *(str(findings[name][key]) for key in counts), *(_number(findings[name][key]) for key in areas)]
        for name in sorted(findings, key=lambda name: (-findings[name]["positives"], name))
    ]
    table = aligned_table(["Finding", *counts.values(), *areas.values()], rows)
    note = (
        f"Over the findings with at least {head['min_positives']} positives: mean AUC {_number(head['mean_auc'])}, "
        f"mean average precision {_number(head['mean_average_precision'])}. "
        f"Expected calibration error {_number(head['ece'])}. A finding that a report has as uncertain counts as "
        'positive; in "AUC, certain" its studies are left out.'
    )
    if alone is not None:
        note += f" From frontal views alone: mean AUC {_number(alone['mean_auc'])}, error {_number(alone['ece'])}."
    return f"## Finding head\n\n{table}\n\n{note}"


def _agreement_in_words(agreement: Metrics) -> str:
    return (
        f"Of {agreement['seen']} findings that the head counts as present the reports assert {agreement['asserted']} "
        f"and deny {agreement['denied']}."
    )
