"""Normalises report text from web pages, word processors and tables to plain text."""

import html
import re
import unicodedata

_SAME = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′´`ʼʹ", "'"),
        **dict.fromkeys("“”„‟″«»", '"'),
        **dict.fromkeys("‐‑‒–−", "-"),
        **dict.fromkeys("—―", " - "),
        **dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060\ufeff", ""),  # soft hyphens and marks without width
        **dict.fromkeys("\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029", "\n"),
        "¿": "?",
        "…": ". ",
        "\t": " ",
    }
)
_ESCAPED_BREAK = re.compile(r"\\[rn]|_x000[dD]_")  # line breaks as some tables write them
_PARAGRAPH_TAG = re.compile(r"\s*</?(?:br|p|div|li|ul|ol|tr|h\d)\b[^<>]*>\s*", re.IGNORECASE)
_TAG = re.compile(  # of HTML; words in angle brackets that are no tags stay
    r"</?(?:[bisu]|em|strong|span|font|su[bp]|small|big|a(?= href)|(?<=/)a|table|t(?:body|head|d|h)|html|body|pre|code)"
    r"(?: [\w-]+=[^<>]*)?\s*/?>",
    re.IGNORECASE,
)
_BULLET = re.compile("(?:^|(?<=\\s))(?:[•‣⁃◦∙·▪▫■□●○►▸➢➤❖✓\uf0a7\uf0b7]\\s*|\\*+\\s)", re.MULTILINE)
_ROMAN = ("i", "ii", "iii", "iv", "v", "vi")
_ITEM = re.compile(
    rf"(?:^|(?<=[\s:;,.]))[(#\[]?(?:(\d{{1,2}})(?:[.):\]]| -(?=\s))|([a-h])[)\]]|({'|'.join(_ROMAN)})[)\]]|#(\d)(?=\s))"
    r"(?:\s+(?=\S)|(?=[A-Za-z?]))",
    re.MULTILINE,
)


def plain_text(text: str) -> str:
    """Unifies apostrophes, dashes and line breaks, removes ligatures and markup, and makes each item of a list a
    paragraph."""
    text = html.unescape(text.replace("\r\n", "\n"))
    text = _TAG.sub("", _PARAGRAPH_TAG.sub("\n\n", _ESCAPED_BREAK.sub("\n", text)))
    text = unicodedata.normalize("NFKC", text.translate(_SAME)).translate(_SAME)
    return _part_items(_BULLET.sub("\n\n", text))


def _part_items(text: str) -> str:
    """Starts a paragraph at each item of a list, such as "1) ... 2) ...", in place of its mark. A single number or
    letter is a word."""
    marks = list(_ITEM.finditer(text))
    places = [_place(*mark.groups()) for mark in marks]
    listed, expected = [], None
    for index, place in enumerate(places):
        if place == expected or (place == 1 and 2 in places[index + 1 : index + 2]):
            listed.append(marks[index])
            expected = place + 1
    for mark in reversed(listed):
        text = f"{text[: mark.start()].rstrip()}\n\n{text[mark.end() :]}"
    return text


def _place(number: str | None, letter: str | None, roman: str | None, after_sharp: str | None) -> int:
    """The number of a list's mark, from 1."""
    if letter:
        return ord(letter) - ord("a") + 1
    return _ROMAN.index(roman) + 1 if roman else int(number or after_sharp)


_CONTRACTIONS = (
    (re.compile(r"\b(?:can ?'t|cant|can not)\b"), "cannot"),
    (re.compile(r"\bwon'?t\b"), "will not"),
    (re.compile(r"(?<=[a-z])n't\b"), " not"),
    (re.compile(r"\b(is|are|was|were|do|does|did|has|have|had|could|would|should)nt\b"), r"\1 not"),
    (re.compile(r"\b(there|it|that)'?s\b(?= (?:an?|no|not|some|the|new|now)\b)"), r"\1 is"),
    (re.compile(r"\b(?:do|does|did) not (?:think|believe|feel|suspect)(?: that)? there (?:is|are|was|were)\b"), "no"),
)
_QUESTION_BEFORE = re.compile(r"(?:^|(?<=[\s(,;:/\[-]))\?+\s*(?=\w)", re.MULTILINE)
_QUESTION_AFTER = re.compile(r"(?<=[\w)\]])\s*[:-]?\s*(?:\(\?+\)|\?+)(?!\w)")
_DASH = re.compile(r"(?<=[^\d\s])\s+(?:-{1,3}|\|)\s+(?=\S)|^-{1,3}\s+")
_ANSWER = re.compile(
    r"(?:\s+(?:-{1,3}|\||=)\s+|-(?=none|nil))(?=(?:none|nil|no|no evidence|yes|absent|negative|normal|clear|intact|"
    r"unremarkable|present|possible|probable|likely|unlikely|suspected|resolved|questionable|not \w+|"
    r"cannot be \w+(?: \w+)?|(?:\w+ly )?(?:enlarged|dilated|prominent|widened|tortuous|elevated|borderline|"
    r"hyperinflated|flattened|low))(?: seen| identified| detected| noted| present)?\s*(?:[.,;]|$))"
)
_IN_BRACKETS = re.compile(r"\s*\((none|nil|no|absent|negative)\)")
# A comma behind an answer, and one before the next question: "effusion: none, heart: enlarged".
_NEXT = re.compile(r"(: (?:none|nil|no|negative|absent|clear|normal)),|,(?=\s+(?:\w+ ){0,3}\w+\s*: )")
_HARDLY = re.compile(
    r"\b(?:(?:little|minimal|trace|tiny|small|mild)(?: to| or|/) no|no (?:or|to) (?:minimal|trace|tiny|small|mild)|"
    r"(?:no more than|at most)(?: a)?(?= (?:minimal|trace|tiny|small|mild)))\b"
)
# "Cannot confidently be excluded", "hard to exclude": both mean that it cannot be excluded.
_NOT_SURELY = (
    (re.compile(r"\b(cannot|not|to)( be)? (?:\w+ly|with certainty)( be)? (excluded?|ruled? out)\b"), r"\1\2\3 \4"),
    (re.compile(r"\b(?:hard|impossible|not possible) to (?=exclude|rule out)"), "difficult to "),
    (re.compile(r"\bdifficult to rule out\b"), "difficult to exclude"),
)
_IF_ANY = re.compile(r",?\s+if (?:any|present|at all)\b,?")


def join_questions(text: str) -> str:
    """Joins a question mark to the word after it, "? pneumonia", so that it does not end the sentence."""
    return _QUESTION_BEFORE.sub("?", text)


def plain_sentence(sentence: str) -> str:
    """A sentence in lower case without contractions. Marks of doubt become words; marks that begin another statement
    become ";"."""
    text = sentence.lower()
    for pattern, words in (*_CONTRACTIONS, *_NOT_SURELY):
        text = pattern.sub(words, text)
    text = _QUESTION_AFTER.sub(" is questioned", _QUESTION_BEFORE.sub("possible ", text))
    text = _IF_ANY.sub(" if any", _HARDLY.sub("possible", text))
    text = _IN_BRACKETS.sub(r": \1", text)
    return _NEXT.sub(r"\1;", _DASH.sub("; ", _ANSWER.sub(": ", text)))
