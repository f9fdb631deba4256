"""Whatever fails in the background of any pane is told, can be copied, and harms nobody."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widget import Widget
from textual.widgets import Button, Static, TabbedContent

from steper_agent.errors import ModelError
from tests.tui.app.hostile import FORBIDDEN, HOSTILE
from tests.tui.app.test_app import cockpit
from tests.tui.app.test_chat import soon, text_of
from tui.app.app import TABS, Cockpit
from tui.app.composer import Composer
from tui.app.crash import CrashPanel

pytestmark = pytest.mark.usefixtures("world")
NASTY = "[@click=app.quit]x[/] \x1b]0;t\x07 \u202egnp.exe [/bold]"


async def fall(words: str = "over") -> None:
    raise RuntimeError(words)


async def panel(pilot: Pilot[None], times: int = 1) -> CrashPanel:
    def is_told() -> bool:
        return any(sum(one._crashes.values()) >= times for one in pilot.app.query(CrashPanel))

    await soon(pilot, is_told)
    await pilot.pause()
    return pilot.app.query_one(CrashPanel)


def told(crashed: CrashPanel) -> str:
    return text_of(crashed.query_one("#what > Static", Static))


def drawn(app: Cockpit) -> str:
    return "\n".join("".join(segment.text for segment in strip) for strip in app.screen._compositor.render_strips())


@pytest.mark.parametrize("tab", TABS)
async def test_a_worker_of_any_pane_fails_and_the_app_lives_on(tmp_path: Path, tab: str) -> None:
    app = cockpit(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await app.workers.wait_for_complete()
        app.action_show(tab)
        await soon(pilot, lambda: bool(app.query_one(f"#{tab}").children))
        pane = app.query_one(f"#{tab}").children[0]
        pane.run_worker(fall(NASTY), group="look", exit_on_error=True)
        crashed = await panel(pilot)
        pane.run_worker(lambda: asyncio.run(fall("in a thread")), thread=True, exit_on_error=False)
        await panel(pilot, times=2)
        assert f"{TABS[tab]}, 1 other" in told(crashed)
        assert f"{TABS[tab]} (look): RuntimeError: [@click=app.quit]x[/]" in crashed.report
        assert "in fall" in crashed.report, "with where it came from"
        assert not FORBIDDEN & set(crashed.report)
        other = "compare" if tab == "chat" else "chat"
        app.action_show(other)
        await soon(pilot, lambda: app.query_one(TabbedContent).active == other)


@pytest.mark.parametrize("size", [(80, 24), (140, 45)])
async def test_the_panel_is_read_copied_and_closed_by_keys_and_by_mouse(tmp_path: Path, size: tuple[int, int]) -> None:
    app = cockpit(tmp_path)
    async with app.run_test(size=size) as pilot:
        app.query_one(Composer).focus()
        app.chat.run_worker(fall())
        crashed = await panel(pilot)
        assert isinstance(app.focused, Composer), "whoever writes goes on writing"
        crashed.query_one("#show", Button).focus()
        await pilot.press("t")
        await pilot.pause()
        assert "Traceback (most recent call last)" in drawn(app)
        await pilot.press("c")
        assert app.clipboard == crashed.report
        await pilot.press("escape")
        assert not crashed.display
        app.chat.run_worker(fall("again, but otherwise"))
        await panel(pilot, times=2)
        await pilot.click("#close")
        await pilot.pause()
        assert not crashed.display


async def test_a_fault_that_was_closed_is_not_told_again_but_counted(tmp_path: Path) -> None:
    app = cockpit(tmp_path)
    async with app.run_test() as pilot:
        for times in (1, 2, 3):
            app.chat.run_worker(fall())
            crashed = await panel(pilot, times)
        assert "3 times" in told(crashed)
        crashed.action_close()
        app.chat.run_worker(fall())
        await panel(pilot, times=4)
        assert not crashed.display


async def test_keys_of_somebody_who_is_not_writing_go_to_the_panel_and_back(tmp_path: Path) -> None:
    app = cockpit(tmp_path)
    async with app.run_test() as pilot:
        before: Widget = app.query_one("#transcript")
        before.focus()
        app.chat.run_worker(fall())
        crashed = await panel(pilot)
        assert crashed.has_focus_within
        await pilot.press("escape")
        assert app.focused is before


async def test_what_is_refused_is_told_as_it_is_and_a_pane_that_listens_tells_it_itself(tmp_path: Path) -> None:
    async def refuse() -> None:
        raise ModelError("no such model", where="here", fix="name another")

    app = cockpit(tmp_path)
    async with app.run_test() as pilot:
        app.action_show("students")
        await soon(pilot, lambda: bool(app.query("StudentsPane")))
        worker = app.query_one("StudentsPane").run_worker(refuse())
        await soon(pilot, lambda: worker.is_finished)
        app.chat.run_worker(refuse())
        crashed = await panel(pilot)
        assert "fix:   name another" in told(crashed)
        assert list(crashed._crashes.values()) == [1]
        assert next(iter(crashed._crashes)).where == "Chat"


async def test_hostile_words_of_an_exception_are_text(tmp_path: Path) -> None:
    app = cockpit(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        app.chat.run_worker(fall(HOSTILE[0]))
        crashed = await panel(pilot)
        crashed.action_trace()
        for times, words in enumerate(HOSTILE[1::5], start=2):
            app.chat.run_worker(fall(words))
            await panel(pilot, min(times, 5))
            await pilot.pause()
            assert not FORBIDDEN & set(drawn(app))
