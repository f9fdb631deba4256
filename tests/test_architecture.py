"""The shape of the code base, checked by a machine: imports go down, importing stays light, files stay small."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {
    "steper_agent": {"steper_agent"},
    "graphs": {"graphs", "steper_agent"},
    "training": {"training", "graphs", "steper_agent"},
    "tui": {"tui", "training", "graphs", "steper_agent"},
}
FILES = sorted(path for room in MAY_IMPORT for path in (ROOT / room).rglob("*.py"))
MOST_LINES = 350
DRAWERS = {"utils", "helpers", "common", "misc", "base", "manager"}
HEAVY = {"torch", "vllm", "faiss", "langgraph", "textual", "transformers"}
LIGHT = {
    "tui.cli": HEAVY,
    "tui.index": HEAVY,
    "steper_agent.records": HEAVY | {"langchain_core", "numpy"},
    "steper_agent.config": HEAVY | {"langchain_core", "numpy"},
    "steper_agent.journal": HEAVY | {"langchain_core", "numpy"},
    "steper_agent.prompts": HEAVY,
    "steper_agent.retrieval": HEAVY | {"langchain_core", "numpy"},
    "steper_agent.retrieval.service": HEAVY | {"fastapi"},
    "steper_agent.web.serving": HEAVY | {"fastapi"},
    "graphs": HEAVY,
    "graphs.serving.app": HEAVY | {"fastapi"},
    "training.evaluate": HEAVY,
    "training.scores.metrics": HEAVY,
}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(path: Path) -> set[str]:
    """The rooms a file imports from, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").split(".")[0] if not node.level else path.relative_to(ROOT).parts[0])
    return found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_down(path):
    room = path.relative_to(ROOT).parts[0]
    up = (imported(path) & {*MAY_IMPORT, "tests", "benchmarks"}) - MAY_IMPORT[room]
    assert not up, f"{name_of(path)} imports {sorted(up)}; `{room}` may import only {sorted(MAY_IMPORT[room])}"


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_whoever_embeds_a_room_gets_its_types(room):
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    data = settings["tool"]["setuptools"]["package-data"]
    assert "py.typed" in data.get(room, data["*"])
    assert (ROOT / room / "py.typed").is_file()


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


class Needs(ast.NodeVisitor):
    """The modules of ours that a file imports when it runs, at its top or inside a function; what only types need is left out."""

    def __init__(self, modules: set[str]) -> None:
        self.modules, self.found = modules, set[str]()

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) != "TYPE_CHECKING":
            self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        names = {f"{node.module}.{alias.name}" for alias in node.names}
        self.found |= (names & self.modules) or ({str(node.module)} & self.modules)


def test_no_two_modules_need_each_other():
    modules = {module_of(path): path for path in FILES}
    graph = {}
    for module, path in modules.items():
        needs = Needs(set(modules))
        needs.visit(ast.parse(path.read_text(encoding="utf-8")))
        graph[module] = needs.found - {module}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(f"{' needs '.join(reversed(circle.args[1]))}: move what both need to a third")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_module_says_why_it_exists_and_stays_small(path):
    text = path.read_text(encoding="utf-8")
    is_empty_package = path.name == "__init__.py" and not text.strip()
    assert is_empty_package or ast.get_docstring(ast.parse(text)), f"{name_of(path)} has no docstring"
    assert text.count("\n") <= MOST_LINES, f"{name_of(path)} is longer than {MOST_LINES} lines: split it"
    assert path.stem not in DRAWERS, f"{name_of(path)} is a drawer: name the concept"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_unsafe_is_loaded(path):
    text = path.read_text(encoding="utf-8")
    assert not imported(path) & {"pickle", "dill", "joblib", "cloudpickle"}
    assert "trust_remote_code=True" not in text
    assert "allow_pickle=True" not in text


@pytest.mark.parametrize("module", LIGHT)
def test_importing_is_light(module):
    if not (ROOT / module.split(".")[0]).is_dir() or importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not written yet")
    code = f"import {module}, sys; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = LIGHT[module] & set(out.stdout.split())
    assert not heavy, f"importing {module} loads {sorted(heavy)}: import them inside the functions that need them"


IMPORT_ALL = """
import importlib, sys
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if missing.name.split(".")[0] in ("steper_agent", "graphs", "training", "tui"):
            raise
"""
"""Optional packages may be missing; our own modules may not."""


def test_every_module_imports_and_makes_nothing(tmp_path):
    names = [name_of(path).removesuffix(".py").replace("/", ".") for path in FILES if path.stem != "__main__"]
    command = [sys.executable, "-B", "-c", IMPORT_ALL, str(ROOT), *names]
    out = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr
    assert not out.stdout, "importing prints something"
    assert not list(tmp_path.iterdir()), "importing makes files"
