"""Run folders are read as they are: growing, torn, foreign, locked; nothing is written and nothing is believed twice."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steper_agent.errors import JournalError
from steper_agent.journal import Journal, trajectories
from steper_agent.records import Finished, NodeRecord, Question, Swapped
from tests.training.journals import add_run, make_journal
from tui.app.rows import FILTERS, Row, Rows, matches, open_row
from tui.app.shelf import Shelf, is_locked
from tui.app.speed import Speed, lasting
from tui.app.tail import Piece, Tail

COLLECT = {"teacher": "symbolic", "strategy": "ircot", "k": 4}


def node(run: str = "q", name: str = "reason", step: int = 1, outcome: str = "ok", **more: object) -> NodeRecord:
    return NodeRecord.model_validate({"run": run, "question_id": run, "node": name, "step": step, "key": f"{name}{step}{outcome}",
                                      "input": "in", "output": "out", "seconds": 0.1, "outcome": outcome, **more})  # fmt: skip


def end(run: str = "q", *, answer: str = "Emma", gold: tuple[str, ...] = ("Emma",), stop: str = "answered", text: str = "Who?") -> Finished:
    return Finished.model_validate({"run": run, "question": Question(id=run, text=text, answers=gold), "strategy": "ircot",
                                    "answer": answer, "stop": stop, "model": "m", "recipe": "r", "seconds": 1.0})  # fmt: skip


def scanned(path: Path) -> Rows:
    rows, tail = Rows(), Tail(path)
    while piece := tail.read():
        rows.take(piece)
    return rows


def written(path: Path, *records: NodeRecord | Finished) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.writelines(record.model_dump_json().encode() + b"\n" for record in records)
    return path


def folder(root: Path, name: str, settings: dict[str, object] | None = None, **files: object) -> Path:
    made = root / name
    made.mkdir(parents=True)
    for file, told in {"settings": settings, **files}.items():
        if told is not None:
            (made / f"{file}.json").write_text(json.dumps(told))
    return made


@given(st.lists(st.binary(max_size=12), max_size=8))
def test_however_a_file_grows_every_whole_line_is_read_once(tmp_path_factory, parts):
    path = tmp_path_factory.mktemp("tail") / "f"
    tail, read = Tail(path), b""
    assert tail.read() is None
    for part in parts:
        with path.open("ab") as file:
            file.write(part)
        while piece := tail.read():
            assert piece.start == len(read)
            read += piece.data
    whole = b"".join(parts)
    assert read == whole[: whole.rfind(b"\n") + 1]


def test_a_line_longer_than_a_piece_is_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("tui.app.tail.PIECE", 8)
    (tmp_path / "f").write_bytes(b"x" * 100 + b"\ny\n")
    tail = Tail(tmp_path / "f")
    assert tail.read().data.startswith(b"x" * 100 + b"\n")
    assert tail.read() is None


@pytest.mark.parametrize("replace", [lambda path: path.write_bytes(b"a\n"), lambda path: (path.unlink(), path.write_bytes(b"new\nlines\nhere\n"))])
def test_a_file_that_was_cut_or_replaced_is_read_anew(tmp_path, replace):
    path = tmp_path / "f"
    path.write_bytes(b"one\ntwo\n")
    kept = path.open("rb")  # Its inode is not given to the new file.
    tail = Tail(path)
    tail.read()
    replace(path)
    assert tail.read() == Piece(0, path.read_bytes(), is_restart=True)
    kept.close()


def test_rows_say_what_the_trajectories_say(tmp_path):
    path = make_journal(tmp_path / "journal.jsonl", count=12)
    with Journal(path) as journal:
        add_run(journal, 50, steps=2, right=False)
        add_run(journal, 51, steps=3, stop="budget")
    rows = scanned(path).rows
    for row, one in zip(rows, trajectories(path), strict=True):
        assert (row.question, row.answer, row.stop, row.steps) == (one.question.text, one.answer, one.stop, len(one.steps))
        assert row.right is (one.answer in one.question.answers)
        assert open_row(path, row).trajectory == one


@given(st.integers(1, 3000))
def test_rows_do_not_depend_on_how_the_journal_is_cut_into_pieces(tmp_path_factory, size):
    path = make_journal(tmp_path_factory.mktemp("rows") / "journal.jsonl", count=6)
    data, rows, at = path.read_bytes(), Rows(), 0
    while at < len(data):
        cut = data.find(b"\n", at + size) + 1 or len(data)
        rows.take(Piece(at, data[at:cut]))
        at = cut
    assert rows.rows == scanned(path).rows


def test_a_torn_last_line_waits_for_its_end(tmp_path):
    path = written(tmp_path / "journal.jsonl", node())
    line = end().model_dump_json().encode() + b"\n"
    rows, tail = Rows(), Tail(path)
    for part in (line[:40], line[40:]):
        while piece := tail.read():
            rows.take(piece)
        assert rows.rows == []
        with path.open("ab") as file:
            file.write(part)
    rows.take(tail.read())
    assert [row.answer for row in rows.rows] == ["Emma"]
    assert rows.bad == []


def test_a_failed_run_has_a_row_that_changes_when_the_run_is_taken_up_again(tmp_path):
    path = written(tmp_path / "journal.jsonl", node(name="form_query", input="Who?"), node(outcome="error", note="no reply"), end("other"))
    rows = scanned(path)
    assert [(row.question, row.stop) for row in rows.rows] == [("q", "error"), ("Who?", "answered")]
    opened = open_row(path, rows.rows[0])
    assert opened.trajectory is None
    assert [node.note for node in opened.nodes] == ["", "no reply"]
    written(path, node(), end())
    again = scanned(path)
    assert [row.stop for row in again.rows] == ["answered", "answered"]
    assert matches(again.rows[0], "errors")
    assert again.redone == 1


def test_a_run_id_used_twice_makes_two_rows_and_each_opens_its_own(tmp_path):
    path = written(tmp_path / "journal.jsonl", node(output="first"), end(answer="A"), node(output="second"), end(answer="B"))
    opened = [open_row(path, row) for row in scanned(path).rows]
    assert [(one.trajectory.answer, one.trajectory.steps[0].rationale) for one in opened] == [("A", "first"), ("B", "second")]


@pytest.mark.parametrize("run", ['a"b', "a\\", 'x","question_id":"y', "ü \u202e", "\x00", 'q","node":"reason'])
def test_a_run_id_that_looks_like_json_is_an_id(tmp_path, run):
    path = written(tmp_path / "journal.jsonl", node(run), node(run, outcome="parse_error", step=2), end(run))
    (row,) = scanned(path).rows
    assert (row.run, row.steps, matches(row, "parse errors")) == (run, 2, True)
    assert len(open_row(path, row).nodes) == 2


def test_a_journal_written_by_another_program_is_read_the_same(tmp_path):
    path = written(tmp_path / "journal.jsonl", node(), node(step=2, outcome="empty_retrieval"), end())
    other = tmp_path / "other.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    other.write_text("".join(json.dumps(dict(reversed(line.items()))) + "\n" for line in lines))
    assert [row._replace(end=0) for row in scanned(other).rows] == [row._replace(end=0) for row in scanned(path).rows]
    assert open_row(other, scanned(other).rows[0]) == open_row(path, scanned(path).rows[0])


BAD = [b"", b"{}", b"nothing", b"\xff\xfe", b'{"line":"node","run":"', b'{"line":"finished","run":"q","question":3}', b"[1]", b"[" * 5000,
       b'{"line":"node","run":"q","question_id":"q","node":"reason","step":1,"outcome":"odd"}', b'{"line":"moon","run":"q"}']  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_a_line_that_is_no_record_is_named_and_costs_no_other_line(tmp_path, bad):
    path = written(tmp_path / "journal.jsonl", node(), end())
    with path.open("ab") as file:
        file.write(bad + b"\n")
    written(path, node("q2"), end("q2"))
    rows = scanned(path)
    assert rows.bad == [3]
    assert [open_row(path, row).trajectory.question.id for row in rows.rows] == ["q", "q2"]


def test_a_swap_is_no_trajectory(tmp_path):
    path = written(tmp_path / "journal.jsonl", Swapped.model_validate(  # type: ignore[arg-type]
        {"time": "2026-01-01T00:00:00Z", "before": "a", "after": "b", "ok": True, "seconds": {}}), end())
    assert (len(scanned(path).rows), scanned(path).bad) == (1, [])


def test_a_row_of_a_replaced_journal_is_refused(tmp_path):
    path = written(tmp_path / "journal.jsonl", node(), end())
    row = scanned(path).rows[0]
    path.write_bytes(b"")
    with pytest.raises(JournalError, match="replaced"):
        open_row(path, row)


def test_every_filter_shows_what_its_name_says():
    plain = Row("q", 0, "Who wrote Emma?", "Austen", True, 1, "answered", "m", 0)
    shown = {"all": plain, "wrong answers": plain._replace(right=False), "parse errors": plain._replace(marks=1),
             "empty retrievals": plain._replace(marks=2), "errors": plain._replace(stop="error"), "budget": plain._replace(stop="budget")}  # fmt: skip
    for chosen in FILTERS[1:]:
        assert [name for name, row in shown.items() if matches(row, chosen)] == [chosen]
    assert matches(plain, "all", "emma")
    assert not matches(plain, "all", "persuasion")


def test_every_kind_of_folder_is_known_by_its_files(tmp_path):
    demo = folder(tmp_path, "demo", {"held_out": 300, "learn_passages": 6000})
    make_journal(folder(demo, "collect", COLLECT) / "journal.jsonl")
    folder(demo, "dataset", None, card={"examples": {"initialization": 2}})
    (demo / "dataset" / "examples.jsonl").touch()
    folder(demo, "distill", {"weighting": "learned", "fingerprint": "f"})
    folder(demo, "evaluate/base", {"decoding": {}, "model": "m"})
    make_journal(folder(tmp_path, "loose") / "journal.jsonl")
    folder(tmp_path, "foreign", {"something": "else"})
    (tmp_path / "notes.txt").write_text("hello")
    found = {run.name: run.kind for run in Shelf(tmp_path).look()}
    assert found == {"demo": "demo", "demo/collect": "collect", "demo/dataset": "dataset", "demo/distill": "distill",
                     "demo/evaluate/base": "evaluate", "loose": "journal"}  # fmt: skip


def test_the_runs_of_a_demo_stand_behind_it(tmp_path):
    demo = folder(tmp_path, "demo", {"held_out": 300, "learn_passages": 6000})
    folder(demo, "collect", COLLECT)
    folder(tmp_path, "a-newer-one", COLLECT)
    for number, path in enumerate((demo, demo / "collect", tmp_path / "a-newer-one")):
        os.utime(path / "settings.json", (1000 + number, 1000 + number))
    assert [run.name for run in Shelf(tmp_path).look()] == ["a-newer-one", "demo", "demo/collect"]


def test_a_run_is_running_while_its_files_change_then_stopped_and_finished_with_its_report(tmp_path):
    made = folder(tmp_path, "collect", COLLECT)
    path = make_journal(made / "journal.jsonl", count=4)
    now = path.stat().st_mtime
    state = {late: Shelf(tmp_path, now=lambda late=late: now + late).look()[0].state for late in (1, 1000)}
    assert state == {1: "running", 1000: "stopped"}
    (made / "report.json").write_text('{"finished": 4, "failed": 1}')
    (run,) = Shelf(tmp_path).look()
    assert (run.state, run.done, run.total) == ("finished", 4, 5)


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="locks are looked up in /proc")
def test_a_journal_that_is_held_means_running_and_looking_does_not_keep_its_writer_out(tmp_path):
    path = folder(tmp_path, "collect", COLLECT) / "journal.jsonl"
    late = Shelf(tmp_path, now=lambda: path.stat().st_mtime + 1e6)
    with Journal(path):
        if not is_locked(path):
            pytest.skip("this machine hides locks")
        assert late.look()[0].state == "running"
    assert late.look()[0].state == "stopped"


def test_progress_goes_up_with_the_journal_and_says_of_how_many(tmp_path):
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(json.dumps({"id": str(n), "question": f"Who {n}?", "answers": ["x"], "hops": n % 2}) + "\n" for n in range(6)))
    path = folder(tmp_path, "collect", {**COLLECT, "questions": str(questions)}) / "journal.jsonl"
    shelf, seen = Shelf(tmp_path), []
    with Journal(path) as journal:
        for number in range(3):
            add_run(journal, number, steps=1)
            seen.append(shelf.look()[0].progress)
    assert seen == ["1 of 6 questions", "2 of 6 questions", "3 of 6 questions"]


@pytest.mark.parametrize("settings", ['{"teacher": 3, "questions": 5}', "[]", "\x00", '{"teacher": "a", "where": 4, "questions": "/nope"}'])
def test_a_folder_with_odd_settings_is_shown_all_the_same(tmp_path, settings):
    made = folder(tmp_path, "odd")
    (made / "settings.json").write_text(settings)
    make_journal(made / "journal.jsonl", count=2)
    (made / "report.json").write_text("{")
    assert Shelf(tmp_path).look()[0].done == 2


def test_the_updates_of_a_distillation_come_from_settings_checkpoint_or_data_set(tmp_path):
    settings = {"weighting": "learned", "fingerprint": "f", "data": "d", "batch": 8, "epochs": 2}
    made = folder(tmp_path, "distill", settings)
    shelf = Shelf(tmp_path)
    assert shelf.look()[0].total is None
    folder(tmp_path, "dataset", None, card={"digest": "d", "trajectories": {"kept": 17}})
    assert shelf.look()[0].total == 6
    folder(made, "checkpoint-5", None, trainer_state={"max_steps": 7})
    assert shelf.look()[0].total == 7
    (made / "settings.json").write_text(json.dumps({**settings, "max_steps": 9}))
    assert shelf.look()[0].total == 9


def test_links_are_not_followed_and_depth_is_bounded(tmp_path):
    deep = tmp_path.joinpath(*"abcdefgh")
    deep.mkdir(parents=True)
    make_journal(deep / "journal.jsonl", count=1)
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    shelf = Shelf(tmp_path)
    assert shelf.look() == []
    shelf.name(deep)
    assert [run.path for run in shelf.look()] == [deep]


def test_a_speed_is_of_the_last_minute_and_forgets_what_was_undone():
    speed = Speed()
    assert speed.a_second is None
    for second in range(0, 300, 10):
        speed.note(float(second), second * 2 if second < 200 else 400 + (second - 200) * 5)
    assert speed.a_second == pytest.approx(5.0)
    assert speed.left(985) == pytest.approx((985 - 850 + 5) / 5, abs=2)
    speed.note(301.0, 3)
    assert speed.a_second is None


def test_times_are_told_in_the_unit_that_says_something():
    assert [lasting(seconds) for seconds in (5, 600, 7300, 864_000)] == ["5 s", "10 min", "2 h 2 min", "10 days"]
