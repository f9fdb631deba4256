"""Readers: the data sets' own files, JSON lines and folders of text become passages and questions.

The format is told from the content. Passages of HotpotQA, 2WikiMultiHopQA and MuSiQue files are the paragraphs of their
questions; their ids are digests of title and text, so a question's supports name the same passages in every file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from steper_agent.errors import ConfigError, DataError
from steper_agent.records import Passage, Question
from steper_agent.retrieval import folder, native
from steper_agent.retrieval.files import Row, rows
from steper_agent.retrieval.normal import clean, identifier

CHUNK_CHARS = 1000


class Found(NamedTuple):
    passage: Passage
    where: str
    """File and line, for messages."""
    by_content: bool
    """The id is a digest of the content: meeting it again is expected, not a mistake."""


def read_passages(source: Path, chunk_chars: int = CHUNK_CHARS) -> Iterator[Passage]:
    """The passages of one source, each id once."""
    return read_corpus([source], chunk_chars)


def read_corpus(sources: Sequence[Path], chunk_chars: int = CHUNK_CHARS) -> Iterator[Passage]:
    """The passages of several sources as one corpus, each id once; every source must hold some."""
    if chunk_chars < 1:
        raise ConfigError(f"chunk_chars is {chunk_chars}", where="chunk_chars", fix="give at least 1 character")
    for source in sources:
        if not source.exists():
            raise DataError("no such file or folder", where=source, fix="check the path")
    seen: dict[str, str] = {}
    for source in sources:
        empty = True
        for found in _passages(source, chunk_chars):
            empty = False
            before = seen.setdefault(found.passage.id, found.where)
            if before is found.where:
                yield found.passage
            elif not found.by_content:
                raise DataError(
                    f"passage id {found.passage.id!r} occurs twice",
                    where=f"{before} and {found.where}",
                    fix="give every passage its own id",
                )
        if empty:
            raise DataError("the corpus is empty", where=source, fix="give a source that holds passages")


def read_questions(source: Path, *, need_answers: bool = False) -> list[Question]:
    """The questions of one file, in order; with `need_answers`, a question without one is an error."""
    if not source.is_file():
        raise DataError("no such file of questions", where=source, fix="check the path")
    lines: dict[str, int] = {}
    questions = []
    for row in rows(source):
        question = _question(row, source)
        where = f"{source}:{row.line}"
        if question.id in lines:
            raise DataError(
                f"question id {question.id!r} occurs twice",
                where=f"{source}:{lines[question.id]} and {where}",
                fix="give every question its own id",
            )
        if need_answers and not question.answers:
            raise DataError(
                f"question {question.id!r} has no answer", where=where, fix='add "answer", or leave the question out'
            )
        lines[question.id] = row.line
        questions.append(question)
    if not questions:
        raise DataError("no questions in this file", where=source, fix="give a file that holds questions")
    return questions


def _passages(source: Path, chunk_chars: int) -> Iterator[Found]:
    if source.is_dir() or source.suffix.lower() in folder.SUFFIXES:
        root = source if source.is_dir() else source.parent
        for path in folder.text_files(source):
            for passage in folder.passages(path, root, chunk_chars):
                yield Found(_normal(passage), str(path), by_content=False)
        return
    for row in rows(source):
        where = f"{source}:{row.line}"
        if native.is_native(row.value):
            for paragraph in native.paragraphs(row.value, where):
                yield Found(paragraph.passage, where, by_content=True)
        else:
            yield Found(_plain_passage(row.value, where), where, by_content=False)


def _plain_passage(value: dict[str, Any], where: str) -> Passage:
    if "question" in value:
        raise DataError(
            "a question without paragraphs stands where a passage should",
            where=where,
            fix="give the file of passages; a file of questions is read with --questions",
        )
    if not isinstance(value.get("text"), str):
        raise DataError("a passage has no text", where=where, fix='write {"id": …, "title": …, "text": …}')
    title = value.get("title") or ""
    if not isinstance(title, str):
        raise DataError("a passage's title is not text", where=where, fix='write {"id": …, "title": …, "text": …}')
    if not f"{title}{value['text']}".strip():
        raise DataError("a passage is blank", where=where, fix="remove it or give it text")
    return _normal(Passage(id=identifier(value, where), title=title, text=value["text"]))


def _question(row: Row, source: Path) -> Question:
    where = f"{source}:{row.line}"
    if native.is_native(row.value):
        return native.question(row.value, where)
    value = dict(row.value)
    text = value.pop("question", None) or (value.pop("text", None) if "title" not in value else None)
    if not isinstance(text, str) or not text.strip():
        raise DataError("no question here", where=where, fix='write {"id": …, "question": …, "answer": …}')
    supports = value.pop("supporting_ids", None) or []
    if not isinstance(supports, list):
        raise DataError("supporting_ids is not a list", where=where, fix="list the ids of the gold passages")
    meta = {key: rest for key, rest in value.items() if key not in {"id", "_id", "answer", "answers"}}
    if isinstance(own := meta.get("meta"), dict):
        # A Question's own dump: what it knew about itself stays where it was.
        meta = {**meta, **own}
        del meta["meta"]
    return Question(
        id=identifier(value, where),
        text=clean(text),
        answers=native.answers(value, where),
        supporting_ids=tuple(dict.fromkeys(str(support) for support in supports)),
        meta=meta,
    )


def _normal(passage: Passage) -> Passage:
    return Passage(id=passage.id, title=clean(passage.title), text=clean(passage.text))
