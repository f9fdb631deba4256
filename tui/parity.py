"""`steper students parity` on the screen: what was compared, how far it agrees, and the first place where it does not."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.parity import Report

ABOUT = (
    " Ids: what the trainer teaches, what the graph sends and what a server reports. Words: greedy tokens and log-probabilities"
    " at training, of PEFT in this process, merged, and with --serve, served by vLLM. Ends with code 1 where they differ."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="student@HASH, the first digits of the hash, or the folder of a student")
    parser.add_argument("--base", type=Path, required=True, metavar="DIR", help="folder of the base model")
    parser.add_argument("--serve", action="store_true", help="compare vLLM too, on servers started and stopped here")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="of all weights (default: float32)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there too")


def run(base: Path, student: Path, *, dtype: str, serve: bool, file: Path | None) -> int:
    """Compare, print, and return the exit code."""
    from steper_agent.durable import write_atomic
    from training.parity import parity, serving
    from training.verb import quiet_libraries

    quiet_libraries()
    report = parity(base, student, dtype=dtype, served=serving(base, student, dtype) if serve else {})
    if file:
        write_atomic(file, report.model_dump_json(indent=1) + "\n")
    _print(report, serve)
    return 0 if report.agrees else 1


def _print(report: Report, served: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from steper_agent.plain import plain

    table = Table(box=None, pad_edge=False)
    for heading in ("comparison", "prompts", "tokens", "largest drift", "near-ties", ""):
        table.add_column(heading, justify="left" if heading in ("comparison", "") else "right")
    for each in report.comparisons:
        is_words = each.drift is not None
        table.add_row(each.name, str(each.prompts), str(each.tokens), f"{each.drift:.2g} nats" if is_words else "–",
                      str(each.ties) if is_words else "–", "DIFFER" if each.divergence else "agree")
    console = Console(emoji=False, highlight=False)
    console.print(f"{report.student} on base {report.base[:12]}, {report.dtype}")
    console.print(table)
    told = [f"Ids must be equal. A log-probability may drift by {report.drift:g} nats and {report.share:.0%} of itself; where the two "
            f"likeliest tokens are within {report.tie:g} nats, the other may be said."]
    if report.left_out:
        told.append(f"{report.left_out} prompts fill the window of the base: no words were compared behind them.")
    if not served:
        told.append("vLLM was not compared: --serve does.")
    first = next((f"{each.name}: {each.divergence}" for each in report.comparisons if each.divergence), "")
    told.append(f"first divergence – {first}" if first else "all agree")
    for line in told:
        console.print(Text(" ".join(plain(line).split())), soft_wrap=True)
