"""benchmarks.sections finds every section of every layout."""

import pytest

from benchmarks import sections


@pytest.mark.parametrize("layout", sections.LAYOUTS)
def test_sections_are_found_word_for_word(layout):
    assert sections.exact(sections.LAYOUTS[layout], 3) == (3, 3)


def test_the_table_names_every_layout(tmp_path):
    sections.main(["--reports", "1", "--out", str(tmp_path / "sections.md")])
    text = (tmp_path / "sections.md").read_text()
    assert all(f"| {name} | 1 | 1 |" in text for name in sections.LAYOUTS)
