from __future__ import annotations

from pathlib import Path

import pytest

from steper_agent.durable import digest, whole_file, write_atomic, write_lines
from steper_agent.records import Passage


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


def test_records_are_lines_each_with_its_end(tmp_path: Path) -> None:
    records = [Passage(id=str(number), title="T", text="One\nπ.") for number in range(3)]
    write_lines(tmp_path / "lines.jsonl", records)
    lines = (tmp_path / "lines.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    assert [Passage.model_validate_json(line) for line in lines] == records
    assert all(line.endswith("\n") for line in lines)
    write_lines(tmp_path / "lines.jsonl", [])
    assert (tmp_path / "lines.jsonl").read_bytes() == b""
