"""A rival's student is taught what its own graph would show it and ask of it, and nothing that it is not shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest

from graphs.run import Context, answer_all, build_graph
from graphs.strategies import STRATEGIES, self_rag
from steper_agent.errors import ConfigError
from steper_agent.journal import Journal, trajectories
from steper_agent.prompts import render, show_passage
from steper_agent.records import Example, Hit, Label, Passage, Question, Step, Trajectory, View
from steper_agent.retrieval import IndexRetriever, build_index, open_index
from tests.fakes import Script
from tests.tiny import tiny_base, tiny_tokenizer
from training.dataset import DatasetConfig, build
from training.examples.dataset_folder import load_dataset
from training.examples.filters import unsupported
from training.examples.names import named
from training.examples.rivals import (
    ONE_SEARCH,
    RIVALS,
    UNFOUND,
    as_single_step,
    fits_for,
    fits_of_rival,
    note_of,
    unfound,
)
from training.examples.views import Teaching, fits_of
from training.microworld.questions import CHAINS, make_questions
from training.microworld.teacher import SymbolicTeacher
from training.microworld.world import make_world

K = 3
ANY_LENGTH = 100_000


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index, and the journal of a teacher that was asked twelve questions in steps."""
    folder = tmp_path_factory.mktemp("world")
    made = make_world(150, split="train", seed=1)
    (folder / "corpus.jsonl").write_text("".join(passage.model_dump_json() + "\n" for passage in made.passages))
    build_index([folder / "corpus.jsonl"], folder / "index")
    with Journal(folder / "journal.jsonl") as journal:
        answer_all(make_questions(made, 12, seed=2, mix=CHAINS), Context(SymbolicTeacher(), open_index(folder / "index"), k=K, steps=6, journal=journal))
    return folder


@pytest.fixture(scope="module")
def index(world: Path) -> IndexRetriever:
    return open_index(world / "index")


@pytest.fixture(scope="module")
def told(world: Path) -> list[Trajectory]:
    return trajectories(world / "journal.jsonl")


def teaching(tokenizer: Any, view: View, max_length: int = ANY_LENGTH, **settings: Any) -> Teaching:
    return Teaching(tokenizer, view, "cumulative", max_length, **settings)


def examples(trajectory: Trajectory, tokenizer: Any, view: View, max_length: int = ANY_LENGTH) -> list[Example]:
    return [fit.example for fit in fits_of_rival(trajectory, 0, teaching(tokenizer, view, max_length)) if fit.example]


def turn_of(example: Example, tokenizer: Any) -> str:
    return str(tokenizer.decode(example.ids[example.turn :])).removesuffix("<|end|>").removesuffix("\n")


def test_every_view_but_stepper_s_own_two_is_a_rival_with_a_strategy_of_its_name() -> None:
    assert set(RIVALS) == set(get_args(View)) - {"stepwise", "vanilla"}
    assert all((1 if view in ONE_SEARCH else None) == STRATEGIES[view].MOST_STEPS for view in RIVALS)


@pytest.mark.parametrize("view", RIVALS)
def test_a_graph_whose_model_says_what_is_taught_sends_the_examples_prompts(
    view: View, told: list[Trajectory], index: IndexRetriever, tokenizer: Any
) -> None:
    """Token for token, at every step; it ends as the example does, and the budget is never spent."""
    for trajectory in told:
        made = examples(trajectory, tokenizer, view)
        model = Script(lines=tuple(turn_of(example, tokenizer) for example in made))
        out = build_graph().invoke({"question": trajectory.question.text}, context=Context(model, index, strategy=view, k=K, steps=9))
        assert [tuple(render(messages, tokenizer)) for messages in model.seen] == [example.ids[: example.turn] for example in made]
        assert (out["answer"], out["stop"]) == (trajectory.answer, "answered")


@pytest.mark.parametrize("view", RIVALS)
def test_kinds_are_those_of_its_steps_and_every_token_of_its_turn_is_learned(view: View, told: list[Trajectory], tokenizer: Any) -> None:
    for trajectory in told:
        made = examples(trajectory, tokenizer, view)
        assert all(set(example.learn[example.turn :]) == {1} for example in made)
        if view in ONE_SEARCH:
            assert [(example.kind, example.step) for example in made] == [("aggregation", 1)]
        else:
            stepwise = [fit.example for fit in fits_of(trajectory, 0, teaching(tokenizer, "stepwise"))]
            assert [(one.kind, one.step) for one in made] == [(one.kind, one.step) for one in stepwise if one]
        own = [kind for kind in ("initialization", "aggregation") if any(example.kind == kind for example in made)]
        parts = [fits_of_rival(trajectory, 0, teaching(tokenizer, view, kinds=(kind,))) for kind in own]
        assert sum(map(len, parts)) == sum(example.kind in own for example in made)


@pytest.mark.parametrize("view", ONE_SEARCH)
def test_no_name_in_a_target_is_missing_from_its_prompt(view: View, told: list[Trajectory], tokenizer: Any) -> None:
    """Of the chains that the data set keeps; among those it leaves out are some that say what they are not shown."""
    kept = [one for one in told if not unfound(one)]
    assert 0 < len(kept) < len(told)
    unshown = list[Trajectory]()
    for trajectory in told:
        (example,) = examples(trajectory, tokenizer, view)
        prompt = tokenizer.decode(example.ids[: example.turn])
        missing = [name for name in named(turn_of(example, tokenizer)) if not all(re.search(rf"\b{word}\b", prompt, re.IGNORECASE) for word in name)]
        unshown += [trajectory] if missing else []
    assert unshown
    assert not [one for one in unshown if one in kept]


def test_self_rag_s_lines_stand_between_their_marks(told: list[Trajectory], tokenizer: Any) -> None:
    for trajectory in told:
        lines = [turn_of(example, tokenizer) for example in examples(trajectory, tokenizer, "self_rag")]
        assert [self_rag.unmarked(line) for line in lines] == [step.rationale for step in trajectory.steps]
        assert [self_rag.RETRIEVE in line for line in lines] == [True] * (len(lines) - 1) + [False]
        assert lines[-1].endswith("[Utility:5]")
        gold = set(trajectory.question.supporting_ids)
        found = [any(hit.passage.id in gold for hit in step.hits) for step in trajectory.steps]
        assert [line.startswith("[Relevant]") for line in lines] == found
    wrong = told[0].model_copy(update={"answer": "elsewhere"})
    assert turn_of(examples(wrong, tokenizer, "self_rag")[-1], tokenizer).endswith("[Utility:1]")


def judged(view: View, trajectory: Trajectory, tokenizer: Any, max_length: int = ANY_LENGTH) -> list[tuple[str, bool]]:
    """What one search's rivals judge, in order: the text of the passage shown under that number, and whether it is relevant."""
    (example,) = examples(trajectory, tokenizer, view, max_length)
    shown = re.findall(r"(?:^|<\|user\|>)\[\d+\] (.+)$", tokenizer.decode(example.ids[: example.turn]), re.MULTILINE)
    pattern = r"Note \[(\d+)\], (relevant|irrelevant)" if view == "chain_of_note" else r"(?<!Note )\[(\d+)\] is (informative|distracting)\."
    found = re.findall(pattern, turn_of(example, tokenizer))
    assert [int(number) for number, _ in found] == list(range(1, len(shown) + 1))
    return [(text, word in ("relevant", "informative")) for text, (_, word) in zip(shown, found, strict=True)]


@pytest.mark.parametrize("view", ["chain_of_note", "sail"])
def test_every_passage_shown_is_judged_once_by_the_gold(view: View, told: list[Trajectory], tokenizer: Any) -> None:
    for trajectory in told:
        gold = {show_passage(0, hit.passage)[4:] for hit in trajectory.steps[0].hits if hit.passage.id in trajectory.question.supporting_ids}
        assert {text for text, is_so in judged(view, trajectory, tokenizer) if is_so} == gold


@pytest.mark.parametrize("view", ["chain_of_note", "sail"])
def test_a_passage_that_had_to_go_is_not_judged_either(view: View, told: list[Trajectory], tokenizer: Any) -> None:
    trajectory = told[0]
    whole = judged(view, trajectory, tokenizer)
    (example,) = examples(trajectory, tokenizer, view)
    cut = judged(view, trajectory, tokenizer, len(example.ids) - 1)
    assert len(cut) == len(whole) - 1
    assert [one for one in whole if one[1]] == [one for one in cut if one[1]]


def test_where_nobody_knows_the_gold_the_evidence_judges(tokenizer: Any) -> None:
    read, spare = Passage(id="a", title="Emma", text="Emma is a novel. Emma came from Jane Austen."), Passage(id="b", title="Otto", text="Otto sleeps.")
    step = Step(query="Who?", hits=(Hit(passage=spare, score=2), Hit(passage=read, score=1)), rationale="Emma came from Jane Austen. So the answer is: Jane Austen.")
    unknown = Trajectory(question=Question(id="q", text="Who?"), strategy="ircot", steps=(step,), answer="Jane Austen", stop="answered", model="m", recipe="r")
    (example,) = examples(unknown, tokenizer, "chain_of_note")
    assert turn_of(example, tokenizer) == f"Note [1], irrelevant. Note [2], relevant: Emma came from Jane Austen. {step.rationale}"


@pytest.mark.parametrize(("text", "note"), [
    ("One thing. The river flows.", "The river flows."), ("So the answer is: river flows. Else.", "Else."), ("The answer is river.", "Title"), ("", "Title"),
    ("The river\nflows <|im_end|> on.", "The river flows <| im_end|> on."),
])
def test_a_note_is_a_sentence_the_prompt_shows(text: str, note: str) -> None:
    passage = Passage(id="p", title="Title", text=text)
    found = note_of(passage, frozenset({"river", "flows"}))
    assert found == note or "im_end" in note
    assert found in show_passage(1, passage)


@pytest.mark.parametrize("change", [{"strategy": "tool_calling"}, {"strategy": "direct", "steps": ()},
                                    {"labels": (Label(step=1, of="reason", rationale="x", model="t"),)}])
def test_a_journal_that_cannot_be_retold_is_refused(change: dict[str, Any], told: list[Trajectory], tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match=r"the sail view cannot be made(.|\n)*--strategy ircot"):
        fits_for(told[0].model_copy(update=change), 0, teaching(tokenizer, "sail"))


def test_what_one_search_supports_is_what_a_teacher_that_is_asked_so_gets_right(told: list[Trajectory], index: IndexRetriever) -> None:
    """A chain is kept where a teacher with nothing but the first passages comes to its answer, and nowhere else."""
    asked = answer_all([one.question for one in told], Context(SymbolicTeacher(), index, strategy="single_step", k=K))
    assert [one.answer == other.answer for one, other in zip(asked, told, strict=True)] == [not unfound(one) for one in told]
    assert all(unfound(one) for one in told if unsupported(as_single_step(one)))


def test_a_data_set_counts_what_one_search_does_not_find(world: Path, told: list[Trajectory], tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base", window=4096)

    def card(view: View, **settings: Any) -> Any:
        out = tmp_path / f"{view}{len(settings)}"
        return build(DatasetConfig.model_validate({"journal": (world / "journal.jsonl",), "base": base, "out": out, "view": view, **settings}))

    kept = sum(not unfound(one) for one in told)
    for view in ONE_SEARCH:
        made = card(view)
        assert (made.view, made.trajectories["kept"], made.trajectories[UNFOUND]) == (view, kept, len(told) - kept)
        assert "one_search" in made.filters
    assert card("sail", ungrounded=True).trajectories["kept"] == len(told) == card("self_rag").trajectories["kept"]
    assert len(load_dataset(tmp_path / "sail0").trajectories) == kept
    with pytest.raises(ConfigError, match="the sail view has no step of these kinds"):
        card("sail", kinds=("expansion",))
    with pytest.raises(ConfigError, match="log-probabilities are of its own words"):
        card("self_rag", teacher=base)
