import argparse

import pytest

from xr2text.cli import data


@pytest.mark.parametrize("command", ["check", "prepare"])
def test_every_set_holds(command):
    parser = argparse.ArgumentParser()
    data.add_arguments(parser)
    args = parser.parse_args([command, "r2gen", "--set", "a=1", "b=2", "--set", "c=3"])
    assert args.set == ["a=1", "b=2", "c=3"]
