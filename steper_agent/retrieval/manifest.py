"""What an index folder says about itself. Replacing this one file is what switches an index to its next generation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from steper_agent.durable import digest, write_atomic
from steper_agent.errors import IndexFault
from steper_agent.records import Record
from steper_agent.retrieval.choosing import DenseSettings
from steper_agent.retrieval.encoders import Prefixes
from steper_agent.retrieval.shelf import GONE, ID_ROWS, IDS, OFFSETS, PASSAGES, REBUILD, Part, Shelf
from steper_agent.retrieval.sources.chunking import Chunking
from steper_agent.retrieval.stamps import Seal
from steper_agent.retrieval.terms import LexicalSettings

FORMAT = 2
SPACE = 1 << 256
"""Digests of corpora are sums modulo this."""
MANIFEST = "manifest.json"
BUILDING = ".building"
"""Folder of a generation that is not finished."""
WORDS = "lexical"
"""Folder of the index of words in that of its generation."""
VECTORS = "dense.faiss"

Mode = Literal["bm25", "dense", "hybrid"]


class Manifest(Record):
    format: int = FORMAT
    generation: int
    """Counted from 1; every build, addition and deletion makes one."""
    mode: Mode
    corpus: str
    """The sum of the SHA-256 of the passages, one JSON line each, modulo 2 ** 256 and in hex: whatever their order."""
    passages: int
    rows: int
    """Passages ever added; those deleted since keep their rows."""
    characters: int
    """Of titles and texts."""
    chunking: Chunking
    """How documents were cut."""
    sources: tuple[str, ...]
    """Names of the files or folders, without their paths."""
    paths: tuple[str, ...] = ()
    """Where they were when they were read, absolute; only to show a person a passage's own file."""
    parts: tuple[Part, ...]
    ids: str
    """Folder of the table of ids; folders are named as they stand below the index folder."""
    gone: str = ""
    """Folder of the list of deleted rows; empty while there are none."""
    lexical: LexicalSettings | None = None
    words: str = ""
    """Folder whose subfolder is the index of words."""
    lingering: int = 0
    """Deleted passages that it still counts when it weighs words, until it is rewritten."""
    encoder: str = ""
    prefixes: Prefixes | None = None
    dimension: int = 0
    dense: DenseSettings | None = None
    vectors: str = ""
    """Folder of the vectors."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Libraries that wrote the files."""
    seconds: float
    """Wall clock of making this generation."""
    files: dict[str, Seal]
    """By path below the index folder."""
    seal: str = ""
    """Digest of all the rest."""

    @property
    def identity(self) -> str:
        """Equal for indexes that answer alike: same passages, mode and settings; build time and place are left out."""
        kept = {"format", "mode", "corpus", "lexical", "lingering", "encoder", "prefixes", "dimension", "dense"}
        return digest(self.model_dump(mode="json", include=kept))

    @property
    def bytes(self) -> int:
        return sum(seal.bytes for seal in self.files.values())

    @property
    def named(self) -> set[str]:
        """The files it needs besides those of the index of words."""
        names = {f"{part.folder}/{file}" for part in self.parts for file in (PASSAGES, OFFSETS)}
        names |= {f"{self.ids}/{file}" for file in (IDS, ID_ROWS)}
        names |= {f"{self.gone}/{GONE}"} if self.gone else set()
        return names | ({f"{self.vectors}/{VECTORS}"} if self.vectors else set())


def empty(
    *,
    mode: Mode,
    chunking: Chunking,
    lexical: LexicalSettings | None,
    encoder: str,
    prefixes: Prefixes | None,
    versions: dict[str, str],
) -> Manifest:
    """What the manifest of an index without passages would say: what a new index is added to."""
    return Manifest(
        generation=0,
        mode=mode,
        corpus=f"{0:064x}",
        passages=0,
        rows=0,
        characters=0,
        chunking=chunking,
        sources=(),
        parts=(),
        ids="",
        lexical=lexical,
        encoder=encoder,
        prefixes=prefixes,
        versions=versions,
        seconds=0.0,
        files={},
    )


def added(manifest: Manifest, digest: int, passages: int, characters: int) -> Manifest:
    """What it says once so many passages with this sum of digests were added."""
    return manifest.model_copy(
        update={
            "corpus": f"{(int(manifest.corpus, 16) + digest) % SPACE:064x}",
            "passages": manifest.passages + passages,
            "rows": manifest.rows + passages,
            "characters": manifest.characters + characters,
        }
    )


def without(manifest: Manifest, shelf: Shelf, rows: Sequence[int]) -> Manifest:
    """What it says once these passages were deleted."""
    lines = [shelf.line(row) for row in rows]
    passages = [shelf[row] for row in rows]
    corpus = int(manifest.corpus, 16) - sum(summand(line) for line in lines)
    characters = sum(len(passage.title) + len(passage.text) for passage in passages)
    return manifest.model_copy(
        update={
            "corpus": f"{corpus % SPACE:064x}",
            "passages": manifest.passages - len(rows),
            "characters": manifest.characters - characters,
        }
    )


def summand(line: bytes) -> int:
    """What a passage adds to the digest of a corpus."""
    return int.from_bytes(sha256(line).digest())


def write(folder: Path, manifest: Manifest) -> Manifest:
    """Make a generation the current one; the manifest as it stands there, sealed."""
    sealed = manifest.model_copy(update={"seal": _seal(manifest.model_dump(mode="json"))})
    write_atomic(folder / MANIFEST, sealed.model_dump_json(indent=2) + "\n")
    return sealed


def read(folder: Path) -> Manifest:
    """The manifest of an index folder; its files are not looked at.

    Raises:
        IndexFault: the folder is no index, is one of another format, or its manifest was changed.
    """
    if not folder.is_dir():
        raise IndexFault("no such index folder", where=folder, fix="build one: steper index build SOURCE --out DIR")
    path = folder / MANIFEST
    try:
        value = json.loads(path.read_bytes())
        _check_format(value, path)
        manifest = Manifest.model_validate_json(json.dumps(value))
    except FileNotFoundError as missing:
        if (folder / BUILDING).is_dir():
            cure = "give the command that built it again: it goes on where it stopped"
            raise IndexFault("the first build of this index was not finished", where=folder, fix=cure) from missing
        raise IndexFault("this folder is not an index: it has no manifest", where=folder, fix=REBUILD) from missing
    except ValidationError as bad:
        problem = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in bad.errors()[:3])
        raise IndexFault(f"the manifest is not readable: {problem}", where=path, fix=REBUILD) from bad
    except ValueError as bad:
        raise IndexFault(f"the manifest is not readable: {bad}", where=path, fix=REBUILD) from bad
    if manifest.seal != _seal(value):
        raise IndexFault("the manifest was changed or damaged", where=path, fix=REBUILD)
    return manifest


def _check_format(value: Any, path: Path) -> None:
    found = value.get("format") if isinstance(value, dict) else None
    if found != FORMAT:
        raise IndexFault(f"the index has format {found}, this program reads format {FORMAT}", where=path, fix=REBUILD)


def _seal(value: dict[str, Any]) -> str:
    return digest({key: one for key, one in value.items() if key != "seal"})
