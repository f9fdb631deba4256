"""Worlds: seeded, as large as asked, disjoint between splits, and readable back from their passages."""

from __future__ import annotations

import random

import pytest

from steper_agent.errors import ConfigError
from training.microworld.language import (
    BY_LABEL,
    LITERALS,
    OF_TYPE,
    RELATIONS,
    TYPES,
    Fact,
    Relation,
    canonical,
    conclusions_in,
    facts_in,
    missing,
    name_words,
)
from training.microworld.world import (
    SHARES,
    SPLITS,
    TWO_WORD_LIMIT,
    Split,
    World,
    belongs_to,
    make_names,
    make_world,
    stated,
)


@pytest.fixture(scope="module")
def huge() -> World:
    return make_world(TWO_WORD_LIMIT + 1, split="test", seed=0)


def read_back(world: World) -> dict[str, dict[str, str]]:
    """What the passages say, by subject."""
    found: dict[str, dict[str, str]] = {}
    for passage in world.passages:
        for fact in facts_in(passage.text):
            assert fact.label not in found.setdefault(fact.subject, {}), passage.text
            found[fact.subject][fact.label] = fact.object
    return found


def test_the_same_arguments_make_the_same_world_and_others_another() -> None:
    first = make_world(150, split="train", seed=3)
    assert make_world(150, split="train", seed=3) == first
    others = (make_world(150, split="train", seed=4), make_world(150, split="test", seed=3),
              make_world(151, split="train", seed=3))
    assert all(first.passages[0].text != other.passages[0].text for other in others)


def test_the_splits_share_no_name() -> None:
    worlds = {split: make_world(1000, split=split, seed=1) for split in SPLITS}
    names = [set(world.facts) for world in worlds.values()]
    assert len(set.union(*names)) == sum(len(of) for of in names) == 3000
    for split, world in worlds.items():
        assert {belongs_to(name) for name in world.facts} == {split}
        mentioned = {fact.object for fact in stated(world) if len(fact.object.split()) > 1}
        assert mentioned <= set(world.facts)


def test_the_language_is_rich_and_its_names_are_unambiguous() -> None:
    assert len(TYPES) >= 8
    assert set(SHARES) == set(TYPES) == {relation.subject for relation in RELATIONS}
    assert sum(SHARES.values()) == pytest.approx(1)
    assert len(BY_LABEL) == len(RELATIONS) >= 20
    assert all(len(set(relation.phrasings)) >= 3 for relation in RELATIONS)
    assert {relation.object for relation in RELATIONS} <= {*TYPES, *LITERALS}
    assert len(set(name_words())) == 512


@pytest.mark.parametrize("relation", RELATIONS, ids=lambda relation: relation.label)
def test_every_phrasing_is_read_as_its_own_fact(relation: Relation) -> None:
    for subject in ("Baldor Zimkin", "Baldor Zimkin Tostel"):
        for value in LITERALS.get(relation.object, ("Dernas Galdor", "Dernas Galdor Hivrin"))[:5]:
            fact = Fact(subject, relation.label, value)
            said = [phrasing.format(s=subject, o=value) for phrasing in relation.phrasings]
            assert [facts_in(sentence) for sentence in said] == [[fact]] * 3
            assert facts_in(" ".join(said)) == [fact] * 3
            assert conclusions_in(canonical(fact)) == [fact] == facts_in(canonical(fact))


def test_a_missing_fact_states_nothing() -> None:
    said = missing("Baldor Zimkin", "mother")
    assert (conclusions_in(said), facts_in(said)) == ([], [])


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("size", [100, 101, 700])
def test_the_passages_say_the_facts_and_nothing_else(split: Split, size: int) -> None:
    world = make_world(size, split=split, seed=5)
    assert read_back(world) == world.facts
    assert len(world.passages) == len({passage.id for passage in world.passages}) == size
    assert [passage.title for passage in world.passages] == list(world.facts) == list(world.types)
    assert [world.ids[passage.title] for passage in world.passages] == [passage.id for passage in world.passages]
    assert all({fact.subject for fact in facts_in(p.text)} == {p.title} for p in world.passages)


def test_facts_fit_the_types_of_what_they_link() -> None:
    world = make_world(400, split="train", seed=2)
    assert set(world.types.values()) == set(TYPES)
    for fact in stated(world):
        relation = BY_LABEL[fact.label]
        assert world.types[fact.subject] == relation.subject
        assert fact.object != fact.subject
        assert fact.object in LITERALS.get(relation.object, ()) or world.types[fact.object] == relation.object
    assert all(min(3, len(OF_TYPE[world.types[name]])) <= len(of) <= 5 for name, of in world.facts.items())


def test_every_phrasing_is_printed_somewhere() -> None:
    texts = " ".join(passage.text for passage in make_world(3000, split="train", seed=6).passages)
    forms = [phrasing.partition("{s}")[2].partition("{o}")[0] for r in RELATIONS for phrasing in r.phrasings]
    assert [form for form in forms if form not in texts] == []


def test_names_have_near_misses_and_are_never_repeated() -> None:
    names = make_names(2000, "train", random.Random(0))
    assert len(set(names)) == 2000
    assert all(len(set(name.split())) == 2 and set(name.split()) <= set(name_words()) for name in names)
    close = sum(bool(set(one.split()) & set(two.split())) for one, two in zip(names, names[1:], strict=False))
    assert close / 2000 > 0.2


def test_a_world_of_three_word_names_holds_the_same_laws(huge: World) -> None:
    assert len(huge.passages) == len(set(huge.ids.values())) == TWO_WORD_LIMIT + 1
    assert {len(name.split()) for name in huge.facts} == {3}
    assert set(huge.types.values()) == set(TYPES)
    sample = random.Random(0).sample(huge.passages, 400)
    for passage in sample:
        assert {fact.label: fact.object for fact in facts_in(passage.text)} == huge.facts[passage.title]


@pytest.mark.parametrize("size", [-1, 0, 1, 99])
def test_too_small_a_world_is_refused(size: int) -> None:
    with pytest.raises(ConfigError, match="too small"):
        make_world(size, split="train", seed=0)
