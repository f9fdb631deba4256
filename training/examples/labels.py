"""What a student learns from the states it reached itself: its own chain as the prompt, the teacher's reply as the target.

A student that is taught from its teacher's chains only never sees what follows from a mistake of its own. So it walks, the
teacher says in each of its states what it would have said there, and that is what the next student learns (DAgger).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from langchain_core.messages import AIMessage, BaseMessage

from graphs.asking import prompt_of
from graphs.strategies import strategy_named
from graphs.strategies.strategy import SEARCH, Chain, Strategy, query_of
from graphs.strategies.tool_calling import SEARCH_TOOL
from steper_agent.prompts import segments
from steper_agent.records import Example, Label, Likely, Step, Trajectory
from training.examples.views import Fit, Teaching, fit_at, kind_of, made_to_fit
from training.scores.metrics import best, em
from training.trees.trie import common

REWRITTEN = "scored turns whose text is spelt in other tokens"


def fits_of_labels(trajectory: Trajectory, row: int, teaching: Teaching) -> list[Fit]:
    """One example for every label that is worth learning, in the order of the states; the last one's only in the vanilla view.

    Only the label's own tokens are learned, whatever the target: the lines before it are the student's, mistakes included. Its
    kind follows from its place in the chain that it continues, so a label that concludes is an aggregation even where the
    student went on. A scored label teaches by its `likely` alone: nothing in its example is to be learned as text.

    Labels are left out where they ask for a tool other than search, or conclude before anything was searched. Whether the run's
    teacher is to be trusted, `is_right` says.
    """
    labels = [label for label in trajectory.labels if _teaches(label)]
    wanted = labels if teaching.view == "stepwise" else labels[-1:]
    fits = [_fit_of(trajectory, label, row, replace(teaching, target="incremental")) for label in wanted]
    return [fit for fit in fits if fit.kind in teaching.kinds]


def is_right(trajectory: Trajectory) -> bool:
    """Whether a teacher's labels of a run can be trusted, by its last one: nothing says whether a line on the way is right.

    The last label concludes with an accepted answer. Or it does not conclude where the student did, and the student's answer is
    wrong: going on is then what a student that stops too early has to learn, though nobody knows what it would have come to.
    A teacher that concludes wrongly, goes on where the student was right, or says nothing readable at the end, has lost its way,
    and its earlier labels may be where.
    Scores are trusted: they are about the student's own turns.
    """
    if not trajectory.labels:
        return False
    last, accepted = trajectory.labels[-1], trajectory.question.answers
    if last.scored:
        return True
    is_at_end = last.of == "answer" if trajectory.stop == "budget" else last.step == len(trajectory.steps)
    if not accepted or not is_at_end:
        return False
    return best(em, last.answer, accepted) == 1 if last.answer else best(em, trajectory.answer, accepted) < 1


def with_likely(example: Example, likely: Likely | None) -> Example:
    """The example with what a teacher held likely in the places of its own turn.

    Text that was read and written again may be spelt in other tokens. What was told is kept up to there: behind it the places do
    not mean the same.
    """
    if likely is None:
        return example
    own, told = (np.array(ids, dtype=np.int64) for ids in (example.ids[example.turn :], likely.tokens))
    size = common(own, told)
    return example.model_copy(update={"likely": _first(likely, size)}) if size else example


def _first(likely: Likely, size: int) -> Likely:
    lists = ("tokens", "logprobs", "top_ids", "top_logprobs")
    return likely.model_copy(update={name: getattr(likely, name)[:size] for name in lists})


def _teaches(label: Label) -> bool:
    concludes_unread = label.of == "reason" and not label.step and bool(label.answer)
    return not concludes_unread and all(call.tool == SEARCH for call in label.calls)


def _fit_of(trajectory: Trajectory, label: Label, row: int, teaching: Teaching) -> Fit:
    if label.of == "answer":
        fit = made_to_fit(trajectory, label.step, teaching.max_length, lambda left: _answer_example(left, label, row, teaching))
    else:
        fit = fit_at(continued(trajectory, label), row, label.step, teaching)
    if fit.example is None:
        return fit
    example = with_likely(fit.example, label.likely)
    if label.scored and example.likely is None:
        return fit._replace(example=None, reason=REWRITTEN)
    if label.scored:
        example = example.model_copy(update={"learn": (0,) * len(example.ids)})
    return fit._replace(example=example)


def continued(trajectory: Trajectory, label: Label) -> Trajectory:
    """The student's chain up to the label's state, and the label instead of what the student said there."""
    steps, strategy = list(trajectory.steps[: label.step]), strategy_named(trajectory.strategy)
    if label.step:
        steps[-1] = steps[-1].model_copy(update={"rationale": label.rationale})
    if not label.answer:
        steps.append(Step(query=query_of(label.calls), hits=(), rationale="", calls=label.calls if strategy.TOOLS else ()))
    opening = trajectory.opening if label.step else label.rationale
    return trajectory.model_copy(update={"opening": opening, "steps": tuple(steps), "answer": label.answer})


def _answer_example(trajectory: Trajectory, label: Label, row: int, teaching: Teaching) -> Example:
    """Of the state in which the graph asks for the answer, because the budget is spent."""
    strategy, end = strategy_named(trajectory.strategy), teaching.tokenizer.eos_token_id
    asked = strategy.answer(Chain(trajectory.question.text, trajectory.opening, trajectory.steps), continues=True)
    parts = segments(prompt_of(strategy, _answered(asked, label.answer, strategy)), teaching.tokenizer, [SEARCH_TOOL] if strategy.TOOLS else [])
    said = parts[-1].ids if end is None or parts[-1].ids[-1] == end else (*parts[-1].ids, end)
    before = tuple(id for part in parts[:-1] for id in part.ids)
    return Example(trajectory=row, kind=kind_of(label.step, label.step), step=label.step, ids=before + said,
                   learn=(0,) * len(before) + (1,) * len(said), turn=len(before))


def _answered(asked: Sequence[BaseMessage], answer: str, strategy: Strategy) -> list[BaseMessage]:
    """The conversation in which the model was asked for the answer, and gave it."""
    *before, last = asked
    if isinstance(last, AIMessage) and isinstance(last.content, list):
        return [*before, last.model_copy(update={"content": [*last.content, {"type": "text", "text": f" {answer}.\n"}]})]
    return [*asked, AIMessage(f"{strategy.CONCLUSION} {answer}.")]
