"""Questions that have an answer become questions that have none: one fact is asked for that no passage states (missing), or one
that there cannot be (unanswerable): of nobody, or by a relation that nothing of that type has."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from training.microworld.asking import Meaning, Path
from training.microworld.hardening import near_name
from training.microworld.language import BY_LABEL, OF_TYPE, RELATIONS, TYPES, Relation
from training.microworld.world import World

Absent = Callable[[str, Mapping[str, str]], list[Relation]]
"""From an entity's type and the facts stated of it to relations by which nothing is found."""


def spoil(world: World, meanings: Iterable[Meaning], rng: random.Random) -> Iterator[tuple[Meaning, str]]:
    """Each meaning as it was, or without an answer and by which dial. At every place the shares hold as nearly as they can: a
    question that cannot be spoilt leaves its turn to the next. Missing facts are asked for by chains only."""
    shares = {"missing": world.dials.missing, "unanswerable": world.dials.unanswerable}
    made, asked = Counter[str](), set[Meaning]()
    taken = {passage.title for passage in world.passages}
    for number, meaning in enumerate(meanings, start=1):
        due = next((dial for dial, share in shares.items() if made[dial] < round(share * number)), "")
        spoilt = None
        if due == "missing":
            spoilt = _turned(world, meaning, _unstated, rng)
        elif due:
            spoilt = _of_nobody(world, meaning, taken, rng) if rng.random() < 0.5 else _turned(world, meaning, _impossible, rng)
        if spoilt is None or spoilt in asked:
            yield meaning, ""
            continue
        asked.add(spoilt)
        made[due] += 1
        yield spoilt, due


def _of_nobody(world: World, meaning: Meaning, taken: set[str], rng: random.Random) -> Meaning:
    """The same of a namesake who is in no passage."""
    first, *others = meaning.paths
    return Meaning(meaning.form, (Path(near_name(first.start, world.split, taken, rng), first.labels), *others))


def _unstated(kind: str, stated: Mapping[str, str]) -> list[Relation]:
    return [relation for relation in OF_TYPE[kind] if relation.label not in stated]


def _impossible(kind: str, stated: Mapping[str, str]) -> list[Relation]:
    del stated
    return [relation for relation in RELATIONS if relation.subject != kind]


def _turned(world: World, meaning: Meaning, absent: Absent, rng: random.Random) -> Meaning | None:
    """A chain of as many hops that at one of them asks for what is absent there; None for a comparison, or where nothing is."""
    if meaning.form != "chain":
        return None
    path, hops = meaning.paths[0], len(meaning.paths[0].labels)
    at, turns = path.start, list[tuple[int, str]]()
    for place, label in enumerate(path.labels):
        turns += [(place, r.label) for r in absent(world.types[at], world.facts[at]) if place == hops - 1 or r.object in TYPES]
        at = world.facts[at][label]
    if not turns:
        return None
    place, label = rng.choice(turns)
    labels = [*path.labels[:place], label]
    for left in range(hops - len(labels), 0, -1):
        onward = [r.label for r in OF_TYPE[BY_LABEL[labels[-1]].object] if left == 1 or r.object in TYPES]
        labels.append(rng.choice(onward))
    return Meaning("chain", (Path(path.start, tuple(labels)),))
