"""The evidence pane explains a passage: ranks, words, steps, source; and opens the source in a person's own editor."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from textual.app import App, ComposeResult
from textual.widgets import Static

from steper_agent.errors import StepERError
from steper_agent.records import Call, Exchange, Hit, Passage, Step
from steper_agent.retrieval.why import Place, Standing, Why
from tests.tui.app.exchanges import exchange
from tests.tui.app.hostile import FORBIDDEN, HOSTILE
from tests.tui.app.test_chat import Host, soon
from tui.app.chain import PassageLine
from tui.app.chat import ChatPane
from tui.app.composer import Composer
from tui.app.desk import Desk
from tui.app.evidence import EvidencePane, lit, marked, query_of, ranks, used
from tui.app.reading import COLON, GOTO, PLUS, command

SIZES = [(80, 24), (140, 45)]
EMMA = Hit(passage=Passage(id="p1", title="Emma", text="It is a novel. Jane Austen wrote Emma in 1815. It sold."), score=2.5)


def why(**more: object) -> Why:
    given = {"searches": ("lexical", "dense"), "lexical": Standing(rank=2, score=3.25), "dense": Standing(rank=1234, score=0.5), "fused": 1,
             "shared": ("emma", "writing"), "lacking": ("who",), "words": ("emma", "wrote"),
             "place": Place(path="/papers/emma.md", line=7, is_copy=False), **more}  # fmt: skip
    return Why.model_validate(given)


class Pane(App[None]):
    def compose(self) -> ComposeResult:
        yield EvidencePane()

    @property
    def pane(self) -> EvidencePane:
        return self.query_one(EvidencePane)

    @property
    def told(self) -> str:
        return "\n".join(str(part.visual) for part in self.pane.query(Static))

    def show(self, hit: Hit = EMMA, **more: object) -> None:
        self.pane.show(hit, **{"step": 1, "query": "who is writing Emma", "rationale": "Jane Austen wrote Emma.", **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("size", SIZES)
async def test_a_passage_says_its_ranks_its_words_its_steps_and_its_source(size: tuple[int, int]) -> None:
    app = Pane()
    async with app.run_test(size=size) as pilot:
        app.show(exchange=exchange().model_copy(update={"rests_on": ((), ("p1",))}))
        app.pane.explain(why())
        await pilot.pause()
        assert "▶ Jane Austen ‹wrote› ‹Emma› in 1815. ◀" in app.told
        assert "lexical: rank 2, score 3.250; dense: rank 1,234, score 0.500; both together: rank 1" in app.told
        assert "words of the query in it: emma, writing; not in it: who" in app.told
        assert "found by no step; ◆ the rationale of step 2 rests on it" in app.told
        assert "source: /papers/emma.md:7" in app.told
        assert app.pane.virtual_region.width <= size[0]


async def test_without_the_index_what_is_known_is_told_and_why_there_is_no_more() -> None:
    app = Pane()
    async with app.run_test():
        app.show()
        app.pane.leave_unexplained("the index\nis not open")
        assert "ranks and source are not known: the index is not open" in app.told
        assert "words of the query in it: emma" in app.told
        assert "‹" not in app.told


async def test_the_next_passage_begins_unexplained() -> None:
    app = Pane()
    async with app.run_test():
        app.show()
        app.pane.explain(why())
        app.show(EMMA.model_copy(update={"passage": Passage(id="p2", title="Emma", text="Emma wrote.")}))
        assert "source:" not in app.told
        assert "‹" not in app.told


@pytest.mark.parametrize(("given", "told"), [
    ({"searches": ("lexical",), "dense": None}, "lexical: rank 2, score 3.250; the index has no other search"),
    ({"searches": ("dense",), "lexical": None}, "dense: rank 1,234, score 0.500; the index has no other search"),
    ({"dense": None, "fused": None}, "lexical: rank 2, score 3.250; dense: not among its first 1,000; both together: not among the first hundred"),
])  # fmt: skip
def test_only_searches_that_there_are_have_ranks(given: dict[str, object], told: str) -> None:
    assert ranks(why(**given)) == told


def test_every_step_that_found_a_passage_or_rests_on_it_is_named() -> None:
    one = exchange(steps=3)
    assert used(one, "p10") == "found by step 1; ◆ the rationale of step 1 rests on it"
    assert used(one, "p11") == "found by step 1; no rationale rests on it"
    later = one.model_copy(update={"rests_on": (("p10",), ("p20", "p10"), ("p10",))})
    assert used(later, "p10") == "found by step 1; ◆ the rationale of steps 1, 2, 3 rests on it"
    assert used(one.model_copy(update={"rests_on": ()}), "p10") == "found by step 1", "while it runs nobody knows"


def test_of_several_searches_side_by_side_the_one_that_found_it_is_explained() -> None:
    calls = (Call(tool="search", arguments={"query": "one"}, passage_ids=("a",)), Call(tool="search", arguments={"query": "two"}, passage_ids=("p1",)))
    step = Step(query="one; two", hits=(EMMA,), rationale="", calls=calls)

    def of(step: Step) -> Exchange:
        told = exchange()
        return told.model_copy(update={"trajectory": told.trajectory.model_copy(update={"steps": (step,)})})

    assert query_of(of(step), "p1") == "two"
    assert query_of(of(step.model_copy(update={"calls": ()})), "p1") == "one; two"
    assert query_of(of(step), "nowhere") == ""


def test_marks_add_signs_and_take_nothing_away() -> None:
    text = "Emma, EMMA's and emmas. Dilemma of Emma in 1815! Who?"
    told = marked(text, "Emma in 1815", frozenset(["emma"])).plain
    assert told.replace("▶ ", "").replace(" ◀", "").replace("‹", "").replace("›", "").strip() == text
    assert [part.split("›")[0] for part in told.split("‹")[1:]] == ["Emma", "EMMA", "Emma"]
    assert all(span.style for span in lit(text, frozenset(["emma"])).spans)


async def test_hostile_words_paths_and_queries_are_text() -> None:
    app = Pane()
    async with app.run_test(size=(80, 24)) as pilot:
        for number, text in enumerate(HOSTILE):
            clean = text.encode(errors="replace").decode()
            app.show(Hit(passage=Passage(id=clean, title=clean, text=clean), score=1.0), query=clean, rationale=clean)
            words = tuple(clean.lower().split())
            app.pane.explain(why(shared=words, lacking=words, words=words, place=Place(path=f"/{clean}", line=1, is_copy=True)))
            assert not FORBIDDEN & set(app.told)
            if number % 4 == 0:
                app.pane.scroll_end(animate=False)
                await pilot.pause()
                drawn = "".join(segment.text for strip in app.screen._compositor.render_strips() for segment in strip)
                assert not FORBIDDEN & set(drawn)


@pytest.mark.usefixtures("world")
async def test_in_the_chat_a_passage_of_an_answer_is_explained_by_its_own_index() -> None:
    app = Host(Desk())
    async with app.run_test(size=(140, 45)) as pilot:
        app.query_one(Composer).text = "What is the mother of Tendal Wimkin?"
        app.query_one(Composer).focus()
        await pilot.press("enter")
        await soon(pilot, lambda: bool(app.answered))
        line = app.query(PassageLine).first()
        line.action_open()
        pane = app.query_one(EvidencePane)
        await soon(pilot, lambda: pane.why is not None)
        assert pane.why
        assert pane.why.fused == 1
        assert pane.why.lexical
        assert f"{pane.why.lexical.score:.3f}" == f"{line.hit.score:.3f}", "the score it was found with"
        kept = Path(pane.why.place.path).read_text(encoding="utf-8").split("\n")[pane.why.place.line - 1]
        assert json.loads(kept)["id"] == line.hit.passage.id
        app.query_one(ChatPane).choice = app.choice.model_copy(update={"index": "/elsewhere"})
        last = app.query(PassageLine).last()
        last.action_open()
        await soon(pilot, lambda: pane.hit is last.hit and pane.why is not None)


@pytest.mark.parametrize("editor", sorted(PLUS | COLON | GOTO | {"unknown"}))
def test_every_editor_is_asked_for_the_line_in_its_own_way(editor: str, tmp_path: Path) -> None:
    program = tmp_path / editor
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    asked = command("/a b/$(x);'\"", 7, {"VISUAL": f"'{program}' -w", "EDITOR": "no"})
    assert asked[:2] == [str(program), "-w"]
    if editor in PLUS:
        assert asked[2:] == ["+7", "/a b/$(x);'\""]
    elif editor == "unknown":
        assert asked[2:] == ["/a b/$(x);'\""]
    else:
        assert asked[-1] == "/a b/$(x);'\":7"


def test_a_name_is_never_an_option_and_a_missing_editor_is_told() -> None:
    assert command("--help", 1, {"EDITOR": sys.executable})[-1] == os.path.abspath("--help")
    for broken in ("no-such-editor-here", "'half a quote"):
        with pytest.raises(StepERError):
            command("/x", 1, {"EDITOR": broken})


async def test_the_source_is_opened_at_its_line_and_the_app_lives_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The editor sees the path as it is, and its ctrl+c is its own."""
    wrote = tmp_path / "argv"
    script = f"import os, signal, sys; os.kill(os.getppid(), signal.SIGINT); open({str(wrote)!r}, 'w').write(sys.argv[1])"
    program = tmp_path / "editor"
    program.write_text(f"#!{sys.executable}\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(program))
    handler = signal.getsignal(signal.SIGINT)
    app = Pane()
    async with app.run_test() as pilot:
        app.show()
        app.pane.explain(why(place=Place(path="/papers/$(touch x) [b].md", line=7, is_copy=False)))
        app.pane.focus()
        await pilot.press("o")
        assert [one.title for one in app._notifications] == ["The source cannot be opened"], "a terminal of a test is not left to anybody"
        monkeypatch.setattr(app, "suspend", nullcontext)
        await pilot.press("o")
        assert wrote.read_text() == "/papers/$(touch x) [b].md"
        assert len(app._notifications) == 1
        assert signal.getsignal(signal.SIGINT) == handler
        app.show()
        await pilot.press("o")
        assert "No source is known" in list(app._notifications)[-1].message
