"""One writer, many readers: what is open stays readable, a second writer waits outside, and files go when nobody needs them."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import threading
from pathlib import Path

import pytest

from steper_agent.errors import IndexFault
from steper_agent.retrieval import add_passages, build_index, delete_passages, index, open_index
from steper_agent.retrieval.generations import link, writing
from tests.steper_agent.retrieval.shelves import PASSAGES, write_lines


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "corpus.jsonl", PASSAGES)


def one(folder: Path, number: int) -> Path:
    return write_lines(folder / f"{number}.jsonl", [{"id": f"n{number}", "title": "", "text": f"picasso {number}"}])


def test_a_reader_keeps_its_generation_through_any_number_of_switches(source: Path) -> None:
    out = source.parent / "index"
    build_index([source], out)
    reader = open_index(out)
    before = reader.search("engine picasso", 4)
    for number in range(4):
        add_passages(out, [one(source.parent, number)])
    delete_passages(out, ["a", "b"])
    build_index([one(source.parent, 9)], out)
    assert reader.search("engine picasso", 4) == before
    assert [reader.find(hit.passage.id) for hit in before] == [hit.passage for hit in before]
    assert [hit.passage.id for hit in open_index(out).search("engine picasso", 4)] == ["n9"]


def test_readers_that_search_and_open_while_generations_come_and_go_see_one_or_the_other(source: Path) -> None:
    out = source.parent / "index"
    build_index([source], out)
    faults: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                reader = open_index(out)
                assert len(reader.search("picasso", 50)) == len(reader) - 3
        except BaseException as bad:
            faults.append(bad)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(6):
            add_passages(out, [one(source.parent, number)])
            if number % 2:
                delete_passages(out, [f"n{number}"])
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert faults == []


def test_an_opening_that_loses_its_files_to_a_switch_opens_the_next_generation(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = source.parent / "index"
    build_index([source], out)
    check = index.stamps.check

    def overtaken(*arguments: object) -> None:
        monkeypatch.setattr(index.stamps, "check", check)
        for number in range(2):
            build_index([one(source.parent, number)], out)
        check(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(index.stamps, "check", overtaken)
    assert [passage.id for passage in open_index(out).shelf] == ["n1"]


def _hold(folder: Path, held: str, done: str) -> None:
    with writing(folder):
        Path(held).touch()
        while not Path(done).exists():
            pass


def test_a_second_writer_is_refused_and_told_who_the_first_is(source: Path, tmp_path: Path) -> None:
    out, held, done = tmp_path / "index", tmp_path / "held", tmp_path / "done"
    build_index([source], out)
    first = multiprocessing.get_context("spawn").Process(target=_hold, args=(out, str(held), str(done)))
    first.start()
    try:
        while not held.exists():
            assert first.is_alive()
        for write in (
            lambda: build_index([source], out),
            lambda: add_passages(out, [one(tmp_path, 1)]),
            lambda: delete_passages(out, ["a"]),
        ):
            with pytest.raises(IndexFault, match=f"another process is writing this index: process {first.pid}"):
                write()
        assert len(open_index(out)) == 4, "readers take no lock"
    finally:
        done.touch()
        first.join()
    assert delete_passages(out, ["a"]).passages == 3


def test_the_generation_before_stays_whole_and_older_ones_go(source: Path) -> None:
    out = source.parent / "index"
    made = [build_index([source], out)]
    for number in range(3):
        made.append(build_index([one(source.parent, number)], out))
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    kept = {name for one in made[-2:] for name in one.files}
    assert {name for name in files if "lock" not in name} == kept | {"manifest.json", ".verified.json"}


def test_an_index_of_the_first_format_gives_way_to_a_new_one(source: Path) -> None:
    out = source.parent / "index"
    (out / "bm25").mkdir(parents=True)
    for name in ("passages.jsonl", "offsets.npy", "order.npy", "bm25/params.index.json", "notes.txt"):
        (out / name).write_text("x", encoding="utf-8")
    (out / "manifest.json").write_text('{"format": 1}', encoding="utf-8")
    with pytest.raises(IndexFault, match="format 1, this program reads format 2"):
        open_index(out)
    build_index([source], out)
    assert len(open_index(out)) == 4
    assert sorted(path.name for path in out.iterdir()) == [
        ".verified.json",
        "0001",
        "lock",
        "manifest.json",
        "notes.txt",
    ]


def test_files_are_linked_or_copied_where_they_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    for name in ("x", "y"):
        (tmp_path / "a" / name).write_text(name, encoding="utf-8")
    link(tmp_path / "a", tmp_path / "b", but=frozenset({"y"}))
    assert [(tmp_path / "b" / name).samefile(tmp_path / "a" / name) for name in ("x", "y")] == [True, False]
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    link(tmp_path / "a", tmp_path / "c", but=frozenset())
    assert (tmp_path / "c" / "x").read_text(encoding="utf-8") == "x"
    assert not (tmp_path / "c" / "x").samefile(tmp_path / "a" / "x")


def test_an_index_is_moved_and_copied_like_any_folder(source: Path) -> None:
    build_index([source], source.parent / "index")
    shutil.copytree(source.parent / "index", source.parent / "copy")
    (source.parent / "index").rename(source.parent / "moved")
    for name in ("copy", "moved"):
        add_passages(source.parent / name, [one(source.parent, 1)])
        assert len(open_index(source.parent / name)) == 5
