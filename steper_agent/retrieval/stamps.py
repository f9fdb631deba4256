"""Whether the files of an index are what was written, told in full by their digests, or at once by their stamps.

Digesting gigabytes at every opening would take seconds. A stamp is what the file system said of a file when its digest was
right; while it says the same, nobody wrote to the file. A disk that forgets bits says nothing: `verify_index` looks for that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import Field, ValidationError

from steper_agent.durable import digest_file, write_atomic
from steper_agent.errors import IndexFault
from steper_agent.records import Record
from steper_agent.retrieval.shelf import REBUILD

Found = TypeVar("Found")

STAMPS = ".verified.json"
SMALL = 64 << 10
"""Bytes; files up to this size are digested at every opening."""
RACY = 50_000_000
"""Nanoseconds. A file written to twice within a tick of the file system's clock may keep its times, so that a stamp taken sooner
than this after a change tells nothing."""


class Seal(Record):
    bytes: int
    sha256: str


class Stamp(NamedTuple):
    """What the system says of a file; times in nanoseconds."""

    bytes: int
    modified: int
    changed: int
    inode: int
    sha256: str
    """The digest it had."""


class Stamps(Record):
    files: dict[str, Stamp] = Field(default_factory=dict)
    """By path below the index folder."""


def check(folder: Path, files: Mapping[str, Seal]) -> None:
    """Every file is there, as long as it was, and byte for byte what was written; files with a good stamp are not read.

    Raises:
        IndexFault: one is missing, cut or changed; it is named.
    """
    known = _read(folder)
    doubtful = [name for name, seal in files.items() if not _is_stamped(folder / name, seal, known.get(name))]
    for fault in _faults(folder, files, doubtful):
        raise fault
    if any(files[name].bytes > SMALL for name in doubtful):
        stamp(folder, files)


def faults(folder: Path, files: Mapping[str, Seal]) -> list[IndexFault]:
    """What is wrong with the files, each digested whatever its stamp says."""
    return list(_faults(folder, files, files))


def stamp(folder: Path, files: Mapping[str, Seal]) -> None:
    """Remember that the files are right; a folder that cannot be written to goes without, and is digested every time."""
    large = {name: seal for name, seal in files.items() if seal.bytes > SMALL}
    found = {name: _settled(folder / name, seal) for name, seal in large.items()}
    with suppress(OSError):
        write_atomic(folder / STAMPS, Stamps(files=found).model_dump_json() + "\n")


def seal(folder: Path, names: Iterable[str]) -> dict[str, Seal]:
    """The size and digest of each file."""
    return dict(_each(lambda name: (name, _seal(folder / name)), names))


def _seal(path: Path) -> Seal:
    return Seal(bytes=path.stat().st_size, sha256=digest_file(path))


def _read(folder: Path) -> dict[str, Stamp]:
    try:
        return Stamps.model_validate_json((folder / STAMPS).read_bytes()).files
    except (OSError, ValidationError):
        return {}


def _is_stamped(path: Path, seal: Seal, known: Stamp | None) -> bool:
    if known is None or seal.bytes <= SMALL:
        return False
    try:
        return known == _stamp(path, seal)
    except OSError:
        return False


def _stamp(path: Path, seal: Seal) -> Stamp:
    said = path.stat()
    return Stamp(said.st_size, said.st_mtime_ns, said.st_ctime_ns, said.st_ino, seal.sha256)


def _settled(path: Path, seal: Seal) -> Stamp:
    """A file's stamp, once its last change is long enough ago to tell it from a next one."""
    while True:
        taken = _stamp(path, seal)
        if not 0 <= (since := time.time_ns() - taken.changed) < RACY:
            return taken
        time.sleep((RACY - since) / 1e9)


def _faults(folder: Path, files: Mapping[str, Seal], names: Iterable[str]) -> Iterable[IndexFault]:
    return filter(None, _each(lambda name: _fault(folder / name, files[name]), names))


def _fault(path: Path, expected: Seal) -> IndexFault | None:
    try:
        found = path.stat().st_size
        if found != expected.bytes:
            return IndexFault(f"a file of the index has {found} bytes, not {expected.bytes}", where=path, fix=REBUILD)
        if digest_file(path) != expected.sha256:
            return IndexFault("a file of the index was changed or damaged", where=path, fix=REBUILD)
    except FileNotFoundError:
        return IndexFault("a file of the index is missing", where=path, fix=REBUILD)
    return None


def _each(do: Callable[[str], Found], names: Iterable[str]) -> list[Found]:
    """Digesting lets other threads run, so that every core and the disk are busy."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(do, names))
