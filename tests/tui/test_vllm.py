"""`steper vllm`: what it refuses before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from tui.cli import main


def test_a_folder_that_is_no_model_is_told_before_anything_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vllm", str(tmp_path / "missing")]) == 2
    assert "no such model folder" in capsys.readouterr().err
