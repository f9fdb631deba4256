"""`steper doctor`: every part is ready, missing with the command that brings it, or broken with the reason."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from rich.text import Text

from tui import doctor
from tui.cli import main
from tui.doctor import EXTRAS, PARTS, Finding, examine


def state(found: Finding) -> str:
    """As it stands on the screen."""
    return Text.from_markup(doctor._state(found)).plain


def broken(folder: Path, name: str, code: str, monkeypatch: pytest.MonkeyPatch) -> Finding:
    """What is found of an installed distribution whose module runs this code."""
    (folder / f"{name}.py").write_text(code, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return examine("rich", name, "train", "colours")


def test_what_is_installed_and_loads_is_ready() -> None:
    found = examine("rich", "rich", "core", "colours")
    assert found == Finding("rich", version("rich"), "core", "colours", "")
    assert state(found) == "ready"


@pytest.mark.parametrize("extra", EXTRAS)
def test_what_is_missing_comes_with_the_command_that_brings_it(extra: str) -> None:
    found = examine("no-such-distribution", "no_such_module", extra, "nothing")
    assert found == Finding("no-such-distribution", "", extra, "nothing", "")
    wanted = "" if extra == "core" else f"[{extra}]"
    assert state(found) == f"missing: pip install 'steper-agent{wanted}'"


def test_all_that_reads_documents_is_looked_at() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {one.partition(">")[0] for one in project["optional-dependencies"]["documents"]}
    assert {part[0] for part in PARTS if part[2] == "documents"} == wanted


def test_what_does_not_import_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "print('loading')\nraise ImportError('[/red] wants lib[gpu] \\x1b[31m')"
    found = broken(tmp_path, "brk", code, monkeypatch)
    assert found.version == version("rich")
    assert state(found) == "does not load: ImportError: [/red] wants lib[gpu] "


def test_what_dies_silently_says_with_which_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert broken(tmp_path, "dead", "import os\nos._exit(7)", monkeypatch).fault == "exit code 7"


def test_here_the_core_is_ready_and_every_part_has_its_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    # Importing torch and its kin once more each takes minutes on a busy machine and decides nothing here.
    parts = [part if part[2] == "core" else (part[0], "rich", *part[2:]) for part in PARTS]
    monkeypatch.setattr(doctor, "PARTS", parts)
    monkeypatch.setattr(doctor, "_accelerator", lambda: "no GPU")
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "Python 3." in shown
    for distribution, _, extra, purpose in PARTS:
        line = next(line for line in shown.splitlines() if f" {distribution} " in line)
        assert purpose in line
        assert "ready" in line if extra == "core" else "ready" in line or f"[{extra}]" in line


@pytest.mark.parametrize("part", [("no-such-distribution", "x", "core", "x"), ("rich", "no_such_module", "core", "x")])
def test_a_core_that_is_not_ready_is_exit_code_one(
    part: tuple[str, str, str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "PARTS", (part,))
    monkeypatch.setattr(doctor, "_accelerator", lambda: "no GPU")
    assert main(["doctor"]) == 1
    assert "ready" not in capsys.readouterr().out


def test_the_lack_of_an_extra_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PARTS", (("no-such-distribution", "x", "vllm", "x"),))
    monkeypatch.setattr(doctor, "_accelerator", lambda: "no GPU")
    assert main(["doctor"]) == 0
