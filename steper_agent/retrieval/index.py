"""Open an index only if it is what its manifest says: every file as it was written, and passages that find themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from steper_agent.errors import IndexFault
from steper_agent.retrieval import manifest, stamps
from steper_agent.retrieval.lexical import LexicalIndex
from steper_agent.retrieval.manifest import SPACE, VECTORS, WORDS, Manifest, summand
from steper_agent.retrieval.shelf import REBUILD, Shelf, line
from steper_agent.retrieval.sources.corpus import read_corpus

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from steper_agent.retrieval.dense import DenseIndex
    from steper_agent.retrieval.remote import RemoteRetriever
    from steper_agent.retrieval.rerank import PairReranker, Reranker
    from steper_agent.retrieval.retriever import IndexRetriever

PROBES = 5
SAME = 0.99
"""Least cosine between a stored vector and the same passage encoded again; batching and hardware move it by 1e-3."""


def open_index(
    folder: str | Path,
    embeddings: Embeddings | None = None,
    *,
    corpus: Path | Sequence[Path] | None = None,
    k: int = 4,
    reranker: str | Reranker | PairReranker | None = None,
) -> IndexRetriever:
    """Open the current generation of an index after checking its files, its counts and that passages find themselves.

    `embeddings` is the encoder, where the index was built with an object; `corpus` names the sources the index is
    expected to have been made from; `reranker` reads the first hits again (`cross-encoder:NAME`, or an object). What was
    opened answers the same for as long as it is held, whatever is written meanwhile.

    Raises:
        IndexFault: the index is missing, damaged, of another format, of another corpus, or was built with another encoder.
        ModelError: the encoder cannot be loaded, or its provider fails.
    """
    from steper_agent.retrieval.rerank import reranker_from
    from steper_agent.retrieval.retriever import IndexRetriever

    folder = Path(folder)
    if corpus is not None:
        check_corpus(folder, [corpus] if isinstance(corpus, Path) else corpus)
    while True:
        found = manifest.read(folder)
        try:
            shelf, words, vectors = _open(folder, found, embeddings)
            break
        except IndexFault:
            # A writer may have switched and removed files of the generation we were about to open.
            if manifest.read(folder).seal == found.seal:
                raise
    again = reranker_from(reranker) if isinstance(reranker, str) else reranker
    return IndexRetriever(k=k, folder=folder, manifest=found, shelf=shelf, lexical=words, dense=vectors, reranker=again)


def open_retriever(where: str | Path, *, k: int = 4) -> IndexRetriever | RemoteRetriever:
    """The index in a folder, or the one that `steper index serve` serves at an address.

    Raises:
        IndexFault: as `open_index`.
        ConfigError, SearchError: as `remote.connect`.
    """
    from steper_agent.retrieval.remote import connect, url_in

    url = url_in(where)
    return connect(url, k=k) if url else open_index(where, k=k)


def verify_index(folder: Path) -> list[IndexFault]:
    """Everything that is wrong with the files of an index, each read in full.

    Raises:
        IndexFault: there is no index, or its manifest cannot be read.
    """
    found = manifest.read(folder)
    return stamps.faults(folder, found.files)


def check_corpus(folder: Path, sources: Sequence[Path]) -> None:
    """An error unless the index holds exactly the passages of these sources.

    Raises:
        IndexFault: it holds others.
        DataError: a source is missing, empty or broken.
    """
    found = manifest.read(folder)
    digest = sum(summand(line(passage)) for passage in read_corpus(sources, found.chunking)) % SPACE
    if digest != int(found.corpus, 16):
        raise IndexFault(
            f"the index was made for another corpus ({', '.join(found.sources)}, {found.passages} passages)",
            where=f"{folder} against {', '.join(map(str, sources))}",
            fix="give the sources it was made from, or build it again for these",
        )


def _open(
    folder: Path, found: Manifest, embeddings: Embeddings | None
) -> tuple[Shelf, LexicalIndex | None, DenseIndex | None]:
    stamps.check(folder, found.files)
    shelf = Shelf(folder, found.parts, ids=found.ids, gone=found.gone)
    words = LexicalIndex(folder / found.words / WORDS, found.lexical) if found.lexical else None
    vectors = _open_vectors(folder, found, embeddings, shelf) if found.encoder else None
    _same_count(folder, "the shelf", len(shelf), found.passages)
    if words:
        _same_count(folder, "the index of words", words.rows, found.passages)
    if vectors:
        _same_count(folder, "the vectors", vectors.rows, found.rows)
    _probe(folder, shelf, words, vectors)
    return shelf, words, vectors


def _open_vectors(folder: Path, found: Manifest, embeddings: Embeddings | None, shelf: Shelf) -> DenseIndex:
    from steper_agent.retrieval.dense import DenseIndex
    from steper_agent.retrieval.encoders import encoder_from

    if embeddings is None and found.encoder.startswith("object:"):
        raise IndexFault(
            f"the index was built with an encoder from Python ({found.encoder})",
            where=folder,
            fix="open it from Python with open_index(folder, embeddings=THE_SAME_ENCODER)",
        )
    if found.dense is None:
        raise IndexFault("the manifest names an encoder and no vectors", where=folder, fix=REBUILD)
    encoder = encoder_from(embeddings if embeddings is not None else found.encoder, found.prefixes)
    file = folder / found.vectors / VECTORS
    return DenseIndex(file, encoder, found.dense, dimension=found.dimension, gone=shelf.gone)


def _same_count(folder: Path, what: str, held: int, said: int) -> None:
    if held != said:
        raise IndexFault(f"{what} holds {held} rows, the manifest says {said}", where=folder, fix=REBUILD)


def _probe(folder: Path, shelf: Shelf, words: LexicalIndex | None, vectors: DenseIndex | None) -> None:
    """A few passages must stand in their rows with their own words, and look to the encoder as they did."""
    spread = (round(at * (shelf.rows - 1) / (PROBES - 1)) for at in range(PROBES))
    probes = {row: shelf[row] for row in spread if shelf.is_live(row)}
    if words and not all(words.holds(row, passage) for row, passage in probes.items()):
        raise IndexFault("passages do not find themselves in this index", where=folder, fix=REBUILD)
    if vectors and probes and (cosine := vectors.agreement(list(probes), list(probes.values()))) < SAME:
        raise IndexFault(
            f"the encoder sees the passages otherwise than when the index was built (cosine {cosine:.2f})",
            where=folder,
            fix="open it with the encoder it was built with, or build it again with this one",
        )
