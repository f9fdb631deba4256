"""A running process follows the registry: what is promoted in one terminal comes to serve in all of them.

    def seat(name):  # the live student of this base, or None: the base alone
        report = slot.swap(lambda: base.with_student(registry.path_of(name)) if name else base)
        ...  # raise where the report says no; hold(name), and let the student of before go after slot.drain()

    with Follower(registry, fingerprint, seat):
        serve()
"""

from __future__ import annotations

import logging
import os
import platform
import threading
from collections.abc import Callable
from typing import Self

from steper_agent.errors import StepERError
from steper_agent.students.registry import Registry
from steper_agent.students.standing import Roll

OnChange = Callable[[str | None], None]
"""Called with the student that went live, None for the base alone. What it raises refuses the student."""

log = logging.getLogger(__name__)


class Follower:
    """Looks at the registry's history every `poll` seconds, from a thread of its own, and calls `on_change` in it.

    A student that is refused is noted in the history with the reason, and not tried again until somebody decides anew.
    A history that cannot be read changes nothing here; it is reported once.
    """

    def __init__(
        self, registry: Registry, base: str, on_change: OnChange, *, poll: float = 1.0, serving: str | None = None
    ) -> None:
        self.serving = serving
        """What this process serves now."""
        self._registry, self._base, self._on_change, self._poll = registry, base, on_change, poll
        self._seen: tuple[int, int, int] | None = None
        self._decided: tuple[int | None, str | None] = (None, None)
        self._told = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="registry-follower", daemon=True)

    def start(self) -> Self:
        self._thread.start()
        return self

    def stop(self, timeout: float | None = None) -> None:
        """Follow no more; waits for an `on_change` under way, `timeout` seconds at most."""
        self._stopped.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def look(self) -> None:
        """Once: call `on_change` if another student is live than before. What the thread does again and again."""
        # Taken before the reading, so that what is written meanwhile is seen the next time.
        try:
            found = self._registry.history.signature()
            if found == self._seen:
                return
            if found is None:
                # A registry nobody has added to yet has none; one that had one has lost it.
                if self._seen is not None:
                    self._tell(f"the history is gone: {self._registry.history.path}")
                return
            roll = self._registry.roll()
        except (StepERError, OSError) as unreadable:
            self._tell(f"the registry cannot be read: {unreadable}")
            return
        self._seen, self._told = found, ""
        self._follow(roll)

    def _follow(self, roll: Roll) -> None:
        live = roll.live(self._base)
        decided = (roll.decided.get(self._base), live)
        if decided == self._decided:
            return
        self._decided = decided
        if live == self.serving:
            return
        try:
            self._on_change(live)
        except Exception as refusal:
            self._refuse(live, refusal)
        else:
            log.info("serving %s, as the registry says", live or "the bare base")
            self.serving = live

    def _refuse(self, live: str | None, refusal: Exception) -> None:
        log.warning("%s is refused: %s", live or "the bare base", refusal)
        by = f"process {os.getpid()} on {platform.node()}"
        try:
            self._registry.refuse(live, self._base, by=by, reason=str(refusal) or type(refusal).__name__)
        except (StepERError, OSError) as unwritable:
            self._tell(f"the refusal could not be noted: {unwritable}")

    def _run(self) -> None:
        self.look()
        while not self._stopped.wait(self._poll):
            self.look()

    def _tell(self, what: str) -> None:
        if what != self._told:
            log.warning("%s; still serving %s", what, self.serving or "the bare base")
        self._told = what
