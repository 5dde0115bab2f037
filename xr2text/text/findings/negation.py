"""Whether a finding is present, denied, doubted or not asserted at all, by the words around it.

The algorithm is NegEx (Chapman et al., J Biomed Inform 2001) as negspacy implements it, asked once for each of these
questions. This module gives it the phrases of chest radiograph reports: cues before a finding and behind it, phrases
that look like cues and are none, and boundaries that a cue does not reach across.
"""

import re
from collections.abc import Sequence
from functools import cache

PRESENT, ABSENT, UNCERTAIN = "present", "absent", "uncertain"


def _phrases(text: str) -> list[str]:
    return [" ".join(phrase.split()) for phrase in text.split(",")]


# A statement ends at these, and at a comma or "and" before a word that begins the next one.
_BEGINNINGS = _phrases("""
    mild, mildly, minimal, moderate, moderately, small, trace, tiny, large, severe, stable, unchanged, possible,
    probable, likely, persistent, bilateral, left, right, increased, chronic, old, healed, a, an, prior, the, heart,
    lungs, mediastinum, tortuous, calcified, some, prominent, low, worsening, patchy, multiple, scattered, bibasilar,
    subsegmental, associated
""")
_IMPROBABLE = _phrases("unlikely, less likely, doubt, doubtful")
_BOUNDARIES = [
    *_phrases("""
        but, however, although, though, yet, whereas, while, except, excepting, other than, apart from, aside from, save
        for, besides, with the exception, ;, there is, there are, there has, there have, is stable and, are stable and,
        is present and, are present and, is seen and, are seen and, is noted and, are noted and, in addition, and there,
        otherwise, in this patient with, in a patient with, patient is, following, after, status post, again, this
        represents, these represent, with residual
    """),
    *(f"{joint} {word}" for joint in (",", "and", ", and", ", with") for word in _BEGINNINGS),
    *(f"{joint} {word}" for joint in (",", "and", ", and") for word in ("this is", "these are", "it is", *_IMPROBABLE)),
]

_CAUSE = "§"  # stands for a word after which the next statement begins
_DENIED_BEFORE = _IMPROBABLE + _phrases("""
    no, not, without, negative for, free of, free from, clear of, absence of, absent, nor, neither, lack of, resolution
    of, resolved, removal of, removed, never, non, none, rather than, unremarkable for, clearing of, rules out,
    excludes, ruled out, argue against, argues against, arguing against, devoid of, failed to, fails to, nil, nothing to
    suggest, nothing to indicate, nothing suggestive of
""")
_HOW = _phrases("been, clearly, definitely, currently, convincingly, otherwise, readily")
_SEEN = _phrases("seen, identified, visualized, demonstrated, evident, present")
_DENIED_AFTER = [
    *(
        f"not {be}{seen}"
        for be in ("", "be ")
        for seen in _phrases("""
        seen, detected, demonstrated, delineated, identified, recognized, appreciated, visualized, found, confirmed,
        made out, proven
    """)
    ),
    *_phrases("""
        not likely, not probable, not favored, not considered likely, improbable, not detectable, not demonstrable, not
        recognizable, not discernible, is lacking, are lacking, not developed,
        not seen, not identified, not present, not visualized, not demonstrated, not evident, not appreciated, not
        noted, not detected, not apparent, not observed, not visible, not found, not suspected, is absent, are absent,
        absent, has resolved, have resolved, had resolved, resolved, no longer, has cleared, have cleared, cleared,
        ruled out, unlikely, less likely, doubtful, excluded, not confirmed, been removed, removed, is gone, are gone,
        : none, : no, : negative, : nil, none seen, none identified, disappeared, appears within limits of normal,
        appear within limits of normal, is within limits of normal, are within limits of normal, cannot be seen, can not
        be seen, not be seen
    """),
    *(f"not {how} {seen}" for how in _HOW for seen in _SEEN),
]
_NOT_DENIALS = [
    *_phrases("""
        no further, not improved, not only, cannot exclude, cannot be excluded, not excluded, not be excluded, cannot be
        entirely excluded, cannot be completely excluded, cannot be ruled out, not be ruled out, cannot rule out, cannot
        entirely exclude, cannot completely exclude, not ruled out, without resolution, not removed, no significant
        interval, difficult to exclude, not certain, not clear whether, not well, not fully, not completely, no new or,
        incompletely resolved, nearly resolved, almost resolved, partially resolved, partially cleared, incompletely
        cleared, is not significantly, are not significantly, is not changed, are not changed, is not well, are not
        well, no doubt, not exclude, not rule out, unlikely to be excluded, if not removed, no worse, no better, no
        larger, no smaller, no bigger, no more, no less, no greater, no different, not as, not larger, not smaller, not
        bigger, not worse, not worsened, not better, not increased, not decreased, not progressed, not disappeared,
        not possible to
    """),
    *(
        f"{no} {how}{change}"
        for no in ("no", "without", "without any", "not any", "not been any")
        for how in ("", *(f"{word} " for word in (
            "interval", "significant", "significant interval", "substantial", "appreciable", "definite", "gross",
            "relevant", "obvious", "large", "major", "clear", "evidence of", "evidence of interval",
        )))
        for change in ("change", "increase", "decrease", "improvement", "progression", "worsening", "growth")
    ),
    *(
        f"not {how}{changed}"
        for how in ("", *(f"{word} " for word in (
            "yet", "been", "entirely", "completely", "fully", "definitely", "significantly", "appreciably",
            "substantially", "totally",
        )))
        for changed in ("changed", "excluded", "exclude", "resolved", "cleared")
    ),
    *(
        f"{nearly} {how}{gone}"
        for nearly in ("nearly", "almost", "mostly", "largely", "partly", "partially", "substantially")
        for how in ("", "completely ", "entirely ", "fully ", "totally ")
        for gone in ("resolved", "cleared")
    ),
    *(
        f"{how} {interval}{gone} of"
        for how in (
            "partial", "incomplete", "near complete", "near-complete", "nearly complete", "almost complete",
            "continued", "ongoing", "further", "slow", "gradual", "significant",
        )
        for interval in ("", "interval ")
        for gone in ("resolution", "clearing")
    ),
]  # fmt: skip

_DOUBTED_BEFORE = _phrases("""
    may, might, could, possible, possibly, possibility of, probable, probably, likely, suspected, suspect, suspicious
    for, suspicious of, suspicion of, suspicion for, concerning for, concern for, concern of, worrisome for,
    questionable, questionably, question of, question, cannot exclude, can not exclude, cannot rule out, cannot entirely
    exclude, cannot completely exclude, not exclude, not completely exclude, difficult to exclude, not excluded, versus,
    vs, vs., suggestive of, suggesting, suggests, suggest, borderline, equivocal, perhaps, potential, potentially,
    presumably, presumed, presumptive, either, differential, ?, difficult to completely exclude, difficult to entirely
    exclude, completely exclude, entirely exclude, favor, favored, favors, favoring, subtle suggestion of, suggestion
    of, raise the possibility, raises the possibility, thought to, felt to, would suggest, possibilities include,
    considerations include, if any, probability of, likelihood of
""")
_DOUBTED_AFTER = _phrases("""
    cannot be excluded, not been excluded, not been ruled out, not excluded, not be excluded, not entirely excluded, not
    definitely excluded, not completely excluded, not fully excluded, cannot be entirely excluded, cannot be completely
    excluded, cannot be ruled out, not be ruled out, not ruled out, is possible, are possible, also possible, is
    suspected, are suspected, suspected, is questioned, is questionable, are questionable, versus, vs, vs., is probable,
    are probable, is likely ., are likely ., would be possible, is considered, are considered, probably present, likely
    present, possibly present, consideration, considerations, difficult to entirely exclude, difficult to exclude,
    be considered in the appropriate, be considered in the correct, a possibility, a concern, of concern, remains
    possible, in the differential, difficult to completely exclude, is in the differential, would be difficult to
    exclude, may be present, might be present, could be present, may be considered, is favored, are favored, if any,
    : possible, : probable, : likely, : suspected, : questionable
""")
_DOUBTS_OF_THE_NEXT = _phrases("a concern for, of concern for, a possibility of")
_NOT_DOUBTS = _phrases("""
    no question, without question, not suspicious, no suspicious, likely unchanged, likely stable, likely chronic,
    likely benign, probably benign, probably chronic, likely old, probably old, likely postsurgical, likely
    postoperative, likely degenerative
""")
# "No edema despite cardiomegaly": the circumstances of what is not there are there.
_DENIAL_BOUNDARIES = [
    *_BOUNDARIES,
    _CAUSE,
    *_phrases("""
        despite, in spite of, in the setting of, given, allowing for, considering, superimposed on, on a background of,
        on this background of, beyond, adjacent to
    """),
]
_DOUBT_BOUNDARIES = [*_BOUNDARIES, ",", "without", "no", "in the setting of"]
# A doubt about one thing says nothing of the thing named before it: "opacity, atelectasis versus infiltrate".
_DOUBT_AFTER_BOUNDARIES = [
    *_DOUBT_BOUNDARIES,
    *_phrases("""
        which, that, opacity, opacities, concerning for, suspicious for, worrisome for, may represent, may reflect, may
        be due, may be related, may be secondary, could represent, could reflect, could be due, likely represents,
        likely represent, likely representing, likely reflecting, likely due, likely related, represents, reflects,
        consistent with, compatible with, representing, reflecting, related, due to, secondary to
    """),
]

_UNASSERTED_BEFORE = _phrases("""
    rule out, r/o, evaluate for, evaluation for, evaluate, history of, h/o, history, assess for, assess, to exclude, to
    confirm, to document, screen for, screening for, monitor for, monitoring for, follow up, follow-up, followup,
    if concern, if clinical, clinical concern for, clinical suspicion for, recommend, recommended, consider,
    indication, further evaluation of, compatible with history, known history, sensitivity for, limits evaluation,
    limiting evaluation, limits detection, detection of, evaluation of, assessment of, assessment for, workup for,
    concern clinically for, symptoms of, risk factors for, screen, correlate for, correlate clinically, clinical
    correlation, clinically for, sensitive, correlation for, correlate with, if the patient has, reported, query, to
    determine, radiograph showed, simulates, simulating, to detect, sensitivity to, ability to, which showed, which
    demonstrated
""")
_UNASSERTED_BEFORE += [
    f"{when} {what} {shows}"
    for when in ("prior", "previous", "last", "chest")
    for what in ("study", "exam", "examination", "radiograph", "film", "ct", "image")
    for shows in ("showed", "showing", "demonstrated", "demonstrating")
]
_NOT_UNASSERTED = [
    f"{how} {asked}"
    for how in (
        "cannot",
        "not",
        "difficult to",
        "hard to",
        "impossible to",
        "unable to",
        "not possible to",
        "completely",
        "entirely",
    )
    for asked in ("exclude", "rule out")
]
_UNASSERTED_AFTER = _phrases("may not be, can be missed, could be missed, may be missed, is not assessed")

# "Evaluation is limited by an effusion": what hinders it is there.
_HINDERED = re.compile(
    r"(?<!not )(?<!no longer )\b(?:limited|obscured|hampered|suboptimal|impaired|degraded|compromised|precluded|"
    r"incomplete|not possible|difficult|hard|cannot be \w+ed)\b[^.;]{0,40}?"
    r"\b(?P<cause>by|due to|because of|secondary to|given)\b"
)
# "if there is concern for pneumonia": what follows is not said to be there.
_IF_THERE = re.compile(r"\bif there (?:is|are)\b")

MAYBE = r"may|might|could|possibl[ey]|probabl[ey]|likely"
"""Words of doubt, a regular expression."""
_EXCEPTION = re.compile(
    r"\b(?:except|excepting|other than|apart from|aside from|save for|with the exception of)\b[^.;]*?\b(?:trace|tiny|"
    r"small|minimal|mild|slight|minor|subtle|residual|ones?|that|known|left|right|apical|apex|apices|bas\w+)\b"
)
# "No evidence that the effusion has resolved" and "no sign of resolution of the effusion" deny nothing.
_NOT_GONE = re.compile(
    r"\b(?:no|without|not any)(?P<said> (?:\w+ )?(?:evidence|signs?|indications?|suggestion|proof) "
    r"(?:that\b(?:(?!\b(?:no|not|but|however|although)\b)[^.;,]){0,80}?|(?:of|for) (?:\w+ ){0,2}))"
    r"\b(?:resolved|resolution|resolving|cleared|clearing|disappeared|disappearance|gone)\b"
)
# "The tip of the tube is not seen": the tube is.
_TIP_UNSEEN = re.compile(
    r"(?<=\btip)s?\b(?:(?!\b(?:and|or|with|but|while)\b)[^.;,]){0,60}?\b(?:not|cannot be)(?: \w+){0,2}? "
    r"(?:seen|visuali[sz]ed|identified|included|visible|imaged)\b"
)
# "No consolidation, effusions have decreased", "small effusion, pneumothorax is not seen": two statements.
_WORDS = r"(?:(?!(?:or|nor|no|not|and|is|are|has|have|was|were|which|that)\b)\w+ ){1,5}(?:(?:is|are|has|have) )?"
_STATEMENT = re.compile(
    rf"(?:,| and)(?= {_WORDS}(?:(?:slightly|mildly|again|been) )?(?:persists?|remains?|stable|unchanged|improved|"
    r"improving|decreased|increased|worsened|small|in (?:\w+ )?(?:place|position))\b)"
    rf"|^[^,;]*,(?= (?!(?:previously|present|noted|seen|visible|best)\b){_WORDS}"
    r"(?:(?:felt|thought|considered) )?(?:not|no longer|resolved|cleared|removed|absent|unlikely|less likely)\b)"
)
# "No cavitation within the consolidation": the consolidation is there.
_PART = re.compile(
    r"\b(?:no|without)\b[^.;,]{0,40}?\b(?:cavit\w+|calcif\w+|tension(?: component)?|kink\w*|loculat\w+|malposition\w*|"
    r"discontinuity|air-fluid levels?|fractur\w+|shift of the mediastinum)(?: (?:is|are) seen)? "
    r"(?P<cause>of|in|within|to|from)\b(?= (?:the|this|these) (?:(?!(?:or|nor|and)\b)\w+ ){0,4}?(?:mass|nodule|"
    r"consolidation|effusion|pneumothorax|catheter|picc|port|leads?|wires?|tubes?|lines?|plaques?)\b)"
)
# "no consolidation, large effusion, or pneumothorax" is one list, though ", large" may begin a statement elsewhere.
_LIST = re.compile(
    rf"\b(?:no|not|without|negative for|free of|clear of|{MAYBE}|suspicious for|concerning for)\b"
    r"(?:(?!\b(?:but|however|although|is|are|was|has|have|there|except|no|without)\b)[^.;:])*"
    r"(?:\b(?:or|nor|versus|vs)\b|\w/\w)"
    r"|\b(?:differential|possibilities|considerations)\b[^.;:]*"
)


def read_statuses(sentence: str, spans: Sequence[tuple[int, int]]) -> list[str | None]:
    """The status of each finding in a sentence.

    Args:
        sentence: in lower case.
        spans: start and end of each finding in it, in characters.

    Returns:
        For each, PRESENT, ABSENT, UNCERTAIN, or None where it is named without being asserted ("rule out pneumonia").
    """
    language, questions = _negex()
    sentence = _NOT_GONE.sub(_without_cues, sentence)
    sentence = _TIP_UNSEEN.sub(lambda found: " " * len(found[0]), sentence)
    for pattern in (_HINDERED, _PART):
        sentence = pattern.sub(
            lambda found: found[0].removesuffix(cause := found["cause"]) + _CAUSE.ljust(len(cause)), sentence
        )
    sentence = _STATEMENT.sub(_with_boundary, sentence)
    sentence = _IF_THERE.sub(lambda found: "consider".ljust(len(found[0])), sentence)
    asked = [negex for cues, negex in questions if cues.search(sentence)]
    if not asked:
        return [PRESENT] * len(spans)
    doc = language.make_doc(_LIST.sub(lambda found: found[0].replace(",", " "), sentence))
    for token in doc:
        token.is_sent_start = token.i == 0
    doc.spans["findings"] = [doc.char_span(*span, alignment_mode="expand") for span in spans]
    for negex in asked:
        negex(doc)
    statuses = [_status(found._) for found in doc.spans["findings"]]
    return [_excepted(sentence, span, spans, status) for span, status in zip(spans, statuses, strict=True)]


def _with_boundary(found: re.Match) -> str:
    """Marks the end of a statement. A comma ends any statement; "and" ends a denial only, since a doubt covers both
    parts."""
    return _CAUSE.rjust(len(found[0])) if found[0] == " and" else found[0][:-1] + ";"


def _without_cues(found: re.Match) -> str:
    """The words between the cues of a double denial, at their places."""
    return found["said"].rjust(found.end("said") - found.start()).ljust(len(found[0]))


def _excepted(sentence: str, span: tuple[int, int], spans: Sequence[tuple[int, int]], status: str | None) -> str | None:
    """Handles "no effusion except for a trace on the left": an exception without a finding is about the finding before
    it."""
    if status != ABSENT or any(start >= span[1] for start, _ in spans):
        return status
    found = _EXCEPTION.search(sentence, span[1])
    if found is None:
        return status
    return UNCERTAIN if re.search(rf"\b(?:{MAYBE}|perhaps|questionabl[ey])\b", found[0]) else PRESENT


def _status(answers) -> str | None:
    if answers.unasserted:
        return None
    if answers.denied or answers.denied_after:
        return ABSENT
    return UNCERTAIN if answers.doubted or answers.doubted_after else PRESENT


@cache
def _negex() -> tuple:
    """spaCy's English tokenizer, and NegEx once for each question, with the cues that make the question worth
    asking."""
    import spacy
    from negspacy.negation import Negex

    language = spacy.blank("en")

    def ask(name: str, before: list[str], after: list[str], pseudo: list[str], boundaries: list[str]) -> tuple:
        terms = {
            "preceding_negations": before, "following_negations": after, "pseudo_negations": pseudo,
            "termination": boundaries,
        }  # fmt: skip
        cues = re.compile("|".join(re.escape(cue.removesuffix(" .")) for cue in before + after))
        return cues, Negex(language, name, terms, extension_name=name, span_keys=["findings"])

    return language, (
        ask("denied", _DENIED_BEFORE, [], _NOT_DENIALS, _DENIAL_BOUNDARIES),
        ask("denied_after", [], _DENIED_AFTER, _NOT_DENIALS, [*_BOUNDARIES, _CAUSE]),
        ask("doubted", _DOUBTED_BEFORE, [], _NOT_DOUBTS, _DOUBT_BOUNDARIES),
        ask("doubted_after", [], _DOUBTED_AFTER, [*_NOT_DOUBTS, *_DOUBTS_OF_THE_NEXT], _DOUBT_AFTER_BOUNDARIES),
        ask("unasserted", _UNASSERTED_BEFORE, _UNASSERTED_AFTER, _NOT_UNASSERTED, [*_BOUNDARIES, _CAUSE]),
    )
