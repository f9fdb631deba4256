"""The micro-world's index: made once, kept apart from that of another release, and made again when it is damaged."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from steper_agent.errors import IndexFault
from steper_agent.retrieval import manifest, open_index
from tui.app import world
from tui.app.world import open_world


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(world, "PASSAGES", 100)
    return tmp_path / "steper"


def emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def cut(folder: Path) -> None:
    (folder / "0001" / "passages.jsonl").write_bytes(b"")


def of_another_format(folder: Path) -> None:
    path = folder / manifest.MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "format": 1}), encoding="utf-8")


@pytest.mark.parametrize("damage", [emptied, cut, of_another_format])
def test_an_index_that_cannot_be_opened_is_made_again(damage: Callable[[Path], None], cache: Path) -> None:
    whole = open_world()
    (place,) = cache.iterdir()
    damage(place)
    with pytest.raises(IndexFault):
        open_index(place)
    assert open_world().digest == whole.digest
    assert list(cache.iterdir()) == [place]


def test_it_is_made_once_and_another_world_lies_beside_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_world().manifest == open_world().manifest
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(world, "SEED", 1)
    open_world()
    assert len(list(cache.iterdir())) == 2
