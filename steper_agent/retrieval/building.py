"""Make an index of files, add to it, delete from it. Each makes a generation beside the current one, which serves until the switch.

A run that was killed goes on where it stopped when the same is asked again; one that fails leaves the index as it was.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from steper_agent.durable import UNFINISHED, digest
from steper_agent.errors import ConfigError, DataError, IndexFault
from steper_agent.records import Record
from steper_agent.retrieval import manifest, stamps
from steper_agent.retrieval.choosing import DenseKind, DenseSettings
from steper_agent.retrieval.encoders import Encoder, Prefixes, encoder_from, spec_of
from steper_agent.retrieval.generations import (
    LOCK,
    discard,
    draft,
    finish,
    is_unswitched,
    link,
    name_of,
    next_number,
    writing,
)
from steper_agent.retrieval.growing import Job, Progress, grow
from steper_agent.retrieval.intake import write_gone
from steper_agent.retrieval.lexical import REWRITTEN, LexicalWriter, tidy
from steper_agent.retrieval.manifest import BUILDING, MANIFEST, WORDS, Manifest, Mode, without
from steper_agent.retrieval.shelf import Shelf
from steper_agent.retrieval.sources.chunking import DEFAULT, Chunking
from steper_agent.retrieval.sources.tally import Tally
from steper_agent.retrieval.terms import LexicalSettings

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings


class IndexSettings(Record):
    """What decides the answers of an index besides its passages, its mode and its encoder."""

    chunking: Chunking = DEFAULT
    lexical: LexicalSettings = LexicalSettings()
    prefixes: Prefixes | None = None
    """What the encoder reads before a text. None: as the encoder's family was trained."""
    dense: DenseSettings | DenseKind | None = None
    """A kind's settings, or the kind alone; None: the kind too is chosen by the number of passages."""


def build_index(
    sources: Sequence[Path],
    out: Path,
    *,
    mode: Mode = "bm25",
    encoder: str | Embeddings | Encoder | None = None,
    settings: IndexSettings = IndexSettings(),  # noqa: B008 - frozen
    tally: Tally | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Index the passages of all sources in the folder `out`; an index there gives way once the new one is whole.

    `tally` counts what was read and left out, and says what a bad record does.

    Raises:
        ConfigError: the request makes no sense, or something else is in the folder.
        DataError: a source is missing, empty or broken.
        IndexFault: another process is writing this index.
        DependencyError: a package that the encoder needs is missing.
        ModelError: the encoder cannot be loaded, or its provider fails; the same request goes on where it stopped.
    """
    _check_request(sources, out, mode, encoder)
    made = encoder_from(encoder, settings.prefixes) if encoder is not None else None
    with writing(out):
        job = Job(
            folder=out,
            base=manifest.empty(
                mode=mode,
                chunking=settings.chunking,
                lexical=settings.lexical if mode != "dense" else None,
                encoder=made.spec if made else "",
                prefixes=made.prefixes if made else None,
                versions=_versions(mode),
            ),
            shelf=Shelf(out),
            before=_before(out),
            sources=sources,
            encoder=made,
            dense=settings.dense,
            tally=tally or Tally(),
            tell=progress or _silent,
            number=next_number(out),
        )
        return grow(job)


def add_passages(
    folder: Path,
    sources: Sequence[Path],
    *,
    encoder: str | Embeddings | Encoder | None = None,
    replace: bool = False,
    tally: Tally | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Add the passages of the sources to an index, cut and encoded as its own are.

    Passages of the data sets' own files that the index has already count as duplicates. With `replace`, a passage whose id the
    index has takes the other's place. `encoder` is needed where the index was built with an object.

    Raises:
        ConfigError: it is another encoder than the index's, or none where one is needed.
        DataError: a source is missing, empty or broken, or brings an id that the index has.
        IndexFault: the index is damaged, or another process is writing it.
        ModelError: as `build_index`.
    """
    if not sources:
        raise ConfigError("no source given", where="sources", fix="name at least one file or folder")
    manifest.read(folder)  # Before a lock would make the folder.
    with writing(folder):
        base = _sound(folder)
        made = encoder_from(_encoder_of(base, folder, encoder), base.prefixes) if base.encoder else None
        shelf = Shelf(folder, base.parts, ids=base.ids, gone=base.gone)
        try:
            return grow(
                Job(
                    folder=folder,
                    base=base,
                    shelf=shelf,
                    before=base,
                    sources=sources,
                    encoder=made,
                    dense=None,
                    tally=tally or Tally(),
                    tell=progress or _silent,
                    number=base.generation + 1,
                    is_replacing=replace,
                )
            )
        finally:
            shelf.close()


def delete_passages(folder: Path, ids: Iterable[str], *, missing: Literal["error", "ignore"] = "error") -> Manifest:
    """Delete the passages of these ids: no search finds them any more. Their text stays in the folder until it is built again.

    Raises:
        DataError: the index holds no passage of such an id, and `missing` is "error".
        IndexFault: the index is damaged, or another process is writing it.
    """
    began = time.monotonic()
    manifest.read(folder)
    with writing(folder):
        base = _sound(folder)
        shelf = Shelf(folder, base.parts, ids=base.ids, gone=base.gone)
        try:
            rows = _rows(shelf, ids, missing, folder)
            if not rows:
                return base
            discard(folder)
            path, _ = draft(folder, base.generation + 1, digest([base.seal, rows]))
            own = name_of(base.generation + 1)
            changed = {"generation": base.generation + 1, "gone": own, "words": own if base.lexical else ""}
            made = without(base, shelf, rows).model_copy(update=changed)
            write_gone(path, rows, shelf)
            if base.lexical:
                made = made.model_copy(update={"lingering": _unworded(folder, path, base, base.lexical, rows)})
            made = made.model_copy(update={"seconds": round(time.monotonic() - began, 3)})
            return finish(folder, made, base, base)
        finally:
            shelf.close()


def _unworded(folder: Path, path: Path, base: Manifest, lexical: LexicalSettings, rows: Sequence[int]) -> int:
    """Take the rows out of the index of words; how many of the deleted still count."""
    link(folder / base.words / WORDS, path / WORDS, but=REWRITTEN)
    with LexicalWriter(path / WORDS, lexical) as words:
        words.delete(rows)
        words.close()
    left = Shelf(folder, base.parts, ids=base.ids, gone=BUILDING)
    try:
        return tidy(path / WORDS, lexical, left)
    finally:
        left.close()


def _rows(shelf: Shelf, ids: Iterable[str], missing: str, folder: Path) -> list[int]:
    rows = set()
    for name in ids:
        row = shelf.find(name)
        if row is not None:
            rows.add(row)
        elif missing == "error":
            raise DataError(
                f"the index holds no passage with the id {name!r}",
                where=folder,
                fix="check the id, or ignore missing ones",
            )
    return sorted(rows)


def _sound(folder: Path) -> Manifest:
    """The current generation, once its files were found to be what was written."""
    found = manifest.read(folder)
    stamps.check(folder, found.files)
    return found


def _encoder_of(base: Manifest, folder: Path, encoder: str | Embeddings | Encoder | None) -> str | Embeddings | Encoder:
    if encoder is not None:
        if spec_of(encoder) != base.encoder:
            raise ConfigError(
                f"the index was built with {base.encoder}, not {spec_of(encoder)}",
                where=folder,
                fix="add with the encoder it was built with, or build it again with this one",
            )
        return encoder
    if base.encoder.startswith("object:"):
        raise ConfigError(
            f"the index was built with an encoder from Python ({base.encoder})",
            where=folder,
            fix="add from Python with add_passages(folder, sources, encoder=THE_SAME_ENCODER)",
        )
    return base.encoder


def _before(out: Path) -> Manifest | None:
    try:
        return manifest.read(out)
    except IndexFault:
        return None


def _check_request(sources: Sequence[Path], out: Path, mode: str, encoder: str | Embeddings | Encoder | None) -> None:
    if mode not in ("bm25", "dense", "hybrid"):
        raise ConfigError(f"unknown mode {mode!r}", where="mode", fix="choose bm25, dense or hybrid")
    if not sources:
        raise ConfigError("no source given", where="sources", fix="name at least one file or folder")
    if mode == "bm25" and encoder is not None:
        raise ConfigError("mode bm25 uses no encoder", where="encoder", fix="leave it out, or choose dense or hybrid")
    if mode != "bm25" and encoder is None:
        raise ConfigError(f"mode {mode} needs an encoder", where="encoder", fix="name one, or choose mode bm25")
    if out.exists() and not (out / MANIFEST).is_file() and (not out.is_dir() or _holds_others(out)):
        raise ConfigError(
            "something that is not an index is in the way", where=out, fix="give another --out, or remove this yourself"
        )


def _holds_others(out: Path) -> bool:
    """Whether there is more in a folder than what an unfinished first build leaves."""
    return not all(
        path.name in (BUILDING, LOCK)
        or is_unswitched(path)
        or (path.name.startswith(f".{MANIFEST}.") and path.name.endswith(UNFINISHED))
        for path in out.iterdir()
    )


def _versions(mode: Mode) -> dict[str, str]:
    names = [*(["tantivy"] if mode != "dense" else []), *(["faiss-cpu"] if mode != "bm25" else []), "numpy"]
    return {name: version(name) for name in names}


def _silent(_stage: str, _done: int, _total: int) -> None:
    pass
