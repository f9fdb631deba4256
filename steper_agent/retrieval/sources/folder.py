"""A folder, or one document, as a source: which files are read, how, and the passages of a document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from steper_agent.records import Passage
from steper_agent.retrieval.sources import beir
from steper_agent.retrieval.sources.chunking import DEFAULT, Chunking, chunks
from steper_agent.retrieval.sources.documents import VERBATIM, is_document, read_document
from steper_agent.retrieval.sources.normal import clean
from steper_agent.retrieval.sources.streams import SUFFIXES as COMPRESSED
from steper_agent.retrieval.sources.streams import kind

RECORDS = frozenset({".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet"})


class Files(NamedTuple):
    """What a source stands for."""

    documents: list[Path]
    records: list[Path]
    """Files of passages or of questions with paragraphs."""
    ignored: list[Path]


class Placed(NamedTuple):
    passage: Passage
    line: int
    """Counted from 1, where it begins; in the text that was extracted, where the file itself has no lines."""


def files_of(source: Path) -> Files:
    """The files of a source in order of path, hidden ones left out. A file stands for itself, a BEIR folder for its
    corpus. Of another folder the documents are read; where it holds none, the files of records."""
    if source.is_dir() and (corpus := beir.corpus_of(source)):
        return Files([], [corpus], [])
    if not source.is_dir():
        return Files([source], [], []) if is_document(source) else Files([], [source], [])
    found = sorted(path for path in source.rglob("*") if path.is_file() and not _is_hidden(path.relative_to(source)))
    documents = [path for path in found if is_document(path)]
    records = [] if documents else [path for path in found if holds_records(path)]
    read = {*documents, *records}
    return Files(documents, records, [path for path in found if path not in read])


def passages(path: Path, root: Path, chunking: Chunking = DEFAULT) -> Iterator[Placed]:
    """The passages of one document; ids are its path below `root` and a running number.

    Raises:
        DataError: the document is broken, encrypted, or not in the encoding it should be in.
    """
    name = clean(path.relative_to(root).as_posix())
    title, parts = read_document(path)
    title, number = clean(title), 0
    for part in parts:
        at, line = 0, 1
        for chunk in chunks(part, chunking):
            line += part.count("\n", at, chunk.begins)
            at = chunk.begins
            yield Placed(Passage(id=f"{name}#{number}", title=title, text=clean(chunk.text)), line)
            number += 1


def is_verbatim(path: Path) -> bool:
    """Whether the lines of its passages are lines of the file."""
    return kind(path) in VERBATIM


def holds_records(path: Path) -> bool:
    """Whether its name is that of a file of passages or of questions with paragraphs."""
    # HotpotQA's own Wikipedia comes as wiki_00.bz2, wiki_01.bz2, …
    return kind(path) in RECORDS or (kind(path) == "" and path.suffix.lower() in COMPRESSED)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
