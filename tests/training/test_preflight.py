"""Preflight: a sound recipe passes and leaves nothing behind; each fault is told once, where it shows first, before anything is paid."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel

from steper_agent.journal import trajectories
from steper_agent.retrieval import build_index, open_index, read_questions
from tests.tiny import tiny_base
from training.checks import machine
from training.checks.opened import Opened
from training.checks.rehearsal import rehearse
from training.collect import CollectConfig
from training.microworld.questions import CHAINS, make_questions
from training.microworld.world import Split, make_world
from training.preflight import CALL, LOOKS, Preflight, main, preflight
from training.recipe import read_recipe
from training.run_folder import claim
from training.verb import run

Settings = Mapping[str, Mapping[str, object]]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small worlds with indexes and questions, a random base, and a recipe over them."""
    folder = tmp_path_factory.mktemp("preflight")
    splits: tuple[Split, Split] = ("train", "test")
    for split in splits:
        (folder / split).mkdir()
        world = make_world(120, split=split, seed=1)
        write(folder / split / "passages.jsonl", world.passages)
        write(folder / split / "questions.jsonl", make_questions(world, 6, seed=2, mix=CHAINS))
        build_index([folder / split / "passages.jsonl"], folder / split / "index")
        # Tantivy leaves a lock file where an index is opened for the first time.
        open_index(folder / split / "index")
    tiny_base(folder / "base", window=8192)
    (folder / "recipe.toml").write_text(f"""
[collect]
index = "{folder}/train/index"
questions = "{folder}/train/questions.jsonl"
k = 2
out = "{folder}/runs/collect"
[dataset]
journal = ["{folder}/runs/collect/journal.jsonl"]
base = "{folder}/base"
held_out = ["{folder}/test/questions.jsonl"]
max_length = 8192
out = "{folder}/runs/dataset"
[distill]
dataset = "{folder}/runs/dataset"
base = "{folder}/base"
rank = 2
batch = 4
out = "{folder}/runs/distill"
[evaluate]
index = "{folder}/test/index"
questions = "{folder}/test/questions.jsonl"
model = "local:{folder}/base+{folder}/runs/distill/student"
k = 2
out = "{folder}/runs/evaluate"
""")
    return folder


def write(path: Path, records: Any) -> None:
    path.write_text("".join(record.model_dump_json() + "\n" for record in records), encoding="utf-8")


def looked(bench: Path, settings: Settings | None = None, *, calls: bool = False) -> Preflight:
    return preflight(read_recipe(bench / "recipe.toml", settings), calls=calls)


def states(found: Preflight) -> dict[str, set[str]]:
    told: dict[str, set[str]] = {}
    for check in found.checks:
        told.setdefault(check.name, set()).add(check.state)
    return told


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_sound_recipe_passes_every_check_and_nothing_is_written(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(bench)
    assert run(main, ["--config", str(bench / "recipe.toml")]) == 0
    assert {str(path.relative_to(bench)) for path, when in files(bench).items() if before.get(path) != when} == set()
    shown = capsys.readouterr().out
    assert all(look.name in shown for look in (*LOOKS, CALL))
    assert "failed" not in shown
    assert "warning" not in shown


def test_what_was_found_is_written_where_asked(bench: Path, tmp_path: Path) -> None:
    assert run(main, ["--config", str(bench / "recipe.toml"), "--no-calls", "--json", str(tmp_path / "found.json")]) == 0
    found = Preflight.model_validate_json((tmp_path / "found.json").read_bytes())
    assert states(found)["teacher"] == {"skipped"}
    told = {check.name: check.what for check in found.checks}
    assert "6 questions, 6 with answers, 6 with supporting passages" in told["training questions"]
    assert "6 questions rehearsed, lines the symbolic teacher's" in told["lengths"]
    assert "none of 6 training questions is among 6" in told["leakage"]


@pytest.fixture
def broken(bench: Path, tmp_path: Path) -> Path:
    """A folder with what is wrong with some of the cases."""
    (tmp_path / "file").write_text("in the way")
    shutil.copytree(bench / "base", tmp_path / "base")
    (tmp_path / "base" / "model.safetensors").unlink()
    tiny_base(tmp_path / "other", seed=1)
    rows = [json.loads(line) for line in (bench / "train/questions.jsonl").read_text().splitlines()]
    (tmp_path / "mute.jsonl").write_text("".join(json.dumps({**row, "answers": row["answers"][at:]}) + "\n" for at, row in enumerate(rows[:2])))
    (tmp_path / "lost.jsonl").write_text("".join(json.dumps({**row, "supporting_ids": [*row["supporting_ids"], "nowhere"]}) + "\n" for row in rows))
    (tmp_path / "closed.jsonl").write_text("".join(json.dumps({**row, "meta": {"answerable": False}}) + "\n" for row in rows[:3]))
    return tmp_path


@pytest.mark.parametrize(
    ("settings", "name", "state", "words"),
    [
        ({"collect": {"questions": "{broken}/none.jsonl"}}, "training questions", "failed", "no such file"),
        ({"collect": {"questions": "{broken}/mute.jsonl"}}, "training questions", "warning", "1 without an answer"),
        ({"collect": {"questions": "{broken}/closed.jsonl"}}, "training questions", "warning", "cannot be answered from their passages"),
        ({"collect": {"index": "{broken}"}}, "index", "failed", "not an index"),
        ({"collect": {"index": "{bench}/test/index"}}, "index", "failed", "holds 0 of"),
        ({"collect": {"questions": "{broken}/lost.jsonl"}}, "index", "warning", "supporting passages"),
        ({"evaluate": {"index": "{bench}/train/index"}}, "their index", "failed", "another corpus"),
        ({"evaluate": {"questions": "{broken}/mute.jsonl"}}, "evaluation questions", "failed", "no answer"),
        ({"evaluate": {"metrics": "2wiki"}}, "evaluation questions", "warning", "aliases"),
        ({"evaluate": {"k": 7}}, "tables", "warning", "k = 2, and asked with 7"),
        ({"dataset": {"view": "single_step"}}, "tables", "warning", "strategy = single_step, and asked with ircot"),
        ({"evaluate": {"model": "symbolic"}}, "tables", "warning", "not the student"),
        ({"distill": {"base": "{broken}/other"}}, "tables", "failed", "another base"),
        ({"dataset": {"journal": ("elsewhere.jsonl",)}}, "tables", "warning", "does not read the journal"),
        ({"distill": {"dataset": "elsewhere"}}, "tables", "warning", "does not read the data set"),
        ({"collect": {"out": "{broken}/file/out"}}, "folders", "failed", "cannot write"),
        ({"dataset": {"base": "{broken}/base"}, "distill": {"base": "{broken}/base"}}, "student's base", "failed", "no weights"),
        ({"dataset": {"max_length": 9000}}, "lengths", "failed", "sees 8192 tokens"),
        ({"dataset": {"max_length": 300}}, "lengths", "failed", "no trajectory is usable"),
        ({"dataset": {"max_length": 700}}, "lengths", "failed", "too long and would be dropped"),
        ({"distill": {"batch": 3, "accumulate": 2}}, "training", "failed", "do not split"),
        ({"collect": {"teacher": "local:{broken}/none"}}, "teacher's template", "failed", "no such model folder"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_each_fault_is_told_at_its_check(bench: Path, broken: Path, settings: Settings, name: str, state: str, words: str) -> None:
    def placed(value: object) -> object:
        return value.format(bench=bench, broken=broken) if isinstance(value, str) else value

    found = looked(bench, {table: {key: placed(value) for key, value in keys.items()} for table, keys in settings.items()})
    told = [check for check in found.checks if check.name == name and check.state == state]
    assert any(words in check.what for check in told), found.checks
    assert all(check.where and check.fix for check in told if words in check.what)
    assert found.failed == (state == "failed")


def test_one_fault_is_told_once(bench: Path, tmp_path: Path) -> None:
    found = looked(bench, {"collect": {"index": str(tmp_path / "none")}})
    told = states(found)
    assert [check.name for check in found.checks if check.state == "failed"] == ["index"]
    assert told["lengths"] == told["disk"] == {"skipped"}
    assert told["their index"] == {"ok"}


def test_a_folder_of_another_run_is_told_before_the_teacher_is_paid(bench: Path, tmp_path: Path) -> None:
    for table, was in (("dataset", {"view": "vanilla"}), ("distill", {"learning_rate": 0.5})):
        recipe = read_recipe(bench / "recipe.toml", {table: {"out": tmp_path / table, **was}})
        claim(tmp_path / table, getattr(recipe, table))
        told = next(check for check in looked(bench, {table: {"out": str(tmp_path / table)}}).checks if check.name == "folders")
        assert told.state == "failed"
        assert f"has {next(iter(was))} = " in told.what


def test_questions_that_are_judged_by_are_not_taught(bench: Path) -> None:
    same = {"questions": str(bench / "train/questions.jsonl"), "index": str(bench / "train/index")}
    unguarded = looked(bench, {"evaluate": same})
    guarded = looked(bench, {"evaluate": same, "dataset": {"held_out": (same["questions"],)}})
    assert states(unguarded)["leakage"] == {"failed"}
    assert states(guarded)["leakage"] == {"warning"}
    assert "6 training questions are evaluation questions" in next(one.what for one in guarded.checks if one.name == "leakage")
    assert states(looked(bench, {"dataset": {"held_out": ()}}))["leakage"] == {"warning"}
    assert states(looked(bench, {"evaluate": {**same, "limit": 1}, "collect": {"limit": 1}}))["leakage"] == {"failed"}


def test_only_the_tables_there_are_are_checked(bench: Path, tmp_path: Path) -> None:
    text = (bench / "recipe.toml").read_text()
    (tmp_path / "recipe.toml").write_text(text[text.index("[evaluate]") :])
    assert set(states(looked(tmp_path))) == {"tables", "folders", "evaluation questions", "their index", "vLLM"}


def test_the_teacher_is_asked_last_and_only_if_nothing_failed(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    opens = machine.open_model
    monkeypatch.setattr(machine, "open_model", lambda spec, **given: asked.append(spec) or opens(spec, **given))
    assert looked(bench, calls=True).checks[-1].name == "teacher"
    assert asked == ["symbolic"]
    found = looked(bench, {"evaluate": {"index": str(bench / "train/index")}}, calls=True)
    assert (found.checks[-1].state, asked) == ("skipped", ["symbolic"])


def test_a_teacher_that_does_not_answer_fails_with_what_it_said(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(FakeListChatModel):
        def _call(self, *_given: object, **_more: object) -> str:
            raise PermissionError("the account is closed")

    monkeypatch.setattr(machine, "open_model", lambda *_spec, **_given: Closed(responses=[""]))
    last = looked(bench, calls=True).checks[-1]
    assert (last.name, last.state) == ("teacher", "failed")
    assert "the account is closed" in last.what


def test_a_symbolic_teacher_of_other_questions_is_told_by_the_rehearsal(bench: Path, tmp_path: Path) -> None:
    rows = [{"id": str(number), "question": f"What is {number}?", "answer": "x"} for number in range(3)]
    (tmp_path / "other.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = looked(bench, {"collect": {"questions": str(tmp_path / "other.jsonl")}}, calls=True)
    assert any("none of 3 rehearsed chains" in check.what and check.state == "failed" for check in found.checks)
    assert found.checks[-1].state == "skipped"


def test_a_provider_without_a_key_is_told_before_a_token_is_spent(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    found = looked(bench, {"collect": {"teacher": "openai:gpt-4o"}}, calls=True)
    last = found.checks[-1]
    assert (last.name, last.state) == ("teacher", "failed")
    assert "wants a key" in last.what
    assert "made of the gold passages" in next(one.what for one in found.checks if one.name == "lengths")


def test_vllm_that_does_not_load_is_told(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPER_VLLM_PYTHON", "/bin/false")
    found = looked(bench, {"evaluate": {"model": f"vllm:{bench}/base+{bench}/runs/distill/student"}})
    (check,) = (one for one in found.checks if one.name == "vLLM")
    assert (check.state, "does not load" in check.what) == ("failed", True)


@pytest.mark.parametrize(
    ("gpus", "room", "state", "words"),
    [
        (0, 0, "ok", "no GPU here"),
        (1, 10**6, "ok", "which one can hold"),
        (4, 2 * 10**5, "warning", "hold only together"),
        (1, 2 * 10**5, "failed", "cannot hold together"),
    ],
)  # fmt: skip
def test_gpus_are_asked_for_room_alone_and_together(
    bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int, room: int, state: str, words: str
) -> None:
    """The base has 30,720 parameters: 491,520 bytes of weights, gradients and optimizer."""
    answers: dict[str, object] = {"is_available": gpus > 0, "device_count": gpus, "mem_get_info": (room, room), "get_device_name": "a GPU"}
    for name, answer in answers.items():
        monkeypatch.setattr(f"torch.cuda.{name}", lambda *_, answer=answer: answer)
    opened = Opened(read_recipe(bench / "recipe.toml", {"distill": {"method": "full"}}), tmp_path)
    (found,) = machine.gpus(opened)
    assert (found.state, words in found.what) == (state, True)


def test_too_small_a_disk_is_told(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6 - 1000, 1000))
    assert states(looked(bench, {"distill": {"method": "full"}}))["disk"] == {"failed"}


def test_a_base_too_large_for_a_pass_here_is_said_so(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_memory", lambda: 1000.0)
    assert states(looked(bench))["training"] == {"warning"}


def test_a_rehearsal_takes_every_step_of_the_budget_and_comes_to_the_gold_answer(bench: Path, tmp_path: Path) -> None:
    questions, index = read_questions(bench / "train/questions.jsonl"), open_index(bench / "train/index")
    config = CollectConfig(index=bench / "train/index", out=tmp_path, teacher="openai:gpt-4o", strategy="tool_calling", k=2, steps=4)
    told = rehearse(config, questions, index, tmp_path)
    assert (told.asked, told.failed, told.strategy) == (len(questions), 0, "ircot")
    for made in trajectories(told.journal):
        assert (len(made.steps), made.answer) == (4, made.question.answers[0])
        gold = [passage.text for id in made.question.supporting_ids if (passage := index.find(id))]
        assert any(made.steps[0].rationale in text for text in gold)


def test_a_rehearsal_shows_the_worked_examples_and_asks_the_question(bench: Path, tmp_path: Path) -> None:
    questions, index = read_questions(bench / "train/questions.jsonl"), open_index(bench / "train/index")
    (tmp_path / "shown.jsonl").write_text(json.dumps({"question": "Who?", "steps": [{"rationale": "So the answer is: Ann."}], "answer": "Ann"}) + "\n")
    config = CollectConfig(index=bench / "train/index", out=tmp_path, teacher="openai:gpt-4o", exemplars=tmp_path / "shown.jsonl", k=2, steps=4)
    told = rehearse(config, questions, index, tmp_path)
    assert (told.asked, told.failed, told.right) == (len(questions), 0, len(questions))
