"""Readers: files of every kind become one corpus of passages, streamed, each id once.

The format is told from the content. Passages of HotpotQA, 2WikiMultiHopQA and MuSiQue files are the paragraphs of their
questions; their ids are digests of title and text, so a question's supports name the same passages in every file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from steper_agent.errors import DataError
from steper_agent.records import Passage
from steper_agent.retrieval.sources import folder, native
from steper_agent.retrieval.sources.chunking import DEFAULT, Chunking
from steper_agent.retrieval.sources.files import Row, rows
from steper_agent.retrieval.sources.ledger import Ledger
from steper_agent.retrieval.sources.normal import clean, identifier
from steper_agent.retrieval.sources.tally import Tally

_SHAPE = 'write {"id": …, "title": …, "text": …}'


class Found(NamedTuple):
    passage: Passage
    path: Path
    line: int
    by_content: bool
    """The id is a digest of the content: meeting it again is expected, not a mistake."""


def read_passages(source: Path, chunking: Chunking = DEFAULT, tally: Tally | None = None) -> Iterator[Passage]:
    """The passages of one source, each id once."""
    return read_corpus([source], chunking, tally)


def read_corpus(sources: Sequence[Path], chunking: Chunking = DEFAULT, tally: Tally | None = None) -> Iterator[Passage]:
    """The passages of several sources as one corpus, each id once; every source must hold some.

    `chunking` says how documents are cut. `tally` counts what was read and left out; where its `on_bad` is "skip", a broken
    record, or a broken file of a folder, is left out.

    Raises:
        DataError: a source is missing or empty, an id occurs twice, a record or file is broken and not skipped; of a source of
            which nothing is left, what was skipped first.
        DependencyError: a package that this kind of file needs is not installed.
    """
    tally = tally or Tally()
    for source in sources:
        if not source.exists():
            raise DataError("no such file or folder", where=source, fix="check the path")
    ledger = Ledger()
    for source in sources:
        empty, tally.refused = True, None
        for passage, path, line, by_content in _passages(source, chunking, tally):
            empty = False
            before = ledger.add(passage.id, path, line)
            if before is None:
                tally.passages += 1
                yield passage
            elif by_content:
                tally.duplicates += 1
            else:
                tally.refuse(_twice(passage.id, f"{before} and {path}:{line}"), "a passage id occurs twice")
        if empty:
            raise tally.refused or DataError(
                "the corpus is empty", where=source, fix="give a source that holds passages"
            )


def _twice(name: str, where: str) -> DataError:
    return DataError(f"passage id {name!r} occurs twice", where=where, fix="give every passage its own id")


def _passages(source: Path, chunking: Chunking, tally: Tally) -> Iterator[Found]:
    files = folder.files_of(source)
    for path in files.ignored:
        suffix = path.suffix.lower()
        tally.ignored[suffix] = tally.ignored.get(suffix, 0) + 1
        if not tally.beside and folder.holds_records(path):
            tally.beside = str(path)
    root = source if source.is_dir() else source.parent
    for found in chain(
        (_of_records(path, tally) for path in files.records),
        (_of_document(path, root, chunking, tally) for path in files.documents),
    ):
        try:
            yield from found
        except DataError as bad:
            # One file of a folder can be left out; a source that is a file cannot.
            if not source.is_dir():
                raise
            tally.refuse(bad)


def _of_document(path: Path, root: Path, chunking: Chunking, tally: Tally) -> Iterator[Found]:
    blank = True
    for passage, line in folder.passages(path, root, chunking):
        blank = False
        yield Found(passage, path, line, by_content=False)
    tally.blank += blank


def _of_records(path: Path, tally: Tally) -> Iterator[Found]:
    for row in rows(path, tally):
        by_content = native.is_native(row.value)
        try:
            found = (
                [one.passage for one in native.paragraphs(row.value, str(row))] if by_content else [_plain_passage(row)]
            )
        except DataError as bad:
            tally.refuse(bad)
            continue
        for passage in found:
            yield Found(passage, path, row.line, by_content)


def _plain_passage(row: Row) -> Passage:
    value = row.value
    if "question" in value:
        raise DataError(
            "a question without paragraphs stands where a passage should",
            where=row,
            fix="give the file of passages; a file of questions is read with --questions",
        )
    title, text = value.get("title") or "", value.get("text")
    if isinstance(text, list):
        text = _joined(text)
    if not isinstance(text, str):
        raise DataError(f"a passage has no text: it has {', '.join(value) or 'nothing'}", where=row, fix=_SHAPE)
    if not isinstance(title, str):
        raise DataError("a passage's title is not text", where=row, fix=_SHAPE)
    if not text.strip() and not title.strip():
        raise DataError("a passage is blank", where=row, fix="remove it or give it text")
    return Passage(id=identifier(value, row), title=clean(title), text=clean(text))


def _joined(text: list[Any]) -> str | None:
    """HotpotQA's Wikipedia lists sentences, each with the space before it, or paragraphs of such sentences."""
    if all(isinstance(sentence, str) for sentence in text):
        return "".join(text)
    paragraphs = [_joined(paragraph) if isinstance(paragraph, list) else None for paragraph in text]
    return "\n\n".join(filter(None, paragraphs)) if None not in paragraphs else None
