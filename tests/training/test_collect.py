"""Collecting: every node is journalled once, whatever happens in between, and a folder keeps to its settings."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from langchain_core.messages import AIMessage, BaseMessage
from pydantic import BaseModel

from steper_agent.errors import ConfigError, DataError
from steper_agent.journal import read, trajectories
from steper_agent.records import Finished, NodeRecord, Trajectory
from steper_agent.retrieval import build_index
from training.collect import CollectConfig, collect, main
from training.microworld.questions import make_questions
from training.microworld.world import make_world
from training.verb import run

COUNT = 20


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an index over a small world, and questions about it that carry their type at the top."""
    folder = tmp_path_factory.mktemp("bench")
    world = make_world(150, split="train", seed=1)
    write(folder / "corpus.jsonl", world.passages)
    asked = make_questions(world, COUNT, seed=2)
    rows = [{"id": q.id, "question": q.text, "answer": q.answers[0], **q.meta} for q in asked]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    steps = [{"text": "The first line."}, "The second line."]
    chains = [{**row, "reasoning_steps": steps} for row in rows]
    (folder / "chains.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chains))
    build_index([folder / "corpus.jsonl"], folder / "index")
    return folder


@pytest.fixture(scope="module")
def calm(bench: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a collection that nobody disturbs."""
    out = tmp_path_factory.mktemp("calm")
    assert collect(config(bench, out)).finished == COUNT
    return out


def write(path: Path, records: Iterable[BaseModel]) -> None:
    path.write_text("".join(record.model_dump_json() + "\n" for record in records), encoding="utf-8")


def config(bench: Path, out: Path, **settings: object) -> CollectConfig:
    given = {"index": bench / "index", "questions": bench / "questions.jsonl", "k": 3, "steps": 6, "out": out}
    return CollectConfig.model_validate({**given, **settings})


def collected(out: Path) -> list[Trajectory]:
    return sorted(trajectories(out / "journal.jsonl"), key=lambda one: one.question.id)


def asked(out: Path) -> set[str]:
    return {one.question.id for one in trajectories(out / "journal.jsonl")}


def test_every_node_of_every_question_is_journalled(calm: Path) -> None:
    records = list(read(calm / "journal.jsonl"))
    nodes = Counter((r.run, r.node, r.step) for r in records if isinstance(r, NodeRecord))
    assert set(nodes.values()) == {1}
    made = collected(calm)
    for one in made:
        own = {(node, step) for run_id, node, step in nodes if run_id == one.question.id}
        assert {(n, s + 1) for n in ("form_query", "retrieve", "reason") for s in range(len(one.steps))} <= own
        assert (("answer", len(one.steps)) in own) == (one.stop == "budget")
    assert sum(one.answer == one.question.answers[0] for one in made) >= 0.9 * COUNT
    assert len({one.recipe for one in made}) == 1


def test_the_report_tells_what_was_done_and_how(calm: Path) -> None:
    report = json.loads((calm / "report.json").read_text())
    assert report["finished"] == COUNT == sum(report["stops"].values())
    assert report["failed"] == 0
    assert {"strategy", "prompts", "k", "steps", "index", "teacher"} <= set(report["recipe"])
    assert (report["recipe"]["k"], report["recipe"]["steps"], report["recipe"]["teacher"]) == (3, 6, "symbolic")
    assert report["versions"]["langgraph"]


def test_a_second_start_asks_nothing_again(bench: Path, calm: Path) -> None:
    before = (calm / "journal.jsonl").read_bytes()
    again = collect(config(bench, calm, concurrency=1))
    assert again.already == again.finished == COUNT
    assert (calm / "journal.jsonl").read_bytes() == before


def test_a_limit_is_raised_later(bench: Path, calm: Path, tmp_path: Path) -> None:
    few = collect(config(bench, tmp_path, limit=4))
    start = (tmp_path / "journal.jsonl").read_bytes()
    seen: list[tuple[int, int]] = []
    more = collect(config(bench, tmp_path, limit=9), on_progress=lambda done, total: seen.append((done, total)))
    assert (few.finished, more.already, more.finished) == (4, 4, 9)
    assert seen == [(done, 9) for done in range(5, 10)]
    assert (tmp_path / "journal.jsonl").read_bytes().startswith(start)
    assert collect(config(bench, tmp_path)).finished == COUNT
    assert collected(tmp_path) == collected(calm)


def test_other_settings_in_the_same_folder_are_refused_by_name(bench: Path, calm: Path) -> None:
    before = (calm / "journal.jsonl").read_bytes()
    for key, value in (("k", 2), ("steps", 3), ("seed", 1), ("where", ("type=chain",))):
        with pytest.raises(ConfigError, match=key):
            collect(config(bench, calm, **{key: value}))
    assert (calm / "journal.jsonl").read_bytes() == before


def test_exactly_one_source_of_questions_is_wanted(bench: Path, tmp_path: Path) -> None:
    for settings in ({"questions": None}, {"replay": bench / "chains.jsonl"}):
        with pytest.raises(ConfigError, match="either"):
            collect(config(bench, tmp_path / "out", **settings))
    assert not (tmp_path / "out").exists()


def test_where_keeps_the_questions_whose_fields_match(bench: Path, tmp_path: Path) -> None:
    fields = [json.loads(line) for line in (bench / "questions.jsonl").read_text().splitlines()]
    chains = {row["id"] for row in fields if row["type"] == "chain" and row["hops"] == 2}
    collect(config(bench, tmp_path, where=("type=chain", "hops=2")))
    assert asked(tmp_path) == chains != set()


@pytest.mark.parametrize(("condition", "error"), [("hops", ConfigError), ("hops=9", DataError), ("year=1", DataError)])
def test_a_condition_that_says_or_finds_nothing_is_refused(
    bench: Path, tmp_path: Path, condition: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        collect(config(bench, tmp_path, where=(condition,)))


def test_a_replay_is_given_as_many_steps_as_its_longest_chain(bench: Path, tmp_path: Path) -> None:
    settings = {"questions": None, "replay": bench / "chains.jsonl", "where": ("hops=3",), "steps": 1}
    done = collect(config(bench, tmp_path, **settings))
    assert done.stops == {"answered": done.finished}
    for one in collected(tmp_path):
        assert [step.rationale for step in one.steps][0] == "The first line."
        assert (len(one.steps), one.answer, one.model) == (2, one.question.answers[0], "replay")
    assert json.loads((tmp_path / "report.json").read_text())["recipe"]["teacher"] == "chains.jsonl"


def test_a_failed_question_is_counted_and_taken_up_again(
    bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import training.microworld.teacher as teacher

    said, victim = teacher.reply, json.loads((bench / "questions.jsonl").read_text().splitlines()[2])["question"]

    def failing(messages: list[BaseMessage], leads: Sequence[str]) -> AIMessage:
        if victim in str(messages):
            raise RuntimeError("the line went dead")
        return said(messages, leads)

    flags = ["--index", str(bench / "index"), "--questions", str(bench / "questions.jsonl"), "--limit", "5",
             "--out", str(tmp_path)]
    with monkeypatch.context() as patched:
        patched.setattr(teacher, "reply", failing)
        assert run(main, flags) == 1
    assert "1 failed" in capsys.readouterr().out
    assert len(asked(tmp_path)) == 4
    assert run(main, flags) == 0
    assert len(asked(tmp_path)) == 5


@pytest.mark.timeout(600)
@pytest.mark.parametrize("concurrency", [8, 1])
def test_a_killed_collection_goes_on_and_repeats_nothing(
    bench: Path, calm: Path, tmp_path: Path, concurrency: int
) -> None:
    flags = [f"--index={bench / 'index'}", f"--questions={bench / 'questions.jsonl'}", "--k=3", "--steps=6"]
    command = [sys.executable, "-m", "training.collect", *flags, f"--concurrency={concurrency}", f"--out={tmp_path}"]
    journal = tmp_path / "journal.jsonl"
    moment = random.Random().randint(1, (calm / "journal.jsonl").read_bytes().count(b"\n") // 2)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as victim:
        while victim.poll() is None and (not journal.is_file() or journal.read_bytes().count(b"\n") < moment):
            time.sleep(0.001)
        victim.kill()
    assert victim.returncode == -signal.SIGKILL
    left = journal.read_bytes()
    whole = left[: left.rfind(b"\n") + 1]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert journal.read_bytes().startswith(whole)
    records = list(read(journal))
    ends = Counter(record.run for record in records if isinstance(record, Finished))
    nodes = Counter((record.run, record.key) for record in records if isinstance(record, NodeRecord))
    assert (len(ends), set(ends.values()), set(nodes.values())) == (COUNT, {1}, {1}), f"killed after {moment} lines"
    assert collected(tmp_path) == collected(calm), f"killed after {moment} lines"


def test_a_journal_cut_anywhere_is_completed_to_the_same_trajectories(bench: Path, calm: Path, tmp_path: Path) -> None:
    whole = (calm / "journal.jsonl").read_bytes()
    for part in sorted(random.Random(3).sample(range(len(whole)), 4)):
        out = tmp_path / str(part)
        out.mkdir()
        (out / "journal.jsonl").write_bytes(whole[:part])
        collect(config(bench, out))
        assert collected(out) == collected(calm)
        assert len(list(read(out / "journal.jsonl"))) == len(list(read(calm / "journal.jsonl")))


def test_questions_written_as_our_own_records_can_be_asked(bench: Path, tmp_path: Path) -> None:
    given = make_questions(make_world(150, split="train", seed=1), 2, seed=3)
    write(tmp_path / "records.jsonl", given)
    collect(config(bench, tmp_path / "out", questions=tmp_path / "records.jsonl"))
    made = [one.question for one in collected(tmp_path / "out")]
    assert [(q.id, q.text, q.answers, q.supporting_ids) for q in made] == [
        (q.id, q.text, q.answers, q.supporting_ids) for q in given]
