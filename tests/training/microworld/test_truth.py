"""The true chain of a question, and wrong runs whose fault is known because it was put there: does attribution find it?"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from graphs.run import Context, answer_all
from steper_agent.records import Question, Trajectory
from steper_agent.retrieval import IndexRetriever, build_index, open_index
from tests.training.microworld import deviants
from tests.training.microworld.deviants import Broken, Deviant, Forgetful
from training.attribution.abilities import score_abilities
from training.attribution.first_fault import first_fault
from training.attribution.gold import golds_of
from training.attribution.records import FAULTS, Fault, FaultLabel, Gold, Link
from training.microworld.dials import PRESETS, Preset
from training.microworld.hardening import make_hard_world
from training.microworld.language import LITERALS, Fact, canonical, facts_in, sentences
from training.microworld.questions import follow, make_questions, understand
from training.microworld.teacher import SymbolicTeacher
from training.microworld.truth import Facts, facts_of, truth_of
from training.microworld.world import World, make_world

STRATEGIES = ("ircot", "self_ask", "tool_calling")
BUDGET = 6


@dataclass(frozen=True, slots=True)
class Bench:
    world: World
    facts: Facts
    questions: list[Question]
    index: IndexRetriever

    def truth(self, question: Question) -> Gold:
        found = truth_of(question, self.facts)
        assert found is not None
        return found


@dataclass(frozen=True, slots=True)
class Corrupted:
    """A run, and what was done to it."""

    trajectory: Trajectory
    label: FaultLabel
    step: int | None


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("world")
    world = make_world(400, split="test", seed=21)
    (folder / "corpus.jsonl").write_text("".join(one.model_dump_json() + "\n" for one in world.passages), encoding="utf-8")
    build_index([folder / "corpus.jsonl"], folder / "index")
    return Bench(world, facts_of(world.passages), make_questions(world, 18, seed=22), open_index(folder / "index"))


def right_runs(bench: Bench, strategy: str) -> list[Trajectory]:
    """Those that state every hop; some had to search twice for one."""
    made = answer_all(bench.questions, Context(SymbolicTeacher(), bench.index, strategy=strategy, k=3, steps=BUDGET))
    return [one for one in made if one.answer == one.question.answers[0] and 0 not in steps_of(bench, one)]


def steps_of(bench: Bench, trajectory: Trajectory) -> list[int]:
    """For every hop the step whose line says it, word for word; 0 where none does."""
    said = [canonical(Fact(link.subject, link.relation, *link.objects)) for link in bench.truth(trajectory.question).links]
    return [next((number for number, step in enumerate(trajectory.steps, start=1) if fact in step.rationale), 0) for fact in said]


def corruptions(bench: Bench, right: Trajectory, rng: random.Random) -> Iterator[Corrupted]:
    """The same question, asked again of a teacher or a search with one flaw."""
    question, truth, steps = right.question, bench.truth(right.question), steps_of(bench, right)
    hop = rng.randrange(len(steps))
    link, said, last = truth.links[hop], steps[hop], steps[-1]
    first = next(place for place, one in enumerate(truth.links) if one.passages == link.passages)
    looked = steps[first - 1] + 1 if first else 1
    ask = partial(asked, bench, question, right.strategy)
    yield Corrupted(ask(retriever=Forgetful(search=bench.index, without=link.passages[0])), "not_retrieved", looked)
    yield Corrupted(ask(Deviant(see=unread(bench, link))), "not_used", said)
    yield Corrupted(ask(Deviant(see=misread(bench, link, rng), at=said)), "wrong_entity", said)
    yield Corrupted(ask(Deviant(say=deviants.concluding(lambda answer: another(bench, answer, rng)))), "wrong_entity", last)
    if hop + 1 < len(steps):
        yield Corrupted(ask(Deviant(say=deviants.cut(said, link.objects[0]))), "stopped_early", said)
        if steps[hop + 1] == said + 1:  # Else the next hop's passage had not been found either.
            yield Corrupted(ask(Deviant(say=deviants.stuck(said + 1))), "never_stopped", said + 1)
    yield Corrupted(ask(Deviant(say=deviants.mumbling)), "format", last)
    yield Corrupted(ask(Deviant(say=deviants.concluding(lambda answer: f"{answer}, as the passages say"))), "format", last)
    yield Corrupted(with_answer(right, another(bench, right.answer, rng)), "wrong_gold", last)
    yield Corrupted(ask(retriever=Broken()), "error", None)
    if right.strategy != "ircot":
        other = rng.choice([name for name in bench.world.ids if name not in question.text and name not in repr(truth)])
        yield Corrupted(ask(Deviant(say=deviants.asking(link.subject, other))), "wrong_entity", looked)


def asked(bench: Bench, question: Question, strategy: str, model: SymbolicTeacher | None = None, retriever=None) -> Trajectory:
    return answer_all([question], Context(model or SymbolicTeacher(), retriever or bench.index, strategy=strategy, k=3, steps=BUDGET))[0]


def with_answer(trajectory: Trajectory, answer: str) -> Trajectory:
    return trajectory.model_copy(update={"question": trajectory.question.model_copy(update={"answers": (answer,)})})


def sentence_of(bench: Bench, link: Link) -> str:
    first, *rest = sentences(next(passage.text for passage in bench.world.passages if passage.id == link.passages[0]))
    return next(said for said in rest if (link.subject, link.relation) in [fact[:2] for fact in facts_in(f"{first} {said}")])


def unread(bench: Bench, link: Link) -> deviants.See:
    said = sentence_of(bench, link)
    return lambda text: text.replace(said, "")


def misread(bench: Bench, link: Link, rng: random.Random) -> deviants.See:
    """Another object in the sentence, from wherever it is read: the chain goes on from there."""
    said, right = sentence_of(bench, link), link.objects[0]
    other = said.replace(right, another(bench, right, rng))
    return lambda text: text.replace(said, other)


def another(bench: Bench, right: str, rng: random.Random) -> str:
    """Something else of the same type: another person for a person, another year for a year, no for yes."""
    if right in ("yes", "no"):
        return "no" if right == "yes" else "yes"
    kind = bench.world.types.get(right)
    literals = next((values for values in LITERALS.values() if right in values), ())
    pool = [name for name, of in bench.world.types.items() if of == kind] if kind else literals
    return rng.choice([one for one in pool if one != right])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_fault_that_was_put_there_is_found(bench: Bench, strategy: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    rng = random.Random(strategy)
    spoiled = [one for right in right_runs(bench, strategy) for one in corruptions(bench, right, rng)]
    # A flaw may leave the answer right: another year, and still the earlier one.
    wrong = [one for one in spoiled if one.trajectory.answer not in one.trajectory.question.answers]
    truths = [bench.truth(one.trajectory.question) for one in wrong]
    found = [first_fault(one.trajectory, truth) for one, truth in zip(wrong, truths, strict=True)]
    confused = Counter((one.label, fault and fault.label) for one, fault in zip(wrong, found, strict=True) if fault is None or fault.label != one.label)
    agree, same_step = agreement(wrong, found)
    print(f"{strategy}: {len(wrong)} wrong answers, {agree:.3f} of labels, {same_step:.3f} of steps; {dict(confused)}")
    assert len(wrong) >= 120
    assert {one.label for one in wrong} == set(FAULTS)
    assert agree >= 0.95
    assert same_step >= 0.95
    # The same chain as a real data set would tell it, whose lines nobody can parse; and the supporting passages alone.
    assert agreement(wrong, [first_fault(one.trajectory, truth.model_copy(update={"closed": False})) for one, truth in zip(wrong, truths, strict=True)])[0] >= 0.95
    assert agreement(wrong, [first_fault(one.trajectory) for one in wrong])[0] >= 0.75


def agreement(wrong: list[Corrupted], found: list[Fault | None]) -> tuple[float, float]:
    """The share of labels that are the flaw's, and of these the share of steps that are."""
    steps = [one.step == fault.step for one, fault in zip(wrong, found, strict=True) if fault is not None and fault.label == one.label]
    return len(steps) / len(wrong), sum(steps) / len(steps)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_right_answer_has_no_fault_and_every_ability(bench: Bench, strategy: str) -> None:
    for right in right_runs(bench, strategy):
        truth = bench.truth(right.question)
        assert first_fault(right, truth) is None
        assert set(score_abilities(right, truth).values()) == {1.0}


def test_the_chain_is_what_the_world_says(bench: Bench) -> None:
    for question in bench.questions:
        truth, meaning = bench.truth(question), understand(question.text)
        assert meaning is not None
        facts = [fact for path in meaning.paths for fact in follow(bench.world, path) or []]
        assert [(link.subject, link.relation, *link.objects) for link in truth.links] == list(dict.fromkeys(map(tuple, facts)))
        assert {id for link in truth.links for id in link.passages} == set(question.supporting_ids)
        assert truth.answer == question.answers[0]


def test_the_supports_alone_tell_the_chain(bench: Bench) -> None:
    for question in bench.questions:
        own = [passage for passage in bench.world.passages if passage.id in question.supporting_ids]
        assert truth_of(question, facts_of(own)) == bench.truth(question)


def test_a_question_without_a_chain_has_none_unless_that_is_its_answer(bench: Bench) -> None:
    question = next(one for one in bench.questions if one.meta["hops"] == 2 and one.meta["type"] == "chain")
    first, second = bench.truth(question).links
    left = facts_of([passage for passage in bench.world.passages if passage.id not in second.passages])
    assert truth_of(question, left) is None
    unknown = truth_of(question.model_copy(update={"answers": ("unknown",)}), left)
    assert unknown is not None
    assert (unknown.links, unknown.answer) == ((first,), "unknown")
    assert truth_of(Question(id="q", text="Who painted the ceiling?"), bench.facts) is None


def test_passages_that_disagree_settle_nothing(bench: Bench) -> None:
    question = next(one for one in bench.questions if one.meta["hops"] == 1)
    link = bench.truth(question).links[0]
    passage = next(one for one in bench.world.passages if one.id in link.passages)
    other = another(bench, link.objects[0], random.Random(0))
    told = canonical(Fact(link.subject, link.relation, other))
    facts = facts_of([*bench.world.passages, passage.model_copy(update={"id": "other", "text": told})])
    assert truth_of(question, facts) is None


@pytest.mark.parametrize("preset", PRESETS)
def test_at_every_difficulty_the_supports_tell_what_the_answer_is(preset: Preset) -> None:
    world = make_hard_world(300, split="test", seed=3, dials=PRESETS[preset])
    questions, passages = make_questions(world, 100, seed=4), {passage.id: passage for passage in world.passages}
    golds = golds_of(questions, passages.get)
    assert all((golds[one.id].answer, golds[one.id].closed) == (one.answers[0], True) for one in questions)
