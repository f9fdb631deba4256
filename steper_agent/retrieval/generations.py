"""One writer at a time makes the next generation of an index beside the current one, then switches.

Files of a generation never change once the manifest names them. Readers take no lock: what they opened stays readable.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from steper_agent.durable import sync_folder, write_atomic
from steper_agent.errors import IndexFault
from steper_agent.retrieval import manifest, stamps
from steper_agent.retrieval.manifest import BUILDING, MANIFEST, WORDS, Manifest

LOCK = "lock"
REQUEST = "request.json"
FORMAT_1 = ("passages.jsonl", "offsets.npy", "order.npy", "dense.faiss", "bm25")
"""Files and a folder of indexes that earlier releases built."""
_NUMBERED = re.compile(r"\d{4,}")


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Be the one writer of an index folder, which is made if need be and goes again if nothing came of it.

    Raises:
        IndexFault: another process is writing; its id is named.
    """
    handle = _lock(folder)
    try:
        yield
    finally:
        if {path.name for path in folder.iterdir()} <= {LOCK}:
            (folder / LOCK).unlink(missing_ok=True)
            with suppress(OSError):
                folder.rmdir()
        os.close(handle)


def next_number(folder: Path) -> int:
    """The number of the generation to come."""
    if not (folder / MANIFEST).exists():
        # Nothing was ever switched to: a first build that was finished but for that is the one to go on with.
        return 1
    try:
        return manifest.read(folder).generation + 1
    except IndexFault:
        # What cannot be read may still be open somewhere: its folders are left alone until the switch.
        held = [int(path.name) for path in folder.iterdir() if _NUMBERED.fullmatch(path.name)]
        return max(held, default=0) + 1


def name_of(generation: int) -> str:
    """The folder of a generation."""
    return f"{generation:04}"


def is_unswitched(path: Path) -> bool:
    """Whether this is a generation that was finished but for the switch: what it was asked for goes only then."""
    return bool(_NUMBERED.fullmatch(path.name)) and (path / REQUEST).is_file()


def draft(folder: Path, number: int, request: str) -> tuple[Path, bool]:
    """The folder in which the generation `number` is made, and whether it holds what an interrupted run of the same request
    left there."""
    building = folder / BUILDING
    if (folder / name_of(number)).exists():
        # Finished but for the switch: as good as a draft.
        discard(folder)
        (folder / name_of(number)).rename(building)
    with suppress(OSError):
        if (building / REQUEST).read_text(encoding="utf-8") == request:
            return building, True
    discard(folder)
    building.mkdir()
    write_atomic(building / REQUEST, request)
    return building, False


def discard(folder: Path) -> None:
    """Remove an unfinished generation."""
    if (folder / BUILDING).exists():
        shutil.rmtree(folder / BUILDING)


def finish(folder: Path, made: Manifest, base: Manifest, before: Manifest | None) -> Manifest:
    """Seal the draft and let it be the current generation; files that neither it nor the one before needs are removed.

    `base` is the generation that files are taken over from, `before` the one that readers have now.
    """
    sealed = _sealed(folder, made, base)
    building, final = folder / BUILDING, folder / name_of(made.generation)
    for path in sorted(building.rglob("*")):
        _sync(path)
    sync_folder(building)
    building.rename(final)
    sync_folder(folder)
    sealed = manifest.write(folder, sealed)
    _sweep(folder, {*sealed.files, *(before.files if before else ())})
    # Only now: making and removing links changes what the file system says of a file.
    stamps.stamp(folder, sealed.files)
    return sealed


def link(source: Path, target: Path, *, but: frozenset[str]) -> None:
    """Give the files of a folder a second name in another. `but` names files that will be written to, and are copied."""
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        try:
            if path.name in but:
                raise OSError
            os.link(path, target / path.name)
        except OSError:  # So do file systems without links.
            shutil.copyfile(path, target / path.name)


def _lock(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as held:
            owner = os.read(handle, 1000).decode(errors="replace").strip()
            os.close(handle)
            raise IndexFault(
                f"another process is writing this index: {owner}", where=folder, fix="wait for it, or end it"
            ) from held
        # The one before us may have removed the folder between our opening the file and locking it.
        with suppress(FileNotFoundError):
            if os.fstat(handle).st_ino == path.stat().st_ino:
                break
        os.close(handle)
        folder.mkdir(parents=True, exist_ok=True)
    os.ftruncate(handle, 0)
    os.write(handle, f"process {os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode())
    return handle


def _sealed(folder: Path, made: Manifest, base: Manifest) -> Manifest:
    """The manifest with the digests of its files; those of the base that are taken over are not read again."""
    own, building = name_of(made.generation), folder / BUILDING
    files = {name: seal for name, seal in base.files.items() if name in made.named}
    fresh = []
    for path in building.rglob("*"):
        name = path.relative_to(building).as_posix()
        before = f"{base.words}/{name}"
        if (
            path.is_dir()
            or path.suffix == ".lock"
            or not (name.startswith(f"{WORDS}/") or f"{own}/{name}" in made.named)
        ):
            continue
        if before in base.files and path.samefile(folder / before):
            files[f"{own}/{name}"] = base.files[before]
        else:
            fresh.append(name)
    files |= {f"{own}/{name}": seal for name, seal in stamps.seal(building, fresh).items()}
    return made.model_copy(update={"files": dict(sorted(files.items()))})


def _sweep(folder: Path, kept: set[str]) -> None:
    for generation in [path for path in folder.iterdir() if _NUMBERED.fullmatch(path.name)]:
        for path in sorted(generation.rglob("*"), reverse=True):
            if path.is_dir():
                with suppress(OSError):
                    path.rmdir()
            elif path.relative_to(folder).as_posix() not in kept:
                path.unlink(missing_ok=True)
        with suppress(OSError):
            generation.rmdir()
    for name in FORMAT_1:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    if path.is_dir():
        sync_folder(path)
        return
    with path.open("rb") as file:
        os.fsync(file.fileno())
