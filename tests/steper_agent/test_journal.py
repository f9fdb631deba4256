"""The journal keeps every whole line through crashes, refuses a second writer, and gives trajectories back."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steper_agent import journal as journal_module
from steper_agent.errors import JournalError
from steper_agent.journal import Journal, assemble, read, trajectories
from steper_agent.records import Finished, Hit, Node, NodeRecord, Outcome, Passage, Question

HIT = Hit(passage=Passage(id="p1", title="Emma", text="Émile wrote\u2028it\r\n."), score=1.5)


def node(run: str = "r1", name: Node = "reason", step: int = 1, *, output: str = "line", outcome: Outcome = "ok",
         hits: tuple[Hit, ...] = (), key: str = "") -> NodeRecord:  # fmt: skip
    return NodeRecord(run=run, question_id=run, node=name, step=step, key=key or f"{name}{step}", input="in",
                      output=output, hits=hits, seconds=0.5, outcome=outcome)


def end(run: str = "r1", answer: str = "Austen") -> Finished:
    return Finished(run=run, question=Question(id=run, text="Who?"), strategy="ircot", answer=answer, stop="answered",
                    model="m", recipe="x", seconds=1.0)


def a_step(run: str, number: int, output: str = "line") -> list[NodeRecord]:
    return [node(run, "form_query", number, output=f"query {number}"), node(run, "retrieve", number, hits=(HIT,)),
            node(run, "reason", number, output=output)]


def write(path: Path, *records: NodeRecord | Finished) -> None:
    with Journal(path) as journal:
        for record in records:
            journal.append(record)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=6))
def test_what_is_written_is_read(tmp_path_factory, outputs):
    path = tmp_path_factory.mktemp("journal") / "j.jsonl"
    records = [node(output=text, step=number + 1, hits=(HIT,)) for number, text in enumerate(outputs)]
    write(path, *records, end())
    assert list(read(path)) == [*records, end()]


@given(st.integers(1, 10_000))
def test_a_journal_cut_anywhere_keeps_its_whole_lines_and_goes_on(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("journal") / "j.jsonl"
    records = [node(output="Émile — ōn", step=number) for number in range(1, 5)]
    write(path, *records)
    data = path.read_bytes()
    left = data[: cut % (len(data) + 1)]
    path.write_bytes(left)
    whole = left.count(b"\n")
    assert list(read(path)) == records[:whole]
    write(path, end())
    assert list(read(path)) == [*records[:whole], end()]


def test_a_bad_whole_line_is_named_by_its_number_and_frees_the_journal(tmp_path):
    path = tmp_path / "j.jsonl"
    write(path, node())
    good = path.read_bytes()
    for bad in (b"{}\n", b"not json\n", b"\xff\xfe\n", b'{"line":"node","run":1}\n', b"\n"):
        path.write_bytes(good + bad + good)
        with pytest.raises(JournalError, match=r"j\.jsonl:2"):
            list(read(path))
        with pytest.raises(JournalError, match=r"j\.jsonl:2"):
            Journal(path)
    path.write_bytes(good)
    write(path, end())


def test_a_missing_journal_is_named(tmp_path):
    with pytest.raises(JournalError, match="there is no journal"):
        list(read(tmp_path / "none.jsonl"))


def test_a_second_writer_is_refused_until_the_first_is_done(tmp_path):
    path = tmp_path / "j.jsonl"
    with Journal(path) as first:
        with pytest.raises(JournalError, match="another process"):
            Journal(path)
        other = multiprocessing.get_context("spawn").Process(target=_open_and_report, args=(path,))
        other.start()
        other.join()
        assert other.exitcode == 7
        first.append(node())
    write(path, end())
    assert len(list(read(path))) == 2


def _open_and_report(path: Path) -> None:
    try:
        Journal(path)
    except JournalError:
        sys.exit(7)


def test_closing_twice_is_closing_once(tmp_path):
    journal = Journal(tmp_path / "j.jsonl")
    journal.close()
    journal.close()
    write(tmp_path / "j.jsonl", node())


WRITER = """
import sys
from pathlib import Path
from tests.steper_agent.test_journal import Journal, node
with Journal(Path(sys.argv[1])) as journal:
    for step in range(1, 1_000_000):
        journal.append(node(step=step, output="x" * 500))
        if step == 200:
            print("on", flush=True)
"""


def test_a_killed_writer_loses_at_most_the_line_it_was_writing(tmp_path):
    path = tmp_path / "j.jsonl"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    with writer, writer.stdout as said:
        said.readline()
        writer.send_signal(signal.SIGKILL)
    before = len(list(read(path)))
    assert before >= 200
    write(path, end())
    found = list(read(path))
    assert [one.step for one in found[:-1] if isinstance(one, NodeRecord)] == list(range(1, before + 1))
    assert found[-1] == end()


def test_a_full_disk_leaves_no_half_line(tmp_path, monkeypatch):
    path, real = tmp_path / "j.jsonl", os.write

    def half(handle: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, "no space")
        return real(handle, data[: len(data) // 2])

    with Journal(path) as journal:
        journal.append(node())
        monkeypatch.setattr(journal_module.os, "write", half)
        with pytest.raises(OSError, match="no space"):
            journal.append(node(step=2))
        monkeypatch.undo()
        journal.append(node(step=3))
        assert journal.recall("r1", "reason2") is None
    assert [one.step for one in read(path) if isinstance(one, NodeRecord)] == [1, 3]


def test_half_a_character_of_a_provider_is_no_reason_to_lose_a_line(tmp_path):
    with Journal(tmp_path / "j.jsonl") as journal:
        journal.append(node().model_copy(update={"output": "a\ud800b \ud83d\ude00"}))
    assert [one.output for one in read(tmp_path / "j.jsonl") if isinstance(one, NodeRecord)] == ["a\ufffdb \U0001f600"]


def test_a_lossy_journal_costs_nobody_an_answer(tmp_path, monkeypatch, caplog):
    path = tmp_path / "j.jsonl"

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space")

    with Journal(path, lossy=True) as journal:
        monkeypatch.setattr(journal_module.os, "write", full)
        for step in (1, 2):
            journal.append(node(step=step))
        monkeypatch.undo()
        journal.append(node(step=3))
    assert [one.step for one in read(path) if isinstance(one, NodeRecord)] == [3]
    assert [record.message.partition(": ")[2] for record in caplog.records] == [
        "no space; lines are lost until there is room", "there is room again, 2 lines are lost",
    ]  # fmt: skip


def test_a_lossy_journal_remembers_no_run_and_minds_no_old_line(tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_text("damaged long ago\n")
    with Journal(path, lossy=True) as journal:
        journal.append(node("r"))
        assert journal.recall("r", node("r").key) is None
        assert not journal.finished
    assert len(path.read_text().splitlines()) == 2


def test_threads_never_mix_their_lines(tmp_path):
    with Journal(tmp_path / "j.jsonl") as journal:
        def work(name: str) -> None:
            for step in range(1, 51):
                journal.append(node(name, step=step))

        threads = [threading.Thread(target=work, args=(f"r{number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(list(read(tmp_path / "j.jsonl"))) == 200


def test_work_of_an_unfinished_run_is_recalled_after_a_restart(tmp_path):
    path, done = tmp_path / "j.jsonl", node(key="k")
    write(path, done, node("r2", key="k"), end("r2"))
    with Journal(path) as journal:
        assert journal.recall("r1", "k") == done
        assert journal.recall("r1", "other") is None
        assert journal.recall("r2", "k") is None
        assert list(journal.finished) == ["r2"]
        journal.append(end("r1"))
        assert journal.recall("r1", "k") is None


@pytest.mark.parametrize(("outcome", "recalled"), [("ok", True), ("parse_error", True), ("empty_retrieval", True),
                                                   ("error", False), ("timeout", False)])  # fmt: skip
def test_failed_work_is_done_again_and_finished_work_is_not(tmp_path, outcome, recalled):
    with Journal(tmp_path / "j.jsonl") as journal:
        journal.append(node(outcome=outcome, key="k"))
        assert (journal.recall("r1", "k") is not None) is recalled


def test_only_finished_runs_become_trajectories_in_order_of_finishing(tmp_path):
    path = tmp_path / "j.jsonl"
    write(path, *a_step("r1", 1), *a_step("r2", 1), *a_step("r3", 1), end("r2"), *a_step("r1", 2), end("r1"))
    assert [(one.question.id, len(one.steps)) for one in trajectories(path)] == [("r2", 1), ("r1", 2)]


def test_a_trajectory_has_its_steps_in_order_with_query_hits_and_rationale():
    nodes = [line for number in range(1, 13) for line in a_step("r1", number, output=f"line {number}")]
    found = assemble(end(), nodes)
    assert [step.rationale for step in found.steps] == [f"line {number}" for number in range(1, 13)]
    assert found.steps[1].query == "query 2"
    assert found.steps[0].hits == (HIT,)
    assert (found.answer, found.stop, found.model, found.recipe) == ("Austen", "answered", "m", "x")


def test_a_retried_node_counts_with_its_last_line_that_did_not_fail():
    retried = [*a_step("r1", 1, output="first"), node(output="", outcome="timeout"), node(output="second"),
               node(step=2, output="", outcome="error")]
    assert [step.rationale for step in assemble(end(), retried).steps] == ["second"]


def test_a_strategy_that_never_searches_has_steps_without_hits():
    assert assemble(end(), [node()]).steps[0].hits == ()
