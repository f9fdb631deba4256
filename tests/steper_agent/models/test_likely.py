"""Log-probabilities as the journal keeps them are those of a plain forward pass."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from langchain_core.messages import HumanMessage
from peft import PeftModel
from transformers import AutoModelForCausalLM

from steper_agent.errors import ModelError
from steper_agent.models.decoding import TokenChance
from steper_agent.models.likely import LEAST, likely_in, likely_of
from steper_agent.models.local import LocalChatModel

TOP = 5


@pytest.fixture(scope="module", params=["base", "student"])
def pair(request: pytest.FixtureRequest, base: Path, students: tuple[Path, Path]) -> Iterator[tuple[LocalChatModel, Any]]:
    """A model of ours, and the same one by itself."""
    torch.set_num_threads(1)
    plain: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapter = str(students[0]) if request.param == "student" else None
    if adapter:
        plain = PeftModel.from_pretrained(plain, adapter)
    model = LocalChatModel(path=str(base), adapter=adapter, max_tokens=12)
    yield model, plain.eval()
    model.engine.close()


def forward(plain: Any, prompt: tuple[int, ...], said: tuple[int, ...]) -> torch.Tensor:
    """(said, vocabulary) log-probabilities in the places of `said`."""
    with torch.no_grad():
        logits = plain(torch.tensor([[*prompt, *said]])).logits[0, len(prompt) - 1 : -1]
    return logits.float().log_softmax(-1)


def agree(chances: Any, logs: torch.Tensor, said: tuple[int, ...]) -> None:
    told = likely_of(chances, "m")
    best = logs.topk(TOP)
    assert told.tokens == said
    assert torch.allclose(torch.tensor(told.logprobs), logs.gather(1, torch.tensor(said)[:, None])[:, 0], atol=1e-3)
    assert torch.equal(torch.tensor(told.top_ids), best.indices)
    assert torch.allclose(torch.tensor(told.top_logprobs), best.values, atol=1e-3)


def test_what_a_reply_tells_of_its_tokens_is_what_a_forward_pass_finds(pair: tuple[LocalChatModel, Any]) -> None:
    model, plain = pair
    telling = model.model_copy(update={"top_logprobs": TOP})
    about = telling.invoke([HumanMessage("who wrote the book")]).response_metadata
    told = likely_in(about)
    assert told is not None
    assert told.model == model.version
    prompt, said = tuple(about["prompt_ids"]), tuple(about["output_ids"])
    chances = [TokenChance(*one) for one in zip(told.tokens, told.logprobs, (tuple(zip(*at, strict=True))
               for at in zip(told.top_ids, told.top_logprobs, strict=True)), strict=True)]  # fmt: skip
    agree(chances, forward(plain, prompt, said), said)
    assert likely_in(model.invoke([HumanMessage("who")]).response_metadata) is None


def test_a_score_of_somebody_elses_tokens_is_what_a_forward_pass_finds(pair: tuple[LocalChatModel, Any]) -> None:
    model, plain = pair
    prompt, said = tuple(range(20, 60)), tuple(range(200, 230, 3))
    chances = asyncio.run(model.ascore(prompt, said, TOP))
    agree(chances, forward(plain, prompt, said), said)


def test_a_score_of_what_the_model_wrote_is_what_it_told_when_it_wrote(pair: tuple[LocalChatModel, Any]) -> None:
    model, _ = pair
    prompt = tuple(range(20, 60))
    done = model.greedy(prompt, 8)
    chances = asyncio.run(model.ascore(prompt, done.output_ids, 2))
    for one, other in zip(likely_of(chances, "m").logprobs, likely_of(done.chances, "m").logprobs, strict=True):
        assert one == pytest.approx(other, abs=1e-3)


def test_a_turn_that_fills_the_window_is_scored_but_for_its_last_token(pair: tuple[LocalChatModel, Any]) -> None:
    model, plain = pair
    window = plain.config.max_position_embeddings
    prompt, said = tuple(10 + number % 50 for number in range(window - 4)), (200, 203, 206, 209)
    agree(asyncio.run(model.ascore(prompt, said, TOP)), forward(plain, prompt, said)[:-1], said[:-1])
    with pytest.raises(ModelError, match="window"):
        asyncio.run(model.ascore(prompt, (*said, 212), TOP))


def test_tokens_without_a_prompt_cannot_be_scored(pair: tuple[LocalChatModel, Any]) -> None:
    with pytest.raises(ModelError, match="scored"):
        asyncio.run(pair[0].ascore((), (7, 8), TOP))


def test_what_is_impossible_is_still_a_number() -> None:
    told = likely_of([TokenChance(3, float("-inf"), ((4, -0.123456),))], "m")
    assert (told.logprobs, told.top_logprobs) == ((LEAST,), ((-0.1235,),))


def test_models_that_tell_no_token_ids_tell_nothing_here() -> None:
    openai = {"logprobs": {"content": [{"token": "a", "logprob": -0.1, "top_logprobs": []}]}, "model_name": "gpt"}
    assert likely_in(openai) is None
    assert likely_in({}) is None
