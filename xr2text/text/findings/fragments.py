"""Fragments that the finding table's regular expressions are built from, over a sentence in lower case."""


def any_of(*patterns: str) -> str:
    return "(?:" + "|".join(patterns) + ")"


EXCEPT = "except|excepting|other than|apart from|aside from|save for"
# A character within one statement: it crosses neither a change of mind, nor another verdict.
_STEP = (
    r"(?:(?!\b(?:but|however|although|though|while|whereas|despite|with|without|no|not|nor|normal|unremarkable|"
    r"enlarged|there|which|clear|intact|are seen|is seen|is noted|are noted|"
    r"large|widened|congested|elevated|flattened|fractur\w+|calcifi\w+|tortuous|athero\w+|ecta\w+|unfolded|"
    rf"{EXCEPT})\b)[^.;])"
)


def near(first: str, then: str, reach: int = 60) -> str:
    """A pattern: `first`, then `then` within the same statement, at most `reach` characters later."""
    return rf"\b{first}\b{_STEP}{{0,{reach}}}?\b{then}\b"


NORMAL = any_of(
    "(?<!than )normal", "normally", "unremarkable", "within normal", "in normal",
    r"not (?:\w+ ){0,2}(?:enlarged|widened|dilated)", "non-?enlarged", r"no (?:\w+ ){0,2}enlarge\w*",
    "not (?:increased|prominent|big|large)", "negative", "grossly clear", "within limits", "of normal",
    r"without (?:\w+ )?(?:enlargement|abnormality)", "wnl",
)  # fmt: skip
BORDERLINE = any_of(
    "upper limits?", "upper normal", "top[- ]normal", "top limits? of normal", "borderline", "high[- ]normal",
    "mildly prominent", "at the limits? of normal", "prominent", "accentuated",
)  # fmt: skip
LARGE = any_of(
    "enlarged", "enlargement", r"larger?(?! (?:\w+ ){0,3}(?:effusion|pneumothora|opacit|hernia|mass|nodul|consolidat))",
    "increased in size", "increased size", "big(?:ger)?", "dilated", "generous",
)  # fmt: skip
HEART = any_of(
    "hearts?",
    r"(?:cardiac|cardio-?pericardial|cardio-?mediastinal)(?: and mediastinal| mediastinal)? (?:silhouettes?|size|"
    r"contours?|shadows?|borders?|outlines?|structures|diameter)",
    "cardiomediastinum", "cardiac and mediastinal (?:silhouettes?|contours?|structures)",
)  # fmt: skip
RATIO = "(?:cardio-?thoracic (?:ratio|index)|ctr)"
HEART_ALONE = any_of("hearts?", "cardiac (?:silhouette|size|shadow|contour|diameter)", "cardiopericardial silhouette")
MEDIASTINUM = any_of(
    "mediastinum", "mediastinal",
    "(?:cardio-?mediastinal|heart and mediastinal|cardiac and mediastinal|cardiac mediastinal)", "cardiomediastinum",
)  # fmt: skip
BONES = any_of(
    "bon(?:y|es?)(?: structures?| thorax)?", "osseous(?: structures?)?", r"skelet\w+(?: structures?)?", "ribs?",
    "rib cage", "thoracic cage", "bony thorax", "visualized bones",
)  # fmt: skip
VESSELS = any_of(
    "vascularity", "vasculature", "pulmonary vessels", "vascular pattern", "vascular markings",
    r"pulmonary vascular\w*",
)  # fmt: skip
CLEAR_LUNGS = (
    near(any_of("lungs?", "lung fields?", "lung zones?", "both lungs"), "clear(?! of)", 50),
    r"clear (?:\w+ ){0,2}lungs?", "lungs?(?: fields?)?(?: are| is)? clear(?! of)",
    r"lungs?[^.;:]{0,50} but (?:\w+ )?clear(?! of)",
)  # fmt: skip
