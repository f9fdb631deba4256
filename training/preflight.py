"""Check the whole chain of a recipe before the first teacher token is spent: python -m training.preflight --config FILE

Reads the [collect], [dataset], [distill] and [evaluate] tables as the verbs do, opens what they will open, walks a few questions
through the real graph and index with chains that cost nothing, and plans the training over what comes of it. Only then, if nothing
failed, the teacher is asked one question of one step. Nothing is written but to a temporary folder.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from rich.markup import escape
from rich.table import Table

from steper_agent.durable import write_atomic
from steper_agent.errors import StepERError
from steper_agent.plain import plain
from steper_agent.records import Record
from training.checks import files, machine
from training.checks.opened import Finding, Opened, State
from training.recipe import Recipe, overrides_of, read_recipe
from training.verb import BAD_INPUT, quiet_libraries, run, wide_console

COLOURS: dict[State, str] = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "dim"}


class Look(NamedTuple):
    """One check, and the tables it is about."""

    name: str
    run: Callable[[Opened], Iterator[Finding]]
    needs: tuple[str, ...]
    """Where the recipe lacks one of them, there is nothing to check."""


LOOKS = (
    Look("tables", files.agreement, ()),
    Look("folders", files.folders, ()),
    Look("training questions", files.taught_questions, ("collect",)),
    Look("index", files.taught_index, ("collect",)),
    Look("evaluation questions", files.judged_questions, ("evaluate",)),
    Look("their index", files.judged_index, ("evaluate",)),
    Look("leakage", files.leakage, ("collect", "evaluate")),
    Look("vLLM", machine.vllm, ()),
    Look("teacher's template", machine.teacher_template, ("collect",)),
    Look("student's base", files.student_base, ("dataset",)),
    Look("lengths", files.lengths, ("collect", "dataset")),
    Look("training", machine.training_plan, ("collect", "dataset", "distill")),
    Look("GPUs", machine.gpus, ("distill",)),
    Look("disk", machine.room, ()),
)
"""In the order of the chain: a fault is told where it first shows."""
CALL = Look("teacher", machine.teacher, ("collect",))
"""The only one that costs tokens."""


class Check(Record):
    name: str
    state: State
    what: str
    where: str = ""
    fix: str = ""


class Preflight(Record):
    recipe: Path
    checks: tuple[Check, ...]

    @property
    def failed(self) -> bool:
        return any(check.state == "failed" for check in self.checks)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.preflight", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the recipe: a TOML file")
    parser.add_argument("--set", action="append", default=[], metavar="TABLE.KEY=VALUE", help="override one setting, read as TOML if it is")
    parser.add_argument("--no-calls", action="store_true", help="do not ask the teacher")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found here too")
    args = parser.parse_args(argv)
    found = preflight(read_recipe(args.config, overrides_of(args.set)), calls=not args.no_calls)
    wide_console().print(table_of(found))
    if args.json:
        write_atomic(args.json, found.model_dump_json(indent=1) + "\n")
    return BAD_INPUT if found.failed else 0


def preflight(recipe: Recipe, *, calls: bool = True) -> Preflight:
    """Every check that the recipe's tables allow; the teacher is asked last, and only if nothing failed before."""
    quiet_libraries()
    with TemporaryDirectory(prefix="steper-preflight-") as folder:
        opened, made, told = Opened(recipe, Path(folder)), list[Check](), dict[str, str]()
        for look in LOOKS:
            if recipe.has(*look.needs):
                made += _looked(look, opened, told)
        if recipe.has(*CALL.needs):
            reason = "--no-calls" if not calls else "mend what failed first" if any(one.state == "failed" for one in made) else ""
            made += [Check(name=CALL.name, state="skipped", what=f"not asked: {reason}")] if reason else _looked(CALL, opened, told)
    return Preflight(recipe=recipe.path, checks=tuple(made))


def _looked(look: Look, opened: Opened, told: dict[str, str]) -> list[Check]:
    made: list[Check] = []
    try:
        for finding in look.run(opened):
            made.append(Check(name=look.name, **finding._asdict()))
    except (StepERError, OSError) as bad:
        made.append(_failed(look.name, bad, told))
    return made


def _failed(name: str, bad: StepERError | OSError, told: dict[str, str]) -> Check:
    """The fault; where an earlier check met the same one, only that it is in the way."""
    first = told.setdefault(str(bad), name)
    if first != name:
        return Check(name=name, state="skipped", what=f"cannot be checked: {first}")
    if isinstance(bad, OSError):
        return Check(name=name, state="failed", what=bad.strerror or str(bad), where=str(bad.filename or ""), fix="check the path and its permissions")
    return Check(name=name, state="failed", what=bad.what, where=str(bad.where), fix=bad.fix)


def table_of(found: Preflight) -> Table:
    table = Table("check", "state", "what", title=f"preflight of {found.recipe}")
    for check in found.checks:
        words = "\n".join([check.what, *([f"where: {check.where}"] if check.where else []), *([f"fix:   {check.fix}"] if check.fix else [])])
        colour = COLOURS[check.state]
        table.add_row(check.name, f"[{colour}]{check.state}[/{colour}]", escape(plain(words)))
    return table


if __name__ == "__main__":
    sys.exit(run(main))
