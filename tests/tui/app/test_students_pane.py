"""The students pane: who there is, swaps watched phase by phase, decisions asked for first, and nothing that takes the app down."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import Button, DataTable, Input, Static

from steper_agent.errors import AdapterError
from steper_agent.models.slot import OnPhase, SwapReport
from steper_agent.records import StudentCard, StudentEvent
from steper_agent.students.compare import Difference, Fact, Moved
from steper_agent.students.registry import Registry
from steper_agent.students.student import read_card, save_student
from tests.steper_agent.students.registries import make_students, name_of
from tests.tui.app.hostile import FORBIDDEN, HOSTILE
from tui.app.student_card import difference_content
from tui.app.students import NOT_HERE, StudentsPane
from tui.app.swapping import NO_GATE, PHASES, Course, Decision, Gate, SwapDecision, SwapProgress

SIZES = [(80, 24), (140, 45)]
BASE = "base@000000000000"


class Seat:
    """Who serves in the app of a test, and a swap that tells its phases; it stops at `pause` until it is let go."""

    def __init__(self, *, phases: tuple[str, ...] = PHASES, refusal: str | Exception = "", pause: str = "") -> None:
        self.serving, self.phases, self.refusal, self.pause = BASE, phases, refusal, pause
        self.gate = ""
        self.calls: list[str | None] = []
        self.gated: list[bool] = []
        self.go = threading.Event()

    def swap(self, name: str | None, on_phase: OnPhase, is_gated: bool) -> SwapReport:
        self.calls.append(name)
        self.gated.append(is_gated)
        before, after = self.serving, name or BASE
        for phase in self.phases:
            on_phase(phase, after)  # type: ignore[arg-type]
            if phase == self.pause:
                assert self.go.wait(20)
        if isinstance(self.refusal, Exception):
            raise self.refusal
        if self.refusal:
            on_phase("failed", self.refusal)
            after = before
        self.serving = after
        seconds = dict.fromkeys(self.phases, 1.5)
        return SwapReport.model_validate({"before": before, "after": after, "seconds": seconds, "ok": not self.refusal, "reason": self.refusal})


class Host(App[None]):
    def __init__(self, registry: Any, seat: Seat | None = None) -> None:
        super().__init__()
        self.registry, self.seat = registry, seat
        self.reports: list[SwapReport] = []

    def compose(self) -> ComposeResult:
        seat = self.seat
        yield StudentsPane(self.registry, serving=lambda: seat.serving if seat else "", swap=seat.swap if seat else None,
                           gate=lambda: seat.gate if seat else "")  # fmt: skip

    def on_students_pane_swapped(self, swapped: StudentsPane.Swapped) -> None:
        self.reports.append(swapped.report)

    @property
    def rows(self) -> list[str]:
        table = self.query_one(DataTable)
        return [" ".join(str(cell) for cell in table.get_row_at(row)) for row in range(table.row_count)]

    def text(self, selector: str) -> str:
        """What a part of the pane says, wherever it is scrolled to."""
        return str(self.query_one(selector, Static).content)

    @property
    def note(self) -> str:
        return self.text("#note > Static")

    @property
    def progress(self) -> str:
        return self.text("SwapProgress")

    @property
    def asked(self) -> str:
        """What the question on top says."""
        return "\n".join(str(part.content) for part in self.screen.query(Static))

    @property
    def drawn(self) -> str:
        return "\n".join("".join(segment.text for segment in strips) for strips in self.screen._compositor.render_strips())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three students of one base; the second has σ, scores and a command to its name."""
    _, students = make_students(tmp_path_factory.mktemp("students"), 3)
    card = read_card(students[1])
    told = {"sigma": {"initialization": 0.5, "aggregation": 1.0}, "scores": {"em": 0.61}, "created_by": "distill --seed 1", "data": "d" * 64}
    save_student(students[1], card.model_copy(update=told))
    return students


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.app.students.POLL", 0.05)


@pytest.fixture
def registry(tmp_path: Path, made: list[Path]) -> Registry:
    registry = Registry(tmp_path / "registry")
    for student in made:
        registry.add(student, by="test", reason="a reason to add")
    return registry


async def soon(pilot: Pilot[None], is_so: Callable[[], bool]) -> None:
    for _ in range(3000):
        if is_so():
            await pilot.pause()
            return
        await pilot.pause(0.02)
    raise AssertionError("it never came to be so")


async def opened(pilot: Pilot[None], rows: int = 4) -> Host:
    app = pilot.app
    assert isinstance(app, Host)
    await soon(pilot, lambda: app.query_one(DataTable).row_count == rows)
    return app


async def swap(pilot: Pilot[None], key: str = "s") -> None:
    """Swap the chosen student in on the terms that are offered first."""
    await pilot.press(key)
    await soon(pilot, lambda: isinstance(pilot.app.screen, SwapDecision))
    await pilot.press("enter")


def row_of(app: Host, name: str) -> str:
    return next(row for row in app.rows if name.removeprefix("student@")[:8] in row)


@pytest.mark.parametrize("size", SIZES)
async def test_students_are_listed_newest_first_and_the_chosen_ones_card_is_beside_them(registry: Registry, made: list[Path], size: tuple[int, int]) -> None:
    registry.promote(name_of(made[0]), reason="the first to go live")
    seat = Seat()
    seat.serving = name_of(made[1])
    async with Host(registry, seat).run_test(size=size) as pilot:
        app = await opened(pilot)
        assert [row.split()[0] for row in app.rows[:3]] == [name_of(each).removeprefix("student@")[:8] for each in reversed(made)]
        assert [row for row in app.rows if "● serving" in row] == [row_of(app, name_of(made[1]))]
        assert "◆ live" in row_of(app, name_of(made[0]))
        assert "○ candidate" in row_of(app, name_of(made[1]))
        await pilot.press("down")
        await soon(pilot, lambda: name_of(made[1]) in app.text("#card"))
        assert all(fact in app.text("#card") for fact in ("cumulative", "stepwise", "em 0.610", "distill --seed 1", "a reason to add"))
        initialization, aggregation = (line for line in app.text("#card").splitlines() if line.startswith("σ"))
        assert initialization.count("█") * 2 == aggregation.count("█")
        await pilot.press("down")
        await soon(pilot, lambda: "the first to go live" in app.text("#card"))
        assert name_of(made[0]) in app.drawn


async def test_without_students_it_explains_what_they_are_until_one_is_added_elsewhere(tmp_path: Path, made: list[Path]) -> None:
    registry = Registry(tmp_path / "none")
    async with Host(registry, Seat()).run_test(size=(80, 24)) as pilot:
        app = pilot.app
        assert isinstance(app, Host)
        await soon(pilot, lambda: "steper students add" in app.drawn or "training.distill" in app.drawn)
        await pilot.press("s", "p", "b", "c", "space", "u")
        registry.add(made[0])
        await opened(pilot, rows=2)
        assert app.query_one(DataTable).has_focus


async def test_without_a_registry_no_key_does_anything_but_tell() -> None:
    async with Host(None).run_test(size=(80, 24)) as pilot:
        app = pilot.app
        assert isinstance(app, Host)
        assert "No registry is open" in app.drawn
        for key in ("enter", "s", "p", "b", "c", "space", "u"):
            await pilot.press(key)
        await pilot.pause()
        assert not app.reports
        assert len(app.screen_stack) == 1


async def test_where_nothing_can_be_swapped_the_pane_says_why(registry: Registry) -> None:
    async with Host(registry).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot)
        assert NOT_HERE in app.text("#card")
        await pilot.press("enter")
        assert app.note == NOT_HERE


@pytest.mark.parametrize("size", SIZES)
async def test_a_swap_is_watched_phase_by_phase_and_told_to_the_app(registry: Registry, made: list[Path], size: tuple[int, int]) -> None:
    seat = Seat(phases=tuple(phase for phase in PHASES if phase != "gate"), pause="warm")
    async with Host(registry, seat).run_test(size=size) as pilot:
        app = await opened(pilot)
        await swap(pilot, "enter")
        await soon(pilot, lambda: "▶ warm" in app.progress)
        assert [line[: len(line.split()[1]) + 2] for line in app.progress.splitlines()[1:5]] == ["✓ preflight", "✓ load", "▶ warm", "· canary"]
        seat.go.set()
        await soon(pilot, lambda: bool(app.reports))
        assert seat.calls == [name_of(made[2])]
        assert app.reports[0].ok
        assert app.reports[0].after == name_of(made[2])
        assert "– gate" in app.progress
        assert app.progress.count("1.50 s") == len(seat.phases)
        assert "serves here now" in app.drawn
        await soon(pilot, lambda: "● serving" in row_of(app, name_of(made[2])))
        await pilot.press("s")
        assert "serves here already" in app.note


async def test_the_bare_base_can_be_swapped_back_in(registry: Registry, made: list[Path]) -> None:
    seat = Seat(phases=("load", "switch"))
    seat.serving = name_of(made[0])
    async with Host(registry, seat).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot)
        await pilot.press("ctrl+end", "down", "down", "down", "s")
        await soon(pilot, lambda: bool(app.reports))
        assert seat.calls == [None]
        await soon(pilot, lambda: "● serving" in app.rows[-1])


@pytest.mark.parametrize("size", SIZES)
async def test_a_swap_goes_through_the_gate_first_of_all_and_tells_how_far_it_is(registry: Registry, made: list[Path], size: tuple[int, int]) -> None:
    seat = Seat(pause="gate")
    seat.gate = "the questions of dev.jsonl"
    async with Host(registry, seat).run_test(size=size) as pilot:
        app = await opened(pilot)
        await pilot.press("enter")
        await soon(pilot, lambda: isinstance(app.screen, SwapDecision))
        assert seat.gate in app.asked
        assert "Nobody has looked" in app.asked
        assert all(app.screen.region.contains_region(button.region) for button in app.screen.query(Button))
        await pilot.press("enter")
        await soon(pilot, lambda: "▶ gate" in app.progress)
        began = app.query_one(SwapProgress).course.phases["gate"][0]
        app.query_one(SwapProgress).enter("gate", "3 of 8 questions", began + 1.0)
        await pilot.pause()
        assert "3 of 8 questions" in app.drawn
        assert app.query_one(SwapProgress).course.phases["gate"][0] == began
        seat.go.set()
        await soon(pilot, lambda: bool(app.reports))
        assert (seat.calls, seat.gated) == ([name_of(made[2])], [True])


@pytest.mark.parametrize(("key", "gated"), [("w", [False]), ("g", [True]), ("escape", [])])
async def test_the_terms_of_a_swap_are_a_persons_choice(registry: Registry, key: str, gated: list[bool]) -> None:
    seat = Seat()
    seat.gate = "8 questions"
    async with Host(registry, seat).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot)
        await pilot.press("s")
        await soon(pilot, lambda: isinstance(app.screen, SwapDecision))
        await pilot.press(key)
        await soon(pilot, lambda: len(app.reports) == len(gated))
        assert seat.gated == gated


@pytest.mark.parametrize("size", SIZES)
async def test_where_there_is_no_gate_the_pane_says_how_to_get_one(registry: Registry, size: tuple[int, int]) -> None:
    seat = Seat()
    async with Host(registry, seat).run_test(size=size) as pilot:
        app = await opened(pilot)
        await pilot.press("s")
        await soon(pilot, lambda: isinstance(app.screen, SwapDecision))
        assert NO_GATE in app.asked
        assert "steper chat --gate" in NO_GATE
        await pilot.press("g")
        assert isinstance(app.screen, SwapDecision), "there is none to go through"
        await pilot.click("#ungated")
        await soon(pilot, lambda: bool(app.reports))
        assert seat.gated == [False]


def test_a_gate_needs_questions() -> None:
    assert not Gate().about(has_world=False)
    assert "micro-world" in Gate().about(has_world=True)
    assert "dev.jsonl" in Gate(Path("dev.jsonl")).about(has_world=True)


async def test_a_click_chooses_a_student_and_a_second_one_swaps_nothing(registry: Registry, made: list[Path]) -> None:
    seat = Seat()
    async with Host(registry, seat).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot)
        for _ in range(3):
            await pilot.click(DataTable, offset=(6, 3))
        await soon(pilot, lambda: name_of(made[0]) in app.text("#card"))
        assert not seat.calls


async def test_while_a_swap_runs_keys_work_and_a_second_swap_is_refused_in_words(registry: Registry, made: list[Path]) -> None:
    seat = Seat(pause="load")
    async with Host(registry, seat).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot)
        await swap(pilot)
        await soon(pilot, lambda: "▶ load" in app.progress)
        await pilot.press("down", "s")
        assert "a swap is running" in app.note
        await soon(pilot, lambda: name_of(made[1]) in app.text("#card"))
        await pilot.press("space")
        assert "✓" in row_of(app, name_of(made[1]))
        seat.go.set()
        await soon(pilot, lambda: bool(app.reports))
        assert seat.calls == [name_of(made[2])]


async def test_a_refusal_says_what_where_and_how_to_mend_it_and_who_serves_on(registry: Registry) -> None:
    refusal = str(AdapterError("says other words than its trainer saw", where="golden.jsonl:3", fix="train it again\nwith the same base"))
    async with Host(registry, Seat(phases=PHASES[:4], refusal=refusal)).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot)
        await swap(pilot)
        await soon(pilot, lambda: bool(app.reports))
        assert not app.reports[0].ok
        assert refusal in app.progress
        assert f"{BASE} serves on" in app.progress
        assert "✗ canary" in app.progress
        assert "fix:" in app.drawn
        assert "– switch" in app.progress
        assert "● serving" in app.rows[-1]


@pytest.mark.parametrize("error", [AdapterError("the folder is gone", where="there", fix="add it again"), KeyError("a fault of ours"), OSError("io")])
async def test_a_swap_that_raises_is_a_refusal_and_the_next_one_is_free(registry: Registry, error: Exception) -> None:
    seat = Seat(phases=("preflight",), refusal=error)
    async with Host(registry, seat).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot)
        await swap(pilot)
        await soon(pilot, lambda: "✗ preflight" in app.progress)
        assert str(error) in app.progress
        seat.refusal = ""
        await swap(pilot)
        await soon(pilot, lambda: "serves here now" in app.progress)


async def test_promoting_and_rolling_back_ask_first_and_keep_the_reason(registry: Registry, made: list[Path]) -> None:
    name, base = name_of(made[2]), read_card(made[2]).base
    async with Host(registry, Seat()).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot)
        await pilot.press("p", "escape")
        assert registry.live(base) is None
        await pilot.press("p")
        app.screen.query_one(Input).value = "better"
        await pilot.press("enter")
        await soon(pilot, lambda: registry.live(base) == name and "◆ live" in row_of(app, name))
        assert registry.history.read()[-1].reason == "better"
        assert name in app.note
        await pilot.press("b")
        assert isinstance(app.screen, Decision)
        await pilot.click("#yes")
        await soon(pilot, lambda: registry.live(base) is None and "◇ retired" in row_of(app, name))
        await pilot.press("b")
        assert "nothing to go back from" in app.note


async def test_a_promotion_that_fails_is_told_in_full(registry: Registry, made: list[Path]) -> None:
    folder = registry.path_of(name_of(made[2]))
    async with Host(registry, Seat()).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot)
        shutil.rmtree(folder)
        await pilot.press("p", "enter")
        await soon(pilot, lambda: "✗" in app.note)
        assert "where:" in app.note
        assert "fix:" in app.note
        await pilot.press("u")
        await soon(pilot, lambda: "✗" in row_of(app, name_of(made[2])))


async def test_another_student_that_went_live_meanwhile_is_not_overwritten(registry: Registry, made: list[Path]) -> None:
    async with Host(registry, Seat()).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot)
        await pilot.press("p")
        registry.promote(name_of(made[0]))
        await pilot.press("enter")
        await soon(pilot, lambda: "meanwhile" in app.note)
        assert registry.live(read_card(made[0]).base) == name_of(made[0])


async def test_changes_made_elsewhere_appear_and_the_chosen_student_stays_chosen(registry: Registry, made: list[Path]) -> None:
    async with Host(registry, Seat()).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot)
        await pilot.press("down")
        registry.promote(name_of(made[2]), reason="from another terminal")
        await soon(pilot, lambda: "◆ live" in row_of(app, name_of(made[2])))
        await soon(pilot, lambda: name_of(made[1]) in app.text("#card"))
        assert app.query_one(DataTable).cursor_row == 1


async def test_a_history_that_cannot_be_read_is_told_and_the_list_stays(registry: Registry) -> None:
    async with Host(registry, Seat()).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot)
        with registry.history.path.open("a") as file:
            file.write("no event\n")
        await soon(pilot, lambda: "history.jsonl:4" in app.note)
        assert len(app.rows) == 4


async def test_two_marked_students_are_compared(registry: Registry, made: list[Path]) -> None:
    async with Host(registry, Seat()).run_test(size=(140, 45)) as pilot:
        app = await opened(pilot)
        await pilot.press("c")
        assert "mark two students" in app.note
        await pilot.press("space", "down", "space", "c")
        await soon(pilot, lambda: name_of(made[1]) in app.text("#difference"))
        said = app.text("#difference")
        assert "created by" in said
        assert name_of(made[1]) in app.drawn
        # The newer one's weights are twice those of the one before it.
        assert "50.0%" in said
        await pilot.press("down", "down", "space")
        assert "only students" in app.note


def test_every_phase_is_in_one_state_and_time_adds_up() -> None:
    course = Course("student@0", 0.0)
    for at, phase in enumerate(PHASES):
        course.enter(phase, "", float(at))
        told = course.stages(at + 0.5)
        assert [stage.status for stage in told] == ["done"] * at + ["running"] + ["waiting"] * (len(PHASES) - at - 1)
        assert sum(stage.seconds or 0.0 for stage in told) == pytest.approx(course.lasted(at + 0.5))
    course.end(SwapReport(before="a", after="b", seconds={"drain": 9.0}, ok=True, drained=False), 10.0)
    told = {stage.phase: stage for stage in course.stages(99.0)}
    assert {stage.status for stage in told.values()} == {"done"}
    assert told["drain"].seconds == 9.0
    assert "stays loaded" in told["drain"].words


def test_a_plan_that_is_refused_fails_no_phase() -> None:
    course = Course("student@0", 0.0)
    course.enter("failed", "made for another base", 1.0)
    course.fail("made for another base", 1.0)
    assert {stage.status for stage in course.stages(2.0)} == {"not run"}


class Elsewhere:
    """A registry whose every text is another's."""

    def __init__(self, texts: tuple[str, ...]) -> None:
        self.folder, self.history, self._texts = texts[0], self, texts

    def signature(self) -> tuple[int, int, int]:
        return (0, 0, 0)

    def read(self) -> list[StudentEvent]:
        given = {"time": datetime.now(UTC), "action": "added", "student": "student@0123456789ab", "base": self._texts[-1]}
        return [StudentEvent.model_construct(by=text, reason=text, scores={text: 0.5}, **given) for text in self._texts]

    def card(self, name: str) -> StudentCard:
        a, b, *_ = self._texts
        return StudentCard.model_construct(
            name=name, content=a, base=b, form=a, target=b, view=a, data=b, sigma={"initialization": float("nan")}, weighting=a,
            scores={a: 1e308}, parameters=1, created_by=b,
        )  # type: ignore[arg-type] # fmt: skip


@pytest.mark.parametrize("first", range(0, len(HOSTILE), 45))
async def test_hostile_text_is_text_wherever_it_stands(first: int) -> None:
    texts = HOSTILE[first : first + 45]
    seat = Seat(phases=("preflight",), refusal=RuntimeError("\n".join(text[:2000] for text in texts)))
    seat.serving = texts[0]
    async with Host(Elsewhere(texts), seat).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot, rows=2)
        said = [app.drawn, app.text("#card"), *app.rows]
        await swap(pilot)
        await soon(pilot, lambda: bool(app.reports))
        facts = tuple(Fact("created_by", text, {text: 0.5}) for text in texts)
        card = Elsewhere(texts).card("student@0123456789ab")
        found = Difference(card, card, facts, tuple(Moved(text, 0.5) for text in texts))
        app.query_one("#difference", Static).update(difference_content(texts[0], texts[1], found))
        app.query_one("#difference").display = True
        app.query_one(StudentsPane)._say(texts[0])
        await pilot.pause()
        said += [app.drawn, app.progress, app.text("#difference"), app.note]
        assert [sorted(FORBIDDEN & set(part)) for part in said] == [[]] * len(said)
        if first == 0:
            assert all("[@click=app.quit]quit[/]" in part for part in (app.text("#card"), app.progress, app.text("#difference")))
        assert app.is_running


async def test_a_swap_that_is_over_keeps_its_place_but_an_unseen_one_takes_none(registry: Registry) -> None:
    async with Host(registry, Seat()).run_test(size=(80, 24)) as pilot:
        app = await opened(pilot)
        assert not app.query_one(SwapProgress).display
        await swap(pilot)
        await soon(pilot, lambda: bool(app.reports))
        assert app.query_one(SwapProgress).display


def test_the_pane_loads_nothing_heavy() -> None:
    code = "import tui.app.students, sys; print(*sys.modules)"
    loaded = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())
    assert not {"torch", "transformers", "langgraph", "langchain_core", "faiss", "numpy"} & loaded
