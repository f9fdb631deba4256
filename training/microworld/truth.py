"""The true chain of a micro-world's question, read from the passages themselves: what attribution and ability scores compare with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from steper_agent.records import Passage, Question
from training.attribution.records import Gold, Link
from training.microworld.language import UNKNOWN, facts_in
from training.microworld.questions import Path, understand


class Stated(NamedTuple):
    object: str
    passage: str
    """Id of the passage that says so."""


Facts = Mapping[tuple[str, str], Sequence[Stated]]
"""(subject, relation's label) → what is stated, in the order of the passages."""


def facts_of(passages: Iterable[Passage]) -> Facts:
    """Every fact that the passages state."""
    found: dict[tuple[str, str], list[Stated]] = {}
    for passage in passages:
        for fact in facts_in(passage.text):
            found.setdefault((fact.subject, fact.label), []).append(Stated(fact.object, passage.id))
    return found


def truth_of(question: Question, facts: Facts) -> Gold | None:
    """Every hop with the passage that states it, and what they come to. Of a question whose answer is that nobody can know: the hops
    up to the one that no passage states, or that passages state differently. A hop that two paths share is one hop.

    None for a question that is none of this language, or that should have an answer and has none by these facts.
    """
    meaning = understand(question.text)
    if meaning is None:
        return None
    links: dict[tuple[str, str], Link] = {}
    ends = [end for path in meaning.paths if (end := _follow(path, facts, links))]
    is_whole = len(ends) == len(meaning.paths)
    if not is_whole and UNKNOWN not in question.answers:
        return None
    answer = meaning.conclude(tuple(ends)) if is_whole else UNKNOWN
    return Gold(links=tuple(links.values()), answer=answer, certainty="chain", closed=True)


def _follow(path: Path, facts: Facts, links: dict[tuple[str, str], Link]) -> str:
    """Where a path ends, empty where it breaks off; its hops are added to `links`."""
    at = path.start
    for label in path.labels:
        stated = facts.get((at, label), ())
        if len({one.object for one in stated}) != 1:
            return ""
        ids = tuple(dict.fromkeys(one.passage for one in stated))
        links.setdefault((at, label), Link(subject=at, relation=label, objects=(stated[0].object,), passages=ids))
        at = stated[0].object
    return at
