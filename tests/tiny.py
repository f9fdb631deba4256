"""Smallest models that are real in every other respect: a random Llama with a byte-level BPE, a random LoRA adapter, and
an engine that writes what a test tells it, for what no random model would write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from steper_agent.models.decoding import Row
from steper_agent.models.engine import Engine
from steper_agent.records import StudentCard
from steper_agent.students.fingerprint import base_fingerprint
from steper_agent.students.student import save_student

TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
SPECIAL = ["<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
TEXT = [
    "the river flows north of the old town",
    "So the answer is: Paris.",
    "Question: who wrote the book of the town?",
]


def tiny_base(folder: Path, seed: int = 0, *, width: int = 32, layers: int = 2, window: int = 512) -> Path:
    """A random model that writes varied text; other seeds, other weights."""
    tokenizer = tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=window, tie_word_embeddings=True,
        # Wide weights keep the logits apart, so that rounding never decides which token comes first.
        initializer_range=0.3, pad_token_id=0, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    inner.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(TEXT, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<|pad|>", eos_token="<|end|>")
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def tiny_adapter(base: Path, folder: Path, seed: int = 0) -> Path:
    """A student of this base: a random LoRA adapter strong enough to change what the base writes, and its card."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
            LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM",
                       init_lora_weights=False),
        )  # fmt: skip
    model.save_pretrained(str(folder))
    save_student(folder, tiny_card(base))
    return folder


def tiny_card(base: Path, form: str = "adapter") -> StudentCard:
    return StudentCard.model_validate({
        "name": "", "content": "", "base": base_fingerprint(base), "form": form, "target": "cumulative",
        "view": "stepwise", "data": "none", "sigma": {}, "weighting": "uniform", "parameters": 1, "created_by": "test",
    })  # fmt: skip


class ScriptedEngine(Engine):
    """Writes what `says` makes of a prompt, token by token; where that is None, the model writes. Queue, decoding, stop
    strings and limits are the real ones."""

    def __init__(self, path: str | Path, says: Callable[[str], str | None], **settings: Any) -> None:
        self._says = says
        super().__init__(path, **settings)

    def _run(self, rows: list[Row]) -> None:
        unscripted = [row for row in rows if not self._write(row)]
        if unscripted:
            super()._run(unscripted)

    def _write(self, row: Row) -> bool:
        text = self._says(self.tokenizer.decode(row.ticket.request.prompt))
        if text is not None:
            for token in [*self.tokenizer.encode(text, add_special_tokens=False), self.tokenizer.eos_token_id]:
                row.take(token)
        return text is not None
