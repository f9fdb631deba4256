"""The students on one server: each loaded once under a name of its own, counted, and known again after a restart."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from pathlib import Path

from steper_agent.errors import AdapterError
from steper_agent.vllm.client import Client

LOG = logging.getLogger(__name__)


class ServedAdapters:
    """Thread-safe. A student that was there before us, another process's, is used and left there."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._users: Counter[str] = Counter()
        self._ours: dict[str, Path] = {}

    def load(self, name: str, folder: Path) -> None:
        """Have it on the server; loading what is there only counts one more user.

        Raises:
            AdapterError: the server refuses it.
            ModelError: the server cannot be reached.
        """
        with self._lock:
            if not self._users[name] and name not in self._client.models():
                self._client.load(name, folder)
                self._ours[name] = folder
            self._users[name] += 1

    def unload(self, name: str) -> None:
        """One user fewer; with the last one it leaves the server."""
        with self._lock:
            self._users[name] -= 1
            if self._users[name] > 0:
                return
            del self._users[name]
            if self._ours.pop(name, None):
                self._client.unload(name)

    def load_again(self) -> None:
        """After a restart, which lost them all. One that cannot be loaded any more costs its own runs, not everybody's."""
        for name, folder in list(self._ours.items()):
            try:
                self._client.load(name, folder)
            except AdapterError as refused:
                LOG.warning("%s is lost: %s", name, refused)
