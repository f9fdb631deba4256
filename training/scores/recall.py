"""How much of the gold evidence searching alone finds, without any model: by one search with the question, and by the searches
of a gold chain, as the graph makes them (the question first, then each line of reasoning).

The two are compared at equal passages: the single search is given as many as the chain's searches found together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from rich.console import Console
from rich.table import Table

from steper_agent.records import Hit, Question, Record
from steper_agent.retrieval.encoders import reaching
from training.scores.metrics import Interval, interval, paired_difference, recall_at

DEPTHS = (2, 5, 10)
BLOCK = 64
"""Searches handed over at once: a dense encoder reads them as one batch."""
ALL = "all"

Tell = Callable[[int], None]
"""Searches done since the last call."""


class Searcher(Protocol):
    def search_many(self, queries: Sequence[str], k: int) -> list[tuple[Hit, ...]]: ...


class Mean(Record):
    mean: float
    ci: Interval
    """95 % bootstrap over questions."""


class Depth(Record):
    recall: Mean
    """Mean share of a question's supporting passages that were found."""
    all_support: Mean
    """Share of questions whose supporting passages were all found."""


class Row(Record):
    """One retriever on one group of questions."""

    retriever: str
    questions: str
    """`all`, or `N hops`."""
    n: int
    depths: dict[int, Depth]
    """By how many of the first hits are looked at."""


class Interleaved(Record):
    """The searches of gold chains against one search with the question, at equal passages."""

    retriever: str
    questions: str
    n: int
    searches: float
    """Of a chain, mean."""
    passages: float
    """That either side was given, mean."""
    one_step: Depth
    chain: Depth
    recall_gain: Mean
    """The chain's recall minus the single search's, question by question."""
    all_gain: Mean
    """The same of `all_support`."""


class Chained(NamedTuple):
    question: Question
    queries: tuple[str, ...]
    """The question, then every line but the last, which concludes."""


def measure(name: str, index: Searcher, questions: Sequence[Question], *, seed: int, tell: Tell) -> list[Row]:
    """One search a question; a row for all questions, and one for each number of hops where several are known."""
    found = _search(name, index, [question.text for question in questions], max(DEPTHS), tell)
    rows = []
    for label, members in _groups(questions).items():
        depths = {k: _depth([_support(found[at], questions[at], k) for at in members], seed) for k in DEPTHS}
        rows.append(Row(retriever=name, questions=label, n=len(members), depths=depths))
    return rows


def interleave(name: str, index: Searcher, chains: Sequence[Chained], k: int, *, seed: int, tell: Tell) -> list[Interleaved]:
    """The searches of every chain, `k` passages each, against one search for as many passages as they found."""
    hits = iter(_search(name, index, [query for chain in chains for query in chain.queries], k, tell))
    stepwise = [list(dict.fromkeys(one for _ in chain.queries for one in next(hits))) for chain in chains]
    most = max(map(len, stepwise))
    at_once = _search(name, index, [chain.question.text for chain in chains], most, tell)
    made = []
    for label, members in _groups([chain.question for chain in chains]).items():
        once, steps = ([_support(found[at], chains[at].question, len(stepwise[at])) for at in members] for found in (at_once, stepwise))
        recalls, wholes = (paired_difference([one[part] for one in once], [one[part] for one in steps], seed=seed) for part in (0, 1))
        made.append(Interleaved(
            retriever=name, questions=label, n=len(members), searches=sum(len(chains[at].queries) for at in members) / len(members),
            passages=sum(len(stepwise[at]) for at in members) / len(members), one_step=_depth(once, seed), chain=_depth(steps, seed),
            recall_gain=Mean(mean=recalls.mean, ci=recalls.ci), all_gain=Mean(mean=wholes.mean, ci=wholes.ci),
        ))  # fmt: skip
    return made


def _search(name: str, index: Searcher, queries: Sequence[str], k: int, tell: Tell) -> list[list[str]]:
    """Passage ids of every query's hits, best first."""
    found = []
    for start in range(0, len(queries), BLOCK):
        block = queries[start : start + BLOCK]
        with reaching("the search", name):
            answers = index.search_many(block, k)
        found += [[hit.passage.id for hit in hits] for hits in answers]
        tell(len(block))
    return found


def _groups(questions: Sequence[Question]) -> dict[str, list[int]]:
    """Places of the questions, all together and by hops; by hops only where there are several numbers of them."""
    by_hops: dict[int, list[int]] = {}
    for at, question in enumerate(questions):
        hops = question.meta.get("hops")
        if isinstance(hops, int):
            by_hops.setdefault(hops, []).append(at)
    told = {f"{hops} hops": by_hops[hops] for hops in sorted(by_hops)} if len(by_hops) > 1 else {}
    return {ALL: list(range(len(questions))), **told}


def _support(found: Sequence[str], question: Question, k: int) -> tuple[float, float]:
    """Share of the supporting passages among the first `k`, and 1 if they are all there."""
    share = recall_at(found, question.supporting_ids, k)
    return share, float(share == 1)


def _depth(judged: Sequence[tuple[float, float]], seed: int) -> Depth:
    recall, whole = ([one[part] for one in judged] for part in (0, 1))
    return Depth(recall=_mean(recall, seed), all_support=_mean(whole, seed))


def _mean(values: Sequence[float], seed: int) -> Mean:
    return Mean(mean=sum(values) / len(values), ci=interval(values, seed=seed))


def show(rows: Sequence[Row], interleaved: Sequence[Interleaved], recipe: Mapping[str, Any], console: Console) -> None:
    """Two tables, and what to know to read them."""
    table = Table("retriever", "questions", "n", *(f"recall@{k}" for k in DEPTHS), *(f"all@{k}" for k in DEPTHS), title="one search with the question")
    for row in rows:
        shares = [getattr(row.depths[k], name) for name in ("recall", "all_support") for k in DEPTHS]
        table.add_row(row.retriever, row.questions, str(row.n), *map(_told, shares), end_section=row is rows[-1])
    console.print(table)
    if interleaved:
        both = Table("retriever", "questions", "n", "searches", "passages", "one search", "gold chain", "gain", "all: one search", "all: gold chain",
                     "all: gain", title=f"gold chains, {recipe['k']} passages a search, against one search for as many passages: recall")
        for one in interleaved:
            shares = [one.one_step.recall, one.chain.recall, one.recall_gain, one.one_step.all_support, one.chain.all_support, one.all_gain]
            both.add_row(one.retriever, one.questions, str(one.n), f"{one.searches:.1f}", f"{one.passages:.1f}", *map(_told, shares))
        console.print(both)
    console.print("recall: mean share of a question's supporting passages that were found; all: share of questions that had all of them; 95 % intervals", highlight=False)


def _told(share: Mean) -> str:
    return f"{share.mean:.3f} [{share.ci[0]:.3f}, {share.ci[1]:.3f}]"
