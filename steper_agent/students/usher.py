"""Gives the seat of a running graph to whoever the registry says, and tells what became of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Self

from steper_agent.errors import AdapterError, StepERError
from steper_agent.models.slot import ModelSlot, SwapReport
from steper_agent.plain import plain
from steper_agent.records import Swapped
from steper_agent.students.follow import Follower
from steper_agent.students.registry import Hold, Registry
from steper_agent.students.swap import Swappable, Terms, swap_base, swap_student

LOG = logging.getLogger(__name__)
DRAIN = 3600.0
"""Seconds to wait for the runs of an old version; one that still runs then keeps it loaded until the next swap."""


class Usher:
    """`with Usher(slot, base, registry):` follows the registry until the end of the block.

    The first look is over when the block begins: what is live then serves from the first request on, or was refused. A
    student that serves, or that a run still uses, is held against pruning.
    """

    def __init__(
        self, slot: ModelSlot, base: Swappable, registry: Registry, terms: Terms | None = None, *,
        on_swap: Callable[[Swapped], None] | None = None, poll: float = 1.0,
    ) -> None:  # fmt: skip
        self._slot, self._base, self._registry, self._terms = slot, base, registry, terms or Terms()
        self._on_swap = on_swap or (lambda _: None)
        self._holds: dict[str, Hold] = {}
        self._lock = threading.Lock()
        self._follower = Follower(registry, base.fingerprint, self.seat, poll=poll)

    def __enter__(self) -> Self:
        self._follower.look()
        self._follower.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._follower.stop()
        with self._lock:
            for hold in self._holds.values():
                hold.release()

    def seat(self, name: str | None) -> None:
        """Let new runs have this student, or with None the base alone.

        Raises:
            AdapterError: it was refused; the old version serves on.
        """
        report = swap_base(self._slot, self._base, on_event=tell) if name is None else self._swap(name)
        self._note(report)
        if not report.ok:
            raise AdapterError(report.reason, where=name or "the bare base", fix="see the journal; promote another one")
        threading.Thread(target=self._drain, name=f"drain {report.before}", daemon=True).start()

    def _note(self, report: SwapReport) -> None:
        try:
            self._on_swap(swapped(report))
        except (StepERError, OSError) as full:
            # The swap is done; that nobody could write it down must not be taken for a refusal.
            LOG.warning("the swap to %s is not noted: %s", report.after, full)

    def _swap(self, name: str) -> SwapReport:
        hold = self._registry.hold(name)
        report = swap_student(self._slot, self._base, hold.path, self._terms, on_event=tell)
        with self._lock:
            if report.ok and name not in self._holds:
                self._holds[name] = hold
            else:
                hold.release()
        return report

    def _drain(self) -> None:
        self._slot.drain(DRAIN)
        with self._lock:
            for name in self._holds.keys() - set(self._slot.loaded):
                self._holds.pop(name).release()


def swapped(report: SwapReport) -> Swapped:
    """A swap as a line of the journal."""
    return Swapped(time=datetime.now(UTC), before=report.before, after=report.after, ok=report.ok, reason=plain(report.reason),
                   seconds={str(phase): seconds for phase, seconds in report.seconds.items()})


def tell(phase: str, words: str) -> None:
    LOG.info("swap: %s %s", phase, words)


