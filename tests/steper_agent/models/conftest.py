"""One tiny base and two students of it, made once for all tests of this room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from steper_agent.models.local import LocalChatModel
from tests.tiny import tiny_adapter, tiny_base


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def students(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    first, second = (tiny_adapter(base, tmp_path_factory.mktemp(f"student{seed}"), seed) for seed in (1, 2))
    return first, second


@pytest.fixture(scope="module")
def model(base: Path) -> Iterator[LocalChatModel]:
    model = LocalChatModel(path=str(base), max_tokens=24)
    yield model
    model.engine.close()
