import numpy as np
import pytest

from xr2text.data.recombine import Recombiner, certain_findings
from xr2text.text.findings.labeler import contradictions, label_report
from xr2text.text.sections import ReportText

NORMAL = ReportText("The heart is normal in size. No pleural effusion or pneumothorax.", "No acute disease.")
EFFUSION = ReportText("The heart is enlarged. There is a small right pleural effusion.", "Small right effusion.")
GRANULOMA = ReportText("Heart size is normal. A calcified granuloma is seen in the left lung.", "No acute disease.")


@pytest.fixture
def recombiner():
    return Recombiner([NORMAL, EFFUSION, GRANULOMA])


def made(recombiner: Recombiner) -> list[ReportText]:
    """Forty reports out of a normal one."""
    return [recombiner.recombine(NORMAL, np.random.default_rng(seed)) for seed in range(40)]


def test_what_is_there_comes_first_in_the_usual_order(recombiner):
    report = ReportText("No pneumothorax. Calcified granuloma. It measures 3 mm. Cardiomegaly. Ribs intact.", "Normal.")
    arranged = recombiner.arrange(report)
    assert arranged.findings == "Cardiomegaly. Calcified granuloma. It measures 3 mm. No pneumothorax. Ribs intact."
    assert arranged.impression == "Normal." and recombiner.arrange(NORMAL) == NORMAL


def test_a_normal_report_is_given_findings_of_others(recombiner):
    labels = [label_report(report.findings) for report in made(recombiner)]
    found = {frozenset(name for name, label in report.items() if label == 1) for report in labels}
    assert len(found) == 7 and frozenset() not in found  # one, two or all of three


def test_what_it_said_of_them_itself_goes(recombiner):
    reports = made(recombiner)
    assert not any(contradictions(f"{report.findings} {report.impression}") for report in reports)
    effusions = [report for report in reports if "small right pleural effusion" in report.findings]
    assert effusions and all("No pleural effusion" not in report.findings for report in effusions)


def test_an_impression_without_findings_goes(recombiner):
    impressions = {report.impression for report in made(recombiner)}
    assert impressions == {"", "Small right effusion."}


def test_the_same_random_numbers_give_the_same_report(recombiner):
    assert made(recombiner) == made(recombiner)


def test_reports_without_findings_have_nothing_to_give():
    assert Recombiner([NORMAL]).recombine(NORMAL, np.random.default_rng(0)) == NORMAL


def test_what_is_not_there_is_said_in_the_words_of_others(recombiner):
    said = {recombiner.reword(NORMAL, np.random.default_rng(seed)).findings.split(". ")[0] for seed in range(20)}
    assert said == {"The heart is normal in size", "Heart size is normal"}
    assert recombiner.reword(EFFUSION, np.random.default_rng(0)) == EFFUSION  # what is there stays


def test_a_report_names_what_others_usually_deny(recombiner):
    short = ReportText("A calcified granuloma is seen in the left lung.", "")
    for seed in range(20):
        completed = recombiner.complete(short, np.random.default_rng(seed))
        labels = label_report(completed.findings)
        assert labels["cardiomegaly"] == labels["pleural effusion"] == labels["pneumothorax"] == 0
        assert recombiner.complete(completed, np.random.default_rng(seed)) == completed
    assert recombiner.complete(EFFUSION, np.random.default_rng(0)) == EFFUSION  # no other denies a pneumothorax alone


def test_with_an_edema_no_lungs_are_clear():
    clear = ReportText("The lungs are clear.", "")
    edema = ReportText("There is pulmonary edema.", "")
    recombiner = Recombiner([clear, clear, edema])
    assert recombiner.complete(edema, np.random.default_rng(0)) == edema
    with_edema = [recombiner.recombine(clear, np.random.default_rng(seed)).findings for seed in range(10)]
    assert set(with_edema) == {"There is pulmonary edema."}


def test_what_is_denied_of_one_side_is_no_word_for_both():
    one_side = ReportText("The left lung is clear.", "")
    recombiner = Recombiner([one_side, one_side, ReportText("Clear lungs.", "")])
    assert recombiner.reword(one_side, np.random.default_rng(0)) == one_side
    assert (
        recombiner.complete(ReportText("Cardiomegaly.", ""), np.random.default_rng(0)).findings
        == "Cardiomegaly. Clear lungs."
    )


def test_doubts_are_not_told():
    report = ReportText("There is a small right pleural effusion. Possible atelectasis.", "")
    names = ["pleural effusion", "right pleural effusion", "left pleural effusion", "atelectasis", "edema"]
    assert certain_findings(report, names) == [1, 1, 0, 0, 0]
    assert np.isnan(certain_findings(report, ["unheard of"])).all()


def test_what_is_told_no_side_names_none(recombiner):
    names = ["pleural effusion", "right pleural effusion"]
    told = {}
    for seed in range(20):
        report = recombiner.simplify(EFFUSION, np.random.default_rng(seed))
        told[report] = tuple(certain_findings(report, names))
    plain = ReportText("The heart is enlarged. There is a pleural effusion.", "Pleural effusion.")
    sided = ReportText("The heart is enlarged. There is a right pleural effusion.", "Pleural effusion.")
    assert told == {EFFUSION: (1, 1), plain: (1, 0), sided: (1, 1)}


def test_no_size_is_named(recombiner):
    report = ReportText("3 cm nodule in the left lung. It measures 3 cm. Possible right effusion.", "No edema.")
    said = {recombiner.simplify(report, np.random.default_rng(seed)) for seed in range(20)}
    plain, sided = "There is a lung nodule.", "There is a nodule in the left lung."
    assert said == {ReportText(f"{nodule} Possible right effusion.", "No edema.") for nodule in (plain, sided)}


def test_what_only_the_impression_asserts_stands_in_the_findings_too(recombiner):
    report = ReportText(
        "The heart is normal in size. No pleural effusion or pneumothorax.", "Small left effusion. Normal."
    )
    completed = recombiner.complete(report, np.random.default_rng(0))
    assert completed.findings == "Small left effusion. The heart is normal in size."
    assert completed.impression == report.impression


def test_nothing_doubtful_is_given_to_others():
    doubtful = ReportText("Pneumonia is not excluded.", "")
    assert Recombiner([NORMAL, doubtful]).recombine(NORMAL, np.random.default_rng(0)) == NORMAL


def test_nothing_is_said_of_earlier_studies_or_the_patient():
    earlier = ReportText("Stable cardiomegaly. No change since then. In the interval, a mass has developed.", "")
    recombiner = Recombiner([NORMAL, EFFUSION, earlier])
    reworded = recombiner.reword(earlier, np.random.default_rng(0)).findings
    assert reworded == "The heart is enlarged. In the interval, a mass has developed."  # no other asserts a mass
    assert recombiner.reword(
        ReportText("", "Stable cardiomegaly. No change since then."), np.random.default_rng(0)
    ) == (ReportText("", "The heart is enlarged."))
    given = {recombiner.recombine(NORMAL, np.random.default_rng(seed)).findings for seed in range(40)}
    assert not any("table" in findings or "interval" in findings for findings in given)
