"""Which ids were met, and where, at some 25 bytes an id: five million passages are told apart in an eighth of a gigabyte."""

from __future__ import annotations

from array import array
from pathlib import Path

LINE_BITS = 40


class Ledger:
    """A table of slots that point into lists of hashes and places, as Python's own dict is built, without the objects."""

    def __init__(self) -> None:
        self._paths: list[Path] = []
        self._hashes = array("q")
        self._places = array("Q")
        """Number of the path and, in the low bits, the line."""
        self._slots = array("I", bytes(4 << 10))
        """Entries counted from 1; 0 is free. As many as a power of two."""

    def add(self, name: str, path: Path, line: int) -> str | None:
        """Remember an id; where it was met before, that place instead."""
        # SipHash with a key of this process: no file can be made to collide. Of five million ids, two that differ share
        # all 64 bits with a chance below one in a million.
        hashed, slots, hashes = hash(name), self._slots, self._hashes
        mask = len(slots) - 1
        slot = hashed & mask
        while entry := slots[slot]:
            if hashes[entry - 1] == hashed:
                place = self._places[entry - 1]
                return f"{self._paths[place >> LINE_BITS]}:{place & ((1 << LINE_BITS) - 1)}"
            slot = (slot + 1) & mask
        if not self._paths or self._paths[-1] is not path:
            self._paths.append(path)
        hashes.append(hashed)
        self._places.append((len(self._paths) - 1) << LINE_BITS | line)
        slots[slot] = len(hashes)
        if len(hashes) * 5 > len(slots) * 3:
            self._grow()
        return None

    def _grow(self) -> None:
        slots = array("I", bytes(8 * len(self._slots)))
        mask = len(slots) - 1
        for entry, hashed in enumerate(self._hashes, start=1):
            slot = hashed & mask
            while slots[slot]:
                slot = (slot + 1) & mask
            slots[slot] = entry
        self._slots = slots
