import pytest
from finding_sentences import FINDINGS, NO_FINDING, REGIONS, REGIONS_AMONG_OTHERS, SENTENCES, SEVERITIES, SIDES

from xr2text.text.findings.labeler import find_mentions, label_report


def numbered(cases):
    """`cases` as pytest parameters whose ids are their running numbers."""
    return [pytest.param(case, id=str(number)) for number, case in enumerate(cases)]


def told(case):
    """What a failing assertion says of its case: the text and what makes it hard."""
    return f"{case.text!r}" + (f" ({case.why})" if case.why else "")


@pytest.mark.parametrize("case", numbered(SENTENCES))
def test_labels_of_a_sentence(case):
    labels = label_report(case.text)
    labels.pop("no finding", None)
    assert labels == case.labels, told(case)


@pytest.mark.parametrize("case", [case for case in numbered(SENTENCES) if case.values[0].sides])
def test_sides_of_a_sentence(case):
    mentions = find_mentions(case.text)
    for finding, side in case.sides.items():
        assert side in [mention.side for mention in mentions if mention.finding == finding], f"{finding}: {told(case)}"


@pytest.mark.parametrize("case", [case for case in numbered(SENTENCES) if case.values[0].severity])
def test_severities_of_a_sentence(case):
    mentions = find_mentions(case.text)
    for finding, word in case.severity.items():
        found = [mention.severity for mention in mentions if mention.finding == finding]
        assert word in found, f"{finding}: {told(case)}"


@pytest.mark.parametrize("case", [case for case in numbered(SENTENCES) if case.values[0].regions])
def test_regions_of_a_sentence(case):
    mentions = find_mentions(case.text)
    for finding, regions in case.regions.items():
        found = [set(mention.regions) for mention in mentions if mention.finding == finding]
        if finding in REGIONS_AMONG_OTHERS:
            assert any(set(regions) <= one for one in found), f"{finding}: {found}: {told(case)}"
        else:
            assert set(regions) in found, f"{finding}: {found}: {told(case)}"


@pytest.mark.parametrize("report", numbered(NO_FINDING))
def test_no_finding_of_a_report(report):
    text, no_finding = report
    assert label_report(text)["no finding"] == no_finding, text


class TestTheExaminationItself:
    def test_texts_are_many_and_distinct(self):
        texts = [case.text for case in SENTENCES]
        assert len(texts) >= 200
        assert len({text.lower() for text in texts}) == len(texts)
        assert len({text for text, _ in NO_FINDING}) == len(NO_FINDING) >= 15

    def test_only_known_names_and_values(self):
        for case in SENTENCES:
            assert set(case.labels) <= set(FINDINGS), case.text
            assert set(case.labels.values()) <= {-1, 0, 1}, case.text
            for detail, known in ((case.sides, SIDES), (case.severity, SEVERITIES)):
                assert set(detail or {}) <= set(case.labels), case.text
                assert set((detail or {}).values()) <= set(known), case.text
            assert set(case.regions or {}) <= set(case.labels), case.text
            assert {region for regions in (case.regions or {}).values() for region in regions} <= set(REGIONS), (
                case.text
            )
        assert {no_finding for _, no_finding in NO_FINDING} == {0, 1}

    def test_details_stand_in_their_text(self):
        for case in SENTENCES:
            text = case.text.lower()
            assert all(word in text for word in (case.severity or {}).values()), case.text

    @pytest.mark.parametrize("finding", FINDINGS)
    def test_every_finding_is_examined(self, finding):
        statuses = [case.labels[finding] for case in SENTENCES if finding in case.labels]
        assert len(statuses) >= 4
        assert statuses.count(1) >= 2

    def test_a_nodule_or_mass_is_a_lung_lesion(self):
        for case in SENTENCES:
            lesions = {case.labels[name] for name in ("nodule", "mass") if name in case.labels}
            assert not lesions or case.labels["lung lesion"] in lesions, case.text

    def test_sides_severities_and_regions_are_examined(self):
        assert sum(case.sides is not None for case in SENTENCES) >= 35
        assert sum(case.severity is not None for case in SENTENCES) >= 20
        assert sum(case.regions is not None for case in SENTENCES) >= 20
