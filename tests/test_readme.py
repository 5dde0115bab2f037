"""What the README says is there, is there."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SHIPPED = ROOT / "checkpoints" / "xr2text-iu"


def test_the_front_matter_starts_a_space():
    settings = yaml.safe_load(README.split("---\n")[1])
    assert settings["sdk"] == "gradio" and re.fullmatch(r"6\.\d+\.\d+", settings["sdk_version"])
    assert (ROOT / settings["app_file"]).is_file() and settings["license"] and settings["tags"]


def test_every_link_inside_the_project_leads_somewhere():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_tree_names_what_exists():
    tree = README.split("## The tree")[1].split("```")[1]
    folder, missing = ROOT, []
    for line in tree.strip().splitlines():
        inside = line.startswith("  ")
        first = line.split()[0]
        if not inside:
            folder = ROOT / first if first.endswith("/") else ROOT
        base = folder if inside else ROOT
        names = [first, *(name for name in re.findall(r"[\w*]+\.py", line) if name != first)]
        room = base / first if first.endswith("/") else base
        missing += [name for name in names if not list((base if name == first else room).glob(name.rstrip("/")))]
    assert missing == []


def test_the_documents_are_short():
    assert len(README.encode()) <= 10_000
    assert len((SHIPPED / "README.md").read_bytes()) <= 7_000


@pytest.mark.parametrize("document", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_every_link_of_the_documents_leads_somewhere(document):
    links = re.findall(r"\]\((?!http)([^)#]+)\)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_the_shipped_checkpoint_is_small_and_has_its_card():
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) <= 25e6
    assert not any(file.suffix in (".bin", ".pt", ".pth", ".pkl") for file in SHIPPED.iterdir())
    card = (SHIPPED / "README.md").read_text()
    assert "not a medical device" in card and "296" in card


@pytest.mark.parametrize("mark", ["app", "test"])
def test_each_set_up_is_one_command(mark):
    block = re.search(rf"<!-- {mark} -->\n```bash\n(.*?)```", README, re.DOTALL)
    assert block and len(block[1].strip().splitlines()) == 1
