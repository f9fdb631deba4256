"""Pre-train the micro-world's base model from nothing: python -m training.microworld.pretrain --out DIR

It learns to read: single-fact look-ups and copying in always-fresh worlds (reading.py). Its card reports exact-match
look-up accuracy on worlds whose names it has never seen, because a loss alone proves nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from graphs.strategies import ircot
from graphs.strategies.layout import show
from steper_agent.durable import write_atomic
from steper_agent.errors import ConfigError
from training.loop.allocator import keep_memory
from training.microworld.growth import grow
from training.microworld.induction import DISTANCES, MATCHERS, prepare
from training.microworld.language import BY_LABEL, LANGUAGES, LITERALS, PROFESSIONS, name_words
from training.microworld.questions import make_questions
from training.microworld.reading import MOST_PASSAGES, Sheet, Shelf, make_sheet, sheets
from training.microworld.tokenizer import ASSISTANT, END, SYSTEM, USER, make_tokenizer
from training.microworld.world import make_world
from training.verb import run

CARD = "card.json"
WHAT = ("The micro-world's base model: it looks single facts up and copies, and has never seen a chain of steps. exact_match: share "
        "of answers that are right to the last token on worlds of unseen names, by passages in the context and by task.")
VOCABULARY, WIDTH, LAYERS = 2048, 128, 4
HEAD = 32
"""Width of a head."""
KEEP_EVERY = 500
"""Updates between checkpoints."""
STEP_UP = 0.95
"""Share of right answer tokens at which contexts grow by a passage."""
FULL_BY = 0.6
"""Contexts have their full size by this share of the run in any case."""
ROW_TOKENS = 3_500
"""Tokens in one update, padding included."""
SAME, OWN = 0.99, 0.15
"""Cosine at which embeddings count as one, and the standard deviation that parts them: about that of embeddings in use."""
PASSAGE_WEIGHT, PASSAGE_SHARE = 0.3, 0.3
"""Loss weight of tokens that are not answers, and the random share of them that is scored at all: logits of a whole
row cost more than the blocks do."""
MUON_RATE, ADAM_RATE = 4e-3, 1e-3
"""At a Muon rate of 0.02 a probe of four minutes learned to copy and nothing else; at 0.006 one of two minutes looked facts up."""


Accuracy = dict[str, dict[str, float]]
"""Passages in the context → task → share of answers that are right to the last token."""
Keep = Callable[[dict[str, Any], Accuracy], None]
"""Called with what `train` would return by now, and how well the model answers."""


class Rows(NamedTuple):
    ids: Tensor
    """(B, T) token ids."""
    weight: Tensor
    """(B, T) loss weight of each token as a target; 0 on padding."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.microworld.pretrain", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the model, its tokenizer and its card")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=60.0, help="training time; the schedule follows the clock (default: 60)")
    length.add_argument("--updates", type=int, help="end after so many instead: the schedule follows them, however busy the machine is")
    parser.add_argument("--start", type=Path, help="go on from this model instead of from nothing; it grows where --width or --layers say so")
    parser.add_argument("--width", type=int, help="of the hidden states (128, or as --start); of a model that grows, a multiple of its own")
    parser.add_argument("--layers", type=int, help="blocks (4, or as --start)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if (args.minutes if args.updates is None else args.updates) <= 0:
        raise ConfigError("there is nothing to train", where="--minutes, --updates", fix="give a number above 0")
    keep_memory()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(args.start) if args.start else build_tokenizer()
    model = (start_from(args.start, width=args.width, layers=args.layers, seed=args.seed) if args.start
             else build_model(tokenizer, width=args.width or WIDTH, layers=args.layers or LAYERS, seed=args.seed))  # fmt: skip
    if args.start:
        part_unused(model)
    before = json.loads((args.start / CARD).read_text(encoding="utf-8"))["runs"] if args.start else []
    command = shlex.join(["python", "-m", "training.microworld.pretrain", *(sys.argv[1:] if argv is None else argv)])

    def keep(ran: dict[str, Any], accuracy: Accuracy) -> None:
        save(args.out / "checkpoint", model, tokenizer)
        write_card(args.out / "checkpoint", model, accuracy, [*before, {"command": command, **ran}])

    ran = train(model, tokenizer, minutes=args.minutes, updates=args.updates, seed=args.seed, keep=keep, going_on=bool(args.start))
    part_unused(model)
    save(args.out, model.to(torch.bfloat16), tokenizer)
    accuracy = {str(passages): accuracy_by_task(model.float(), tokenizer, passages=passages) for passages in (1, 4, 8, 12)}
    write_card(args.out, model, accuracy, [*before, {"command": command, **ran}])
    print(json.dumps(accuracy))
    return 0


def save(folder: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_card(folder: Path, model: LlamaForCausalLM, accuracy: Accuracy, runs: Sequence[dict[str, Any]]) -> None:
    """With it, `--start` goes on from the folder."""
    card = {"what": WHAT, "parameters": model.num_parameters(), "exact_match": accuracy, "runs": runs}
    write_atomic(folder / CARD, json.dumps(card, indent=1) + "\n")


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The vocabulary comes from pre-training worlds and the sentence forms; each pool word is a token by count."""
    world = make_world(3000, split="pretrain", seed=999_983)
    texts = ["".join(show(q.text, world.passages[i * 3 : i * 3 + 3])) + "\n" for i, q in enumerate(make_questions(world, 1000, seed=0))]
    words = [*name_words(), *PROFESSIONS, *LANGUAGES, *LITERALS["year"]]
    forms = [form for relation in BY_LABEL.values() for form in (*relation.phrasings, f" the {relation.label} of")]
    prompts = [ircot.SYSTEM, ircot.CONCLUSION, "The passages do not say what the", "The earlier of Copy: State yes no.", "Say only the first last. It is: In short, it is:", "Are the same? They are not the same. The names are"]
    return make_tokenizer([*texts, *(f" {word}" * 60 for word in words), *forms * 30, *prompts * 60], vocabulary=VOCABULARY)


def build_model(tokenizer: PreTrainedTokenizerFast, *, width: int, layers: int, seed: int) -> LlamaForCausalLM:
    """A model with first weights to learn from.

    Raises:
        ConfigError: it has no room for the heads and layers that look things up.
    """
    narrowest, fewest = HEAD * len(DISTANCES), 1 + max(layer for layer, *_ in MATCHERS)
    if width < narrowest or width % HEAD or layers < fewest:
        raise ConfigError(f"a model of width {width} and {layers} layers cannot look things up", where="--width, --layers",
                          fix=f"give a multiple of {HEAD}, at least {narrowest}, and at least {fewest} layers")
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers,
        num_attention_heads=width // HEAD, num_key_value_heads=width // HEAD, max_position_embeddings=4096, attention_bias=True,
        tie_word_embeddings=True, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    prepare(model)
    return model


def start_from(folder: Path, *, width: int | None, layers: int | None, seed: int) -> LlamaForCausalLM:
    """The model in `folder`, grown where another width or number of layers is wanted."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    wanted = (width or model.config.hidden_size, layers or model.config.num_hidden_layers)
    if wanted == (model.config.hidden_size, model.config.num_hidden_layers):
        return model
    return grow(model, width=wanted[0], layers=wanted[1], seed=seed)


@torch.no_grad()
def part_unused(model: LlamaForCausalLM) -> int:
    """Give each token that practice never used a direction of its own; how many there were.

    Every update pushes them the same way, until they are one point that no adapter could part again: a student of a
    new strategy would know that one of them comes next and never which.
    """
    rows = model.get_input_embeddings().weight
    unit = torch.nn.functional.normalize(rows.float(), dim=1)
    alike = unit @ unit.T > SAME
    unused = alike.sum(dim=1) > 2
    noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(0)) * OWN
    rows[unused] += noise[unused].to(rows.dtype)
    return int(unused.sum())


def encode_sheet(sheet: Sheet, tokenizer: PreTrainedTokenizerFast) -> tuple[list[int], list[float]]:
    """Token ids and loss weights of one conversation: 1 on what the assistant says, PASSAGE_WEIGHT elsewhere."""
    ids: list[int] = []
    weights: list[float] = []

    def add(text: str, weight: float) -> None:
        new = tokenizer.encode(text, add_special_tokens=False)
        ids.extend(new)
        weights.extend([weight] * len(new))

    add(f"{SYSTEM}{ircot.SYSTEM}{END}", 0.0)
    for turn in sheet.turns:
        add(f"{USER}{turn.asked}{END}{ASSISTANT}", PASSAGE_WEIGHT)
        for line in turn.answered.splitlines(keepends=True):
            add(line, 1.0)
        add(END, 1.0)
    return ids, weights


def pad(rows: list[tuple[list[int], list[float]]], pad_id: int) -> Rows:
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), longest), pad_id)
    weight = torch.zeros(len(rows), longest)
    for number, (row, weights) in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        weight[number, : len(row)] = torch.tensor(weights)
    return Rows(ids, weight)


class Curriculum:
    """Contexts grow from one passage to many, one more whenever nearly all answers of the last updates were right:
    looking up is learned suddenly, and only where the context is short."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *, seed: int, most: int = 1) -> None:
        self.most = most
        self._recent = 0.0
        self._tokenizer = tokenizer
        self._rng = random.Random(seed)
        self._streams = [sheets(seed=seed * 100 + n, passages=n) for n in range(MOST_PASSAGES + 1)]
        self._batches: list[Rows] = []

    def next(self) -> Rows:
        """About ROW_TOKENS tokens, sheets of like length together."""
        if not self._batches:
            pool = [encode_sheet(next(self._streams[self.most]), self._tokenizer) for _ in range(64)]
            pool.sort(key=lambda row: len(row[0]))
            self._batches = [pad(batch, self._tokenizer.pad_token_id) for batch in _by_tokens(pool)]
            self._rng.shuffle(self._batches)
        return self._batches.pop()

    def judge(self, right: float, progress: float) -> None:
        """`right`: share of answer tokens that were right in this update; `progress`: share of the run that is over."""
        self.most = max(self.most, min(MOST_PASSAGES, int(MOST_PASSAGES * progress / FULL_BY)))
        self._recent = 0.95 * self._recent + 0.05 * right
        if self._recent > STEP_UP and self.most < MOST_PASSAGES:
            self.most, self._recent = self.most + 1, self._recent - 0.02


def _by_tokens(pool: list[tuple[list[int], list[float]]]) -> Iterator[list[tuple[list[int], list[float]]]]:
    batch: list[tuple[list[int], list[float]]] = []
    for row in pool:
        if batch and (len(batch) + 1) * len(row[0]) > ROW_TOKENS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def token_losses(model: LlamaForCausalLM, rows: Rows, scored: Tensor) -> tuple[Tensor, Tensor]:
    """Cross entropy (nats) of the scored targets, and whether each was the arg max. `scored` is (B, T-1) bool."""
    hidden = model.model(input_ids=rows.ids, use_cache=False).last_hidden_state[:, :-1][scored]
    logits, target = model.lm_head(hidden).float(), rows.ids[:, 1:][scored]
    return torch.nn.functional.cross_entropy(logits, target, reduction="none"), logits.argmax(-1) == target


def optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon on the matrices inside the blocks, AdamW on embeddings and norms."""
    inner = {name for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name and "lm_head" not in name}
    matrices = [p for name, p in model.named_parameters() if name in inner]
    rest = [p for name, p in model.named_parameters() if name not in inner]
    return [torch.optim.Muon(matrices, lr=MUON_RATE, weight_decay=0.01),
            torch.optim.AdamW(rest, lr=ADAM_RATE, betas=(0.9, 0.95), weight_decay=0.0)]


def rate_at(progress: float, step: int, fall: float = 0.35) -> float:
    """Warm up over 50 updates, hold, and fall to nothing over the last share `fall` of the run."""
    return min(1.0, (step + 1) / 50) * min(1.0, (1.0 - progress) / fall)


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, *, minutes: float, updates: int | None, seed: int, keep: Keep,
          going_on: bool = False) -> dict[str, Any]:  # fmt: skip
    """Train for `minutes`, or for `updates` where they are given; every few of them the model is to be kept. Going on, contexts are long
    and the rate falls from the start."""
    torch.manual_seed(seed)
    steppers = optimizers(model)
    base_rates = [s.param_groups[0]["lr"] for s in steppers]
    curriculum = Curriculum(tokenizer, seed=seed, most=MOST_PASSAGES if going_on else 1)
    start, tokens, step, shown = time.monotonic(), 0, 0, 0.0
    curve: list[dict[str, float]] = []

    def seconds() -> float:
        return time.monotonic() - start

    def ran() -> dict[str, Any]:
        return {"updates": step, "tokens": tokens, "minutes": round(seconds() / 60, 2), "seed": seed, "curve": curve[:: max(1, len(curve) // 60)]}

    with Progress(TextColumn("pre-training"), BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn()) as bar:
        task = bar.add_task("", total=1.0)
        while (progress := step / updates if updates else seconds() / (minutes * 60)) < 1.0:
            rate = rate_at(progress, step, fall=1.0 if going_on else 0.35)
            for stepper, base in zip(steppers, base_rates, strict=True):
                stepper.param_groups[0]["lr"] = base * rate
            rows = curriculum.next()
            loss, right = update(model, steppers, rows)
            curriculum.judge(right, progress)
            tokens, step = tokens + rows.ids.numel(), step + 1
            if (elapsed := seconds()) - shown > 20:
                shown = elapsed
                curve.append({"seconds": round(elapsed), "tokens": tokens, "loss": loss, "token_accuracy": right, "passages": curriculum.most})
                bar.update(task, completed=progress, description=f"{step} updates, {tokens / elapsed:.0f} tok/s, answer loss {loss:.3f}")
                print(json.dumps(curve[-1]), file=sys.stderr, flush=True)
            if step % KEEP_EVERY == 0:
                probe = accuracy_by_task(model, tokenizer, passages=8, sheets=60)
                print(json.dumps({"step": step, "passages_8": probe}), file=sys.stderr, flush=True)
                keep(ran(), {"8": probe})
    return ran()


def update(model: LlamaForCausalLM, steppers: list[torch.optim.Optimizer], rows: Rows) -> tuple[float, float]:
    """One optimizer step. Returns the mean loss and the share of right tokens over the answers."""
    weight = rows.weight[:, 1:]
    scored = (weight == 1.0) | ((weight > 0) & (torch.rand(weight.shape) < PASSAGE_SHARE))
    # Without instructions for it, bfloat16 is imitated: twenty times slower than float32 where it was measured.
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        losses, right = token_losses(model, rows, scored)
    weight = weight[scored]
    ((losses * weight).sum() / weight.sum()).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for stepper in steppers:
        stepper.step()
        stepper.zero_grad(set_to_none=True)
    answers = weight == 1.0
    return float(losses.detach()[answers].mean()), float(right[answers].float().mean())


@torch.no_grad()
def accuracy_by_task(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, *, passages: int, sheets: int = 200) -> dict[str, float]:
    """Share of answers reproduced exactly on worlds of the test split. The arg max of every answer token given the
    right ones before it equals greedy decoding wherever the whole answer is right, so this is exact match."""
    shelf, rng = Shelf(make_world(1500, split="test", seed=77)), random.Random(passages)
    right, total = Counter[str](), Counter[str]()
    model.eval()
    for _ in range(0, sheets, 10):
        drawn = [make_sheet(shelf, passages, rng) for _ in range(10)]
        rows = pad([encode_sheet(sheet, tokenizer) for sheet in drawn], tokenizer.pad_token_id)
        answers = rows.weight[:, 1:] == 1.0
        hits = torch.zeros_like(answers)
        hits[answers] = token_losses(model, rows, answers)[1]
        for sheet, is_answer, hit in zip(drawn, answers.tolist(), hits.tolist(), strict=True):
            runs = [all(h for _, h in run) for said, run in itertools.groupby(zip(is_answer, hit, strict=True), lambda t: t[0]) if said]
            for turn, exact in zip(sheet.turns, runs, strict=True):
                total[turn.task] += 1
                right[turn.task] += exact
    model.train()
    return {task: round(right[task] / total[task], 4) for task in sorted(total)}


if __name__ == "__main__":
    sys.exit(run(main))
