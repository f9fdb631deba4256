"""Trajectories a second in training, ours beside TRL's SFTTrainer: python benchmarks/training_throughput.py --json FILE

Both train all weights of one random Qwen2 on one set of trajectories with AdamW, in child processes that take turns on the same
machine; every update holds the whole set, so that both losses are of the same examples and must stay equal. A trajectory has
`steps` examples, k passages of 130 tokens more each, then the question and the rationales so far; every step's own 30 tokens are
learned. TRL's mean over tokens is then our mean over examples, and the weights fixed:3/S,… make our objective that mean.

TRL runs in each configuration that could be its fastest here; the best one is the peer. Its packing and its padding-free batches
need FlashAttention: without it examples of one row would see each other. Neither side recomputes activations, and both keep
freed memory, which helps TRL as well.

For a GPU: --device cuda --size 1b (or 8b) --dtype bfloat16. It has been run on CPUs only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from steper_agent.records import Example
from training.verb import quiet_libraries, versions

PASSAGE, QUESTION, RATIONALE, HEAD = 130, 20, 30, 40
"""Tokens; HEAD: of the system prompt that all share."""
SIZES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512},
    "28m": {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 8192},
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32768},
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32768},
}  # fmt: skip


def trajectories(count: int, steps: int, k: int, samples: int, vocabulary: int) -> list[list[Example]]:
    """`samples` of each question: they have the first step's passages in common, as a teacher asked several times has."""
    rng = random.Random(0)

    def words(size: int) -> tuple[int, ...]:
        return tuple(rng.randrange(2, vocabulary) for _ in range(size))

    head, made = words(HEAD), []
    for number in range(count):
        if number % samples == 0:
            question, first = words(QUESTION), words(k * PASSAGE)
        passages, rationales, examples = head + first, (), []
        for step in range(1, steps + 1):
            passages += words(k * PASSAGE) if step > 1 else ()
            prompt, said = passages + question + rationales, words(RATIONALE)
            rationales += said
            kind = "aggregation" if step == steps else "initialization" if step == 1 else "expansion"
            examples.append(Example(trajectory=number, kind=kind, step=step, ids=prompt + said, learn=(0,) * len(prompt) + (1,) * RATIONALE,
                                    turn=len(prompt)))  # fmt: skip
        made.append(examples)
    return made


def arguments(args: argparse.Namespace, place: str, **more: Any) -> dict[str, Any]:
    """What both trainers are told alike."""
    return {"output_dir": place, "num_train_epochs": args.updates, "learning_rate": 1e-4, "weight_decay": 0.0, "max_grad_norm": 0.0,
            "lr_scheduler_type": "cosine", "bf16": args.dtype == "bfloat16", "use_cpu": args.device == "cpu", "save_strategy": "no", "report_to": "none",
            "disable_tqdm": True, "seed": 0, "dataloader_pin_memory": False, "gradient_checkpointing": False, **more}  # fmt: skip


def model_of(args: argparse.Namespace) -> Any:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(**SIZES[args.size], max_position_embeddings=32768, tie_word_embeddings=True, pad_token_id=0, eos_token_id=1, bos_token_id=None)
    return Qwen2ForCausalLM._from_config(config, attn_implementation="sdpa").to(args.device)


def ours(args: argparse.Namespace, made: list[list[Example]], place: str) -> tuple[list[float], list[float]]:
    """Loss (mean over examples) and seconds of every update."""
    from transformers import TrainingArguments

    from training.examples.dataset_folder import Dataset
    from training.loop.curve import Curve
    from training.loop.student_model import packing_for
    from training.loop.trainer import Objective, StepERTrainer

    model = model_of(args)
    packing, reason = packing_for(model, "trees", made)
    assert not reason
    told = TrainingArguments(**arguments(args, place, per_device_train_batch_size=len(made), remove_unused_columns=False))
    weighting = "fixed:" + ",".join([str(3 / args.steps)] * 3)
    trainer = StepERTrainer(model, told, Dataset(made, [str(number // args.samples) for number in range(len(made))]),
                            Objective(weighting, 0.02, packing, 0), Curve(Path(place) / "curve.jsonl"))  # fmt: skip
    trainer.train_from(None)
    points = trainer.curve.read()
    seconds = [after - before for before, after in zip([0.0, *(p.seconds for p in points)], [p.seconds for p in points], strict=False)]
    return [sum(point.loss.values()) / args.steps for point in points], seconds


def peer(args: argparse.Namespace, made: list[list[Example]], place: str) -> tuple[list[float], list[float]]:
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    examples = [example for trajectory in made for example in trajectory]
    rows = [{"input_ids": list(e.ids), "labels": [id if learn else -100 for id, learn in zip(e.ids, e.learn, strict=True)]} for e in examples]
    clock = [time.perf_counter()]

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            clock.append(time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.append(time.perf_counter())

    told = SFTConfig(**arguments(args, place, per_device_train_batch_size=args.batch, gradient_accumulation_steps=len(rows) // args.batch,
                                 max_length=None, logging_steps=1, train_sampling_strategy="group_by_length"))  # fmt: skip
    trainer = SFTTrainer(model_of(args), told, train_dataset=Dataset.from_list(rows), processing_class=tokenizer(), callbacks=[Clock()])
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert len(losses) == args.updates, "an update holds all trajectories"
    return losses, [end - start for start, end in zip(clock[1::2], clock[2::2], strict=True)]


def tokenizer() -> Any:
    """TRL wants one; nothing is tokenized."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"pad": 0, "end": 1}, "pad")), pad_token="pad", eos_token="end")


def child(args: argparse.Namespace) -> None:
    """One side, in a process of its own: its peak memory is no other's."""
    import torch

    from training.loop.allocator import keep_memory

    quiet_libraries()
    keep_memory()
    made = trajectories(args.trajectories, args.steps, args.k, args.samples, SIZES[args.size]["vocab_size"])
    with tempfile.TemporaryDirectory(prefix="steper-train-") as place:
        losses, seconds = (ours if args.side == "ours" else peer)(args, made, place)
    peak = torch.cuda.max_memory_allocated() / 2**30 if args.device == "cuda" else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"losses": losses, "seconds": seconds, "peak_gb": peak}))


def measured(args: argparse.Namespace, side: str, **changes: Any) -> dict[str, Any]:
    """What a child tells. The first update is left out of its pace: it warms up."""
    told = {"size": args.size, "steps": args.steps, "k": args.k, "samples": args.samples, "trajectories": args.trajectories, "updates": args.updates,
            "dtype": args.dtype, "device": args.device, "side": side, "batch": 1, **changes}  # fmt: skip
    words = [word for name, value in told.items() for word in (f"--{name}", str(value))]
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "TRL_EXPERIMENTAL_SILENCE": "1"})  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"per_s": told["trajectories"] / statistics.median(found["seconds"][1:]), **found}


def beside(args: argparse.Namespace, peers: Sequence[int], rounds: int = 1, **changes: Any) -> dict[str, Any]:
    """Both sides, taking turns; of TRL's configurations the fastest one."""
    taken = [(measured(args, "ours", **changes), {batch: measured(args, "peer", batch=batch, **changes) for batch in peers}) for _ in range(rounds)]
    pace = {batch: statistics.median(theirs[batch]["per_s"] for _, theirs in taken) for batch in peers}
    best = max(pace, key=lambda batch: pace[batch])
    mine, theirs = [one for one, _ in taken], [others[best] for _, others in taken]
    ours_per_s = statistics.median(one["per_s"] for one in mine)
    return {
        "ratio": ours_per_s / pace[best], "ours_per_s": ours_per_s, "peer_per_s": pace[best], "peer": f"TRL's SFTTrainer, {best} rows a pass", "rows_a_pass": best,
        "peers_per_s": pace, "loss_ours": mine[0]["losses"][-1], "loss_peer": theirs[0]["losses"][-1],
        "peak_gb_ours": max(one["peak_gb"] for one in mine), "peak_gb_peer": min(one["peak_gb"] for one in theirs),
    }  # fmt: skip


def told(name: str, found: dict[str, Any]) -> None:
    print(f"{name:<24} {found['ratio']:.2f} x: {found['ours_per_s']:.3f} and {found['peer_per_s']:.3f} trajectories/s ({found['peer']}), "
          f"loss {found['loss_ours']:.5f} and {found['loss_peer']:.5f}, peak {found['peak_gb_ours']:.2f} and {found['peak_gb_peer']:.2f} GB", flush=True)


def curves() -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """The points to measure beside the first, and how each differs from it."""
    yield "dtype", "bfloat16", {"dtype": "bfloat16"}
    yield from (("by_steps", steps, {"steps": steps, "trajectories": 1}) for steps in range(2, 9))
    yield from (("by_samples", samples, {"samples": samples, "trajectories": samples}) for samples in (1, 2, 3, 4))


def keep(path: Path | None, found: dict[str, Any]) -> None:
    if path:
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--size", choices=SIZES, default="28m", help="of the Qwen2 (default: 28m)")
    parser.add_argument("--steps", type=int, default=5, help="S (default: 5)")
    parser.add_argument("--k", type=int, default=4, help="passages a step (default: 4)")
    parser.add_argument("--samples", type=int, default=1, help="trajectories of one question (default: 1)")
    parser.add_argument("--trajectories", type=int, default=2, help="in an update (default: 2)")
    parser.add_argument("--updates", type=int, default=3, help="the first is not timed (default: 3)")
    parser.add_argument("--rounds", type=int, default=2, help="of both sides (default: 2)")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--curves", action="store_true", help="also S = 2…8 and 1…4 samples a question, and bfloat16")
    parser.add_argument("--side", choices=["ours", "peer"], help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, default=1, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        child(args)
        return 0
    found: dict[str, Any] = {"command": f"python {' '.join(sys.argv)}", "versions": versions()}
    # A row a pass, which pads nothing, or as many rows of like length as a trajectory has steps; the rest is accumulated.
    found |= beside(args, (1, args.steps), args.rounds)
    told(f"S = {args.steps}, {args.dtype}", found)
    keep(args.json, found)
    for name, value, changes in curves() if args.curves else ():
        # With the configuration that was TRL's best.
        point = beside(args, [found["rows_a_pass"]], **changes)
        found.setdefault(name, {})[value] = point
        told(f"{name} {value}", point)
        keep(args.json, found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
