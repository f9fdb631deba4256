"""The students on one server: each loaded once under a name of its own, counted, and loaded again where the server lost them."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from pathlib import Path

from steper_agent.errors import AdapterError, ModelError
from steper_agent.vllm.client import Client

LOG = logging.getLogger(__name__)


class ServedAdapters:
    """Thread-safe. A student that was there before us, another process's, is used and left there; should that process take it
    away, we load it again."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._users: Counter[str] = Counter()
        self._folders: dict[str, Path] = {}
        self._ours: set[str] = set()

    def load(self, name: str, folder: Path) -> None:
        """Have it on the server; loading what is there only counts one more user.

        Raises:
            AdapterError: the server refuses it.
            ModelError: the server cannot be reached.
        """
        with self._lock:
            if not self._users[name]:
                self._put(name, folder)
                self._folders[name] = folder
            self._users[name] += 1

    def unload(self, name: str) -> None:
        """One user fewer; with the last one it leaves the server."""
        with self._lock:
            self._users[name] -= 1
            if self._users[name] > 0:
                return
            del self._users[name], self._folders[name]
            if name in self._ours:
                self._ours.remove(name)
                self._client.unload(name)

    def again(self, name: str) -> bool:
        """Put a student back that the server lost; False: it is none of ours, or refused."""
        with self._lock:
            folder = self._folders.get(name)
            try:
                if folder:
                    self._put(name, folder)
            except (AdapterError, ModelError) as refused:
                LOG.warning("%s is lost: %s", name, refused)
                return False
            return folder is not None

    def load_again(self) -> None:
        """After a restart, which lost them all. One that cannot be loaded any more costs its own runs, not everybody's."""
        for name in list(self._folders):
            self.again(name)

    def _put(self, name: str, folder: Path) -> None:
        if name in self._client.models():
            return
        try:
            self._client.load(name, folder)
        except AdapterError:
            # Another process may have been quicker.
            if name not in self._client.models():
                raise
        else:
            self._ours.add(name)
