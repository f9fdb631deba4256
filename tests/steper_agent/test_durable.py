from __future__ import annotations

from pathlib import Path

import pytest

from steper_agent.durable import digest, whole_file, write_atomic


def half(file: Path) -> None:
    with whole_file(file) as beside:
        beside.write_text("half of the ne")
        raise OSError("full")


def test_a_file_is_the_new_one_or_the_old_one_and_nothing_else_is_left(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "file"
    write_atomic(file, "old")
    with pytest.raises(OSError, match="full"):
        half(file)
    assert file.read_text() == "old"
    write_atomic(file, b"new")
    assert file.read_bytes() == b"new"
    assert [path.name for path in file.parent.iterdir()] == ["file"]


def test_half_a_character_has_a_digest_of_its_own() -> None:
    assert len({digest("\ud800"), digest("\udc00"), digest("?")}) == 3
    assert digest({"a": "é", "b": 1}) == digest({"b": 1, "a": "é"})
