"""Swaps on the real engine, and what goes wrong in the middle of them. People ask all the time; none of them may notice."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from langchain_core.messages import HumanMessage
from safetensors.torch import load_file, save_file

from steper_agent.models.slot import ModelSlot, SwapReport
from steper_agent.students.golden import golden_of, write_golden
from steper_agent.students.student import read_card, save_student
from steper_agent.students.swap import Terms, swap_student
from steper_agent.students.weights import ADAPTER_WEIGHTS
from steper_agent.vllm.model import VllmChatModel
from tests.processes import family, kill
from tests.served import Serving, needs_vllm
from tests.waiting import eventually

pytestmark = [needs_vllm, pytest.mark.timeout(600)]
ASK = [HumanMessage("Question: who wrote the book of the town?")]
PROMPT = tuple(range(20, 60))


class Seated(NamedTuple):
    slot: ModelSlot
    base: VllmChatModel
    first: str
    """Version that serves."""


@pytest.fixture
def seated(serving: Serving) -> Iterator[Seated]:
    """A slot in which the first student serves."""
    base = serving.model(max_tokens=40)
    slot = ModelSlot(base)
    report = swap_student(slot, base, serving.student(1), Terms(drain=60))
    assert report.ok, report.reason
    assert report.drained
    yield Seated(slot, base, report.after)
    slot.swap(lambda: base)
    assert slot.drain(60)
    assert list(serving.base.client.models()) == [base.version]


@contextmanager
def people_asking(slot: ModelSlot, expected: dict[str, str]) -> Iterator[list[str]]:
    """Three of them, each run leasing its version; what any of them was told that his version does not say."""
    over, wrong = threading.Event(), list[str]()

    def asking(asker: int) -> None:
        number = 0
        while not over.is_set():
            run = f"{asker}-{number}"
            version = slot.lease(run)
            try:
                for _ in range(2):
                    said = slot.model(version).invoke(ASK).text
                    if said != expected.setdefault(version, said):
                        wrong.append(f"{version}: {said!r}")
            except Exception as failure:
                wrong.append(f"{version}: {failure!r}")
            finally:
                slot.release(run)
            number += 1

    threads = [threading.Thread(target=asking, args=(asker,)) for asker in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield wrong
    finally:
        over.set()
        for thread in threads:
            thread.join()


def student_with_golden(serving: Serving, seated: Seated, seed: int, folder: Path) -> Path:
    """A student that knows what it said, here on the engine itself."""
    shutil.copytree(serving.student(seed), folder)
    model = seated.base.with_student(serving.student(seed))
    write_golden(folder, [golden_of("initialization", 1, PROMPT, model.greedy(PROMPT, 12))])
    model.unload()
    save_student(folder, read_card(folder))
    return folder


def kill_server(serving: Serving) -> None:
    assert serving.base.server
    assert serving.base.server.pid
    kill(family(serving.base.server.pid))


def swapped(seated: Seated, folder: Path, at: str = "", do: Callable[[], None] = lambda: None) -> SwapReport:
    """Swap, and do something the moment a phase begins."""

    def hear(phase: str, words: str) -> None:
        del words
        if phase == at:
            do()

    return swap_student(seated.slot, seated.base, folder, Terms([ASK]), on_event=hear)


def test_a_swap_under_traffic_is_noticed_by_nobody(serving: Serving, seated: Seated) -> None:
    second = student_with_golden(serving, seated, 2, serving.students / "second")
    expected: dict[str, str] = {}
    with people_asking(seated.slot, expected) as wrong:
        report = swap_student(seated.slot, seated.base, second, Terms([ASK], drain=60))
    assert report.ok, report.reason
    assert list(report.seconds) == ["preflight", "load", "warm", "canary", "switch", "drain"]
    assert wrong == []
    assert report.drained
    assert seated.first not in serving.base.client.models()
    assert len(set(expected.values())) == len(expected), "the two say different things, so a mix would be seen"


def test_a_merged_student_takes_the_seat_on_a_server_of_its_own_which_ends_with_it(serving: Serving, seated: Seated) -> None:
    student = student_with_golden(serving, seated, 6, serving.students / "merged")
    as_adapter = seated.base.with_student(student)
    expected = as_adapter.greedy(PROMPT, 12).output_ids
    as_adapter.unload()
    with people_asking(seated.slot, {}) as wrong:
        report = swap_student(seated.slot, seated.base, student, Terms([ASK], mode="merged", drain=60))
    assert report.ok, report.reason
    assert wrong == []
    merged = seated.slot.model(seated.slot.current)
    assert isinstance(merged, VllmChatModel)
    second = merged.base.server
    assert second
    assert second is not serving.base.server
    assert merged.version == read_card(student).name
    assert merged.greedy(PROMPT, 12).output_ids == expected
    assert swapped(seated, serving.student(1)).ok, "and back to an adapter"
    assert seated.slot.drain(60)
    assert second.is_over


def test_a_corrupted_student_whose_card_is_right_is_refused_by_the_canary(serving: Serving, seated: Seated) -> None:
    spoilt = student_with_golden(serving, seated, 3, serving.students / "spoilt")
    weights = load_file(spoilt / ADAPTER_WEIGHTS)
    save_file({name: tensor.flip(0).contiguous() for name, tensor in weights.items()}, spoilt / ADAPTER_WEIGHTS)
    card = save_student(spoilt, read_card(spoilt))
    with people_asking(seated.slot, {}) as wrong:
        report = swapped(seated, spoilt)
    assert not report.ok
    assert "trainer saw token" in report.reason
    assert "parity" in report.reason, "the message says what to do"
    assert (wrong, seated.slot.current) == ([], seated.first)
    assert card.name not in serving.base.client.models()


def test_a_folder_that_vanishes_before_it_is_loaded_costs_nothing(serving: Serving, seated: Seated) -> None:
    doomed = serving.students / "doomed"
    shutil.copytree(serving.student(4), doomed)
    with people_asking(seated.slot, {}) as wrong:
        report = swapped(seated, doomed, "load", lambda: shutil.rmtree(doomed))
    assert not report.ok
    assert (wrong, seated.slot.current) == ([], seated.first)


@pytest.mark.parametrize("phase", ["load", "canary"])
def test_a_server_that_dies_in_the_middle_is_back_with_whom_it_served(serving: Serving, seated: Seated, phase: str) -> None:
    fifth, server = serving.student(5), serving.base.server
    assert server
    before = server.restarts
    with people_asking(seated.slot, {}) as wrong:
        report = swapped(seated, fifth, phase, lambda: kill_server(serving))
        assert eventually(lambda: server.restarts > before, 300)
        if not report.ok:
            assert "no answer" in report.reason
            assert seated.slot.current == seated.first
            report = swapped(seated, fifth)
    assert report.ok, report.reason
    assert wrong == []
    assert report.after in serving.base.client.models()
