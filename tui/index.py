"""`steper index`: make, change, inspect, search and serve an index; thin commands over steper_agent.retrieval."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui import index_build, index_serve
from tui.arguments import RERANK, count

if TYPE_CHECKING:
    from steper_agent.retrieval.manifest import Manifest


def add_arguments(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Register `index` and its verbs on the main command line."""
    about = "build, change, inspect, search and serve an index of passages"
    parser = subparsers.add_parser("index", help=about, description=f"{about.capitalize()}.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    index_build.add_arguments(verbs)
    for name, about, run in (
        ("stats", "say what an index holds, after checking it", stats),
        ("verify", "read every file of an index, and say which are not as they were written", verify),
    ):
        show = verbs.add_parser(name, help=about, description=f"{about.capitalize()}.")
        show.add_argument("index", type=Path, metavar="DIR")
        show.set_defaults(run=run)
    find = verbs.add_parser("search", help="search an index", description="Search an index, without a model.")
    find.add_argument("index", metavar="DIR", help="folder of an index, or the address of one that is served")
    find.add_argument("query", metavar="QUERY")
    find.add_argument("-k", type=count, default=4, metavar="N", help="passages to show, default 4")
    find.add_argument("--rerank", metavar="SPEC", help=RERANK)
    find.add_argument("--timings", action="store_true", help="show where the time of the search went")
    find.set_defaults(run=search)
    index_serve.add_arguments(verbs)


def stats(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from steper_agent.plain import plain
    from steper_agent.retrieval import manifest, stamps

    found = manifest.read(args.index)
    stamps.check(args.index, found.files)
    table = Table(show_header=False, box=None)
    for name, fact in _facts(found).items():
        table.add_row(name, _safe(plain(fact)))
    Console(emoji=False).print(table)
    return 0


def verify(args: argparse.Namespace) -> int:
    from steper_agent.errors import told
    from steper_agent.retrieval import manifest, verify_index

    faults = verify_index(args.index)
    for fault in faults:
        print(told(fault))
    if not faults:
        found = manifest.read(args.index)
        print(f"{len(found.files)} files, {found.bytes / 1e6:.1f} MB, all as written")
    return 2 if faults else 0


def search(args: argparse.Namespace) -> int:
    from rich.console import Console

    from steper_agent.errors import ConfigError
    from steper_agent.plain import plain
    from steper_agent.retrieval import open_index, timings
    from steper_agent.retrieval.encoders import reaching
    from steper_agent.retrieval.remote import connect, url_in

    console = Console(emoji=False)
    url = url_in(args.index)
    if url and args.rerank:
        raise ConfigError("an index that is served is reranked where it is served", where="--rerank", fix="steper index serve DIR --rerank SPEC")
    opened = connect(url) if url else open_index(args.index, reranker=args.rerank)
    timings.PROCESS.clear()
    with reaching("the search", args.index):
        hits = opened.search(args.query, args.k)
    if not hits:
        console.print("no passage shares a word with this query", markup=False)
    for number, hit in enumerate(hits, start=1):
        passage = hit.passage
        title, name = _safe(plain(passage.title)), _safe(plain(passage.id))
        console.print(f"[bold]{number}  {title}[/]  {hit.score:.3f}  [dim]{name}[/]", highlight=False)
        console.print(f"   {plain(passage.text)}", markup=False, highlight=False)
    if args.timings:
        for name, stage in timings.snapshot().items():
            console.print(f"{name:8} {stage.total * 1e3:8.2f} ms", markup=False, highlight=False)
    return 0


def _facts(found: Manifest) -> dict[str, str]:
    deleted = f", {found.rows - found.passages:,} deleted" if found.rows > found.passages else ""
    dense = f", {found.dense.kind}" if found.dense else ""
    return {
        "passages": f"{found.passages:,}{deleted}",
        "characters": f"{found.characters:,}",
        "mode": found.mode,
        "words": _words(found),
        "encoder": f"{found.encoder}, {found.dimension} numbers{dense}" if found.encoder else "none",
        "sources": ", ".join(found.sources),
        "corpus": found.corpus[:12],
        "identity": found.identity[:12],
        "generation": str(found.generation),
        "size": f"{found.bytes / 1e6:.1f} MB in {len(found.files)} files",
        "made in": f"{found.seconds:.1f} s with " + ", ".join(f"{name} {v}" for name, v in found.versions.items()),
    }


def _words(found: Manifest) -> str:
    words = found.lexical
    if words is None:
        return "none"
    given = "the language's" if words.stop_words is None else f"{len(words.stop_words)}"
    left = f", {found.lingering:,} deleted passages still weighed" if found.lingering else ""
    return f"BM25, language {words.language}, {given} stop words, title weight {words.title_weight:g}{left}"


def _safe(text: str) -> str:
    """One line of text that rich takes literally; a backslash at the end would swallow the tag that follows."""
    from rich.markup import escape

    return escape(" ".join(text.split())) + ("\u200b" if text.endswith("\\") else "")
