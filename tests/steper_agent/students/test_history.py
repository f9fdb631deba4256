"""A registry's history keeps every whole line, through crashes and full disks, and names the line it cannot read."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steper_agent.errors import JournalError
from steper_agent.records import StudentEvent
from steper_agent.students import history as history_module
from steper_agent.students.history import History
from steper_agent.students.locks import FileLock
from tests.steper_agent.students.test_standing import event

texts = st.text(st.characters(exclude_categories=["Cs"]))


def write(history: History, *events: StudentEvent) -> None:
    with history.writing() as log:
        for each in events:
            log.append(each)


@settings(max_examples=20)
@given(st.lists(texts, max_size=3))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, reasons: list[str]) -> None:
    history = History(tmp_path_factory.mktemp("history") / "h.jsonl")
    events = [event("added", reason=reason) for reason in reasons]
    write(history, *events)
    assert history.read() == events


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_cut_anywhere_it_keeps_its_whole_lines_and_goes_on(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    history = History(tmp_path_factory.mktemp("history") / "h.jsonl")
    events = [event("added", reason="Émile — ōn"), event("promoted"), event("rolled_back", None)]
    write(history, *events)
    data = history.path.read_bytes()
    left = data[: cut % (len(data) + 1)]
    history.path.write_bytes(left)
    whole = events[: left.count(b"\n")]
    assert history.read() == whole
    write(history, event("pruned"))
    assert history.read() == [*whole, event("pruned")]


@pytest.mark.parametrize("line", [
    b"{}", b"", b"\xff", b"[1]", event("added").model_dump_json().replace("student@aa", "student@..").encode(),
    event("added").model_dump_json().replace("+00:00", "").replace("Z", "").encode(),
])  # fmt: skip
def test_a_damaged_line_is_named_and_stops_readers_and_writers(tmp_path: Path, line: bytes) -> None:
    history = History(tmp_path / "h.jsonl")
    write(history, event("added"))
    history.path.write_bytes(history.path.read_bytes() + line + b"\n" + history.path.read_bytes())
    for look in (history.read, lambda: write(history, event("promoted"))):
        with pytest.raises(JournalError, match=r"h\.jsonl:2\n  fix:   put the file back"):
            look()


@pytest.mark.parametrize("room", [0, 7])
def test_a_full_disk_leaves_the_history_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    history = History(tmp_path / "h.jsonl")
    write(history, event("added"))
    left, real = [room], os.write

    def scarce(file: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written, left[0] = real(file, data[: left[0]]), 0
        return written

    with monkeypatch.context() as patch:
        patch.setattr(history_module.os, "write", scarce)
        with pytest.raises(JournalError, match="No space left on device.*nothing has changed"):
            write(history, event("promoted"))
    assert history.path.read_bytes().endswith(b"\n")
    write(history, event("pruned"))
    assert history.read() == [event("added"), event("pruned")]


def test_a_number_that_is_none_never_reaches_the_file() -> None:
    with pytest.raises(ValueError, match="finite"):
        event("added", scores={"em": float("nan")})


def test_a_lock_is_shared_or_one_s_own_between_threads_too(tmp_path: Path) -> None:
    file = tmp_path / "x.lock"
    with FileLock(file, shared=True), FileLock(file, shared=True), pytest.raises(JournalError, match="holds the lock"):
        FileLock(file, patience=0)
    got = threading.Event()
    with FileLock(file):
        waiting = threading.Thread(target=lambda: FileLock(file).release() or got.set())
        waiting.start()
        assert not got.wait(0.05)
    waiting.join(60)
    assert got.is_set()
