"""What memory there is: what the machine says, and less where a control group says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from steper_agent import machine

GIB = 1 << 30


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 64 GiB, 48 of them free, that has /proc and /sys/fs/cgroup in a folder."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text(f"MemTotal: {64 << 20} kB\nMemFree: 1 kB\nMemAvailable: {48 << 20} kB\n")
    monkeypatch.setattr(machine, "PROC", tmp_path / "proc")
    monkeypatch.setattr(machine, "GROUPS", tmp_path / "groups")
    return tmp_path


def member(told: Path, line: str) -> None:
    (told / "proc" / "self" / "cgroup").write_text(f"3:cpu:/elsewhere\n{line}\n")


def group(folder: Path, *, limit: str, used: int, spare: int, version: int = 2) -> None:
    names = ("memory.max", "memory.current", "inactive_file") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    folder.mkdir(parents=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{names[2]} {spare}\n")


@pytest.mark.usefixtures("told")
def test_without_a_group_it_is_the_machines() -> None:
    assert (machine.whole_memory(), machine.free_memory()) == (64 * GIB, 48 * GIB)


@pytest.mark.parametrize(("version", "line", "root"), [(2, "0::/", "groups"), (1, "4:memory:/docker/f00", "groups/memory")])
def test_a_containers_limit_counts_and_files_it_has_read_do_not(told: Path, version: int, line: str, root: str) -> None:
    group(told / root, limit=str(4 * GIB), used=3 * GIB, spare=GIB, version=version)
    member(told, line)
    assert (machine.whole_memory(), machine.free_memory()) == (4 * GIB, 2 * GIB)


def test_the_tightest_of_the_groups_above_counts(told: Path) -> None:
    group(told / "groups" / "slice", limit=str(2 * GIB), used=GIB, spare=0)
    group(told / "groups" / "slice" / "job", limit="max", used=GIB, spare=0)
    member(told, "0::/slice/job")
    assert (machine.whole_memory(), machine.free_memory()) == (2 * GIB, GIB)


def test_a_group_that_is_over_its_limit_has_nothing_left(told: Path) -> None:
    group(told / "groups", limit=str(GIB), used=2 * GIB, spare=0)
    member(told, "0::/")
    assert machine.free_memory() == 0


def test_a_machine_that_tells_nothing_has_something(told: Path) -> None:
    (told / "proc" / "meminfo").unlink()
    assert 0 < machine.free_memory() == machine.whole_memory()
