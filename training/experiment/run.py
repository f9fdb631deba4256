"""An experiment from its file to its report: python -m training.experiment CONFIG"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.table import Table

from steper_agent.config import Config
from steper_agent.durable import write_atomic
from training.experiment.cells import Cell, Made, Workshop, cells_of
from training.experiment.config import Claim, Experiment, Served, Settings, Taught, TestSet, check_row, read_experiment
from training.experiment.estimate import Estimator
from training.experiment.page import write_html, write_markdown
from training.experiment.records import Report
from training.experiment.results import claims_of, report_of
from training.experiment.sections import sections_of
from training.experiment.side_by_side import make_side_by_side
from training.verb import wide_console

DESCRIPTION = """\
Teach and judge everything that a TOML file asks for, and write one report: report.html (self-contained), report.md with plots/, and
report.json. Every row is taught with every seed and judged on every test set with one recipe. What two rows share is made once; stopped or
killed, the same command goes on with what is missing; rows that are added later train nothing but themselves. A test set that is added
is held out from what is taught, so students are taught anew."""
EXAMPLE = """\
example:
  [experiment]
  out = "runs/study"
  seeds = [0, 1, 2]
  reference = "vanilla"

  [journals]
  ircot = "runs/collect/journal.jsonl"

  [bases]
  small = "models/small"

  [tests.dev]
  index = "runs/index"
  questions = "dev.jsonl"

  [defaults]
  learning_rate = 1e-4

  [[rows]]
  name = "vanilla"
  view = "vanilla"
  weighting = "uniform"

  [[rows]]
  name = "teacher"
  model = "openai:gpt-4o"

  [[grid]]
  name = "stepwise"
  weighting = ["learned", "uniform"]
  trajectories = ["1/4", "1/2", "all"]

  [[claims]]
  name = "stepwise_minus_vanilla"
  row = "stepwise learned all"
  against = "vanilla"

[journals] and [bases] give names to paths; a journal may be a list of files. In a [[grid]] every list is one of alternatives, and its rows
are all their combinations, named by them; several kinds or filters at once are parted by commas."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m training.experiment", description=DESCRIPTION, epilog=f"{EXAMPLE}\n\n{_documented()}",
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("config", type=Path, metavar="CONFIG", help="TOML file")
    parser.add_argument("--out", type=Path, metavar="DIR", help="another folder than the file's")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="make this row alone, and report what is there; may be repeated")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="make so many cells at once, each on its part of the cores; worth it where students are small (1)")
    parser.add_argument("--dry-run", action="store_true", help="list the cells, what of them exists, and the time that the rest may take")
    given = parser.parse_args(argv)
    if given.workers < 1:
        parser.error("--workers is 1 or more")
    experiment = read_experiment(given.config, out=given.out)
    for name in given.only:
        check_row(experiment, name, "--only")
    if given.dry_run:
        show_plan(Workshop(experiment), tuple(given.only), wide_console())
        return 0
    console = Console(emoji=False)
    report = conduct(experiment, tuple(given.only), workers=given.workers, tell=lambda words: console.print(words, highlight=False, markup=False, soft_wrap=True))
    show(report, wide_console())
    print("\n".join(str(experiment.settings.out / f"report.{ending}") for ending in ("html", "md", "json")))
    return 0


def conduct(experiment: Experiment, only: tuple[str, ...] = (), *, workers: int = 1, tell: Callable[[str], None] = print) -> Report:
    """Make what is missing of the rows named by `only` (none: of all), `workers` cells at once, and write the report on all that is there.

    Raises:
        ConfigError, DataError, JournalError: as the verbs do that it calls; or evaluations differ in more than how somebody answers.
    """
    shop = Workshop(experiment)
    cells, chosen = cells_of(experiment), cells_of(experiment, only)
    made = list[Made]()
    if workers > 1:
        make_side_by_side(shop, chosen, workers=workers, tell=tell)
    for cell in cells:
        if cell not in chosen and shop.missing(cell):
            continue
        if shop.missing(cell):
            done = chosen.index(cell)
            tell(_bar(done, len(chosen), cell, Estimator(shop).left(chosen[done:]).told()))
        made.append(shop.make(cell, again=cell in chosen))
    return write_report(shop, made)


def write_report(shop: Workshop, made: Sequence[Made]) -> Report:
    """All files of the report; report.json last, so that where it is new the others are."""
    report = report_of(shop, made)
    claims = claims_of(shop, made, report)
    sections, out = sections_of(report, claims), shop.settings.out
    for section in sections:
        if section.svg:
            write_atomic(out / "plots" / f"{section.picture}.svg", section.svg)
    write_atomic(out / "report.md", write_markdown(report.title, sections))
    write_atomic(out / "report.html", write_html(report.title, sections))
    told = {**report.model_dump(mode="json"), **{name: claim.model_dump(mode="json") for name, claim in claims.items()}}
    write_atomic(out / "report.json", json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    return report


def show_plan(shop: Workshop, only: tuple[str, ...], console: Console) -> None:
    """What exists of every cell, and how long the rest may take."""
    estimator, cells = Estimator(shop), cells_of(shop.experiment, only)
    table = Table("cell", "data set", "student", *(f"judged on {test}" for test in shop.experiment.tests), "left", title=f"{len(cells)} cells")
    for cell in cells:
        missing = shop.missing(cell)
        parts = [("missing " if part.folder in missing else "done ") + part.folder.name[:8] for part in estimator.parts(cell)]
        made, judged = ([], parts) if isinstance(cell.row, Served) else (parts[:2], parts[2:])
        on = dict(zip(shop.experiment.tests_of(cell.row), judged, strict=True))
        table.add_row(cell.told(), *(made or ["–", "–"]), *(on.get(test, "–") for test in shop.experiment.tests), estimator.left([cell]).told())
    console.print(table)
    console.print(f"all: {estimator.left(cells).told()}. What cells share is counted once. Time goes by what is finished.", highlight=False)


def show(report: Report, console: Console) -> None:
    gains = {(one.name, one.test): one for one in report.comparisons}
    table = Table("row", "test set", "EM", "95 % interval", "F1", "Acc", f"EM over {report.reference}", "p", title=report.title)
    for row in report.rows:
        gain = gains.get((row.name, row.test))
        table.add_row(row.name, row.test, f"{row.mean:.3f}", f"{row.interval[0]:.3f} to {row.interval[1]:.3f}", f"{row.metrics['f1'].mean:.3f}",
                      f"{row.metrics['acc'].mean:.3f}", f"{100 * gain.em:+.1f} [{100 * gain.ci[0]:+.1f}, {100 * gain.ci[1]:+.1f}]" if gain else "",
                      f"{gain.p:.3f}" if gain else "")
    console.print(table)
    if report.missing:
        console.print(f"not finished: {', '.join(report.missing)}", highlight=False)


def _bar(done: int, of: int, cell: Cell, left: str) -> str:
    """A line and no live bar, for the verbs inside have their own."""
    full = round(20 * done / of)
    return f"[{'█' * full}{'·' * (20 - full)}] {done} of {of} cells done; now {cell.told()}; left: {left}"


def _documented() -> str:
    sections: dict[str, type[Config]] = {"[experiment]": Settings, "[tests.NAME]": TestSet, "[[rows]], [[grid]], [defaults]": Taught,
                                         "[[rows]] that teach nobody": Served, "[[claims]]": Claim}
    return "\n\n".join("\n".join([title, *(f"  {name:14} {field.description}{_choices(field.annotation)}{_default(field)}" for name, field in of.model_fields.items())])
                       for title, of in sections.items())


def _choices(annotation: object) -> str:
    """The words that a field takes, where they are few and its description does not say them."""
    inner = get_args(annotation)
    if words := [one for one in inner if isinstance(one, str)]:
        return f"; one of: {', '.join(words)}"
    return next((told for one in inner if (told := _choices(one))), "")


def _default(field: object) -> str:
    value = getattr(field, "default", None)
    return f" ({value})" if isinstance(value, int | float) and not isinstance(value, bool) or (isinstance(value, str) and value) else ""
