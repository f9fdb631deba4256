"""Several models answer one question side by side, and what sets them apart is marked by signs and words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.content import Content
from textual.pilot import Pilot
from textual.widgets import Input, Static

from steper_agent.errors import ModelError
from steper_agent.records import Exchange, Hit, Passage, Question, Step, Trajectory, Usage
from tests.tui.app.exchanges import exchange
from tests.tui.app.hostile import FORBIDDEN, HOSTILE
from tests.tui.app.test_chat import soon, text_of, write
from tui.app.compare import AnswerCell, ComparePane, answer_cell, best, compared, costs, step_cell
from tui.app.desk import Choice, Desk
from tui.app.messages import Asked, Ended, Found, Happening, Reasoned

SIZES = [(80, 24), (140, 45)]


def hit(name: str) -> Hit:
    return Hit(passage=Passage(id=name, title=name.title(), text=f"Text of {name}."), score=1.0)


def step(query: str = "who wrote Emma", rationale: str = "Austen wrote Emma.", hits: tuple[str, ...] = ("emma",)) -> Step:
    return Step(query=query, hits=tuple(map(hit, hits)), rationale=rationale)


def chain(*steps: Step, **more: Any) -> Exchange:
    """An exchange of these steps."""
    one = exchange(steps=0, **more)
    return one.model_copy(update={"trajectory": one.trajectory.model_copy(update={"steps": steps})})


def underlined(content: Content) -> list[str]:
    return [content.plain[span.start : span.end] for span in content.spans if "underline" in str(span.style)]


class Several(Desk):
    """Every model answers with its own name; `broken` does not, `endless` and `mute` never come to an end."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, str]] = []

    async def ask(self, asked: str, history: Sequence[Exchange], choice: Choice) -> AsyncGenerator[Happening]:
        del history
        self.asked.append((choice.model, asked))
        if choice.model == "broken":
            raise ModelError("no such model", where=choice.model, fix="name another")
        for number in range(1, 2 if choice.model == "quick" else 3):
            yield Asked(number, f"query {number} of {choice.model}")
            yield Found(number, (hit("emma"),) if number == 1 else ())
            if choice.model == "mute":
                await asyncio.Event().wait()
            yield Reasoned(number, f"line {number} of {choice.model}", "ok")
            if choice.model == "endless":
                await asyncio.Event().wait()
        answer = "Austen" if choice.model != "wrong" else "Brontë"
        served = "student@1" if choice.model == "swapped" else choice.model
        trajectory = Trajectory(question=Question(id="q", text=asked), strategy="ircot", steps=(), answer=answer, stop="answered",
                                model=served, recipe="")  # fmt: skip
        yield Ended(trajectory, (), True)


class Host(App[None]):
    def __init__(self, *models: str) -> None:
        super().__init__()
        self.models, self.desk = models, Several()
        self.compared: list[list[Exchange]] = []

    def compose(self) -> ComposeResult:
        yield ComparePane(self.desk, Choice(), self.models)

    def on_compare_pane_compared(self, compared: ComparePane.Compared) -> None:
        self.compared.append(compared.exchanges)

    @property
    def pane(self) -> ComparePane:
        return self.query_one(ComparePane)

    @property
    def rows(self) -> dict[str, list[str]]:
        """What the cells of each row say, by its name, from the top down."""
        cells = [[text_of(cell) for cell in row.query(Static)] for row in self.query(".row")]
        return {row[0].partition("\n")[0]: [cell.partition("\n")[2] for cell in row] for row in cells}


async def answered(pilot: Pilot[None], times: int = 1) -> None:
    app = pilot.app
    assert isinstance(app, Host)
    await soon(pilot, lambda: len(app.compared) == times)
    await pilot.pause()


async def test_steps_stand_beside_steps_and_answers_that_differ_say_so() -> None:
    app = Host("slow", "quick", "wrong")
    async with app.run_test(size=(140, 45)) as pilot:
        await write(pilot, "Who wrote Emma?")
        await answered(pilot)
        assert [exchange.trajectory.answer for exchange in app.compared[0]] == ["Austen", "Austen", "Brontë"]
        rows = app.rows
        assert list(rows) == ["model", "step 1", "step 2", "answer"]
        assert [f"line 1 of {model}" in cell for model, cell in zip(app.models, rows["step 1"], strict=True)] == [True] * 3
        assert [f"line 2 of {model}" in cell for model, cell in zip(app.models, rows["step 2"], strict=True)] == [True, False, True]
        assert rows["step 2"][1] == "(no step 2)"
        assert ["differs from the first" in cell for cell in rows["answer"]] == [False, False, True]


@pytest.mark.parametrize("size", SIZES)
async def test_what_one_column_alone_has_is_marked(size: tuple[int, int]) -> None:
    app = Host()
    first = chain(step(hits=("emma", "clueless")), model="a")
    other = chain(step(hits=("emma", "persuasion")), step(), model="b")
    async with app.run_test(size=size):
        await app.pane.show("Who?", [first, other])
        rows = app.rows
        assert [cell.splitlines()[1:3] for cell in rows["step 1"]] == [["= · Emma", "+ · Clueless"], ["= · Emma", "+ · Persuasion"]]
        assert rows["step 2"][0] == "(no step 2)"
        assert [line[0] for line in rows["step 2"][1].splitlines()] == ["+", "+", "+"]


def test_words_that_the_first_column_does_not_say_are_set_off() -> None:
    cell = step_cell(step(rationale="Jane Austen wrote Emma in 1815."), step(rationale="Austen wrote Emma in 1816."), {"emma"})
    assert [line[0] for line in cell.plain.splitlines()] == ["=", "=", "≠"]
    assert underlined(cell) == ["Jane", "1815"]


@pytest.mark.parametrize(("said", "wanted", "sign"), [
    ("Austen", "Austen", "="), (" austen  x", "Austen x", "="), ("Austen", "Brontë", "≠"), ("Austen", "", "+"), ("", "Austen", "≠"),
    ("", "", "="), ("Austen", None, " ")])  # fmt: skip
def test_the_sign_says_how_a_text_stands_to_the_first_column_s(said: str, wanted: str | None, sign: str) -> None:
    assert compared(said, wanted, 100)[0] == sign


def test_without_anything_beside_it_nothing_is_marked() -> None:
    cell = step_cell(step(), None, None)
    assert {line[0] for line in cell.plain.splitlines()} == {" "}
    assert not underlined(cell)


def test_the_best_is_told_in_a_word_once_all_are_over_and_who_failed_does_not_compete() -> None:
    slow, quick = exchange(seconds=3.0, usage=Usage(prompt_tokens=10, completion_tokens=1)), exchange(seconds=1.0)
    failed = exchange(seconds=0.1, usage=None, note="refused")
    told = costs([slow, quick, failed])
    assert ["fastest" in cost for cost in told] == [False, True, False]
    assert ["fewest tokens" in cost for cost in told] == [True, False, False]
    assert "tokens not counted" in told[2]
    assert not any("fastest" in cost for cost in costs([slow, quick, None]))


def test_where_nobody_is_worse_nobody_is_best() -> None:
    assert best([1.0, 1.0]) == best([2.0]) == best([None, None]) == best([]) == frozenset()
    assert best([2.0, 1.0, None, 1.0]) == {1, 3}


async def test_a_model_that_fails_says_why_in_its_column_and_an_empty_column_is_left_out() -> None:
    app = Host("quick", "broken", "")
    async with app.run_test(size=(80, 24)) as pilot:
        await write(pilot, "Who?")
        await answered(pilot)
        assert [exchange.note.partition("\n")[0] for exchange in app.compared[0]] == ["", "no such model"]
        assert "no such model" in app.rows["answer"][1]


async def test_without_a_model_nothing_is_asked() -> None:
    app = Host()
    async with app.run_test(size=(80, 24)) as pilot:
        await write(pilot, "Who?")
        await pilot.pause()
        assert not app.compared
        app.query_one("#base", Input).value = "quick"
        await write(pilot, "Who?")
        await answered(pilot)
        assert not app.query("#signs"), "one column has nothing to be held against"


async def test_a_column_gets_another_model_and_the_question_is_asked_again() -> None:
    app = Host("quick", "wrong")
    async with app.run_test(size=(80, 24)) as pilot:
        await write(pilot, "Who?")
        await answered(pilot)
        app.query_one("#base", Input).focus().value = "slow"
        await pilot.press("enter")
        await answered(pilot, times=2)
        assert app.desk.asked[2:] == [("quick", "Who?"), ("slow", "Who?")]
        assert app.rows["model"][1].startswith("slow")


async def test_who_really_answered_is_told_where_another_sits_in_the_seat_of_the_named_model() -> None:
    app = Host("swapped", "quick")
    async with app.run_test(size=(80, 24)) as pilot:
        await write(pilot, "Who?")
        await answered(pilot)
        assert ["served by student@1" in cell for cell in app.rows["model"]] == [True, False]


async def test_escape_stops_all_columns_and_what_came_stays() -> None:
    app = Host("quick", "endless")
    async with app.run_test(size=(80, 24)) as pilot:
        await write(pilot, "Who?")
        await soon(pilot, lambda: "line 1 of endless" in "".join(app.rows.get("step 1", [])) and "answer" in app.rows)
        await pilot.press("escape")
        await soon(pilot, lambda: app.rows["model"][1].endswith("stopped"))
        assert "line 1 of endless" in app.rows["step 1"][1]
        assert not app.compared


async def test_what_is_not_said_yet_is_no_difference() -> None:
    app = Host("mute", "quick")
    async with app.run_test(size=(80, 24)) as pilot:
        await write(pilot, "Who?")
        await soon(pilot, lambda: "answer" in app.rows and "query 1 of mute" in app.rows["step 1"][0])
        await pilot.pause()
        assert {line[0] for cell in app.rows["step 1"] for line in cell.splitlines()} == {" "}


async def test_an_answer_is_copied() -> None:
    app = Host("quick", "wrong")
    async with app.run_test(size=(140, 45)) as pilot:
        await write(pilot, "Who?")
        await answered(pilot)
        await pilot.click(app.query(AnswerCell).last())
        await pilot.press("c")
        assert app.clipboard == "Brontë"
        app.query(AnswerCell).first().focus()
        await pilot.press("c")
        assert app.clipboard == "Austen"


TEXTS = [text.encode(errors="replace").decode() for text in HOSTILE]
"""A record holds no half a character."""


def of(text: str) -> Step:
    return Step(query=text, rationale=text, hits=(Hit(passage=Passage(id=text, title=text, text=text), score=1.0),))


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_hostile_text_is_inert_in_every_cell(text: str) -> None:
    said = chain(answer=text, model=text, note=text)
    for cell in (step_cell(of(text), step(), {text}), step_cell(step(), of(text), set()), step_cell(of(text), None, None),
                 answer_cell(said, exchange()), answer_cell(exchange(), said)):  # fmt: skip
        assert not FORBIDDEN & set(cell.plain)
        assert len(cell.plain) < 3_000


async def test_hostile_columns_are_drawn_and_the_app_lives_on() -> None:
    app = Host()
    async with app.run_test(size=(80, 24)) as pilot:
        some = TEXTS[::3]
        await app.pane.show(some[0], [chain(*map(of, texts), answer=texts[0], model=texts[0], note=texts[0]) for texts in (some, some[::-1])])
        await pilot.pause()
        assert not any(FORBIDDEN & set(text_of(cell)) for cell in app.query(Static))
