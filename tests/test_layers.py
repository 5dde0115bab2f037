"""The order of the rooms: imports point one way, heavy libraries stay in their own, and nothing is long."""

import ast
from collections.abc import Iterable
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RANK = {
    "anatomy": 0, "errors": 0, "files": 0, "parallel": 0, "config": 0, "imaging": 1, "phantom": 1, "text": 1, "data": 2,
    "model": 2, "inference": 3, "evaluation": 4, "export": 4, "training": 5, "ui": 5, "worker": 5,
    "cli": 6, "__main__": 6,
}  # fmt: skip
SOURCES = [*ROOT.glob("xr2text/**/*.py"), ROOT / "app.py", ROOT / "train.py"]


def imported_modules(path: Path) -> set[str]:
    return imported_by(ast.walk(ast.parse(path.read_text())))


def imported_by(nodes: Iterable[ast.AST]) -> set[str]:
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
    return names


def room(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "xr2text" and len(parts) > 1 and parts[1] in RANK else None


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    own = room(".".join(path.relative_to(ROOT).with_suffix("").parts))
    rank = RANK.get(own, 6)
    for module in imported_modules(path):
        other = room(module)
        assert other is None or other == own or RANK[other] <= rank, f"{path.name} imports {module}"


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("gradio", ("app.py", "xr2text/ui")),
        ("httpx", ("xr2text/worker",)),
        ("accelerate", ("train.py", "xr2text/training", "xr2text/inference", "xr2text/evaluation", "xr2text/cli")),
    ],
)
def test_heavy_libraries_stay_in_their_rooms(library, allowed):
    users = {
        str(path.relative_to(ROOT))
        for path in SOURCES
        if any(name.split(".")[0] == library for name in imported_modules(path))
    }
    assert users, f"nobody imports {library}"
    assert all(user.startswith(allowed) for user in users)


def test_no_module_imports_itself_by_way_of_others():
    """At import time: what a function imports when it is called does not count."""
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in SOURCES
    }
    graph = {}
    for name, path in modules.items():
        statements = [
            node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        found = imported_by(statements)
        graph[name] = {module for module in found if module in modules and module != name}
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_and_no_function_is_long(path):
    text = path.read_text()
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert text.count("\n") <= 400
    assert not [node.name for node in functions if node.end_lineno - node.lineno >= 60]
