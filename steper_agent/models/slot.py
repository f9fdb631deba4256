"""The seat a model sits in: a run keeps the version it leased, a swap changes what the next run gets."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from langchain_core.language_models import BaseChatModel

from steper_agent.errors import ModelError
from steper_agent.records import Record

LOG = logging.getLogger(__name__)
Phase = Literal["preflight", "load", "warm", "canary", "gate", "switch", "drain", "unload", "failed"]
Trial = tuple[Phase, Callable[[BaseChatModel], object]]
"""What a loaded model must bear before anybody is answered by it: a function that raises where it does not."""
OnPhase = Callable[[Phase, str], None]


class SwapReport(Record):
    before: str
    after: str
    """Version new runs get; the same as `before` where the swap failed."""
    seconds: dict[Phase, float]
    """Of every phase that began, in their order."""
    ok: bool
    reason: str = ""
    """Why the old version still serves."""
    drained: bool | None = None
    """Whether nobody uses the old versions any more; None where nobody waited for it."""


@dataclass(slots=True)
class Lease:
    version: str
    at: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class Seat:
    model: BaseChatModel
    unload: Callable[[BaseChatModel], None] | None


class ModelSlot:
    """Thread-safe. Versions stay loaded while a run leases them and until `drain` drops them.

    A process that dies takes its slot along, so leases only outlive runs that ended without `release`: call
    `expire(seconds)` with more than a run can last, else those keep an old version loaded.
    """

    def __init__(self, model: BaseChatModel, version: str | None = None) -> None:
        self._numbers = count(1)
        self._changed = threading.Condition()
        self._one_swap = threading.Lock()
        self._leases: dict[str, Lease] = {}
        self._current = version or self._version_of(model)
        self._seats = {self._current: Seat(model, None)}

    @property
    def current(self) -> str:
        """The version the next run gets."""
        return self._current

    @property
    def loaded(self) -> tuple[str, ...]:
        """Versions that can serve now, the oldest first."""
        with self._changed:
            return tuple(self._seats)

    def lease(self, run_id: str, wanted: str | None = None) -> str:
        """The version of this run, from now to its release; the same one however often it is asked for.

        `wanted`, the version a resumed run began with, is honoured while it is loaded; otherwise the run gets the
        current one.
        """
        with self._changed:
            held = self._leases.get(run_id)
            version = held.version if held else wanted if wanted and wanted in self._seats else self._current
            self._leases[run_id] = Lease(version)
            return version

    def model(self, version: str) -> BaseChatModel:
        with self._changed:
            seat = self._seats.get(version)
        if seat is None:
            raise ModelError(f"version {version} is not loaded", where="slot", fix="lease a version before using it")
        return seat.model

    def release(self, run_id: str) -> None:
        """The run is over; releasing twice is releasing once."""
        with self._changed:
            self._leases.pop(run_id, None)
            self._changed.notify_all()

    def expire(self, seconds: float) -> tuple[str, ...]:
        """Release the runs whose last lease call is older than this; their ids are returned."""
        oldest = time.monotonic() - seconds
        with self._changed:
            gone = tuple(run for run, lease in self._leases.items() if lease.at < oldest)
            for run in gone:
                del self._leases[run]
            self._changed.notify_all()
        return gone

    def swap(
        self, load: Callable[[], BaseChatModel], *, preflight: Callable[[], object] | None = None, trials: Sequence[Trial] = (),
        on_event: OnPhase | None = None, unload: Callable[[BaseChatModel], None] | None = None, version: str | None = None,
    ) -> SwapReport:  # fmt: skip
        """Check, load, try, then let new runs have it; whatever fails leaves the old version serving and says why.

        `unload(model)` frees what `load` took: after a failed trial, for a version that is already here, and in `drain`.
        """
        tell = on_event or (lambda _phase, _words: None)
        with self._one_swap:
            before, seconds = self._current, dict[Phase, float]()
            model: BaseChatModel | None = None
            try:
                if preflight:
                    with _timed(seconds, "preflight", tell, version or ""):
                        preflight()
                with _timed(seconds, "load", tell, version or before):
                    model = load()
                for phase, trial in trials:
                    with _timed(seconds, phase, tell, version or str(getattr(model, "version", ""))):
                        trial(model)
            except Exception as refusal:
                # Whatever a bad student makes a library raise, it must not reach the runs that are being served.
                tell("failed", str(refusal))
                if model is not None and unload:
                    _free(model, unload)
                return SwapReport(before=before, after=before, seconds=seconds, ok=False, reason=str(refusal))
            with _timed(seconds, "switch"):
                after, known = self._seat(model, version, unload)
            tell("switch", after)
            if known and unload:
                _free(model, unload)
            return SwapReport(before=before, after=after, seconds=seconds, ok=True)

    def drain(self, timeout: float) -> bool:
        """Drop every old version as soon as no run leases it, and wait until all are gone; False if runs still lease some after
        `timeout` seconds: those stay."""
        deadline = time.monotonic() + timeout
        while True:
            with self._changed:
                busy, left = self._busy(), deadline - time.monotonic()
                free = [version for version in self._seats if version != self._current and version not in busy]
                dropped = [self._seats.pop(version) for version in free]
                if busy and not dropped and left > 0:
                    self._changed.wait(left)
                    continue
            # Not under the lock: nobody who begins a run should wait for it.
            for seat in dropped:
                if seat.unload:
                    _free(seat.model, seat.unload)
            if not busy or left <= 0:
                return not busy

    def _seat(
        self, model: BaseChatModel, version: str | None, unload: Callable[[BaseChatModel], None] | None
    ) -> tuple[str, bool]:
        with self._changed:
            name = version or self._version_of(model)
            known = name in self._seats
            if not known:
                self._seats[name] = Seat(model, unload)
            self._current = name
            self._changed.notify_all()
            # The very model that serves already must not be unloaded as if it were a second copy.
            return name, known and self._seats[name].model is not model

    def _busy(self) -> set[str]:
        return {lease.version for lease in self._leases.values()} - {self._current}

    def _version_of(self, model: BaseChatModel) -> str:
        """A model's own version; one that has none gets a number, the same one for the same object."""
        named = getattr(model, "version", None)
        if isinstance(named, str) and named:
            return named
        for version, seat in getattr(self, "_seats", {}).items():
            if seat.model is model:
                return str(version)
        return f"{model._llm_type}#{next(self._numbers)}"


def _free(model: BaseChatModel, unload: Callable[[BaseChatModel], None]) -> None:
    """What cannot be freed (its server has died) must not change what the swap came to."""
    try:
        unload(model)
    except Exception as refusal:
        LOG.warning("%s is not unloaded: %s", getattr(model, "version", model), refusal)


class _timed:
    """Tells that a phase begins and notes its seconds, also where it fails."""

    def __init__(self, seconds: dict[Phase, float], phase: Phase, tell: OnPhase | None = None, words: str = "") -> None:
        self._seconds, self._phase = seconds, phase
        if tell:
            tell(phase, words)

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._phase] = time.perf_counter() - self._start
