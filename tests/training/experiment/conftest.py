"""A tiny experiment that is real in every part: a micro-world, its teacher's journals, a random base. Made and run once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from graphs.run import Context, answer_all
from steper_agent.journal import Journal
from steper_agent.retrieval import build_index, open_index
from tests.tiny import tiny_base
from training.experiment.config import Experiment, read_experiment
from training.experiment.records import Report
from training.experiment.run import conduct
from training.microworld.questions import CHAINS, make_questions
from training.microworld.teacher import SymbolicTeacher
from training.microworld.world import make_world

K, TAUGHT, ASKED = 2, 8, 6

HEAD = """
[experiment]
out = "{folder}/run"
title = "Tiny & small"
seeds = [0, 1]
steps = 2
max_tokens = 4

[journals]
ircot = "{folder}/ircot.jsonl"

[bases]
tiny = "{folder}/base"

[tests.near]
index = "{folder}/index"
questions = "{folder}/near.jsonl"

[defaults]
rank = 2
alpha = 4
batch = 2
max_updates = 2
learning_rate = 0.02
"""
ROWS = """
[[rows]]
name = "vanilla"
view = "vanilla"
weighting = "uniform"

[[rows]]
name = "stepwise"

[[rows]]
name = "teacher"
model = "symbolic"
parameters = 1000

[[claims]]
name = "stepwise_minus_vanilla"
row = "stepwise"
against = "vanilla"

[[claims]]
name = "student_over_teacher"
row = "stepwise"
against = "teacher"
ratio = true
"""
MORE_TESTS = """
[tests.far]
index = "{folder}/index"
questions = "{folder}/far.jsonl"
"""


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that an experiment names."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("experiment")
    world = make_world(120, split="train", seed=1)
    questions = make_questions(world, TAUGHT + 2 * ASKED, seed=2, mix=CHAINS)
    parts = {"near": questions[TAUGHT : TAUGHT + ASKED], "far": questions[TAUGHT + ASKED :], "corpus": world.passages}
    for name, records in parts.items():
        (folder / f"{name}.jsonl").write_text("".join(record.model_dump_json() + "\n" for record in records))
    build_index([folder / "corpus.jsonl"], folder / "index")
    for strategy in ("ircot", "self_ask"):
        with Journal(folder / f"{strategy}.jsonl") as journal:
            answer_all(questions[:TAUGHT], Context(SymbolicTeacher(), open_index(folder / "index"), strategy=strategy, k=K, steps=5,
                                                   journal=journal, recipe=strategy))  # fmt: skip
    tiny_base(folder / "base", window=8192)
    return folder


def written(folder: Path, text: str, *, out: Path | None = None) -> Experiment:
    path = folder / "experiment.toml"
    path.write_text(text.replace("{folder}", str(folder)))
    return read_experiment(path, out=out)


@pytest.fixture(scope="package")
def experiment(folder: Path) -> Experiment:
    return written(folder, HEAD + ROWS)


@pytest.fixture(scope="package")
def report(experiment: Experiment) -> Report:
    """Nothing goes wrong."""
    return conduct(experiment, tell=lambda _: None)
