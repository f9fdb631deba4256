from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import BaseChatModel, FakeListChatModel

from steper_agent.errors import AdapterError, ModelError
from steper_agent.models.slot import ModelSlot


class Named(FakeListChatModel):
    version: str


def named(version: str) -> Named:
    return Named(responses=[version], version=version)


@given(st.lists(st.sampled_from(["lease", "release", "swap", "drain"]), max_size=25))
def test_a_run_keeps_its_version_whatever_happens(moves: list[str]) -> None:
    slot = ModelSlot(named("v0"))
    mine = slot.lease("mine")
    others: list[str] = []
    for number, move in enumerate(moves):
        if move == "lease":
            others.append(f"run {number}")
            assert slot.lease(others[-1]) == slot.current
        elif move == "release" and others:
            slot.release(others.pop())
        elif move == "swap":
            assert slot.swap(lambda number=number: named(f"v{number}")).ok  # type: ignore[misc]
        elif move == "drain":
            slot.drain(0)
        assert slot.lease("mine") == mine == "v0"
        assert slot.model(mine).invoke("?").content == "v0"
    slot.release("mine")
    for run in others:
        slot.release(run)
    assert slot.drain(0)
    assert slot.loaded == (slot.current,)


def test_swapping_twice_to_the_same_is_swapping_once() -> None:
    freed: list[BaseChatModel] = []
    slot = ModelSlot(named("a"))
    first, second = named("b"), named("b")
    assert slot.swap(lambda: first, unload=freed.append).after == "b"
    report = slot.swap(lambda: second, unload=freed.append)
    assert (report.ok, report.before, report.after) == (True, "b", "b")
    assert slot.model("b") is first
    assert freed == [second]
    assert slot.swap(lambda: first, unload=freed.append).ok
    assert freed == [second]


def refuse(*_: Any) -> Any:
    raise AdapterError("spoilt", where="here", fix="again")


def crash(*_: Any) -> Any:
    raise RuntimeError("boom")


@pytest.mark.parametrize(
    ("load", "canary", "why"),
    [(refuse, None, "spoilt"), (crash, None, "boom"), (lambda: named("b"), refuse, "spoilt")],
    ids=["refused", "crashed", "canary"],
)
def test_a_failed_swap_keeps_the_old_version_serving_and_says_why(load: Any, canary: Any, why: str) -> None:
    heard: list[str] = []
    freed: list[BaseChatModel] = []
    slot = ModelSlot(named("a"))
    report = slot.swap(load, trials=[("canary", canary)] if canary else [], on_event=lambda phase, _: heard.append(phase), unload=freed.append)
    assert not report.ok
    assert why in report.reason
    assert report.before == report.after == slot.current == "a"
    assert slot.loaded == ("a",)
    assert heard[-1] == "failed"
    assert len(freed) == (canary is not None)


def test_a_wanted_version_is_honoured_while_it_is_loaded() -> None:
    slot = ModelSlot(named("a"))
    slot.swap(lambda: named("b"))
    assert slot.lease("resumed", wanted="a") == "a"
    assert slot.lease("late", wanted="gone") == "b"


def test_drain_waits_for_the_last_lease_and_then_unloads() -> None:
    freed: list[str] = []
    slot = ModelSlot(named("a"))
    slot.swap(lambda: named("b"), unload=lambda model: freed.append(getattr(model, "version", "")))
    slot.lease("run")
    slot.swap(lambda: named("c"))
    assert not slot.drain(0.01)
    assert slot.loaded == ("b", "c")
    threading.Timer(0.05, slot.release, ["run"]).start()
    assert slot.drain(5)
    assert freed == ["b"]
    with pytest.raises(ModelError, match="not loaded"):
        slot.model("b")


def test_an_old_version_goes_while_another_is_waited_for() -> None:
    slot, gone = ModelSlot(named("a")), threading.Event()
    slot.lease("first")
    for version in ("b", "c"):
        slot.swap(lambda version=version: named(version), unload=lambda _: gone.set())  # type: ignore[misc]
        slot.lease(version)
    slot.swap(lambda: named("d"))
    slot.release("c")
    draining = threading.Thread(target=slot.drain, args=(60,))
    draining.start()
    assert gone.wait(10)
    assert slot.loaded == ("a", "b", "d"), "nobody used it"
    gone.clear()
    slot.release("b")
    assert gone.wait(10)
    assert slot.loaded == ("a", "d"), "nobody uses it any more"
    slot.release("first")
    draining.join(10)
    assert slot.loaded == ("d",)


def test_the_leases_of_lost_runs_can_be_expired() -> None:
    slot = ModelSlot(named("a"))
    slot.lease("lost")
    time.sleep(0.02)
    slot.lease("fresh")
    assert slot.expire(0.015) == ("lost",)
    assert slot.expire(60) == ()


def test_models_without_a_version_are_told_apart_by_identity() -> None:
    first, second = FakeListChatModel(responses=["1"]), FakeListChatModel(responses=["2"])
    slot = ModelSlot(first)
    before = slot.current
    assert slot.swap(lambda: first).after == before
    assert slot.swap(lambda: second).after != before
    assert slot.model(slot.current) is second


def test_runs_during_many_swaps_always_find_their_version() -> None:
    slot = ModelSlot(named("v0"))

    def run(number: int) -> bool:
        version = slot.lease(f"run {number}")
        try:
            return all(slot.model(version).invoke("?").content == version for _ in range(5))
        finally:
            slot.release(f"run {number}")

    with ThreadPoolExecutor(8) as pool:
        runs = [pool.submit(run, number) for number in range(100)]
        for number in range(20):
            slot.swap(lambda number=number: named(f"v{number}"))  # type: ignore[misc]
            slot.drain(0)
        assert all(future.result() for future in runs)
