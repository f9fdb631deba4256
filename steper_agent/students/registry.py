"""The students of a place: immutable folders named by their content, and a history that says which of them is live.

    history.jsonl          every event, append-only: the one truth
    students/3f9a…/        a student's files and its card, read-only
    incoming/              copies under way, and what is being deleted
    leases/3f9a….lock      locked by the processes that serve the student

A crash at any moment leaves a registry that works: a folder without its event is taken up when it is added again.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import EllipsisType
from typing import NamedTuple

from steper_agent.durable import sync_folder
from steper_agent.errors import AdapterError, JournalError
from steper_agent.plain import plain
from steper_agent.records import Action, StudentCard, StudentEvent
from steper_agent.students.history import History
from steper_agent.students.locks import FileLock
from steper_agent.students.standing import LISTED, Roll, disposable, fold
from steper_agent.students.student import CARD, check_student, content_hash, read_card, student_files, verify_student
from steper_agent.students.weights import Limits

WHOEVER: EllipsisType = ...
"""To `expecting`: it does not matter which student is live."""
BY = "python"


class Added(NamedTuple):
    card: StudentCard
    is_new: bool
    """False where the registry had it already."""


class Change(NamedTuple):
    """Who is live on a base; None is the base alone."""

    base: str
    before: str | None
    after: str | None


class Pruned(NamedTuple):
    removed: tuple[str, ...]
    held: tuple[str, ...]
    """Would have gone, but a process serves them."""
    leftovers: int
    """Folders of interrupted work that were deleted."""


class Hold:
    """A student that prune leaves where it is, until `release` or the end of this process, however it ends."""

    def __init__(self, name: str, path: Path, lock: FileLock) -> None:
        self.name, self.path, self._lock = name, path, lock

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class Registry:
    """Any number of threads and processes may use one folder. Nothing is made before something is added."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.history = History(self.folder / "history.jsonl")

    def roll(self) -> Roll:
        """How its students stand now."""
        return fold(self.history.read(), self.folder)

    def live(self, base: str) -> str | None:
        """The student that serves on the base with this fingerprint; None: the base alone."""
        return self.roll().live(base)

    def path_of(self, name: str) -> Path:
        """The folder of a student, named in full or by the first digits of its hash. Never anywhere else.

        Raises:
            AdapterError: nobody has the name, or its folder is not one of this registry's own.
        """
        return self._folder(self.roll().find(name).name)

    def card(self, name: str) -> StudentCard:
        return read_card(self.path_of(name))

    def verify(self, name: str, base: str | Path | None = None, *, limits: Limits | None = None) -> StudentCard:
        """Every check there is before a server sees it: content against card and name, and with a base, all of
        `verify_student`.

        Raises:
            AdapterError: what is wrong with it.
        """
        known = self.roll().find(name)
        return self._whole(known.name, known.base, base, limits)

    def add(self, folder: str | Path, *, base: str | Path | None = None, limits: Limits | None = None, by: str = BY,
            reason: str = "") -> Added:  # fmt: skip
        """Take in a copy of the student's own files and its card, as a candidate; whatever else lies there stays there.

        Raises:
            AdapterError: the student is incomplete, altered, unsafe, or (with a base) does not fit it.
        """
        card = check_student(folder) if base is None else verify_student(folder, base, limits=limits)
        place = self._place(card.name)
        # Before anything is copied: a history that cannot be read is no place to add to.
        self.history.read()
        # Held shared by all who add, so that prune knows the leftovers from the copies under way.
        with FileLock(self._lease("incoming"), shared=True):
            is_here = os.path.lexists(place)
            copy = None if is_here else self._copy(Path(folder), card)
            if is_here:
                self._whole(card.name, card.base)
            with self.history.writing() as log:
                self._settle(copy, place)
                is_new = card.name not in fold(log.events).students
                if is_new:
                    log.append(_event("added", card.name, card.base, by, reason, card.scores))
        return Added(card, is_new)

    def promote(
        self, name: str, *, base: str | Path | None = None, limits: Limits | None = None,
        expecting: str | None | EllipsisType = WHOEVER, by: str = BY, reason: str = "",
        scores: Mapping[str, float] | None = None,
    ) -> Change:  # fmt: skip
        """Make a student live on its base, after all checks; the one before it retires. Promoting the live one again
        changes nothing but lets processes that refused it try once more.

        `expecting` is who was live when this was decided (None: the base alone).

        Raises:
            AdapterError: the student fails a check, or another one than the expected is live by now.
        """
        name = self.verify(name, base, limits=limits).name
        with self.history.writing() as log:
            roll = fold(log.events, self.folder)
            known = roll.find(name)
            before = self._expect(roll, known.base, expecting)
            log.append(_event("promoted", name, known.base, by, reason, scores or {}))
        return Change(known.base, before, name)

    def rollback(
        self, base: str | None = None, *, expecting: str | None | EllipsisType = WHOEVER, by: str = BY, reason: str = "",
    ) -> Change:  # fmt: skip
        """Go back to the student that was live before, or to the base alone where none was; the present one retires.
        `base` is the fingerprint or its beginning, and may be left out where the registry has students of one only.

        Raises:
            AdapterError: nothing is live, the one before is damaged, or another one than the expected is live by now.
        """
        seen = self.roll()
        base = seen.base(base)
        before, back = self._expect(seen, base, expecting), seen.before(base)
        if before is None:
            raise AdapterError(f"no student is live on base {base[:12]}: there is nothing to go back from",
                               where=self.folder, fix=LISTED)
        if back is not None:
            self.verify(back)
        with self.history.writing() as log:
            roll = fold(log.events, self.folder)
            self._expect(roll, base, before)
            if roll.before(base) != back:
                raise AdapterError(f"{back} was pruned meanwhile", where=self.folder, fix="roll back again")
            log.append(_event("rolled_back", back, base, by, reason, {}))
        return Change(base, before, back)

    def refuse(self, name: str | None, base: str, *, by: str, reason: str) -> None:
        """Note that a process could not take what is live (None: the base alone). Nobody's standing changes."""
        with self.history.writing() as log:
            log.append(_event("refused", name, base, by, reason, {}))

    def hold(self, name: str) -> Hold:
        """Keep a student from being pruned for as long as this process serves it.

        Raises:
            AdapterError: it is not here (any more).
        """
        name = self.roll().find(name).name
        lock = FileLock(self._lease(name), shared=True)
        try:
            return Hold(name, self.path_of(name), lock)
        except (AdapterError, JournalError):
            lock.release()
            raise

    def prune(self, *, keep: int, candidates: bool = False, dry_run: bool = False, by: str = BY) -> Pruned:
        """Delete, of every base, the retired students (and candidates, if asked) beyond the newest `keep`, and what
        interrupted work left behind. Never the live ones, nor what a process holds."""
        removed, held, leftovers = [], [], 0
        if self.history.signature() is None:
            return Pruned((), (), 0)
        with self.history.writing() as log:
            roll = fold(log.events)
            for name in disposable(roll, keep=keep, candidates=candidates):
                try:
                    lease = FileLock(self._lease(name), patience=0)
                except JournalError:
                    held.append(name)
                    continue
                with lease:
                    removed.append(name)
                    if not dry_run:
                        log.append(_event("pruned", name, roll.students[name].base, by, "", {}))
                        self._discard(self._place(name))
            if not dry_run:
                leftovers = self._sweep(roll)
        return Pruned(tuple(removed), tuple(held), leftovers)

    def _place(self, name: str) -> Path:
        return self.folder / "students" / name.removeprefix("student@")

    def _lease(self, name: str) -> Path:
        return self.folder / "leases" / f"{name.removeprefix('student@')}.lock"

    def _folder(self, name: str) -> Path:
        """The folder a registered student must have."""
        place = self._place(name)
        for part in (place.parent, place):
            if part.is_symlink():
                raise AdapterError("a registry holds no links", where=part, fix="put the folder itself there")
        if not place.is_dir():
            raise AdapterError(f"the folder of {name} is gone", where=place, fix="add it again: steper students add FOLDER")
        return place

    def _whole(self, name: str, made_for: str, base: str | Path | None = None, limits: Limits | None = None) -> StudentCard:
        path = self._folder(name)
        card = check_student(path) if base is None else verify_student(path, base, limits=limits)
        if (card.name, card.base) != (name, made_for):
            raise AdapterError(f"the card is another student's: {card.name} of base {card.base[:12]}", where=path,
                               fix=f"it was added as {name} of base {made_for[:12]}: put that folder back")
        foreign = {str(file.relative_to(path)) for file in path.rglob("*")} - {CARD, *student_files(path)}
        if foreign:
            raise AdapterError(f"{min(foreign)} is no part of the student", where=path, fix="remove it from there")
        return card

    def _expect(self, roll: Roll, base: str, expected: str | None | EllipsisType) -> str | None:
        live = roll.live(base)
        if expected is not WHOEVER and live != expected:
            raise AdapterError(
                f"{live or 'the bare base'} went live meanwhile, in place of {expected or 'the bare base'}",
                where=self.folder, fix="see what it is (steper students history), then decide again",
            )  # fmt: skip
        return live

    def _copy(self, source: Path, card: StudentCard) -> Path:
        """A whole, read-only copy on the disk, beside its place."""
        copy = self.folder / "incoming" / uuid.uuid4().hex
        self._place(card.name).parent.mkdir(parents=True, exist_ok=True)
        copy.mkdir(parents=True)
        try:
            for name in (*student_files(source), CARD):
                shutil.copyfile(source / name, copy / name)
                (copy / name).chmod(0o444)
                with (copy / name).open("rb") as file:
                    os.fsync(file.fileno())
            sync_folder(copy)
            if content_hash(copy) != card.content or read_card(copy) != card:
                raise AdapterError("it changed while it was copied", where=source, fix="add it again when it is whole")
        except BaseException:
            shutil.rmtree(copy, ignore_errors=True)
            raise
        return copy

    def _settle(self, copy: Path | None, place: Path) -> None:
        """Under the history's lock: the copy takes its place, unless another add of the same student was quicker."""
        if copy is None and not os.path.lexists(place):
            raise AdapterError("it was pruned meanwhile", where=place, fix="add it again")
        if copy is not None and os.path.lexists(place):
            _delete(copy)
        elif copy is not None:
            copy.rename(place)
            sync_folder(place.parent)

    def _discard(self, place: Path) -> None:
        """Out of sight in one step, then deleted: a crash leaves no half student under a student's name."""
        aside = self.folder / "incoming" / uuid.uuid4().hex
        aside.parent.mkdir(exist_ok=True)
        if os.path.lexists(place):
            place.rename(aside)
        _delete(aside)

    def _sweep(self, roll: Roll) -> int:
        """Delete what nobody works on: copies that were never finished, and students whose pruning was cut short."""
        left = [place for name in roll.pruned if os.path.lexists(place := self._place(name))]
        for place in left:
            self._discard(place)
        try:
            lease = FileLock(self._lease("incoming"), patience=0)
        except JournalError:
            return len(left)
        with lease:
            aside = list((self.folder / "incoming").glob("*"))
            for path in aside:
                _delete(path)
        return len(left) + len(aside)


def _event(
    action: Action, student: str | None, base: str, by: str, reason: str, scores: Mapping[str, float]
) -> StudentEvent:
    return StudentEvent(time=datetime.now(UTC), action=action, student=student, base=base, by=plain(by),
                        reason=plain(reason), scores=dict(scores))


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
