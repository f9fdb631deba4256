"""A byte-level BPE made from the micro-world's own texts, in which every name word and year is one token."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PAD, SYSTEM, USER, ASSISTANT, END = "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def make_tokenizer(
    texts: Iterable[str], *, vocabulary: int, like: PreTrainedTokenizerFast | None = None
) -> PreTrainedTokenizerFast:
    """Train a tokenizer with a chat template on `texts`; any other text still encodes, byte by byte.

    `like`: parts text into words as this one does. transformers opens the tokenizer beside a Qwen2 model with Qwen2's own
    way of parting, whatever was saved, so a tokenizer made for one must part like it from the start.
    """
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if like is not None:
        inner.pre_tokenizer = like.backend_tokenizer.pre_tokenizer
        inner.normalizer = like.backend_tokenizer.normalizer
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, SYSTEM, USER, ASSISTANT, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token=PAD, eos_token=END)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
