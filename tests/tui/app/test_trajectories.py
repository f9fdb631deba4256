"""The journal browser: a journal of any size opens at once, grows while it is watched, and is narrowed with keys."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import Footer, Input, Select, Static

from steper_agent.journal import Journal
from steper_agent.records import Hit, Passage
from tests.tui.app.hostile import FORBIDDEN, HOSTILE
from tests.tui.app.test_shelf import end, node, written
from tui.app.rows import FILTERS, Row, Rows, matches
from tui.app.tail import Piece
from tui.app.trajectories import JournalBrowser, TrajectoryList, cells, heading
from tui.app.trajectory import TrajectoryView

SIZES = [(80, 24), (140, 45)]


class Screen(App[None]):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def compose(self) -> ComposeResult:
        yield JournalBrowser(self.path)
        yield Footer()

    @property
    def text(self) -> str:
        return "\n".join("".join(segment.text for segment in strip) for strip in self.screen._compositor.render_strips())

    @property
    def shown(self) -> list[str]:
        rows = self.query_one(TrajectoryList)
        return [rows.row_at(number).question for number in range(len(rows.places))]


async def settle(pilot: Pilot[None]) -> str:
    for _ in range(3):
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()
    return pilot.app.text


@pytest.fixture
def journal(tmp_path):
    """One run of every kind."""
    path = tmp_path / "journal.jsonl"
    written(path, node("a"), end("a", text="Right one?"), node("b"), end("b", answer="Sense", text="Wrong one?"))
    written(path, node("c", outcome="parse_error", note="no query"), end("c", text="Unreadable one?", gold=()))
    written(path, node("d", "retrieve", outcome="empty_retrieval"), end("d", text="Empty one?"))
    written(path, node("e", "form_query", input="Failed one?", outcome="timeout", note="after 30 s"), node("f"))
    return written(path, end("f", answer="", stop="budget", text="Spent one?", gold=()))


@pytest.mark.parametrize("size", SIZES)
async def test_a_journal_is_a_list_with_verdicts_in_words(journal, size):
    app = Screen(journal)
    async with app.run_test(size=size) as pilot:
        text = await settle(pilot)
        for words in ("✓ right", "✗ wrong", "· no gold", "6 trajectories", "budget", "error", *heading(size[0]).split()):
            assert words in text


async def test_keys_narrow_the_list_to_every_filter_in_turn_and_escape_takes_it_back(journal):
    app = Screen(journal)
    async with app.run_test() as pilot:
        await settle(pilot)
        app.query_one(TrajectoryList).focus()
        seen = {}
        for _ in FILTERS:
            seen[app.query_one("#filter", Select).value] = app.shown
            await pilot.press("f")
            await settle(pilot)
        assert seen == {"all": app.shown, "wrong answers": ["Wrong one?"], "parse errors": ["Unreadable one?"],
                        "empty retrievals": ["Empty one?"], "errors": ["Failed one?"], "budget": ["Spent one?"]}  # fmt: skip
        await pilot.press("F")
        assert "1 of 6 trajectories" in await settle(pilot)
        await pilot.press("escape")
        await settle(pilot)
        assert len(app.shown) == 6


async def test_slash_searches_the_question_whatever_its_case(journal):
    app = Screen(journal)
    async with app.run_test() as pilot:
        await settle(pilot)
        app.query_one(TrajectoryList).focus()
        await pilot.press("slash", *"EMPTY", "enter")
        await settle(pilot)
        assert app.shown == ["Empty one?"]
        assert isinstance(app.focused, TrajectoryList)
        await pilot.press("escape")
        await settle(pilot)
        assert (len(app.shown), app.query_one(Input).value) == (6, "")


async def test_enter_opens_a_trajectory_step_by_step_with_its_prompts_folded(tmp_path):
    hit = Hit(passage=Passage(id="p7", title="Emma", text="Emma is by Austen."), score=2.5)
    path = written(tmp_path / "j.jsonl", node(name="form_query", output="author of Emma"), node(name="retrieve", hits=(hit,)),
                   node(input="THE PROMPT", output="Austen wrote it."), end(answer="Jane Austen", gold=("Jane Austen",)))  # fmt: skip
    app = Screen(path)
    async with app.run_test() as pilot:
        await settle(pilot)
        app.query_one(TrajectoryList).focus()
        await pilot.press("enter")
        text = await settle(pilot)
        for words in ("author of Emma", "2.500", "[p7]", "Emma is by Austen.", "→ Austen wrote it.", "gold: Jane Austen", "✓ right"):
            assert words in text
        assert "THE PROMPT" not in text
        await pilot.press("p")
        assert "THE PROMPT" in await settle(pilot)
        await pilot.press("escape")
        assert "1 trajectories" in await settle(pilot)
        assert not app.query(TrajectoryView)


async def test_a_failed_run_opens_and_says_why(journal):
    app = Screen(journal)
    async with app.run_test() as pilot:
        await settle(pilot)
        app.query_one(TrajectoryList).focus()
        await pilot.press("down", "down", "down", "down", "enter")
        assert "! form query: timeout: after 30 s" in await settle(pilot)


async def test_a_click_marks_a_row_and_a_second_one_opens_it(journal):
    app = Screen(journal)
    async with app.run_test() as pilot:
        await settle(pilot)
        await pilot.click(TrajectoryList, offset=(5, 2))
        assert app.query_one(TrajectoryList).cursor == 1
        await pilot.click(TrajectoryList, offset=(5, 2))
        assert "Wrong one?" in await settle(pilot)
        assert app.query(TrajectoryView)


async def test_a_journal_that_grows_is_followed_and_a_half_line_waits(tmp_path):
    path = tmp_path / "journal.jsonl"
    app = Screen(path)
    async with app.run_test() as pilot:
        await settle(pilot)
        assert app.shown == []
        browser = app.query_one(JournalBrowser)
        with Journal(path) as journal:
            for number in range(3):
                journal.append(node(f"q{number}"))
                journal.append(end(f"q{number}", text=f"Question {number}?"))
                browser.follow()
                await settle(pilot)
                assert app.shown == [f"Question {n}?" for n in range(number + 1)]
        with path.open("ab") as file:
            file.write(b'{"line":"finished","run":"q9","ques')
        browser.follow()
        assert "no journal records" not in await settle(pilot)


async def test_a_replaced_journal_is_shown_anew(journal):
    app = Screen(journal)
    async with app.run_test() as pilot:
        await settle(pilot)
        app.query_one(TrajectoryList).action_jump(-1)
        old = journal.rename(journal.with_suffix(".old"))
        written(journal, node("z"), end("z", text="New?"))
        app.query_one(JournalBrowser).follow()
        await settle(pilot)
        assert app.shown == ["New?"]
        assert old.exists()


async def test_a_line_that_is_no_record_is_told_by_its_number(journal):
    with journal.open("ab") as file:
        file.write(b"[bold]what is this\n")
    lines = journal.read_bytes().count(b"\n")
    app = Screen(journal)
    async with app.run_test() as pilot:
        assert f"line {lines}" in await settle(pilot)


async def test_a_journal_that_cannot_be_read_is_an_error_in_the_pane(tmp_path):
    app = Screen(tmp_path)
    async with app.run_test() as pilot:
        assert "IsADirectoryError" in await settle(pilot)


async def test_a_row_that_is_gone_is_an_error_in_the_pane(journal):
    app = Screen(journal)
    async with app.run_test() as pilot:
        await settle(pilot)
        journal.write_bytes(b"")
        app.query_one(TrajectoryList).focus()
        await pilot.press("enter")
        assert "the journal was replaced" in await settle(pilot)


async def test_a_hundred_thousand_rows_scroll_without_being_drawn(tmp_path):
    app = Screen(tmp_path / "none.jsonl")
    async with app.run_test() as pilot:
        rows, many = app.query_one(TrajectoryList), Rows()
        many.rows = [Row(f"q{n}", 0, f"Question {n}?", "x", n % 2 == 0, 1, "answered", "m", 0) for n in range(100_000)]
        rows.grow(many)
        await settle(pilot)
        rows.focus()
        for key in ("end", "pageup", "home", "pagedown", "end"):
            await pilot.press(key)
        assert "Question 99999?" in await settle(pilot)
        rows.narrow_to("wrong answers", "question 777")
        await settle(pilot)
        assert rows.places == [n for n in range(100_000) if matches(many.rows[n], "wrong answers", "question 777")]


@pytest.mark.parametrize("width", [20, 40, 80, 120, 200])
def test_a_row_is_as_wide_as_its_place(width):
    from rich.cells import cell_len

    for text in ("短い質問" * 30, "x", "👨" * 50, ""):
        row = Row("q", 0, text, text, None, 12, "answered", text, 7)
        assert cell_len(cells(row, width)) == cell_len(heading(width)) == width


async def test_hostile_text_is_inert_in_the_list(tmp_path):
    path = tmp_path / "journal.jsonl"
    texts = [text[:300].encode(errors="replace").decode() for text in HOSTILE]
    ends = [end(f"{number}{text}", answer=text, gold=(text,), text=text).model_copy(update={"model": text}) for number, text in enumerate(texts)]
    written(path, *ends)
    app = Screen(path)
    async with app.run_test(size=(140, 45)) as pilot:
        assert not FORBIDDEN & set(await settle(pilot))
        rows = app.query_one(TrajectoryList)
        assert [rows.row_at(number).question for number in rows.places] == texts
        while rows.cursor < len(texts) - 1:
            rows.action_page(1)
            await pilot.pause()
            assert not FORBIDDEN & set(app.text)


@pytest.mark.parametrize("part", range(4))
async def test_hostile_text_is_inert_in_a_trajectory(tmp_path, part):
    """Every text is a passage with its title; the first ones are everything else too."""
    texts = [text[:3_000].encode(errors="replace").decode() for text in HOSTILE[part::4]]
    hits = tuple(Hit(passage=Passage(id=text, title=text, text=text), score=1.0) for text in texts)
    path, records = tmp_path / "journal.jsonl", []
    for step, text in enumerate(texts[::4], start=1):
        records += [node("q", "form_query", step, output=text, input=text), node("q", "retrieve", step, hits=hits if step == 1 else ()),
                    node("q", step=step, input=text, output=text, outcome="parse_error", note=text)]  # fmt: skip
    written(path, *records, end(answer=texts[0], gold=tuple(texts[:9]), text=texts[1]).model_copy(update={"model": texts[2], "strategy": texts[3]}))
    app = Screen(path)
    async with app.run_test(size=(140, 45)) as pilot:
        await settle(pilot)
        app.query_one(TrajectoryList).action_open()
        assert not FORBIDDEN & set(await settle(pilot))
        for static in app.query(Static):
            assert not FORBIDDEN & set(str(static.content)), static
        assert len(app.query(".hit")) >= len(texts)


def test_a_piece_of_nothing_adds_nothing():
    rows = Rows()
    rows.take(Piece(0, b""))
    assert (rows.rows, rows.bad, rows.lines) == ([], [], 0)
