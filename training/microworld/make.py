"""Make a micro-world as hard as wanted: python -m training.microworld.make --out DIR --split test --preset medium --distractors 3

Writes passages.jsonl, questions.jsonl, their index, and card.json, which says what was made and how much of its evidence a single
search finds. The same settings make the same world on every machine.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from steper_agent.config import command_line
from steper_agent.durable import digest_file, write_atomic, write_lines
from steper_agent.records import Question, Record
from steper_agent.retrieval import build_index, open_index
from training.microworld.at_once import share_at_once
from training.microworld.dials import LONGEST, PRESETS, Dials, Preset
from training.microworld.hardening import make_hard_world
from training.microworld.language import UNKNOWN
from training.microworld.questions import CHAINS, MIX, make_questions
from training.microworld.world import Split
from training.run_folder import claim
from training.scores.metrics import recall_at
from training.verb import run

CARD, PASSAGES, QUESTIONS, INDEX = "card.json", "passages.jsonl", "questions.jsonl", "index"
DEPTHS = (1, 3, 10)
"""Passages of one search."""
VERB = "microworld.make"


def _told(preset: Preset) -> str:
    turned = PRESETS[preset].model_dump(exclude_defaults=True)
    return f"  {preset:<8}" + (", ".join(f"{dial} {value}" for dial, value in turned.items()) or "every dial at 0: the demo's world")


EPILOG = "presets (a dial that is given goes before its preset's):\n" + "\n".join(map(_told, PRESETS)) + f"""

Every question has an answer that the passages settle; where a dial takes that away, the answer is `{UNKNOWN}`. Let a teacher that
gives up, `symbolic:2`, collect from such a world: runs that only their budget ends are not taught. Questions have up to {LONGEST} hops:
give as many steps and two more. In a TOML file the table is ["microworld.make"]."""


class MakeConfig(Dials):
    out: Path = Field(description=f"folder for {PASSAGES}, {QUESTIONS}, {INDEX}/ and {CARD}")
    split: Split = Field("test", description="whose names: pretrain, train or test; no two share any")
    passages: int = Field(1500, ge=100, description="entities, each with a passage; dials add passages to these")
    questions: int = Field(300, ge=1, description="different questions")
    seed: int = Field(0, description="of the world and its questions")
    shapes: Literal["chains", "all"] = Field("chains", description="chains alone, as in the demo, or comparisons too: all")
    preset: Preset = Field("easy", description="where the dials stand that are not given: easy, medium or hard")


class WorldCard(Record):
    """What was made, and how hard it is to find."""

    settings: dict[str, Any]
    dials: Dials
    """As they stood, the preset's included."""
    passages: int
    """With those that the dials added."""
    questions: int
    unknown: int
    """Questions whose answer is that nobody can know."""
    hops: dict[int, int]
    types: dict[str, int]
    touched: dict[str, int]
    """By dial: questions whose own chain or words it touches."""
    recall: dict[int, float]
    """By depth: mean share of a question's supporting passages that one BM25 search with the question finds."""
    at_once: float
    """Share of the questions with an answer that one search answers, as at_once.py reads it."""
    digests: dict[str, str]


def main(argv: Sequence[str] | None = None) -> int:
    config = command_line(MakeConfig, VERB, __doc__ or "", argv, epilog=EPILOG)
    card = make(config)
    print(f"{card.passages:,} passages and {card.questions:,} questions, {card.unknown} of them without an answer, in {config.out}; one search finds "
          f"{card.recall[3]:.3f} of their support among three passages and answers {card.at_once:.3f} of those with an answer")
    return 0


def make(config: MakeConfig) -> WorldCard:
    """Write the world; the card comes last, so that a folder with one is whole.

    Raises:
        ConfigError: the folder holds another world, the dials exclude each other, or the world is too small for the questions.
    """
    config = settled(config)
    claim(config.out, config, free=("out",))
    dials = Dials.model_validate(config.model_dump(include=set(Dials.model_fields)))
    world = make_hard_world(config.passages, split=config.split, seed=config.seed, dials=dials)
    questions = make_questions(world, config.questions, seed=config.seed, mix=CHAINS if config.shapes == "chains" else MIX)
    write_lines(config.out / PASSAGES, world.passages)
    write_lines(config.out / QUESTIONS, questions)
    build_index([config.out / PASSAGES], config.out / INDEX)
    card = _card(config, dials, len(world.passages), questions)
    write_atomic(config.out / CARD, json.dumps(card.model_dump(mode="json"), indent=1) + "\n")
    return card


def settled(config: MakeConfig) -> MakeConfig:
    """With every dial as it stands: where it was not given, the preset's."""
    given = config.model_dump(exclude_unset=True)
    return MakeConfig.load(VERB, overrides={**PRESETS[config.preset].model_dump(), **given})


def _card(config: MakeConfig, dials: Dials, passages: int, questions: Sequence[Question]) -> WorldCard:
    found = open_index(config.out / INDEX).search_many([question.text for question in questions], max(DEPTHS))
    ids = [[hit.passage.id for hit in hits] for hits in found]
    known = [(one, question.supporting_ids) for one, question in zip(ids, questions, strict=True) if question.supporting_ids]
    return WorldCard(
        settings=json.loads(config.model_dump_json(exclude={"out", *Dials.model_fields})), dials=dials, passages=passages, questions=len(questions),
        unknown=sum(question.answers == (UNKNOWN,) for question in questions),
        hops=dict(sorted(Counter(question.meta["hops"] for question in questions).items())),
        types=Counter(question.meta["type"] for question in questions),
        touched=Counter(dial for question in questions for dial in question.meta.get("dials", ())),
        recall={depth: round(sum(recall_at(one, supports, depth) for one, supports in known) / max(1, len(known)), 4) for depth in DEPTHS},
        at_once=round(share_at_once(questions, found), 4),
        digests={name: digest_file(config.out / name) for name in (PASSAGES, QUESTIONS)},
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(run(main))
