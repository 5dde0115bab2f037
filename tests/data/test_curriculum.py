import pytest

from xr2text.config import ConfigError, StageConfig
from xr2text.data.curriculum import Curriculum, Difficulty, criteria, read_report
from xr2text.data.study import Study
from xr2text.data.study_table import StudyTable
from xr2text.phantom.drawing import draw_phantom
from xr2text.text.sections import ReportText

NORMAL, EASY, HARD = Difficulty(0, 0), Difficulty(1, 1), Difficulty(3, 4)
DIFFICULTIES = [NORMAL, EASY, HARD, NORMAL]
STUDIES = [10, 11, 12, 10]


def stage(name="stage", epochs=1, **options):
    return StageConfig(name=name, epochs=epochs, **options)


STAGES = [
    stage("warmup", 2, max_findings=0),
    stage("easy", 3, max_findings=1),
    stage("hard", 4),
    stage("finetune", 1, lr_factor=0.1),
]


@pytest.mark.parametrize(
    ("findings", "impression", "expected"),
    [
        ("The heart is normal in size. The lungs are clear.", "No acute disease.", NORMAL),
        ("A pacemaker is in place. No pneumothorax.", "", NORMAL),  # a device is no abnormality
        ("Small left pleural effusion.", "Left pleural effusion.", EASY),  # said twice, counted once
        ("Moderate cardiomegaly. Possible scoliosis.", "", Difficulty(2, 2)),
        ("A nodule in the right upper lobe.", "", EASY),  # a nodule is one finding, not also a lesion
    ],
)
def test_difficulty_is_what_the_report_asserts(findings, impression, expected):
    assert read_report(ReportText(findings, impression))[1] == expected


def test_difficulty_of_a_study_without_a_report_is_what_it_is_labelled_with():
    studies = [
        Study("a", "a", (), labels={"cardiomegaly": 1, "right pleural effusion": 1, "pleural effusion": 1, "edema": 0}),
        Study("b", "b", (), labels={"nodule": 1, "lung lesion": 1, "right lung nodule": -1}),
        Study("c", "c", (), labels={"support devices": 1, "no finding": 1}),
        Study("d", "d", (), findings="The heart is enlarged.", labels={"nodule": 1}),
    ]
    assert StudyTable.of(studies).difficulty().tolist() == [[2, 3], [1, 2], [0, 0], [1, 1]]


def test_phantoms_without_a_finding_are_normal_and_only_these():
    for seed in range(40):
        phantom = draw_phantom(seed, 32)
        _, difficulty = read_report(ReportText(phantom.findings_text, phantom.impression_text))
        assert (difficulty == NORMAL) == (not phantom.findings)


@pytest.mark.parametrize(
    ("limits", "shown"),
    [
        ({"max_findings": 0}, (0, 3)),
        ({"max_findings": 1}, (0, 1, 3)),
        ({"max_findings": 3, "max_regions": 3}, (0, 1, 3)),
        ({"max_regions": 4}, (0, 1, 2, 3)),
    ],
)
def test_each_criterion_has_its_limit(limits, shown):
    assert Curriculum([stage(**limits)], DIFFICULTIES, STUDIES, 1).stages[0].indices == shown


def test_stages_follow_each_other_and_show_more_and_more():
    curriculum = Curriculum(STAGES, DIFFICULTIES, STUDIES, 10)
    assert [curriculum.stage_at(epoch).name for epoch in range(10)] == (
        ["warmup"] * 2 + ["easy"] * 3 + ["hard"] * 4 + ["finetune"]
    )
    assert [part.indices for part in curriculum.stages] == [(0, 3), (0, 1, 3), (0, 1, 2, 3), (0, 1, 2, 3)]
    assert [part.studies for part in curriculum.stages] == [1, 2, 3, 3]


def test_a_shorter_run_ends_within_its_stages():
    curriculum = Curriculum(STAGES, DIFFICULTIES, STUDIES, 4)
    assert [(part.name, part.epochs) for part in curriculum.stages] == [("warmup", 2), ("easy", 2)]


def test_without_stages_every_study_is_shown():
    (part,) = Curriculum([], DIFFICULTIES, STUDIES, 7).stages
    assert part.indices == (0, 1, 2, 3) and part.epochs == 7


def test_the_table_tells_the_stages_as_people_count():
    lines = Curriculum(STAGES, DIFFICULTIES, STUDIES, 10).table().splitlines()
    assert lines[2] == "| warmup | 1-2 | normal studies only | 1 | 2 (50%) | x 1 |"
    assert lines[3].startswith("| easy | 3-5 | at most 1 findings | 2 |")
    assert lines[5] == "| finetune | 10-10 | all studies | 3 | 4 (100%) | x 0.1 |"


def test_an_empty_stage_is_named():
    with pytest.raises(ConfigError, match=r"stage 'warmup'.*shows none of the 1 radiographs"):
        Curriculum(STAGES, [HARD], [12], 10)


def test_stages_must_be_nested():
    stages = [stage("wide", max_findings=3), stage("narrow", max_findings=0)]
    with pytest.raises(ConfigError, match=r"'narrow' .* leaves out 2 radiographs that 'wide'"):
        Curriculum(stages, DIFFICULTIES, STUDIES, 2)


def test_criteria_are_told_in_words():
    assert criteria(stage()) == "all studies"
    assert criteria(stage(max_regions=2)) == "at most 2 regions"
