"""How a question is answered is chosen in a form, for good or for one question that is asked again."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import pytest
from textual import events
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Button, Input, Select, Static

from steper_agent.records import Exchange
from tests.tui.app.exchanges import exchange
from tests.tui.app.hostile import FORBIDDEN, HOSTILE
from tests.tui.app.test_chat import Host, Scripted, soon, text_of, write
from tui.app.chain import ExchangeView
from tui.app.chat import ChatPane
from tui.app.choosing import FIELDS, ChoiceScreen
from tui.app.conversations import as_markdown
from tui.app.desk import Choice
from tui.app.messages import Asked, Found, Happening, Reasoned
from tui.arguments import STRATEGIES

SIZES = [(80, 24), (140, 45)]
THEN = Choice(model="local:then", strategy="self_ask", k=3, steps=2, max_tokens=64)


class Form(App[None]):
    def __init__(self, screen: ChoiceScreen) -> None:
        super().__init__()
        self.form = screen
        self.chosen: list[Choice | None] = []

    def on_mount(self) -> None:
        self.push_screen(self.form, self.chosen.append)


class Noting(Scripted):
    """Notes how each question was to be answered."""

    def __init__(self, *told: Happening | Exception, wait: bool = False) -> None:
        super().__init__(*told, wait=wait)
        self.choices: list[Choice] = []

    async def ask(self, asked: str, history: Sequence[Exchange], choice: Choice) -> AsyncGenerator[Happening]:
        self.choices.append(choice)
        async for one in super().ask(asked, history, choice):
            yield one


def field(app: App[None], name: str) -> Input:
    return app.screen.query_one(f"#{name}", Input)


@pytest.mark.parametrize("size", SIZES)
async def test_the_form_shows_the_whole_choice_and_gives_it_back(size: tuple[int, int]) -> None:
    app = Form(ChoiceScreen(THEN))
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        for one in app.screen.query("Input, Select, Button"):
            assert app.screen.region.contains_region(one.region), f"{one} is on the screen"
            assert one.region.height
        await pilot.press("enter")
        await pilot.pause()
        assert app.chosen == [THEN]


async def test_every_field_can_be_changed_and_escape_changes_none() -> None:
    for leave in (True, False):
        app = Form(ChoiceScreen(THEN))
        async with app.run_test() as pilot:
            await pilot.pause()
            for name, value in {"model": "symbolic", "k": "9", "steps": "7", "max_tokens": "5"}.items():
                field(app, name).value = value
            app.screen.query_one("#strategy", Select).value = "direct"
            await pilot.press("escape" if leave else "enter")
            await pilot.pause()
            assert app.chosen == [None if leave else Choice(model="symbolic", strategy="direct", k=9, steps=7, max_tokens=5)]


@pytest.mark.parametrize(("name", "value"), [("k", "0"), ("k", "many"), ("steps", "-1"), ("max_tokens", ""), ("index", "/no/such/[b]folder")])
async def test_a_choice_that_cannot_be_is_told_and_stays(name: str, value: str) -> None:
    app = Form(ChoiceScreen(THEN))
    async with app.run_test() as pilot:
        await pilot.pause()
        field(app, name).value = value
        await pilot.press("enter")
        await pilot.pause()
        assert text_of(app.screen.query_one("#fault", Static)).startswith(f"✗ {name}: ")
        assert not app.chosen


async def test_a_strategy_of_one_s_own_is_kept() -> None:
    own = Choice(strategy="my_own")
    app = Form(ChoiceScreen(own))
    async with app.run_test() as pilot:
        await pilot.pause()
        await pilot.press("enter")
        await pilot.pause()
        assert app.chosen == [own]
    assert "my_own" not in STRATEGIES


async def test_what_is_pasted_into_the_form_and_the_question_above_it_are_text() -> None:
    app = Form(ChoiceScreen(THEN))
    async with app.run_test() as pilot:
        await pilot.pause()
        for name in FIELDS:
            field(app, name).focus()
            field(app, name).clear()
            app.post_message(events.Paste("7\x1b[2J\u202e\r\n\x07"))
            await pilot.pause()
            assert field(app, name).value.strip() == "7"
    for text in HOSTILE[::25]:
        app = Form(ChoiceScreen(THEN, again=text))
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            drawn = "".join(segment.text for strip in app.screen._compositor.render_strips() for segment in strip)
            assert "Ask again" in drawn
            assert not FORBIDDEN & set(drawn)


async def answered(pilot: Pilot[None], app: Host, asked: str) -> ExchangeView:
    count = len(app.answered)
    await write(pilot, asked)
    await soon(pilot, lambda: len(app.answered) > count)
    await pilot.pause()
    view = app.query(ExchangeView).last()
    view.focus()
    return view


async def test_again_is_as_it_was_asked_whatever_was_chosen_since() -> None:
    desk = Noting(Asked(1, "q"), Found(1, ()), Reasoned(1, "So.", "ok"))
    app = Host(desk, THEN)
    async with app.run_test() as pilot:
        view = await answered(pilot, app, "Who?")
        app.query_one(ChatPane).choose(Choice(k=9))
        view.focus()
        await pilot.press("a")
        await soon(pilot, lambda: len(app.answered) == 2)
        assert desk.asked == ["Who?", "Who?"]
        assert desk.choices == [THEN, THEN]
        await answered(pilot, app, "And?")
        assert desk.choices[-1] == Choice(k=9)


async def test_again_with_another_model_is_for_that_question_alone() -> None:
    desk = Noting(Asked(1, "q"), Found(1, ()), Reasoned(1, "So.", "ok"))
    app = Host(desk, THEN)
    async with app.run_test(size=(80, 24)) as pilot:
        await answered(pilot, app, "Who?")
        app.query_one(ChatPane).choose(Choice(k=9))
        await pilot.press("m")
        await soon(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        assert field(app, "model").value == THEN.model
        assert field(app, "k").value == "3"
        assert str(app.screen.query_one("#use", Button).label) == "Ask"
        field(app, "model").value = "local:other"
        field(app, "steps").value = "8"
        field(app, "steps").focus()
        await pilot.press("enter")
        await soon(pilot, lambda: len(app.answered) == 2)
        assert desk.choices[-1] == THEN.model_copy(update={"model": "local:other", "steps": 8})
        assert app.query_one(ChatPane).choice == Choice(k=9)
        await answered(pilot, app, "And?")
        assert desk.choices[-1] == Choice(k=9)


async def test_again_with_nothing_else_after_all_asks_nothing() -> None:
    desk = Noting(Asked(1, "q"), Reasoned(1, "So.", "ok"))
    app = Host(desk)
    async with app.run_test() as pilot:
        await answered(pilot, app, "Who?")
        await pilot.press("m")
        await soon(pilot, lambda: isinstance(app.screen, ChoiceScreen))
        await pilot.press("escape")
        await pilot.pause()
        assert desk.asked == ["Who?"]


async def test_of_another_day_s_exchange_the_strategy_is_known_and_the_rest_is_as_now() -> None:
    desk = Noting()
    app = Host(desk, THEN)
    async with app.run_test() as pilot:
        await app.query_one(ChatPane).restart([exchange("Who?", strategy="tool_calling")])
        app.query_one(ExchangeView).focus()
        await pilot.press("a")
        await soon(pilot, lambda: bool(desk.choices))
        assert desk.choices == [THEN.model_copy(update={"strategy": "tool_calling"})]


async def test_what_is_still_being_answered_is_not_asked_again() -> None:
    desk = Noting(Asked(1, "q"), wait=True)
    app = Host(desk)
    async with app.run_test() as pilot:
        await write(pilot, "Who?")
        await soon(pilot, lambda: bool(app.query(ExchangeView)))
        app.query(ExchangeView).last().focus()
        await pilot.press("a", "m", "y")
        await pilot.pause()
        assert desk.asked == ["Who?"]
        assert app.screen.id == app.screen_stack[0].id
        assert not app.clipboard
        await pilot.press("escape")
        await soon(pilot, lambda: bool(app.answered))


async def test_the_whole_exchange_is_copied_as_an_export_writes_it() -> None:
    app = Host(Noting())
    async with app.run_test() as pilot:
        one = exchange("Who?", "1775")
        await app.query_one(ChatPane).restart([one])
        app.query_one(ExchangeView).focus()
        await pilot.press("c")
        assert app.clipboard == "1775"
        await pilot.press("y")
        assert app.clipboard == as_markdown(one)
