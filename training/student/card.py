"""A student's README.md in the format of Hugging Face: what it is, what it was taught, how to run it and how to check it.

It is no part of what the student is: neither name nor content hash know of it, and no path of this machine is in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple

from steper_agent.durable import write_atomic
from steper_agent.plain import plain
from steper_agent.records import KINDS, StudentCard
from training.examples.dataset_folder import DatasetCard
from training.loop.curve import CurvePoint

README = "README.md"
TOLD = ("method", "rank", "alpha", "learning_rate", "epochs", "max_steps", "batch", "weighting", "kl", "sigma_rate", "warmup", "clip", "bf16", "seed")
"""Settings that shape the student."""
ADAPTER = "A LoRA adapter on"
PLOTS = "Curves: `loss.png` and `sigma.png` in the run's folder, beside this one.\n\n![loss](../loss.png) ![σ](../sigma.png)"


class Taught(NamedTuple):
    student: StudentCard
    base: Path
    data: DatasetCard
    settings: Mapping[str, Any]
    curve: Sequence[CurvePoint]
    warnings: Sequence[str]


def write_model_card(folder: Path, taught: Taught) -> None:
    write_atomic(folder / README, model_card(taught))


def model_card(taught: Taught) -> str:
    """The whole README.md."""
    parts = (_head(taught), _what(taught), _data(taught.data), _training(taught), _scores(taught.student), _use(taught.student.form), _limits(taught))
    return "\n".join(parts)


def merged_card(adapter: Path, student: StudentCard) -> str:
    """Of the full weights that an adapter was merged into, from the adapter's own README.md: what that says of its making stays true, and
    what it says of its folder and its use is said anew."""
    path = adapter / README
    told = path.read_text(encoding="utf-8") if path.is_file() else ""
    before = json.loads((adapter / "student.json").read_text(encoding="utf-8"))["name"]
    _, head, body = told.split("---\n", 2) if told.startswith("---\n") else ("", "", told)
    lines = [line for line in head.splitlines() if line not in ("library_name: peft", "- lora")]
    merged = "\n".join(["---", "library_name: transformers", *lines, "---"])
    body = body.replace(f"# {before}", f"# {student.name}\n\n`{before}` added into a copy of its base: the whole model, to be run without PEFT.", 1)
    body = body.replace(f"{PLOTS}\n\n", "").replace(ADAPTER, "It was made as a LoRA adapter on", 1).replace(_use("adapter"), _use("full"))
    return f"{merged}\n{body or f'# {student.name}'}"


def _head(taught: Taught) -> str:
    is_adapter = taught.student.form == "adapter"
    tags = ["steper", "knowledge-distillation", "multi-step-retrieval", "question-answering", *(["lora"] if is_adapter else [])]
    return "\n".join([
        "---", f"base_model: {_quoted(taught.base.resolve().name)}", f"library_name: {'peft' if is_adapter else 'transformers'}",
        "pipeline_tag: text-generation", "tags:", *(f"- {tag}" for tag in tags), "datasets:", f"- sha256-{taught.data.digest}", "---", "",
    ])  # fmt: skip


def _what(taught: Taught) -> str:
    student, base = taught.student, _line(taught.base.resolve().name)
    form = ADAPTER if student.form == "adapter" else "All weights of"
    return (f"# {student.name}\n\n{form} `{base}` ({student.parameters:,} trained parameters), taught to answer questions in steps: form a query, "
            f"retrieve, reason, look again, answer (StepER, https://arxiv.org/abs/2510.07923).\n\n"
            f"Its base has the fingerprint `{student.base}`; with any other it is refused.\n")


def _data(data: DatasetCard) -> str:
    kept = data.trajectories
    dropped = [(reason, count) for reason, count in kept.items() if reason not in ("read", "kept")]
    return "\n".join([
        "## What it was taught", "",
        f"{kept.get('kept', 0):,} of {kept.get('read', 0):,} trajectories of a teacher, view {data.view}, target {data.target}: "
        f"{data.tokens:,} tokens, {data.learned_tokens:,} of them learned. Data set `{data.digest}`.", "",
        _table(("left out because", "trajectories"), dropped or [("nothing", 0)]), "",
        _table(("kind", "examples"), [(kind, data.examples.get(kind, 0)) for kind in KINDS]), "",
        _table(("journal", "SHA-256"), [(part.path.name, part.digest) for part in data.journals]), "",
    ])  # fmt: skip


def _training(taught: Taught) -> str:
    last = taught.curve[-max(1, len(taught.curve) // 10) :]
    losses = {kind: [point.loss[kind] for point in last if kind in point.loss] for kind in KINDS}
    rows = [(kind, f"{fmean(losses[kind]):.4f}" if losses[kind] else "–", f"{taught.student.sigma.get(kind, 1.0):.4f}") for kind in KINDS]
    settings = [(name, taught.settings[name]) for name in TOLD if name in taught.settings]
    kl = "Beside it, with the weight `kl`, the divergence from the teacher's own log-probabilities. " if taught.settings.get("kl") else ""
    told = ["", "The run told against itself:", "", *(f"- {_line(words)}" for words in taught.warnings)] if taught.warnings else []
    return "\n".join([
        "## How", "",
        "Cross entropy of each step's own target, the mean over its tokens, summed by kind and divided by the trajectories of the batch; the "
        f"kinds are weighed by `{_line(taught.student.weighting)}` (learned and ema: L/2σ² + log σ). {kl}{len(taught.curve):,} updates, "
        f"{taught.curve[-1].tokens if taught.curve else 0:,} tokens.", "",
        _table(("kind", "loss at the end, nats", "σ"), rows), "", _table(("setting", "value"), settings), "",
        PLOTS, *told, "",
    ])  # fmt: skip


def _scores(student: StudentCard) -> str:
    if not student.scores:
        return "## Scores\n\nNone were known when this was written: `python -m training.evaluate` measures EM, F1 and Acc with intervals.\n"
    return "## Scores\n\n" + _table(("score", "value"), [(name, f"{value:.4f}") for name, value in student.scores.items()]) + "\n"


def _use(form: Literal["adapter", "full"]) -> str:
    model = "BASE+STUDENT" if form == "adapter" else "STUDENT"
    return "\n".join([
        "## Use and check it", "", "With StepER Agent, where STUDENT is this folder and BASE that of its base:", "",
        "```sh", f'steper ask "…" --index INDEX --model local:{model}      # or vllm:{model}',
        "steper students parity STUDENT --base BASE           # do trainer, graph and engine agree, token for token?", "```", "",
        "`golden.jsonl` holds what its trainer saw it say; whoever serves it is held to that.", "",
    ])  # fmt: skip


def _limits(taught: Taught) -> str:
    gone = [kind for kind in KINDS if not taught.data.examples.get(kind)]
    lines = [
        "It answers from the passages that it is shown; where they are wrong or silent, so may it be, with the same assurance.",
        "It knows the prompts of the strategy it was taught in, and no others.",
        "What it learned was written by its teacher: the teacher's mistakes, manners and terms of use come with it.",
        *([f"It was taught no example of {', '.join(gone)}."] if gone else []),
    ]
    return "\n".join(["## Limits", "", *(f"- {line}" for line in lines), ""])


def _table(head: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in lines)


def _cell(value: Any) -> str:
    return f"{value:,}" if type(value) is int else _line(str(value))


def _line(text: str) -> str:
    """On one line, and no markup of a table, of code or of HTML."""
    clean = " ".join(plain(text).split())
    return clean.replace("|", "\\|").replace("`", "'").replace("<", "&lt;")


def _quoted(text: str) -> str:
    """A YAML string: JSON's are."""
    return json.dumps(text)
