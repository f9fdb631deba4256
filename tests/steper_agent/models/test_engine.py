from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, GenerationConfig

from steper_agent.errors import AdapterError, DependencyError, ModelError
from steper_agent.models.decoding import Done, Event, Piece, Request, Ticket
from steper_agent.models.engine import Engine, choose_batch
from tests.tiny import tiny_base


@pytest.fixture(scope="module")
def engine(base: Path) -> Iterator[Engine]:
    engine = Engine(base)
    yield engine
    engine.close()


def ids(engine: Engine, request: Request) -> tuple[int, ...]:
    *_, done = engine.stream(request)
    assert isinstance(done, Done)
    return done.output_ids


def prompts(count: int, seed: int = 0) -> list[tuple[int, ...]]:
    dice = random.Random(seed)
    return [tuple(dice.randrange(5, 300) for _ in range(dice.randrange(3, 60))) for _ in range(count)]


def reference(model: Any, prompt: tuple[int, ...], tokens: int) -> tuple[int, ...]:
    """Greedy decoding by the plain loop: no cache, no batch, no generate."""
    known = list(prompt)
    with torch.no_grad():
        for _ in range(tokens):
            known.append(int(model(torch.tensor([known])).logits[0, -1].argmax()))
            if known[-1] == 4:
                break
    return tuple(known[len(prompt) :])


def test_greedy_text_is_that_of_the_plain_loop_alone_and_in_a_batch(engine: Engine, base: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    requests = [Request(prompt, max_tokens=12) for prompt in prompts(10)]
    expected = [reference(model, request.prompt, 12) for request in requests]
    assert [ids(engine, request) for request in requests] == expected
    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(lambda request: ids(engine, request), requests)) == expected


def test_an_adapter_is_peft_to_the_token_and_none_is_the_bare_base(
    base: Path, students: tuple[Path, Path], engine: Engine
) -> None:
    bare = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    asked = prompts(3)
    expected = [reference(bare, prompt, 10) for prompt in asked]
    adapted = PeftModel.from_pretrained(bare, str(students[0]))
    names = [engine.load_adapter(student) for student in students]
    assert [ids(engine, Request(p, names[0], 10)) for p in asked] == [reference(adapted, p, 10) for p in asked]
    assert [ids(engine, Request(p, None, 10)) for p in asked] == expected
    assert ids(engine, Request(asked[0], names[0], 10)) != ids(engine, Request(asked[0], names[1], 10))
    for name in names:
        engine.unload_adapter(name)
    assert engine.adapters == ()
    assert [ids(engine, Request(p, None, 10)) for p in asked] == expected


def test_an_adapter_stays_until_its_last_user_leaves(students: tuple[Path, Path], engine: Engine) -> None:
    name = engine.load_adapter(students[0])
    assert engine.load_adapter(students[0]) == name
    engine.unload_adapter(name)
    assert engine.adapters == (name,)
    engine.unload_adapter(name)
    with pytest.raises(ModelError, match="not loaded"):
        ids(engine, Request((5, 6), name))


def test_switching_under_load_never_mixes_versions(students: tuple[Path, Path], engine: Engine) -> None:
    prompt = prompts(1)[0]
    names = [None, *(engine.load_adapter(student) for student in students)]
    expected = {name: ids(engine, Request(prompt, name, 8)) for name in names}
    assert len(set(expected.values())) == 3
    extra = threading.Event()

    def come_and_go() -> None:
        while not extra.is_set():
            engine.load_adapter(students[0])
            engine.unload_adapter(names[1] or "")

    mover = threading.Thread(target=come_and_go)
    mover.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            wanted = [names[at % 3] for at in range(60)]
            got = list(pool.map(lambda name: ids(engine, Request(prompt, name, 8)), wanted))
    finally:
        extra.set()
        mover.join()
    assert got == [expected[name] for name in wanted]


def test_equal_seeds_give_equal_text_whatever_runs_beside(engine: Engine) -> None:
    request = Request(prompts(1)[0], max_tokens=10, temperature=1.0, seed=3)
    alone = ids(engine, request)
    with ThreadPoolExecutor(6) as pool:
        beside = [pool.submit(ids, engine, Request(prompt, max_tokens=10)) for prompt in prompts(6)]
        same = [pool.submit(ids, engine, request) for _ in range(3)]
        torch.rand(10)
        assert all(future.result() == alone for future in same)
        assert all(future.result() for future in beside)
    assert ids(engine, Request(request.prompt, max_tokens=10, temperature=1.0, seed=4)) != alone


def test_a_cancelled_request_stops_and_the_engine_goes_on(engine: Engine) -> None:
    stream = engine.stream(Request((7, 8, 9), max_tokens=400))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert ids(engine, Request((7, 8, 9), max_tokens=3))


class Odd(Exception):
    """What nobody thought of."""


@pytest.mark.parametrize("fault", [RuntimeError("out of memory"), Odd("out of memory")], ids=lambda fault: type(fault).__name__)
def test_a_fault_inside_a_generation_reaches_the_caller_and_the_engine_lives(
    base: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    engine = Engine(base)

    def broken(*_: Any, **__: Any) -> None:
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr(engine._model, "generate", broken)
        patch.setattr(engine._adapters, "load", broken)
        with pytest.raises(ModelError, match="out of memory"):
            ids(engine, Request((5,)))
        with pytest.raises(type(fault), match="out of memory"):
            engine.load_adapter("anywhere")
    assert ids(engine, Request((5,), max_tokens=2))
    engine.close()
    with pytest.raises(ModelError, match="closed"):
        ids(engine, Request((5,)))


def test_without_peft_a_student_is_refused_with_the_cure(engine: Engine, students: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(DependencyError, match="PEFT") as missing:
        engine.load_adapter(students[0])
    assert "pip install" in missing.value.fix


def test_an_adapter_that_is_damaged_leaves_the_engine_as_it_was(engine: Engine, tmp_path: Path) -> None:
    before = ids(engine, Request((5, 6, 7), max_tokens=6))
    with pytest.raises(AdapterError):
        engine.load_adapter(tmp_path)
    assert ids(engine, Request((5, 6, 7), max_tokens=6)) == before


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (Request((5,) * 512), "512 tokens, the model's window is 512"),
        (Request(()), "nothing to do"),
        (Request((5,), max_tokens=0), "nothing to do"),
        (Request((5,), temperature=-1.0), "temperature"),
        (Request((100_000,)), "beyond the model's"),
    ],
    ids=["too long", "empty", "no tokens", "cold", "foreign token"],
)  # fmt: skip
def test_a_request_that_cannot_be_served_says_why(engine: Engine, request_: Request, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        ids(engine, request_)


def test_an_answer_ends_where_the_window_ends(engine: Engine) -> None:
    *_, done = engine.stream(Request((5,) * 508, max_tokens=50))
    assert isinstance(done, Done)
    assert len(done.output_ids) <= 4


def test_a_checkpoints_sampling_settings_do_not_bend_greedy(base: Path, engine: Engine, tmp_path: Path) -> None:
    twin = tiny_base(tmp_path / "twin")
    GenerationConfig(
        do_sample=True, temperature=1.7, top_k=3, repetition_penalty=3.0, eos_token_id=[4]
    ).save_pretrained(twin)
    other = Engine(twin)
    assert ids(other, Request((5, 6, 7), max_tokens=12)) == ids(engine, Request((5, 6, 7), max_tokens=12))
    other.close()
    assert base != twin


@pytest.mark.parametrize("spoil", ["missing", "no config", "pickle", "half", "gap"])
def test_a_folder_that_cannot_be_loaded_says_what_to_do(tmp_path: Path, spoil: str) -> None:
    folder = tiny_base(tmp_path / "base")
    weights = folder / "model.safetensors"
    if spoil == "missing":
        folder = tmp_path / "elsewhere"
    elif spoil == "no config":
        (folder / "config.json").unlink()
    elif spoil == "pickle":
        weights.rename(folder / "pytorch_model.bin")
    elif spoil == "half":
        weights.write_bytes(weights.read_bytes()[:5000])
    else:
        from safetensors.torch import load_file, save_file

        tensors = load_file(weights)
        del tensors["model.layers.0.mlp.up_proj.weight"]
        save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(ModelError) as caught:
        Engine(folder)
    assert caught.value.fix


def test_batches_keep_to_one_adapter_to_like_lengths_and_to_the_limits() -> None:
    def ticket(length: int, adapter: str | None = None, temperature: float = 0.0) -> Ticket:
        return Ticket(Request((5,) * length, adapter, temperature=temperature), ignore)

    def ignore(event: Event) -> None:
        assert isinstance(event, Piece)

    head = ticket(100)
    near, far, other, warm = ticket(110), ticket(900), ticket(100, "a"), ticket(100, None, 1.0)
    assert choose_batch(head, [near, far, other, warm], 16, 10_000) == [head, near]
    assert choose_batch(warm, [head, near], 16, 10_000) == [warm]
    assert choose_batch(head, [ticket(100) for _ in range(9)], 4, 10_000)[1:] != []
    assert len(choose_batch(head, [ticket(100) for _ in range(9)], 4, 10_000)) == 4
    assert len(choose_batch(head, [ticket(100) for _ in range(9)], 16, 350)) == 3
