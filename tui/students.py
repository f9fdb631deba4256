"""`steper students`: the registry of students on the command line, from a first look to going live and back."""

from __future__ import annotations

import argparse
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui import gate, parity
from tui.arguments import count

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from steper_agent.records import StudentEvent
    from steper_agent.students.registry import Change, Registry

VARIABLE, DEFAULT = "STEPER_REGISTRY", "runs/registry"
SHOWN = 20
"""Modules of a difference on the screen."""
BAR = 24
"""Characters of the longest bar."""
WHOLE = {"name", "state", "base", "data", "EM", "added", "time (UTC)", "event", "student", "change"}
"""Columns that are never broken over lines."""
LAST = "created by"
EXAMPLES = f"""\
from training to serving:
  steper students add runs/distill/student --base models/small    check it, copy it in: a candidate
  steper students list                                            what there is, and what is live
  steper students promote 3f9a --reason "EM 0.61 on dev"          live now in every process that follows
  steper students promote 3f9a --gate dev.jsonl --base models/small --index runs/index --min-delta -1
                                                                  only if it answers as well as the live one, but for a point
  steper students rollback                                        back to the one before
  steper students diff 3f9a 81c2                                  what the two differ in, card and weights
  steper students prune --keep 3                                  delete the older retired ones

A student is named by the hash of its content, student@3f9a0c…; its first digits will do. Removing, changing or
replacing files under the registry is noticed: `steper students verify NAME`.
The registry is --registry DIR, else ${VARIABLE}, else {DEFAULT}.
"""


def add_arguments(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Register `students` and its verbs on the main command line."""
    about = "keep students: add, compare, promote, roll back"
    parser = subparsers.add_parser("students", help=about, description=f"{about.capitalize()}.", epilog=EXAMPLES,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_looking(verbs)
    _add_changing(verbs)


def _add_looking(verbs: Any) -> None:
    listing = _verb(verbs, "list", list_students, "list students: name, state, base, data, EM, when, who made it")
    showing = _verb(verbs, "show", show, "show a student's card, its σ and its history")
    checking = _verb(verbs, "verify", verify, "check a student again: content, card, weights",
                     " With a base: whether it fits, too.")
    comparing = _verb(verbs, "diff", diff, "say what two students differ in",
                      " The cards, and for adapters of one base the relative change of what each module adds, largest first.")
    parity.add_arguments(_verb(verbs, "parity", check_parity, "check that a student is the same however it runs", parity.ABOUT))
    _verb(verbs, "history", history, "print everything that happened, oldest first")
    for parser in (listing, showing):
        parser.add_argument("--json", action="store_true", help="print JSON instead")
    for parser in (showing, checking):
        _add_name(parser)
    _add_base(checking)
    comparing.add_argument("a", metavar="A")
    comparing.add_argument("b", metavar="B")


def _add_changing(verbs: Any) -> None:
    adding = _verb(verbs, "add", add, "check a student and copy it in, as a candidate",
                   " Only its weights, its config and its card are copied. Adding it again changes nothing.")
    lifting = _verb(verbs, "promote", promote, "make a student live on its base",
                    " The one before it retires; it is kept for a rollback.")
    falling = _verb(verbs, "rollback", rollback, "make the student live that was before",
                    " Where none was, the base serves alone. Again, and it goes one further back.")
    pruning = _verb(verbs, "prune", prune, "delete old students", " Never one that is live, or that a running process serves.")
    adding.add_argument("folder", type=Path, metavar="FOLDER", help="made by: python -m training.distill")
    _add_name(lifting)
    for parser in (adding, lifting):
        _add_base(parser)
    for parser in (adding, lifting, falling):
        parser.add_argument("--reason", default="", metavar="TEXT", help="kept in the history")
    gate.add_arguments(lifting)
    falling.add_argument("--base-fingerprint", metavar="HASH", help="which base, where the registry has students of several")
    pruning.add_argument("--keep", type=at_least_none, default=3, metavar="N", help="of every base, keep the newest N (default: 3)")
    pruning.add_argument("--candidates", action="store_true", help="candidates too, not only the retired")
    pruning.add_argument("--dry-run", action="store_true", help="only say what would go")


def _verb(verbs: Any, name: str, run: Any, about: str, more: str = "") -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = verbs.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.{more}")
    made.add_argument("--registry", type=Path, metavar="DIR", help=f"default: ${VARIABLE}, else {DEFAULT}")
    made.set_defaults(run=run)
    return made


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="student@HASH, or the first digits of the hash")


def _add_base(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", type=Path, metavar="DIR", help="folder of the base model: check that the student fits it")


def at_least_none(text: str) -> int:
    """A number of things, none allowed, as argparse reads it."""
    return 0 if text == "0" else count(text)


def list_students(args: argparse.Namespace) -> int:
    registry = _registry(args)
    rows = [_row(registry, each) for each in registry.roll().students.values()]
    if args.json:
        print(json.dumps(rows, indent=1, ensure_ascii=True))
    elif rows:
        table = _table("name", "state", "base", "data", "EM", "added", LAST)
        for row in rows:
            em = "–" if row["em"] is None else f"{row['em']:.3f}"
            facts = (row["name"], row["state"], row["base"][:8], row["data"][:8], em, row["added"][:10], row["created_by"])
            table.add_row(*map(_text, facts))
        _print(table)
    else:
        _say(f"no students in {registry.folder}; add one: steper students add FOLDER")
    return 0


def show(args: argparse.Namespace) -> int:
    registry = _registry(args)
    known = registry.roll().find(args.name)
    card = registry.card(known.name)
    events = [event for event in registry.history.read() if event.student == known.name]
    if args.json:
        told = {"state": known.state, "card": card.model_dump(mode="json"),
                "scores": known.scores, "history": [event.model_dump(mode="json") for event in events]}
        print(json.dumps(told, indent=1, ensure_ascii=True))
        return 0
    facts = {**card.model_dump(exclude={"sigma", "scores"}), "scores": _figures(known.scores), "state": known.state,
             "folder": registry.path_of(known.name)}
    table = _table()
    for name, fact in facts.items():
        table.add_row(name.replace("_", " "), _text(fact))
    for kind, sigma in card.sigma.items():
        table.add_row(f"σ {kind}", f"{_bar(sigma, max(card.sigma.values()))} {sigma:.3f}")
    _print(table)
    _print_events(events)
    return 0


def add(args: argparse.Namespace) -> int:
    registry = _registry(args)
    card, is_new = registry.add(args.folder, base=args.base, by=_by(args), reason=args.reason)
    fits = "" if args.base is None else f", fits {args.base}"
    _say(f"added {card.name}{fits}; next: steper students promote {card.name}" if is_new
         else f"{card.name} is in {registry.folder} already: nothing changed")
    return 0


def verify(args: argparse.Namespace) -> int:
    card = _registry(args).verify(args.name, args.base)
    fits = f"fits {args.base}" if args.base else f"made for base {card.base[:12]} (give --base DIR to try)"
    _say(f"{card.name} is whole: content, card and {card.form} weights as they were saved; {fits}")
    return 0


def diff(args: argparse.Namespace) -> int:
    from steper_agent.students.compare import compare

    registry = _registry(args)
    found = compare(*(registry.path_of(registry.verify(name).name) for name in (args.a, args.b)))
    if found.facts:
        table = _table("", found.a.name, found.b.name)
        for name, *both in found.facts:
            texts = (_figures(fact) if isinstance(fact, dict) else str(fact) for fact in both)
            table.add_row(name.replace("_", " "), *(_text(text[:12] if name in ("base", "data") else text) for text in texts))
        _print(table)
    else:
        _say("the cards say the same")
    if not found.modules:
        _say("weights are compared between adapters of one base")
        return 0
    table = _table("module", "change", "")
    largest = max((each.change for each in found.modules if math.isfinite(each.change)), default=0.0)
    for module, change in found.modules[:SHOWN]:
        table.add_row(_text(module), f"{change:.1%}" if math.isfinite(change) else "new", _bar(min(change, largest), largest))
    _print(table)
    if len(found.modules) > SHOWN:
        _say(f"and {len(found.modules) - SHOWN} more, none above {found.modules[SHOWN].change:.1%}")
    return 0


def check_parity(args: argparse.Namespace) -> int:
    folder = Path(args.name)
    student = folder if folder.is_dir() else _registry(args).path_of(args.name)
    return parity.run(args.base, student, dtype=args.dtype, serve=args.serve, file=args.json)


def promote(args: argparse.Namespace) -> int:
    registry = _registry(args)
    known = registry.roll().find(args.name)
    # Who was live when this was decided: of two promotes at once, the second is told of the first.
    live = registry.live(known.base)
    scores = gate.run(args, registry, known.name, live) if args.gate else {}
    _say_change(registry.promote(known.name, base=args.base, expecting=live, by=_by(args), reason=args.reason, scores=scores))
    return 0


def rollback(args: argparse.Namespace) -> int:
    _say_change(_registry(args).rollback(args.base_fingerprint, by=_by(args), reason=args.reason))
    return 0


def prune(args: argparse.Namespace) -> int:
    done = _registry(args).prune(keep=args.keep, candidates=args.candidates, dry_run=args.dry_run, by=_by(args))
    for name in done.removed:
        _say(f"{'would delete' if args.dry_run else 'deleted'} {name}")
    for name in done.held:
        _say(f"kept {name}: a running process serves it")
    if done.leftovers:
        _say(f"deleted what {done.leftovers} interrupted commands had left")
    if not any(done):
        _say("nothing to delete")
    return 0


def history(args: argparse.Namespace) -> int:
    registry = _registry(args)
    events = registry.history.read()
    _print_events(events) if events else _say(f"nothing has happened in {registry.folder} yet")
    return 0


def _registry(args: argparse.Namespace) -> Registry:
    from steper_agent.students.registry import Registry

    return Registry(args.registry or os.environ.get(VARIABLE) or DEFAULT)


def _by(args: argparse.Namespace) -> str:
    return f"steper students {args.verb}"


def _row(registry: Registry, known: Any) -> dict[str, Any]:
    """A student as a line of the list; one whose card cannot be read is still listed."""
    from steper_agent.errors import AdapterError

    data, created_by = "", ""
    try:
        card = registry.card(known.name)
        data, created_by = card.data, card.created_by
    except AdapterError as damaged:
        created_by = f"({damaged.what})"
    return {"name": known.name, "state": known.state, "base": known.base, "data": data, "em": known.scores.get("em"),
            "scores": dict(known.scores), "added": known.added.isoformat(sep=" ", timespec="seconds"), "created_by": created_by}


def _say_change(change: Change) -> None:
    now = f"{change.after} is live now" if change.after else "no student is live now, it serves alone"
    _say(f"{change.after} was live already" if change.after == change.before
         else f"base {change.base[:12]}: {now}; before: {change.before or 'none'}")


def _print_events(events: list[StudentEvent]) -> None:
    table = _table("time (UTC)", "event", "student", "why", "by")
    for event in events:
        why = "  ".join(part for part in (event.reason, _figures(event.scores)) if part)
        table.add_row(f"{event.time:%Y-%m-%d %H:%M:%S}", event.action.replace("_", " "), event.student or "the bare base",
                      _text(why), _text(event.by))
    _print(table)


def _figures(values: Any) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items())


def _bar(value: float, largest: float) -> str:
    return "█" * max(1, round(BAR * value / largest)) if value > 0 else ""


def _table(*headings: str) -> Table:
    """Facts are folded, never cut (half a hash names nothing), but for the command that ends a line of the list."""
    from rich.table import Table

    table = Table(box=None, show_header=bool(headings), pad_edge=False, expand=LAST in headings)
    for heading in headings or ("", ""):
        if heading == LAST:
            table.add_column(heading, overflow="ellipsis", no_wrap=True, ratio=1)
        else:
            table.add_column(heading, overflow="fold", no_wrap=heading in WHOLE)
    return table


def _print(table: Table) -> None:
    from rich.console import Console

    Console(emoji=False, highlight=False).print(table)


def _say(text: str) -> None:
    from steper_agent.plain import plain

    print(plain(text))


def _text(fact: object) -> Text:
    """One line that rich takes literally."""
    from rich.text import Text

    from steper_agent.plain import plain

    return Text(" ".join(plain(str(fact)).split()))
