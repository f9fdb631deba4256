"""The runs pane: finds run folders, follows the chosen one, and shows what each kind holds; nothing crashes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import Footer, OptionList, Static

from steper_agent.errors import DataError
from steper_agent.journal import Journal
from steper_agent.records import Example
from tests.tui.app.hostile import FORBIDDEN, HOSTILE
from tests.tui.app.test_shelf import COLLECT, end, folder, node, written
from training.examples.masks import open_decoder, stretches
from training.loop.curve import Curve, CurvePoint
from tui.app.curves import CurveFollower, DistillPage, pace, smooth, thin
from tui.app.demo_page import DemoPage
from tui.app.journal_page import JournalPage
from tui.app.mask_page import CLOSE, OPEN, TURN, DatasetPage, masked, spelled
from tui.app.masks import Examples
from tui.app.runs import RunsPane

SIZES = [(80, 24), (140, 45)]
DISTILL = {"weighting": "learned", "fingerprint": "f", "max_steps": 40, "batch": 8, "epochs": 1}
JUDGED = {"em": 0.95, "f1": 0.96, "acc": 0.97, "n": 300, "ci": [0.9, 0.99], "seconds": 0.2}
REPORT = {"teacher": {**JUDGED, "em": 1.0}, "base": {**JUDGED, "em": 0.0}, "student": JUDGED, "seconds": {"index": 3.0},
          "swap": {"runs": 60, "failed_runs": 0, "before": {"model": "base", "question": "Who?", "answer": "", "gold": "Ann"},
                   "after": {"model": "student@1", "question": "Who?", "answer": "Ann", "gold": "Ann"}}}  # fmt: skip
EXAMPLE = Example(trajectory=0, kind="expansion", step=2, ids=(1, 2, 3, 4, 5, 6), learn=(0, 1, 0, 0, 1, 1), turn=3)


class Screen(App[None]):
    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def compose(self) -> ComposeResult:
        yield RunsPane(self.root)
        yield Footer()

    @property
    def pane(self) -> RunsPane:
        return self.query_one(RunsPane)

    @property
    def text(self) -> str:
        return "\n".join("".join(segment.text for segment in strip) for strip in self.screen._compositor.render_strips())


class Following(Screen):
    """With a folder that was named on the command line."""

    def __init__(self, root: Path, folder: Path) -> None:
        super().__init__(root)
        self.folder = folder

    def compose(self) -> ComposeResult:
        yield RunsPane(self.root, follow=self.folder)


async def settle(pilot: Pilot[None]) -> str:
    for _ in range(3):
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()
    return pilot.app.text


def point(step: int, **more: object) -> CurvePoint:
    kinds = {"initialization": 1.0 / step, "expansion": 2.0 / step, "aggregation": 3.0 / step}
    return CurvePoint.model_validate({"step": step, "seconds": 2.0 * step, "tokens": 1000 * step, "rate": 1e-3, "loss": kinds, "sigma": kinds, **more})


def dataset(root: Path, name: str = "dataset", count: int = 3) -> Path:
    made = folder(root, name, None, card={"examples": {"expansion": count}, "trajectories": {"read": 9, "kept": count}, "base": "x"})
    lines = [json.dumps({"trajectory": row, "question_id": "q", "examples": [EXAMPLE.model_dump(mode="json"), EXAMPLE.model_dump(mode="json")]})
             for row in range(count)]  # fmt: skip
    (made / "examples.jsonl").write_text("\n".join(lines) + "\n")
    return made


async def test_without_a_run_it_says_how_one_is_made(tmp_path):
    app = Screen(tmp_path / "nothing")
    async with app.run_test(size=(80, 24)) as pilot:
        assert "make demo" in await settle(pilot)


@pytest.mark.parametrize("size", SIZES)
async def test_every_kind_of_run_has_its_page_and_arrows_go_from_one_to_the_next(tmp_path, size):
    written(folder(tmp_path, "collect", COLLECT) / "journal.jsonl", node(), end())
    dataset(tmp_path)
    Curve(folder(tmp_path, "distill", DISTILL) / "curve.jsonl").append(point(1))
    folder(tmp_path, "demo", {"held_out": 1, "learn_passages": 1}, report=REPORT)
    app = Screen(tmp_path)
    async with app.run_test(size=size) as pilot:
        await settle(pilot)
        app.query_one("#folders").focus()
        await pilot.press("home")
        seen = {}
        for _ in range(4):
            await settle(pilot)
            seen[app.pane.chosen.name] = {type(page) for page in app.query("#chosen > .page")}
            await pilot.press("down")
        assert seen == {"collect": {JournalPage}, "dataset": {DatasetPage}, "distill": {DistillPage}, "demo": {DemoPage}}


async def test_enter_gives_the_keyboard_to_the_run_and_z_all_the_room(tmp_path):
    written(folder(tmp_path, "collect", COLLECT) / "journal.jsonl", node(), end(text="Who wrote it?"))
    app = Screen(tmp_path)
    async with app.run_test() as pilot:
        await settle(pilot)
        app.query_one("#folders").focus()
        await pilot.press("enter", "enter")
        assert "gold: Emma" in await settle(pilot)
        await pilot.press("z")
        assert not app.query_one("#folders").display


async def test_the_list_stands_above_where_it_is_narrow_and_beside_where_it_is_wide(tmp_path):
    folder(tmp_path, "collect", COLLECT)
    app = Screen(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        assert app.query_one("#chosen").region.y > 0
        await pilot.resize_terminal(140, 45)
        await settle(pilot)
        assert app.query_one("#chosen").region.y == 0


async def test_a_collection_is_followed_while_it_runs(tmp_path):
    path = folder(tmp_path, "collect", COLLECT) / "journal.jsonl"
    app = Screen(tmp_path)
    async with app.run_test(size=(140, 45)) as pilot:
        await settle(pilot)
        with Journal(path) as journal:
            for number in range(3):
                journal.append(node(f"q{number}"))
                journal.append(end(f"q{number}", answer="Emma" if number else "x"))
                app.pane.look()
                app.query("JournalBrowser").first().follow()
                text = await settle(pilot)
                assert f"{number + 1} questions" in text
                assert f"{number + 1} answered" in text
                assert "▶ collect  collect, running" in text
            assert "EM 0.667 of 3" in text


async def test_a_folder_elsewhere_is_followed_and_may_come_later(tmp_path):
    folder(tmp_path, "runs/collect", COLLECT)
    elsewhere = tmp_path / "far" / "run"
    app = Screen(tmp_path / "runs")
    async with app.run_test(size=(140, 45)) as pilot:
        await settle(pilot)
        app.pane.choose(elsewhere)
        assert f"Waiting for a run in {elsewhere}"[:60] in await settle(pilot)
        written(folder(tmp_path / "far", "run", COLLECT) / "journal.jsonl", end())
        app.pane.look()
        assert "1 questions" in await settle(pilot)
        assert app.query(JournalPage)


async def test_a_distillation_draws_curves_told_apart_by_letters(tmp_path):
    curve = Curve(folder(tmp_path, "distill", DISTILL) / "curve.jsonl")
    app = Screen(tmp_path)
    async with app.run_test(size=(140, 45)) as pilot:
        assert "no update yet" in await settle(pilot)
        for step in range(1, 21):
            curve.append(point(step))
        app.query_one(DistillPage)._follow()
        app.pane.look()
        text = await settle(pilot)
        for words in ("20 of 40 updates", "500 tokens a second", "40 s left", "loss by update", "σ by update", "I initialization", "A aggregation"):
            assert words in text
        loss = "\n".join("".join(segment.text for segment in strip) for strip in app.query_one("#loss").render_lines(app.query_one("#loss").size.region))
        assert set("IEA") <= set(loss)


async def test_where_it_is_narrow_a_key_changes_between_loss_and_sigma(tmp_path):
    Curve(folder(tmp_path, "distill", DISTILL) / "curve.jsonl").append(point(1))
    app = Screen(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        app.query_one(DistillPage).focus()
        seen = []
        for _ in range(2):
            text = await settle(pilot)
            seen.append(("loss by update" in text, "σ by update" in text))
            await pilot.press("s")
        assert seen == [(True, False), (False, True)]


def test_a_curve_that_was_written_anew_is_read_anew_and_foreign_lines_are_counted(tmp_path):
    curve = Curve(tmp_path / "curve.jsonl")
    follower = CurveFollower(curve.path)
    for step in (1, 2, 3):
        curve.append(point(step))
    assert follower.read()
    curve.keep_until(2)
    curve.append(point(3, tokens=5))
    assert follower.read()
    assert follower.points == curve.read()
    with curve.path.open("a") as file:
        file.write('what\n{"step": 4')
    follower.read()
    assert (follower.bad, len(follower.points)) == (1, 3)


def test_a_thinned_line_keeps_its_ends_and_is_short():
    xs = [float(x) for x in range(10_001)]
    thinned, _ = thin(xs, xs, 100)
    assert (thinned[0], thinned[-1]) == (0.0, 10_000.0)
    assert len(thinned) <= 102
    assert thin([], []) == ([], [])


def test_a_smoothed_line_stays_between_its_extremes():
    values = [3.0, 1.0, 2.0, 5.0]
    assert all(1.0 <= value <= 5.0 for value in smooth(values))
    assert smooth([2.0] * 5) == pytest.approx([2.0] * 5)


def test_the_pace_is_tokens_a_second_and_the_time_left_for_what_is_known():
    points = [point(step) for step in range(1, 11)]
    assert pace(points, 20) == (pytest.approx(500.0), pytest.approx(20.0))
    assert pace(points, None) == (pytest.approx(500.0), None)
    assert pace(points[:1], 20) == (0.0, None)


def test_a_mask_keeps_every_token_in_its_order():
    assert tuple(id for stretch in stretches(EXAMPLE) for id in stretch.ids) == EXAMPLE.ids
    text = masked(EXAMPLE, spelled)
    assert text.plain == f"1 {OPEN}2 {CLOSE}3 {TURN}4 {OPEN}5 6 {CLOSE}"
    assert [text.plain[span.start : span.end] for span in text.spans if "underline" in str(span.style)] == [f"{OPEN}2 {CLOSE}", f"{OPEN}5 6 {CLOSE}"]


async def test_a_data_set_without_its_tokenizer_shows_ids_and_says_why(tmp_path):
    dataset(tmp_path)
    app = Screen(tmp_path)
    async with app.run_test(size=(140, 45)) as pilot:
        text = await settle(pilot)
        assert "token ids are shown" in text
        assert "not the base" in text
        assert f"{OPEN}5 6 {CLOSE}" in text
        app.query_one("#example").focus()
        seen = []
        for key in ("n", "n", "right_square_bracket", "p", "left_square_bracket"):
            await pilot.press(key)
            await settle(pilot)
            page = app.query_one(DatasetPage)
            seen.append((page.number, page.place))
        assert seen == [(0, 1), (1, 0), (2, 0), (1, 1), (0, 1)]
        await pilot.press("g", "3", "enter")
        assert "trajectory 3 of 3" in await settle(pilot)
        await pilot.click("#back")
        assert "trajectory 2 of 3" in await settle(pilot)


def test_the_tokenizer_is_that_of_the_base_the_card_names(tmp_path):
    from steper_agent.students.fingerprint import base_fingerprint
    from training.microworld import BASE

    base = Path(__file__).parents[3] / BASE
    made = folder(tmp_path, "dataset", {"base": str(base)}, card={"base": base_fingerprint(base)})
    decode = open_decoder(made)
    assert isinstance(decode((5, 6, 7)), str)


def test_a_trajectory_that_is_not_there_or_no_example_is_told(tmp_path):
    file = Examples(dataset(tmp_path) / "examples.jsonl")
    assert list(file.scan()) == [3]
    with pytest.raises(DataError, match="no such"):
        file.read(3)
    file.path.write_text("{}\n" * 400)
    with pytest.raises(DataError, match="not an example"):
        file.read(0)


async def test_a_demo_tells_its_report_in_words(tmp_path):
    folder(tmp_path, "demo", {"held_out": 300, "learn_passages": 1}, report=REPORT)
    app = Screen(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        text = await settle(pilot)
        for words in ("the teacher", "1.000", "the student", "0.950", "300 held-out questions", "60 runs around it, 0 failed", "student@1 answered: Ann"):
            assert words in text


async def test_a_finished_evaluation_tells_its_score(tmp_path):
    made = folder(tmp_path, "judged", {"decoding": {}, "model": "m"})
    written(made / "journal.jsonl", end())
    (made / "report.json").write_text(json.dumps({"evaluation": {"score": {"em": 0.5, "f1": 0.6, "acc": 0.7, "n": 1}}}))
    app = Screen(tmp_path)
    async with app.run_test(size=(140, 45)) as pilot:
        assert "report: EM 0.500, F1 0.600, Acc 0.700 of 1 questions" in await settle(pilot)


async def test_the_cursor_stays_when_a_run_appears(tmp_path):
    for name in ("a", "b"):
        folder(tmp_path, name, COLLECT)
    app = Screen(tmp_path)
    async with app.run_test() as pilot:
        await settle(pilot)
        chosen = app.pane.chosen
        folder(tmp_path, "c", COLLECT)
        app.pane.look()
        await settle(pilot)
        assert app.query_one(OptionList).option_count == 3
        assert app.pane.chosen == chosen


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_tokens_are_inert_and_only_what_is_learned_is_marked(text):
    marked = masked(EXAMPLE, lambda _: f"{text}{OPEN}{CLOSE}")
    assert not FORBIDDEN & set(marked.plain)
    assert marked.plain.count(OPEN) == marked.plain.count(CLOSE) == 2


async def test_hostile_names_settings_and_reports_are_inert(tmp_path):
    for number, text in enumerate(HOSTILE[::48]):
        safe = text.encode(errors="replace").decode()
        name = f"{number}{safe[:40]}".replace("/", "-").replace("\x00", "")
        said = {"model": safe, "question": safe, "answer": safe, "gold": safe}
        folder(tmp_path, f"{name}-demo", {"held_out": safe, "learn_passages": safe},
               report={"student": {**JUDGED, "n": safe, "em": safe}, "seconds": {safe: 1.0, "x": safe}, "swap": {"runs": safe, "before": said, "after": said}})  # fmt: skip
        folder(tmp_path, f"{name}-collect", {"teacher": text, "strategy": text, "k": 4})
        folder(tmp_path, f"{name}-distill", DISTILL, report={"name": text})
        made = folder(tmp_path, f"{name}-dataset", None, card={"examples": {text: 3, "x": text}, "trajectories": {text: text}, "view": text})
        (made / "examples.jsonl").write_text(safe + "\n")
    app = Screen(tmp_path)
    async with app.run_test(size=(140, 45)) as pilot:
        await settle(pilot)
        for path in list(app.pane.runs):
            app.pane.choose(path)
            await pilot.pause()
            assert not FORBIDDEN & set(app.text)
            assert not any(FORBIDDEN & set(str(static.content)) for static in app.query(Static))
        assert app.is_running


@pytest.mark.parametrize("written_as", ["{root}/collect", "{root}/../{name}/collect", "{root}/./collect/"])
async def test_a_run_is_followed_however_its_folder_is_written(tmp_path, written_as):
    written(folder(tmp_path, "collect", COLLECT) / "journal.jsonl", node(), end())
    folder(tmp_path, "evaluate", COLLECT)
    app = Following(tmp_path, Path(written_as.format(root=tmp_path, name=tmp_path.name)))
    async with app.run_test() as pilot:
        await settle(pilot)
        assert app.pane.chosen == tmp_path / "collect"
        assert len(app.pane.runs) == 2


async def test_of_a_folder_that_only_holds_runs_one_of_those_is_followed(tmp_path):
    inner = tmp_path / "elsewhere" / "today"
    folder(inner, "collect", COLLECT)
    folder(tmp_path / "runs", "newer", COLLECT)
    app = Following(tmp_path / "runs", inner)
    async with app.run_test() as pilot:
        await settle(pilot)
        assert app.pane.chosen == inner / "collect"


async def test_a_run_that_has_not_begun_is_waited_for(tmp_path):
    app = Following(tmp_path / "runs", tmp_path / "later")
    async with app.run_test() as pilot:
        assert "Waiting for a run" in await settle(pilot)
        folder(tmp_path, "later", COLLECT)
        app.pane.look()
        await settle(pilot)
        assert app.query("#chosen > .page")
