"""The loop: when it goes round, how it ends, what each node sees and what the journal keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage

from graphs.run import Context, aanswer_all, answer_all, build_graph
from steper_agent.journal import Journal, read, trajectories
from steper_agent.models.slot import ModelSlot
from steper_agent.records import Finished, NodeRecord, Question
from tests.fakes import Script, said, shelf

LINES = ("Jane Austen wrote Emma.", "Jane Austen was born in 1775. So the answer is: 1775.")
QUESTION = "When was the author of Emma born?"
SHELF = shelf("Emma", "Jane Austen", "Unrelated")


class Stopped(Script):
    """Remembers what was to end its turns."""

    stops: list[Any] = []

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        self.stops.append(stop)
        return super()._generate(messages, stop, run_manager, **kwargs)


def test_the_last_line_of_reasoning_is_the_next_query() -> None:
    out = build_graph().invoke({"question": QUESTION}, context=Context(Script(lines=LINES), SHELF))
    assert [step["query"] for step in out["steps"]] == [QUESTION, LINES[0]]
    assert (out["answer"], out["stop"]) == ("1775", "answered")


async def test_sync_and_async_give_the_same_run() -> None:
    graph = build_graph()
    waited = await graph.ainvoke({"question": QUESTION, "run": "r"}, context=Context(Script(lines=LINES), SHELF))
    blocked = graph.invoke({"question": QUESTION, "run": "r"}, context=Context(Script(lines=LINES), SHELF))
    assert {k: v for k, v in waited.items() if k != "started"} == {k: v for k, v in blocked.items() if k != "started"}


def test_a_spent_budget_asks_for_an_answer() -> None:
    model = Script(lines=("Hm.", "Well.", " 1775."))
    out = build_graph().invoke({"question": QUESTION}, context=Context(model, SHELF, steps=2))
    assert (out["answer"], out["stop"], len(out["steps"])) == ("1775", "budget", 2)
    assert said(model.seen[-1]) == "Hm.\nWell.\nSo the answer is:"


def test_the_loop_ends_by_its_own_edge_however_many_steps_it_is_given() -> None:
    model = Script(lines=("Hm.",) * 60 + (" 1775.",))
    assert len(build_graph().invoke({"question": QUESTION}, context=Context(model, SHELF, steps=60))["steps"]) == 60


def test_passages_are_only_appended_and_never_shown_twice() -> None:
    model = Script(lines=("Emma is a novel.", "Jane Austen wrote Emma.", "So the answer is: 1775."))
    build_graph().invoke({"question": "Emma?"}, context=Context(model, SHELF))
    shown = [messages[1].text.partition("\n\nQuestion:")[0] for messages in model.seen]
    assert all(later.startswith(earlier) for earlier, later in zip(shown, shown[1:], strict=False))
    assert shown[-1].count("About Emma.") == 1


def test_a_model_that_cannot_continue_its_turn_is_shown_the_reasoning() -> None:
    model = Script(lines=LINES, continues_final_message=False)
    build_graph().invoke({"question": QUESTION}, context=Context(model, SHELF))
    assert isinstance(model.seen[1][-1], HumanMessage)
    assert LINES[0] in model.seen[1][-1].text


@pytest.mark.parametrize("strategy", ["ircot", "self_ask", "self_rag", "direct"])
@pytest.mark.parametrize("continues", [True, False])
def test_no_provider_is_sent_a_stop_that_it_may_refuse(strategy: str, continues: bool) -> None:
    model = Stopped(lines=("So the final answer is: 1775.\nMore.",) * 2, continues_final_message=continues)
    given = {"question": "And when?", "history": [{"role": "user", "content": "Who wrote Emma?"}]}
    out = build_graph().invoke(given, context=Context(model, SHELF, strategy=strategy, steps=1))
    assert out["answer"] == "1775"
    assert {bool(stop) for stop in model.stops} == {continues}


class Counted(Stopped):
    """Tells what each of its calls cost."""

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        made = super()._generate(messages, stop, run_manager, **kwargs)
        made.generations[0].message.usage_metadata = {"input_tokens": 10, "output_tokens": 2, "total_tokens": 12}
        return made


@pytest.mark.parametrize("kind", [Stopped, Counted])
def test_a_thought_that_a_stop_cut_is_asked_for_to_its_end_and_both_calls_are_paid_for(kind: type[Stopped], tmp_path: Path) -> None:
    model = kind(lines=("<think>", f"<think>\nWho wrote it?\nJane Austen.\n</think>\n{LINES[0]}", LINES[1]))
    with Journal(tmp_path / "j.jsonl") as journal:
        out = build_graph().invoke({"question": QUESTION}, context=Context(model, SHELF, journal=journal))
    assert [step["rationale"] for step in out["steps"]] == list(LINES)
    assert [bool(stop) for stop in model.stops] == [True, False, True]
    costs = [r.usage.prompt_tokens if r.usage else None for r in read(tmp_path / "j.jsonl") if isinstance(r, NodeRecord) and r.node == "reason"]
    assert costs == ([20, 10] if kind is Counted else [None, None])


def test_an_empty_line_is_a_recorded_parse_error_and_the_question_is_the_query_again(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        model = Script(lines=("\n", LINES[1]))
        out = build_graph().invoke({"question": QUESTION}, context=Context(model, SHELF, journal=journal))
    assert [step["query"] for step in out["steps"]] == [QUESTION, QUESTION]
    outcomes = [r.outcome for r in read(tmp_path / "j.jsonl") if isinstance(r, NodeRecord) and r.node == "reason"]
    assert outcomes == ["parse_error", "ok"]


def test_nothing_found_is_recorded_and_the_run_goes_on(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        build_graph().invoke({"question": "zzz"}, context=Context(Script(lines=LINES[1:]), SHELF, journal=journal))
    assert [r.outcome for r in read(tmp_path / "j.jsonl") if isinstance(r, NodeRecord)][1] == "empty_retrieval"


def test_every_node_is_journalled_and_the_trajectory_comes_back(tmp_path: Path) -> None:
    question = Question(id="q1", text=QUESTION, answers=("1775",))
    with Journal(tmp_path / "j.jsonl") as journal:
        made = answer_all([question], Context(Script(lines=LINES), SHELF, journal=journal))
    records = list(read(tmp_path / "j.jsonl"))
    nodes = [(r.node, r.step) for r in records if isinstance(r, NodeRecord)]
    assert nodes == [("form_query", 1), ("retrieve", 1), ("reason", 1), ("form_query", 2), ("retrieve", 2), ("reason", 2)]
    assert isinstance(records[-1], Finished)
    assert trajectories(tmp_path / "j.jsonl") == made


@pytest.mark.parametrize("kept", range(1, 7))
def test_a_killed_run_recalls_what_the_journal_holds(tmp_path: Path, kept: int) -> None:
    question = Question(id="q1", text=QUESTION)
    whole, half = tmp_path / "whole.jsonl", tmp_path / "half.jsonl"
    with Journal(whole) as journal:
        undisturbed = answer_all([question], Context(Script(lines=LINES), SHELF, journal=journal))
    half.write_text("".join(whole.read_text().splitlines(keepends=True)[:kept]) + '{"half a li')
    spoken = sum(1 for r in list(read(half)) if isinstance(r, NodeRecord) and r.node == "reason")
    with Journal(half) as journal:
        resumed = answer_all([question], Context(Script(lines=LINES[spoken:]), SHELF, journal=journal))
    assert resumed == undisturbed
    assert len(list(read(half))) == len(list(read(whole)))


def test_nothing_is_left_of_an_attempt_that_was_begun_anew(tmp_path: Path) -> None:
    question, path = Question(id="q1", text=QUESTION), tmp_path / "j.jsonl"
    for lines, name in ((("One.", "Two.", "Three."), "old"), (LINES, "new")):
        with Journal(path) as journal:
            (made,) = answer_all([question], Context(Script(lines=lines), SHELF, journal=journal, recipe=name))
    assert len(made.steps) == 2
    assert trajectories(path) == [made]


@pytest.mark.parametrize(("recipe", "left_to_say", "searched"), [("one", LINES[1:], 1), ("another", LINES, 2)])
def test_work_of_another_recipe_is_not_recalled(tmp_path: Path, recipe: str, left_to_say: tuple[str, ...], searched: int) -> None:
    question = Question(id="q1", text=QUESTION)
    for lines, name, stop in ((LINES[:1], "one", "error"), (left_to_say, recipe, "answered")):
        with Journal(tmp_path / "j.jsonl") as journal:
            (made,) = answer_all([question], Context(Script(lines=lines), SHELF, journal=journal, recipe=name))
        assert made.stop == stop
    first = [r for r in read(tmp_path / "j.jsonl") if isinstance(r, NodeRecord) and (r.node, r.step) == ("retrieve", 1)]
    assert len(first) == searched


def test_half_a_character_ends_no_run(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        model = Script(lines=("Jane \ud800 Austen wrote Emma.", LINES[1]))
        out = build_graph().invoke({"question": "Who \ud800 wrote Emma?"}, context=Context(model, SHELF, journal=journal))
    assert (out["answer"], len(out["steps"])) == ("1775", 2)
    assert {record.outcome for record in read(tmp_path / "j.jsonl") if isinstance(record, NodeRecord)} == {"ok"}


async def test_one_failing_question_does_not_stop_the_others(tmp_path: Path) -> None:
    questions = [Question(id=str(n), text=QUESTION) for n in range(3)]
    with Journal(tmp_path / "j.jsonl") as journal:
        model = Script(lines=(LINES[1], LINES[1]))
        made = await aanswer_all(questions, Context(model, SHELF, journal=journal), concurrency=1)
        assert [t.stop for t in made] == ["answered", "answered", "error"]
        assert set(journal.finished) == {"0", "1"}
    failed = [r for r in read(tmp_path / "j.jsonl") if isinstance(r, NodeRecord) and r.outcome == "error"]
    assert "the script is over" in failed[0].note


def test_a_run_keeps_its_version_and_the_next_gets_the_new_one() -> None:
    slot = ModelSlot(Script(lines=LINES, version="old"), "old")

    class Swapping(Script):
        def _generate(self, messages, *args, **kwargs):  # type: ignore[no-untyped-def]
            slot.swap(lambda: Script(lines=LINES, version="new"))
            return super()._generate(messages, *args, **kwargs)

    slot = ModelSlot(Swapping(lines=LINES, version="old"))
    first = build_graph().invoke({"question": QUESTION}, context=Context(slot, SHELF))
    second = build_graph().invoke({"question": QUESTION}, context=Context(slot, SHELF))
    assert (first["model"], second["model"]) == ("old", "new")
    assert slot.drain(0.1)


def test_events_tell_the_story_in_order() -> None:
    stream = build_graph().stream({"question": QUESTION}, context=Context(Script(lines=LINES), SHELF), stream_mode="custom")
    assert [event["event"] for event in stream] == ["query", "hits", "rationale"] * 2 + ["answer"]


async def test_tokens_stream_while_the_model_writes() -> None:
    model = GenericFakeChatModel(messages=iter([AIMessage(content="So the answer is: 1775")]))
    stream = build_graph().astream({"question": QUESTION}, context=Context(model, SHELF), stream_mode="messages")
    chunks = [chunk.text async for chunk, about in stream if about["langgraph_node"] == "reason"]
    assert len(chunks) > 1
    assert "".join(chunks) == "So the answer is: 1775"


def test_the_graph_runs_inside_another_langchain_program() -> None:
    from langchain_core.runnables import RunnableLambda

    model = FakeListChatModel(responses=list(LINES))
    context = Context(model, SHELF)
    chain = RunnableLambda(lambda text: {"question": text}) | RunnableLambda(
        lambda given, config: build_graph().invoke(given, config, context=context)  # type: ignore[arg-type]
    ) | RunnableLambda(lambda state: state["answer"])  # fmt: skip
    assert chain.invoke(QUESTION) == "1775"
