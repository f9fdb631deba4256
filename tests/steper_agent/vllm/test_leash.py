from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from steper_agent.vllm import leash
from tests.processes import has_ended
from tests.waiting import eventually

TREE = """
import subprocess, sys, time, os
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(sys.argv[1], "w").write(f"{os.getpid()} {child.pid}\\n")
time.sleep(600)
"""
HOLDER = """
import subprocess, sys, time
held = subprocess.Popen([sys.executable, sys.argv[1], sys.executable, "-c", sys.argv[2], sys.argv[3]], stdin=subprocess.PIPE)
open(sys.argv[3] + ".leash", "w").write(f"{held.pid}\\n")
time.sleep(600)
"""


def pids(file: Path) -> list[int]:
    assert eventually(lambda: file.is_file() and file.read_text().endswith("\n"))
    return [int(word) for word in file.read_text().split()]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's leash is killed with its server")
@pytest.mark.parametrize("killed", ["holder", "leash"])
def test_no_kill_leaves_a_process_behind(tmp_path: Path, killed: str) -> None:
    told = tmp_path / "pids"
    with subprocess.Popen([sys.executable, "-c", HOLDER, leash.__file__, TREE, str(told)]) as holder:
        server, engine = pids(told)
        (held,) = pids(Path(f"{told}.leash"))
        os.kill(holder.pid if killed == "holder" else held, signal.SIGKILL)
        assert eventually(lambda: has_ended(server))
        # An engine whose server is killed from outside ends by itself in vLLM; only a held leash ends a whole group.
        assert killed == "leash" or eventually(lambda: has_ended(engine))
        holder.kill()
    with suppress(ProcessLookupError):
        os.kill(engine, signal.SIGKILL)


def test_the_code_of_a_command_that_ends_by_itself_is_passed_on() -> None:
    with subprocess.Popen([sys.executable, leash.__file__, sys.executable, "-c", "raise SystemExit(7)"], stdin=subprocess.PIPE) as held:
        assert held.wait(30) == 7
