import pytest

from xr2text.evaluation.published import DATASET_NAMES, PUBLISHED, SOURCES
from xr2text.evaluation.tables import aligned_table, markdown_table

FINDINGS = {  # support, asserted, hits
    "no finding": (200, 240, 180),
    "cardiomegaly": (30, 20, 10),
    "lung opacity": (40, 25, 10),
    "pleural effusion": (30, 0, 0),
    "fracture": (0, 3, 0),
    "pneumothorax": (0, 0, 0),
}


def made_up_clinical(findings, micro_14):
    counts = {
        name: {
            "precision": hits / asserted if asserted else None,
            "recall": hits / support if support else None,
            "f1": 2 * hits / (support + asserted) if support + asserted else None,
            "support": support,
            "asserted": asserted,
            "hits": hits,
            "contradictions": 1 if name == "cardiomegaly" else 0,
        }
        for name, (support, asserted, hits) in findings.items()
    }
    averages = {
        "micro_14": {"precision": 0.611, "recall": 0.622, "f1": micro_14},
        "macro_14": {"precision": 0.211, "recall": 0.222, "f1": 0.233},
        "micro_5": {"precision": None, "recall": 0.0, "f1": micro_14 / 2},
        "macro_5": {"precision": 0.0, "recall": 0.0, "f1": 0.0},
    }
    return {"findings": counts, "contradictions": 12, "studies_with_contradiction": 10, **averages}


def made_up_language(start):
    names = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "meteor", "rouge_l", "cider", "combined")
    return {
        protocol: {name: start + shift + i / 100 for i, name in enumerate(names)}
        for protocol, shift in (("r2gen", 0.0), ("full", 0.1), ("cased", 0.2))
    }


def made_up_scores(start, findings, micro_14, distinct):
    language, clinical = made_up_language(start), made_up_clinical(findings, micro_14)

    def around(scores):
        return {name: [max(0, value - 0.01), value + 0.01] for name, value in scores.items() if value is not None}

    intervals = {
        "language": {protocol: around(scores) for protocol, scores in language.items()},
        "clinical": {name: around(clinical[name]) for name in ("micro_14", "macro_14", "micro_5", "macro_5")},
    }
    counts = {"distinct_findings": distinct, "degeneration": {"repeated_sentence": 3, "doubled_word": 0}}
    return {"language": language, "meteor_note": None, "clinical": clinical, "intervals": intervals, **counts}


def made_up_finding(*values):
    return dict(
        zip(("auc", "average_precision", "certain_auc", "positives", "uncertain", "studies"), values, strict=True)
    )


def made_up_metrics():
    silent = {name: (support, 0, 0) for name, (support, _, _) in FINDINGS.items()}
    lucky = {name: (support, support, support // 2) for name, (support, _, _) in FINDINGS.items()}
    return {
        "model": "xr2text-iu 0.1.0",
        "dataset": "iu_xray",
        "split": "test",
        "published_test": True,
        "studies": 590,
        "protocols": {
            "r2gen": "Findings, lower-cased.",
            "full": "Findings, whole, lower-cased.",
            "cased": "Findings, as written.",
        },
        "clinical_convention": "Uncertain counts as positive.",
        **made_up_scores(0.1, FINDINGS, 0.633, 120),
        "head_agreement": {"seen": 40, "asserted": 36, "denied": 1},
        "finding_head": {
            "mean_auc": 0.801,
            "mean_average_precision": 0.402,
            "ece": 0.033,
            "min_positives": 15,
            "findings": {
                "fracture": made_up_finding(None, None, None, 0, 0, 580),
                "cardiomegaly": made_up_finding(0.812, 0.413, 0.844, 28, 6, 585),
            },
        },
        "baselines": {
            "constant": {"text": "The lungs are clear.", **made_up_scores(0.4, silent, 0.05, 1)},
            "retrieval": made_up_scores(0.7, lucky, 0.3, 222),
        },
    }


@pytest.fixture
def metrics():
    return made_up_metrics()


def read_tables(text):
    """Every table of a Markdown text as rows of {header: cell}."""
    tables, table = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            table.append([cell.strip() for cell in line.strip("|").split(" | ")])
        elif table:
            header, _, *rows = table
            tables.append([dict(zip(header, row, strict=True)) for row in rows])
            table = []
    return tables


def by_system(table):
    return {row["System"]: row for row in table}


def test_the_first_line_says_what_was_scored(metrics):
    first = markdown_table(metrics).splitlines()[0]
    assert first == "xr2text-iu 0.1.0 on IU X-Ray, split test, 590 studies"


def test_language_and_findings_stand_under_their_columns(metrics):
    row = by_system(read_tables(markdown_table(metrics))[0])["xr2text-iu 0.1.0"]
    assert row == {
        "System": "xr2text-iu 0.1.0",
        "BLEU-1": "0.100",
        "BLEU-2": "0.110",
        "BLEU-3": "0.120",
        "BLEU-4": "0.130 [0.120, 0.140]",
        "METEOR": "0.140",
        "ROUGE-L": "0.150 [0.140, 0.160]",
        "CIDEr": "0.160",
        "Findings micro-F1 (14)": "0.633 [0.623, 0.643]",
        "Micro-F1 (5)": "0.317 [0.306, 0.327]",
        "Contradictions": "12",
    }


def test_both_baselines_stand_under_the_model_and_the_published_under_them(metrics):
    table = read_tables(markdown_table(metrics))[0]
    assert [row["System"] for row in table] == [
        "xr2text-iu 0.1.0", "retrieval baseline", "constant baseline",
        "R2Gen", "CMN", "METransformer", "ORGAN", "DART", "SCOPE",
    ]  # fmt: skip
    rows = by_system(table)
    assert rows["retrieval baseline"]["BLEU-1"] == "0.700"
    assert rows["constant baseline"]["BLEU-1"] == "0.400"
    assert rows["retrieval baseline"]["Findings micro-F1 (14)"].startswith("0.300")
    assert rows["constant baseline"]["Findings micro-F1 (14)"].startswith("0.050")


def test_what_nobody_published_is_a_dash(metrics):
    row = by_system(read_tables(markdown_table(metrics))[0])["ORGAN"]
    assert (row["BLEU-1"], row["BLEU-4"], row["METEOR"], row["ROUGE-L"]) == ("0.510", "0.195", "0.205", "0.399")
    unpublished = ("CIDEr", "Findings micro-F1 (14)", "Micro-F1 (5)", "Contradictions")
    assert {row[column] for column in unpublished} == {"-"}
    metrics["dataset"] = "mimic_cxr"
    row = by_system(read_tables(markdown_table(metrics))[0])["ORGAN"]
    assert (row["BLEU-1"], row["BLEU-4"], row["METEOR"], row["ROUGE-L"]) == ("-", "0.128", "-", "0.293")


def test_every_published_row_has_its_source_below(metrics):
    lines = markdown_table(metrics).splitlines()
    for system in PUBLISHED["iu_xray"]:
        assert f"- {system}: {SOURCES[system]}" in lines


@pytest.mark.parametrize("dataset", [None, "phantom"])
def test_a_data_set_that_nobody_published_on_has_no_published_rows(metrics, dataset):
    metrics["dataset"] = dataset
    text = markdown_table(metrics)
    assert len(read_tables(text)[0]) == 3
    assert "R2Gen" not in text
    assert "Published" not in text


def test_another_split_is_marked_as_not_comparable(metrics):
    assert "not comparable" not in markdown_table(metrics)
    metrics |= {"split": "val", "published_test": False}
    text = markdown_table(metrics)
    assert "split val: the two are not comparable" in text
    published = [row["System"] for row in read_tables(text)[0][3:]]
    assert len(published) == 6
    assert all(system.endswith(" *") for system in published)


def without_meteor(metrics, note):
    for scores in (metrics, *metrics["baselines"].values()):
        scores["meteor_note"] = note
        for protocol in scores["language"].values():
            protocol["meteor"] = None
    return metrics


def test_without_java_meteor_says_so(metrics):
    assert "METEOR:" not in markdown_table(metrics)
    text = markdown_table(without_meteor(metrics, "no Java: METEOR is a Java program"))
    language, protocols, *_ = read_tables(text)
    assert [row["METEOR"] for row in language[:4]] == ["no Java"] * 3 + ["0.187"]
    assert {row["METEOR"] for row in protocols} == {"no Java"}
    assert "METEOR: no Java" in text


def test_meteor_that_is_missing_for_another_reason_does_not_blame_java(metrics):
    text = markdown_table(without_meteor(metrics, "not asked for"))
    assert [row["METEOR"] for row in read_tables(text)[0][:3]] == ["–"] * 3
    assert "METEOR: not asked for." in text


def test_the_protocol_and_the_convention_stand_under_the_table(metrics):
    text = markdown_table(metrics)
    end_of_table = text.index("| SCOPE")
    for sentence in (metrics["protocols"]["r2gen"], metrics["clinical_convention"]):
        assert end_of_table < text.index(sentence) < text.index("## Language under the other protocols")


def test_the_other_protocols_have_a_table_of_their_own(metrics):
    rows = {(row["Protocol"], row["System"]): row for row in read_tables(markdown_table(metrics))[1]}
    assert len(rows) == 6
    assert rows["full", "xr2text-iu 0.1.0"]["BLEU-4"] == "0.230"
    assert rows["cased", "xr2text-iu 0.1.0"]["CIDEr"] == "0.360"
    assert rows["full", "retrieval baseline"]["BLEU-1"] == "0.800"
    assert rows["cased", "constant baseline"]["ROUGE-L"] == "0.650"


def test_findings_are_sorted_by_support_and_undefined_is_a_long_dash(metrics):
    text = markdown_table(metrics)
    table = read_tables(text)[2]
    names = [row["Finding"] for row in table]
    assert names[:5] == ["no finding", "lung opacity", "cardiomegaly", "pleural effusion", "fracture"]
    assert names[5].startswith("micro-average, 14")
    rows = {row["Finding"]: row for row in table}
    assert rows["cardiomegaly"] == {
        "Finding": "cardiomegaly",
        "Support": "30",
        "Precision": "0.500",
        "Recall": "0.333",
        "F1": "0.400",
        "F1 retrieval": "0.500",
        "F1 constant": "0.000",
        "Contradictions": "1",
    }
    assert rows["pleural effusion"]["Precision"] == "–"
    assert rows["fracture"]["Recall"] == "–"
    assert rows["micro-average, 5 findings"]["Precision"] == "–"
    assert "Neither in a reference nor written by the model: pneumothorax." in text


def test_the_finding_head_is_shown_where_there_is_one(metrics):
    text = markdown_table(metrics)
    table = read_tables(text)[3]
    assert [row["Finding"] for row in table] == ["cardiomegaly", "fracture"]
    assert table[0]["AUC"] == "0.812"
    assert (table[0]["AUC, certain"], table[0]["Of them uncertain"]) == ("0.844", "6")
    assert table[0]["Average precision"] == "0.413"
    assert (table[1]["AUC"], table[1]["Positives"], table[1]["Studies"]) == ("–", "0", "580")
    assert "at least 15 positives: mean AUC 0.801, mean average precision 0.402" in text
    assert "calibration error 0.033" in text
    del metrics["finding_head"]
    assert "Finding head" not in markdown_table(metrics)


def test_an_interval_that_is_not_defined_leaves_the_number_alone(metrics):
    metrics["intervals"]["clinical"]["micro_5"]["f1"] = None
    assert read_tables(markdown_table(metrics))[0][0]["Micro-F1 (5)"] == "0.317"


def test_the_number_of_different_texts_is_said(metrics):
    text = markdown_table(metrics)
    assert "xr2text-iu 0.1.0 120, retrieval baseline 222, constant baseline 1" in text
    assert "contradicts the reference: 10" in text
    assert metrics["baselines"]["constant"]["text"] not in text  # may be a report of the training data


def test_columns_line_up_in_a_terminal(metrics):
    widths, block = [], set()
    for line in [*markdown_table(metrics).splitlines(), ""]:
        if line.startswith("|"):
            block.add(len(line))
        elif block:
            widths.append(block)
            block = set()
    assert len(widths) == 4
    assert all(len(width) == 1 for width in widths)


def test_a_bar_in_a_cell_is_kept():
    assert aligned_table(["name", "n"], [["a|b", "1"]]).splitlines() == [
        "| name |   n |",
        "| ---- | --: |",
        "| a\\|b |   1 |",
    ]


@pytest.mark.parametrize("dataset", DATASET_NAMES)
def test_published_scores_are_fractions_and_bleu_falls_with_its_order(dataset):
    assert len(PUBLISHED[dataset]) >= 4
    for *bleu, meteor, rouge_l in PUBLISHED[dataset].values():
        assert 0 < bleu[3] < rouge_l < 1 and (meteor is None or 0 < meteor < 1)
        given = [score for score in bleu if score is not None]
        assert given == sorted(given, reverse=True)


def test_degeneration_of_the_model_is_counted(metrics):
    assert "findings texts of xr2text-iu 0.1.0 with a repeated sentence 3, doubled word 0." in markdown_table(metrics)
