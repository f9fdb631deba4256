"""A base from nothing has the asked size, speaks its corpus's bytes, and has a chat template."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from steper_agent.errors import ConfigError
from training.fresh import FreshConfig, make, parse_count, shape_for


@pytest.mark.parametrize("wanted", [500_000, 5_000_000, 100_000_000])
def test_the_shape_comes_near_the_asked_size(wanted: int) -> None:
    layers, width = shape_for(wanted, 4096)
    assert 4096 * width + layers * 13 * width * width == pytest.approx(wanted, rel=0.1)


def test_a_fresh_base_loads_and_speaks_any_text(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    corpus = tmp_path / "corpus.jsonl"
    lines = [{"id": f"p{n}", "title": f"Title {n}", "text": f"The river number {n} flows north."} for n in range(50)]
    corpus.write_text("".join(json.dumps(line) + "\n" for line in lines))
    count = make(FreshConfig(corpus=corpus, out=tmp_path / "base", parameters="200K", vocabulary=400))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert model.config.model_type == "qwen2"
    assert sum(p.numel() for p in model.parameters()) == count == pytest.approx(200_000, rel=0.3)
    made = Tokenizer.from_file(str(tmp_path / "base" / "tokenizer.json"))
    for text in ("Österreich 東京", "The river number 1999 flows north; it's 12 o'clock."):
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert tokenizer.encode(text) == made.encode(text).ids
    assert tokenizer.chat_template


@pytest.mark.parametrize("text", ["", "five", "-5M", "0"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="no number of parameters"):
        parse_count(text)
