"""An experiment as its TOML file states it: what is compared, from which journals, on which bases, judged by which questions.
Everything that can be wrong in the file is said before the first student is taught."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, field_validator

from steper_agent.config import Config, parted, read_tables
from steper_agent.errors import ConfigError
from steper_agent.records import KINDS, Kind, View
from training.examples.share import ALL, how_many
from training.examples.views import Target
from training.experiment.records import Report
from training.scores.official import DataSet

Keep = Literal["supported", "contributing", "dedupe", "all_answers", "ungrounded"]
"""Filters of `training.dataset`, by the names of its settings."""

TABLES = ("experiment", "journals", "bases", "tests", "defaults", "rows", "grid", "claims")


class Settings(Config):
    """[experiment]"""

    out: Path = Field(description="folder: data/, students/, judged/ by the digest of their settings, report.*, plots/")
    title: str = Field("Experiment", description="of the report")
    reference: str = Field("", description="name of the row that all others are compared with; the first where none is named")
    seeds: tuple[int, ...] = Field((0,), min_length=1, description="of the students' first weights, the order and the draw of their data")
    seed: int = Field(0, description="of the draw of questions and of the intervals")
    limit: int = Field(0, ge=0, description="ask this many questions of each test set; 0: all")
    k: int = Field(0, ge=0, description="passages a search returns; 0: as many as the journals'")
    steps: int = Field(5, ge=1, description="step budget of a question")
    max_tokens: int = Field(256, ge=1, description="tokens a model call may write")
    concurrency: int = Field(8, ge=1, description="questions side by side")
    judge: str = Field("", description="model spec of a judge that marks how each kind of step was done, from 1 to 5; none if not given")
    groups: tuple[str, ...] = Field(("hops", "type"), description="fields of the questions' meta that accuracy is told apart by")


class TestSet(Config):
    """[tests.NAME]"""

    __test__ = False

    index: Path = Field(description="index that is searched")
    questions: Path = Field(description="questions with gold answers; what is in any test set is taught to nobody")
    metrics: DataSet = Field("hotpotqa", description="whose published rules judge")
    aliases: Path | None = Field(None, description="2WikiMultiHopQA's id_aliases.json")
    gold: Path | None = Field(None, description="JSONL of right chains, to tell faults and abilities by; else what the questions themselves say")


class Taught(Config):
    """A row that teaches a student with every seed. `[defaults]` may hold any of this but the name."""

    name: str = Field(min_length=1, description="of the row in the report")
    journal: str = Field("", description="name of the [journals] it learns from; it answers in their strategy. The first where none is named")
    base: str = Field("", description="name of one of the [bases]; the first where none is named")
    view: View = Field("stepwise", description="what is taught of a trajectory")
    kinds: Annotated[tuple[Kind, ...], BeforeValidator(parted)] = Field(KINDS, min_length=1, description="kinds of step that make examples")
    target: Target = Field("cumulative", description="cumulative: learn all lines so far; incremental: the step's own")
    filters: Annotated[tuple[Keep, ...], BeforeValidator(parted)] = Field((), description="of the trajectories; right answers only, unless all_answers is named")
    trajectories: str = Field(ALL, description="all, a part (1/4) or a number: the first of an order drawn with the seed")
    weighting: str = Field("learned", description="learned, ema, uniform, or fixed:a,b,c (first, middle, last step)")
    sigma_rate: float = Field(0.02, gt=0, description="learning rate of log σ²")
    max_length: int = Field(0, ge=0, description="tokens of the longest example; 0: the base's context, up to 4096")
    method: Literal["lora", "full"] = Field("lora", description="adapter on all linear layers, or all weights")
    rank: int = Field(32, gt=0, description="of the LoRA matrices")
    alpha: int = Field(64, gt=0, description="LoRA scale: alpha / rank")
    learning_rate: float = Field(2e-3, gt=0, description="peak")
    epochs: int = Field(1, gt=0, description="passes over the data set")
    max_updates: int = Field(0, ge=0, description="as many updates instead; 0: go by epochs")
    batch: int = Field(16, gt=0, description="trajectories in one update")
    bf16: bool = Field(False, description="compute in bfloat16, keep weights in float32")
    seeds: tuple[int, ...] = Field((), description="other seeds than the experiment's")
    tests: tuple[str, ...] = Field((), description="names of the [tests] it is judged on; all where none is named")

    @field_validator("kinds")
    @classmethod
    def _in_order(cls, given: tuple[Kind, ...]) -> tuple[Kind, ...]:
        """Each once, so that one choice has one spelling."""
        return tuple(kind for kind in KINDS if kind in given)

    @field_validator("filters")
    @classmethod
    def _sorted(cls, given: tuple[Keep, ...]) -> tuple[Keep, ...]:
        return tuple(sorted(set(given)))

    @field_validator("trajectories", mode="before")
    @classmethod
    def _spelled(cls, given: Any) -> Any:
        return str(given) if isinstance(given, int | float) else given


class Served(Config):
    """A row that teaches nobody: a base, a teacher, any model there is, judged like the students. It is asked once: where what its
    spec names has changed since, remove its folder in judged/."""

    name: str = Field(min_length=1, description="of the row in the report")
    model: str = Field(description="model spec: symbolic, local:PATH, local:PATH+STUDENT, openai:NAME, …")
    strategy: str = Field("", description="how it reasons; as the first of the [journals] where none is named")
    parameters: int = Field(0, ge=0, description="how many it has, where its files cannot be counted")
    tests: tuple[str, ...] = Field((), description="names of the [tests] it is judged on; all where none is named")


class Claim(Config):
    """A difference, or a ratio, that the report states by name at its top."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="key in report.json")
    row: str = Field(description="name of a row")
    against: str = Field(description="name of the row it is compared with")
    test: str = Field("", description="name of one of the [tests]; the first where none is named")
    ratio: bool = Field(False, description="em and parameters of the row over the other's, instead of the difference")


Row = Taught | Served


class Experiment(NamedTuple):
    settings: Settings
    journals: dict[str, tuple[Path, ...]]
    bases: dict[str, Path]
    tests: dict[str, TestSet]
    """The first is the one that comparisons and claims are about where they name none."""
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...]

    def seeds(self, row: Row) -> tuple[int, ...]:
        """A row that teaches nobody is judged once: its answers are greedy."""
        return (row.seeds or self.settings.seeds) if isinstance(row, Taught) else (self.settings.seed,)

    def tests_of(self, row: Row) -> list[str]:
        """Those it is judged on, in their order."""
        return [test for test in self.tests if not row.tests or test in row.tests]

    def main_test(self) -> str:
        return next(iter(self.tests))


def read_experiment(file: Path, *, out: Path | None = None) -> Experiment:
    """The experiment of a file; `out` instead of the file's own.

    Raises:
        ConfigError: the file is no experiment, or a key, name or value in it is not known.
    """
    tables = read_tables(file)
    for key in tables:
        _known("table", key, TABLES, file)
    settings = Settings.of({**_table(tables, "experiment", file), **({"out": out} if out else {})}, f"{file} [experiment]")
    journals = {name: tuple(map(Path, [given] if isinstance(given, str) else given)) for name, given in _named(tables, "journals", file).items()}
    bases = {name: Path(given) for name, given in _named(tables, "bases", file).items()}
    tests = {name: TestSet.of(given, f"{file} [tests.{name}]") for name, given in _named(tables, "tests", file).items()}
    if not tests:
        raise ConfigError("there are no questions to judge by", where=file, fix="write [tests.NAME] with index and questions")
    defaults = {"journal": next(iter(journals), ""), "base": next(iter(bases), ""), **_defaults(_table(tables, "defaults", file), file)}
    rows = (*(_row(given, defaults, f"{file} [[rows]]") for given in _list(tables, "rows", file)),
            *(row for given in _list(tables, "grid", file) for row in _grid(given, defaults, f"{file} [[grid]]")))
    claims = tuple(Claim.of(given, f"{file} [[claims]]") for given in _list(tables, "claims", file))
    read = Experiment(settings, journals, bases, tests, rows, claims)
    _check_names(read, file)
    return read


def check_row(experiment: Experiment, name: str, where: object) -> None:
    """Raises:
        ConfigError: no row has this name.
    """
    _known("row", name, [row.name for row in experiment.rows], where)


def _row(given: Mapping[str, Any], defaults: Mapping[str, Any], where: str) -> Row:
    """A row with a model takes nothing from the defaults, which are all about teaching."""
    return Served.of(given, where) if "model" in given else Taught.of({**defaults, **given}, where)


def _grid(given: Mapping[str, Any], defaults: Mapping[str, Any], where: str) -> Iterator[Row]:
    """A row for every combination of the values in lists; the row's name is the grid's with what the row has of each list."""
    axes = {key: values for key, values in given.items() if isinstance(values, list) and key not in ("seeds", "tests")}
    fixed = {key: value for key, value in given.items() if key not in axes}
    if empty := next((key for key, values in axes.items() if not values), None):
        raise ConfigError(f"`{empty}` has no value, so the grid has no row", where=where, fix="give it at least one")
    for values in product(*axes.values()):
        words = [str(fixed.get("name", "")), *(",".join(value) if isinstance(value, list) else str(value) for value in values)]
        yield _row({**fixed, **dict(zip(axes, values, strict=True)), "name": " ".join(filter(None, words))}, defaults, where)


def _defaults(given: Mapping[str, Any], file: Path) -> Mapping[str, Any]:
    if "name" in given:
        raise ConfigError("defaults have no name", where=f"{file} [defaults]", fix="take it out; every row has its own")
    Taught.of({"name": "defaults", **given}, f"{file} [defaults]")
    return given


def _check_names(read: Experiment, file: Path) -> None:
    names = [row.name for row in read.rows]
    if not names:
        raise ConfigError("there are no rows", where=file, fix="write [[rows]] with a name, or a [[grid]]")
    for name in (names, [claim.name for claim in read.claims]):
        if twice := next((one for one in name if name.count(one) > 1), None):
            raise ConfigError(f"two are called `{twice}`", where=file, fix="give each a name of its own")
    for row in read.rows:
        _check_row(read, row, f"{file}, row {row.name}")
    if read.settings.reference:
        check_row(read, read.settings.reference, f"{file} [experiment] reference")
    for claim in read.claims:
        _check_claim(read, claim, f"{file}, claim {claim.name}")


def _check_row(read: Experiment, row: Row, where: str) -> None:
    seeds = read.seeds(row)
    if len(set(seeds)) < len(seeds):
        raise ConfigError("a seed is given twice", where=where, fix="give each once: the same student is no second sample")
    for test in row.tests:
        _known("test", test, read.tests, where)
    if isinstance(row, Taught):
        _known("journal", row.journal, read.journals, where)
        _known("base", row.base, read.bases, where)
        _check_teaching(row, where)


def _check_claim(read: Experiment, claim: Claim, where: str) -> None:
    if claim.name in Report.model_fields:
        raise ConfigError(f"report.json has a `{claim.name}` of its own", where=where, fix="give the claim another name")
    test = claim.test or read.main_test()
    _known("test", test, read.tests, where)
    for name in (claim.row, claim.against):
        check_row(read, name, where)
        if test not in next(read.tests_of(row) for row in read.rows if row.name == name):
            raise ConfigError(f"`{name}` is not judged on `{test}`", where=where, fix="name another test, or add it to the row's tests")


def _check_teaching(row: Taught, where: str) -> None:
    from training.examples.rivals import check_kinds
    from training.objective import parse_weighting

    check_kinds(row.view, row.kinds, where)
    parse_weighting(row.weighting)
    how_many(row.trajectories, 10**12)


def _known(what: str, name: str, names: Collection[str], where: object) -> None:
    if name not in names:
        near = get_close_matches(name, names, n=1)
        fix = f"did you mean `{near[0]}`?" if near else f"one of: {', '.join(names) or 'none is given'}"
        raise ConfigError(f"unknown {what} `{name}`", where=where, fix=fix)


def _table(tables: Mapping[str, Any], name: str, file: Path) -> Mapping[str, Any]:
    found = tables.get(name, {})
    if not isinstance(found, dict):
        raise ConfigError(f"`{name}` is no table", where=file, fix=f"write [{name}] and its keys below it")
    return found


def _named(tables: Mapping[str, Any], name: str, file: Path) -> Mapping[str, Any]:
    """A table whose keys the file chooses: text or lists of text, but for [tests.NAME]."""
    found = _table(tables, name, file)
    for key, value in found.items():
        texts = value if isinstance(value, list) and name == "journals" else [value]
        if not texts or not all(isinstance(one, dict if name == "tests" else str) for one in texts):
            raise ConfigError(f"`{key}` in [{name}] is not what belongs there", where=file,
                              fix='write [tests.NAME], or NAME = "PATH" in [journals] and [bases]')
    return found


def _list(tables: Mapping[str, Any], name: str, file: Path) -> Sequence[Mapping[str, Any]]:
    found = tables.get(name, [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise ConfigError(f"`{name}` is no list of tables", where=file, fix=f"write [[{name}]] above each")
    return found
