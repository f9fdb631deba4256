from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from steper_agent.vllm.server import KEPT, PREFIX, sweep


def test_only_what_the_dead_left_long_ago_is_removed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    old = time.time() - KEPT - 60
    folders = {name: tmp_path / f"{PREFIX}{pid}-{name}" for name, pid in
               (("dead", ended.pid), ("fresh", ended.pid), ("alive", os.getpid()), ("odd", "x"))}  # fmt: skip
    for name, folder in folders.items():
        folder.mkdir()
        (folder / "server.log").write_text(name)
        if name != "fresh":
            os.utime(folder, (old, old))
    sweep(tmp_path)
    assert {name for name, folder in folders.items() if folder.is_dir()} == {"fresh", "alive", "odd"}
