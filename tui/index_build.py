"""`steper index plan`, `build`, `add` and `delete`: what changes an index, and what that will take."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui.bars import bars, shown_on

if TYPE_CHECKING:
    from steper_agent.retrieval.building import IndexSettings
    from steper_agent.retrieval.encoders import Encoder
    from steper_agent.retrieval.manifest import Manifest
    from steper_agent.retrieval.plan import Plan
    from steper_agent.retrieval.sources.tally import Tally

SOURCES = (
    "HotpotQA or 2WikiMultiHopQA JSON; MuSiQue, BEIR or own JSON lines with id, title and text; CSV, TSV or Parquet with such "
    "columns; each also .gz, .bz2 or .zst; or a folder of .txt and .md, HTML, PDF and Word files"
)
BUILD = """\
examples:
  steper index build wiki.jsonl.gz --out runs/wiki
  steper index build notes/ --out runs/notes --chunk-chars 800 --overlap 150
  steper index build wiki.jsonl --out runs/wiki --mode hybrid --encoder sentence-transformers:intfloat/e5-base-v2
  steper index build zeitung.jsonl --out runs/zeitung --language german

An index that is there serves on until the new one is whole, then gives way. A build that was interrupted goes on where it
stopped when the same command is given again. What it will take is told by: steper index plan
"""
ADD = """\
examples:
  steper index add runs/wiki today.jsonl
  steper index add runs/wiki corrected.jsonl --replace

Programs that have the index open go on with what they opened; `steper index serve` follows by itself.
"""
DELETE = """\
examples:
  steper index delete runs/wiki p17 p18
  steper index delete runs/wiki --ids gone.txt --missing ignore

No search finds a deleted passage any more. Its text stays in the folder's files until the index is built again.
"""


def add_arguments(verbs: argparse._SubParsersAction[Any]) -> None:
    """Register the verbs that plan an index, make it and change it."""
    _add_plan(verbs)
    make = _verb(verbs, "build", "index the passages of files or folders", BUILD)
    _add_sources(make)
    make.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write; replaces an index there")
    _add_settings(make)
    make.add_argument(
        "--language", default="english", metavar="NAME", help="whose words are stemmed, or none, default english"
    )
    make.add_argument(
        "--stop-words",
        metavar="FILE",
        help="words that are not searched, one a line, or none, default the language's",
    )
    make.add_argument(
        "--title-weight",
        type=float,
        default=0.4,
        metavar="W",
        help="what a title's words count once more, default 0.4",
    )
    make.add_argument(
        "--query-prefix", metavar="TEXT", help="what the encoder reads before a query, default its family's"
    )
    make.add_argument("--passage-prefix", metavar="TEXT", help="and before a passage")
    _add_on_bad(make)
    make.set_defaults(run=build)
    more = _verb(verbs, "add", "add passages to an index", ADD)
    more.add_argument("index", type=Path, metavar="DIR")
    _add_sources(more)
    more.add_argument("--replace", action="store_true", help="a passage whose id the index has takes the other's place")
    _add_on_bad(more)
    more.set_defaults(run=add)
    less = _verb(verbs, "delete", "delete passages from an index", DELETE)
    less.add_argument("index", type=Path, metavar="DIR")
    less.add_argument("id", nargs="*", metavar="ID")
    less.add_argument("--ids", type=Path, metavar="FILE", help="ids, one a line")
    less.add_argument(
        "--missing", choices=("error", "ignore"), default="error", help="an id that the index lacks, default error"
    )
    less.set_defaults(run=delete)


def _add_plan(verbs: argparse._SubParsersAction[Any]) -> None:
    parser = _verb(verbs, "plan", "say what an index will take of disk, memory and time, without making it", "")
    _add_sources(parser)
    parser.add_argument(
        "--out", type=Path, default=Path(), metavar="DIR", help="where it will be written, default here"
    )
    _add_settings(parser)
    parser.add_argument(
        "--dimension", type=int, metavar="N", help="numbers the encoder makes of a passage, where it is not at hand"
    )
    parser.set_defaults(run=show_plan, query_prefix=None, passage_prefix=None)


def _add_sources(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sources", nargs="+", type=Path, metavar="SOURCE", help=SOURCES)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mode", choices=("bm25", "dense", "hybrid"), default="bm25", help="default: bm25")
    parser.add_argument(
        "--encoder", metavar="SPEC", help="for dense and hybrid: sentence-transformers:NAME or PROVIDER:NAME"
    )
    parser.add_argument(
        "--dense-kind",
        choices=("auto", "flat", "hnsw", "ivf", "ivfpq"),
        default="auto",
        help="how vectors are searched; auto chooses by their number and the memory, default auto",
    )
    parser.add_argument(
        "--chunk-chars", type=int, default=1000, metavar="N", help="documents: characters a passage, default 1000"
    )
    parser.add_argument(
        "--overlap", type=int, default=0, metavar="N", help="documents: characters said again in the next, default 0"
    )


def _add_on_bad(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--on-bad", choices=("stop", "skip"), default="stop", help="what a broken record does, default stop"
    )


def _verb(verbs: argparse._SubParsersAction[Any], name: str, about: str, epilog: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=about,
        description=f"{about.capitalize()}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return made


def show_plan(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from steper_agent.retrieval.plan import plan, refuse

    settings = _settings(args)
    dimension = args.dimension or _dimension(_encoder(args, settings))
    made = plan(
        args.sources, args.out, mode=args.mode, dimension=dimension, dense=settings.dense, chunking=settings.chunking
    )
    table = Table(show_header=False, box=None)
    for name, fact in _facts(made).items():
        table.add_row(name, fact)
    Console(emoji=False).print(table)
    refuse(made, args.out)
    return 0


def build(args: argparse.Namespace) -> int:
    from steper_agent.retrieval import Tally, build_index
    from steper_agent.retrieval.plan import plan, refuse

    settings, tally = _settings(args), Tally(on_bad=args.on_bad)
    encoder = _encoder(args, settings)
    # A pipe is read but once, and of a request without its encoder the room says what is wrong.
    if all(source.is_file() or source.is_dir() for source in args.sources) and (args.mode == "bm25" or encoder):
        refuse(
            plan(
                args.sources,
                args.out,
                mode=args.mode,
                dimension=_dimension(encoder),
                dense=settings.dense,
                chunking=settings.chunking,
            ),
            args.out,
        )
    with bars() as bar:
        made = build_index(
            args.sources,
            args.out,
            mode=args.mode,
            encoder=encoder,
            settings=settings,
            tally=tally,
            progress=shown_on(bar),
        )
    _tell("built", args.out, made, tally)
    return 0


def add(args: argparse.Namespace) -> int:
    from steper_agent.retrieval import Tally, add_passages

    tally = Tally(on_bad=args.on_bad)
    with bars() as bar:
        made = add_passages(args.index, args.sources, replace=args.replace, tally=tally, progress=shown_on(bar))
    _tell("added to", args.index, made, tally)
    return 0


def delete(args: argparse.Namespace) -> int:
    from steper_agent.errors import ConfigError
    from steper_agent.retrieval import delete_passages
    from steper_agent.retrieval.sources.files import written_lines

    listed = written_lines(args.ids, "id", flag="--ids", cure="write an id a line") if args.ids else []
    ids = [*args.id, *(line.strip() for line, _ in listed)]
    if not ids:
        raise ConfigError("no id given", where="delete", fix="name ids, or a file of them with --ids")
    _tell("deleted from", args.index, delete_passages(args.index, ids, missing=args.missing), None)
    return 0


def _settings(args: argparse.Namespace) -> IndexSettings:
    from pydantic import ValidationError

    from steper_agent.errors import ConfigError
    from steper_agent.retrieval import Chunking, IndexSettings, LexicalSettings
    from steper_agent.retrieval.encoders import Prefixes

    named = (
        {"language": args.language, "stop_words": _stop_words(args.stop_words), "title_weight": args.title_weight}
        if "language" in args
        else {}
    )
    prefixes = None
    if args.query_prefix is not None or args.passage_prefix is not None:
        prefixes = Prefixes(query=args.query_prefix or "", passage=args.passage_prefix or "")
    try:
        lexical = LexicalSettings.model_validate(named)
    except ValidationError as bad:
        problem = bad.errors()[0]
        flag = "--" + str(problem["loc"][0]).replace("_", "-")
        raise ConfigError(
            f"{flag}: {problem['msg'].lower()}", where=flag, fix="see: steper index build --help"
        ) from bad
    return IndexSettings(
        chunking=Chunking(chars=args.chunk_chars, overlap=args.overlap),
        lexical=lexical,
        prefixes=prefixes,
        dense=None if args.dense_kind == "auto" else args.dense_kind,
    )


def _stop_words(given: str | None) -> tuple[str, ...] | None:
    from steper_agent.retrieval.sources.files import written_lines

    if given is None:
        return None
    if given == "none":
        return ()
    found = written_lines(Path(given), "stop word", flag="--stop-words", cure="write a word a line, or give none")
    return tuple(line.strip() for line, _ in found)


def _encoder(args: argparse.Namespace, settings: IndexSettings) -> Encoder | None:
    from steper_agent.retrieval.encoders import encoder_from

    return encoder_from(args.encoder, settings.prefixes) if args.encoder else None


def _dimension(encoder: Encoder | None) -> int:
    return int(encoder.passages(["a"]).shape[1]) if encoder else 0


def _facts(made: Plan) -> dict[str, str]:
    about = "" if made.is_exact else "about "
    minutes = f"{made.seconds / 60:.0f} min" if made.seconds > 90 else f"{made.seconds:.0f} s"
    return {
        "passages": f"{about}{made.passages:,}",
        "vectors": made.dense.kind if made.dense else "none",
        "disk": f"{_size(made.disk)}, {_size(made.build_disk)} while it is made ({_size(made.free_disk)} free)",
        "memory": f"{_size(made.build_memory)} while it is made ({_size(made.free_memory)} free)",
        "time": f"{minutes}{' and the time of the encoder' if made.dense else ''}, on two cores",
    }


def _size(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e8 else f"{number / 1e6:.1f} MB"


def _tell(what: str, folder: Path, made: Manifest, tally: Tally | None) -> None:
    from rich.console import Console

    said = f"{what} {folder}: {made.passages:,} passages, {made.mode}, {made.seconds:.1f} s, {made.bytes / 1e6:.1f} MB"
    for line in (said, *(tally.describe()[1:] if tally else ())):
        Console(emoji=False).print(line, markup=False, highlight=False, soft_wrap=True)
