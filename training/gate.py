"""Is the candidate good enough? It and the incumbent answer the same questions through the graph, and are compared question by
question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from langchain_core.language_models import BaseChatModel

from graphs.run import Context, answer_all
from steper_agent.errors import AdapterError
from steper_agent.records import Question, Record
from training.evaluation import judge
from training.scores.metrics import Interval, paired_difference


class GateReport(Record):
    """EM of both, in points (hundredths)."""

    n: int
    before: float
    after: float
    delta: float
    interval: Interval
    """95 % bootstrap of `delta`, over pairs."""
    min_delta: float
    failed: int
    """Questions that the candidate's run failed on; each counts as answered wrongly."""

    @property
    def is_passed(self) -> bool:
        return self.delta >= self.min_delta

    def __str__(self) -> str:
        low, high = self.interval
        return (f"EM {self.before:.1f} → {self.after:.1f} on {self.n} questions: {self.delta:+.1f} points "
                f"[{low:+.1f}, {high:+.1f}], at least {self.min_delta:+.1f} wanted"
                + (f"; {self.failed} runs failed" if self.failed else ""))


def compare(
    incumbent: BaseChatModel, candidate: BaseChatModel, context: Context, questions: Sequence[Question], *,
    min_delta: float, concurrency: int = 16,
) -> GateReport:  # fmt: skip
    """Both on all questions, with this context's retriever, strategy and limits.

    Raises:
        DataError: a question has no answer to be judged by.
    """
    before, _ = _judged(incumbent, context, questions, concurrency)
    after, failed = _judged(candidate, context, questions, concurrency)
    difference = paired_difference(before, after)
    low, high = difference.ci
    return GateReport(n=difference.n, before=100 * sum(before) / len(before), after=100 * sum(after) / len(after),
                      delta=100 * difference.mean, interval=(100 * low, 100 * high), min_delta=min_delta, failed=failed)


def gate_of(
    incumbent: BaseChatModel, context: Context, questions: Sequence[Question], *, min_delta: float,
    on_report: Callable[[GateReport], None] = lambda _: None,
) -> Callable[[BaseChatModel], None]:
    """The gate of a swap (`steper_agent.students.swap.Terms`): raises AdapterError for a candidate that falls short."""

    def gate(candidate: BaseChatModel) -> None:
        report = compare(incumbent, candidate, context, questions, min_delta=min_delta)
        on_report(report)
        if not report.is_passed:
            raise AdapterError(f"it falls short: {report}", where="the gate", fix="train it longer, or allow more with --min-delta")

    return gate


def _judged(model: BaseChatModel, context: Context, questions: Sequence[Question], concurrency: int) -> tuple[list[float], int]:
    """EM by question, and how many runs failed."""
    trajectories = answer_all(questions, replace(context, model=model, journal=None), concurrency=concurrency)
    return [judge(one).em for one in trajectories], sum(one.stop == "error" for one in trajectories)
