import pytest
import torch

from xr2text.__main__ import main
from xr2text.model.xr2text import XR2Text


@pytest.fixture(scope="module")
def folders(make_tiny, tmp_path_factory):
    """Two checkpoints whose weights differ by 1 everywhere, and one of another model."""
    root, model = tmp_path_factory.mktemp("average"), make_tiny()
    model.save_pretrained(root / "one")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
    model.save_pretrained(root / "two")
    make_tiny(findings={"cardiomegaly": ["heart"]}).save_pretrained(root / "other")
    return root


def test_the_weights_are_the_mean_and_all_else_is_the_firsts(folders, tmp_path):
    assert main(["average", str(folders / "two"), str(folders / "one"), "--out", str(tmp_path / "mean")]) == 0
    one, mean = (XR2Text.from_pretrained(folder) for folder in (folders / "one", tmp_path / "mean"))
    for value, expected in zip(mean.parameters(), one.parameters(), strict=True):
        torch.testing.assert_close(value, expected + 0.5, rtol=1e-3, atol=1e-3)  # kept in float16
    assert mean.config == one.config and mean.generation == one.generation


@pytest.mark.parametrize(
    ("names", "out", "words"),
    [
        (["one"], "new", "at least 2"),
        (["one", "other"], "new", "of another model than"),
        (["one", "missing"], "new", "no checkpoint folder"),
        (["one", "two"], "", "is there already"),
    ],
)
def test_what_cannot_be_averaged_is_told(folders, tmp_path, capsys, names, out, words):
    assert main(["average", *(str(folders / name) for name in names), "--out", str(tmp_path / out)]) == 2
    assert words in capsys.readouterr().err and not list(tmp_path.iterdir())
