import os
import time

import pytest

from xr2text.files import ABANDONED, atomic_write, remove_drafts


def test_a_file_is_whole_or_not_there(tmp_path):
    with pytest.raises(RuntimeError), atomic_write(tmp_path / "a" / "b") as draft:
        draft.write_text("half")
        raise RuntimeError
    assert list((tmp_path / "a").iterdir()) == []
    with atomic_write(tmp_path / "a" / "b") as draft:
        draft.write_text("whole")
        assert not (tmp_path / "a" / "b").exists()
    assert (tmp_path / "a" / "b").read_text() == "whole"
    young, old = tmp_path / "a" / ".x.host.1.draft", tmp_path / "a" / ".y.host.1.draft"
    for path in (young, old):
        path.touch()
    os.utime(old, (time.time() - ABANDONED - 1,) * 2)
    remove_drafts(tmp_path)
    assert young.exists() and not old.exists()
