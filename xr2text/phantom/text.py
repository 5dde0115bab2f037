"""The closed language of the phantoms' reports: one table of sentences, of which a report is written in their order."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

SIDES = ("right", "left")


@dataclass(frozen=True)
class Topic:
    """What a report says about one subject. `{side}` and `{detail}` in a sentence are filled in.

    Attributes:
        condition: the finding's name without its side; None for a topic that is always normal.
        sided: whether the finding belongs to one side ("right pleural effusion") or to the chest ("cardiomegaly").
        details: the words for a sided finding's place or amount, as drawn.
        absent, present: alternative sentences of the Findings section.
        bilateral: alternatives for both sides at once; without any, each side has its own sentence.
        summary, bilateral_summary: the Impression's sentences for `present` and `bilateral`.
    """

    condition: str | None
    absent: tuple[str, ...]
    sided: bool = True
    details: tuple[str, ...] = ("",)
    present: tuple[str, ...] = ()
    bilateral: tuple[str, ...] = ()
    summary: tuple[str, ...] = ()
    bilateral_summary: tuple[str, ...] = ()

    @property
    def findings(self) -> tuple[str, ...]:
        if self.condition is None:
            return ()
        return tuple(f"{side} {self.condition}" for side in SIDES) if self.sided else (self.condition,)


TOPICS: tuple[Topic, ...] = (
    Topic("cardiomegaly", sided=False, absent=(
        "The heart is normal in size.", "Heart size is within normal limits.",
        "The cardiac silhouette is not enlarged.",
    ), present=("The heart is enlarged.", "The cardiac silhouette is enlarged.", "There is cardiomegaly."),
       summary=("Cardiomegaly.", "Enlarged heart.")),
    Topic(None, absent=(
        "The mediastinal contours are unremarkable.", "The mediastinum is normal in contour.",
        "Mediastinal and hilar contours are normal.",
    )),
    Topic("lung consolidation", details=("upper", "lower"), absent=(
        "There is no focal consolidation.", "The lungs are clear of consolidation.",
        "No focal airspace opacity is seen.",
    ), present=(
        "There is consolidation in the {side} {detail} zone.",
        "Airspace opacity in the {side} {detail} zone is consistent with consolidation.",
        "A patchy consolidation is seen in the {side} {detail} zone.",
    ), summary=("Consolidation in the {side} {detail} zone.", "{side} {detail} zone consolidation.")),
    Topic("lung nodule", details=("upper", "lower"), absent=(
        "No pulmonary nodule is seen.", "There is no suspicious pulmonary nodule.", "No lung nodule.",
    ), present=(
        "There is a nodule in the {side} {detail} zone.", "A rounded nodule projects over the {side} {detail} zone.",
        "A solitary nodule is seen in the {side} {detail} zone.",
    ), summary=("Nodule in the {side} {detail} zone.", "{side} {detail} zone nodule.")),
    Topic("pleural effusion", details=("small", "moderate"), absent=(
        "There is no pleural effusion.", "The costophrenic angles are sharp.", "No pleural effusion is identified.",
    ), present=(
        "There is a {detail} {side} pleural effusion.",
        "A {detail} {side} pleural effusion blunts the costophrenic angle.",
        "The {side} costophrenic angle is blunted by a {detail} effusion.",
    ), bilateral=(
        "There are bilateral pleural effusions.", "Both costophrenic angles are blunted by pleural effusions.",
    ), summary=("{side} pleural effusion.", "{detail} {side} pleural effusion."),
       bilateral_summary=("Bilateral pleural effusions.",)),
    Topic("pneumothorax", details=("small", "moderate"), absent=(
        "There is no pneumothorax.", "No pneumothorax is seen.", "No evidence of pneumothorax.",
    ), present=(
        "There is a {detail} {side} apical pneumothorax.",
        "A {detail} {side} pneumothorax is present with a visible pleural line.",
        "A {side} apical pleural line indicates a {detail} pneumothorax.",
    ), bilateral=("There are bilateral pneumothoraces.", "Bilateral apical pneumothoraces are present."),
       summary=("{side} pneumothorax.", "{detail} {side} pneumothorax."),
       bilateral_summary=("Bilateral pneumothoraces.",)),
    Topic(None, absent=(
        "The osseous structures are intact.", "No acute osseous abnormality is seen.",
        "The visualized bones are unremarkable.",
    )),
)  # fmt: skip

NORMAL_IMPRESSIONS: tuple[str, ...] = (
    "No acute cardiopulmonary abnormality.", "No acute cardiopulmonary process.", "Normal chest radiograph.",
)  # fmt: skip


_SIDED = ("pleural effusion", "lung consolidation", "pneumothorax", "lung nodule")
# A finding's place in this order numbers its random stream.
FINDINGS: tuple[str, ...] = ("cardiomegaly", *(f"{side} {condition}" for condition in _SIDED for side in SIDES))


def fill_sentence(template: str, side: str, detail: str) -> str:
    """A sentence of the table with its side and its place or amount."""
    sentence = template.format(side=side, detail=detail)
    return sentence[0].upper() + sentence[1:]


def write_report(details: Mapping[str, str], rng: np.random.Generator) -> tuple[str, str]:
    """Writes the report of a phantom.

    Args:
        details: the drawn findings (keys, from FINDINGS), each with its place or amount in the words of its topic.
        rng: chooses among the paraphrases; it gives one number to each topic, whatever the findings.

    Returns:
        The texts of the Findings section and of the Impression.
    """
    findings, impression = [], []
    for topic in TOPICS:
        choice = int(rng.integers(6))  # divisible by the number of paraphrases: 1, 2 or 3
        drawn = [finding for finding in topic.findings if finding in details]
        if not drawn:
            findings.append(topic.absent[choice % len(topic.absent)])
        elif len(drawn) == 2 and topic.bilateral:
            findings.append(topic.bilateral[choice % len(topic.bilateral)])
            impression.append(topic.bilateral_summary[choice % len(topic.bilateral_summary)])
        else:
            for finding in drawn:
                words = {"side": finding.split()[0], "detail": details[finding]}
                findings.append(fill_sentence(topic.present[choice % len(topic.present)], **words))
                impression.append(fill_sentence(topic.summary[choice % len(topic.summary)], **words))
    normal = NORMAL_IMPRESSIONS[int(rng.integers(len(NORMAL_IMPRESSIONS)))]
    return " ".join(findings), " ".join(impression) or normal
