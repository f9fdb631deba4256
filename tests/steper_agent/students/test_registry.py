"""The registry: what it takes in, what goes live and back, what it deletes, and what it refuses."""

from __future__ import annotations

import multiprocessing
import shutil
from pathlib import Path

import pytest

from steper_agent.errors import AdapterError, JournalError
from steper_agent.students.registry import Change, Registry
from steper_agent.students.student import CARD, read_card, save_student
from steper_agent.students.weights import ADAPTER_WEIGHTS
from tests.steper_agent.students.conftest import Made
from tests.steper_agent.students.others import hold, start
from tests.steper_agent.students.registries import OTHER_BASE, of_other_base
from tests.tiny import tiny_card


def states(registry: Registry) -> list[str]:
    return [each.state for each in registry.roll().students.values()]


def test_nothing_is_made_by_looking(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    assert registry.roll().students == {}
    assert registry.live("x") is None
    registry.prune(keep=0)
    for ask in (lambda: registry.path_of("ab"), lambda: registry.rollback(), lambda: registry.promote("ab")):
        with pytest.raises(AdapterError):
            ask()
    assert not registry.folder.exists()


def test_a_student_is_copied_whole_and_read_only_and_nothing_beside_it(made: Made, tmp_path: Path) -> None:
    source = Path(shutil.copytree(made.students[0], tmp_path / "student"))
    (source / "trainer_state.json").write_text("{}")
    registry = Registry(tmp_path / "registry")
    card, is_new = registry.add(source, base=made.base, by="steper students add", reason="first")
    assert (is_new, card.name, states(registry)) == (True, made.names[0], ["candidate"])
    place = registry.path_of(card.name)
    assert {file.name for file in place.iterdir()} == {CARD, "adapter_config.json", ADAPTER_WEIGHTS}
    assert all(file.stat().st_mode & 0o222 == 0 for file in place.iterdir())
    assert registry.verify(card.name, made.base) == card == read_card(source)
    assert list((registry.folder / "incoming").iterdir()) == []
    (event,) = registry.history.read()
    assert (event.student, event.base, event.by, event.reason) == (card.name, card.base, "steper students add", "first")


def test_adding_twice_is_adding_once(made: Made, registry: Registry) -> None:
    before = registry.history.path.read_bytes()
    assert registry.add(made.students[1]).is_new is False
    assert registry.add(registry.path_of(made.names[1])).is_new is False
    assert registry.history.path.read_bytes() == before
    shutil.rmtree(registry.path_of(made.names[1]))
    assert registry.add(made.students[1]).is_new is False
    registry.verify(made.names[1])


def test_a_student_of_full_weights_is_taken_in_with_its_tokenizer(made: Made, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made.base, tmp_path / "full"))
    card = save_student(folder, tiny_card(made.base, "full"))
    registry = Registry(tmp_path / "registry")
    assert registry.add(folder, base=made.base).card == card
    place = registry.path_of(card.name)
    assert {file.name for file in place.iterdir()} == {file.name for file in folder.iterdir()}
    assert registry.verify(card.name, made.base) == card


def test_going_live_retires_the_one_before_and_rollback_brings_it_back(made: Made, registry: Registry) -> None:
    a, b, c, _ = made.names
    assert registry.promote(a, base=made.base) == Change(made.fingerprint, None, a)
    assert registry.promote(b[8:12], reason="better", scores={"em": 0.6}) == Change(made.fingerprint, a, b)
    assert registry.roll().students[b].scores == {"em": 0.6}
    registry.promote(c)
    assert states(registry) == ["retired", "retired", "live", "candidate"]
    assert registry.rollback() == Change(made.fingerprint, c, b)
    assert registry.rollback(made.fingerprint[:6]) == Change(made.fingerprint, b, a)
    assert registry.rollback() == Change(made.fingerprint, a, None)
    assert registry.live(made.fingerprint) is None
    with pytest.raises(AdapterError, match="nothing to go back from"):
        registry.rollback()


def test_every_base_has_its_own_live_student(made: Made, registry: Registry, tmp_path: Path) -> None:
    other = registry.add(of_other_base(made.students[0], tmp_path / "other")).card.name
    registry.promote(made.names[0])
    registry.promote(other)
    assert (registry.live(made.fingerprint), registry.live(OTHER_BASE)) == (made.names[0], other)
    with pytest.raises(AdapterError, match="several bases"):
        registry.rollback()
    assert registry.rollback(OTHER_BASE[:4]).after is None
    assert registry.live(made.fingerprint) == made.names[0]


def test_a_promote_decided_on_what_is_no_longer_live_is_refused(made: Made, registry: Registry) -> None:
    a, b, c, _ = made.names
    registry.promote(a, expecting=None)
    registry.promote(b, expecting=a)
    for late in (lambda: registry.promote(c, expecting=a), lambda: registry.promote(c, expecting=None),
                 lambda: registry.rollback(expecting=a)):
        with pytest.raises(AdapterError, match=f"{b} went live meanwhile"):
            late()
    assert registry.live(made.fingerprint) == b


def test_a_rollback_skips_what_was_pruned(made: Made, registry: Registry) -> None:
    a, b, c, _ = made.names
    for name in (a, b, c):
        registry.promote(name)
    assert registry.prune(keep=1).removed == (a,)
    assert registry.rollback().after == b
    assert registry.rollback().after is None
    assert registry.prune(keep=0).removed == (b, c)


SPOILT = {
    "tampered": (lambda place: rewrite(place / ADAPTER_WEIGHTS), "content is"),
    "another base in the card": (lambda place: rebase(place / CARD), "another student's"),
    "a file more": (lambda place: (place / "run.py").write_text("x"), r"run\.py is no part"),
    "a folder more": (lambda place: (place / "more").mkdir(), "more is no part"),
    "a file less": (lambda place: (place / CARD).unlink(), "no student card"),
    "a link": (lambda place: (place / "more").symlink_to("/etc"), "no links"),
    "the folder is a link": (lambda place: relink(place), "no links"),
    "all students are a link": (lambda place: relink(place.parent), "no links"),
    "no folder": (shutil.rmtree, "is gone"),
}  # fmt: skip


def rewrite(file: Path) -> None:
    data = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def rebase(file: Path) -> None:
    card = read_card(file.parent)
    file.chmod(0o644)
    file.write_text(card.model_copy(update={"base": OTHER_BASE}).model_dump_json())


def relink(folder: Path) -> None:
    away = folder.with_name("away")
    folder.rename(away)
    folder.symlink_to(away)


@pytest.mark.parametrize("spoil", SPOILT)
def test_a_student_spoilt_in_the_registry_is_never_live(made: Made, registry: Registry, spoil: str) -> None:
    a, b = made.names[:2]
    change, says = SPOILT[spoil]
    registry.promote(b)
    change(registry.path_of(a))
    for ask in (lambda: registry.verify(a), lambda: registry.promote(a)):
        with pytest.raises(AdapterError, match=says):
            ask()
    if spoil != "no folder":
        with pytest.raises(AdapterError, match=says):
            registry.add(made.students[0])
    assert registry.live(made.fingerprint) == b


def test_a_bad_student_is_refused_at_the_door(made: Made, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    spoilt = Path(shutil.copytree(made.students[0], tmp_path / "s"))
    (spoilt / "adapter_model.bin").write_bytes(b"x")
    other = of_other_base(made.students[0], tmp_path / "other")
    for ask, says in ((lambda: registry.add(spoilt), "pickle"), (lambda: registry.add(tmp_path / "none"), "no such"),
                      (lambda: registry.add(other, base=made.base), "another base")):
        with pytest.raises(AdapterError, match=says):
            ask()
    assert registry.roll().students == {}
    name = registry.add(other).card.name
    with pytest.raises(AdapterError, match="another base"):
        registry.promote(name, base=made.base)


def test_a_damaged_history_is_named_and_nothing_is_left_behind(made: Made, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    registry.add(made.students[0])
    registry.history.path.write_text("{}\n")
    with pytest.raises(JournalError, match=r"history\.jsonl:1"):
        registry.add(made.students[1])
    assert list((registry.folder / "incoming").iterdir()) == []
    registry.history.path.write_text("")  # the cure it names: the line is removed
    assert registry.add(made.students[0]).is_new


def test_prune_keeps_the_newest_and_says_what_it_would_do(made: Made, registry: Registry) -> None:
    a, b, c, d = made.names
    for name in (a, b, c):
        registry.promote(name)
    assert registry.prune(keep=1, dry_run=True).removed == (a,)
    assert registry.path_of(a).is_dir()
    assert registry.prune(keep=1, candidates=True).removed == (a, d)
    assert registry.roll().students.keys() == {b, c}
    assert {place.name for place in (registry.folder / "students").iterdir()} == {b[8:], c[8:]}
    with pytest.raises(AdapterError, match="was pruned"):
        registry.path_of(a)
    assert registry.add(made.students[0]).is_new
    assert registry.roll().students[a].state == "candidate"


def test_prune_leaves_what_another_process_holds_until_that_dies(made: Made, registry: Registry) -> None:
    a, b, *_ = made.names
    registry.promote(a)
    registry.promote(b)
    held = multiprocessing.get_context("forkserver").Event()
    other = start(hold, registry.folder, a, held)
    assert held.wait(60)
    assert registry.prune(keep=0) == ((), (a,), 0)
    registry.verify(a)
    other.kill()
    other.join()
    assert registry.prune(keep=0).removed == (a,)
    with pytest.raises(AdapterError, match="was pruned"):
        registry.hold(a)


def test_a_hold_is_let_go_of(made: Made, registry: Registry) -> None:
    hold = registry.hold(made.names[0])
    with registry.hold(made.names[0]):
        hold.release()
        assert registry.prune(keep=0, candidates=True).held == (made.names[0],)
    assert registry.prune(keep=0, candidates=True).removed == (made.names[0],)
