"""Several models answer one question side by side."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from textual.app import App, ComposeResult
from textual.widgets import Input, Static

from steper_agent.errors import ModelError
from steper_agent.records import Exchange, Hit, Passage, Question, Trajectory
from tests.tui.app.test_chat import soon, text_of, write
from tui.app.compare import ComparePane
from tui.app.desk import Choice, Desk
from tui.app.messages import Asked, Ended, Found, Happening, Reasoned

HIT = Hit(passage=Passage(id="p", title="Emma", text="Austen wrote Emma."), score=1.0)


class Several(Desk):
    """Every model answers with its own name; `broken` does not."""

    async def ask(self, asked: str, history: Sequence[Exchange], choice: Choice) -> AsyncGenerator[Happening]:
        del history
        if choice.model == "broken":
            raise ModelError("no such model", where=choice.model, fix="name another")
        steps = 1 if choice.model == "quick" else 2
        for step in range(1, steps + 1):
            yield Asked(step, f"query {step} of {choice.model}")
            yield Found(step, (HIT,) if step == 1 else ())
            yield Reasoned(step, f"line {step} of {choice.model}", "ok")
        answer = "Austen" if choice.model != "wrong" else "Brontë"
        trajectory = Trajectory(question=Question(id="q", text=asked), strategy="ircot", steps=(), answer=answer, stop="answered",
                                model=choice.model, recipe="")
        yield Ended(trajectory, (), True)


class Host(App[None]):
    def __init__(self, *models: str) -> None:
        super().__init__()
        self.models = models
        self.compared: list[list[Exchange]] = []

    def compose(self) -> ComposeResult:
        yield ComparePane(Several(), Choice(), self.models)

    def on_compare_pane_compared(self, compared: ComparePane.Compared) -> None:
        self.compared.append(compared.exchanges)


def row(app: Host, number: int) -> list[str]:
    return [text_of(cell) for cell in list(app.query(".row"))[number].query(Static)]


async def test_steps_stand_beside_steps_and_answers_that_differ_say_so() -> None:
    app = Host("slow", "quick", "wrong")
    async with app.run_test(size=(140, 45)) as pilot:
        await write(pilot, "Who wrote Emma?")
        await soon(pilot, lambda: bool(app.compared))
        await pilot.pause()
        assert [exchange.trajectory.answer for exchange in app.compared[0]] == ["Austen", "Austen", "Brontë"]
        rows = [row(app, number) for number in range(len(app.query(".row")))]
        named = {cells[0].partition("\n")[0]: cells for cells in rows}
        assert set(named) == {"model", "step 1", "step 2", "answer"}
        assert [f"line 1 of {model}" in cell for model, cell in zip(app.models, named["step 1"], strict=True)] == [True] * 3
        assert [f"line 2 of {model}" in cell for model, cell in zip(app.models, named["step 2"], strict=True)] == [True, False, True]
        assert ["differs from the first" in cell for cell in named["answer"]] == [False, False, True]


async def test_a_model_that_fails_says_why_in_its_column_and_an_empty_column_is_left_out() -> None:
    app = Host("quick", "broken", "")
    async with app.run_test(size=(80, 24)) as pilot:
        await write(pilot, "Who?")
        await soon(pilot, lambda: bool(app.compared))
        await pilot.pause()
        assert [exchange.note.partition("\n")[0] for exchange in app.compared[0]] == ["", "no such model"]
        assert "no such model" in row(app, len(app.query(".row")) - 1)[1]


async def test_without_a_model_nothing_is_asked() -> None:
    app = Host()
    async with app.run_test(size=(80, 24)) as pilot:
        await write(pilot, "Who?")
        await pilot.pause()
        assert not app.compared
        app.query_one("#base", Input).value = "quick"
        await write(pilot, "Who?")
        await soon(pilot, lambda: bool(app.compared))
