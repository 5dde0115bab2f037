from xr2text.text.words import report_words, strange_pairs, strange_words

REPORTS = ["The heart is normal. Clear lungs.", "The heart is large; 2 nodules.", "CLEAR LUNGS, large heart. Smith."]


def test_words_of_two_texts_are_known_and_what_follows_them():
    assert report_words(REPORTS) == {
        ".": {"the", "clear"}, "the": {"heart"}, "heart": {"is", "."}, "is": {"large"}, "large": {"heart"},
        "clear": {"lungs"}, "lungs": {"."},
    }  # fmt: skip


def test_what_the_reports_do_not_have_is_found():
    known = report_words(REPORTS)
    assert strange_words("The heart is 3 clear-cut Smith.", known) == ["cut", "smith"]
    assert strange_pairs("The heart is large heart is clear lungs. Is smith.", known) == [("is", "clear"), (".", "is")]
    assert strange_words("", known) == strange_pairs("", known) == []
