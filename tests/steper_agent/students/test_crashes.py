"""The registry among processes: killed in the middle of anything it works on, and many who promote at once leave one live
student and a whole history."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from steper_agent.students.registry import Registry
from tests.steper_agent.students.conftest import Made
from tests.steper_agent.students.others import add_until, promote, promote_expecting_none, prune_until, start


def killed(work: object, before: Path, root: Path, *args: object) -> Iterator[Registry]:
    """The registry as a process leaves it that is killed at its first change, at its second, …, until one comes to its end."""
    for point in count(1):
        folder = Path(shutil.copytree(before, root / str(point)))
        process = start(work, point, folder, *args)
        process.join()
        if process.exitcode == 0:
            assert point > 8
            return
        assert process.exitcode == -signal.SIGKILL
        yield Registry(folder)


def only_the_live(registry: Registry, name: str) -> bool:
    """After pruning, nothing else is left, in the history or on the disk."""
    registry.prune(keep=0, candidates=True)
    places = [*(registry.folder / "students").iterdir(), *(registry.folder / "incoming").glob("*")]
    return list(registry.roll().students) == [name] and [place.name for place in places] == [name[8:]]


def test_killed_at_any_change_that_add_makes_it_works_and_adding_again_ends_well(made: Made, tmp_path: Path) -> None:
    before = Registry(tmp_path / "before")
    before.add(made.students[0])
    before.promote(made.names[0])
    for registry in killed(add_until, before.folder, tmp_path, made.students[1]):
        assert registry.live(made.fingerprint) == made.names[0]
        for name in registry.roll().students:
            registry.verify(name)
        registry.add(made.students[1])
        assert registry.promote(made.names[1]).before == made.names[0]
        assert only_the_live(registry, made.names[1])


def test_killed_at_any_change_that_prune_makes_it_works_and_pruning_again_ends_well(made: Made, registry: Registry, tmp_path: Path) -> None:
    registry.promote(made.names[0])
    registry.promote(made.names[1])
    for left in killed(prune_until, registry.folder, tmp_path):
        assert left.live(made.fingerprint) == made.names[1]
        for name in left.roll().students:
            left.verify(name)
        assert only_the_live(left, made.names[1])


def test_many_who_promote_at_once_leave_one_live_and_a_whole_history(made: Made, registry: Registry) -> None:
    crowd = [start(promote, registry.folder, made.names[turn:] + made.names[:turn]) for turn in (0, 1, 2, 3, 0, 1)]
    for each in crowd:
        each.join()
    assert [each.exitcode for each in crowd] == [0] * 6
    events = registry.history.read()
    assert [event.action for event in events] == ["added"] * 4 + ["promoted"] * 24
    assert registry.live(made.fingerprint) == events[-1].student
    assert sorted(each.state for each in registry.roll().students.values()) == ["live", *["retired"] * 3]


def test_of_many_who_expect_the_same_one_wins(made: Made, registry: Registry) -> None:
    crowd = [start(promote_expecting_none, registry.folder, name) for name in made.names]
    for each in crowd:
        each.join()
    assert sorted(each.exitcode for each in crowd) == [0, 7, 7, 7]
    assert [event.action for event in registry.history.read()] == [*["added"] * 4, "promoted"]
