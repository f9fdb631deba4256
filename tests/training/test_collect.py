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
from shutil import copytree, rmtree
from typing import Any

import pytest
import torch
from langchain_core.messages import AIMessage, BaseMessage
from pydantic import BaseModel
from transformers import AutoModelForCausalLM

from steper_agent.errors import ConfigError, DataError
from steper_agent.journal import read, trajectories
from steper_agent.records import Finished, NodeRecord, Trajectory
from steper_agent.retrieval import build_index
from tests.tiny import tiny_base
from training import distill
from training.collect import CollectConfig, collect, main
from training.dataset import DatasetConfig, build
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


def test_a_journal_that_was_begun_with_another_index_is_not_gone_on_with(bench: Path, tmp_path: Path) -> None:
    copytree(bench / "index", tmp_path / "index")
    first = config(bench, tmp_path / "out", index=tmp_path / "index", limit=4)
    collect(first)
    rmtree(tmp_path / "index")
    write(tmp_path / "corpus.jsonl", make_world(150, split="train", seed=9).passages)
    build_index([tmp_path / "corpus.jsonl"], tmp_path / "index")
    before = (tmp_path / "out" / "journal.jsonl").read_bytes()
    with pytest.raises(ConfigError, match="index, the prompts or the exemplars"):
        collect(first.model_copy(update={"limit": 8}))
    assert (tmp_path / "out" / "journal.jsonl").read_bytes() == before


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

    def failing(messages: list[BaseMessage], leads: Sequence[str], patience: int) -> AIMessage:
        if victim in str(messages):
            raise RuntimeError("the line went dead")
        return said(messages, leads, patience)

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
    moment = killed_and_started_again(command, tmp_path, calm)
    assert len(collected(tmp_path)) == COUNT
    assert collected(tmp_path) == collected(calm), f"killed after {moment} lines"


def killed_and_started_again(command: list[str], out: Path, calm: Path) -> int:
    """Kill a collection at a random line of its first half, go on with it, and see that nothing was lost or asked twice."""
    journal = out / "journal.jsonl"
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
    assert (set(ends.values()), set(nodes.values())) == ({1}, {1}), f"killed after {moment} lines"
    return moment


def test_a_journal_cut_anywhere_is_completed_to_the_same_trajectories(bench: Path, calm: Path, tmp_path: Path) -> None:
    whole = (calm / "journal.jsonl").read_bytes()
    for part in sorted(random.Random(3).sample(range(len(whole)), 4)):
        out = tmp_path / str(part)
        out.mkdir()
        (out / "journal.jsonl").write_bytes(whole[:part])
        collect(config(bench, out))
        assert collected(out) == collected(calm)
        assert len(list(read(out / "journal.jsonl"))) == len(list(read(calm / "journal.jsonl")))


@pytest.fixture(scope="module")
def in_the_loop(bench: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a student that says two lines, whatever it reads, beside a teacher that reads."""
    out = tmp_path_factory.mktemp("loop")
    collect(config(bench, out, **loop(bench)))
    return out


def loop(bench: Path, **settings: object) -> dict[str, object]:
    return {"student": f"replay:{bench / 'chains.jsonl'}", "round": 2, "limit": 6, **settings}


def labels(out: Path) -> list[NodeRecord]:
    return [line for line in read(out / "journal.jsonl") if isinstance(line, NodeRecord) and line.of]


def test_a_student_walks_and_the_teacher_labels_every_state(bench: Path, in_the_loop: Path) -> None:
    made = collected(in_the_loop)
    assert len(made) == 6
    for one in made:
        assert [step.rationale for step in one.steps][0] == "The first line."
        assert one.model == "replay"
        assert [(label.of, label.step) for label in one.labels] == [("reason", step + 1) for step in range(len(one.steps))]
        assert {(label.model, label.round, label.taken) for label in one.labels} == {("symbolic-teacher", 2, False)}
    recipe = json.loads((in_the_loop / "report.json").read_text())["recipe"]
    assert {"teacher": "symbolic", **loop(bench), "mix": 0.0, "labels": "turns"}.items() - {("limit", 6)} <= recipe.items()


def test_a_run_that_is_wholly_mixed_in_is_the_teachers_own(bench: Path, calm: Path, tmp_path: Path) -> None:
    collect(config(bench, tmp_path, **loop(bench, mix=1.0)))
    plain = {one.question.id: one for one in collected(calm)}
    for one in collected(tmp_path):
        assert (one.steps, one.answer, one.stop) == (plain[one.question.id].steps, plain[one.question.id].answer, plain[one.question.id].stop)
        assert [label.rationale for label in one.labels if label.of == "reason"] == [step.rationale for step in one.steps]


@pytest.mark.timeout(600)
def test_a_killed_walk_of_a_student_keeps_its_labels_and_asks_none_again(bench: Path, tmp_path: Path) -> None:
    calm, out = tmp_path / "calm", tmp_path / "killed"
    settings = loop(bench, mix=0.5, limit=COUNT)
    collect(config(bench, calm, **settings))
    flags = [f"--{name}={value}" for name, value in settings.items()]
    places = [f"--index={bench / 'index'}", f"--questions={bench / 'questions.jsonl'}", "--k=3", "--steps=6", f"--out={out}"]
    moment = killed_and_started_again([sys.executable, "-m", "training.collect", *places, *flags], out, calm)
    assert {label.parameters.get("taken", False) for label in labels(out)} == {False, True}
    assert collected(out) == collected(calm), f"killed after {moment} lines"


def test_a_student_equal_to_its_teacher_is_labelled_with_its_own_lines(bench: Path, calm: Path, tmp_path: Path) -> None:
    collect(config(bench, tmp_path, student="symbolic", limit=6))
    plain = {one.question.id: one for one in collected(calm)}
    for one in collected(tmp_path):
        assert one.steps == plain[one.question.id].steps
        assert [label.rationale for label in one.labels if label.of == "reason"] == [step.rationale for step in one.steps]


def test_a_labelled_journal_cut_anywhere_is_completed_and_asks_for_no_label_again(
    bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import training.microworld.teacher as teacher

    asked: list[int] = []
    said = teacher.reply

    def counted(messages: list[BaseMessage], leads: Sequence[str], patience: int) -> AIMessage:
        asked.append(1)
        return said(messages, leads, patience)

    monkeypatch.setattr(teacher, "reply", counted)
    collect(config(bench, tmp_path / "whole", **loop(bench, mix=0.4)))
    whole, all_asked = (tmp_path / "whole" / "journal.jsonl").read_bytes(), len(asked)
    assert all_asked == len(labels(tmp_path / "whole"))
    for part in sorted(random.Random(5).sample(range(len(whole)), 5)):
        out = tmp_path / str(part)
        out.mkdir()
        (out / "journal.jsonl").write_bytes(whole[:part])
        there = len(labels(out))
        asked.clear()
        collect(config(bench, out, **loop(bench, mix=0.4)))
        assert len(asked) == all_asked - there
        assert collected(out) == collected(tmp_path / "whole")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"logprobs": 5}, "symbolic"),
        ({"logprobs": 5, "teacher": "openai:gpt-4o"}, "openai:gpt-4o"),
        ({"logprobs": 5, "questions": None, "replay": "chains.jsonl"}, "chains.jsonl"),
        ({"mix": 0.5}, "--student"),
        ({"score": True}, "--student"),
        ({"score": True, "student": "local:x", "teacher": "local:y"}, "--logprobs"),
        ({"score": True, "student": "local:x", "teacher": "local:y", "logprobs": 5, "mix": 0.5}, "mixed"),
        ({"score": True, "student": "symbolic", "teacher": "local:y", "logprobs": 5}, "symbolic"),
        ({"student": "symbolic", "questions": None, "replay": "chains.jsonl"}, "replay"),
        ({"student": "symbolic", "engine": "ray"}, "--engine"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_before_anything_is_opened(
    bench: Path, tmp_path: Path, settings: dict[str, object], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        collect(config(bench, tmp_path / "out", **settings))
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two random models of one vocabulary."""
    torch.set_num_threads(1)
    first, second = (tiny_base(tmp_path_factory.mktemp(f"base{seed}"), seed, window=4096) for seed in (0, 1))
    return f"local:{first}", f"local:{second}"


def test_a_teacher_tells_how_likely_its_own_tokens_were(bench: Path, tmp_path: Path, bases: tuple[str, str]) -> None:
    collect(config(bench, tmp_path, teacher=bases[0], logprobs=4, limit=1, max_tokens=6, steps=2))
    nodes = [line for line in read(tmp_path / "journal.jsonl") if isinstance(line, NodeRecord) and line.output_ids]
    assert nodes
    for node in nodes:
        agrees(node, bases[0])
    (one,) = collected(tmp_path)
    assert one.likely == {node.step: node.likely for node in nodes if node.node == "reason"}


def test_a_teacher_scores_the_students_own_tokens(bench: Path, tmp_path: Path, bases: tuple[str, str]) -> None:
    student, teacher = bases
    collect(config(bench, tmp_path, student=student, teacher=teacher, logprobs=4, score=True, limit=1, max_tokens=6, steps=2))
    said = {(line.node, line.step): line for line in read(tmp_path / "journal.jsonl") if isinstance(line, NodeRecord) and line.output_ids}
    scores = labels(tmp_path)
    assert len(scores) == sum(key[0] in ("reason", "answer") for key in said)
    for score in scores:
        own = said[str(score.of), score.step]
        assert (score.node, score.prompt_ids, score.output_ids, score.output) == ("score", own.prompt_ids, own.output_ids, own.output)
        assert score.model != own.model
        agrees(score, teacher)
    (one,) = collected(tmp_path)
    assert all(label.scored for label in one.labels)
    assert json.loads((tmp_path / "report.json").read_text())["recipe"]["labels"] == "scores"


def test_a_student_comes_nearer_to_a_teacher_that_scores_it(bench: Path, tmp_path: Path, bases: tuple[str, str]) -> None:
    """From the teacher's chances alone: nothing that anybody wrote is learned as text."""
    student, teacher = bases
    collect(config(bench, tmp_path, student=student, teacher=teacher, score=True, logprobs=8, limit=4, max_tokens=8, steps=2))
    made: dict[str, Any] = {"journal": (tmp_path / "journal.jsonl",), "base": Path(student.removeprefix("local:")), "all_answers": True, "max_dropped": 1}
    with pytest.raises(ConfigError, match="give the teacher's folder with --teacher"):
        build(DatasetConfig(**made, out=tmp_path / "other"))
    card = build(DatasetConfig(**made, out=tmp_path / "set", teacher=Path(teacher.removeprefix("local:"))))
    assert card.examples_with_likely == sum(card.examples.values()) > 0
    assert card.learned_tokens == 0
    told: dict[str, Any] = {"dataset": tmp_path / "set", "base": made["base"], "rank": 8, "alpha": 16, "batch": 2, "epochs": 10, "weighting": "uniform"}
    with pytest.raises(ConfigError, match="give --kl 1"):
        distill.run(distill.DistillConfig(**told, out=tmp_path / "silent"))
    run = distill.run(distill.DistillConfig(**told, kl=1.0, out=tmp_path / "run"))
    losses = [sum(point.loss.values()) for point in run.curve]
    epoch = len(losses) // 10
    # Whole epochs, for two updates are of other examples.
    assert 0 < sum(losses[-epoch:]) < 0.9 * sum(losses[:epoch])


def agrees(node: NodeRecord, spec: str) -> None:
    """With a forward pass of the model by itself."""
    plain: Any = AutoModelForCausalLM.from_pretrained(spec.removeprefix("local:"), dtype=torch.float32)
    with torch.no_grad():
        logits = plain(torch.tensor([[*node.prompt_ids, *node.output_ids]])).logits[0, len(node.prompt_ids) - 1 : -1]
    logs = logits.log_softmax(-1)
    told = node.likely
    assert told is not None
    assert (told.tokens, told.model) == (node.output_ids, node.model)
    assert torch.allclose(torch.tensor(told.logprobs), logs.gather(1, torch.tensor(told.tokens)[:, None])[:, 0], atol=2e-3)
    assert torch.allclose(torch.tensor(told.top_logprobs), logs.topk(4).values, atol=2e-3)
    assert torch.equal(torch.tensor(told.top_ids), logs.topk(4).indices)


def test_models_of_two_vocabularies_are_refused_for_scores(bench: Path, tmp_path: Path, bases: tuple[str, str]) -> None:
    folder = tiny_base(tmp_path / "other")
    told = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = told["model"]["vocab"]
    one, other = sorted(vocabulary, key=vocabulary.get)[10:12]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    (folder / "tokenizer.json").write_text(json.dumps(told))
    with pytest.raises(ConfigError, match="token 10 is"):
        collect(config(bench, tmp_path / "out", student=bases[0], teacher=f"local:{folder}", logprobs=4, score=True, limit=1))
    assert not (tmp_path / "out").exists()


def test_a_folder_from_before_there_were_students_is_resumed(bench: Path, calm: Path) -> None:
    held = json.loads((calm / "settings.json").read_text())
    assert not {"student", "mix", "round", "logprobs", "score"} & held.keys()
    with pytest.raises(ConfigError, match="student"):
        collect(config(bench, calm, student="symbolic"))


def test_questions_written_as_our_own_records_can_be_asked(bench: Path, tmp_path: Path) -> None:
    given = make_questions(make_world(150, split="train", seed=1), 2, seed=3)
    write(tmp_path / "records.jsonl", given)
    collect(config(bench, tmp_path / "out", questions=tmp_path / "records.jsonl"))
    made = [one.question for one in collected(tmp_path / "out")]
    assert [(q.id, q.text, q.answers, q.supporting_ids) for q in made] == [
        (q.id, q.text, q.answers, q.supporting_ids) for q in given]
