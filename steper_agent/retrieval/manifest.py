"""What an index folder says about itself, and the check that it tells the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from steper_agent.durable import digest, digest_file, write_atomic
from steper_agent.errors import IndexFault
from steper_agent.records import Record
from steper_agent.retrieval.lexical import LexicalSettings
from steper_agent.retrieval.shelf import REBUILD

FORMAT = 1
MANIFEST = "manifest.json"

Mode = Literal["bm25", "dense", "hybrid"]


class Seal(Record):
    bytes: int
    sha256: str


class Manifest(Record):
    format: int = FORMAT
    mode: Mode
    corpus: str
    """SHA-256 over the passages, one JSON line each, in order."""
    passages: int
    characters: int
    """Of titles and texts."""
    chunk_chars: int
    """Size that folders of text were cut to."""
    sources: tuple[str, ...]
    """Names of the files or folders, without their paths."""
    paths: tuple[str, ...] = ()
    """Where they were when the index was built, absolute; only to show a person a passage's own file."""
    lexical: LexicalSettings | None = None
    encoder: str = ""
    dimension: int = 0
    versions: dict[str, str] = Field(default_factory=dict)
    """Libraries that wrote the files."""
    seconds: float
    """Wall clock of the build."""
    files: dict[str, Seal]

    @property
    def identity(self) -> str:
        """Equal for indexes that answer alike: same passages, mode and settings; build time and place are left out."""
        kept = {"format", "mode", "corpus", "lexical", "encoder", "dimension"}
        return digest(self.model_dump(mode="json", include=kept))

    @property
    def bytes(self) -> int:
        return sum(seal.bytes for seal in self.files.values())


def seal(folder: Path) -> dict[str, Seal]:
    """Every file below a folder with its size and digest."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {
        path.relative_to(folder).as_posix(): Seal(bytes=path.stat().st_size, sha256=digest_file(path)) for path in files
    }


def write(folder: Path, manifest: Manifest) -> None:
    write_atomic(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")


def read(folder: Path) -> Manifest:
    """The manifest of an index folder; its files are not looked at."""
    if not folder.is_dir():
        raise IndexFault("no such index folder", where=folder, fix="build one: steper index build SOURCE --out DIR")
    path = folder / MANIFEST
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as missing:
        raise IndexFault("this folder is not an index: it has no manifest", where=folder, fix=REBUILD) from missing
    except ValidationError as bad:
        problem = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in bad.errors()[:3])
        raise IndexFault(f"the manifest is not readable: {problem}", where=path, fix=REBUILD) from bad
    if manifest.format != FORMAT:
        raise IndexFault(
            f"the index has format {manifest.format}, this program reads format {FORMAT}", where=path, fix=REBUILD
        )
    return manifest


def verify(folder: Path, manifest: Manifest) -> None:
    """Every file is there, as long as it was, and byte for byte what was written."""
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise IndexFault("a file of the index is missing", where=path, fix=REBUILD)
        if path.stat().st_size != expected.bytes:
            raise IndexFault(
                f"a file of the index has {path.stat().st_size} bytes, not {expected.bytes}", where=path, fix=REBUILD
            )
        if digest_file(path) != expected.sha256:
            raise IndexFault("a file of the index was changed or damaged", where=path, fix=REBUILD)
