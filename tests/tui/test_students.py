"""`steper students`: what each verb does, prints and refuses, as a person meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from graphs.run import Context, answer_all
from steper_agent.models.local import LocalChatModel
from steper_agent.records import Question, StudentCard
from steper_agent.retrieval import build_index, open_index
from steper_agent.students.registry import Registry
from steper_agent.students.student import save_student
from tests.steper_agent.retrieval.shelves import PASSAGES, write_lines
from tests.steper_agent.students.registries import make_students, name_of, of_other_base, reweighed
from tests.tiny import tiny_adapter, tiny_base
from tui.cli import main

Capture = pytest.CaptureFixture[str]


class World(NamedTuple):
    base: Path
    students: list[Path]
    cards: list[StudentCard]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Three students whose cards say something."""
    base, students = make_students(tmp_path_factory.mktemp("students"), 3)
    cards = []
    for number, student in enumerate(students):
        card = StudentCard.model_validate_json((student / "student.json").read_text()).model_copy(update={
            "sigma": {"initialization": 0.8, "expansion": 0.4, "aggregation": 0.2}, "data": f"{number}" * 64,
            "scores": {"em": 0.5 + number / 10}, "created_by": "python -m training.distill [bold]--out x[/bold]",
        })  # fmt: skip
        cards.append(save_student(student, card))
    return World(base, students, cards)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEPER_REGISTRY", str(tmp_path / "registry"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "registry"


def steper(capsys: Capture, *argv: object, lines: bool = False) -> str:
    """What a command that ends well prints, on one line unless its lines matter."""
    code = main(["students", *map(str, argv)])
    said = capsys.readouterr()
    assert (code, said.err) == (0, "")
    return said.out if lines else " ".join(said.out.split())


def refused(capsys: Capture, *argv: object) -> str:
    assert main(["students", *map(str, argv)]) == 2
    said = capsys.readouterr().err
    assert "\n  where: " in said
    assert "\n  fix:   " in said
    return said


def test_a_student_s_life_from_its_folder_to_going_live_and_back(world: World, capsys: Capture) -> None:
    a, b, c = (card.name for card in world.cards)
    assert "no students in" in steper(capsys, "list")
    assert f"added {a}, fits {world.base}" in steper(capsys, "add", world.students[0], "--base", world.base)
    assert "nothing changed" in steper(capsys, "add", world.students[0])
    steper(capsys, "add", world.students[1])
    steper(capsys, "add", world.students[2])
    assert f"{a} is live now; before: none" in steper(capsys, "promote", a[8:14], "--base", world.base, "--reason", "the first")
    assert steper(capsys, "promote", b) == f"base {world.cards[0].base[:12]}: {b} is live now; before: {a}"
    assert f"{b} was live already" in steper(capsys, "promote", b)
    assert f"{a} is live now; before: {b}" in steper(capsys, "rollback", "--reason", "worse")
    assert f"no student is live now, it serves alone; before: {a}" in steper(capsys, "rollback")
    assert f"would delete {a} would delete {b}" in steper(capsys, "prune", "--keep", "0", "--dry-run")
    assert steper(capsys, "prune", "--keep", "1") == f"deleted {b}"
    assert steper(capsys, "prune") == "nothing to delete"
    assert steper(capsys, "prune", "--keep", "0", "--candidates") == f"deleted {a} deleted {c}"
    told = steper(capsys, "history")
    assert told.index("added") < told.index("promoted") < told.index("rolled back") < told.index("pruned")
    assert "the first" in told


def test_list_shows_state_data_and_em_a_line_each_and_takes_text_literally(
    world: World, capsys: Capture, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for student in world.students:
        steper(capsys, "add", student)
    steper(capsys, "promote", world.cards[1].name)
    shown = steper(capsys, "list")
    assert "candidate" in shown
    assert f"{world.cards[1].name} live {world.cards[1].base[:8]} 11111111 0.600" in shown
    assert "[bold]--out x[/bold]" in shown
    monkeypatch.setenv("COLUMNS", "80")
    assert len(steper(capsys, "list", lines=True).splitlines()) == 4
    rows = json.loads(steper(capsys, "list", "--json"))
    assert [(row["name"], row["em"]) for row in rows] == [(card.name, card.scores["em"]) for card in world.cards]
    (Registry(place).path_of(world.cards[0].name) / "student.json").unlink()
    assert "(no stu…" in steper(capsys, "list")


def test_show_gives_card_sigma_and_history(world: World, capsys: Capture) -> None:
    card = world.cards[0]
    steper(capsys, "add", world.students[0], "--reason", "a try")
    shown = steper(capsys, "show", card.name)
    for words in (card.content, card.data, "em 0.500", "candidate", "a try", f"σ initialization {'█' * 24} 0.800", f"{'█' * 6} 0.200"):
        assert words in shown
    told = json.loads(steper(capsys, "show", card.name[:12], "--json"))
    assert StudentCard.model_validate(told["card"]) == card
    assert [event["action"] for event in told["history"]] == ["added"]


def test_diff_says_what_cards_and_weights_differ_in(world: World, capsys: Capture, tmp_path: Path) -> None:
    a, b, _ = (card.name for card in world.cards)
    other = of_other_base(world.students[0], tmp_path / "other")
    for student in (*world.students[:2], other):
        steper(capsys, "add", student)
    shown = steper(capsys, "diff", a, b)
    assert "data 000000000000 111111111111 scores em 0.500 em 0.600" in shown
    assert f"model.layers.0.mlp.down_proj 100.0% {'█' * 24}" in shown
    assert "the cards say the same" in steper(capsys, "diff", a, a)
    other_name = next(row["name"] for row in json.loads(steper(capsys, "list", "--json")) if row["base"] == "f" * 64)
    assert "of one base" in steper(capsys, "diff", a, other_name)


def test_parity_prints_what_was_compared_and_the_first_divergence(
    world: World, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training import parity
    from training.parity import Comparison, Report

    same = Comparison(name="ids: trainer and graph, ircot", prompts=18, tokens=17494)
    other = Comparison(name="words: PEFT in process and merged", prompts=2, tokens=32, drift=0.000123, ties=1)
    asked: list[object] = []

    def compared(base: Path, student: Path, *, dtype: str, served: object) -> Report:
        asked.append((base, student, dtype, served))
        return Report(base="b" * 64, student="student@0", dtype=dtype, left_out=0, comparisons=(same, other))

    monkeypatch.setattr(parity, "parity", compared)
    steper(capsys, "add", world.students[0])
    file = tmp_path / "report.json"
    told = steper(capsys, "parity", world.cards[0].name[8:14], "--base", world.base, "--json", file)
    assert "ircot 18 17494 – – agree" in told
    assert "merged 2 32 0.00012 nats 1 agree" in told
    assert "0.3 nats and 5% of itself" in told
    assert "--serve" in told
    assert told.endswith("all agree")
    assert [one["tokens"] for one in json.loads(file.read_text())["comparisons"]] == [17494, 32]
    other = other.model_copy(update={"divergence": "in [bold]ircot[/bold], at token 3"})
    assert main(["students", "parity", str(world.students[1]), "--base", str(world.base)]) == 1
    told = capsys.readouterr().out
    assert "DIFFER" in told
    assert "first divergence – words: PEFT in process and merged: in [bold]ircot[/bold], at token 3" in told
    registry = Registry(tmp_path / "registry")
    assert asked == [(world.base, registry.path_of(world.cards[0].name), "float32", {}), (world.base, world.students[1], "float32", {})]


def test_a_gate_lets_pass_who_answers_as_well_as_the_live_one_and_stops_who_answers_worse(
    tmp_path: Path, place: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tmp_path / "index"
    build_index([write_lines(tmp_path / "passages.jsonl", PASSAGES)], index)
    base = tiny_base(tmp_path / "base", window=2048)
    other = tiny_adapter(base, tmp_path / "other")
    same = reweighed(other, tmp_path / "same", 0.0)
    right = LocalChatModel(path=str(base), max_tokens=8)
    questions = [Question(id=one["id"], text=f"Who or what is {one['title']}?") for one in PASSAGES[:2]]
    said = answer_all(questions, Context(model=right, retriever=open_index(index), k=1, steps=1))
    right.engine.close()
    # The base says nothing sensible, but it says it every time: by these answers it is always right.
    file = write_lines(tmp_path / "dev.jsonl", [{"id": one.question.id, "question": one.question.text, "answers": [one.answer]} for one in said])
    gate = ("--gate", file, "--base", base, "--index", index, "-k", 1, "--steps", 1, "--max-tokens", 8)
    registry = Registry(place)
    for student in (same, other):
        registry.add(student)

    def stopped(student: Path, *flags: object) -> str:
        before = registry.history.read()
        told = refused(capsys, "promote", name_of(student), *gate, *flags)
        assert registry.history.read() == before, "nothing happened"
        return told

    def passed(student: Path, *flags: object) -> str:
        assert main(["students", "promote", *map(str, (name_of(student), *gate, *flags))]) == 0
        assert registry.live(registry.card(name_of(student)).base) == name_of(student)
        return " ".join(capsys.readouterr().out.split())

    with_no_answer = write_lines(tmp_path / "bare.jsonl", [{"id": "1", "question": "Who?"}])
    loaded = list[object]()
    with monkeypatch.context() as patch:
        patch.setattr(LocalChatModel, "with_student", lambda *given, **_: loaded.append(given))
        for flags in (("--gate", with_no_answer), ("--index", tmp_path / "nowhere")):
            stopped(same, *flags)
    assert not loaded, "nobody is loaded before all that is asked for is there"
    assert "falls short by 1.0 points" in stopped(same, "--min-delta", "1")
    assert "EM 100.0 → 100.0 on 2 questions: +0.0 points" in passed(same, "--min-delta", "0")
    assert "falls short by 99.0 points" in stopped(other)
    assert f"beside {name_of(same)}: EM 100.0 → 0.0" in passed(other, "--min-delta", "-100")
    assert "EM 0.0 → 100.0" in passed(same, "--min-delta", "100")
    scores = [event.scores for event in registry.history.read() if event.action == "promoted"]
    assert scores == [{"em": em, "gate_delta": delta} for em, delta in ((1.0, 0.0), (0.0, -100.0), (1.0, 100.0))]


def test_what_is_wrong_is_told_with_its_cure(world: World, capsys: Capture, tmp_path: Path, place: Path) -> None:
    assert "no such student folder" in refused(capsys, "add", tmp_path / "none")
    assert "no students here" in refused(capsys, "rollback")
    steper(capsys, "add", world.students[0])
    for name in ("../registry", "/etc", "student@"):
        assert "not a student's name" in refused(capsys, "show", name)
    assert "there is no student" in refused(capsys, "promote", "0000")
    assert "needs a base and an index" in refused(capsys, "promote", world.cards[0].name, "--gate", tmp_path / "dev.jsonl")
    assert "nothing to go back from" in refused(capsys, "rollback")
    other = of_other_base(world.students[0], tmp_path / "other")
    assert "another base" in refused(capsys, "add", other, "--base", world.base)
    steper(capsys, "add", other)
    assert "several bases" in refused(capsys, "rollback")
    weights = Registry(place).path_of(world.cards[0].name) / "adapter_model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1])
    for verb in ("verify", "promote"):
        assert "content is" in refused(capsys, verb, world.cards[0].name)
    (place / "history.jsonl").write_text("{}\n")
    assert "history.jsonl:1" in refused(capsys, "list")


def test_the_registry_is_the_flag_s_then_the_environment_s(world: World, capsys: Capture, tmp_path: Path) -> None:
    steper(capsys, "add", world.students[0], "--registry", tmp_path / "mine")
    assert world.cards[0].name in steper(capsys, "list", "--registry", tmp_path / "mine")
    assert str(tmp_path / "registry") in steper(capsys, "list")


@pytest.mark.parametrize(("argv", "words"), [
    ("students", ("promote 3f9a", "rollback", "STEPER_REGISTRY", "runs/registry", "first digits")),
    ("students add", ("copy it in", "--base DIR", "training.distill")),
    ("students promote", ("on its base", "--reason")),
    ("students rollback", ("one further back", "--base-fingerprint")),
    ("students prune", ("running process", "--dry-run", "default: 3")),
    ("students diff", ("largest first",)),
    ("students parity", ("--base DIR", "--serve", "code 1", "--json FILE")),
])  # fmt: skip
def test_help_teaches(argv: str, words: tuple[str, ...], capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main([*argv.split(), "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert [each for each in words if each not in shown] == []


def test_looking_loads_no_torch(place: Path) -> None:
    code = "import sys; from tui.cli import main; main(['students', 'list']); print({'torch', 'langgraph', 'textual', 'langchain_core'} & {*sys.modules})"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert f"no students in {place}" in told
    assert told.endswith("set()\n")
