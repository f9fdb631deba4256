"""`steper index`: what it prints, and what it refuses to print."""

from __future__ import annotations

import argparse
import os
import threading
from pathlib import Path

import pytest
from langchain_core.embeddings import Embeddings

from steper_agent.errors import ConfigError, DataError, StepERError
from steper_agent.retrieval import encoders
from tests.steper_agent.retrieval.shelves import PASSAGES, HashEncoder, write_lines
from tui.cli import main
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
        "id": "x[/]:cat:",
        "title": "\x1b[31mred :fire: [bold]title[/bold]\\",
        "text": "picasso :tada: \x1b]0;x\x07[link=http://e]y[/link]",
    }
    source, out = write_lines(tmp_path / ":dog:.jsonl", [nasty]), str(tmp_path / ":cow:")
    run("index", "build", str(source), "--out", out)
    run("index", "search", out, "picasso")
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "red :fire: [bold]title[/bold]\\" in shown
    assert "x[/]:cat:" in shown
    assert "picasso :tada: [link=http://e]y[/link]" in shown
    assert ":cow:" in shown
    run("index", "stats", out)
    assert ":dog:.jsonl" in capsys.readouterr().out


def test_a_missing_source_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        run("index", "build", str(tmp_path / "nothing"), "--out", str(tmp_path / "index"))


def test_records_without_text_are_told_as_such_and_not_as_an_empty_corpus(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "corpus.jsonl", [{"id": "1", "title": "Emma", "content": "A novel."}])
    for verb in ("plan", "build"):
        with pytest.raises(DataError, match="a passage has no text: it has id, title, content") as bad:
            run("index", verb, str(source), "--out", str(tmp_path / "index"))
        assert str(bad.value.where) == f"{source}:1"


def test_a_pipe_is_read_once_and_indexed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    # A second reader would wait for ever.
    writer = threading.Thread(target=write_lines, args=(pipe, PASSAGES), daemon=True)
    writer.start()
    assert run("index", "build", str(pipe), "--out", str(tmp_path / "index")) == 0
    writer.join()
    assert "4 passages" in capsys.readouterr().out


def test_an_index_grows_and_shrinks_and_is_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write_lines(tmp_path / "corpus.jsonl", PASSAGES), str(tmp_path / "index")
    more = write_lines(tmp_path / "more.jsonl", [{"id": "e", "title": "", "text": "Guernica"}, {"text": "no id"}])
    run(
        "index",
        "build",
        str(source),
        "--out",
        out,
        "--language",
        "spanish",
        "--stop-words",
        "none",
        "--title-weight",
        "0",
    )
    with pytest.raises(DataError, match="no id"):
        run("index", "add", out, str(more))
    capsys.readouterr()
    assert run("index", "add", out, str(more), "--on-bad", "skip") == 0
    told = capsys.readouterr().out
    assert "5 passages" in told
    assert "no id here" in told
    (tmp_path / "ids.txt").write_text("a\nb\n", encoding="utf-8")
    assert run("index", "delete", out, "c", "x", "--ids", str(tmp_path / "ids.txt"), "--missing", "ignore") == 0
    assert "2 passages" in capsys.readouterr().out
    assert run("index", "stats", out) == 0
    told = capsys.readouterr().out
    assert "2, 3 deleted" in told
    assert "language spanish, 0 stop words, title weight 0" in told
    assert run("index", "verify", out) == 0
    assert "all as written" in capsys.readouterr().out
    (tmp_path / "index/0003/gone.npy").write_bytes(b"")
    assert run("index", "verify", out) == 2
    assert "gone.npy" in capsys.readouterr().out


def test_a_passage_is_deleted_by_its_id_as_it_is_typed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    passages = [*PASSAGES, {"id": "caf\u00e9", "title": "", "text": "x"}]
    source, out = write_lines(tmp_path / "corpus.jsonl", passages), str(tmp_path / "index")
    run("index", "build", str(source), "--out", out)
    with pytest.raises(DataError, match="no passage with the id"):
        run("index", "delete", out, "caf\udce9")
    assert run("index", "delete", out, "cafe\u0301") == 0
    assert "4 passages" in capsys.readouterr().out.splitlines()[-1]


def test_a_plan_tells_what_it_takes_and_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_lines(tmp_path / "corpus.jsonl", PASSAGES)
    assert run("index", "plan", str(source), "--mode", "hybrid", "--dimension", "384") == 0
    told = capsys.readouterr().out
    assert "flat" in told
    assert "free)" in told
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.jsonl"]


def test_a_plan_of_vectors_asks_for_what_makes_them(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "corpus.jsonl", PASSAGES)
    with pytest.raises(ConfigError, match="give --encoder or --dimension"):
        run("index", "plan", str(source), "--mode", "hybrid")


def test_what_a_provider_raises_is_told_in_three_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = {"passages", "queries"}

    class Provided(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return self._asked("passages").embed_documents(texts)

        def embed_query(self, text: str) -> list[float]:
            return self._asked("queries").embed_query(text)

        def _asked(self, what: str) -> Embeddings:
            if what in failing:
                raise LookupError("asked \x1b[31mtoo much")
            return HashEncoder()

    monkeypatch.setattr(encoders, "_provided", lambda *_: Provided())
    source, out = write_lines(tmp_path / "corpus.jsonl", PASSAGES), str(tmp_path / "index")
    build = ["index", "build", str(source), "--out", out, "--mode", "dense", "--encoder", "openai:small"]
    told = "ModelError: the {} failed: LookupError: asked too much\n  where: {}\n  fix:   check the encoder's name, its key and its address\n"
    assert main(build) == 2
    assert capsys.readouterr().err == told.format("encoder", "openai:small")
    failing.remove("passages")
    assert main(build) == 0
    assert main(["index", "search", out, "picasso"]) == 2
    assert capsys.readouterr().err == told.format("search", out)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--language", "klingon"], "--language"),
        (["--title-weight", "-1"], "--title-weight"),
        (["--overlap", "1000"], "overlap"),
        (["--stop-words", "/nowhere"], "--stop-words"),
        (["--mode", "dense"], "needs an encoder"),
    ],
)
def test_settings_that_make_no_sense_are_refused(flags: list[str], message: str, tmp_path: Path) -> None:
    source = write_lines(tmp_path / "corpus.jsonl", PASSAGES)
    with pytest.raises(StepERError, match=message):
        run("index", "build", str(source), "--out", str(tmp_path / "index"), *flags)
    assert not (tmp_path / "index").exists()
