"""Which kind of dense index suits how many passages, and what it takes of disk and memory. Arithmetic only: no FAISS."""

from __future__ import annotations

from math import isqrt
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from steper_agent.errors import ConfigError
from steper_agent.machine import whole_memory
from steper_agent.records import Record

DenseKind = Literal["flat", "hnsw", "ivf", "ivfpq"]


class Flat(Record):
    """Every vector is compared with the query: exact."""

    kind: Literal["flat"] = "flat"


class Hnsw(Record):
    """A graph of neighbours: about a thousand comparisons a query at any size, with the vectors and the graph in memory."""

    kind: Literal["hnsw"] = "hnsw"
    m: int = Field(default=32, ge=2, le=256)
    """Neighbours of a vector on each level; twice as many on the lowest."""
    ef_construction: int = Field(default=100, ge=1)
    """Vectors kept in view while one is placed."""
    ef_search: int = Field(default=128, ge=1)
    """Vectors kept in view during a search."""


class _Lists(Record):
    lists: int = Field(ge=1)
    """Clusters that the vectors are dealt to."""
    probes: int = Field(ge=1)
    """Clusters that a query looks into, the nearest ones."""


class Ivf(_Lists):
    """Clusters of whole vectors: quick to build, and a query reads a share of the file."""

    kind: Literal["ivf"] = "ivf"


class IvfPq(_Lists):
    """Clusters of shortened vectors: a tenth of the memory, and cosines that are approximate."""

    kind: Literal["ivfpq"] = "ivfpq"
    pq_bytes: int = Field(ge=1)
    """Bytes a vector is shortened to; divides its dimension."""


DenseSettings = Annotated[Flat | Hnsw | Ivf | IvfPq, Field(discriminator="kind")]
"""What decides the answers of a dense index besides its vectors; kept in the manifest."""

FLAT_MOST = 200_000
"""Passages up to which a query of a flat index of 384 numbers stays near 20 ms on two cores."""
LEAST_PQ = 8
SAMPLED = 64
"""Vectors a cluster that IVF is trained on."""
PQ_CODES = 256
"""Values of a byte of a shortened vector."""
BLOCK = 64 << 20
"""Bytes of vectors that a build holds besides the index itself."""


class Estimate(NamedTuple):
    disk: int
    """Bytes of the finished file."""
    memory: int
    """Bytes a search wants in memory to be quick. The file is mapped: with less it still answers, from the disk."""
    build_memory: int
    """Bytes at the peak of a build."""
    build_disk: int
    """Bytes of encoded vectors beside the file, until the build ends."""


def choose(
    passages: int, dimension: int, *, kind: DenseKind | None = None, memory: int | None = None
) -> Flat | Hnsw | Ivf | IvfPq:
    """Settings for so many passages of so many numbers each, within `memory` bytes; of one `kind`, where that is given.

    Flat while a query stays cheap, HNSW while its build fits the memory, IVF while that one's does, IVF-PQ beyond.
    `memory` is half of the machine's, unless given.

    Raises:
        ConfigError: there is nothing to index, or no number of a passage is known.
    """
    if passages < 1:
        raise ConfigError("there is no passage to index", where="passages", fix="give at least one")
    if dimension < 1:
        raise ConfigError(
            f"vectors of {dimension} numbers cannot be indexed", where="dimension", fix="give --encoder or --dimension"
        )
    room = whole_memory() // 2 if memory is None else memory
    lists = _lists(passages)
    ivf = Ivf(lists=lists, probes=_probes(lists))
    if kind is None:
        kind = "flat" if passages <= FLAT_MOST else _largest_fit(passages, dimension, (Hnsw(), ivf), room)
    if kind == "ivfpq":
        return IvfPq(lists=lists, probes=ivf.probes, pq_bytes=_pq_bytes(passages, dimension, ivf, room))
    if kind == "hnsw":
        return Hnsw()
    return ivf if kind == "ivf" else Flat()


def estimate(passages: int, dimension: int, settings: Flat | Hnsw | Ivf | IvfPq) -> Estimate:
    """Bytes for so many passages of so many numbers each: of disk to a hundredth, of memory an upper bound.

    Builds of 40,000 to 100,000 vectors of 384 numbers peaked at half to two thirds of `build_memory`.
    """
    vector = 4 * dimension
    match settings:
        case Flat():
            disk, build = passages * vector, 0
        case Hnsw():
            # Lowest level 2m links of 4 bytes, the levels above 1/(m-1) as many vectors; level and offset of each.
            disk = passages * (vector + 8 * settings.m + 4 * settings.m // (settings.m - 1) + 12)
            # The vectors grow by doubling, and every vector has a lock while the graph is built.
            build = 2 * disk
        case Ivf():
            disk = passages * (vector + 8) + settings.lists * vector
            build = disk * 5 // 4 + sampled(passages, settings.lists) * vector
        case IvfPq():
            disk = passages * (settings.pq_bytes + 8) + (settings.lists + PQ_CODES) * vector
            build = disk * 3 // 2 + sampled(passages, settings.lists) * vector
    return Estimate(disk=disk, memory=disk, build_memory=build + BLOCK, build_disk=passages * vector)


def sampled(passages: int, lists: int) -> int:
    """Vectors that the clusters are trained on."""
    return min(passages, max(SAMPLED * lists, PQ_CODES * 39))


def _largest_fit(passages: int, dimension: int, kinds: tuple[Hnsw | Ivf, ...], room: int) -> DenseKind:
    fits = (one.kind for one in kinds if estimate(passages, dimension, one).build_memory <= room)
    return next(fits, "ivfpq")


def _lists(passages: int) -> int:
    """About twice the square root, a power of two: then ranking the clusters and reading them cost about the same."""
    return 1 << max(2 * isqrt(passages), 1).bit_length() - 1


def _probes(lists: int) -> int:
    """Queries lie apart from passages, and their neighbours in many clusters. With MiniLM on the 9,705 passages of 2Wiki and
    its questions, 0.98 of the ten nearest are found; a sixteenth of the clusters, enough for a mixture of Gaussians, finds 0.77."""
    return min(lists, 3 * isqrt(lists) + 8)


def _pq_bytes(passages: int, dimension: int, ivf: Ivf, room: int) -> int:
    """The most bytes that fit, of those that divide the dimension; half of the dimension loses little."""
    sizes = [size for size in range(dimension, 0, -1) if dimension % size == 0 and size <= max(dimension // 2, 1)]
    for size in sizes:
        settings = IvfPq(lists=ivf.lists, probes=ivf.probes, pq_bytes=size)
        if size <= LEAST_PQ or estimate(passages, dimension, settings).build_memory <= room:
            return size
    return sizes[-1]
