"""Run a teacher through the graph over many questions and journal every node:

    python -m training.collect --index DIR --questions FILE --teacher openai:gpt-4o --out runs/collect
    python -m training.collect --index DIR --replay chains.jsonl --where dataset=hotpotqa --out runs/collect

Stopped or killed, the same command goes on where it was: finished questions are kept, and of an unfinished one every
node that is in the journal is recalled instead of run again. While a provider refuses calls for its rate limit, fewer than
--concurrency questions are under way, and the refused ones are taken up again.

With --student SPEC the student walks the graph: its queries and its lines decide which passages are found. In every state it
reaches, the teacher is asked the same and its reply recorded as that state's label (stepwise DAgger; Ross, Gordon and Bagnell
2011), so that the next student is taught where this one goes wrong:

    python -m training.collect --index DIR --questions FILE --student local:BASE+STUDENT --teacher openai:NAME --round 1 --out runs/round1

--mix P lets the run go on with the teacher's turn instead of the student's with probability P. Labels are asked for side by
side when a run is at its end, so the student never waits for them. --logprobs K has a teacher whose tokens we hold tell the K
likeliest tokens in the place of each that it writes; --score has it tell that of the student's own turns, and write nothing
(on-policy distillation).

With --engine ray, --workers actors of a Ray cluster ask, each with --concurrency questions under way, and this process
writes the journal. --ray-address names a cluster of several machines: each needs this package, the teacher's API key in
its environment, and the index, exemplars and model folders at the same paths. Runs under way when this process is killed
are then asked again from what the journal holds. Either engine goes on where the other stopped.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from langchain_core.language_models import BaseChatModel, FakeListChatModel
from pydantic import Field

from graphs.run import Context, answer_all, recipe_of
from graphs.strategies import strategy_named
from graphs.strategies.exemplars import read_exemplars
from graphs.teacher import Teacher
from steper_agent.config import Config, command_line
from steper_agent.durable import digest, write_atomic
from steper_agent.errors import ConfigError, DataError
from steper_agent.journal import Journal
from steper_agent.records import Question, Record, Stop
from steper_agent.retrieval import IndexRetriever, RemoteRetriever, open_retriever, read_questions
from training.models import open_model
from training.replay import Chain, read_chains, teacher_of
from training.run_folder import SETTINGS, claim
from training.verb import progress, run, versions

JOURNAL, REPORT = "journal.jsonl", "report.json"
LATER = ("student", "mix", "round", "logprobs", "score")
"""Settings that older run folders do not know."""


class CollectConfig(Config):
    """Settings of `python -m training.collect`."""

    index: Path = Field(description="index folder the graph retrieves from")
    out: Path = Field(description="run folder: journal.jsonl, report.json")
    questions: Path | None = Field(None, description="questions with answers: JSONL or a data set's own file")
    replay: Path | None = Field(None, description="JSONL of existing chains to replay instead of a teacher model")
    teacher: str = Field("symbolic", description="model spec: symbolic, local:PATH, openai:NAME, …")
    where: tuple[str, ...] = Field((), description="KEY=VALUE pairs a question's fields must match, e.g. dataset=hotpotqa")
    strategy: str = Field("ircot", description="how to reason in steps: ircot, self_ask, tool_calling, single_step, direct, chain_of_note, sail, self_rag")
    exemplars: Path | None = Field(None, description="JSONL of worked examples the teacher is shown before each question")
    k: int = Field(4, gt=0, description="passages a search returns")
    steps: int = Field(5, gt=0, description="step budget; a replay is given as many as its longest chain")
    limit: int = Field(0, ge=0, description="ask only the first so many questions; 0 asks all")
    concurrency: int = Field(8, gt=0, description="questions under way at once")
    max_tokens: int = Field(128, gt=0, description="most tokens a model may write in one step")
    seed: int = Field(0, description="seed of a sampling teacher, and of what --mix decides")
    student: str = Field("", description="model spec of a student that walks the graph while the teacher labels the states it reaches")
    mix: float = Field(0.0, ge=0, le=1, description="with a student: probability that a turn of the run is the teacher's (DAgger's beta)")
    round: int = Field(1, gt=0, description="with a student: which round of DAgger this is, for the record")
    logprobs: int = Field(0, ge=0, le=20, description="likeliest tokens that a local: or vllm: teacher tells in the place of each; 0 tells none")
    score: bool = Field(False, description="with a student and --logprobs: the teacher scores the student's own tokens and writes nothing")
    engine: Literal["local", "ray"] = Field("local", description="local asks from this process, ray from actors on a Ray cluster")
    workers: int = Field(2, gt=0, description="with ray: actors, each with a teacher, an index and --concurrency of its own")
    ray_address: str = Field("", description="with ray: HOST:PORT of a cluster whose machines read the same paths; empty starts one here")


class Collected(Record):
    """What a collection came to."""

    journal: Path
    finished: int
    already: int
    """Finished before this start."""
    failed: int
    stops: dict[str, int]
    seconds: float


def main(argv: Sequence[str] | None = None) -> int:
    config = command_line(CollectConfig, "collect", __doc__ or "", argv)
    done = collect(config)
    print(f"{done.finished} trajectories in {done.journal} ({done.already} were there, {done.failed} failed, "
          f"{done.seconds:.0f} s): {done.stops}")
    if done.failed:
        print("Run the same command again to take the failed questions up where they stopped.", file=sys.stderr)
    return 1 if done.failed else 0


def collect(config: CollectConfig, *, on_progress: Callable[[int, int], None] | None = None) -> Collected:
    """Answer every question that the journal does not hold yet.

    Raises:
        ConfigError, DataError, IndexFault, ModelError: something a person must mend, before the first call.
    """
    refuse_contradictions(config)
    chains = read_chains(config.replay) if config.replay else []
    questions = questions_of(config, chains)
    index = open_retriever(config.index)
    asked = {question.id for question in questions}
    walker, teacher = _models(config, [chain for chain in chains if chain.question.id in asked])
    bare = Context(
        model=walker, teacher=teacher, retriever=index, strategy=config.strategy, k=config.k,
        steps=max([config.steps, *(len(chain.lines) for chain in chains)]),
        exemplars=read_exemplars(config.exemplars, strategy_named(config.strategy)) if config.exemplars else (),
    )  # fmt: skip
    # On Ray a fresh folder is claimed when an actor has opened the teacher, so that a wrong one does not stick to it.
    if config.engine == "local" or (config.out / SETTINGS).exists():
        claim_folder(config)
    return _run(config, questions, bare, index, on_progress)


def _run(
    config: CollectConfig, questions: list[Question], bare: Context, index: IndexRetriever | RemoteRetriever,
    on_progress: Callable[[int, int], None] | None,
) -> Collected:  # fmt: skip
    start = time.perf_counter()
    recipe = {**recipe_of(bare, index.digest), "teacher": config.replay.name if config.replay else config.teacher}
    if config.student:
        recipe |= {"student": config.student, "mix": config.mix, "round": config.round, "labels": "scores" if config.score else "turns"}
    stops: Counter[str] = Counter()
    with Journal(config.out / JOURNAL) as journal, progress() as bar:
        already = len(journal.finished)
        todo = [question for question in questions if question.id not in journal.finished]
        task = bar.add_task("collect", total=len(questions), completed=len(questions) - len(todo))

        def count(stop: Stop) -> None:
            stops[stop] += 1
            bar.advance(task)
            if on_progress:
                on_progress(already + sum(stops.values()), len(questions))

        context = replace(bare, journal=journal, recipe=digest(recipe))
        if todo and {end.recipe for end in journal.finished.values()} - {context.recipe}:
            raise ConfigError("the index, the prompts or the exemplars are not those that this journal was begun with", where=config.out / JOURNAL,
                              fix="give another --out; journals of two recipes are not taught together")
        if config.engine == "ray":
            _answer_on_ray(config, todo, context, index, journal, count)
        else:
            answer_all(todo, context, concurrency=config.concurrency, on_finished=lambda made, _: count(made.stop))
        all_stops = Counter(end.stop for end in journal.finished.values())
    done = Collected(journal=config.out / JOURNAL, finished=sum(all_stops.values()), already=already,
                     failed=stops["error"], stops={str(stop): count for stop, count in all_stops.items()}, seconds=time.perf_counter() - start)
    report = {**json.loads(done.model_dump_json()), "recipe": recipe, "versions": versions()}
    write_atomic(config.out / REPORT, json.dumps(report, indent=1) + "\n")
    return done


def _models(config: CollectConfig, chains: Sequence[Chain]) -> tuple[BaseChatModel, Teacher | None]:
    """Who walks the graph, and who teaches beside it."""
    model = _teacher(config, chains)
    if config.logprobs:
        model = _telling(model, config)
    if not config.student:
        return model, None
    student = open_model(config.student, max_tokens=config.max_tokens, seed=config.seed)
    if config.score:
        _refuse_other_tokens(model, student)
    scored = config.logprobs if config.score else 0
    return student, Teacher(model, mix=config.mix, seed=config.seed, round=config.round, score=scored)


def _telling(model: BaseChatModel, config: CollectConfig) -> BaseChatModel:
    from steper_agent.models.tokens import TokenChatModel

    assert isinstance(model, TokenChatModel)
    return model if config.score else model.model_copy(update={"top_logprobs": config.logprobs})


def _refuse_other_tokens(teacher: BaseChatModel, student: BaseChatModel) -> None:
    from steper_agent.models.loading import same_vocabulary
    from steper_agent.models.tokens import TokenChatModel

    assert isinstance(teacher, TokenChatModel)
    assert isinstance(student, TokenChatModel)
    if reason := same_vocabulary(teacher.tokenizer, student.tokenizer):
        raise ConfigError(f"the teacher cannot score this student's tokens: {reason}", where="--score",
                          fix="take models of one vocabulary, or leave out --score and learn from the teacher's text")


def refuse_contradictions(config: CollectConfig) -> None:
    """Before anything is opened or asked."""
    foreign = [spec for spec, is_asked in ((config.teacher, config.logprobs), (config.student, config.score))
               if is_asked and (config.replay or not spec.startswith(("local:", "vllm:")))]  # fmt: skip
    refusals = (
        (config.ray_address and config.engine == "local", "--ray-address is for --engine ray", "add --engine ray, or leave it out"),
        (config.engine == "ray" and (config.student or config.logprobs), "--student and --logprobs need --engine local",
         "leave out --engine ray; raise --concurrency"),
        (config.replay and config.student, "a replay says its own lines, whatever a student did: it labels nothing",
         "give --questions and a --teacher that reads"),
        ((config.mix or config.score) and not config.student, "--mix and --score are about a student's run", "add --student SPEC"),
        (config.score and not config.logprobs, "--score tells log-probabilities, and of how many tokens is not said", "add --logprobs 20"),
        (config.score and config.mix, "a teacher that scores writes nothing that could be mixed in", "leave out --mix or --score"),
        (foreign, f"no log-probabilities by token id come from `{config.replay or next(iter(foreign), '')}`",
         "--logprobs and --score are for local:PATH and vllm:PATH, whose token ids we hold"),
    )  # fmt: skip
    for is_so, what, fix in refusals:
        if is_so:
            raise ConfigError(what, where="collect", fix=fix)


def _teacher(config: CollectConfig, chains: Sequence[Chain]) -> BaseChatModel:
    if config.engine == "ray":
        # Nobody asks it: the teacher may load weights, and that is for the actors to do.
        return FakeListChatModel(responses=[])
    return teacher_of(chains) if chains else open_model(config.teacher, max_tokens=config.max_tokens, seed=config.seed)


def claim_folder(config: CollectConfig) -> None:
    """Open the run folder for these settings, or refuse them where it was opened for others."""
    # A setting that is not used is not written down, so that a folder from before there was such a setting is resumed.
    unused = (name for name in LATER if getattr(config, name) == CollectConfig.model_fields[name].default)
    claim(config.out, config, free=("concurrency", "limit", "out", "engine", "workers", "ray_address", *unused))


def _answer_on_ray(
    config: CollectConfig, todo: list[Question], context: Context, index: IndexRetriever | RemoteRetriever, journal: Journal,
    on_stop: Callable[[Stop], None],
) -> None:  # fmt: skip
    from training.ray_collect import Order, answer_on_ray

    order = Order(
        folder=Path.cwd(), teacher=f"replay:{config.replay.absolute()}" if config.replay else config.teacher,
        max_tokens=config.max_tokens, seed=config.seed, index=config.index.absolute(), index_digest=index.digest,
        exemplars=config.exemplars.absolute() if config.exemplars else None, strategy=context.strategy, k=context.k,
        steps=context.steps, recipe=context.recipe, concurrency=config.concurrency,
    )  # fmt: skip
    answer_on_ray(todo, order, journal, workers=config.workers, address=config.ray_address,
                  on_open=lambda: claim_folder(config), on_stop=on_stop)


def questions_of(config: CollectConfig, chains: Sequence[Chain]) -> list[Question]:
    """What is asked: the file's questions, or those of the chains that are replayed.

    Raises:
        ConfigError, DataError: not exactly one source is given, a condition is none, or nothing is left to ask.
    """
    if bool(config.questions) == bool(config.replay):
        raise ConfigError("give either --questions or --replay", where="collect", fix="one of the two, not both")
    questions = read_questions(config.questions) if config.questions else [chain.question for chain in chains]
    for condition in config.where:
        key, equals, value = condition.partition("=")
        if not equals:
            raise ConfigError(f"`{condition}` is not KEY=VALUE", where="--where", fix="write --where dataset=hotpotqa")
        questions = [question for question in questions if str(question.meta.get(key)) == value]
    if not questions:
        raise DataError("no question to ask", where=config.questions or config.replay, fix="check --where and the file")
    return questions[: config.limit or None]


if __name__ == "__main__":
    raise SystemExit(run(main))
