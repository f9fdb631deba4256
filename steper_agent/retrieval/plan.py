"""What an index will take of disk, memory and time, told before anything starts, and refused where it cannot fit.

Passages are counted where the sources are small, and estimated from their first ones and the size of the files elsewhere.
"""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from steper_agent.errors import ConfigError
from steper_agent.machine import free_memory
from steper_agent.records import Record
from steper_agent.retrieval.choosing import DenseKind, DenseSettings, choose, estimate
from steper_agent.retrieval.lexical import HEAP
from steper_agent.retrieval.manifest import Mode
from steper_agent.retrieval.shelf import line
from steper_agent.retrieval.sources.chunking import DEFAULT, Chunking
from steper_agent.retrieval.sources.corpus import read_corpus
from steper_agent.retrieval.sources.folder import files_of
from steper_agent.retrieval.sources.streams import SUFFIXES
from steper_agent.retrieval.sources.tally import Tally

SAMPLE = 5000
"""Passages of each source that are read: a tenth of a second."""
SHRUNK = (*SUFFIXES, ".parquet")
"""Files that hold more text than bytes."""

# Disk and memory measured on a million passages of 85 words; the speed is that of two cores with nothing else to do.
WORDS_SHARE = 0.22
"""Bytes of the index of words for each byte of passages; while segments are merged, twice that."""
ROW_DISK = 20
"""Bytes a passage: where it begins, and its id's place."""
ROW_MEMORY = 90
"""Bytes a passage while an index is made: ids already met, places, and sorting them."""
BUILD_MEMORY = 170 << 20
"""Bytes besides what Tantivy collects before it writes, which is less than the text: Python and NumPy."""
BYTES_A_SECOND = 16_000_000
"""Bytes of passages shelved and indexed."""


class Plan(Record):
    passages: int
    is_exact: bool
    """The passages were counted, not estimated."""
    text: int
    """Bytes of the passages as they are shelved."""
    disk: int
    """Bytes of the finished index."""
    build_disk: int
    """Bytes at the peak of its making, the finished index among them."""
    build_memory: int
    """Bytes at the peak of its making, without the encoder's model."""
    seconds: float
    """Of its making, without the encoder's time."""
    dense: DenseSettings | None = None
    free_disk: int
    free_memory: int


def plan(
    sources: Sequence[Path],
    out: Path,
    *,
    mode: Mode = "bm25",
    dimension: int = 0,
    dense: DenseSettings | DenseKind | None = None,
    chunking: Chunking = DEFAULT,
) -> Plan:
    """What indexing the sources in the folder `out` takes. `dimension`: numbers that the encoder makes of a passage.

    Raises:
        DataError: a source is missing or empty.
    """
    counted = [_count(source, chunking) for source in sources]
    passages, text = sum(one[0] for one in counted), sum(one[1] for one in counted)
    words = int(text * WORDS_SHARE) if mode != "dense" else 0
    disk = text + words + passages * ROW_DISK
    collected = min(HEAP, text) if mode != "dense" else 0
    build_disk, memory, settings = disk + words, BUILD_MEMORY + collected + passages * ROW_MEMORY, None
    if mode != "bm25":
        settings = dense if isinstance(dense, Record) else choose(passages, dimension, kind=dense)
        vectors = estimate(passages, dimension, settings)
        disk += vectors.disk
        build_disk += vectors.disk + vectors.build_disk
        # Vectors are indexed after the words.
        memory = max(memory, passages * ROW_MEMORY + vectors.build_memory)
    return Plan(
        passages=passages,
        is_exact=all(one[2] for one in counted),
        text=text,
        disk=disk,
        build_disk=build_disk,
        build_memory=memory,
        seconds=round(text / BYTES_A_SECOND, 1),
        dense=settings,
        free_disk=shutil.disk_usage(_existing(out)).free,
        free_memory=free_memory(),
    )


def refuse(plan: Plan, out: Path) -> None:
    """An error where the disk or the memory cannot hold what is planned.

    Raises:
        ConfigError: it says which, and what can be done.
    """
    if plan.build_disk > plan.free_disk:
        raise ConfigError(
            f"the index takes {_gb(plan.build_disk)} of disk while it is made, {_gb(plan.free_disk)} are free",
            where=_existing(out),
            fix="give --out on a larger disk, or free some space",
        )
    if plan.build_memory > plan.free_memory:
        cure = "choose --dense-kind ivfpq, or a machine with more memory" if plan.dense else "end other programs first"
        raise ConfigError(
            f"making the index takes {_gb(plan.build_memory)} of memory, {_gb(plan.free_memory)} are free",
            where="this machine",
            fix=cure,
        )


def _count(source: Path, chunking: Chunking) -> tuple[int, int, bool]:
    """Passages of a source, their bytes, and whether both are exact."""
    # Broken records are told of when the index is made.
    passages = read_corpus([source], chunking, Tally(on_bad="skip"))
    lines = [line(passage) for passage in islice(passages, SAMPLE)]
    read = sum(map(len, lines))
    if len(lines) < SAMPLE:
        return len(lines), read, True
    files = files_of(source)
    text = sum(_text(path, lines) for path in (*files.documents, *files.records))
    return max(round(text * len(lines) / read), len(lines)), max(text, read), False


def _text(path: Path, lines: Sequence[bytes]) -> int:
    """About how many bytes of text a file holds: its own, or as many more as a sample of its passages shrinks by."""
    size = path.stat().st_size
    if path.suffix.lower() not in SHRUNK:
        return size
    sample = b"".join(lines)
    return size * len(sample) // len(zlib.compress(sample))


def _existing(path: Path) -> Path:
    """The nearest folder above that is there already."""
    path = path.absolute()
    return path if path.is_dir() else _existing(path.parent)


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
