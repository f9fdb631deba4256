"""`steper index build`, `stats` and `search`: thin commands over steper_agent.retrieval."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steper_agent.retrieval.index import Progress

STAGES = {
    "read": "reading passages",
    "bm25": "indexing words",
    "encode": "encoding passages",
    "seal": "sealing the folder",
}


def add_arguments(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Register `index` and its verbs on the main command line."""
    about = "build, inspect and search an index of passages"
    parser = subparsers.add_parser("index", help=about, description=f"{about.capitalize()}.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    about = "index the passages of files or folders"
    make = verbs.add_parser("build", help=about, description=f"{about.capitalize()}.")
    make.add_argument(
        "sources",
        nargs="+",
        type=Path,
        metavar="SOURCE",
        help="HotpotQA or 2WikiMultiHopQA JSON, MuSiQue JSON lines, JSON lines with id, title and text, "
        "or a folder of .txt and .md files",
    )
    make.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write; replaces an index there")
    make.add_argument("--mode", choices=("bm25", "dense", "hybrid"), default="bm25", help="default: bm25")
    make.add_argument("--encoder", metavar="SPEC", help="for dense and hybrid: sentence-transformers:NAME")
    make.add_argument(
        "--chunk-chars", type=int, default=1000, metavar="N", help="folders of text: characters a passage, default 1000"
    )
    make.set_defaults(run=build)
    about = "say what an index holds, after checking it"
    show = verbs.add_parser("stats", help=about, description=f"{about.capitalize()}.")
    show.add_argument("index", type=Path, metavar="DIR")
    show.set_defaults(run=stats)
    find = verbs.add_parser("search", help="search an index", description="Search an index, without a model.")
    find.add_argument("index", type=Path, metavar="DIR")
    find.add_argument("query", metavar="QUERY")
    find.add_argument("-k", type=count, default=4, metavar="N", help="passages to show, default 4")
    find.set_defaults(run=search)


def count(text: str) -> int:
    """A number of things, at least one, as argparse reads it."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def build(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    from steper_agent.retrieval import build_index

    console, bars = Console(), Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=bars, transient=True, disable=not bars.is_terminal) as bar:
        made = build_index(
            args.sources,
            args.out,
            mode=args.mode,
            encoder=args.encoder,
            chunk_chars=args.chunk_chars,
            progress=_shown_on(bar),
        )
    megabytes = made.bytes / 1e6
    console.print(
        f"built {args.out}: {made.passages:,} passages, {made.mode}, {made.seconds:.1f} s, {megabytes:.1f} MB",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    return 0


def stats(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from steper_agent.plain import plain
    from steper_agent.retrieval import manifest

    found = manifest.read(args.index)
    manifest.verify(args.index, found)
    facts = {
        "passages": f"{found.passages:,}",
        "characters": f"{found.characters:,}",
        "mode": found.mode,
        "words": _words(found),
        "encoder": f"{found.encoder}, {found.dimension} numbers" if found.encoder else "none",
        "sources": ", ".join(found.sources),
        "corpus": found.corpus[:12],
        "identity": found.identity[:12],
        "size": f"{found.bytes / 1e6:.1f} MB in {len(found.files)} files, all as written",
        "built in": f"{found.seconds:.1f} s with " + ", ".join(f"{name} {v}" for name, v in found.versions.items()),
    }
    table = Table(show_header=False, box=None)
    for name, fact in facts.items():
        table.add_row(name, _safe(plain(fact)))
    Console().print(table)
    return 0


def search(args: argparse.Namespace) -> int:
    from rich.console import Console

    from steper_agent.plain import plain
    from steper_agent.retrieval import open_index

    console = Console()
    hits = open_index(args.index).search(args.query, args.k)
    if not hits:
        console.print("no passage shares a word with this query", markup=False)
    for number, hit in enumerate(hits, start=1):
        passage = hit.passage
        title, name = _safe(plain(passage.title)), _safe(plain(passage.id))
        console.print(f"[bold]{number}  {title}[/]  {hit.score:.3f}  [dim]{name}[/]", highlight=False)
        console.print(f"   {plain(passage.text)}", markup=False, highlight=False)
    return 0


def _shown_on(bar: Any) -> Progress:
    tasks: dict[str, Any] = {}

    def show(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bar.add_task(STAGES[stage], total=None)
        bar.update(tasks[stage], completed=done, total=total or None)

    return show


def _words(found: Any) -> str:
    words = found.lexical
    if words is None:
        return "none"
    return f"BM25 k1={words.k1} b={words.b}, stemmer {words.stemmer}, {len(words.stop_words)} stop words"


def _safe(text: str) -> str:
    """One line of text that rich takes literally; a backslash at the end would swallow the tag that follows."""
    from rich.markup import escape

    return escape(" ".join(text.split())) + ("\u200b" if text.endswith("\\") else "")
