"""A student is taught the teacher's words where its own chain led, and never its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatResult
from pydantic import PrivateAttr

from graphs.run import Context, answer_all
from graphs.teacher import Teacher
from steper_agent.journal import Journal, trajectories
from steper_agent.models.loading import same_vocabulary
from steper_agent.prompts import render
from steper_agent.records import Call, Label, Likely, Question, Trajectory
from steper_agent.retrieval import IndexRetriever, build_index, open_index
from tests.tiny import tiny_base, tiny_tokenizer
from training.dataset import DatasetConfig, build
from training.examples.dataset_folder import load_dataset
from training.examples.filters import incorrect
from training.examples.labels import fits_of_labels, is_right, with_likely
from training.examples.views import PROMPT_TOO_LONG, Teaching, examples_of
from training.microworld.questions import make_questions
from training.microworld.teacher import SymbolicTeacher
from training.microworld.world import make_world
from training.replay import Chain, teacher_of

STRATEGIES = ("ircot", "self_ask", "tool_calling")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> tuple[IndexRetriever, list[Question]]:
    folder = tmp_path_factory.mktemp("world")
    world = make_world(120, split="train", seed=1)
    (folder / "corpus.jsonl").write_text("".join(passage.model_dump_json() + "\n" for passage in world.passages))
    build_index([folder / "corpus.jsonl"], folder / "index")
    return open_index(folder / "index"), make_questions(world, 6, seed=2)


def teaching(tokenizer: Any, **settings: Any) -> Teaching:
    return Teaching(**{"tokenizer": tokenizer, "view": "stepwise", "target": "cumulative", "max_length": 100_000, **settings})


def walked(file: Path, shelf: tuple[IndexRetriever, list[Question]], model: Any, *, strategy: str = "ircot", steps: int = 6) -> list[Trajectory]:
    index, questions = shelf
    with Journal(file) as journal:
        answer_all(questions, Context(model, index, strategy=strategy, k=3, steps=steps, journal=journal, teacher=Teacher(SymbolicTeacher())))
    return trajectories(file)


@pytest.fixture(scope="module")
def mistaken(tmp_path_factory: pytest.TempPathFactory, shelf: tuple[IndexRetriever, list[Question]]) -> list[Trajectory]:
    """Of a student that looks elsewhere first and then makes its answer up."""
    lines = ("Something is somewhere.", "So the answer is: nowhere.")
    student = teacher_of([Chain(question=question, lines=lines) for question in shelf[1]])
    return walked(tmp_path_factory.mktemp("mistaken") / "j.jsonl", shelf, student)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_student_that_is_the_teacher_learns_what_the_chain_itself_teaches(
    tmp_path: Path, shelf: tuple[IndexRetriever, list[Question]], tokenizer: Any, strategy: str
) -> None:
    made = walked(tmp_path / "j.jsonl", shelf, SymbolicTeacher(), strategy=strategy)
    right = [one for one in made if one.stop == "answered" and is_right(one)]
    assert right
    for row, one in enumerate(right):
        by_labels = [fit.example for fit in fits_of_labels(one, row, teaching(tokenizer))]
        assert by_labels == examples_of(one, row, teaching(tokenizer, target="incremental"))[0]


def test_the_prompt_is_the_students_chain_and_the_target_the_teachers_line(mistaken: list[Trajectory], tokenizer: Any) -> None:
    for one in mistaken:
        assert [step.rationale for step in one.steps] == ["Something is somewhere.", "So the answer is: nowhere."]
        fits = fits_of_labels(one, 0, teaching(tokenizer))
        assert len(fits) == len(one.labels)
        for fit, label in zip(fits, one.labels, strict=True):
            assert fit.example is not None
            ids, learn, turn = fit.example.ids, fit.example.learn, fit.example.turn
            assert learn == (0,) * turn + (1,) * (len(ids) - turn)
            assert tokenizer.decode(ids[turn:]).removesuffix("<|end|>") == f"{label.rationale}\n"
            assert ("Something is somewhere." in tokenizer.decode(ids[:turn])) == (label.step > 1)
            assert "nowhere" not in tokenizer.decode(ids)


def test_a_kind_follows_from_the_chain_that_the_label_continues(mistaken: list[Trajectory], tokenizer: Any) -> None:
    for one in mistaken:
        for fit, label in zip(fits_of_labels(one, 0, teaching(tokenizer)), one.labels, strict=True):
            assert fit.kind == ("aggregation" if label.answer else "initialization" if label.step == 1 else "expansion")
            assert fit.example is not None
            assert (fit.example.ids[-1] == tokenizer.eos_token_id) == bool(label.answer)


def test_the_answer_state_is_taught_as_the_graph_asks_for_it(tmp_path: Path, shelf: tuple[IndexRetriever, list[Question]], tokenizer: Any) -> None:
    index, questions = shelf
    student = teacher_of([Chain(question=question, lines=("Something is somewhere.",)) for question in questions])
    for one in walked(tmp_path / "j.jsonl", shelf, student, steps=1):
        (*_, label), (*_, fit) = one.labels, fits_of_labels(one, 0, teaching(tokenizer))
        assert label.of == "answer"
        assert fit.example is not None
        assert fit.kind == "aggregation"
        before = tokenizer.decode(fit.example.ids[: fit.example.turn])
        assert before.endswith("Something is somewhere.\nSo the answer is:")
        assert tokenizer.decode(fit.example.ids[fit.example.turn :]).removesuffix("<|end|>") == f" {label.answer}.\n"


def test_the_answer_state_loses_the_oldest_passages_that_nothing_needs(
    tmp_path: Path, shelf: tuple[IndexRetriever, list[Question]], tokenizer: Any
) -> None:
    student = teacher_of([Chain(question=question, lines=("Something is somewhere.",)) for question in shelf[1]])
    for one in walked(tmp_path / "j.jsonl", shelf, student, steps=1):
        *_, whole = fits_of_labels(one, 0, teaching(tokenizer))
        spare = next(hit.passage for hit in one.steps[0].hits if hit.passage.id not in one.question.supporting_ids)
        *_, fit = fits_of_labels(one, 0, teaching(tokenizer, max_length=whole.tokens - 1))
        assert (fit.tokens, fit.trimmed, fit.reason) == (whole.tokens, 1, "")
        assert whole.example is not None
        assert fit.example is not None
        assert fit.example.ids[fit.example.turn :] == whole.example.ids[whole.example.turn :]
        shown = [spare.text in tokenizer.decode(example.ids) for example in (whole.example, fit.example)]
        assert shown == [True, False]
        *_, lost = fits_of_labels(one, 0, teaching(tokenizer, max_length=40))
        assert (lost.example, lost.reason) == (None, PROMPT_TOO_LONG)


class Seen(SymbolicTeacher):
    """Keeps what it was shown, in order."""

    _prompts: list[tuple[list[BaseMessage], list[dict[str, Any]]]] = PrivateAttr(default_factory=list)

    def _generate(self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        self._prompts.append((messages, kwargs.get("tools", [])))
        return super()._generate(messages, stop, run_manager)

    def tokens(self, tokenizer: Any) -> list[tuple[int, ...]]:
        return [tuple(render(messages, tokenizer, tools)) for messages, tools in self._prompts]


@pytest.mark.parametrize("strategy", [*STRATEGIES, "single_step", "direct"])
@pytest.mark.parametrize("steps", [1, 6])
def test_what_is_taught_stands_behind_the_very_tokens_that_were_sent(
    tmp_path: Path, shelf: tuple[IndexRetriever, list[Question]], tokenizer: Any, strategy: str, steps: int
) -> None:
    index, questions = shelf
    stops = set()
    for asked in questions:
        teacher = Seen()
        with Journal(tmp_path / f"{asked.id}.jsonl") as journal:
            context = Context(SymbolicTeacher(), index, strategy=strategy, k=2, steps=steps, journal=journal, teacher=Teacher(teacher))
            answer_all([asked], context)
        (one,) = trajectories(tmp_path / f"{asked.id}.jsonl")
        stops.add(one.stop)
        made = [fit.example for fit in fits_of_labels(one, 0, teaching(tokenizer))]
        assert [example.ids[: example.turn] for example in made if example] == teacher.tokens(tokenizer)
    assert ("budget" in stops) == (steps == 1 and strategy in STRATEGIES)


def test_rounds_of_labels_and_the_teacher_s_own_walk_make_one_data_set(
    mistaken: list[Trajectory], shelf: tuple[IndexRetriever, list[Question]], tmp_path: Path
) -> None:
    """The wrong student is left out by nobody, for its words are not what is taught."""
    lines = ("Something is somewhere.", "So the answer is: nowhere.")
    walked(tmp_path / "labelled.jsonl", shelf, teacher_of([Chain(question=question, lines=lines) for question in shelf[1]]))
    with Journal(tmp_path / "own.jsonl") as journal:
        answer_all(shelf[1], Context(SymbolicTeacher(), shelf[0], k=3, steps=6, journal=journal))
    base = tiny_base(tmp_path / "base", window=8192)
    journals = (tmp_path / "own.jsonl", tmp_path / "labelled.jsonl")
    card = build(DatasetConfig(journal=journals, base=base, out=tmp_path / "set", supported=True, contributing=True))
    assert card.trajectories["kept"] == sum(part.trajectories["kept"] for part in card.journals)
    assert card.journals[1].trajectories["kept"] == sum(is_right(one) for one in mistaken) > 0
    taught = load_dataset(tmp_path / "set").trajectories[-1]
    assert all(sum(example.learn[: example.turn]) == 0 for example in taught), "a student's own lines are not learned"


def label(step: int, rationale: str, answer: str = "", **fields: Any) -> Label:
    return Label(**{"step": step, "of": "reason", "rationale": rationale, "answer": answer, "model": "t", **fields})


def run(*labels: Label, answer: str = "no", answers: tuple[str, ...] = ("yes",)) -> Trajectory:
    asked = Question(id="q", text="Is it?", answers=answers)
    steps = [{"query": "Is it?", "hits": (), "rationale": "It is not."} for _ in labels]
    return Trajectory.model_validate({"question": asked, "strategy": "ircot", "steps": steps, "answer": answer, "stop": "answered",
                                      "model": "s", "recipe": "r", "labels": [one.model_dump() for one in labels]})


@pytest.mark.parametrize(
    ("trajectory", "trusted"),
    [
        (run(label(1, "So the answer is: yes.", "yes")), True),
        (run(label(1, "So the answer is: no.", "no")), False),
        (run(label(1, "It is a thing.")), True),
        (run(label(1, "It is a thing."), answer="yes"), False),
        (run(label(1, "So the answer is: yes.", "yes"), answers=()), False),
        (run(label(1, "It is a thing."), label(2, "")).model_copy(update={"labels": (label(1, "It is a thing."),)}), False),
        (run(label(1, "It is not.", scored=True)), True),
        (run(), False),
    ],
    ids=["concludes rightly", "concludes wrongly", "goes on where the student is wrong", "goes on where the student is right",
         "nobody knows", "says nothing at the end", "scores", "no labels"],
)
def test_a_runs_labels_are_trusted_by_the_last_one(trajectory: Trajectory, trusted: bool, tokenizer: Any) -> None:
    assert is_right(trajectory) == trusted
    if trajectory.labels:
        assert (incorrect(trajectory) == "") == trusted
    assert len(fits_of_labels(trajectory, 0, teaching(tokenizer))) == len(trajectory.labels)


def test_the_vanilla_view_keeps_the_last_label_and_kinds_are_chosen(mistaken: list[Trajectory], tokenizer: Any) -> None:
    one = mistaken[0]
    every = fits_of_labels(one, 0, teaching(tokenizer))
    assert fits_of_labels(one, 0, teaching(tokenizer, view="vanilla")) == every[-1:]
    first = fits_of_labels(one, 0, teaching(tokenizer, kinds=("initialization",)))
    assert first == [fit for fit in every if fit.kind == "initialization"]


def test_a_label_that_a_student_could_not_follow_is_left_out(tokenizer: Any) -> None:
    other = label(1, "I compute.", calls=(Call(tool="compute", arguments={}),))
    assert not fits_of_labels(run(other), 0, teaching(tokenizer))


def likely(tokens: list[int]) -> Likely:
    return Likely(model="t", tokens=tuple(tokens), logprobs=(-0.5,) * len(tokens), top_ids=((1, 2),) * len(tokens),
                  top_logprobs=((-0.1, -3.0),) * len(tokens))


def test_likely_tokens_are_kept_up_to_where_the_text_is_spelt_otherwise(tokenizer: Any) -> None:
    (fit,) = fits_of_labels(run(label(1, "It is a thing.")), 0, teaching(tokenizer))
    example = fit.example
    assert example is not None
    own = list(example.ids[example.turn :])
    for told, size in ((own, len(own)), ([*own, 7], len(own)), ([*own[:3], 7, 8], 3), ([7, *own], 0)):
        kept = with_likely(example, likely(told)).likely
        assert (kept.tokens if kept else ()) == tuple(own[:size])
        assert kept is None or len(kept.logprobs) == len(kept.top_ids) == len(kept.top_logprobs) == size
    assert with_likely(example, None) == example


def test_of_a_scored_turn_no_token_is_learned_as_text(tokenizer: Any) -> None:
    (bare,) = fits_of_labels(run(label(1, "It is not.")), 0, teaching(tokenizer))
    assert bare.example is not None
    told = likely(list(bare.example.ids[bare.example.turn :]))
    (fit,) = fits_of_labels(run(label(1, "It is not.", scored=True, likely=told)), 0, teaching(tokenizer))
    assert fit.example is not None
    assert not any(fit.example.learn)
    assert fit.example.likely == told


def test_one_vocabulary_is_told_from_another(tokenizer: Any) -> None:
    assert same_vocabulary(tokenizer, tiny_tokenizer()) == ""
    marked, other = tiny_tokenizer(), tiny_tokenizer()
    marked.add_tokens(["<|thought|>"], special_tokens=True)
    other.add_tokens(["<|image|>"], special_tokens=True)
    assert same_vocabulary(tokenizer, marked) == same_vocabulary(marked, tokenizer) == ""
    assert str(len(tokenizer)) in same_vocabulary(marked, other)
