from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from langchain_core.messages import BaseMessage, HumanMessage
from transformers import AutoModelForCausalLM

from steper_agent.models.local import LocalChatModel
from steper_agent.models.slot import ModelSlot
from steper_agent.students.student import save_student
from steper_agent.students.swap import Terms, swap_base, swap_student
from tests.tiny import tiny_adapter, tiny_base, tiny_card

ASK: list[BaseMessage] = [HumanMessage("Question: who wrote the book?")]


@pytest.fixture
def base(tmp_path: Path) -> Iterator[LocalChatModel]:
    model = LocalChatModel(path=str(tiny_base(tmp_path / "base")), max_tokens=8)
    yield model
    model.engine.close()


def test_runs_keep_their_version_through_swaps_and_old_students_are_unloaded(
    base: LocalChatModel, tmp_path: Path
) -> None:
    students = [tiny_adapter(Path(base.path), tmp_path / f"s{seed}", seed) for seed in (1, 2)]
    slot = ModelSlot(base)
    expected = {base.version: base.invoke(ASK).content}
    for student in students:
        lone = base.with_student(student)
        expected[lone.version] = lone.invoke(ASK).content
        lone.unload()

    def run(number: int) -> bool:
        version = slot.lease(str(number))
        said = [slot.model(version).invoke(ASK).content for _ in range(2)]
        slot.release(str(number))
        return said == [expected[version]] * 2

    with ThreadPoolExecutor(6) as pool:
        runs = []
        for number in range(24):
            runs.append(pool.submit(run, number))
            if number % 4 == 3:
                report = swap_student(slot, base, students[number // 4 % 2], Terms([ASK]))
                assert report.ok, report.reason
                slot.drain(0)
        assert all(future.result() for future in runs)
    assert slot.drain(5)
    assert len(base.engine.adapters) == 1


def test_a_bad_student_is_reported_and_the_base_goes_on(base: LocalChatModel, tmp_path: Path) -> None:
    slot = ModelSlot(base)
    before = base.invoke(ASK).content
    other = tiny_base(tmp_path / "other", 5, width=64)
    foreign = tiny_adapter(other, tmp_path / "foreign")
    for folder, says in ((foreign, "another base"), (tmp_path / "none", "no student card")):
        report = swap_student(slot, base, folder, Terms([ASK]))
        assert not report.ok
        assert says in report.reason
        assert slot.current == base.version
    assert base.engine.adapters == ()
    assert slot.model(slot.lease("run")).invoke(ASK).content == before


def test_a_student_with_full_weights_serves_as_it_would_alone(base: LocalChatModel, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(base.path, tmp_path / "full"))
    trained = AutoModelForCausalLM.from_pretrained(folder)
    trained.model.layers[0].mlp.up_proj.weight.data.neg_()
    trained.save_pretrained(folder)
    card = save_student(folder, tiny_card(Path(base.path), "full"))
    slot = ModelSlot(base)
    report = swap_student(slot, base, folder, Terms([ASK]))
    assert (report.ok, report.after) == (True, card.name), report.reason
    alone = LocalChatModel(path=str(folder), max_tokens=8)
    assert alone.version == card.name
    assert slot.model(card.name).invoke(ASK).content == alone.invoke(ASK).content != base.invoke(ASK).content
    alone.engine.close()
    assert slot.model(card.name).fingerprint == base.fingerprint, "students are made for the base"
    report = swap_base(slot, base, drain=1)
    assert (report.after, report.drained, slot.loaded) == (base.version, True, (base.version,))


def test_a_model_that_is_given_full_weights_keeps_no_base_in_memory(base: LocalChatModel, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(base.path, tmp_path / "full"))
    save_student(folder, tiny_card(Path(base.path), "full"))

    def engines() -> int:
        return sum(thread.name == f"engine {Path(base.path).name}" for thread in threading.enumerate())

    before = engines()
    whole = LocalChatModel(path=base.path, adapter=str(folder))
    assert (engines(), whole.fingerprint) == (before, base.fingerprint)
    other = whole.with_student(tiny_adapter(Path(base.path), tmp_path / "other"))
    assert (engines(), other.fingerprint) == (before + 1, base.fingerprint), "its students are those of the base"
    for model in (whole, other):
        model.engine.close()
