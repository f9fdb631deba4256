"""A base model on a server, ours or another's, or on several, and who it is."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Sequence
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
from steper_agent.vllm.client import Away, Client, Endpoint
from steper_agent.vllm.guard import ADMIN_TOKEN, TOKEN
from steper_agent.vllm.launch import Launch
from steper_agent.vllm.replicas import Replica, on_all, too_few
from steper_agent.vllm.server import Server

LOG = logging.getLogger(__name__)
_LOCK = threading.Lock()


@dataclass
class _Started:
    server: Server
    users: int = 0


_STARTED: dict[Launch, _Started] = {}


@dataclass(frozen=True)
class ServedBase:
    path: Path
    """Its folder, here: we read the tokenizer there, and students are checked against it."""
    name: str
    """Its version, and its name on the server."""
    fingerprint: str
    vocabulary: Vocabulary
    replicas: tuple[Replica, ...]
    """The servers; one of our own is alone."""
    quorum: int = 1
    """Servers that must have a student before anybody is answered by it."""

    @property
    def server(self) -> Server | None:
        """Where it is ours."""
        return self.replicas[0].server

    @property
    def client(self) -> Client:
        """Of the first server."""
        return self.replicas[0].client

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

    def load(self, name: str, folder: Path) -> tuple[Replica, ...]:
        """The servers that have it now. Nobody else is ever asked for it.

        Raises:
            AdapterError, ModelError: fewer than the quorum took it; it is then on none.
        """
        refusals = on_all(self.replicas, lambda replica: replica.adapters.load(name, folder))
        holding = tuple(replica for replica in self.replicas if replica not in refusals)
        if len(holding) < self.quorum:
            self.unload(name, holding)
            raise too_few(name, len(holding), self.quorum, refusals)
        for replica, refused in refusals.items():
            LOG.warning("%s does not get %s: %s", replica.url, name, refused.what)
        return holding

    def unload(self, name: str, holding: Sequence[Replica]) -> None:
        """One user of it fewer on these servers; one that cannot be reached keeps it."""
        for replica, refused in on_all(holding, lambda replica: replica.adapters.unload(name)).items():
            LOG.warning("%s keeps %s: %s", replica.url, name, refused.what)


def start_base(path: Path, students: tuple[Path, ...] = (), *, name: str | None = None, **settings: object) -> ServedBase:
    """A server for this base, started now and stopped with the process, or by the last of its users to `let_go`; asked for again
    with equal settings it is the same one. `students`: folders that adapters may be loaded from. `name`: another one than its
    version.

    Raises:
        ModelError, DependencyError: the folder is no model, or the server does not start.
    """
    fingerprint = base_fingerprint(path)
    name = name or name_of(path, fingerprint)
    launch = Launch.model_validate({"model": path.resolve(), "name": name, "students": students, **settings})
    with _LOCK:
        started = _STARTED.get(launch)
        if started is None or started.server.is_over:
            started = _STARTED[launch] = _Started(Server(launch).start())
            atexit.register(started.server.stop)
        started.users += 1
    server = started.server
    return ServedBase(path, name, fingerprint, open_vocabulary(path), (Replica(server.client, server.adapters, server),))


def let_go(server: Server) -> None:
    """One user fewer of a server that `start_base` gave; the last one stops it."""
    with _LOCK:
        started = _STARTED.get(server.launch)
        if started and started.server is server:
            started.users -= 1
            if started.users:
                return
            del _STARTED[server.launch]
    atexit.unregister(server.stop)
    server.stop()


def attach_base(path: Path, *urls: str, quorum: int | None = None) -> ServedBase:
    """Running servers of this base, with the tokens of `$STEPER_VLLM_TOKEN` and `$STEPER_VLLM_ADMIN_TOKEN`. `quorum`: how many
    of them must be there, and have a student before anybody is answered by it; most of them, if not given.

    Raises:
        ModelError: too few can be reached; or one does not let us in, or serves another base.
    """
    token = os.environ.get(TOKEN, "")
    admin_token = os.environ.get(ADMIN_TOKEN, token)
    clients = [Client(Endpoint(url.rstrip("/").removesuffix("/v1"), None, token, admin_token)) for url in urls]
    replicas = tuple(Replica(client, ServedAdapters(client)) for client in clients)
    fingerprint, quorum = base_fingerprint(path), quorum or len(urls) // 2 + 1
    name = name_of(path, fingerprint)
    names = dict[Replica, str]()
    refusals = on_all(replicas, lambda replica: names.update({replica: _name_on(replica.client, name, path)}))
    # Who is away may come back; who refuses us now would refuse every request.
    if wrong := next((refused for refused in refusals.values() if not isinstance(refused, Away)), None):
        raise wrong
    if len(names) < quorum:
        raise too_few(name, len(names), quorum, refusals)
    for replica in refusals:
        replica.rest()
    if len(set(names.values())) > 1:
        raise ModelError(f"they serve it as {', '.join(sorted(set(names.values())))}", where=", ".join(urls),
                         fix=f"start each of them with --served-model-name {name}")
    return ServedBase(path, next(iter(names.values())), fingerprint, open_vocabulary(path), replicas, quorum)


def _name_on(client: Client, name: str, path: Path) -> str:
    """What this base is called on a server."""
    bases = [model for model, parent in client.models().items() if parent is None]
    foreign = [base for base in bases if base.startswith(("base@", "student@"))]
    if name in bases:
        return name
    if foreign or len(bases) != 1:
        raise ModelError(f"it serves {', '.join(bases) or 'nothing'}, not {name}", where=client.endpoint.url,
                         fix=f"start it for {path}: steper vllm {path}, or --served-model-name {name}")
    # Somebody else started it, under a name of his: we take his word that it is this model.
    return bases[0]


def name_of(path: Path, fingerprint: str) -> str:
    """The version of a model folder: a student's own name where it is one."""
    return read_card(path).name if (path / CARD).is_file() else f"base@{fingerprint[:12]}"
