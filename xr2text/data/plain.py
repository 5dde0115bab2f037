"""Plain sentences: one for each finding, with or without a side."""

from collections import defaultdict

from xr2text.text.findings.labeler import PRESENT, find_mentions
from xr2text.text.findings.table import KINDS

# In the findings section, and in the impression.
PLAIN_SENTENCES = {
    "enlarged cardiomediastinum": ("The mediastinum is widened.", "Widened mediastinum."),
    "cardiomegaly": ("The heart is enlarged.", "Cardiomegaly."),
    "low lung volumes": ("Lung volumes are low.", "Low lung volumes."),
    "emphysema or hyperinflation": ("The lungs are hyperinflated.", "Hyperinflation."),
    "lung opacity": ("There is an opacity in the lungs.", "Lung opacity."),
    "consolidation": ("There is consolidation in the lungs.", "Consolidation."),
    "pneumonia": ("There is pneumonia.", "Pneumonia."),
    "atelectasis": ("There is atelectasis.", "Atelectasis."),
    "edema": ("There is pulmonary edema.", "Pulmonary edema."),
    "vascular congestion": ("There is pulmonary vascular congestion.", "Pulmonary vascular congestion."),
    "prominent lung markings": ("The lung markings are prominent.", "Prominent lung markings."),
    "lung lesion": ("There is a lung lesion.", "Lung lesion."),
    "nodule": ("There is a lung nodule.", "Lung nodule."),
    "mass": ("There is a lung mass.", "Lung mass."),
    "granuloma": ("There is a calcified granuloma.", "Calcified granuloma."),
    "scarring or fibrosis": ("There is scarring in the lungs.", "Scarring."),
    "pneumothorax": ("There is a pneumothorax.", "Pneumothorax."),
    "pleural effusion": ("There is a pleural effusion.", "Pleural effusion."),
    "pleural other": ("There is pleural thickening.", "Pleural thickening."),
    "hilar or mediastinal adenopathy": ("There is adenopathy.", "Adenopathy."),
    "tortuous or atherosclerotic aorta": (
        "The aorta is tortuous or atherosclerotic.",
        "Tortuous or atherosclerotic aorta.",
    ),
    "hiatal hernia": ("There is a hiatal hernia.", "Hiatal hernia."),
    "elevated diaphragm": ("There is elevation of the diaphragm.", "Elevated diaphragm."),
    "support devices": ("A support device is in place.", "Support device in place."),
    "surgical change": ("There are postsurgical changes.", "Postsurgical changes."),
    "degenerative change of the spine": (
        "There are degenerative changes of the spine.",
        "Degenerative changes of the spine.",
    ),
    "scoliosis": ("There is scoliosis of the spine.", "Scoliosis."),
    "kyphosis": ("There is kyphosis of the spine.", "Kyphosis."),
    "osteopenia": ("The bones are osteopenic.", "Osteopenia."),
    "fracture": ("There is a fracture.", "Fracture."),
}
# In the findings section: for one side, and for both.
SIDED_SENTENCES = {
    "lung opacity": ("There is an opacity in the {side} lung.", "There are opacities in both lungs."),
    "consolidation": ("There is consolidation in the {side} lung.", "There is consolidation in both lungs."),
    "nodule": ("There is a nodule in the {side} lung.", "There are nodules in both lungs."),
    "pneumothorax": ("There is a {side} pneumothorax.", "There are bilateral pneumothoraces."),
    "pleural effusion": ("There is a {side} pleural effusion.", "There are bilateral pleural effusions."),
}


def plain_findings(sentence: str, sided: bool) -> str:
    """Replaces a sentence by plain sentences for the findings that it asserts, with their sides where `sided`. A
    sentence that asserts nothing, or also denies or doubts a finding, is returned as it is."""

    def say(name: str, sides: set[str | None]) -> str:
        if not sided or name not in SIDED_SENTENCES or None in sides:
            return PLAIN_SENTENCES[name][0]
        of_one, of_both = SIDED_SENTENCES[name]
        return of_one.format(side=sides.pop()) if sides in ({"right"}, {"left"}) else of_both

    return " ".join(say(name, sides) for name, sides in _plain_names(sentence).items()) or sentence


def plain_impression(sentence: str) -> str:
    """The same for a sentence of an impression, without sides."""
    return " ".join(PLAIN_SENTENCES[name][1] for name in _plain_names(sentence)) or sentence


def _plain_names(sentence: str) -> dict[str, set[str | None]]:
    """The findings that a sentence asserts, each with its sides, in the order of `PLAIN_SENTENCES`. A general finding
    is left out beside its special kind. Empty where the sentence also denies or doubts one."""
    sides, mentions = defaultdict(set), find_mentions(sentence)
    for mention in mentions:
        sides[mention.finding].add(mention.side)
    if any(mention.status != PRESENT for mention in mentions):
        return {}
    return {name: sides[name] for name in PLAIN_SENTENCES if name in sides.keys() - {KINDS.get(kind) for kind in sides}}
