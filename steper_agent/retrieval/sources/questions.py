"""Questions out of the data sets' own files, our own JSON lines, tables, or the queries of a BEIR folder."""

from __future__ import annotations

from pathlib import Path

from steper_agent.errors import DataError
from steper_agent.records import Question
from steper_agent.retrieval.sources import beir, native
from steper_agent.retrieval.sources.files import Row, rows
from steper_agent.retrieval.sources.normal import clean, identifier


def read_questions(source: Path, *, need_answers: bool = False) -> list[Question]:
    """The questions of one file or BEIR folder, in order.

    Raises:
        DataError: there are none, one is broken, an id occurs twice; or, with `need_answers`, one has no answer.
    """
    if queries := beir.queries_of(source):
        found = beir.read_queries(queries)
    elif source.is_file():
        found = [(_question(row), row) for row in rows(source)]
    else:
        raise DataError("no such file of questions", where=source, fix="check the path")
    places: dict[str, Row] = {}
    for question, row in found:
        if question.id in places:
            raise DataError(
                f"question id {question.id!r} occurs twice",
                where=f"{places[question.id]} and {row}",
                fix="give every question its own id",
            )
        if need_answers and not question.answers:
            raise DataError(
                f"question {question.id!r} has no answer", where=row, fix='add "answer", or leave the question out'
            )
        places[question.id] = row
    if not found:
        raise DataError("no questions in this file", where=source, fix="give a file that holds questions")
    return [question for question, _ in found]


def _question(row: Row) -> Question:
    if native.is_native(row.value):
        return native.question(row.value, str(row))
    value = dict(row.value)
    text = value.pop("question", None) or (value.pop("text", None) if "title" not in value else None)
    if not isinstance(text, str) or not text.strip():
        raise DataError("no question here", where=row, fix='write {"id": …, "question": …, "answer": …}')
    supports = value.pop("supporting_ids", None) or []
    if not isinstance(supports, list):
        raise DataError("supporting_ids is not a list", where=row, fix="list the ids of the gold passages")
    meta = {key: rest for key, rest in value.items() if key not in {"id", "_id", *native.ANSWERS}}
    if isinstance(own := meta.get("meta"), dict):
        # A Question's own dump: what it knew about itself stays where it was.
        meta = {**meta, **own}
        del meta["meta"]
    return Question(
        id=identifier(value, row),
        text=clean(text),
        answers=native.answers(value, str(row)),
        supporting_ids=tuple(dict.fromkeys(str(support) for support in supports)),
        meta=meta,
    )
