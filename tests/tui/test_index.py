"""`steper index`: what it prints, and what it refuses to print."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from steper_agent.errors import DataError
from tests.steper_agent.retrieval.shelves import PASSAGES, write_lines
from tui.index import add_arguments


def run(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser.add_subparsers(required=True))
    args = parser.parse_args(argv)
    return int(args.run(args))


def test_build_stats_and_search_tell_what_they_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write_lines(tmp_path / "corpus.jsonl", PASSAGES), str(tmp_path / "index")
    assert run("index", "build", str(source), "--out", out) == 0
    assert "4 passages, bm25," in capsys.readouterr().out
    assert run("index", "stats", out) == 0
    assert "corpus.jsonl" in capsys.readouterr().out
    assert run("index", "search", out, "picasso", "-k", "1") == 0
    assert "Málaga" in capsys.readouterr().out
    assert run("index", "search", out, "zzz") == 0
    assert "no passage" in capsys.readouterr().out


def test_passages_reach_the_screen_without_escapes_or_markup(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nasty = {
        "id": "x[/]",
        "title": "\x1b[31mred [bold]title[/bold]\\",
        "text": "picasso \x1b]0;x\x07[link=http://e]y[/link]",
    }
    source, out = write_lines(tmp_path / "corpus.jsonl", [nasty]), str(tmp_path / "index")
    run("index", "build", str(source), "--out", out)
    run("index", "search", out, "picasso")
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "red [bold]title[/bold]\\" in shown
    assert "[link=http://e]y[/link]" in shown


def test_a_missing_source_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        run("index", "build", str(tmp_path / "nothing"), "--out", str(tmp_path / "index"))
