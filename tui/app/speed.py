"""How fast something goes, from how far it was when; and a time in words."""

from __future__ import annotations

from collections import deque

WINDOW = 60.0
"""Seconds that a speed is measured over."""


class Speed:
    """Told now and then how much is done, it says how much that is a second."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, now: float, done: int) -> None:
        """`now` in seconds, of any clock that does not go back."""
        if self._seen and done < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((now, done))
        while len(self._seen) > 2 and self._seen[1][0] < now - WINDOW:
            self._seen.popleft()

    @property
    def a_second(self) -> float | None:
        """None until something was done in a measurable time."""
        if len(self._seen) < 2:
            return None
        (began, before), (now, done) = self._seen[0], self._seen[-1]
        return (done - before) / (now - began) if now > began and done > before else None

    def left(self, total: int | None) -> float | None:
        """Seconds until so much is done; None where that cannot be said."""
        speed = self.a_second
        return max(0, total - self._seen[-1][1]) / speed if speed and total is not None else None


def lasting(seconds: float) -> str:
    """A length of time, in the largest unit that tells something."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds // 3600:.0f} h {seconds % 3600 / 60:.0f} min"
    return f"{seconds / 86400:.0f} days"
