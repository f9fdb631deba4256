"""Questions: read back exactly, answered by the world's own facts, supported by the passages that state them."""

from __future__ import annotations

import pytest

from steper_agent.errors import ConfigError
from steper_agent.records import Question
from training.microworld.language import TYPES, facts_in
from training.microworld.questions import MIX, Meaning, Path, ask, follow, make_questions, understand
from training.microworld.world import World, make_world


@pytest.fixture(scope="module", params=[(500, "train", 1), (800, "test", 2)], ids=lambda given: given[1])
def world(request: pytest.FixtureRequest) -> World:
    size, split, seed = request.param
    return make_world(size, split=split, seed=seed)


@pytest.fixture(scope="module")
def questions(world: World) -> list[Question]:
    return make_questions(world, 400, seed=7)


def walked(world: World, meaning: Meaning) -> tuple[list[str], list[str]]:
    """Where each path ends and whose passages it reads, from the printed passages alone."""
    text = {passage.title: passage.text for passage in world.passages}
    ends, read = [], []
    for path in meaning.paths:
        at = path.start
        for label in path.labels:
            read.append(at)
            (at,) = [fact.object for fact in facts_in(text[at]) if fact.label == label]
        ends.append(at)
    return ends, read


def test_a_question_means_what_it_was_asked_for(questions: list[Question]) -> None:
    for question in questions:
        meaning = understand(question.text)
        assert meaning is not None, question.text
        assert ask(meaning) == question.text
        assert understand(ask(meaning)) == meaning
        assert (sum(len(path.labels) for path in meaning.paths), meaning.form) == tuple(question.meta.values())


def test_every_meaning_survives_being_asked() -> None:
    one, two = ("birth year",), ("star", "spouse", "birthplace")
    for first, second in (("Baldor Zimkin", "Tostel Hivrin"), ("Baldor Zimkin Dernas", "Tostel Hivrin Dernas")):
        for labels in (one, two, (*two, "country")):
            for meaning in (Meaning("chain", (Path(first, labels),)),
                            Meaning("same", (Path(first, labels), Path(second, labels))),
                            Meaning("same", (Path(first, ("author", *one)), Path(second, ("director", *one))))):
                assert understand(ask(meaning)) == meaning
        earlier = Meaning("earlier", (Path(first, one), Path(second, one)))
        assert understand(ask(earlier)) == earlier


@pytest.mark.parametrize("text", ["", "What is?", "What is the colour of Baldor Zimkin?", "Copy: Baldor Zimkin.",
                                  "what is the mother of Baldor Zimkin?", "Which is earlier, 1901 or 1902?"])
def test_other_texts_are_not_understood(text: str) -> None:
    assert understand(text) is None


def test_the_answer_follows_from_the_passages(world: World, questions: list[Question]) -> None:
    for question in questions:
        meaning = understand(question.text)
        assert meaning is not None
        ends, _ = walked(world, meaning)
        if meaning.form == "chain":
            expected = ends[0]
        elif meaning.form == "same":
            expected = {True: "yes", False: "no"}[ends[0] == ends[1]]
        else:
            assert ends[0] != ends[1]
            expected = sorted(zip(map(int, ends), (path.start for path in meaning.paths), strict=True))[0][1]
        assert question.answers == (expected,)


def test_the_supports_are_the_passages_that_are_read(world: World, questions: list[Question]) -> None:
    for question in questions:
        meaning = understand(question.text)
        assert meaning is not None
        _, read = walked(world, meaning)
        assert question.supporting_ids == tuple(dict.fromkeys(world.ids[name] for name in read))
        assert set(question.supporting_ids) <= {passage.id for passage in world.passages}


def test_all_shapes_occur_about_as_often_as_wanted(questions: list[Question]) -> None:
    shapes = [(question.meta["type"], question.meta["hops"]) for question in questions]
    wanted = {("chain", hops): MIX[str(hops)] for hops in (1, 2, 3, 4)}
    wanted |= {("earlier", 2): MIX["earlier"], ("same", 2): MIX["same"], ("same", 4): MIX["same4"]}
    assert set(shapes) == set(wanted)
    assert all(shapes.count(shape) / len(shapes) > share / 3 for shape, share in wanted.items())
    answers = [question.answers[0] for question in questions if question.meta["type"] == "same"]
    assert set(answers) == {"yes", "no"}
    assert 0.3 < answers.count("yes") / len(answers) < 0.7


def test_questions_are_different_and_seeded(world: World, questions: list[Question]) -> None:
    assert len({question.text for question in questions}) == len({question.id for question in questions}) == 400
    assert make_questions(world, 400, seed=7) == questions
    assert make_questions(world, 60, seed=7) == questions[:60]
    assert [one.text for one in make_questions(world, 60, seed=8)] != [one.text for one in questions[:60]]


def test_a_chain_never_comes_back_to_where_it_was(world: World, questions: list[Question]) -> None:
    for question in questions:
        if question.meta["type"] == "chain":
            meaning = understand(question.text)
            assert meaning is not None
            facts = follow(world, meaning.paths[0])
            assert facts is not None
            assert len({fact.subject for fact in facts} | {facts[-1].object}) == len(facts) + 1


def test_a_path_the_encyclopaedia_does_not_state_leads_nowhere(world: World) -> None:
    name, held = next(iter(world.facts.items()))
    label = next(label for label in ("mouth", "site", "star", "mother") if label not in held)
    assert follow(world, Path(name, (label,))) is None
    assert follow(world, Path("Nobody Atall", ("mother",))) is None
    assert world.types[name] in TYPES


def test_more_questions_than_a_world_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    small = make_world(100, split="train", seed=0)
    held = sum(map(len, small.facts.values()))
    monkeypatch.setattr("training.microworld.questions.MIX", {"1": 1.0})
    with pytest.raises(ConfigError, match=f"no {held + 1} different questions"):
        make_questions(small, held + 1, seed=0)
    assert len(make_questions(small, held // 2, seed=0)) == held // 2
