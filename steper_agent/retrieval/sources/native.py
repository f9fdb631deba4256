"""One record of HotpotQA, 2WikiMultiHopQA or MuSiQue: its paragraphs, and its question with the supports among them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from steper_agent.errors import DataError
from steper_agent.records import Passage, Question
from steper_agent.retrieval.sources.normal import clean, content_id, identifier

SHAPES = 'context is [[title, [sentence, …]], …] and supporting_facts is [[title, sentence number], …] in HotpotQA and \
2WikiMultiHopQA; paragraphs is [{"title", "paragraph_text", "is_supporting"}, …] in MuSiQue'


ANSWERS = ("answer", "answers", "golden_answers", "answer_aliases")
"""Where data sets keep what they accept, the canonical one first: each a text or a list."""


class Paragraph(NamedTuple):
    passage: Passage
    sentences: int
    supporting: bool
    """What the paragraph itself says; HotpotQA and 2WikiMultiHopQA say it elsewhere."""


def is_native(value: dict[str, Any]) -> bool:
    """Whether this is a question that brings its own paragraphs in a data set's own format."""
    return "question" in value and (isinstance(value.get("context"), list | dict) or "paragraphs" in value)


def paragraphs(value: dict[str, Any], where: str) -> Iterator[Paragraph]:
    """The paragraphs a question came with, in order; blank ones left out."""
    for title, sentences, supporting in _raw_paragraphs(value, where):
        # 2WikiMultiHopQA strips its sentences, HotpotQA keeps the space before each: one space serves both.
        text = clean(" ".join(filter(None, (sentence.strip() for sentence in sentences))))
        if text:
            passage = Passage(id=content_id(title, text), title=clean(title), text=text)
            yield Paragraph(passage, len(sentences), supporting)


def question(value: dict[str, Any], where: str) -> Question:
    """The question; its supports are ids of its own paragraphs, or of none where the record does not name them."""
    if not isinstance(value["question"], str) or not value["question"].strip():
        raise DataError("the question is blank", where=where, fix="remove this record or give it a question")
    own = list(paragraphs(value, where))
    supports = [paragraph.passage.id for paragraph in own if paragraph.supporting]
    missing = []
    for title, sentence in _facts(value, where).items():
        found = _titled(own, clean(title), sentence)
        if found:
            supports.append(found.passage.id)
        else:
            missing.append(title)
    left_out = {"_id", "id", "question", *ANSWERS, "context", "paragraphs"}
    meta = {key: rest for key, rest in value.items() if key not in left_out}
    meta["context_ids"] = list(dict.fromkeys(paragraph.passage.id for paragraph in own))
    if missing:
        meta["missing_supports"] = missing
    return Question(
        id=identifier(value, where),
        text=clean(value["question"]),
        answers=answers(value, where),
        supporting_ids=tuple(dict.fromkeys(supports)),
        meta=meta,
    )


def answers(value: dict[str, Any], where: str) -> tuple[str, ...]:
    """The accepted answers, the canonical one first, each once."""
    said: list[Any] = []
    for found in map(value.get, ANSWERS):
        said += found if isinstance(found, list) else [found]
    said = [answer for answer in said if answer is not None]
    if not all(isinstance(answer, str) for answer in said):
        raise DataError("an answer is not text", where=where, fix="write answers as strings")
    return tuple(dict.fromkeys(clean(answer) for answer in said if answer.strip()))


def _raw_paragraphs(value: dict[str, Any], where: str) -> Iterator[tuple[str, list[str], bool]]:
    try:
        if "paragraphs" in value:
            for paragraph in value["paragraphs"]:
                supporting = bool(paragraph.get("is_supporting", False))
                yield _text(paragraph["title"]), [_text(paragraph["paragraph_text"])], supporting
        else:
            for title, sentences in _pairs(value["context"], "title", "sentences"):
                yield _text(title), [_text(sentence) for sentence in sentences], False
    except (KeyError, TypeError, ValueError, AttributeError) as bad:
        raise DataError("the paragraphs of this question are malformed", where=where, fix=SHAPES) from bad


def _facts(value: dict[str, Any], where: str) -> dict[str, int]:
    """Titles of the supporting paragraphs, each with the largest sentence number named."""
    facts: dict[str, int] = {}
    try:
        for title, sentence in _pairs(value.get("supporting_facts") or [], "title", "sent_id"):
            facts[_text(title)] = max(int(sentence), facts.get(title, 0))
    except (TypeError, ValueError) as bad:
        raise DataError("the supporting facts of this question are malformed", where=where, fix=SHAPES) from bad
    return facts


def _pairs(found: Any, first: str, second: str) -> Iterable[Any]:
    """Pairs as the data sets list them; in Parquet they come as two lists."""
    return zip(found[first], found[second], strict=True) if isinstance(found, dict) else found


def _titled(own: list[Paragraph], title: str, sentence: int) -> Paragraph | None:
    """The paragraph of that title; where two share it, the first that has so many sentences."""
    titled = [paragraph for paragraph in own if paragraph.passage.title == title]
    long_enough = [paragraph for paragraph in titled if paragraph.sentences > sentence]
    return next(iter(long_enough or titled), None)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {type(value).__name__}")
    return value
