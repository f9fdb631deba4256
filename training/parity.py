"""Whether every way to run a student is the same student: the ids of trainer, graph and server, and the words of PEFT,
merged and served.

Ids are compared exactly, over what the symbolic teacher says in a small micro-world in every strategy that searches. Words
are greedy and held to the tolerances of `steper_agent.students.golden`.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from itertools import zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, get_args

from graphs.strategies import STRATEGIES, strategy_named
from steper_agent.errors import StepERError
from steper_agent.models.decoding import Request
from steper_agent.models.engine import Engine
from steper_agent.models.loading import Vocabulary, open_tokenizer, open_vocabulary
from steper_agent.models.local import LocalChatModel
from steper_agent.records import Example, Golden, Kind, Record, StudentCard
from steper_agent.students.golden import (
    DRIFT,
    MOST_TOKENS,
    SHARE,
    TIE,
    Divergence,
    Greedy,
    divergence,
    golden_of,
)
from steper_agent.students.merge import merged_folder
from steper_agent.students.student import read_card, read_golden, verify_student
from steper_agent.vllm.answer import Answer
from steper_agent.vllm.model import VllmChatModel
from steper_agent.vllm.served_base import start_base
from training.examples.views import Target, Teaching, examples_of, kind_of
from training.microworld.dictation import Lesson, Turn, lesson_in, small_world
from training.student.goldens import OF_EACH_KIND

COMPARED = tuple(name for name, strategy in STRATEGIES.items() if strategy.MOST_STEPS != 0)
"""`direct` is left out: its examples also teach the words before the answer, which the graph writes itself."""
AROUND = 4
"""Tokens shown before and behind the first that differs."""
Served = Mapping[str, AbstractContextManager[VllmChatModel]]
"""How it is served → the model, opened when its turn comes: two servers at once may not fit on a GPU."""


class Comparison(Record):
    name: str
    prompts: int
    tokens: int
    """Compared: ids of whole examples or prompts, or tokens of replies."""
    drift: float | None = None
    """Largest difference of a token's log-probability, in nats; None where ids are compared."""
    ties: int = 0
    """Replies that went another way at a near-tie; what follows in them is not compared."""
    divergence: str = ""
    """The first, in words; empty where all agree."""


class Report(Record):
    base: str
    """Fingerprint."""
    student: str
    dtype: str
    tie: float = TIE
    """Tolerances of words, in nats: see `steper_agent.students.golden`."""
    drift: float = DRIFT
    share: float = SHARE
    left_out: int
    """Prompts that fill the base's window, so that no words could be compared."""
    comparisons: tuple[Comparison, ...]

    @property
    def agrees(self) -> bool:
        return not any(each.divergence for each in self.comparisons)


class Prompt(NamedTuple):
    source: str
    """The strategy that sent it."""
    kind: Kind
    step: int
    ids: tuple[int, ...]


def parity(base: Path, student: Path, *, dtype: str = "float32", served: Served = MappingProxyType({})) -> Report:
    """Compare all there is; a difference is in the report and not an error.

    Raises:
        StepERError: base or student cannot be used at all.
    """
    card = verify_student(student, base)
    tokenizer, runs = open_tokenizer(base), open_vocabulary(student if card.form == "full" else base)
    comparisons, prompts = compare_ids(tokenizer, runs)
    fitting = [prompt for prompt in prompts if runs.window is None or len(prompt.ids) + MOST_TOKENS <= runs.window]
    goldens, words = _in_process(base, student, card, dtype, fitting, tokenizer)
    comparisons += words
    _make_room()
    for how, opening in served.items():
        with opening as model:
            comparisons.append(_reported(how, model, fitting))
            comparisons.append(compare_words(f"words: PEFT in process and {how}", goldens, model, tokenizer))
    return Report(base=card.base, student=card.name, dtype=dtype, left_out=len(prompts) - len(fitting), comparisons=tuple(comparisons))


def serving(base: Path, student: Path, dtype: str = "float32") -> Served:
    """Servers of our own, each started when it is opened and stopped when it is left."""
    if read_card(student).form == "full":
        return {"served": _served_whole(student, student, dtype)}
    return {"served as an adapter": _served_adapter(base, student, dtype), "served merged": _served_whole(base, student, dtype)}


@contextmanager
def _served_adapter(base: Path, student: Path, dtype: str) -> Iterator[VllmChatModel]:
    started = start_base(base, (student.resolve(),), dtype=dtype)
    assert started.server is not None
    try:
        yield VllmChatModel(path=str(base), base=started).with_student(student, "adapter")
    finally:
        started.server.stop()


@contextmanager
def _served_whole(base: Path, student: Path, dtype: str) -> Iterator[VllmChatModel]:
    whole = student if base == student else merged_folder(base, student)
    started = start_base(whole, name=read_card(student).name, dtype=dtype)
    assert started.server is not None
    try:
        yield VllmChatModel(path=str(whole), base=started)
    finally:
        started.server.stop()


def compare_ids(tokenizer: Any, runs: Vocabulary) -> tuple[list[Comparison], list[Prompt]]:
    """The trainer's examples, made with its tokenizer, against what the graph sends and a model writes with the one it runs
    with, in every strategy; and the first prompts of every kind that the graph sent."""
    comparisons, prompts = list[Comparison](), list[Prompt]()
    with tempfile.TemporaryDirectory(prefix="steper-parity-") as place:
        index, questions = small_world(Path(place))
        for strategy in COMPARED:
            name = f"ids: trainer and graph, {strategy}"
            try:
                lesson = lesson_in(strategy, index, questions, runs, Path(place) / f"{strategy}.jsonl")
                comparisons.append(_taught(name, lesson, tokenizer))
                prompts += _prompts(lesson)
            except StepERError as unfit:
                comparisons.append(Comparison(name=name, prompts=0, tokens=0, divergence=f"in {strategy}: {unfit.what}"))
    return comparisons, prompts


def compare_words(name: str, goldens: Sequence[tuple[str, Golden]], model: Greedy, tokenizer: Any) -> Comparison:
    """What a model says against what was said, each with the name of its prompt's source."""
    tokens = ties = 0
    largest, first = 0.0, ""
    for source, golden in goldens:
        said = model.greedy(golden.prompt, max(1, len(golden.output)))
        found = divergence(golden, said)
        same = _first(golden.output, said.output_ids)
        equal = len(golden.output) if same is None else same
        tokens += equal
        ties += same is not None and found is None
        largest = max([largest, *(abs(said.chances[at].logprob - golden.logprobs[at]) for at in range(equal))])
        first = first or ("" if found is None else f"in {source}, {_in_words(found, golden, tokenizer)}")
    return Comparison(name=name, prompts=len(goldens), tokens=tokens, drift=largest, ties=ties, divergence=first)


def _taught(name: str, lesson: Lesson, tokenizer: Any) -> Comparison:
    prompts = tokens = 0
    first = ""
    for target in get_args(Target):
        for trajectory in lesson.trajectories:
            for example in examples_of(trajectory, 0, Teaching(tokenizer, "stepwise", target, 10**9))[0]:
                differs = _misfit(example, trajectory.question.id, lesson, target, tokenizer)
                where = f"in {lesson.strategy}, {target} {example.kind}, step {example.step} of {trajectory.question.id}"
                first = first or (differs and f"{where}: {differs}")
                prompts, tokens = prompts + 1, tokens + len(example.ids)
    return Comparison(name=name, prompts=prompts, tokens=tokens, divergence=first)


def _misfit(example: Example, run: str, lesson: Lesson, target: Target, tokenizer: Any) -> str:
    """Where an example is not what was sent and then written, or its mask not over what was written, all of it or the last
    turn; empty if it is. The turn before the first search is learned in its own example alone."""
    opens, nothing = strategy_named(lesson.strategy).OPENS, Turn((), ())
    turn = lesson.turns.get((run, example.step), nothing)
    first = example.step if target == "incremental" else int(opens and example.step > 0)
    learned = [id for id, learn in zip(example.ids, example.learn, strict=True) if learn]
    wrote = [id for step in range(first, example.step + 1) for id in lesson.turns.get((run, step), nothing).written]
    return (
        _differ(tokenizer, "id", ("the trainer", example.ids), ("the graph", (*turn.sent, *turn.written)))
        or _differ(tokenizer, "learned id", ("the trainer", learned), ("the graph", wrote))
        or ("" if example.turn == len(turn.sent) else f"the step's turn begins at id {example.turn}, and {len(turn.sent)} were sent")
        or ("" if all(example.learn[len(turn.sent) :]) else f"the mask leaves out a part of what is written from id {len(turn.sent)} on")
    )


def _prompts(lesson: Lesson) -> Iterator[Prompt]:
    taken: Counter[Kind] = Counter()
    last = {trajectory.question.id: len(trajectory.steps) for trajectory in lesson.trajectories}
    for (run, step), turn in lesson.turns.items():
        kind = kind_of(step, last[run])
        if taken[kind] < OF_EACH_KIND:
            taken[kind] += 1
            yield Prompt(lesson.strategy, kind, step, turn.sent)


def _in_process(
    base: Path, student: Path, card: StudentCard, dtype: str, prompts: Iterable[Prompt], tokenizer: Any
) -> tuple[list[tuple[str, Golden]], list[Comparison]]:  # fmt: skip
    """What PEFT says to the prompts, the student's own golden ones included, as what all others are held to; and how that
    compares with what its trainer saw, and with the merged weights."""
    import torch

    precision, is_adapter = getattr(torch, dtype), card.form == "adapter"
    trained = [("golden.jsonl", golden) for golden in read_golden(student)]
    with closing(Engine(base if is_adapter else student, dtype=precision)) as engine:
        alone = LocalChatModel(path=str(engine.path), engine=engine)
        model = alone.with_student(student) if is_adapter else alone
        asked = [Prompt(source, golden.kind, golden.step, golden.prompt) for source, golden in trained]
        goldens = [(source, golden_of(kind, step, ids, model.greedy(ids, MOST_TOKENS))) for source, kind, step, ids in [*asked, *prompts]]
        found = [compare_words("words: at training and PEFT in process", trained, model, tokenizer)] if trained else []
    if is_adapter:
        with closing(Engine(merged_folder(base, student), dtype=precision)) as engine:
            merged = LocalChatModel(path=str(engine.path), engine=engine)
            found.append(compare_words("words: PEFT in process and merged", goldens, merged, tokenizer))
    return goldens, found


def _make_room() -> None:
    """vLLM wants most of a GPU for itself, so what the models here leave behind goes first."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _reported(how: str, model: VllmChatModel, prompts: Sequence[Prompt]) -> Comparison:
    first, source = "", model.source
    for prompt in prompts:
        answer = Answer(Request(prompt.ids, max_tokens=1), source.model, source.vocabulary, model.base.client.endpoint.url)
        with model.base.client.completion(answer.body()) as chunks:
            for chunk in chunks:
                answer.read(chunk)
        differs = _differ(source.tokenizer, "id", ("the graph", prompt.ids), ("the server", answer.prompt_ids))
        first = first or (differs and f"in {prompt.source}, {prompt.kind}, step {prompt.step}: {differs}")
    tokens = sum(len(prompt.ids) for prompt in prompts)
    return Comparison(name=f"ids: graph and {how}", prompts=len(prompts), tokens=tokens, divergence=first)


def _first(one: Sequence[int], other: Sequence[int]) -> int | None:
    """The first place where two rows of ids differ."""
    return next((at for at, (a, b) in enumerate(zip_longest(one, other)) if a != b), None)


def _differ(tokenizer: Any, what: str, *named: tuple[str, Sequence[int]]) -> str:
    (_, one), (_, other) = named
    at = _first(one, other)
    if at is None:
        return ""
    behind = tokenizer.decode(one[max(0, at - AROUND) : at])
    return f"at {what} {at}, behind {behind!r}, " + " and ".join(f"{who} has {_shown(tokenizer, ids, at)}" for who, ids in named)


def _shown(tokenizer: Any, ids: Sequence[int], at: int) -> str:
    if at >= len(ids):
        return "nothing more"
    after = tokenizer.decode(ids[at + 1 : at + 1 + AROUND])
    return f"{ids[at]} {tokenizer.decode([ids[at]])!r}" + (f" before {after!r}" if after else "")


def _in_words(found: Divergence, golden: Golden, tokenizer: Any) -> str:
    behind = tokenizer.decode([*golden.prompt[-AROUND:], *golden.output[: found.place]][-AROUND:])
    expected = _shown(tokenizer, golden.output, found.place)
    other = "the end" if found.found is None else f"{found.found} {tokenizer.decode([found.found])!r}"
    what = (f"{other} is likelier or unlikelier by {found.gap:.3f} nats" if found.found == found.expected
            else f"{expected} was expected, by a margin of {found.gap:.3f} nats, and {other} was said")
    return f"{found.kind}, step {found.step}: at token {found.place} of the reply, behind {behind!r}, {what}"
