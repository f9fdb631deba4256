"""The whole study of the micro-world from nothing: python benchmarks/microworld_study.py --json benchmarks/results/microworld_study.json

Makes the worlds, lets the symbolic teacher answer in three ways, grows and teaches a larger model that becomes a teacher itself, and
runs the experiment of benchmarks/microworld_study.toml over their journals: what its report holds goes to FILE, and its page and a picture beside it.
Everything lies in runs/study; stopped or killed, the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from steper_agent.durable import write_atomic
from training.verb import versions

STUDY = Path("runs/study")
EXPERIMENT = "experiment"
RECIPE = "benchmarks/microworld_study.toml"
REPORT = STUDY / "experiment" / "report.json"
EASY = STUDY / "easy"
LARGE, TEACHER = EASY / "large", EASY / "teacher"


class Stage(NamedTuple):
    name: str
    command: str
    """What follows `python -m`. Each goes on by itself where it was stopped."""


def stages(workers: int) -> Iterator[Stage]:
    """The world where vanilla distillation is right about half of the time, and three journals over it; then the easier world of the
    learned teacher, which is taught in one world and answers about another."""
    yield from worlds(STUDY, "--preset medium --hops 0", questions=2000)
    for strategy in ("ircot", "self_ask", "tool_calling"):
        yield journal(STUDY / "train", STUDY / strategy, f"--teacher symbolic:2 --strategy {strategy}")
    yield from worlds(EASY, "--preset easy", questions=1800)
    yield world(EASY / "unseen", "--preset easy --split train --seed 1 --passages 6000 --questions 1800")
    yield journal(EASY / "train", EASY / "ircot", "--teacher symbolic --strategy ircot")
    yield Stage("larger base", f"training.microworld.pretrain --start training/microworld/base --width 384 --layers 6 --updates 300 --out {LARGE}")
    yield Stage("teacher's data set", f"training.dataset --journal {EASY}/ircot/journal.jsonl --base {LARGE} --held-out {EASY}/test/questions.jsonl "
                f"--out {TEACHER}/dataset")
    yield Stage("learned teacher", f"training.distill --dataset {TEACHER}/dataset --base {LARGE} --method full --learning-rate 5e-4 --batch 8 --out {TEACHER}/distill")
    yield journal(EASY / "unseen", EASY / "learned", f"--teacher local:{TEACHER}/distill/student --strategy ircot")
    yield Stage(EXPERIMENT, f"training.experiment {RECIPE} --workers {workers}")


def worlds(folder: Path, dials: str, *, questions: int) -> Iterator[Stage]:
    yield world(folder / "train", f"{dials} --split train --passages 6000 --questions {questions}")
    yield world(folder / "test", f"{dials} --split test --passages 2500 --questions 1000")


def world(folder: Path, words: str) -> Stage:
    return Stage(f"world {folder}", f"training.microworld.make {words} --out {folder}")


def journal(world: Path, out: Path, words: str) -> Stage:
    return Stage(f"journal {out}", f"training.collect --index {world}/index --questions {world}/questions.jsonl {words} --k 3 --steps 6 --max-tokens 96 "
                 f"--concurrency 48 --out {out}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="the report; its page and picture have the same name and end in .html and .svg")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="students made at once (default: as many as cores)")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    clock = STUDY / "stages.json"
    state = json.loads(clock.read_text()) if clock.is_file() else {"done": [], "seconds": {}}
    for stage in stages(args.workers):
        # An experiment itself makes what is missing of it, also of rows that came later.
        if stage.name in state["done"] and stage.name != EXPERIMENT:
            continue
        print(f"\n{stage.name}: python -m {stage.command}", flush=True)
        start = time.perf_counter()
        try:
            subprocess.run([sys.executable, "-m", *shlex.split(stage.command)], check=True)
            state["done"] = [*dict.fromkeys([*state["done"], stage.name])]
        except subprocess.CalledProcessError as failed:
            raise SystemExit(failed.returncode) from failed
        finally:
            # Also of a start that was stopped: what it took is part of what the study takes.
            state["seconds"][stage.name] = round(state["seconds"].get(stage.name, 0.0) + time.perf_counter() - start, 1)
            write_atomic(clock, json.dumps(state, indent=1) + "\n")
    seconds = state["seconds"]
    told = {"command": " ".join(["python benchmarks/microworld_study.py", *sys.argv[1:]]), "versions": versions(), "cores": os.cpu_count(),
            "seconds": seconds, "minutes": round(sum(seconds.values()) / 60, 1)}  # fmt: skip
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps({**told, **json.loads(REPORT.read_text())}, indent=1, ensure_ascii=False) + "\n")
    shutil.copyfile(REPORT.with_suffix(".html"), args.json.with_suffix(".html"))
    shutil.copyfile(REPORT.with_name("plots") / "differences.svg", args.json.with_suffix(".svg"))
    print(f"\n{args.json}, its page and its picture, in {told['minutes']} minutes")


if __name__ == "__main__":
    main()
