"""How many questions one search answers: the share for which nobody needs to reason in steps, and what every dial is to bring down."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from steper_agent.records import Hit, Question
from training.microworld.asking import Path, ask, understand
from training.microworld.language import BY_LABEL, UNKNOWN, Fact, facts_in, sentences

WORDS = 100
"""Words that are read: about three passages of today's world."""


def share_at_once(questions: Sequence[Question], found: Sequence[Sequence[Hit]]) -> float:
    """Of the questions with an answer: the share that a reader answers who sees the first `WORDS` words of the hits of one search
    with the question, and knows no wording but that of pre-training. 0 where no question has an answer."""
    asked = [(question, hits) for question, hits in zip(questions, found, strict=True) if UNKNOWN not in question.answers]
    return sum(_answers(question, hits) for question, hits in asked) / max(1, len(asked))


def _answers(question: Question, hits: Sequence[Hit]) -> bool:
    meaning = understand(question.text)
    if meaning is None or ask(meaning) != question.text:
        return False
    stated = {fact[:2]: fact.object for fact in _practised(_first_sentences(hits))}
    ends = [end for path in meaning.paths if (end := _end(path, stated))]
    return len(ends) == len(meaning.paths) and meaning.conclude(tuple(ends)) in question.answers


def _first_sentences(hits: Sequence[Hit]) -> Iterator[str]:
    left = WORDS
    for hit in hits:
        for sentence in sentences(hit.passage.text):
            left -= len(sentence.split())
            if left < 0:
                return
            yield sentence


def _practised(said: Iterable[str]) -> Iterator[Fact]:
    """The facts that are stated as pre-training states them."""
    for sentence in said:
        for fact in facts_in(sentence):
            if any(form.format(s=fact.subject, o=fact.object) == sentence for form in BY_LABEL[fact.label].phrasings):
                yield fact


def _end(path: Path, stated: dict[tuple[str, str], str]) -> str:
    at = path.start
    for label in path.labels:
        at = stated.get((at, label), "")
    return at
