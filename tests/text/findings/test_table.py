from xr2text.anatomy import REGION_NAMES
from xr2text.phantom.text import FINDINGS as PHANTOM_FINDINGS
from xr2text.text.findings.table import (
    CHEXPERT_5,
    CHEXPERT_14,
    FINDING_NAMES,
    FINDING_REGIONS,
    FINDINGS,
    SIDED_FINDINGS,
)


def test_the_table_names_regions_and_the_fourteen_of_chexpert():
    assert len(FINDING_NAMES) == len(set(FINDING_NAMES)) == 31
    assert set(CHEXPERT_14) <= set(FINDING_NAMES) and len(CHEXPERT_14) == 14
    assert set(CHEXPERT_5) <= set(CHEXPERT_14) and len(CHEXPERT_5) == 5
    for finding in FINDINGS[1:]:
        assert finding.regions and {*finding.regions, *finding.elsewhere} <= set(REGION_NAMES), finding.name
        assert finding.says, finding.name


def test_every_finding_has_regions():
    assert set(FINDING_REGIONS) == {*FINDING_NAMES[1:], *SIDED_FINDINGS} >= set(PHANTOM_FINDINGS)
    assert {finding for finding, _ in SIDED_FINDINGS.values()} <= set(FINDING_NAMES)
    assert all(regions and set(regions) <= set(REGION_NAMES) for regions in FINDING_REGIONS.values())
    assert FINDING_REGIONS["left pleural effusion"] == ("left lung", "costophrenic angles")
