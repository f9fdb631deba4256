"""Add an adapter into a copy of its base: python -m training.distill merge --student DIR --out DIR

For engines and machines that take no adapters. The result is a student of its own, full weights in float32 as safetensors, with
tokenizer and cards, and it is checked before it is there: on the student's golden replies its logits are those of base and adapter.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from steper_agent.config import Config, command_line
from steper_agent.durable import sync_folder, write_atomic
from steper_agent.errors import AdapterError, ConfigError
from steper_agent.records import Golden, StudentCard
from training.disk import FLOAT, refuse_too_little, room_for

AGREE = 1e-4
"""Largest relative difference of the logits, in float32."""


class MergeConfig(Config):
    student: Path = Field(description="folder of an adapter that distill wrote")
    out: Path = Field(description="folder for the whole model; must not be there yet")
    base: Path | None = Field(None, description="folder of its base; found by itself beside the student, in the run's report")


class Merged(NamedTuple):
    student: StudentCard
    compared: int
    """Tokens of golden replies."""
    difference: float
    """Of the logits, relative."""


def main(argv: Sequence[str] | None = None) -> int:
    from training.verb import quiet_libraries

    quiet_libraries()
    config = command_line(MergeConfig, "distill merge", __doc__ or "", argv)
    merged = merge(config)
    print(f"{merged.student.name}: {config.out}")
    print(f"logits as base and adapter give them, over {merged.compared} tokens of golden replies: relative difference {merged.difference:.1e}"
          if merged.compared else "the student has no golden replies, so nothing was compared")
    return 0


def merge(config: MergeConfig) -> Merged:
    """Write the whole model; a crash or a refusal leaves nothing at `out`.

    Raises:
        AdapterError: the student is no adapter, does not fit, or the merged model gives other logits.
        ConfigError: the base is not to be found, or there is something at `out`.
        DiskFull: there is no room for it.
    """
    from steper_agent.students.merge import merged_folder
    from steper_agent.students.student import read_golden, verify_student
    from steper_agent.students.weights import ADAPTER_CONFIG, count_parameters

    if config.out.exists():
        raise ConfigError("there is something here already", where=config.out, fix="give another --out")
    if config.student.is_dir() and not (config.student / ADAPTER_CONFIG).is_file():
        raise AdapterError("it is no adapter: full weights are merged already", where=config.student, fix="use the folder itself")
    base = config.base or base_beside(config.student)
    card = verify_student(config.student, base)
    parent = config.out.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    refuse_too_little("the weights of the merged model", parent, FLOAT * count_parameters(base))
    goldens = [golden for golden in read_golden(config.student) if golden.output]
    room = Path(tempfile.mkdtemp(dir=parent, prefix=f".{config.out.name}-"))
    try:
        with room_for("the merged model", room):
            made = merged_folder(base, config.student, room)
            compared, difference = _compare(base, config.student, made, goldens)
            if difference > AGREE:
                raise AdapterError(f"merged, its logits differ by {difference:.1e}, relative", where=config.student,
                                   fix="serve it as an adapter; the sum of base and adapter loses too much in float32")
            student = _finish(config.student, card, made, goldens)
            # It was made for one pair of eyes, as temporary folders are; a model folder is as open as any other.
            shutil.copymode(parent, made)
            made.rename(config.out)
            sync_folder(parent)
    finally:
        shutil.rmtree(room, ignore_errors=True)
    return Merged(student, compared, difference)


def base_beside(student: Path) -> Path:
    """Where the report of the run says that the base is.

    Raises:
        ConfigError: there is no such report, or no such base any more.
    """
    report = student.absolute().parent / "report.json"
    try:
        base = Path(json.loads(report.read_bytes())["settings"]["base"])
    except (OSError, ValueError, KeyError, TypeError) as bad:
        raise ConfigError("no report beside the student says where its base is", where=report, fix="give it: --base DIR") from bad
    if not base.is_dir():
        raise ConfigError(f"the base is no longer at {base}", where=report, fix="give it: --base DIR")
    return base


def _compare(base: Path, student: Path, merged: Path, goldens: Sequence[Golden]) -> tuple[int, float]:
    """Tokens compared, and the largest relative difference of a reply's logits; one model at a time is in memory."""
    if not goldens:
        return 0, 0.0
    adapter, whole = _logits(base, student, goldens), _logits(merged, None, goldens)
    differ = [float((one - other).norm() / one.norm()) for one, other in zip(adapter, whole, strict=True)]
    return sum(len(one) for one in adapter), max(differ)


def _logits(path: Path, adapter: Path | None, goldens: Sequence[Golden]) -> list[Any]:
    """Of every golden reply, (tokens, vocabulary), where each of its tokens is to come."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(str(path), dtype="float32", local_files_only=True, trust_remote_code=False, use_safetensors=True)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter))
    model.eval()
    found = []
    with torch.inference_mode():
        for golden in goldens:
            ids = torch.tensor([[*golden.prompt, *golden.output]])
            found.append(model(input_ids=ids, use_cache=False).logits[0, len(golden.prompt) - 1 : -1].clone())
    return found


def _finish(adapter: Path, card: StudentCard, folder: Path, goldens: Sequence[Golden]) -> StudentCard:
    """What makes a model folder a student: golden replies, which still hold, and the cards."""
    from steper_agent.students.golden import write_golden
    from steper_agent.students.student import save_student
    from training.student.card import README, merged_card

    if goldens:
        write_golden(folder, goldens)
    student = save_student(folder, card.model_copy(update={"form": "full", "created_by": f"python -m training.distill merge, of {card.name}"}))
    write_atomic(folder / README, merged_card(adapter, student))
    return student
