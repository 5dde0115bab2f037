import pytest

from xr2text.config import ConfigError, StageConfig
from xr2text.data.curriculum import Curriculum, Difficulty, admits, criteria, measure_difficulty
from xr2text.phantom.drawing import draw_phantom
from xr2text.text.sections import ReportText

NORMAL, SMALL, GRAVE = Difficulty(0, 0, None), Difficulty(1, 1, "mild"), Difficulty(3, 4, "severe")
STAGES = [
    StageConfig("warmup", 2, normal_only=True),
    StageConfig("easy", 3, max_findings=1, max_severity="mild"),
    StageConfig("hard", 4),
    StageConfig("finetune", 1, lr_factor=0.1),
]
DIFFICULTIES = [NORMAL, SMALL, GRAVE, NORMAL]
STUDIES = ["a", "b", "c", "a"]


@pytest.mark.parametrize(
    ("findings", "impression", "expected"),
    [
        ("The heart is normal in size. The lungs are clear.", "No acute disease.", NORMAL),
        ("A pacemaker is in place. No pneumothorax.", "", NORMAL),  # a device is no abnormality
        ("There is a small left pleural effusion.", "", Difficulty(1, 1, "mild")),
        (
            "Small left pleural effusion.",
            "Left pleural effusion.",
            Difficulty(1, 1, "mild"),
        ),  # said twice, counted once
        ("Moderate cardiomegaly. Possible scoliosis.", "", Difficulty(2, 2, "moderate")),
        ("A nodule in the right upper lobe.", "", Difficulty(1, 1, None)),  # a nodule is one finding, not also a lesion
        ("Mild cardiomegaly.", "Large right pneumothorax.", Difficulty(2, 2, "severe")),
    ],
)
def test_difficulty_is_what_the_report_asserts(findings, impression, expected):
    assert measure_difficulty(ReportText(findings, impression)) == expected


def test_phantoms_without_a_finding_are_normal_and_only_these():
    for seed in range(60):
        phantom = draw_phantom(seed, 32)
        difficulty = measure_difficulty(ReportText(phantom.findings_text, phantom.impression_text))
        assert difficulty.normal == (not phantom.findings)


@pytest.mark.parametrize(
    ("limits", "admitted"),
    [
        ({"normal_only": True}, [NORMAL]),
        ({"max_findings": 1}, [NORMAL, SMALL]),
        ({"max_findings": 3, "max_regions": 3}, [NORMAL, SMALL]),
        ({"max_regions": 4}, [NORMAL, SMALL, GRAVE]),
        ({"max_severity": "moderate"}, [NORMAL, SMALL]),
        ({"max_severity": "severe"}, [NORMAL, SMALL, GRAVE]),
    ],
)
def test_each_criterion_has_its_limit(limits, admitted):
    stage = StageConfig("stage", 1, **limits)
    assert [one for one in (NORMAL, SMALL, GRAVE) if admits(stage, one)] == admitted


def test_stages_follow_each_other_and_show_more_and_more():
    curriculum = Curriculum(STAGES, DIFFICULTIES, STUDIES, 10)
    assert [curriculum.stage_at(epoch).name for epoch in range(10)] == (
        ["warmup"] * 2 + ["easy"] * 3 + ["hard"] * 4 + ["finetune"]
    )
    assert [stage.indices for stage in curriculum.stages] == [(0, 3), (0, 1, 3), (0, 1, 2, 3), (0, 1, 2, 3)]
    assert [stage.studies for stage in curriculum.stages] == [1, 2, 3, 3]
    for epoch in (-1, 10):
        with pytest.raises(ValueError, match="there are 10 epochs"):
            curriculum.stage_at(epoch)


def test_a_shorter_run_ends_within_its_stages():
    curriculum = Curriculum(STAGES, DIFFICULTIES, STUDIES, 4)
    assert [(stage.name, stage.epochs) for stage in curriculum.stages] == [("warmup", 2), ("easy", 2)]


def test_without_stages_every_study_is_shown():
    (stage,) = Curriculum([], DIFFICULTIES, STUDIES, 7).stages
    assert stage.indices == (0, 1, 2, 3) and stage.epochs == 7


def test_the_table_tells_the_stages_as_people_count():
    lines = Curriculum(STAGES, DIFFICULTIES, STUDIES, 10).table().splitlines()
    assert lines[2] == "| warmup | 1-2 | normal studies only | 1 | 2 (50%) | x 1 |"
    assert lines[3].startswith("| easy | 3-5 | at most 1 findings, nothing graver than mild | 2 |")
    assert lines[5] == "| finetune | 10-10 | all studies | 3 | 4 (100%) | x 0.1 |"


def test_an_empty_stage_is_named():
    with pytest.raises(ConfigError, match=r"stage 'warmup'.*shows none of the 1 radiographs"):
        Curriculum(STAGES, [GRAVE], ["c"], 10)


def test_stages_must_be_nested():
    stages = [StageConfig("wide", 1, max_findings=3), StageConfig("narrow", 1, normal_only=True)]
    with pytest.raises(ConfigError, match=r"'narrow' .* leaves out 2 radiographs that 'wide'"):
        Curriculum(stages, DIFFICULTIES, STUDIES, 2)


def test_criteria_are_told_in_words():
    assert criteria(StageConfig("all", 1)) == "all studies"
    assert criteria(StageConfig("some", 1, max_regions=2)) == "at most 2 regions"
