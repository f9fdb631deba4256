"""What is known of the right chain of a question: every hop, or only which passages it needs, or only its answer. From what a data
set says beside its questions, or from written chains (`reasoning_steps`); a micro-world's are made in `microworld.truth`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from graphs.evidence import words
from graphs.strategies.reading import unconcluded
from steper_agent.errors import DataError
from steper_agent.records import Passage, Question
from training.attribution.records import Gold, Link
from training.examples.names import named
from training.scores.metrics import normalise

CURE = 'each line: {"id": …, "reasoning_steps": [text or {"text": …, "titles": [title, …]}, …]}'
_POINTER = re.compile(r"#(\d+)")
_SAID_BY_ITS_END = ("compositional", "inference")
"""Types of 2WikiMultiHopQA's questions whose answer is what their last fact says; the others compare."""


class Support(NamedTuple):
    id: str
    title: str
    """Normalised; empty where it is not known."""


def gold_of(question: Question) -> Gold:
    """What the question's own record says: MuSiQue's decomposition, 2WikiMultiHopQA's evidences, else its supporting passages."""
    meta = question.meta
    hops = meta.get("decomposition") or meta.get("question_decomposition")
    triples = meta.get("evidences") or _triples(hops)
    if triples:
        return _of_triples(triples, question)
    if hops:
        return _of_hops(hops, question)
    links = tuple(Link(passages=(id,)) for id in question.supporting_ids)
    return Gold(links=links, certainty="supports" if links else "answer")


def golds_of(questions: Sequence[Question], find: Callable[[str], Passage | None], written: Path | None = None) -> dict[str, Gold]:
    """The best that is known of every question, by its id: a written chain, a micro-world's truth read from the supporting passages
    (`find` looks them up by id), or what its own record says.

    Raises:
        DataError: `written` is missing or malformed.
    """
    from training.microworld.questions import understand
    from training.microworld.truth import facts_of, truth_of

    golds = read_golds(written, questions) if written else {}
    for question in questions:
        if question.id not in golds:
            supports = question.supporting_ids if understand(question.text) else ()
            passages = [passage for id in supports if (passage := find(id))]
            golds[question.id] = truth_of(question, facts_of(passages)) or gold_of(question)
    return golds


def read_golds(path: Path, questions: Sequence[Question]) -> dict[str, Gold]:
    """Written chains by the id of their question, for those of `questions` that have one.

    Raises:
        DataError: the file is missing or empty, or a line is malformed (named by its number).
    """
    from steper_agent.retrieval.sources.files import written_lines

    known = {question.id: question for question in questions}
    found = {}
    for line, where in written_lines(path, "chain", flag="--gold", cure=CURE):
        try:
            raw = json.loads(line)
            id, steps = str(raw["id"]), [_told(step) for step in raw["reasoning_steps"]]
        except (ValueError, KeyError, TypeError, ValidationError) as bad:
            raise DataError(f"not a chain: {type(bad).__name__} {bad}", where=where, fix=CURE) from bad
        if id in known:
            found[id] = _of_lines(steps, known[id])
    return found


def names_in(text: str) -> list[frozenset[str]]:
    """The names and numbers of a text, each as its words. The word that opens a sentence belongs to a name only with more behind it."""
    sure = named(text)
    return [name for name in named(text, openers=True) if len(name) > 1 or name in sure]


def _told(step: str | Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """A line and the titles it relies on."""
    if isinstance(step, str):
        return step, ()
    return str(step["text"]), tuple(normalise(str(title)) for title in step.get("titles") or ())


def _of_lines(lines: Sequence[tuple[str, tuple[str, ...]]], question: Question) -> Gold:
    """Every line that brings up a name or a number is a hop; one that only puts known ones together is none."""
    supports, known, links = _supports(question), words(question.text), []
    for text, titles in lines:
        said = unconcluded(text)
        new = [entity for entity in dict.fromkeys(names_in(said)) if not entity <= known]
        known |= words(said)
        if new:
            ids = tuple(support.id for support in supports if support.title in titles)
            links.append(Link(objects=tuple(" ".join(sorted(entity)) for entity in new), passages=ids, titles=titles))
    return Gold(links=tuple(links), certainty="chain") if links else gold_of(question)


def _triples(hops: Any) -> list[Any]:
    """2WikiMultiHopQA's evidences where they were written as a decomposition."""
    found = [hop.get("triple") for hop in hops or () if isinstance(hop, dict)]
    return found if found and all(found) else []


def _of_triples(triples: Sequence[Any], question: Question) -> Gold:
    supports, facts = _supports(question), [[str(part) for part in triple] for triple in triples]
    found = [_about(subject, supports) for subject, _, _ in facts]
    spare = tuple({support.id for support in supports}.difference(*found))
    # A subject under another name than its passage's title: where only one passage is left, it is that.
    links = [Link(subject=subject, relation=relation, objects=(said,), passages=ids or (spare if len(spare) == 1 else ()))
             for (subject, relation, said), ids in zip(facts, found, strict=True)]
    is_said = question.meta.get("type") in _SAID_BY_ITS_END
    return Gold(links=tuple(links), answer=links[-1].objects[0] if is_said else "", certainty="chain")


def _of_hops(hops: Sequence[Mapping[str, Any]], question: Question) -> Gold:
    """MuSiQue's: the k-th hop's question points at an earlier hop's answer by `#k`."""
    links: list[Link] = []
    for hop in hops:
        pointed = [int(number) for number in _POINTER.findall(str(hop["question"])) if 0 < int(number) <= len(links)]
        subject = links[pointed[-1] - 1].objects[0] if pointed else str(hop.get("title") or "")
        links.append(Link(subject=subject, objects=(str(hop["answer"]),), passages=_passage(hop, question)))
    return Gold(links=tuple(links), answer=links[-1].objects[0], certainty="chain")


def _passage(hop: Mapping[str, Any], question: Question) -> tuple[str, ...]:
    """By its id, or by its place among the question's own paragraphs where that is one of the supports."""
    own, place = question.meta.get("context_ids") or [], hop.get("paragraph_support_idx")
    id = hop.get("passage_id") or (own[place] if isinstance(place, int) and place < len(own) else None)
    return (str(id),) if id in question.supporting_ids else ()


def _about(subject: str, supports: Sequence[Support]) -> tuple[str, ...]:
    """The supports with this title; else those whose title holds it, or is held by it."""
    wanted = set(normalise(subject).split())
    same = tuple(support.id for support in supports if support.title == normalise(subject))
    return same or tuple(one.id for one in supports if (own := set(one.title.split())) and (own <= wanted or wanted <= own))


def _supports(question: Question) -> list[Support]:
    """The supporting passages with their titles, where the record names as many titles as passages."""
    facts = question.meta.get("supporting_facts") or []
    titles = question.meta.get("supporting_titles") or list(dict.fromkeys(fact[0] for fact in facts if isinstance(fact, list)))
    told = [normalise(str(title)) for title in titles]
    ids = question.supporting_ids
    return [Support(id, title) for id, title in zip(ids, told if len(told) == len(ids) else [""] * len(ids), strict=True)]
