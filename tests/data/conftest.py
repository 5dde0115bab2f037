import shutil
from pathlib import Path

import pytest
from mimic_tree import make_tree


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A small MIMIC-CXR-JPG tree, not to be changed."""
    return make_tree(tmp_path_factory.mktemp("made") / "mimic", 60)


@pytest.fixture
def tree(made, tmp_path):
    """A test's own copy of it."""
    return Path(shutil.copytree(made, tmp_path / "mimic"))
