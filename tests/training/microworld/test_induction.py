"""First weights: heads look a fixed distance back, nothing overflows, and a short run leaves a model that loads."""

from __future__ import annotations

import itertools
import json
import random
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from graphs.strategies import ircot
from steper_agent.errors import ConfigError
from training.microworld import pretrain
from training.microworld.induction import DISTANCES, MATCHERS
from training.microworld.reading import MOST_PASSAGES, Shelf, make_sheet
from training.microworld.tokenizer import ASSISTANT, END, USER
from training.microworld.world import make_world

LENGTH = 48


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return pretrain.build_tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    made = pretrain.build_model(tokenizer, width=128, layers=4, seed=0)
    made.set_attn_implementation("eager")
    return made.eval()


def random_ids(model: LlamaForCausalLM, rows: int = 4) -> torch.Tensor:
    return torch.randint(5, model.config.vocab_size, (rows, LENGTH), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def attention(model: LlamaForCausalLM, ids: torch.Tensor, layer: int, head: int) -> torch.Tensor:
    """(B, T, T): from each token, to each token."""
    return model(input_ids=ids, output_attentions=True).attentions[layer][:, head]


@pytest.mark.parametrize(("head", "distance"), list(enumerate(DISTANCES)))
def test_a_head_of_the_first_layer_looks_its_distance_back(model: LlamaForCausalLM, head: int, distance: int) -> None:
    back = attention(model, random_ids(model), 0, head).diagonal(-distance, dim1=1, dim2=2)
    assert back.mean() > 0.8
    assert back.min() > 0.4


@pytest.mark.parametrize(("layer", "head", "source"), MATCHERS)
def test_a_matching_head_finds_what_came_after_the_same_token(
    model: LlamaForCausalLM, layer: int, head: int, source: int
) -> None:
    once = random_ids(model)[:, : LENGTH // 2]
    ids, others = torch.cat([once, once], dim=1), {0, 1, 2, 3} - {number for at, number, _ in MATCHERS if at == layer}
    after = DISTANCES[source] - LENGTH // 2
    found = [attention(model, ids, layer, number).diagonal(after, dim1=1, dim2=2).mean() for number in (head, *others)]
    assert found[0] > 3 * max(found[1:])


def test_the_prepared_model_is_finite_and_seeded(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    ids = random_ids(model)
    with torch.no_grad():
        logits = model(input_ids=ids).logits
    assert torch.isfinite(logits).all()
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    again = pretrain.build_model(tokenizer, width=128, layers=4, seed=0)
    other = pretrain.build_model(tokenizer, width=128, layers=4, seed=1)
    weights = [made.model.layers[1].self_attn.q_proj.weight for made in (model, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(("width", "layers"), [(64, 4), (100, 4), (0, 4), (128, 2)])
def test_a_shape_without_room_for_the_heads_is_refused(tokenizer: PreTrainedTokenizerFast, width: int, layers: int) -> None:
    with pytest.raises(ConfigError, match=r"cannot look things up(.|\n)*multiple of 32, at least 128, and at least 3 layers"):
        pretrain.build_model(tokenizer, width=width, layers=layers, seed=0)
    pretrain.build_model(tokenizer, width=160, layers=3, seed=0)


def test_only_what_the_assistant_says_has_full_weight(tokenizer: PreTrainedTokenizerFast) -> None:
    sheet = make_sheet(Shelf(make_world(150, split="pretrain", seed=1)), 3, random.Random(2))
    ids, weights = pretrain.encode_sheet(sheet, tokenizer)
    learned = tokenizer.decode([id for id, weight in zip(ids, weights, strict=True) if weight == 1.0])
    assert learned == "".join(f"{turn.answered}{END}" for turn in sheet.turns)
    whole = tokenizer.decode(ids)
    assert whole.endswith("".join(f"{USER}{t.asked}{END}{ASSISTANT}{t.answered}{END}" for t in sheet.turns))
    rows = pretrain.pad([(ids, weights), (ids[:5], weights[:5])], tokenizer.pad_token_id)
    assert rows.ids[1, 5:].eq(tokenizer.pad_token_id).all()
    assert rows.weight[1, 5:].eq(0).all()


def test_contexts_only_grow_and_reach_their_full_size(tokenizer: PreTrainedTokenizerFast) -> None:
    curriculum = pretrain.Curriculum(tokenizer, seed=0)
    sizes = []
    for update in range(200):
        curriculum.judge(0.0, update / 200)
        sizes.append(curriculum.most)
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (1, MOST_PASSAGES)
    eager = pretrain.Curriculum(tokenizer, seed=0)
    for _ in range(70):
        eager.judge(1.0, 0.0)
    assert 1 < eager.most < MOST_PASSAGES


def test_the_rate_warms_up_holds_and_falls_to_nothing() -> None:
    assert pretrain.rate_at(0.0, 0) == pytest.approx(0.02)
    assert pretrain.rate_at(0.3, 500) == 1.0
    assert pretrain.rate_at(0.825, 500) == pytest.approx(0.5)
    assert pretrain.rate_at(1.0, 500) == 0.0


@pytest.mark.parametrize(("right", "share"), [(1.0, 1.0), (0.0, 0.0), (0.9, None)])
def test_an_answer_counts_only_when_all_of_it_is_right(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch,
    right: float, share: float | None
) -> None:
    def judged(_model: object, _rows: object, scored: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        count = int(scored.sum())
        return torch.zeros(count), torch.rand(count, generator=torch.Generator().manual_seed(0)) < right

    monkeypatch.setattr(pretrain, "token_losses", judged)
    found = pretrain.accuracy_by_task(model, tokenizer, passages=2, sheets=10)
    assert "look-up" in found
    assert all(each == share for each in found.values()) if share is not None else 0 < found["look-up"] < 0.6


@pytest.mark.timeout(600)
def test_seconds_of_training_leave_a_model_that_loads(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    measured = pretrain.accuracy_by_task

    @cache
    def once(made: LlamaForCausalLM) -> dict[str, float]:
        return measured(made, tokenizer, passages=1, sheets=10)

    monkeypatch.setattr(pretrain, "build_tokenizer", lambda: tokenizer)
    monkeypatch.setattr(pretrain, "ROW_TOKENS", 600)
    monkeypatch.setattr(pretrain, "KEEP_EVERY", 1)
    monkeypatch.setattr(pretrain, "accuracy_by_task", lambda made, *_, **__: once(made))
    assert pretrain.main(["--out", str(tmp_path / "one"), "--minutes", "0.02"]) == 0
    assert pretrain.main(["--start", str(tmp_path / "one"), "--out", str(tmp_path / "two"), "--minutes", "0.01"]) == 0
    for name, runs in (("one", 1), ("two", 2)):
        card = json.loads((tmp_path / name / "card.json").read_text())
        assert set(card["exact_match"]) == {"1", "4", "8", "12"}
        assert all(0 <= share <= 1 for shares in card["exact_match"].values() for share in shares.values())
        assert [run["updates"] >= 1 for run in card["runs"]] == [True] * runs
        assert "--minutes 0.02" in card["runs"][0]["command"]
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / name)
        assert sum(parameter.numel() for parameter in loaded.parameters()) == card["parameters"]
        assert all(torch.isfinite(parameter).all() for parameter in loaded.parameters())
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == card["exact_match"]
    assert pretrain.main(["--start", str(tmp_path / "two" / "checkpoint"), "--out", str(tmp_path / "three"), "--minutes", "0.01"]) == 0
    kept, last = (json.loads((tmp_path / name / "card.json").read_text()) for name in ("two/checkpoint", "three"))
    assert (set(kept["exact_match"]), len(kept["runs"]), len(last["runs"])) == ({"8"}, 2, 3)


def test_as_many_updates_as_were_asked_for_make_the_same_model_again(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain, "ROW_TOKENS", 600)
    monkeypatch.setattr(pretrain, "accuracy_by_task", lambda *_, **__: {})
    pretrain.save(tmp_path / "start", model, tokenizer)
    pretrain.write_card(tmp_path / "start", model, {}, [])

    def made(name: str, *, seconds: float) -> bytes:
        """`seconds`: between two looks at the clock."""
        monkeypatch.setattr(pretrain, "time", SimpleNamespace(monotonic=itertools.count(0.0, seconds).__next__))
        assert pretrain.main(["--start", str(tmp_path / "start"), "--out", str(tmp_path / name), "--updates", "3"]) == 0
        (ran,) = json.loads((tmp_path / name / "card.json").read_text())["runs"]
        assert ran["updates"] == 3
        return (tmp_path / name / "model.safetensors").read_bytes()

    assert made("idle", seconds=0.1) == made("busy", seconds=1000.0)


@pytest.mark.parametrize("length", [("--updates", "0"), ("--minutes", "0"), ("--updates", "-3")])
def test_a_run_of_nothing_is_refused(tmp_path: Path, length: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match="nothing to train"):
        pretrain.main(["--out", str(tmp_path / "none"), *length])


def test_the_tokenizer_is_the_same_after_it_was_saved_with_its_model(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    read = AutoTokenizer.from_pretrained(tmp_path)
    for text in (" the mother of", "Which is earlier, 1999 or 1901?", ircot.SYSTEM, "It's 12 o'clock.\n"):
        assert read.encode(text) == tokenizer.encode(text)
    assert read.chat_template == tokenizer.chat_template
