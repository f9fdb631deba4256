"""FAISS's file of a flat index, written block by block: neither a build nor an addition holds the vectors in memory."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

from steper_agent.retrieval.openmp import load_faiss
from steper_agent.retrieval.vectors import Shards


def write(file: Path, shards: Shards) -> None:
    """The file that `faiss.write_index` would write of an IndexFlatIP of these vectors, byte for byte."""
    with file.open("wb") as out:
        out.write(_header(shards.rows, shards.dimension))
        for block in shards.blocks():
            out.write(block.data)


def extend(old: Path, rows: int, new: Path, shards: Shards) -> None:
    """The same of the `rows` vectors in the file `old` and of these behind them."""
    header = _header(rows + shards.rows, shards.dimension)
    with old.open("rb") as before, new.open("wb") as out:
        before.seek(len(header))
        out.write(header)
        shutil.copyfileobj(before, out, 1 << 20)
        for block in shards.blocks():
            out.write(block.data)


def _header(rows: int, dimension: int) -> bytes:
    """FAISS's own, of an empty index, with its two counts set: vectors at byte 8, numbers in the last 8 bytes."""
    faiss = load_faiss()
    empty = faiss.serialize_index(faiss.IndexFlatIP(dimension)).tobytes()
    return bytes(empty[:8] + struct.pack("=q", rows) + empty[16:-8] + struct.pack("=Q", rows * dimension))
