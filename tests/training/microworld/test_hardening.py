"""Harder worlds: what was there says what it said, and what is added is what it is meant to be."""

from __future__ import annotations

import itertools
import time

import pytest

from tests.training.microworld.worlds import HARDER, hardened
from training.microworld.dials import PRESETS, TODAY, Dials
from training.microworld.hardening import harden
from training.microworld.language import RELATIONS, TYPES, Fact, Relation, dated, facts_in, head
from training.microworld.paraphrases import FACTS, NOISE
from training.microworld.questions import CHAINS, make_questions
from training.microworld.reading import sheets
from training.microworld.world import belongs_to, make_world


def test_no_dial_leaves_the_world_itself() -> None:
    world = make_world(150, split="train", seed=3)
    assert harden(world, TODAY) is world


@pytest.mark.parametrize("dials", HARDER.values(), ids=HARDER)
def test_what_the_encyclopaedia_knows_stays_as_it_was(dials: Dials) -> None:
    plain, world = make_world(250, split="test", seed=3), hardened(dials)
    assert (world.facts, world.types, world.ids, world.dials) == (plain.facts, plain.types, plain.ids, dials)
    own = world.passages[:250]
    assert [(p.id, p.title) for p in own] == [(p.id, p.title) for p in plain.passages]
    for passage in own:
        assert {fact.label: fact.object for fact in facts_in(passage.text)} == plain.facts[passage.title]
        assert {fact.subject for fact in facts_in(passage.text)} == {passage.title}
    assert len({passage.id for passage in world.passages}) == len(world.passages)
    assert hardened(dials) == world


@pytest.mark.parametrize(("less", "more"), [({"distractors": 1}, {"distractors": 4}), ({"outdated": 0.1}, {"outdated": 0.4}),
                                            ({"contradictory": 0.1}, {"contradictory": 0.4, "outdated": 0.4})])
def test_a_dial_that_is_turned_up_keeps_what_it_had_added(less: dict[str, float], more: dict[str, float]) -> None:
    few, many = (set(hardened(Dials.model_validate(dials)).passages) for dials in (less, more))
    assert few < many


def test_the_words_of_a_reworded_fact_stay_when_more_are_reworded() -> None:
    few, many = (hardened(Dials(paraphrase=share)) for share in (0.2, 0.6))
    assert few.reworded < many.reworded
    total = sum(map(len, few.facts.values()))
    assert (len(few.reworded) / total, len(many.reworded) / total) == (pytest.approx(0.2, abs=0.05), pytest.approx(0.6, abs=0.05))


def test_namesakes_share_words_and_relations_and_are_nobody_else() -> None:
    world = hardened(Dials(distractors=3))
    assert len(world.passages) == len({passage.title for passage in world.passages}) == 4 * 250
    for passage, name in zip(world.passages[250:], itertools.cycle(world.types), strict=False):
        assert set(passage.title.split()) & set(name.split())
        assert belongs_to(passage.title) == "test"
        stated = {fact.label: fact.object for fact in facts_in(passage.text)}
        assert stated.keys() == world.facts[name].keys()
        assert not stated.items() & world.facts[name].items()


def test_a_second_passage_contradicts_the_first_and_only_an_old_one_says_so() -> None:
    world = hardened(Dials(outdated=0.3, contradictory=0.3))
    assert len(world.outdated) == len(world.disputed) == 75
    assert not world.outdated & set(world.disputed)
    for passage in world.passages[250:]:
        facts = world.facts[passage.title]
        if passage.title in world.outdated:
            assert facts_in(passage.text) == []
            assert passage.text.count("As of ") == len(facts)
        else:
            stated = {fact.label: fact.object for fact in facts_in(passage.text)}
            assert passage.id == world.disputed[passage.title]
            assert stated.keys() == facts.keys()
            assert not stated.items() & facts.items()


@pytest.mark.parametrize("relation", RELATIONS, ids=lambda relation: relation.label)
def test_other_words_are_read_as_the_same_fact(relation: Relation) -> None:
    opened = head("Baldor Zimkin", relation.subject)
    for value in ("Dernas Galdor", "Dernas Galdor Hivrin") if relation.object in TYPES else ("1950", "painter", "Arvish"):
        fact = Fact("Baldor Zimkin", relation.label, value)
        for form in FACTS[relation.label]:
            alone = form.format(s=f"This {relation.subject}", o=value)
            assert form not in relation.phrasings
            assert facts_in(form.format(s=fact.subject, o=value)) == facts_in(f"{opened} {alone}") == [fact]
            assert facts_in(alone) == []


@pytest.mark.parametrize("relation", RELATIONS, ids=lambda relation: relation.label)
def test_a_dated_sentence_and_noise_state_nothing(relation: Relation) -> None:
    for form in (*relation.phrasings, *FACTS[relation.label]):
        assert facts_in(dated(form.format(s="Baldor Zimkin", o="Dernas Galdor"), 1950)) == []
    for form in NOISE:
        said = form.format(s="Baldor Zimkin", o="Dernas Galdor", label=relation.label)
        assert facts_in(f"{head('Baldor Zimkin', relation.subject)} {said}") == facts_in(said) == []


def test_noise_makes_every_passage_longer_by_as_many_sentences() -> None:
    for plain, noisy in zip(hardened(TODAY).passages, hardened(Dials(noise=5)).passages, strict=True):
        assert noisy.text.count(".") == plain.text.count(".") + 5
        assert noisy.text.startswith(plain.text.split(".")[0])


def test_pretraining_meets_none_of_the_other_words() -> None:
    others = {form.removeprefix("{s}").removesuffix("{o}.") for forms in FACTS.values() for form in forms}
    for sheet in itertools.islice(sheets(seed=5, passages=6, world_size=250, per_world=60), 120):
        said = "\n".join(turn.asked + turn.answered for turn in sheet.turns)
        assert not [words for words in (*others, "This ", "As of ") if words in said]


def test_a_hard_world_of_ten_thousand_entities_is_made_within_seconds() -> None:
    start = time.process_time()
    world = hardened(PRESETS["hard"], passages=10_000)
    assert len(make_questions(world, 1000, seed=0, mix=CHAINS)) == 1000
    assert time.process_time() - start < 20
    assert len(world.passages) > 40_000
