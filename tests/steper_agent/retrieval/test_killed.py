"""Writers killed with -9 at any moment: readers notice nothing, and the same command goes on or begins again, to the same end."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from steper_agent.retrieval import (
    IndexRetriever,
    add_passages,
    build_index,
    building,
    delete_passages,
    generations,
    growing,
    manifest,
    open_index,
    stamps,
    verify_index,
)
from tests.steper_agent.retrieval.shelves import PASSAGES, HashEncoder, write_lines

FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload([__name__])
MANY = [
    {"id": f"m{n:04}", "title": f"Number {n}", "text": f"word{n % 37} and word{n % 11} of the sea {n}"}
    for n in range(1500)
]
QUERIES = ["word3 sea", "analytical engine", "word5 word7", "picasso"]


def run(verb: str, out: Path, sources: list[Path], mode: Any, broken: tuple[str, str] | None) -> None:
    """A writer that checkpoints often, takes its time, and dies where it is told to."""
    growing.CHECKPOINT, growing.TOLD = 0.0, 50
    encoder = HashEncoder() if mode != "bm25" else None
    if broken:
        module = {
            "growing": growing,
            "generations": generations,
            "manifest": manifest,
            "stamps": stamps,
            "building": building,
        }[broken[0]]
        setattr(module, broken[1], lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
    if verb == "build":
        build_index(sources, out, mode=mode, encoder=encoder, progress=lambda *_: time.sleep(0.01))
    elif verb == "add":
        add_passages(out, sources, encoder=encoder, replace=True, progress=lambda *_: time.sleep(0.01))
    else:
        delete_passages(out, ["a", "m0003"], missing="ignore")


def killed(*arguments: Any, after: float | None = None) -> bool:
    """Whether the writer died of SIGKILL: after so many seconds, or by its own hand."""
    writer = FORK.Process(target=run, args=arguments)
    writer.start()
    writer.join(after)
    writer.kill()
    writer.join()
    assert writer.exitcode in (0, -signal.SIGKILL), "it failed otherwise"
    return writer.exitcode != 0


def answers(index: IndexRetriever) -> Any:
    return len(index), index.digest, index.search_many(QUERIES, 20), [index.find(one["id"]) for one in PASSAGES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    write_lines(folder / "few.jsonl", PASSAGES)
    write_lines(folder / "many.jsonl", MANY)
    write_lines(folder / "again.jsonl", [{**PASSAGES[3], "text": "Rewritten."}, *MANY[:700]])
    build_index([folder / "few.jsonl"], folder / "few")
    build_index([folder / "many.jsonl", folder / "few.jsonl"], folder / "whole")
    return folder


@pytest.mark.parametrize("verb", ["build", "add"])
def test_a_writer_killed_again_and_again_comes_to_the_same_end(verb: str, folder: Path, tmp_path: Path) -> None:
    out, chance = tmp_path / "index", random.Random(verb)
    build_index([folder / "few.jsonl"], out)
    before = answers(open_index(out))
    sources = [folder / "many.jsonl"] if verb == "add" else [folder / "many.jsonl", folder / "few.jsonl"]
    kept: list[int] = []
    kills = 0
    while killed(verb, out, sources, "bm25", None, after=0.05 + 0.5 * chance.random() if kills < 10 else None):
        kills += 1
        if open_index(out).manifest.generation == 2:
            break  # Killed between its last act and its end.
        assert answers(open_index(out)) == before
        if (out / ".building").exists():
            kept.append(growing.committed(out / ".building" / "lexical", 4 if verb == "add" else 0))
    assert kills
    assert kept == sorted(kept), "no run lost what an earlier one had checkpointed"
    assert answers(open_index(out)) == answers(open_index(folder / "whole"))
    assert verify_index(out) == []


STEPS = [
    ("growing", "ShelfWriter"),
    ("growing", "LexicalWriter"),
    ("growing", "write_ids"),
    ("growing", "write_gone"),
    ("growing", "tidy"),
    ("growing", "write_shards"),
    ("growing", "absorb"),
    ("growing", "finish"),
    ("generations", "_sync"),
    ("generations", "sync_folder"),
    ("manifest", "write"),
    ("generations", "_sweep"),
    ("stamps", "stamp"),
]


@pytest.mark.parametrize("step", STEPS, ids=".".join)
def test_a_switch_killed_at_any_step_is_made_good_by_the_same_command(
    step: tuple[str, str], folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "index"
    build_index([folder / "few.jsonl"], out, mode="hybrid", encoder=HashEncoder())
    before = answers(open_index(out, HashEncoder()))
    assert killed("add", out, [folder / "again.jsonl"], "hybrid", step)
    switched = step[1] in ("_sweep", "stamp")
    assert (answers(open_index(out, HashEncoder())) == before) is not switched
    assert not killed("add", out, [folder / "again.jsonl"], "hybrid", None)
    index = open_index(out, HashEncoder())
    assert (len(index), index.manifest.rows) == (704, 705)
    assert index.search("rewritten", 1)[0].passage == index.find("d")
    assert verify_index(out) == []
    assert not (out / ".building").exists()


@pytest.mark.parametrize(
    "step",
    [("building", "LexicalWriter"), ("building", "write_gone"), ("building", "tidy"), ("building", "finish")],
    ids=lambda one: one[1],
)
def test_a_deletion_killed_at_any_step_is_made_good(step: tuple[str, str], folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    build_index([folder / "few.jsonl"], out)
    assert killed("delete", out, [], "bm25", step)
    assert len(open_index(out)) == 4
    assert not killed("delete", out, [], "bm25", None)
    assert open_index(out).find("a") is None
    assert verify_index(out) == []


def test_a_first_build_killed_before_its_switch_is_gone_on_with_however_often(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    for _ in range(3):
        assert killed("build", out, [folder / "few.jsonl"], "bm25", ("manifest", "write"))
        assert [path.name for path in out.glob("0*")] == ["0001"]
    # As a release left it that began anew each time.
    shutil.copytree(out / "0001", out / "0002")
    assert not killed("build", out, [folder / "few.jsonl"], "bm25", None)
    assert answers(open_index(out)) == answers(open_index(folder / "few"))
    assert not (out / "0002").exists()


def test_sources_that_changed_meanwhile_are_read_afresh(tmp_path: Path) -> None:
    out, source, told = tmp_path / "index", tmp_path / "corpus.jsonl", []
    write_lines(source, MANY)
    assert killed("build", out, [source], "bm25", ("growing", "write_ids"))
    write_lines(source, [{**MANY[0], "text": "Another beginning."}, *MANY[1:900]])
    made = build_index([source], out, progress=lambda stage, *_: told.append(stage))
    assert "changed" in told
    assert made.passages == 900
    assert open_index(out, corpus=source).search("beginning", 1)[0].passage.id == "m0000"


def test_another_request_does_not_go_on_with_what_was_left(folder: Path, tmp_path: Path) -> None:
    out, told = tmp_path / "index", []
    assert killed("build", out, [folder / "many.jsonl"], "bm25", ("growing", "write_ids"))
    assert (out / ".building").is_dir()
    build_index([folder / "few.jsonl"], out, progress=lambda stage, *_: told.append(stage))
    assert answers(open_index(out)) == answers(open_index(folder / "few"))
    assert "changed" not in told
