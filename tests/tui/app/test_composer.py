"""The composer does what a person expects of a line of a shell, and of a text: it leafs, it keeps, it takes what is pasted."""

from __future__ import annotations

import asyncio

import pytest
from textual import events
from textual._xterm_parser import XTermParser
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from tests.tui.app.hostile import FORBIDDEN, HOSTILE
from tui.app.composer import NEWLINES, XTERMS, Composer
from tui.app.text import MOST

SIZES = [(80, 24), (140, 45)]
LONG = "a question that is so long that it needs more than one line of the screen to be shown in full, whatever the size of it is, for the screen is not so wide as that, and never will be"


class Host(App[None]):
    def __init__(self, *asked: str) -> None:
        super().__init__()
        self.asked = asked
        self.sent: list[str] = []

    def compose(self) -> ComposeResult:
        yield Composer()

    def on_mount(self) -> None:
        for one in self.asked:
            self.composer.remember(one)

    def on_composer_sent(self, sent: Composer.Sent) -> None:
        self.sent.append(sent.text)

    @property
    def composer(self) -> Composer:
        return self.query_one(Composer)


async def seen(pilot: Pilot[None], *keys: str) -> list[str]:
    texts = []
    for key in keys:
        await pilot.press(key)
        texts.append(pilot.app.query_one(Composer).text)
    return texts


async def paste(pilot: Pilot[None], text: str) -> None:
    pilot.app.post_message(events.Paste(text))
    await pilot.pause()
    await pilot.pause()


@pytest.mark.parametrize("key", [*NEWLINES, XTERMS])
async def test_a_new_line_is_begun_and_enter_sends_all_of_them(key: str) -> None:
    app = Host()
    async with app.run_test() as pilot:
        await pilot.press("a", key, "b", "enter")
        await pilot.pause()
        assert app.sent == ["a\nb"]
        assert app.composer.text == ""
        await pilot.press("space", key, "enter")
        await pilot.pause()
        assert app.sent == ["a\nb"], "nothing is no question"


def test_shift_and_enter_are_told_apart_in_either_way_a_terminal_may_send_them() -> None:
    keys = [one.key for sent in ("\x1b[13;2u", "\x1b[27;2;13~") for one in XTermParser().feed(sent) if isinstance(one, events.Key)]
    assert keys == ["shift+enter", XTERMS]


async def test_a_new_line_takes_the_place_of_what_is_selected() -> None:
    app = Host()
    async with app.run_test() as pilot:
        await pilot.press("a", "b", "shift+left", "ctrl+j", "c")
        assert app.composer.text == "a\nc"


async def test_the_arrows_leaf_and_stop_at_either_end() -> None:
    async with Host("first", "second").run_test() as pilot:
        await pilot.press("n")
        assert await seen(pilot, "up", "up", "up", "down", "down", "down") == ["second", "first", "first", "second", "n", "n"]


@pytest.mark.parametrize("size", SIZES)
async def test_the_arrows_move_inside_a_text_before_they_leaf(size: tuple[int, int]) -> None:
    """By lines of the screen: a long line takes several."""
    app = Host("before")
    async with app.run_test(size=size) as pilot:
        app.composer.put_back(f"{LONG}\nend")
        await pilot.pause()
        rows = app.composer.wrapped_document.height
        assert rows > 2
        assert await seen(pilot, *["up"] * rows) == [f"{LONG}\nend"] * (rows - 1) + ["before"]
        assert await seen(pilot, "down") == [f"{LONG}\nend"]
        await pilot.press("ctrl+home")
        assert await seen(pilot, *["down"] * rows) == [f"{LONG}\nend"] * rows


async def test_what_was_changed_in_an_older_question_is_not_lost_by_leafing() -> None:
    app = Host("first", "second")
    async with app.run_test() as pilot:
        await pilot.press("n", "up", "x", "up", "y")
        assert app.composer.text == "firsty"
        assert await seen(pilot, "down", "down", "up", "up") == ["secondx", "n", "secondx", "firsty"]
        await pilot.press("enter")
        assert await seen(pilot, "up", "up", "up") == ["firsty", "second", "first"], "what was asked stays as it was asked"


async def test_a_question_asked_twice_in_a_row_is_there_once() -> None:
    async with Host("first", "second", "second").run_test() as pilot:
        assert await seen(pilot, "up", "up", "up") == ["second", "first", "first"]


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
async def test_pasted_lines_stay_lines_and_are_not_sent(end: str) -> None:
    app = Host()
    async with app.run_test() as pilot:
        await pilot.press("a", "z", "left")
        await paste(pilot, f"one{end}two{end}{end}three")
        assert app.composer.text == "aone\ntwo\n\nthreez"
        assert not app.sent
        await pilot.press("!", "ctrl+z", "ctrl+z")
        assert app.composer.text == "az", "and are taken back at once"


async def test_a_paste_takes_the_place_of_what_is_selected() -> None:
    app = Host()
    async with app.run_test() as pilot:
        await pilot.press("a", "b", "shift+left")
        await paste(pilot, "cd")
        assert app.composer.text == "acd"
        app.copy_to_clipboard("e\x1b[31mf\r\ng")
        await pilot.press("ctrl+v")
        assert app.composer.text == "acdef\ng"


async def test_what_is_pasted_is_text_and_nothing_a_terminal_obeys() -> None:
    app = Host()
    async with app.run_test() as pilot:
        for text in HOSTILE:
            app.composer.clear()
            await app.composer._on_paste(event := events.Paste(text[:1000]))
            assert not FORBIDDEN & set(event.text), ascii(text[:60])
        await paste(pilot, "می\u200cخواهم 👩\u200d🔬")
        assert app.composer.text == "می\u200cخواهم 👩\u200d🔬", "a word needs its joiners"


@pytest.mark.parametrize("text", ["x" * 1_000_000, "word " * 200_000, "a line of it\n" * 77_000, "[bold]" * 170_000])
@pytest.mark.timeout(60)
async def test_a_megabyte_is_pasted_as_far_as_there_is_room_and_a_person_is_told(text: str) -> None:
    app = Host()
    async with app.run_test(size=(80, 24)) as pilot:
        await paste(pilot, text)
        assert app.composer.text == text[:MOST]
        assert [f"{len(text):,}" in one.message for one in app._notifications] == [True]
        await paste(pilot, text)
        assert len(app.composer.text) == MOST
        await asyncio.gather(*(pilot.press(key) for key in ("a", "left", "up", "backspace")))
