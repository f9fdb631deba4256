"""The base model that is shipped: what its card says holds, and it is small, safe to load and no reasoner."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from steper_agent.models.local import LocalChatModel
from steper_agent.students.weights import count_parameters
from training.microworld import BASE
from training.microworld.pretrain import accuracy_by_task, part_unused

CARD = json.loads((BASE / "card.json").read_text(encoding="utf-8"))


def test_the_weights_are_bf16_and_as_many_as_the_card_says() -> None:
    with safe_open(str(BASE / "model.safetensors"), framework="pt") as tensors:
        assert {tensors.get_slice(name).get_dtype() for name in tensors.keys()} == {"BF16"}  # noqa: SIM118
    assert count_parameters(BASE) == CARD["parameters"]


@pytest.mark.parametrize("passages", [4, 12])
def test_it_looks_up_and_repeats_as_well_as_its_card_says(passages: int) -> None:
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    found = accuracy_by_task(model, AutoTokenizer.from_pretrained(BASE), passages=passages, sheets=30)
    for task in ("look-up", "shorten"):
        assert found[task] == pytest.approx(CARD["exact_match"][str(passages)][task], abs=0.04)


def test_no_tokens_share_one_embedding() -> None:
    """An adapter cannot part what the base has made one point, and a strategy's words may be made of any token."""
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    assert part_unused(model) == 0


def test_tokens_that_became_one_are_parted_and_the_others_left_alone() -> None:
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    rows = model.get_input_embeddings().weight
    with torch.no_grad():
        rows[10:20] = rows[10]
    before = rows.detach().clone()
    assert part_unused(model) == 10
    assert part_unused(model) == 0
    kept = [n for n in range(len(rows)) if not 10 <= n < 20]
    assert torch.equal(rows[kept], before[kept])


def test_it_opens_as_a_chat_model_and_goes_on_with_its_own_turn() -> None:
    model = LocalChatModel(path=str(BASE), max_tokens=24, stop=["\n"])
    asked = "[1] Baldor Zimkin: Baldor Zimkin is a person. Baldor Zimkin was born in Tostel Hivrin.\n\n" \
            "Question: What is the birthplace of Baldor Zimkin?"
    reply = model.invoke([("system", ""), ("human", asked), ("ai", "The birthplace of Baldor Zimkin is")])
    assert reply.text.strip() == "Tostel Hivrin."
