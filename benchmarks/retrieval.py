"""What an index costs and how fast it answers, beside other engines on the same passages: python benchmarks/retrieval.py --json FILE

Passages of natural statistics (natural_corpus.py) at three sizes. Everything is measured in child processes: `peak_gb` is the most
memory that the build held, `rss_gb` that of a process that has opened the index and answered the questions; `open_s` is the opening
without the imports; `qps` is of as many threads as there are cores. `raw_p50_ms` is Tantivy itself on our own files, asked for the same
terms and as many hits, without reading a passage; both take turns, question by question. bm25s gets the same words, stemmed and
without stop words, and is left out where it runs out of the memory it is allowed (`--peer-gb`). It runs as fast as it can: compiled by
numba where that is installed, and for `qps` with all questions in one call.

A FILE that is there keeps what a command does not measure.

Dense: vectors of 384 numbers around 1,000 centres, handed to the index by an encoder that knows them, so that no model is measured;
FAISS is asked for the same vectors on our own file. `recall` is of ten neighbours, against all vectors compared. What ours adds does
not depend on the kind: passages are read and made, ties settled. Beside a flat index that is nothing, beside a graph it shows.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings
from natural_corpus import Language, write

from training.verb import versions

K, WARM, ASKED, DIMENSION, CENTRES = 4, 100, 500, 384, 1000


def build_ours(args: argparse.Namespace) -> dict[str, Any]:
    from steper_agent.retrieval import build_index

    start = time.perf_counter()
    build_index([args.corpus], args.index)
    return {"build_s": time.perf_counter() - start, "peak_gb": peak(), "disk_gb": disk(args.index)}


def search_ours(args: argparse.Namespace) -> dict[str, Any]:
    import tantivy

    from steper_agent.retrieval import IndexRetriever, open_index
    from steper_agent.retrieval.lexical import LexicalIndex

    start = time.perf_counter()
    index: IndexRetriever = open_index(args.index)
    opened = time.perf_counter() - start
    engine: LexicalIndex = index.lexical
    searcher: tantivy.Searcher = engine._searcher

    def raw(text: str) -> None:
        hits = searcher.search(engine._query(list(dict.fromkeys(engine._terms(text)))), limit=K, count=False).hits
        searcher.fast_field_values("row", [address for _, address in hits])

    questions = json.loads(args.questions.read_text())
    ours, theirs = alternately([lambda text: index.search(text, K), raw], questions)
    qps = throughput(lambda text: index.search(text, K), questions[WARM:])
    return {"open_s": opened, **latencies(ours), "qps": qps, "segments": searcher.num_segments, "rss_gb": resident(), "raw_p50_ms": 1e3 * statistics.median(theirs)}


def build_bm25s(args: argparse.Namespace) -> dict[str, Any]:
    """As its documentation builds an index of a corpus that fits into memory."""
    import bm25s
    import Stemmer

    start = time.perf_counter()
    with args.corpus.open(encoding="utf-8") as file:
        texts = [f"{one['title']}\n{one['text']}" for one in map(json.loads, file)]
    tokens = bm25s.tokenize(texts, stopwords="en", stemmer=Stemmer.Stemmer("english"), show_progress=False)
    del texts
    model = bm25s.BM25(backend="auto")
    model.index(tokens, show_progress=False)
    model.save(args.index, show_progress=False)
    return {"build_s": time.perf_counter() - start, "peak_gb": peak(), "disk_gb": disk(args.index)}


def search_bm25s(args: argparse.Namespace) -> dict[str, Any]:
    import bm25s
    import Stemmer

    stemmer = Stemmer.Stemmer("english")
    start = time.perf_counter()
    model = bm25s.BM25.load(args.index, mmap=True)
    opened = time.perf_counter() - start

    def search(texts: list[str], threads: int = 0) -> None:
        tokens = bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, show_progress=False, return_ids=False)
        model.retrieve(tokens, k=K, show_progress=False, n_threads=threads)

    questions = json.loads(args.questions.read_text())
    (found,) = alternately([lambda text: search([text])], questions)
    search(questions[:WARM], threads=os.cpu_count() or 1)
    start = time.perf_counter()
    search(questions[WARM:], threads=os.cpu_count() or 1)
    qps = (len(questions) - WARM) / (time.perf_counter() - start)
    return {"open_s": opened, **latencies(found), "qps": qps, "rss_gb": resident(), "backend": model.backend}


class Known(Embeddings):
    """Vectors by number: passage `7` and question `7` lie close together, around one of the centres."""

    def __init__(self) -> None:
        self._centres = np.random.default_rng(0).standard_normal((CENTRES, DIMENSION)).astype(np.float32)

    def embed_documents(self, texts: list[str]) -> Any:
        return self.vectors([int(text.rpartition("\n")[2]) for text in texts], noise=0)

    def embed_query(self, text: str) -> Any:
        return self.vectors([int(text)], noise=1)[0]

    def vectors(self, numbers: Sequence[int], noise: int) -> np.ndarray:
        made = np.stack([np.random.default_rng((number, 5)).standard_normal(DIMENSION, dtype=np.float32) for number in numbers])
        made = self._centres[np.asarray(numbers) % CENTRES] + made
        for row, number in enumerate(numbers if noise else ()):
            made[row] += 0.5 * np.random.default_rng((number, 6)).standard_normal(DIMENSION, dtype=np.float32)
        return made / np.linalg.norm(made, axis=1, keepdims=True)


def dense(args: argparse.Namespace) -> dict[str, Any]:
    import faiss

    from steper_agent.retrieval import IndexSettings, build_index, open_index

    encoder, folder = Known(), args.index
    with args.corpus.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"id": str(number), "title": "", "text": str(number)}) + "\n" for number in range(args.rows))
    start = time.perf_counter()
    made = build_index([args.corpus], folder, mode="dense", encoder=encoder, settings=IndexSettings(dense=args.kind))
    built = time.perf_counter() - start
    index = open_index(folder, encoder)
    numbers = np.random.default_rng(3).integers(0, args.rows, WARM + ASKED // 5)
    asked = {str(number): encoder.embed_query(str(number)) for number in numbers}
    encoder.embed_query = asked.__getitem__  # type: ignore[method-assign] - a lookup, so that only searching is timed
    engine, settings = index.dense._vectors, index.dense._parameters(K, index.dense._reach()[0])

    def raw(text: str) -> None:
        engine.search(asked[text][None], K, params=settings)

    ours, theirs = alternately([lambda text: index.search(text, K), raw], list(asked))
    found = [[int(hit.passage.id) for hit in index.search(text, 10)] for text in list(asked)[:50]]
    exact = nearest(encoder, args.rows, np.stack(list(asked.values())[:50]))
    shared = [len(set(one) & set(other)) for one, other in zip(found, exact, strict=True)]
    return {"kind": made.dense.kind if made.dense else "", "build_s": built, "peak_gb": peak(), "disk_gb": disk(folder),
            "ours_p50_ms": 1e3 * statistics.median(ours), "faiss_p50_ms": 1e3 * statistics.median(theirs),
            "recall": sum(shared) / (10 * len(shared)), "threads": faiss.omp_get_max_threads()}  # fmt: skip


def nearest(encoder: Known, rows: int, queries: np.ndarray) -> list[list[int]]:
    best = np.empty((len(queries), 0)), np.empty((len(queries), 0), dtype=np.int64)
    for start in range(0, rows, 20_000):
        numbers = np.arange(start, min(rows, start + 20_000))
        scores = np.hstack([best[0], queries @ encoder.vectors(numbers.tolist(), noise=0).T])
        names = np.hstack([best[1], np.broadcast_to(numbers, (len(queries), len(numbers)))])
        kept = np.argsort(-scores, axis=1)[:, :10]
        best = np.take_along_axis(scores, kept, 1), np.take_along_axis(names, kept, 1)
    return [[int(number) for number in row] for row in best[1]]


def alternately(searches: Sequence[Callable[[str], object]], questions: Sequence[str]) -> list[list[float]]:
    """Seconds of every question after the first WARM, for each search; they take turns, and in who goes first as well."""
    seconds: list[list[float]] = [[] for _ in searches]
    for number, text in enumerate(questions):
        for place in range(len(searches)):
            at = (number + place) % len(searches)
            start = time.perf_counter()
            searches[at](text)
            if number >= WARM:
                seconds[at].append(time.perf_counter() - start)
    return seconds


def throughput(search: Callable[[str], object], questions: Sequence[str]) -> float:
    start = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(search, questions))
    return len(questions) / (time.perf_counter() - start)


def latencies(seconds: Sequence[float]) -> dict[str, float]:
    return {"p50_ms": 1e3 * statistics.median(seconds), "p95_ms": 1e3 * float(np.quantile(seconds, 0.95))}


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e9


def disk(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9


PARTS = {one.__name__: one for one in (build_ours, search_ours, build_bm25s, search_bm25s, dense)}


def child(part: str, *words: object, gigabytes: float = 0) -> dict[str, Any]:
    """What a part measures, in a process of its own; what it died of, where it did."""

    def limit() -> None:
        if gigabytes:
            resource.setrlimit(resource.RLIMIT_AS, (int(gigabytes * 1e9),) * 2)

    command = [sys.executable, __file__, "--part", part, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, check=False)
    if done.returncode:
        if not gigabytes:
            raise SystemExit(done.stderr)
        return {"failed": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1], "allowed_gb": gigabytes}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def of_size(language: Language, size: int, folder: Path, peer_gb: float) -> dict[str, Any]:
    corpus, asked = folder / "corpus.jsonl", folder / "questions.json"
    kept = write(corpus, language, size)
    asked.write_text(json.dumps(language.questions(kept, WARM + ASKED)))
    found: dict[str, Any] = {"corpus_gb": corpus.stat().st_size / 1e9}
    for engine in ("ours", "bm25s"):
        words, allowed = ("--corpus", corpus, "--questions", asked, "--index", folder / engine), peer_gb if engine == "bm25s" else 0
        found[engine] = child(f"build_{engine}", *words, gigabytes=allowed)
        if "failed" not in found[engine]:
            found[engine] |= child(f"search_{engine}", *words, gigabytes=allowed)
        show(f"{size:,} passages, {engine}", found[engine])
    return found


def show(title: str, found: dict[str, Any]) -> None:
    print(f"{title:28}", ", ".join(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in found.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--sizes", type=int, nargs="*", default=[100_000, 1_000_000, 5_000_000], help="passages (default: 10^5, 10^6, 5·10^6)")
    parser.add_argument("--dense", type=int, default=1_000_000, metavar="N", help="vectors; 0: none (default: 10^6)")
    parser.add_argument("--kinds", nargs="*", default=["flat", "auto"], help="of dense index; the first stands for its size (default: flat, and what is chosen for as many)")
    parser.add_argument("--peer-gb", type=float, default=16.0, help="address space that bm25s is allowed (default: 16)")
    parser.add_argument("--folder", type=Path, help="where corpora and indexes are made, about 8 GB (default: a temporary one)")
    for name, kind in (("--part", str), ("--corpus", Path), ("--questions", Path), ("--index", Path), ("--rows", int), ("--kind", str)):
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        args.kind = None if args.kind == "auto" else args.kind
        print(json.dumps(PARTS[args.part](args)))
        return
    report: dict[str, Any] = json.loads(args.json.read_text()) if args.json and args.json.is_file() else {"sizes": {}, "dense": {}}
    command = " ".join(["python benchmarks/retrieval.py", *sys.argv[1:]])
    report |= {"commands": [*report.get("commands", []), command], "versions": versions(), "cores": os.cpu_count()}
    language = Language() if args.sizes else None
    for size in args.sizes:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            report["sizes"][str(size)] = of_size(language, size, Path(folder), args.peer_gb)
        _write(args.json, report)
    for kind in args.kinds if args.dense else ():
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            found = child("dense", "--rows", args.dense, "--kind", kind, "--corpus", Path(folder) / "numbers.jsonl", "--index", Path(folder) / "index")
        show(f"{args.dense:,} vectors, {kind}", found)
        report["dense"].setdefault(str(args.dense), dict(found))[f"as_{kind}"] = found
        _write(args.json, report)


def _write(path: Path | None, report: dict[str, Any]) -> None:
    if path:
        path.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
