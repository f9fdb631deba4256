"""A base model on a server, ours or another's, and who it is."""

from __future__ import annotations

import atexit
import os
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from steper_agent.errors import ModelError
from steper_agent.models.loading import Vocabulary, open_vocabulary
from steper_agent.records import Mode, StudentCard
from steper_agent.students.fingerprint import base_fingerprint
from steper_agent.students.student import CARD, read_card, verify_student
from steper_agent.students.weights import Limits, Shapes, base_shapes
from steper_agent.vllm.adapters import ServedAdapters
from steper_agent.vllm.client import Client, Endpoint
from steper_agent.vllm.guard import ADMIN_TOKEN, TOKEN
from steper_agent.vllm.launch import Launch
from steper_agent.vllm.server import Server

_STARTED: dict[Launch, Server] = {}
_LOCK = threading.Lock()


@dataclass(frozen=True)
class ServedBase:
    path: Path
    """Its folder, here: we read the tokenizer there, and students are checked against it."""
    name: str
    """Its version, and its name on the server."""
    fingerprint: str
    vocabulary: Vocabulary
    client: Client
    adapters: ServedAdapters
    server: Server | None = None
    """Where it is ours."""

    @cached_property
    def shapes(self) -> Shapes:
        return base_shapes(self.path)

    def preflight(self, folder: Path, mode: Mode = "auto") -> StudentCard:
        """The card of a student that this base can take, as an adapter on this server or on one of its own.

        Raises:
            AdapterError: it is altered, unsafe, made for another base, or more than this server takes.
        """
        as_adapter = mode in ("auto", "adapter") and self.server is not None
        limits = Limits(self.server.launch.max_lora_rank) if as_adapter and self.server else None
        return verify_student(folder, self.path, fingerprint=self.fingerprint, shapes=self.shapes, limits=limits)


def start_base(path: Path, students: tuple[Path, ...] = (), *, name: str | None = None, **settings: object) -> ServedBase:
    """A server for this base, started now and stopped with the process; asked for again with equal settings it is the same
    one. `students`: folders that adapters may be loaded from. `name`: another one than its version.

    Raises:
        ModelError, DependencyError: the folder is no model, or the server does not start.
    """
    fingerprint = base_fingerprint(path)
    name = name or name_of(path, fingerprint)
    launch = Launch.model_validate({"model": path.resolve(), "name": name, "students": students, **settings})
    with _LOCK:
        server = _STARTED.get(launch)
        if server is None or server.is_over:
            server = Server(launch).start()
            atexit.register(server.stop)
            _STARTED[launch] = server
    return ServedBase(path, name, fingerprint, open_vocabulary(path), server.client, server.adapters, server)


def attach_base(path: Path, url: str) -> ServedBase:
    """A running server of this base, with the tokens of `$STEPER_VLLM_TOKEN` and `$STEPER_VLLM_ADMIN_TOKEN`.

    Raises:
        ModelError: it cannot be reached, does not let us in, or serves another base.
    """
    token = os.environ.get(TOKEN, "")
    client = Client(Endpoint(url.rstrip("/").removesuffix("/v1"), None, token, os.environ.get(ADMIN_TOKEN, token)))
    fingerprint = base_fingerprint(path)
    name = name_of(path, fingerprint)
    bases = [model for model, parent in client.models().items() if parent is None]
    if name not in bases:
        foreign = [base for base in bases if base.startswith(("base@", "student@"))]
        if foreign or len(bases) != 1:
            raise ModelError(f"it serves {', '.join(bases) or 'nothing'}, not {name}", where=url,
                             fix=f"start it for {path}: steper vllm {path}, or --served-model-name {name}")
        # Somebody else started it, under a name of his: we take his word that it is this model.
        name = bases[0]
    return ServedBase(path, name, fingerprint, open_vocabulary(path), client, ServedAdapters(client))


def name_of(path: Path, fingerprint: str) -> str:
    """The version of a model folder: a student's own name where it is one."""
    return read_card(path).name if (path / CARD).is_file() else f"base@{fingerprint[:12]}"
