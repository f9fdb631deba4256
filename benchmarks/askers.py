"""What 64 askers at once gain over one after another, where an encoder reads each question:

    steper index build corpus.jsonl --out runs/dense --mode dense --encoder sentence-transformers:MODEL
    python benchmarks/askers.py --index runs/dense --questions questions.jsonl --json FILE

Each asks the index its share of the same distinct questions. Alone, one search waits for the one before it; together, searches
that come at the same time are encoded in one call. Both find the same hits, or this fails. Longer questions gain less: more of the time
is arithmetic, and less what comes with every call.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from pathlib import Path

from steper_agent.records import Hit
from steper_agent.retrieval import IndexRetriever, open_index, read_questions
from training.verb import versions

K, WARM = 4, 32


def alone(index: IndexRetriever, questions: list[str]) -> tuple[list[tuple[Hit, ...]], float]:
    start = time.perf_counter()
    hits = [index.search(question, K) for question in questions]
    return hits, len(questions) / (time.perf_counter() - start)


def together(index: IndexRetriever, questions: list[str], askers: int) -> tuple[list[tuple[Hit, ...]], float]:
    found: dict[str, tuple[Hit, ...]] = {}

    async def ask(share: list[str]) -> None:
        for question in share:
            found[question] = await index.asearch(question, K)

    async def ask_all() -> None:
        await asyncio.gather(*(ask(questions[start::askers]) for start in range(askers)))

    start = time.perf_counter()
    asyncio.run(ask_all())
    return [found[question] for question in questions], len(questions) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, required=True, help="index folder, dense or hybrid")
    parser.add_argument("--questions", type=Path, required=True, help="JSONL of questions, or a data set's own file")
    parser.add_argument("--limit", type=int, default=640, help="questions to ask")
    parser.add_argument("--askers", type=int, default=64)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    args = parser.parse_args()
    index: IndexRetriever = open_index(args.index)
    asked = list(dict.fromkeys(question.text for question in read_questions(args.questions)))[: WARM + args.limit]
    alone(index, asked[:WARM])
    one, one_qps = alone(index, asked[WARM:])
    many, many_qps = together(index, asked[WARM:], args.askers)
    differ = sum([hit.passage.id for hit in a] != [hit.passage.id for hit in b] for a, b in zip(one, many, strict=True))
    if differ:
        raise SystemExit(f"{differ} of {len(one)} questions found other passages together than alone")
    report = {"command": "python benchmarks/askers.py " + " ".join(sys.argv[1:]), "versions": versions(), "cores": os.cpu_count(), "askers": args.askers,
              "passages": len(index), "questions": len(one), "alone_qps": one_qps, "together_qps": many_qps, "times": many_qps / one_qps}  # fmt: skip
    print(json.dumps(report, indent=1))
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
