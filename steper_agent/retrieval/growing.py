"""One run that adds passages to an index, or to none: read, shelve, index words, encode, and let it be the next generation.

What is on disk is the checkpoint. Passages are synced before their words are committed, so that the words tell how many
passages are sure; the next run of the same request reads the sources again, compares those, and goes on behind them.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, fields
from itertools import islice
from pathlib import Path

from steper_agent.durable import digest
from steper_agent.errors import DataError
from steper_agent.records import Passage, Record
from steper_agent.retrieval import dense
from steper_agent.retrieval.choosing import DenseKind, DenseSettings, choose
from steper_agent.retrieval.encoders import Encoder
from steper_agent.retrieval.generations import discard, draft, finish, link, name_of
from steper_agent.retrieval.intake import Changed, ShelfWriter, absorb, write_gone, write_ids
from steper_agent.retrieval.lexical import REWRITTEN, LexicalWriter, committed, tidy
from steper_agent.retrieval.manifest import BUILDING, VECTORS, WORDS, Manifest, added, without
from steper_agent.retrieval.shelf import OFFSETS, PASSAGES, Part, Shelf, hashed, line
from steper_agent.retrieval.sources.corpus import read_corpus
from steper_agent.retrieval.sources.normal import content_id
from steper_agent.retrieval.sources.tally import Tally
from steper_agent.retrieval.vectors import write_shards

Progress = Callable[[str, int, int], None]
"""Stage, passages done, passages in all (0 while unknown). Stages are `read`, `words`, `encode` and `seal`; `changed` tells that
the sources are not those of the interrupted run, which is given up."""

CHECKPOINT = 60.0
"""Seconds of reading that a kill loses at most; each checkpoint costs a segment."""
TOLD = 1000
"""Passages between two reports of progress."""
LOOKED_UP = 4096
"""Passages whose ids are looked up together."""
SHARDS = "shards"


@dataclass(frozen=True, slots=True)
class Job:
    folder: Path
    base: Manifest
    """What is added to; of a new index, a manifest without passages."""
    shelf: Shelf
    """Its passages."""
    before: Manifest | None
    """What readers have now; a new index does not build on it."""
    sources: Sequence[Path]
    encoder: Encoder | None
    dense: DenseSettings | DenseKind | None
    """Of a new index; None: chosen by the number of passages."""
    tally: Tally
    tell: Progress
    number: int
    """Of the generation to come."""
    is_replacing: bool = False
    """A passage whose id the index has takes the other's place."""
    began: float = field(default_factory=time.monotonic)

    @property
    def request(self) -> str:
        """Equal for runs of which one can go on with what the other left."""
        base = self.base.model_dump(mode="json", exclude={"seconds"})
        paths = [str(source.resolve()) for source in self.sources]
        return digest([self.number, base, paths, self.is_replacing, self.tally.on_bad])


def grow(job: Job) -> Manifest:
    """The new generation, which readers find from now on; the base, where the sources bring nothing new.

    Raises:
        DataError: a source is missing, empty or broken, or brings an id that the index has.
        ConfigError: the encoder makes no vectors.
    """
    path, is_resumed = draft(job.folder, job.number, job.request)
    try:
        try:
            return _grow(job, path, is_resumed)
        except Changed:
            job.tell("changed", 0, 0)
            _reset(job.tally)
            discard(job.folder)
            path, _ = draft(job.folder, job.number, job.request)
            return _grow(job, path, False)
    finally:
        if path.exists() and not _is_worth_keeping(job, path):
            discard(job.folder)


def _grow(job: Job, path: Path, is_resumed: bool) -> Manifest:
    replaced: list[int] = []
    writer = _read(job, path, _kept(job, path) if is_resumed else 0, replaced)
    if not len(writer):
        return job.base
    if replaced:
        write_gone(path, replaced, job.shelf)
    made = _made(job, writer, replaced)
    parts = (*job.base.parts, Part(folder=BUILDING, rows=len(writer)))
    shelf = Shelf(job.folder, parts, ids=BUILDING, gone=BUILDING if replaced else made.gone)
    if made.lexical:
        made = made.model_copy(update={"lingering": tidy(path / WORDS, made.lexical, shelf)})
    if job.encoder:
        made = _encoded(job, job.encoder, made, path, shelf)
    shelf.close()
    job.tell("seal", 0, made.passages)
    absorbed = absorb(job.folder, job.base.parts, Part(folder=name_of(job.number), rows=len(writer)), path)
    made = made.model_copy(update={"parts": absorbed, "seconds": round(time.monotonic() - job.began, 3)})
    done = finish(job.folder, made, job.base, job.before)
    job.tell("seal", made.passages, made.passages)
    return done


def _read(job: Job, path: Path, kept: int, replaced: list[int]) -> ShelfWriter:
    """Take the passages of the sources, shelved and their words indexed; rows that gave way are added to `replaced`."""
    words = _words(job, path, kept)
    with words or nullcontext(), ShelfWriter(path, kept) as writer:
        _take(job, writer, words, replaced)
        if len(writer):
            write_ids(path, writer.close(), job.shelf)
            if words:
                job.tell("words", 0, len(writer))
                words.delete(replaced)
                words.close()
                job.tell("words", len(writer), len(writer))
    return writer


def _made(job: Job, writer: ShelfWriter, replaced: Sequence[int]) -> Manifest:
    """What the manifest will say, but for words, vectors and files."""
    base, own = without(job.base, job.shelf, replaced), name_of(job.number)
    return added(base, writer.digest, len(writer), writer.characters).model_copy(
        update={
            "generation": job.number,
            "sources": tuple(dict.fromkeys((*base.sources, *(source.resolve().name for source in job.sources)))),
            "paths": tuple(dict.fromkeys((*base.paths, *(str(source.resolve()) for source in job.sources)))),
            "ids": own,
            "gone": own if replaced else base.gone,
            "words": own if base.lexical else "",
            "vectors": own if job.encoder else "",
        }
    )


def _words(job: Job, path: Path, kept: int) -> LexicalWriter | None:
    """The index of words to add to: what is there of an interrupted run, else that of the base, else an empty one."""
    if job.base.lexical is None:
        return None
    if not kept:
        shutil.rmtree(path / WORDS, ignore_errors=True)
        if job.base.words:
            link(job.folder / job.base.words / WORDS, path / WORDS, but=REWRITTEN)
    # An addition has one thread, so that it is one segment, which goes when its passages are deleted again.
    return LexicalWriter(path / WORDS, job.base.lexical, threads=1 if job.shelf.rows else 2)


def _kept(job: Job, path: Path) -> int:
    """Passages of an interrupted run that are sure to be on disk."""
    if job.base.lexical:
        return committed(path / WORDS, job.shelf.rows)
    try:
        with (path / PASSAGES).open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    except FileNotFoundError:
        return 0


def _is_worth_keeping(job: Job, path: Path) -> bool:
    """Whether the same request could go on with it: everything was read, or there is a checkpoint."""
    return (path / OFFSETS).exists() or committed(path / WORDS, job.shelf.rows) > 0


def _take(job: Job, writer: ShelfWriter, words: LexicalWriter | None, replaced: list[int]) -> None:
    passages: Iterable[Passage] = read_corpus(job.sources, job.base.chunking, job.tally)
    if first := job.shelf.rows:
        passages = _new(job, passages, replaced)
    due = time.monotonic() + CHECKPOINT
    for row, passage in enumerate(passages, start=first):
        if writer.add(passage) and words:
            words.add(row, passage)
        if not (row + 1) % TOLD:
            job.tell("read", row + 1 - first, 0)
            if words and time.monotonic() > due:
                writer.sync()
                words.commit()
                due = time.monotonic() + CHECKPOINT
    job.tell("read", len(writer), len(writer))


def _new(job: Job, passages: Iterable[Passage], replaced: list[int]) -> Iterator[Passage]:
    """The passages that the index does not have; rows that give way to one of them are added to `replaced`."""
    passages = iter(passages)
    while batch := list(islice(passages, LOOKED_UP)):
        for passage, is_known in zip(batch, job.shelf.may_have([hashed(one.id) for one in batch]), strict=True):
            row = job.shelf.find(passage.id) if is_known else None
            if row is None:
                yield passage
            elif job.shelf.line(row) == line(passage) and (job.is_replacing or _is_by_content(passage)):
                job.tally.passages -= 1
                job.tally.duplicates += 1
            elif job.is_replacing:
                replaced.append(row)
                yield passage
            else:
                raise DataError(
                    f"the index has a passage with the id {passage.id!r}",
                    where=job.folder,
                    fix="leave it out, or let it take the other's place: steper index add … --replace",
                )


def _is_by_content(passage: Passage) -> bool:
    return passage.id == content_id(passage.title, passage.text)


def _encoded(job: Job, encoder: Encoder, made: Manifest, path: Path, shelf: Shelf) -> Manifest:
    """Write the vectors of the new passages, behind those of the base."""
    rows = range(job.shelf.rows, shelf.rows)
    shards = write_shards(shelf, rows, encoder, path / SHARDS, lambda done: job.tell("encode", done, len(rows)))
    settings = job.base.dense
    if settings is not None:
        dense.extend(job.folder / job.base.vectors / VECTORS, path / VECTORS, shards)
    else:
        wish = job.dense
        settings = wish if isinstance(wish, Record) else choose(shards.rows, shards.dimension, kind=wish)
        dense.build(shards, path / VECTORS, settings)
    shutil.rmtree(path / SHARDS)
    return made.model_copy(update={"dimension": shards.dimension, "dense": settings})


def _reset(tally: Tally) -> None:
    fresh = Tally(on_bad=tally.on_bad)
    for one in fields(fresh):
        setattr(tally, one.name, getattr(fresh, one.name))
