"""BM25 through Tantivy: an index on disk that grows and shrinks, and answers from its files without loading them.

Scores are BM25 with k1 = 1.2 and b = 0.75 over words, each word of a query counted once; Tantivy keeps the length of a passage
in one byte, so lengths above 40 words are rounded down to one of 200 steps.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from steper_agent.errors import IndexFault
from steper_agent.records import Passage
from steper_agent.retrieval.ranking import Scored, with_ties
from steper_agent.retrieval.shelf import REBUILD, Shelf
from steper_agent.retrieval.terms import LexicalSettings, Terms, analyzer, spaced
from steper_agent.retrieval.timings import stage

if TYPE_CHECKING:
    from tantivy import Index, Query, Schema

META = "meta.json"
REWRITTEN = frozenset({META, ".managed.json", ".tantivy-meta.lock", ".tantivy-writer.lock"})
"""Files that Tantivy writes anew; all others it only makes and removes."""

HEAP = 1_000_000_000
"""Bytes that a build collects at most before it writes segments. Five million passages then make eight, which need no merging."""
LITTLE = 50_000_000
"""The same of an addition."""
REWRITE_MOST = 200_000
"""Passages up to which the index is written anew as soon as a deleted passage still counts: seconds."""
MOST_TERMS = 1024
"""Words of a query that are searched; the rest of a longer one is left out."""
LEAST_FETCHED = 16
PROBE_TERMS = 8
_ANALYZER = "steper"
_END = (1 << 63) - 1


class LexicalWriter:
    """Adds to an index folder and deletes from it. Nothing counts before `commit`, and after a crash what was committed is there."""

    def __init__(self, folder: Path, settings: LexicalSettings, *, threads: int = 1) -> None:
        """With one thread, what is added between two commits is a segment of its own.

        Raises:
            IndexFault: the folder holds something else.
        """
        from tantivy import Document, Index

        folder.mkdir(exist_ok=True)
        self._folder = folder
        try:
            self._index = Index(_schema(), path=str(folder))
        except ValueError as bad:
            raise IndexFault(f"the lexical index cannot be written: {bad}", where=folder, fix=REBUILD) from bad
        self._index.register_tokenizer(_ANALYZER, analyzer(settings))
        self._writer = self._index.writer(heap_size=HEAP if threads > 1 else LITTLE, num_threads=threads)
        self._document = Document
        self._is_open = True

    def add(self, row: int, passage: Passage) -> None:
        document = self._document()
        document.add_unsigned("row", row)
        title, text = passage.title, passage.text
        if title:
            document.add_text("title", spaced(title))
            text = f"{title}\n{text}"
        document.add_text("text", spaced(text))
        try:
            self._writer.add_document(document)
        except ValueError as bad:
            raise self._broken(bad) from bad

    def delete(self, rows: Iterable[int]) -> None:
        from tantivy import Query

        schema = self._index.schema
        for row in rows:
            # By a query: `delete_documents_by_term` takes a number for a signed one, and deletes nothing.
            self._writer.delete_documents_by_query(Query.term_query(schema, "row", row))

    def commit(self) -> None:
        try:
            self._writer.commit()
        except ValueError as bad:
            raise self._broken(bad) from bad

    def close(self) -> None:
        """Commit, and wait until small segments have been merged."""
        self.commit()
        self._is_open = False
        self._writer.wait_merging_threads()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Forget what was not committed; when this returns, no thread writes to the folder any more."""
        if self._is_open:
            self._is_open = False
            self._writer.rollback()
            self._writer.wait_merging_threads()

    def _broken(self, bad: ValueError) -> IndexFault:
        """Tantivy's threads do not say which error of the system ended them."""
        cure = "make room on the disk, check its permissions, and give the same command again"
        return IndexFault(f"the lexical index cannot be written: {bad}", where=self._folder, fix=cure)


class LexicalIndex:
    """An opened index. Searches let other threads run and change nothing, so threads share it."""

    def __init__(self, folder: Path, settings: LexicalSettings) -> None:
        """Raises IndexFault where Tantivy cannot read the folder."""
        try:
            index = _opened(folder)
        except ValueError as bad:
            raise IndexFault(f"the lexical index cannot be read: {bad}", where=folder, fix=REBUILD) from bad
        index.register_tokenizer(_ANALYZER, analyzer(settings))
        self._searcher = index.searcher()
        self._schema: Schema = index.schema
        self._settings = settings
        self._terms = Terms(settings)
        self.rows: int = self._searcher.num_docs
        """Passages that are not deleted."""

    def search_many(self, queries: Sequence[str], k: int) -> list[list[Scored]]:
        """For each query, rows with their scores, best first: the k best and all that tie with the k-th. Only passages that
        share a word with the query."""
        with stage("lexical"):
            return [self._search(query, k) for query in queries]

    def holds(self, row: int, passage: Passage) -> bool:
        """Whether the index has this passage in this row, told from its longest words."""
        from tantivy import Occur, Query

        terms = sorted(set(self._terms(f"{passage.title}\n{passage.text}")), key=len, reverse=True)[:PROBE_TERMS]
        parts = [self._term("row", row), *(self._term("text", term) for term in terms)]
        query = Query.boolean_query([(Occur.Must, part) for part in parts])
        return bool(self._searcher.search(query, limit=1, count=False).hits)

    def _search(self, text: str, k: int) -> list[Scored]:
        terms = list(islice(dict.fromkeys(self._terms(text)), MOST_TERMS))
        if not terms or k < 1:
            return []
        query = self._query(terms)
        return with_ties(lambda wanted: self._best(query, wanted), k, first=LEAST_FETCHED)

    def _query(self, terms: Sequence[str]) -> Query:
        """Made of terms, never parsed: no character of a query means anything but itself."""
        from tantivy import Occur, Query

        parts = [self._term("text", term) for term in terms]
        if weight := self._settings.title_weight:
            parts += [Query.boost_query(self._term("title", term), weight) for term in terms]
        return Query.boolean_query([(Occur.Should, part) for part in parts])

    def _term(self, field: str, value: Any) -> Query:
        from tantivy import Query

        return Query.term_query(self._schema, field, value, "freq")

    def _best(self, query: Query, wanted: int) -> list[Scored]:
        hits = self._searcher.search(query, limit=wanted, count=False).hits
        rows = self._searcher.fast_field_values("row", [address for _, address in hits])
        return [(int(row or 0), score) for row, (score, _) in zip(rows, hits, strict=True)]


def committed(folder: Path, first: int) -> int:
    """Passages that the last commit in the folder holds from the row `first` on; 0 where there is no whole index."""
    from tantivy import FieldType, Index, Query

    try:
        index = Index.open(str(folder))
    except ValueError:
        return 0
    query = Query.range_query(index.schema, "row", FieldType.Unsigned, first, _END)
    found: Any = index.searcher().search(query, limit=1, count=True)
    return int(found.count)


def tidy(folder: Path, settings: LexicalSettings, shelf: Shelf) -> int:
    """Write the index anew where that is quick or deleted passages are many; how many still count when words are weighed,
    because their segment holds others."""
    left = _lingering(folder)
    counted = len(shelf) + left
    if not left or (counted > REWRITE_MOST and left * 10 <= counted):
        return left
    beside = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    with LexicalWriter(beside, settings, threads=2) as writer:
        for row in shelf.live():
            writer.add(row, shelf[row])
        writer.close()
    shutil.rmtree(folder)
    beside.rename(folder)
    return 0


def _opened(folder: Path) -> Index:
    """Raises ValueError where Tantivy cannot read the folder."""
    from tantivy import Index

    if os.access(folder, os.W_OK):
        return Index.open(str(folder))
    # Tantivy wants to lock a file even to read. It maps the files as it opens them, so that the links may go at once.
    with TemporaryDirectory() as elsewhere:
        for path in (path for path in folder.iterdir() if path.suffix != ".lock"):
            (Path(elsewhere) / path.name).symlink_to(path.absolute())
        return Index.open(elsewhere)


def _lingering(folder: Path) -> int:
    segments = json.loads((folder / META).read_bytes())["segments"]
    return sum(segment["deletes"]["num_deleted_docs"] for segment in segments if segment["deletes"])


def _schema() -> Schema:
    from tantivy import SchemaBuilder

    made = SchemaBuilder().add_unsigned_field("row", fast=True, indexed=True)
    for field in ("title", "text"):
        made = made.add_text_field(field, tokenizer_name=_ANALYZER, index_option="freq")
    return made.build()
