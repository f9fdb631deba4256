"""Ask the graph a file of questions and judge what it answers: python -m training.evaluate --help"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field
from rich.console import Console
from rich.table import Table

from steper_agent.config import Config, command_line
from steper_agent.durable import digest, digest_file, write_atomic
from steper_agent.errors import ConfigError, DataError, IndexFault
from steper_agent.records import Kind, Question, Record, Trajectory
from training.attribution.records import Mean
from training.evaluation import Evaluation, efforts_of, evaluate_trajectories, judge
from training.run_folder import claim
from training.scores import recall
from training.scores.official import RULES, DataSet, with_aliases
from training.verb import progress, run, versions, wide_console

if TYPE_CHECKING:
    from graphs.run import Context
    from steper_agent.journal import Journal
    from steper_agent.retrieval import IndexRetriever, RemoteRetriever

DESCRIPTION = """\
Ask the graph every question of a file, with any model, and judge the answers: EM, F1 and Acc by the data sets'
published rules with 95 % bootstrap intervals, how much of the gold evidence each step had found, why questions
failed, and what a question cost. Or, with --retrieval-only, measure indexes alone: recall of the supporting passages,
and the share of questions that have all of them, by one search and, with --chains, by those of gold reasoning."""
EPILOG = """\
examples:
  python -m training.evaluate --retrieval-only --index runs/index --questions hotpot.questions.jsonl --json recall.json
  python -m training.evaluate --retrieval-only --index runs/bm25 --beside runs/hybrid --questions dev.jsonl --chains gold-chains.jsonl
  python -m training.evaluate --index runs/index --questions dev.jsonl --model local:runs/base --out runs/evaluate/base
  python -m training.evaluate --index runs/index --questions dev.jsonl --model openai:gpt-4o --limit 100

The run folder (--out) holds journal.jsonl, predictions.jsonl and report.json. Stopped or killed, the same command goes
on where it was; a larger --limit asks only the questions not asked yet. Two reports compare only if their recipes
agree in everything but the model."""


class EvaluateConfig(Config):
    index: Path = Field(description="folder made by `steper index build`")
    questions: Path = Field(description="questions with gold answers; any format `steper index build` can read")
    model: str = Field("", description="model spec, e.g. local:PATH, local:PATH+STUDENT, openai:NAME, symbolic")
    retrieval_only: bool = Field(False, description="only search: recall of the supporting passages, no model")
    beside: tuple[Path, ...] = Field((), description="with --retrieval-only: more indexes to measure on the same questions")
    chains: Path | None = Field(None, description="with --retrieval-only: JSONL of gold reasoning, whose lines are the queries of further searches")
    metrics: DataSet = Field("hotpotqa", description="whose published rules judge: hotpotqa, 2wiki, musique or bamboogle")
    aliases: Path | None = Field(None, description="2WikiMultiHopQA's id_aliases.json: other names of the entities that answer")
    strategy: str = Field("ircot", description="how the graph reasons: ircot, self_ask, tool_calling, single_step, direct, chain_of_note, sail, self_rag")
    exemplars: Path | None = Field(None, description="JSONL of worked examples shown before each question")
    gold: Path | None = Field(None, description="JSONL of right chains (reasoning_steps), to tell faults and abilities by; else what the questions themselves say")
    judge: str = Field("", description="model spec of a judge that marks how each kind of step was done, from 1 to 5; none if not given")
    k: int = Field(4, ge=1, description="passages a search returns")
    steps: int = Field(5, ge=1, description="step budget of a question")
    limit: int = Field(0, ge=0, description="ask this many, drawn with --seed; a larger one holds the smaller; 0 = all")
    seed: int = Field(0, description="seed of the draw, of the model's sampling and of the bootstrap")
    temperature: float = Field(0.0, ge=0, description="0 = greedy")
    max_tokens: int = Field(256, ge=1, description="tokens a model call may write")
    concurrency: int = Field(8, ge=1, description="questions side by side")
    out: Path = Field(Path("runs/evaluate"), description="run folder")
    json_: Path | None = Field(None, description="write the report here too")


class Settings(BaseModel):
    """What must be the same to go on in a run folder: the facts behind the settings, digests and versions."""

    model_config = ConfigDict(extra="allow")


class Retrieval(Record):
    """How much of the gold evidence searching finds, of every index that was measured."""

    rows: tuple[recall.Row, ...]
    interleaved: tuple[recall.Interleaved, ...]
    """Empty without gold chains."""
    recipe: dict[str, Any]


class Report(Record):
    """What one evaluation says, and everything that shaped it."""

    model: str
    """Version of the model that served."""
    evaluation: Evaluation
    recipe: dict[str, Any]
    marks: dict[Kind, Mean] = {}
    """Of the judge, from 1 to 5; empty without one."""
    judge: str = ""
    """Version of the judge; empty where there was nothing to mark."""
    judge_spec: str = ""
    """As it was asked for."""
    unread: int = 0
    """Replies of the judge that could not be read; their runs have no marks."""


def main(argv: Sequence[str] | None = None) -> int:
    config = command_line(EvaluateConfig, "evaluate", DESCRIPTION, argv, epilog=EPILOG)
    if config.retrieval_only:
        found = evaluate_retrieval(config)
        recall.show(found.rows, found.interleaved, found.recipe, wide_console())
        written = found.model_dump_json(indent=2)
    else:
        report = evaluate(config)
        _print_report(report)
        written = report.model_dump_json(indent=2)
    if config.json_:
        write_atomic(config.json_, written + "\n")
    return 0


def evaluate_retrieval(config: EvaluateConfig) -> Retrieval:
    """Recall of the supporting passages by one search a question and, with gold chains, by theirs.

    Raises:
        DataError: no question names its supporting passages, or no chain belongs to one of them.
        IndexFault: an index holds none of them.
    """
    from steper_agent.retrieval import read_questions

    questions = [one for one in draw(read_questions(config.questions), config) if one.supporting_ids]
    if not questions:
        raise DataError("no question names its supporting passages", where=config.questions,
                        fix='give questions with "supporting_ids", or a data set\'s own file')
    chains = _chains(config.chains, questions) if config.chains else []
    retrievers = _retrievers(config, questions)
    rows, interleaved = list[recall.Row](), list[recall.Interleaved]()
    with progress() as bar:
        searches = len(questions) + sum(len(chain.queries) + 1 for chain in chains)
        task = bar.add_task("searching", total=len(retrievers) * searches)
        for name, index in retrievers.items():
            rows += recall.measure(name, index, questions, seed=config.seed, tell=lambda done: bar.advance(task, done))
            if chains:
                interleaved += recall.interleave(name, index, chains, config.k, seed=config.seed, tell=lambda done: bar.advance(task, done))
    recipe = {"questions": questions_digest(questions), "indexes": {name: index.digest for name, index in retrievers.items()},
              "chains": digest([[chain.question.id, chain.queries] for chain in chains]), "k": config.k, "seed": config.seed, "versions": versions()}
    return Retrieval(rows=tuple(rows), interleaved=tuple(interleaved), recipe=recipe)


def _retrievers(config: EvaluateConfig, questions: Sequence[Question]) -> dict[str, IndexRetriever | RemoteRetriever]:
    """Every index by its folder's name, or its path where two have one name; of one that searches in two ways, also each way alone."""
    from steper_agent.retrieval import IndexRetriever, open_retriever

    found: dict[str, IndexRetriever | RemoteRetriever] = {}
    folders = tuple(dict.fromkeys((config.index, *config.beside)))
    for folder in folders:
        index = open_retriever(folder)
        check_supports(index, questions, folder, config)
        if not isinstance(index, IndexRetriever):
            found[index.url] = index
            continue
        name = folder.name if sum(one.name == folder.name for one in folders) == 1 else str(folder)
        found[f"{name} {index.manifest.mode}"] = index
        if index.manifest.mode == "hybrid":
            found[f"{name} bm25"] = index.only("lexical")
            found[f"{name} dense"] = index.only("dense")
    return found


def _chains(path: Path, questions: Sequence[Question]) -> list[recall.Chained]:
    from training.replay import read_chains

    known = {question.id: question for question in questions}
    found = [recall.Chained(known[chain.question.id], (chain.question.text, *chain.lines[:-1]))
             for chain in read_chains(path) if chain.question.id in known]
    if not found:
        raise DataError("no chain belongs to a question that names its supporting passages", where=path,
                        fix="give chains with the ids of --questions")
    return found


def evaluate(config: EvaluateConfig) -> Report:
    """Run the graph over the questions and judge it; questions finished in the run folder are not asked again."""
    if not config.model:
        raise ConfigError("no model is given", where="evaluate", fix="--model SPEC, or --retrieval-only")
    from graphs.run import Context, model_version, recipe_of
    from graphs.strategies import strategy_named
    from graphs.strategies.exemplars import read_exemplars
    from steper_agent.journal import Journal, read
    from steper_agent.retrieval import open_retriever
    from training.attribution.gold import golds_of
    from training.models import open_model

    questions = questions_of(config)
    index = open_retriever(config.index)
    model = open_model(config.model, temperature=config.temperature, max_tokens=config.max_tokens, seed=config.seed)
    exemplars = read_exemplars(config.exemplars, strategy_named(config.strategy)) if config.exemplars else ()
    context = Context(model=model, retriever=index, strategy=config.strategy, k=config.k, steps=config.steps,
                      exemplars=exemplars)
    decoding = {"temperature": config.temperature, "max_tokens": config.max_tokens, "seed": config.seed}
    settings = {**recipe_of(context, index.digest), "decoding": decoding, "model": model_version(context)}
    claim(config.out, Settings.model_validate(settings))
    path = config.out / "journal.jsonl"
    with Journal(path) as journal:
        context = replace(context, journal=journal, recipe=digest(settings))
        done = ask(questions, context, journal, concurrency=config.concurrency)
    golds, rules = golds_of(questions, index.find, config.gold), RULES[config.metrics]
    evaluation = evaluate_trajectories(done, efforts=efforts_of(read(path)), rules=rules, golds=golds, seed=config.seed)
    recipe = {**settings, "questions": questions_digest(questions), "metrics": config.metrics, "versions": versions()}
    if config.gold:
        recipe["gold"] = gold_digest(config)
    report = Report(model=str(settings["model"]), evaluation=evaluation, recipe=recipe, **_marked(done, config))
    lines = [judge(trajectory, rules, golds[trajectory.question.id]).model_dump_json() for trajectory in done]
    write_atomic(config.out / "predictions.jsonl", "\n".join(lines) + "\n")
    write_atomic(config.out / "report.json", report.model_dump_json(indent=2) + "\n")
    return report


def _marked(done: Sequence[Trajectory], config: EvaluateConfig) -> dict[str, Any]:
    """What the judge makes of the runs, where one is asked for; its ratings are kept in the run folder and never asked for twice."""
    from training.judging import MOST_TOKENS, is_markable, mean_marks, rate
    from training.models import open_model

    if not config.judge or not any(map(is_markable, done)):
        return {"judge_spec": config.judge}
    model = open_model(config.judge, temperature=0.0, max_tokens=MOST_TOKENS, seed=config.seed)
    ratings = rate(done, model, config.out / "ratings.jsonl", concurrency=config.concurrency)
    return {"marks": mean_marks(ratings, seed=config.seed), "judge": ratings[0].judge, "judge_spec": config.judge,
            "unread": sum(not one.marks for one in ratings)}


def ask(
    questions: Sequence[Question], context: Context, journal: Journal, *, concurrency: int = 8, title: str = "asking"
) -> list[Trajectory]:
    """The trajectory of every question, in their order: from the journal where it holds it, else from the graph."""
    from graphs.run import answer_all
    from steper_agent.journal import trajectories

    texts = {question.id: question.text for question in questions}
    held = {one.question.id: one for one in trajectories(journal.path)
            if texts.get(one.question.id) == one.question.text}
    left = [question for question in questions if question.id not in held]
    with progress() as bar:
        task = bar.add_task(title, total=len(questions), completed=len(questions) - len(left))
        new = answer_all(left, context, concurrency=concurrency, on_finished=lambda *_: bar.advance(task))
    held |= {one.question.id: one for one in new}
    # The file's question, not the journal's: gold answers that were mended since count.
    return [held[question.id].model_copy(update={"question": question}) for question in questions]


def questions_of(config: EvaluateConfig) -> list[Question]:
    """What is asked, with every answer that counts.

    Raises:
        DataError: the file, or that of aliases, is broken, or a question has no answer.
    """
    from steper_agent.retrieval import read_questions

    questions = draw(read_questions(config.questions, need_answers=True), config)
    return with_aliases(questions, config.aliases) if config.aliases else questions


def draw(questions: Sequence[Question], config: EvaluateConfig) -> list[Question]:
    """The first `limit` of the questions in an order shuffled by seed, shown in the file's order."""
    rows = list(range(len(questions)))
    random.Random(config.seed).shuffle(rows)
    return [questions[row] for row in sorted(rows[: config.limit or None])]


def questions_digest(questions: Sequence[Question]) -> str:
    """Equal for the same questions with the same gold, whatever their order."""
    return digest(sorted([one.id, one.text, list(one.answers), sorted(one.supporting_ids)] for one in questions))


def gold_digest(config: EvaluateConfig) -> str | None:
    """Of the file of right chains, as it is now; None without one."""
    return digest_file(config.gold) if config.gold else None


def check_supports(index: IndexRetriever | RemoteRetriever, questions: Sequence[Question], folder: Path, config: EvaluateConfig) -> None:
    """Refuse an index that holds none of the passages that the questions rest on."""
    if not any(index.find(gold) for question in questions for gold in question.supporting_ids):
        raise IndexFault(f"the index holds no supporting passage of {config.questions}: it was made for another corpus",
                         where=folder, fix="build it from the questions' own corpus: steper index build SOURCE")


def _print_report(report: Report) -> None:
    found = report.evaluation
    shares = Table("metric", "mean", "95 % interval", title=f"{report.model}, {found.score.n} questions")
    for name, mean in (("EM", found.score.em), ("F1", found.score.f1), ("Acc", found.score.acc)):
        low, high = found.intervals[name.lower()]
        shares.add_row(name, f"{mean:.3f}", f"{low:.3f} to {high:.3f}")
    console = Console(emoji=False)
    console.print(shares)
    if found.support_recall:
        steps = Table("up to step", "supporting passages found", title=f"{found.support_n} questions with known gold")
        for number, share in enumerate(found.support_recall, start=1):
            steps.add_row(str(number), f"{share:.3f}")
        console.print(steps)
    failures = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in found.failures.items() if count)
    console.print(f"not exact: {failures or 'none'}")
    if failed := found.failures["error"]:
        console.print(f"{failed} questions failed and count as wrong: run the same command again to ask those once more")
    if faults := ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in found.faults.items() if count):
        console.print(f"what went wrong first: {faults}")
    for name, means in (("ability, 0 to 1", found.abilities), (f"marks of {report.judge}, 1 to 5", report.marks)):
        if told := ", ".join(f"{kind} {one.mean:.2f} ({one.ci[0]:.2f} to {one.ci[1]:.2f}, n = {one.n})" for kind, one in means.items()):
            console.print(f"{name}: {told}")
    if report.unread:
        console.print(f"{report.unread} replies of the judge could not be read: those runs have no marks")
    if cost := found.cost:
        console.print(
            f"a question: {found.steps:.1f} steps, {cost.seconds_mean:.2f} s mean, {cost.seconds_p95:.2f} s p95, "
            f"{cost.prompt_tokens:.0f} tokens read, {cost.completion_tokens:.0f} written; "
            f"{cost.parse_errors} questions with an unreadable reply"
        )


if __name__ == "__main__":
    raise SystemExit(run(main))
