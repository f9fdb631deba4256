"""Build an index folder whole or not at all; open one only if it is what its manifest says."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from steper_agent.durable import sync_folder
from steper_agent.errors import ConfigError, IndexFault
from steper_agent.retrieval import dense, manifest, shelf
from steper_agent.retrieval.corpus import CHUNK_CHARS, read_corpus
from steper_agent.retrieval.dense import DenseIndex, encoder_from
from steper_agent.retrieval.lexical import LexicalBuilder, LexicalIndex, LexicalSettings
from steper_agent.retrieval.manifest import Manifest, Mode
from steper_agent.retrieval.shelf import REBUILD, Shelf, ShelfWriter

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

    from steper_agent.retrieval.retriever import IndexRetriever

Progress = Callable[[str, int, int], None]
"""Stage (`read`, `bm25`, `encode`, `seal`), passages done, passages in all (0 while unknown)."""

LEXICAL_FOLDER = "bm25"
PROBES = 5
SAME = 0.99
"""Least cosine between a stored vector and the same passage encoded again; batching and hardware move it by 1e-3."""


def build_index(
    sources: Sequence[Path],
    out: Path,
    *,
    mode: Mode = "bm25",
    encoder: str | Embeddings | None = None,
    chunk_chars: int = CHUNK_CHARS,
    progress: Progress | None = None,
) -> Manifest:
    """Index the passages of all sources in the folder `out`; an index there gives way once the new one is whole."""
    began = time.monotonic()
    _check_request(sources, out, mode, encoder)
    tell = progress or (lambda _stage, _done, _total: None)
    embeddings = encoder_from(encoder) if isinstance(encoder, str) else encoder
    with _whole_or_nothing(out) as folder:
        lexical = LexicalSettings() if mode != "dense" else None
        corpus, passages, characters = _read(sources, chunk_chars, folder, lexical, tell)
        dimension = 0
        if embeddings is not None:
            read = Shelf(folder)
            dimension = dense.build_vectors(read, embeddings, folder, lambda done: tell("encode", done, passages))
            read.close()
        tell("seal", passages, passages)
        made = Manifest(
            mode=mode,
            corpus=corpus,
            passages=passages,
            characters=characters,
            chunk_chars=chunk_chars,
            sources=tuple(source.resolve().name for source in sources),
            paths=tuple(str(source.resolve()) for source in sources),
            lexical=lexical,
            encoder=dense.spec_of(encoder) if encoder is not None else "",
            dimension=dimension,
            versions=_versions(mode),
            seconds=round(time.monotonic() - began, 3),
            files=manifest.seal(folder),
        )
        manifest.write(folder, made)
    return made


def open_index(
    folder: str | Path,
    embeddings: Embeddings | None = None,
    *,
    corpus: Path | Sequence[Path] | None = None,
    k: int = 4,
) -> IndexRetriever:
    """Open an index after checking its files, its counts and that passages find themselves.

    `embeddings` is the encoder, where the index was built with an object; `corpus` names the sources the index is
    expected to have been made from.
    """
    from steper_agent.retrieval.retriever import IndexRetriever

    folder = Path(folder)
    found = manifest.read(folder)
    if corpus is not None:
        check_corpus(folder, [corpus] if isinstance(corpus, Path) else corpus)
    manifest.verify(folder, found)
    passages = Shelf(folder)
    lexical = LexicalIndex(folder / LEXICAL_FOLDER, found.lexical, passages.order) if found.lexical else None
    vectors = _open_dense(folder, found, embeddings, passages) if found.encoder else None
    for part in (passages, lexical, vectors):
        if part is not None and part.rows != found.passages:
            raise IndexFault(
                f"{type(part).__name__} holds {part.rows} rows, the manifest says {found.passages}",
                where=folder,
                fix=REBUILD,
            )
    index = IndexRetriever(k=k, folder=folder, manifest=found, shelf=passages, lexical=lexical, dense=vectors)
    _probe(folder, passages, lexical, vectors)
    return index


def check_corpus(folder: Path, sources: Sequence[Path]) -> None:
    """An error unless the index was made for exactly these passages."""
    found = manifest.read(folder)
    digest = hashlib.sha256()
    for passage in read_corpus(sources, found.chunk_chars):
        digest.update(shelf.line(passage))
    if digest.hexdigest() != found.corpus:
        raise IndexFault(
            f"the index was made for another corpus ({', '.join(found.sources)}, {found.passages} passages)",
            where=f"{folder} against {', '.join(map(str, sources))}",
            fix="give the sources it was made from, in their order, or build it again for these",
        )


def _check_request(sources: Sequence[Path], out: Path, mode: str, encoder: str | Embeddings | None) -> None:
    if mode not in ("bm25", "dense", "hybrid"):
        raise ConfigError(f"unknown mode {mode!r}", where="mode", fix="choose bm25, dense or hybrid")
    if not sources:
        raise ConfigError("no source given", where="sources", fix="name at least one file or folder")
    if mode == "bm25" and encoder is not None:
        raise ConfigError("mode bm25 uses no encoder", where="encoder", fix="leave it out, or choose dense or hybrid")
    if mode != "bm25" and encoder is None:
        raise ConfigError(f"mode {mode} needs an encoder", where="encoder", fix="name one, or choose mode bm25")
    if out.exists() and not (out / manifest.MANIFEST).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(
            "something that is not an index is in the way", where=out, fix="give another --out, or remove this yourself"
        )


def _read(
    sources: Sequence[Path], chunk_chars: int, folder: Path, settings: LexicalSettings | None, tell: Progress
) -> tuple[str, int, int]:
    """Write the passages and the BM25 files; the corpus digest, the passages and their characters."""
    builder = LexicalBuilder(settings) if settings else None
    characters = 0
    with ShelfWriter(folder) as writer:
        for number, passage in enumerate(read_corpus(sources, chunk_chars), start=1):
            writer.add(passage)
            characters += len(passage.title) + len(passage.text)
            if builder:
                builder.add(passage.title, passage.text)
            if number % 500 == 0:
                tell("read", number, 0)
        passages = writer.close()
    tell("read", passages, passages)
    if builder:
        tell("bm25", 0, passages)
        builder.save(folder / LEXICAL_FOLDER)
        tell("bm25", passages, passages)
    return writer.digest, passages, characters


def _open_dense(folder: Path, found: Manifest, embeddings: Embeddings | None, passages: Shelf) -> DenseIndex:
    if embeddings is None:
        if not found.encoder.startswith(dense.PREFIX):
            raise IndexFault(
                f"the index was built with an encoder from Python ({found.encoder})",
                where=folder,
                fix="open it from Python with open_index(folder, embeddings=THE_SAME_ENCODER)",
            )
        embeddings = encoder_from(found.encoder)
    return DenseIndex(folder, embeddings, passages.order, dimension=found.dimension)


def _probe(folder: Path, passages: Shelf, lexical: LexicalIndex | None, vectors: DenseIndex | None) -> None:
    """A few passages must find themselves by their own words, and look to the encoder as they did."""
    rows = sorted({round(at * (len(passages) - 1) / (PROBES - 1)) for at in range(PROBES)})
    probes = [passages[row] for row in rows]
    if lexical:
        found = [
            any(passages[row].text == probe.text for row, _ in hits)
            for probe in probes
            if (hits := lexical.search(f"{probe.title}\n{probe.text}", 10))
        ]
        # Half may lose to longer passages that say the same words more often; an index gone wrong loses all.
        if sum(found) * 2 < len(found):
            raise IndexFault("passages do not find themselves in this index", where=folder, fix=REBUILD)
    if vectors and (cosine := vectors.agreement(rows, probes)) < SAME:
        raise IndexFault(
            f"the encoder sees the passages otherwise than when the index was built (cosine {cosine:.2f})",
            where=folder,
            fix="open it with the encoder it was built with, or build it again with this one",
        )


@contextmanager
def _whole_or_nothing(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place when the block ends well, and vanishes otherwise."""
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.tmp")
    beside.mkdir()
    try:
        yield beside
        for path in beside.rglob("*"):
            _sync(path)
        sync_folder(beside)
        if out.exists():
            # A folder cannot be replaced in one step; readers that have it open keep their files until they close.
            replaced = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.old")
            out.rename(replaced)
            beside.rename(out)
            shutil.rmtree(replaced)
        else:
            beside.rename(out)
        sync_folder(out.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _sync(path: Path) -> None:
    if path.is_dir():
        sync_folder(path)
        return
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _versions(mode: Mode) -> dict[str, str]:
    names = [*(["bm25s", "PyStemmer"] if mode != "dense" else []), *(["faiss-cpu"] if mode != "bm25" else []), "numpy"]
    return {name: version(name) for name in names}
