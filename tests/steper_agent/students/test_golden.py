from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from steper_agent.errors import AdapterError
from steper_agent.models.decoding import Done, TokenChance
from steper_agent.models.engine import Engine
from steper_agent.models.tokens import greedy
from steper_agent.students.golden import (
    DRIFT,
    TIE,
    Divergence,
    check_golden,
    divergence,
    golden_of,
    write_golden,
)
from steper_agent.students.student import GOLDEN, check_student, content_hash, read_card, read_golden, save_student
from tests.tiny import tiny_adapter, tiny_base

PROMPTS = [tuple(range(start, start + 30)) for start in (10, 60, 110)]


def said(tokens: list[int], logprobs: list[float], margins: list[float]) -> Done:
    """A reply whose second likeliest tokens are each one id higher."""
    chances = [TokenChance(token, logprob, ((token, logprob), (token + 1, logprob - margin)))
               for token, logprob, margin in zip(tokens, logprobs, margins, strict=True)]  # fmt: skip
    return Done(tuple(tokens), "length", tuple(chances))


SAID = said([5, 6], [-0.1, -0.2], [1.0, 1.0])
replies = st.lists(st.tuples(st.integers(0, 99), st.floats(-2, 0), st.floats(0, 5)), min_size=1, max_size=12)


@given(replies)
def test_a_reply_agrees_with_itself(reply: list[tuple[int, float, float]]) -> None:
    whole = said(*(list(column) for column in zip(*reply, strict=True)))  # type: ignore[arg-type]
    assert divergence(golden_of("expansion", 2, (1,), whole), whole) is None


@given(replies, st.data())
def test_the_first_other_token_is_named_unless_it_was_nearly_as_likely(reply: list[tuple[int, float, float]], data: st.DataObject) -> None:
    tokens, logprobs, margins = (list(column) for column in zip(*reply, strict=True))
    place = data.draw(st.integers(0, len(tokens) - 1))
    golden = golden_of("expansion", 2, (1,), said(tokens, logprobs, margins))  # type: ignore[arg-type]
    other = said([*tokens[:place], tokens[place] + 1, *tokens[place + 1 :]], logprobs, margins)  # type: ignore[list-item, arg-type, operator]
    found = divergence(golden, other)
    third = said([*tokens[:place], tokens[place] + 2, *tokens[place + 1 :]], logprobs, margins)  # type: ignore[list-item, arg-type, operator]
    assert divergence(golden, third), "nobody thought of that one"
    if golden.margins[place] <= TIE:
        assert found is None
    else:
        assert found == Divergence("expansion", 2, place, int(tokens[place]), int(tokens[place]) + 1, golden.margins[place])


def test_a_reply_that_ends_early_diverges_and_so_does_one_that_drifts() -> None:
    golden = golden_of("aggregation", 3, (1,), said([5, 6], [-0.1, -0.1], [0.0, 0.0]))
    short = divergence(golden, said([5], [-0.1], [0.0]))
    assert short
    assert (short.place, short.found) == (1, None)
    drifted = divergence(golden, said([5, 6], [-0.1, -0.2 - DRIFT], [0.0, 0.0]))
    assert drifted
    assert "nats" in str(drifted)


def test_a_student_agrees_with_its_trainer_and_a_spoilt_one_does_not(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    student = tiny_adapter(base, tmp_path / "student", 1)
    engine = Engine(base)

    class Seated:
        def __init__(self, folder: Path) -> None:
            self.name = engine.load_adapter(folder)

        def greedy(self, prompt: tuple[int, ...], max_tokens: int) -> Done:
            return greedy(engine, prompt, max_tokens, self.name)

    goldens = [golden_of("initialization", 1, prompt, Seated(student).greedy(prompt, 8)) for prompt in PROMPTS]
    name = content_hash(student)
    write_golden(student, goldens)
    assert read_golden(student) == goldens
    assert content_hash(student) != name, "what it said is part of who it is"
    check_golden(Seated(student), goldens, student)
    weights = load_file(student / "adapter_model.safetensors")
    save_file({key: torch.randn_like(tensor) for key, tensor in weights.items()}, student / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match="its trainer saw token"):
        check_golden(Seated(student), goldens, student)
    engine.close()


def test_a_damaged_file_is_named_by_its_line_and_none_is_none(tmp_path: Path) -> None:
    assert read_golden(tmp_path) == []
    whole = golden_of("aggregation", 1, PROMPTS[0], SAID)
    for broken in ("{}", whole.model_copy(update={"margins": ()}).model_dump_json()):
        (tmp_path / GOLDEN).write_text(f"{whole.model_dump_json()}\n{broken}\n")
        with pytest.raises(AdapterError) as bad:
            read_golden(tmp_path)
        assert str(bad.value.where).endswith(f"{GOLDEN}:2")


def test_a_student_whose_golden_replies_cannot_be_read_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    base = tiny_base(tmp_path / "base")
    student = tiny_adapter(base, tmp_path / "student")
    uneven = golden_of("aggregation", 1, PROMPTS[0], SAID).model_copy(update={"logprobs": ()})
    write_golden(student, [uneven])
    save_student(student, read_card(student))
    with pytest.raises(AdapterError, match="golden reply"):
        check_student(student)
