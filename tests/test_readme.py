"""The README is run: its Python goes through as it stands, and its commands know every flag it gives them."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from steper_agent.retrieval import build_index
from tests.tiny import tiny_adapter, tiny_base

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line.split("   #")[0] for block in re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
            for line in block.splitlines() if line.startswith(("python -m", "steper"))]


def test_embedding_and_swap_run_as_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    base = tiny_base(Path("my-model"), window=4096)
    tiny_adapter(base, Path("my-student"))
    Path("corpus.jsonl").write_text(json.dumps({"id": "a", "title": "X", "text": "X was directed by Y."}) + "\n")
    build_index([Path("corpus.jsonl")], Path("my-index"))
    exec("".join(PYTHON), {})
    assert "→ student@" in capsys.readouterr().out


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) >= 6
    assert len(PYTHON) == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_is_known(command: str) -> None:
    words = shlex.split(command)
    flags = {word for word in words if word.startswith("--")}
    start = ["-m", "tui"] if words[0] == "steper" else words[1:3]
    verbs = [] if words[0] != "steper" else words[1 : 3 if words[1] in ("index", "students") else 2]
    shown = subprocess.run([sys.executable, *start, *verbs, "--help"], capture_output=True, text=True, check=True).stdout
    assert flags <= set(re.findall(r"--[a-z-]+", shown))
