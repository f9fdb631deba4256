"""The seat of a running slot goes to whoever the registry says."""

from __future__ import annotations

import errno
import queue
from collections.abc import Iterator
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage

from steper_agent.errors import AdapterError, JournalError
from steper_agent.models.local import LocalChatModel
from steper_agent.models.slot import ModelSlot
from steper_agent.models.tokens import TokenChatModel
from steper_agent.records import Swapped
from steper_agent.students import history
from steper_agent.students import registry as registry_module
from steper_agent.students.golden import golden_of, write_golden
from steper_agent.students.registry import Registry
from steper_agent.students.student import read_card, save_student
from steper_agent.students.usher import Usher
from tests.steper_agent.students.conftest import Made
from tests.steper_agent.students.others import promote, start
from tests.steper_agent.students.registries import reweighed
from tests.waiting import eventually

ASK = [HumanMessage("Question: who wrote the book?")]


@pytest.fixture
def base(made: Made) -> Iterator[LocalChatModel]:
    model = LocalChatModel(path=str(made.base), max_tokens=8)
    yield model
    model.engine.close()


def test_what_is_promoted_elsewhere_comes_to_serve_here_and_the_old_one_leaves_with_its_last_run(
    made: Made, registry: Registry, base: LocalChatModel
) -> None:
    told: queue.Queue[Swapped] = queue.Queue()
    first, second = made.names[:2]
    registry.promote(first)
    slot = ModelSlot(base)
    with Usher(slot, base, registry, on_swap=told.put, poll=0.05):
        assert slot.current == first, "who is live serves from the first request on"
        slot.lease("run")
        start(promote, registry.folder, [second]).join()
        assert eventually(lambda: slot.current == second)
        assert first in slot.loaded, "a run still has it"
        assert first in registry.prune(keep=0, dry_run=True).held, "and so its folder stays"
        slot.release("run")
        assert eventually(lambda: slot.loaded == (second,))
        registry.rollback()
        assert eventually(lambda: slot.current == first)
        registry.rollback()
        assert eventually(lambda: slot.current == base.version)
        assert eventually(lambda: base.engine.adapters == ())
    swaps = [told.get(timeout=60) for _ in range(4)]
    assert [(swap.before, swap.after, swap.ok) for swap in swaps] == [
        (base.version, first, True), (first, second, True), (second, first, True), (first, base.version, True),
    ]  # fmt: skip
    assert list(swaps[1].seconds) == ["preflight", "load", "warm", "canary", "switch"]
    assert first in registry.prune(keep=0, dry_run=True).removed, "nobody holds it any more"


def test_a_student_that_does_not_say_what_its_trainer_saw_is_refused_and_the_old_one_serves_on(
    made: Made, registry: Registry, base: LocalChatModel, tmp_path: Path
) -> None:
    good, spoilt = made.students[0], reweighed(made.students[0], tmp_path / "spoilt", -3.0)
    seated: TokenChatModel = base.with_student(good)
    prompt = tuple(range(20, 50))
    write_golden(spoilt, [golden_of("initialization", 1, prompt, seated.greedy(prompt, 12))])
    card = save_student(spoilt, read_card(spoilt))
    seated.unload()
    registry.promote(made.names[0])
    slot = ModelSlot(base)
    with Usher(slot, base, registry, poll=0.05) as usher:
        expected = slot.model(slot.current).invoke(ASK).text
        registry.add(spoilt)
        registry.promote(card.name)
        assert eventually(lambda: any(event.action == "refused" for event in registry.history.read()))
        assert slot.current == made.names[0]
        assert slot.model(slot.current).invoke(ASK).text == expected
        assert len(base.engine.adapters) == 1
        with pytest.raises(AdapterError, match="when it was trained"):
            usher.seat(card.name)
    refusal = next(event for event in registry.history.read() if event.action == "refused")
    assert refusal.student == card.name
    assert "trainer saw token" in refusal.reason


def full(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_on_a_full_disk_nothing_changes_until_there_is_room(
    made: Made, registry: Registry, base: LocalChatModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = made.names[:2]
    registry.promote(first)
    third = reweighed(made.students[0], tmp_path / "third", 3.0)
    slot, before = ModelSlot(base), files_of(registry)
    with Usher(slot, base, registry, poll=0.05):
        expected = slot.model(first).invoke(ASK).text
        with monkeypatch.context() as patch:
            patch.setattr(history.os, "write", full)
            patch.setattr(registry_module.os, "fsync", full)
            with pytest.raises(JournalError, match="No space left on device.*nothing has changed") as told:
                registry.promote(second)
            with pytest.raises(OSError, match="No space left on device"):
                registry.add(third)
        assert "make room" in told.value.fix
        assert (slot.current, slot.model(first).invoke(ASK).text) == (first, expected)
        assert files_of(registry) == before
        registry.promote(second)
        assert eventually(lambda: slot.current == second)


def files_of(registry: Registry) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in registry.folder.rglob("*") if file.is_file() and file.suffix != ".lock"}


def test_a_swap_that_nobody_could_write_down_is_no_refusal(made: Made, registry: Registry, base: LocalChatModel) -> None:
    registry.promote(made.names[0])
    slot = ModelSlot(base)
    with Usher(slot, base, registry, on_swap=full):
        assert slot.current == made.names[0]
    assert [event.action for event in registry.history.read()][-1] == "promoted"
