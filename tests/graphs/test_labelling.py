"""A teacher beside the run: the states are the student's, the labels the teacher's, and nothing is asked twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import PrivateAttr

from graphs.run import Context, answer_all
from graphs.teacher import Teacher
from steper_agent.journal import Journal, read, trajectories
from steper_agent.records import NodeRecord, Question, Trajectory
from tests.fakes import Script, shelf

SHELF = shelf("Emma", "Jane Austen", "Unrelated")
QUESTION = Question(id="q", text="When was the author of Emma born?", answers=("1775",))
WRONG = ("Emma is unrelated.", "So the answer is: 1812.")
BUDGET = ("Emma is unrelated.", "Who is Jane?", " 1812.")


class Wise(BaseChatModel):
    """Answers by what the reasoning so far says, so that equal states get equal replies; counts how often it is asked."""

    version: str = "wise"
    continues_final_message: bool = True
    fails: int = 0
    """How many of its first calls fail, in passing."""
    _asked: list[str] = PrivateAttr(default_factory=list)

    @property
    def asked(self) -> list[str]:
        return self._asked

    @property
    def _llm_type(self) -> str:
        return "wise"

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        del stop, run_manager, kwargs
        said = messages[-1].text if isinstance(messages[-1], AIMessage) else ""
        self._asked.append(said)
        if len(self._asked) <= self.fails:
            raise ConnectionError("gone for a moment")
        line = " 1775." if said.endswith("is:") else "Jane Austen wrote Emma." if not said else "She was born in 1775. So the answer is: 1775."
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content=line))])


def walk(folder: Path, student: BaseChatModel, teacher: Teacher | None, *, steps: int = 5) -> Trajectory:
    with Journal(folder / "j.jsonl") as journal:
        (made,) = answer_all([QUESTION], Context(student, SHELF, steps=steps, journal=journal, teacher=teacher))
    if made.stop == "error":
        return made
    return trajectories(folder / "j.jsonl")[-1]


def labels(folder: Path) -> list[NodeRecord]:
    return [line for line in read(folder / "j.jsonl") if isinstance(line, NodeRecord) and line.of]


def test_the_states_are_the_students_and_the_labels_the_teachers(tmp_path: Path) -> None:
    made = walk(tmp_path, Script(lines=WRONG), Teacher(Wise(), round=3))
    assert [step.rationale for step in made.steps] == list(WRONG)
    assert (made.answer, made.model) == ("1812", "script")
    assert [(one.of, one.step, one.answer, one.model, one.round) for one in made.labels] == [
        ("reason", 1, "", "wise", 3), ("reason", 2, "1775", "wise", 3)]
    asked = [line for line in read(tmp_path / "j.jsonl") if isinstance(line, NodeRecord) and line.node == "reason"]
    assert [line.input for line in labels(tmp_path)] == [line.input for line in asked]
    assert labels(tmp_path)[0].parameters == {"student": "script", "round": 3, "mix": 0.0}


def test_the_answer_is_a_state_where_the_graph_asks_for_it(tmp_path: Path) -> None:
    made = walk(tmp_path, Script(lines=BUDGET), Teacher(Wise()), steps=2)
    assert (made.stop, made.answer) == ("budget", "1812")
    assert [(one.of, one.step) for one in made.labels] == [("reason", 1), ("reason", 2), ("answer", 2)]
    assert made.labels[-1].answer == "1775"


@pytest.mark.parametrize("steps", [1, 5])
def test_a_run_that_is_mixed_wholly_is_the_teachers_and_asks_it_no_more_often(tmp_path: Path, steps: int) -> None:
    alone, mixed = Wise(), Wise()
    plain = walk(tmp_path / "plain", alone, None, steps=steps)
    made = walk(tmp_path / "mixed", Script(lines=()), Teacher(mixed, mix=1.0), steps=steps)
    assert (made.steps, made.answer, made.stop) == (plain.steps, plain.answer, plain.stop)
    assert sorted(mixed.asked) == sorted(alone.asked)
    assert all(one.taken for one in made.labels)
    assert [one.rationale for one in made.labels if one.of == "reason"] == [step.rationale for step in made.steps]


def test_a_student_that_is_the_teacher_is_labelled_with_its_own_chain(tmp_path: Path) -> None:
    made = walk(tmp_path, Wise(), Teacher(Wise()))
    assert [one.rationale for one in made.labels] == [step.rationale for step in made.steps]
    assert not any(one.taken for one in made.labels)


def test_a_teacher_that_cannot_continue_a_turn_is_shown_the_lines_in_its_own_prompt(tmp_path: Path) -> None:
    walk(tmp_path, Script(lines=WRONG), Teacher(Wise(continues_final_message=False)))
    assert "Your reasoning so far:\nEmma is unrelated." in labels(tmp_path)[1].input


def test_what_is_mixed_is_the_same_at_every_start_and_follows_the_probability() -> None:
    for mix in (0.0, 0.3, 1.0):
        taken = [Teacher(Wise(), mix=mix).takes(f"q{number}", step) for number in range(400) for step in range(1, 4)]
        assert taken == [Teacher(Wise(), mix=mix).takes(f"q{number}", step) for number in range(400) for step in range(1, 4)]
        assert abs(sum(taken) / len(taken) - mix) < 0.05
    some = [[Teacher(Wise(), mix=0.5, seed=seed).takes(f"q{number}", 1) for number in range(50)] for seed in (0, 1)]
    assert some[0] != some[1]


@pytest.mark.parametrize("mix", [0.0, 0.5])
def test_a_journal_cut_after_any_line_asks_for_nothing_that_is_in_it(tmp_path: Path, mix: float) -> None:
    def start(folder: Path) -> tuple[Trajectory, Wise, Wise]:
        student, teacher = Wise(version="student"), Wise()
        return walk(folder, student, Teacher(teacher, mix=mix, seed=1)), student, teacher

    whole, student, teacher = start(tmp_path / "whole")
    lines = (tmp_path / "whole" / "j.jsonl").read_bytes().splitlines(keepends=True)
    for kept in range(len(lines)):
        folder = tmp_path / str(kept)
        folder.mkdir()
        (folder / "j.jsonl").write_bytes(b"".join(lines[:kept]))
        known = [line for line in read(folder / "j.jsonl") if isinstance(line, NodeRecord)]
        made, again, asked = start(folder)
        assert made == whole
        assert len(asked.asked) == len(teacher.asked) - sum(line.node == "label" for line in known)
        assert len(again.asked) == len(student.asked) - sum(line.node == "reason" and line.model == "student" for line in known)


def test_a_label_that_failed_in_passing_is_asked_again_and_the_others_are_not(tmp_path: Path) -> None:
    teacher = Wise(fails=1)
    made = walk(tmp_path, Script(lines=WRONG), Teacher(teacher))
    assert len(made.labels) == 2
    assert len(teacher.asked) == 3


def test_a_run_whose_labels_fail_is_not_closed_and_is_labelled_next_time(tmp_path: Path) -> None:
    assert walk(tmp_path, Script(lines=WRONG), Teacher(Wise(fails=100))).stop == "error"
    again = walk(tmp_path, Script(lines=()), Teacher(Wise()))
    assert (again.answer, len(again.labels)) == ("1812", 2)
