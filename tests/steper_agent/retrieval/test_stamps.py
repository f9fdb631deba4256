"""Files with a good stamp are not read again, and no change hides behind a stamp."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from steper_agent.errors import IndexFault
from steper_agent.retrieval import stamps
from steper_agent.retrieval.stamps import RACY, SMALL, STAMPS, Seal, check, faults, seal, stamp


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Seal]:
    (tmp_path / "large").write_bytes(os.urandom(2 * SMALL))
    (tmp_path / "small").write_bytes(b"x" * 100)
    made = seal(tmp_path, ["large", "small"])
    stamp(tmp_path, made)
    return made


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are digested."""
    names: list[str] = []
    digest = stamps.digest_file

    def counted(path: Path) -> str:
        names.append(path.name)
        return digest(path)

    monkeypatch.setattr(stamps, "digest_file", counted)
    return names


def test_a_stamped_file_is_not_read_but_a_small_one_is(tmp_path: Path, files: dict[str, Seal], read: list[str]) -> None:
    check(tmp_path, files)
    assert read == ["small"]
    read.clear()
    assert faults(tmp_path, files) == []
    assert sorted(read) == ["large", "small"]


def test_a_change_is_noticed_whatever_times_the_file_is_given(tmp_path: Path, files: dict[str, Seal]) -> None:
    said = (tmp_path / "large").stat()
    with (tmp_path / "large").open("r+b") as file:
        file.seek(SMALL)
        file.write(b"changed")
    os.utime(tmp_path / "large", ns=(said.st_atime_ns, said.st_mtime_ns))
    with pytest.raises(IndexFault, match="changed or damaged") as bad:
        check(tmp_path, files)
    assert bad.value.where == tmp_path / "large"


def test_a_change_at_once_after_stamping_is_noticed(tmp_path: Path) -> None:
    for _ in range(20):
        (tmp_path / "large").write_bytes(b"a" * (2 * SMALL))
        made = seal(tmp_path, ["large"])
        stamp(tmp_path, made)
        with (tmp_path / "large").open("r+b") as file:
            file.write(b"b")
        with pytest.raises(IndexFault):
            check(tmp_path, made)


def test_a_file_is_stamped_only_once_its_last_change_is_past(tmp_path: Path, files: dict[str, Seal]) -> None:
    os.utime(tmp_path / "large")
    stamp(tmp_path, files)
    assert time.time_ns() - (tmp_path / "large").stat().st_ctime_ns >= RACY


def test_a_copy_is_read_once_and_stamped_then(tmp_path: Path, files: dict[str, Seal], read: list[str]) -> None:
    data = (tmp_path / "large").read_bytes()
    (tmp_path / "large").unlink()
    (tmp_path / "large").write_bytes(data)
    check(tmp_path, files)
    assert "large" in read
    read.clear()
    check(tmp_path, files)
    assert read == ["small"]


@pytest.mark.parametrize("text", ["", "{", '{"files": {"large": [1, 2]}}', '{"files": 3}', "[]"])
def test_stamps_that_cannot_be_read_are_none(
    text: str, tmp_path: Path, files: dict[str, Seal], read: list[str]
) -> None:
    (tmp_path / STAMPS).write_text(text, encoding="utf-8")
    check(tmp_path, files)
    assert "large" in read


def test_stamps_of_another_digest_are_none(tmp_path: Path, files: dict[str, Seal]) -> None:
    with pytest.raises(IndexFault, match="changed or damaged"):
        check(tmp_path, {**files, "large": Seal(bytes=files["large"].bytes, sha256="0" * 64)})


def test_a_folder_that_cannot_be_written_to_is_verified_in_full_every_time(
    tmp_path: Path, files: dict[str, Seal], read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("read-only")

    (tmp_path / STAMPS).unlink()
    monkeypatch.setattr(stamps, "write_atomic", refuse)
    for _ in range(2):
        read.clear()
        check(tmp_path, files)
        assert "large" in read
