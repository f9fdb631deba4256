"""The list of conversations: long lists open at once, and everything in them is done with keys or mouse, on purpose only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual import events
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import Footer, Input

from steper_agent.records import Conversation
from tests.tui.app.exchanges import exchange, fill
from tests.tui.app.hostile import FORBIDDEN, HOSTILE
from tui.app.conversations import Conversations
from tui.app.history import NAME, PAGE, ConversationList, HistoryPane, save
from tui.app.text import one_line

SIZES = [(80, 24), (140, 45)]


class Screen(App[None]):
    def __init__(self, store: Conversations) -> None:
        super().__init__()
        self.store = store
        self.opened: list[Conversation] = []
        self.deleted: list[Conversation] = []

    def compose(self) -> ComposeResult:
        yield HistoryPane(self.store)
        yield Footer()

    def on_history_pane_opened(self, message: HistoryPane.Opened) -> None:
        self.opened.append(message.conversation)

    def on_history_pane_deleted(self, message: HistoryPane.Deleted) -> None:
        self.deleted.append(message.conversation)

    @property
    def text(self) -> str:
        return "\n".join("".join(segment.text for segment in strip) for strip in self.screen._compositor.render_strips())

    @property
    def rows(self) -> ConversationList:
        return self.query_one(ConversationList)


async def settle(pilot: Pilot[None]) -> str:
    """What is on the screen when nothing is being read any more."""
    for _ in range(2):
        await pilot.pause()
        await pilot.app.workers.wait_for_complete()
    await pilot.pause()
    return pilot.app.text  # type: ignore[attr-defined]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Conversations]:
    """Three conversations, `Emma` the newest; the working directory is empty."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    store = Conversations(tmp_path / "conversations.db")
    for title, answers in (("Paris", ("one", "two")), ("Provence", ()), ("Emma", ("1775",))):
        one = store.begin(title)
        for answer in answers:
            store.add(one.id, exchange(answer=answer))
    yield store
    store.close()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("many") / "conversations.db"
    fill(path, 10_000)
    return path


@pytest.mark.parametrize("size", SIZES)
async def test_each_row_says_title_questions_and_day_and_the_newest_is_first(store, size):
    async with Screen(store).run_test(size=size) as pilot:
        text = await settle(pilot)
        lines = [line for line in text.split("\n") if "question" in line and "search" not in line]
        assert [line.split()[:3] for line in lines] == [["▸", "Emma", "1"], ["Provence", "0", "questions"], ["Paris", "2", "questions"]]
        assert all(":" in line.split()[-1] for line in lines), "today is a time"
        assert "3 in all" in text
        assert all(word in text for word in ("open", "search", "rename", "delete", "export"))


async def test_enter_opens_the_one_under_the_cursor(store):
    async with Screen(store).run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("down", "enter", "end", "enter", "up", "home", "enter")
        await pilot.pause()
        assert [one.title for one in pilot.app.opened] == ["Provence", "Paris", "Emma"]


async def test_one_click_picks_and_two_open(store):
    async with Screen(store).run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.click(ConversationList, offset=(5, 2))
        assert pilot.app.rows.chosen.title == "Paris"
        assert not pilot.app.opened
        await pilot.click(ConversationList, offset=(5, 1), times=2)
        await pilot.click(ConversationList, offset=(5, 10), times=2)
        assert [one.title for one in pilot.app.opened] == ["Provence"]


async def test_what_is_pasted_into_a_search_or_a_title_is_one_line_of_text(store):
    async with Screen(store).run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        for key, field in (("slash", "#history-search"), ("r", "#history-title")):
            await pilot.press(key)
            pilot.app.query_one(field, Input).clear()
            pilot.app.post_message(events.Paste("Em\x1b[2J\u202ema\r\n\x07" + "\x9b31mred" * 10_000))
            await pilot.pause()
            text = await settle(pilot)
            value = pilot.app.query_one(field, Input).value
            assert value.startswith("Emma redred")
            assert not FORBIDDEN & set(value + text) - {"\n"}
            pilot.app.copy_to_clipboard("\x1b[31mtwo\nlines")
            pilot.app.query_one(field, Input).clear()
            await pilot.press("ctrl+v")
            assert pilot.app.query_one(field, Input).value == "two lines"
            await pilot.press("escape", "escape")
            await settle(pilot)


async def test_slash_searches_and_escape_leaves_first_the_field_then_the_search(store):
    async with Screen(store).run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("slash")
        pilot.app.query_one("#history-search", Input).value = "1775 emm"
        await pilot.press("a")
        text = await settle(pilot)
        assert "1 found" in text
        assert "Paris" not in text
        await pilot.press("escape")
        assert pilot.app.rows.has_focus
        assert "1 found" in await settle(pilot)
        await pilot.press("escape")
        assert "3 in all" in await settle(pilot)


async def test_nothing_found_is_said_and_typed_letters_do_nothing_else(store):
    async with Screen(store).run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("slash", *'drey"(')
        assert "nothing found" in await settle(pilot)
        await pilot.press("enter", "d", "r", "e")
        assert "nothing found" in await settle(pilot)
    assert store.count() == 3
    assert not list(Path.cwd().iterdir())


async def test_an_escape_that_means_nothing_here_is_left_to_the_app(store):
    class Listening(Screen):
        BINDINGS = [("escape", "heard")]
        heard = 0

        def action_heard(self) -> None:
            self.heard += 1

    async with Listening(store).run_test() as pilot:
        await settle(pilot)
        await pilot.press("slash", "escape", "escape")
        assert pilot.app.heard == 1


async def test_an_empty_history_says_what_will_be_here(tmp_path):
    store = Conversations(tmp_path / "c.db")
    async with Screen(store).run_test() as pilot:
        assert "no conversation yet" in await settle(pilot)
        await pilot.press("enter", "d", "e", "r", "down", "end")
        assert "no conversation yet" in await settle(pilot)
    store.close()


async def test_r_renames_and_escape_does_not(store):
    async with Screen(store).run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("down", "r", "x", "y", "escape")
        assert "xy" not in await settle(pilot)
        await pilot.press("r", "end", *" B", "enter")
        text = await settle(pilot)
        assert "▸ Provence B" in text
        assert "renamed" in text
        assert pilot.app.rows.has_focus
    assert {one.title for one in store.page()} == {"Emma", "Provence B", "Paris"}


@pytest.mark.parametrize("keys", [["n"], ["escape"], ["enter"]])
async def test_a_deletion_is_asked_about_and_nothing_is_gone_without_a_yes(store, keys):
    async with Screen(store).run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("d")
        assert "Delete “Emma” and 1 question for good?" in await settle(pilot)
        await pilot.press(*keys)
        assert "Delete" not in await settle(pilot)
        await pilot.press("y")
        await settle(pilot)
        assert not pilot.app.deleted
    assert store.count() == 3


@pytest.mark.parametrize("by_mouse", [False, True])
async def test_a_yes_deletes_says_so_and_tells_the_app(store, by_mouse):
    async with Screen(store).run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("d")
        await settle(pilot)
        await (pilot.click("#history-delete") if by_mouse else pilot.press("y"))
        text = await settle(pilot)
        assert "Emma" not in text
        assert "deleted" in text
        assert [one.title for one in pilot.app.deleted] == ["Emma"]
    assert store.count() == 2


async def test_e_exports_to_new_files_and_says_where(store):
    async with Screen(store).run_test(size=(140, 45)) as pilot:
        await settle(pilot)
        await pilot.press("e")
        assert str(Path.cwd() / "Emma.md") in await settle(pilot)
        await pilot.press("e", "E")
        await settle(pilot)
    assert {one.name for one in Path.cwd().iterdir()} == {"Emma.md", "Emma-2.md", "Emma.json"}
    assert Path("Emma.md").read_text() == Path("Emma-2.md").read_text() == store.export(store.page()[0].id, "markdown")
    assert json.loads(Path("Emma.json").read_text())["conversation"]["title"] == "Emma"


@pytest.mark.parametrize("title", ["../../etc/passwd", "/etc/passwd", "~/.ssh/x", "-rf", ".hidden", "", "...", "a\x00b", "x" * 5000, "日" * 5000,
                                   "CON: a|b?*<>\"'`$(x)", "a\nb", "\u202egpj.exe", "\ud800"])  # fmt: skip
def test_a_file_name_is_safe_whatever_the_title(tmp_path, title):
    for number in (1, 2):
        path = save("text", title, "md", tmp_path)
        assert path.parent == tmp_path
        assert len(path.name.encode()) <= NAME + len("-2.md")
        assert path.name[0] not in "-."
        assert not set(path.name) & {*FORBIDDEN, *"/\\:*?\"<>|$`'~ \n"}
        assert len(list(tmp_path.iterdir())) == number


def test_a_link_in_the_way_is_not_followed(tmp_path):
    (tmp_path / "x.md").symlink_to(tmp_path / "elsewhere")
    assert save("text", "x", "md", tmp_path).name == "x-2.md"
    assert not (tmp_path / "elsewhere").exists()


async def test_an_export_that_fails_is_told_and_the_pane_lives_on(store, monkeypatch, tmp_path):
    monkeypatch.setattr("tui.app.history.Path.cwd", lambda: tmp_path / "nowhere")
    async with Screen(store).run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("e")
        assert "FileNotFoundError" in await settle(pilot)
        await pilot.press("enter")
        await pilot.pause()
        assert pilot.app.opened


async def test_a_store_that_fails_is_told_in_the_pane(store):
    async with Screen(store).run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        store.close()
        pilot.app.query_one(HistoryPane).refresh_list()
        text = await settle(pilot)
        assert "DataError" in text
        assert "fix:" in text
        assert "Emma" in text


async def test_what_another_window_deleted_is_told_not_crashed_over(store):
    async with Screen(store).run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        store.delete(pilot.app.rows.chosen.id)
        await pilot.press("r", "enter")
        assert "no conversation" in await settle(pilot)


async def test_a_refreshed_list_shows_what_was_added_and_keeps_the_cursor(store):
    async with Screen(store).run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("down")
        store.begin("Newest")
        pilot.app.query_one(HistoryPane).refresh_list()
        text = await settle(pilot)
        assert text.index("Newest") < text.index("Emma")
        assert pilot.app.rows.cursor == 1


@pytest.mark.parametrize("size", SIZES)
async def test_ten_thousand_open_at_once_and_are_read_only_where_one_looks(many, size):
    store = Conversations(many)
    async with Screen(store).run_test(size=size) as pilot:
        text = await settle(pilot)
        assert "10,000 in all" in text
        assert "title 9999" in text
        await pilot.press("end")
        assert "▸ title 0 " in await settle(pilot)
        pilot.app.rows.scroll_to(y=5_000, animate=False)
        text = await settle(pilot)
        assert "title 4999" in text
        assert "…" not in text
        assert len(pilot.app.rows._rows) <= 8 * PAGE
    store.close()


async def test_paging_down_reaches_every_row_once(many):
    store = Conversations(many)
    async with Screen(store).run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        for row in range(60, 3 * PAGE, 90):
            pilot.app.rows.cursor = row
            await settle(pilot)
            assert pilot.app.rows.chosen.title == f"title {9_999 - row}"
        await pilot.press("home", "pagedown", "pageup")
        assert pilot.app.rows.cursor == 0
    store.close()


async def test_the_one_asked_about_stays_on_the_screen(many):
    store = Conversations(many)
    async with Screen(store).run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("end")
        for key in ("d", "r"):
            await pilot.press(key)
            assert "▸ title 0 " in await settle(pilot)
            await pilot.press("escape")
    store.close()


async def test_hostile_text_is_inert_in_every_row_and_question(store):
    width = 80
    for text in HOSTILE:
        store.begin(text)
    async with Screen(store).run_test(size=(width, 24)) as pilot:
        await settle(pilot)
        for row, text in enumerate(reversed(HOSTILE)):
            pilot.app.rows.cursor = row
            if row % 40 == 0:
                screen = await settle(pilot)
                assert not set(screen) & FORBIDDEN
                assert screen.count("▸") == 1
            line = pilot.app.rows._line(pilot.app.rows.chosen, width - 2)
            assert not set(line) & (FORBIDDEN | {"\n"})
            assert line.startswith(one_line(text)[:20]) or line.startswith("(no question yet)")
    assert store.count() == len(HOSTILE) + 3


@pytest.mark.parametrize("text", ["[bold red]x[/] [/] [@click=app.quit]quit[/]", "\x1b]0;title\x07 x \u202egnp.exe pass\u200bword \ud800", "wide 日本 " * 50],
                         ids=["markup", "escapes", "long"])  # fmt: skip
async def test_hostile_titles_are_inert_where_they_are_asked_about_renamed_and_exported(store, text):
    store.begin(text)
    async with Screen(store).run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("d")
        asked = await settle(pilot)
        await pilot.press("escape", "r")
        named = await settle(pilot)
        assert one_line(text)[:40].strip() in named
        await pilot.press("enter", "e")
        told = await settle(pilot)
        for screen in (asked, named, told):
            assert not set(screen) & FORBIDDEN
        assert "Delete “" + one_line(text)[:10].strip() in asked
        assert "exported to" in told
