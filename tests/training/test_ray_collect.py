"""Collecting on Ray: every question is answered exactly once, whoever dies, and errors are those of the local engine."""

from __future__ import annotations

import json
import logging
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steper_agent.errors import ConfigError, DependencyError, StepERError
from steper_agent.journal import Journal, read, trajectories
from steper_agent.records import Finished, NodeRecord, Question, Trajectory
from steper_agent.retrieval import build_index
from training import ray_collect
from training.collect import CollectConfig, Collected, collect, main
from training.microworld.questions import make_questions
from training.microworld.world import make_world
from training.ray_actor import Actor
from training.ray_collect import Deal, cluster, given_up, in_short, loads_weights, share_of_gpu, unfinished
from training.run_folder import SETTINGS
from training.verb import run

ray = pytest.importorskip("ray", reason="pip install 'steper-agent[ray]'")

COUNT = 200


@pytest.fixture(scope="module")
def crowd() -> Iterator[str]:
    """A cluster on this machine with room for two actors; its address."""
    with cluster("", 2):
        yield ray.get_runtime_context().gcs_address


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an index over a small world, and questions about it."""
    folder = tmp_path_factory.mktemp("bench")
    world = make_world(150, split="train", seed=1)
    asked = make_questions(world, COUNT, seed=2)
    for name, records in (("corpus", world.passages), ("questions", asked)):
        (folder / f"{name}.jsonl").write_text("".join(record.model_dump_json() + "\n" for record in records))
    build_index([folder / "corpus.jsonl"], folder / "index")
    return folder


@pytest.fixture(scope="module")
def here(bench: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the local engine."""
    out = tmp_path_factory.mktemp("here")
    assert collect(config(bench, out)).finished == COUNT
    return out


def config(bench: Path, out: Path, **settings: object) -> CollectConfig:
    given = {"index": bench / "index", "questions": bench / "questions.jsonl", "k": 3, "steps": 6, "out": out}
    return CollectConfig.model_validate({**given, **settings})


def on_ray(bench: Path, out: Path, **settings: Any) -> Collected:
    watch = settings.pop("watch", None)
    return collect(config(bench, out, engine="ray", **settings), on_progress=watch)


def collected(out: Path) -> list[Trajectory]:
    return sorted(trajectories(out / "journal.jsonl"), key=lambda one: one.question.id)


def ends(out: Path) -> Counter[str]:
    return Counter(record.run for record in read(out / "journal.jsonl") if isinstance(record, Finished))


def nodes(out: Path) -> Counter[tuple[str, str]]:
    return Counter((record.run, record.key) for record in read(out / "journal.jsonl") if isinstance(record, NodeRecord))


@pytest.mark.usefixtures("crowd")
def test_a_killed_worker_loses_no_question_and_repeats_none(
    bench: Path, here: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="training.ray_collect")
    killed: list[int] = []

    def processes() -> list[int]:
        return [int(pid) for pid in re.findall(r"an actor is ready: process (\d+)", caplog.text)]

    def kill_half_way(done: int, total: int) -> None:
        assert total == COUNT
        if done >= COUNT // 2 and not killed:
            assert len(set(processes())) == 2
            killed.append(processes()[0])
            os.kill(killed[0], signal.SIGKILL)

    done = on_ray(bench, tmp_path, watch=kill_half_way)
    assert (done.finished, done.failed, len(killed)) == (COUNT, 0, 1)
    assert "an actor died" in caplog.text
    assert len(ends(tmp_path)) == COUNT
    assert set(ends(tmp_path).values()) == set(nodes(tmp_path).values()) == {1}
    assert collected(tmp_path) == collected(here)


@pytest.mark.usefixtures("crowd")
def test_either_engine_goes_on_where_the_other_stopped(
    bench: Path, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (here / "journal.jsonl").read_bytes()
    left = whole[: int(len(whole) * 0.9)]
    (tmp_path / "journal.jsonl").write_bytes(left)
    assert unfinished(tmp_path / "journal.jsonl")
    assert on_ray(bench, tmp_path, limit=COUNT - 5, workers=1).failed == 0
    assert collect(config(bench, tmp_path)).finished == COUNT
    assert (tmp_path / "journal.jsonl").read_bytes().startswith(left[: left.rfind(b"\n") + 1])
    assert nodes(tmp_path) == nodes(here)
    assert collected(tmp_path) == collected(here)
    before = (tmp_path / "journal.jsonl").read_bytes()
    monkeypatch.setattr(ray_collect, "cluster", None)
    assert on_ray(bench, tmp_path).already == COUNT
    assert (tmp_path / "journal.jsonl").read_bytes() == before


def test_a_killed_driver_asks_again_only_what_was_under_way(bench: Path, here: Path, crowd: str, tmp_path: Path) -> None:
    flags = ["--engine=ray", f"--ray-address={crowd}", f"--index={bench / 'index'}", f"--questions={bench / 'questions.jsonl'}",
             "--k=3", "--steps=6", "--concurrency=2", "--workers=1", f"--out={tmp_path}"]
    journal = tmp_path / "journal.jsonl"
    command = [sys.executable, "-m", "training.collect", *flags]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as victim:
        while victim.poll() is None and (not journal.is_file() or b'"finished"' not in journal.read_bytes()):
            time.sleep(0.001)
        victim.kill()
    assert victim.returncode == -signal.SIGKILL
    left = journal.read_bytes()
    kept = ends(tmp_path)
    done = on_ray(bench, tmp_path, workers=1)
    assert (done.already, done.finished) == (len(kept), COUNT)
    assert journal.read_bytes().startswith(left[: left.rfind(b"\n") + 1])
    assert set(ends(tmp_path).values()) == set(nodes(tmp_path).values()) == {1}
    assert collected(tmp_path) == collected(here)


class Doomed(Actor):
    """Dies of one question whenever it is asked it."""

    async def answer(self, dealt: str) -> str:
        if json.loads(dealt)["question"]["meta"].get("deadly"):
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().answer(dealt)


@pytest.mark.usefixtures("crowd")
def test_a_question_that_kills_its_workers_fails_alone(
    bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lines = (bench / "questions.jsonl").read_text().splitlines()[:12]
    asked = [Question.model_validate_json(line) for line in lines]
    asked[3] = asked[3].model_copy(update={"meta": {"deadly": True}})
    (tmp_path / "questions.jsonl").write_text("".join(one.model_dump_json() + "\n" for one in asked))
    settings: dict[str, Any] = {"questions": tmp_path / "questions.jsonl", "workers": 1}
    with monkeypatch.context() as patched:
        patched.setattr(ray_collect, "Actor", Doomed)
        patched.setattr(ray_collect, "MOST_LOST", 2)
        done = on_ray(bench, tmp_path / "out", **settings)
    assert (done.finished, done.failed) == (11, 1)
    assert f"question {asked[3].id} failed: 2 actors died over it" in caplog.text
    assert collect(config(bench, tmp_path / "out", **settings)).finished == 12
    assert set(ends(tmp_path / "out").values()) == {1}


@pytest.mark.usefixtures("crowd")
@pytest.mark.parametrize("teacher", ["gpt-4o", "replay:nowhere.jsonl"])
def test_a_wrong_teacher_is_the_same_error_on_either_engine_and_does_not_stick(
    bench: Path, tmp_path: Path, teacher: str
) -> None:
    said = []
    for engine in ("local", "ray"):
        with pytest.raises(StepERError) as caught:
            collect(config(bench, tmp_path / "out", engine=engine, teacher=teacher, workers=1))
        said.append((type(caught.value), str(caught.value)))
    assert said[0] == said[1]
    assert not (tmp_path / "out" / SETTINGS).exists()


def test_other_settings_are_refused_by_name_before_anything_starts(
    bench: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_collect, "cluster", None)
    with pytest.raises(ConfigError, match="seed"):
        on_ray(bench, here, seed=1)
    with pytest.raises(ConfigError, match="--engine ray"):
        collect(config(bench, here, ray_address="nowhere:1"))
    assert on_ray(bench, here, workers=7, concurrency=1, ray_address="nowhere:1").already == COUNT


def test_without_ray_the_cure_is_told(
    bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(DependencyError):
        on_ray(bench, tmp_path / "out")
    flags = ["--engine", "ray", "--index", str(bench / "index"), "--questions", str(bench / "questions.jsonl")]
    assert run(main, [*flags, "--out", str(tmp_path / "out")]) == 2
    assert "pip install 'steper-agent[ray]'" in capsys.readouterr().err


def test_a_cluster_that_is_not_there_is_told_at_once() -> None:
    with pytest.raises(ConfigError, match="ray start --head"):
        ray_collect._knock("127.0.0.1:1")


@pytest.mark.parametrize("kind", [StepERError, *StepERError.__subclasses__()])
def test_an_error_of_ours_survives_the_way_from_another_process(kind: type[StepERError]) -> None:
    given = kind("the cat sat", where=Path("mat"), fix="move it")
    came = pickle.loads(pickle.dumps(given))
    assert type(came) is kind
    assert str(came) == str(given)
    assert (came.what, str(came.where), came.fix) == ("the cat sat", "mat", "move it")


def question(name: str) -> Question:
    return Question(id=name, text=name)


def test_questions_are_dealt_in_order_and_those_lost_come_again_behind_the_others() -> None:
    first, second, third = map(question, "abc")
    deal = Deal([first, second, third])
    assert deal.next_for([]) == first
    assert deal.again(first)
    assert [deal.next_for([third]) for _ in range(4)] == [second, third, first, None]


def test_a_question_two_actors_died_over_is_asked_alone_and_then_given_up() -> None:
    suspect, other = question("a"), question("b")
    deal = Deal([suspect])
    for company in ([other], []):
        assert deal.next_for(company) == suspect
        assert deal.again(suspect)
    assert deal.next_for([other]) is None
    assert deal.next_for([]) == suspect
    assert deal.next_for([suspect]) is None
    assert not deal.again(suspect)


def test_a_question_given_up_leaves_a_line_that_no_reader_takes_for_work(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        for line in given_up(question("a"), "why").lines:
            journal.append(line)
        assert not journal.finished
    assert trajectories(tmp_path / "j.jsonl") == []
    (line,) = unfinished(tmp_path / "j.jsonl")["a"]
    assert (line.outcome, line.note) == ("error", "why")


def test_models_in_the_actors_share_the_gpus_there_are() -> None:
    assert [share_of_gpu(gpus, 3) for gpus in (0, 1, 2, 3, 8)] == [0, 1 / 3, 1 / 2, 1, 1]
    assert [loads_weights(spec) for spec in ("local:models/a", "vllm:models/a", "vllm:a@http://b:1", "openai:gpt", "symbolic")] == [
        True, True, False, False, False]  # fmt: skip


def test_a_death_is_told_in_one_line() -> None:
    assert in_short(Exception("a\nIt is dead. Some common causes include: …")) == "It is dead."
    assert in_short(ValueError()) == "ValueError"
