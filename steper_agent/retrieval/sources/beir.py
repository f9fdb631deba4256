"""Folders as the BEIR benchmark lays them out: corpus.jsonl, queries.jsonl and judgements in qrels/, compressed or not."""

from __future__ import annotations

from pathlib import Path

from steper_agent.errors import DataError
from steper_agent.records import Question
from steper_agent.retrieval.sources.files import Row, rows
from steper_agent.retrieval.sources.lines import lines
from steper_agent.retrieval.sources.native import answers
from steper_agent.retrieval.sources.normal import clean, identifier
from steper_agent.retrieval.sources.streams import SUFFIXES, opened
from steper_agent.retrieval.sources.tally import Tally

SPLITS = ("test", "dev")
"""Of the judgements, the first that is there."""


def corpus_of(folder: Path) -> Path | None:
    """The file of passages, where this is such a folder."""
    return _named(folder, "corpus.jsonl")


def queries_of(folder: Path) -> Path | None:
    """The file of queries, where this is such a folder."""
    return _named(folder, "queries.jsonl")


def read_queries(queries: Path) -> list[tuple[Question, Row]]:
    """The queries that are judged, in the order of their file; what was judged relevant supports them.

    Raises:
        DataError: the judgements are missing, a file is broken, or a query is judged that is not there.
    """
    grades, places = _grades(_judgements(queries.parent / "qrels"))
    found = []
    for row in rows(queries):
        if (name := identifier(row.value, row)) in grades:
            found.append((_question(row, name, grades[name]), row))
            places.pop(name, None)
    if places:
        name, where = next(iter(places.items()))
        raise DataError(f"query {name!r} is judged and not among the queries", where=where, fix=f"mend {queries}")
    return found


def _question(row: Row, name: str, grades: dict[str, int]) -> Question:
    text, said = row.value.get("text"), row.value.get("metadata")
    if not isinstance(text, str) or not text.strip():
        raise DataError("a query has no text", where=row, fix='write {"_id": …, "text": …}')
    meta = dict(said) if isinstance(said, dict) else {}
    known = answers(meta, str(row))
    meta = {key: rest for key, rest in meta.items() if key not in ("answer", "answers")}
    if any(grade != 1 for grade in grades.values()):
        meta["grades"] = grades
    supports = tuple(passage for passage, grade in grades.items() if grade > 0)
    return Question(id=name, text=clean(text), answers=known, supporting_ids=supports, meta=meta)


def _judgements(folder: Path) -> Path:
    for split in SPLITS:
        if found := _named(folder, f"{split}.tsv"):
            return found
    files = sorted(path for path in folder.glob("*.tsv*") if path.is_file())
    if len(files) != 1:
        raise DataError(
            f"{len(files)} files of judgements, none of them test.tsv or dev.tsv",
            where=folder,
            fix="leave one of them",
        )
    return files[0]


def _grades(path: Path) -> tuple[dict[str, dict[str, int]], dict[str, str]]:
    """By query, the grade of each passage that was judged; and the line where the query is first met."""
    grades: dict[str, dict[str, int]] = {}
    places: dict[str, str] = {}
    with opened(path) as stream:
        for number, line in lines(stream, path, Tally()):
            cells = line.rstrip("\r\n").split("\t")
            if number == 1 and cells[-1].strip() == "score":
                continue
            if len(cells) != 3 or not cells[2].strip().lstrip("-").isdecimal():
                raise DataError("not a judgement", where=f"{path}:{number}", fix="write query-id, corpus-id and score")
            name = clean(cells[0])
            grades.setdefault(name, {})[clean(cells[1])] = int(cells[2])
            places.setdefault(name, f"{path}:{number}")
    return grades, places


def _named(folder: Path, name: str) -> Path | None:
    return next((path for suffix in ("", *SUFFIXES) if (path := folder / f"{name}{suffix}").is_file()), None)
