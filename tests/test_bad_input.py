"""Whatever a person gives wrongly ends as one error that says what, where and how to fix it, never as a traceback."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from steper_agent.retrieval import build_index
from tests.steper_agent.retrieval.shelves import write_lines
from tests.tiny import tiny_adapter, tiny_base
from tests.training.journals import make_journal
from training import collect, dataset, distill, evaluate, fresh
from training.microworld.questions import make_questions
from training.microworld.world import make_world
from training.verb import run
from tui.cli import main as steper

ONE_ERROR = re.compile(r"^\w+(?:Error|Fault): .+\n  where: .+\n  fix:   .+\n", re.MULTILINE)
"""Three lines; progress may stand before them."""
MODULES: tuple[Any, ...] = (collect, dataset, distill, evaluate, fresh)
VERBS = {module.__name__.rpartition(".")[2]: module for module in MODULES}


class Case(NamedTuple):
    main: Callable[[list[str]], int]
    argv: list[str]
    words: tuple[str, ...]
    """What the error must name."""


Bad = Callable[[Path, Path], Case]
"""Makes the bad thing in the second folder, beside the good ones in the first."""


def verb(name: str, made: Path, tmp: Path, *words: object, **given: object) -> Case:
    """A training verb that would end well but for what is given; None leaves a setting out."""
    good: dict[str, dict[str, object]] = {
        "collect": {"index": made / "index", "questions": made / "questions.jsonl"},
        "dataset": {"journal": made / "journal.jsonl", "base": made / "base"},
        "distill": {"dataset": made / "data", "base": made / "base"},
        "evaluate": {"index": made / "index", "questions": made / "questions.jsonl", "model": "symbolic"},
        "fresh": {"corpus": made / "corpus.jsonl"},
    }
    settings = {**good[name], "out": tmp / "out", **given}
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in settings.items() if value is not None]
    return Case(partial(run, VERBS[name].main), flags, tuple(map(str, words)))


def build(tmp: Path, source: Path, *words: object) -> Case:
    return Case(steper, ["index", "build", str(source), "--out", str(tmp / "out")], tuple(map(str, words)))


def ask(made: Path, *words: object, **given: object) -> Case:
    settings = {"index": made / "index", "model": "symbolic", **given}
    flags = [f"--{key}={value}" for key, value in settings.items()]
    return Case(steper, ["ask", "Who?", *flags], tuple(map(str, words)))


def passage(id: str) -> dict[str, str]:
    return {"id": id, "title": "T", "text": f"The text of {id}."}


def with_line(path: Path, source: Path, number: int, line: str) -> Path:
    """A copy of a file with another line at that number."""
    lines = source.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([*lines[: number - 1], line, *lines[number:]]) + "\n", encoding="utf-8")
    return path


def toml(tmp: Path, text: str) -> Path:
    (tmp / "run.toml").write_text(text, encoding="utf-8")
    return tmp / "run.toml"


def copied(source: Path, to: Path) -> Path:
    shutil.copytree(source, to)
    return to


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good things of every kind, and a base and a student that belong to each other but to nothing else."""
    folder = tmp_path_factory.mktemp("made")
    world = make_world(100, split="test", seed=1)
    write_lines(folder / "corpus.jsonl", [one.model_dump() for one in world.passages])
    write_lines(folder / "questions.jsonl", [one.model_dump() for one in make_questions(world, 5, seed=2)])
    build_index([folder / "corpus.jsonl"], folder / "index")
    build_index([write_lines(folder / "few.jsonl", map(passage, "abc"))], folder / "few")
    make_journal(folder / "journal.jsonl", count=4)
    tiny_base(folder / "base", window=4096)
    tiny_adapter(tiny_base(folder / "wide", width=64), folder / "student")
    dataset.build(dataset.DatasetConfig(journal=(folder / "journal.jsonl",), base=folder / "base", out=folder / "data"))
    return folder


CASES: dict[str, Bad] = {
    # files that are not there
    "collect: no questions": lambda m, t: verb("collect", m, t, t / "none", questions=t / "none"),
    "evaluate: no questions": lambda m, t: verb("evaluate", m, t, t / "none", questions=t / "none"),
    "build: no corpus": lambda _, t: build(t, t / "none", t / "none", "no such file"),
    "fresh: no corpus": lambda m, t: verb("fresh", m, t, t / "none", "no such file", corpus=t / "none"),
    "collect: no chains": lambda m, t: verb("collect", m, t, t / "none", questions=None, replay=t / "none"),
    "dataset: no journal": lambda m, t: verb("dataset", m, t, t / "none", journal=t / "none"),
    "dataset: no base": lambda m, t: verb("dataset", m, t, t / "none", base=t / "none"),
    "distill: no data set": lambda m, t: verb("distill", m, t, t / "none", dataset=t / "none"),
    "distill: no base": lambda m, t: verb("distill", m, t, t / "none", base=t / "none"),
    "evaluate: no index": lambda m, t: verb("evaluate", m, t, t / "none", index=t / "none"),
    "evaluate: no settings file": lambda m, t: verb("evaluate", m, t, t / "none", config=t / "none"),
    # broken lines
    "build: broken corpus": lambda m, t: build(t, with_line(t / "c", m / "corpus.jsonl", 7, "{bad"), f"{t / 'c'}:7"),
    "build: a passage without text": lambda m, t: build(
        t, with_line(t / "c", m / "corpus.jsonl", 7, '{"id": "x"}'), f"{t / 'c'}:7", "no text"),
    "fresh: broken corpus": lambda m, t: verb(
        "fresh", m, t, f"{t / 'c'}:7", corpus=with_line(t / "c", m / "corpus.jsonl", 7, "{bad")),
    "collect: broken questions": lambda m, t: verb(
        "collect", m, t, f"{t / 'q'}:3", questions=with_line(t / "q", m / "questions.jsonl", 3, '{"id": 1')),
    "evaluate: broken questions": lambda m, t: verb(
        "evaluate", m, t, f"{t / 'q'}:3", questions=with_line(t / "q", m / "questions.jsonl", 3, '{"id": 1')),
    "evaluate: a question without an answer": lambda m, t: verb(
        "evaluate", m, t, f"{t / 'q'}:2", "no answer",
        questions=with_line(t / "q", m / "questions.jsonl", 2, '{"id": "x", "question": "Who?"}')),
    "dataset: broken journal": lambda m, t: verb(
        "dataset", m, t, f"{t / 'j'}:5", journal=with_line(t / "j", m / "journal.jsonl", 5, '{"line": "node"}')),
    "ask: broken journal": lambda m, t: ask(
        m, f"{t / 'j'}:5", journal=with_line(t / "j", m / "journal.jsonl", 5, "nothing")),
}  # fmt: skip


def case(name: str) -> Callable[[Bad], Bad]:
    def add(make: Bad) -> Bad:
        CASES[name] = make
        return make

    return add


PASSAGES = "0001/passages.jsonl"


@case("ask: a blank question")
def blank_question(made: Path, tmp: Path) -> Case:
    del tmp
    good = ask(made, "blank")
    return good._replace(argv=["ask", "  ", *good.argv[2:]])


@case("collect: a broken chain")
def broken_chain(made: Path, tmp: Path) -> Case:
    good = {"id": "1", "question": "Who?", "answer": "Ann", "reasoning_steps": ["Ann did."]}
    replay = write_lines(tmp / "chains", [good, {**good, "reasoning_steps": [1]}])
    return verb("collect", made, tmp, f"{replay}:2", "reasoning_steps", questions=None, replay=replay)


@case("collect: chains that are no text")
def chains_not_text(made: Path, tmp: Path) -> Case:
    (tmp / "chains").write_bytes(b'{"id": "\xff"}\n')
    return verb("collect", made, tmp, tmp / "chains", "UTF-8", questions=None, replay=tmp / "chains")


@case("collect: a chain id twice")
def same_chain(made: Path, tmp: Path) -> Case:
    good = {"id": "7", "question": "Who?", "answer": "Ann", "reasoning_steps": ["Ann did."]}
    replay = write_lines(tmp / "chains", [good, {**good, "question": "When?"}])
    return verb("collect", made, tmp, replay, "'7'", questions=None, replay=replay)


@case("build: an empty corpus")
def empty_corpus(_: Path, tmp: Path) -> Case:
    return build(tmp, write_lines(tmp / "c", []), tmp / "c", "empty")


@case("build: a passage id twice")
def same_id(_: Path, tmp: Path) -> Case:
    return build(tmp, write_lines(tmp / "c", map(passage, "aba")), f"{tmp / 'c'}:1", f"{tmp / 'c'}:3", "'a'")


@case("build: the folder holds something else")
def not_replaced(made: Path, tmp: Path) -> Case:
    (tmp / "out").mkdir()
    write_lines(tmp / "out" / "mine", [])
    return build(tmp, made / "corpus.jsonl", tmp / "out", "in the way")


@case("evaluate: an index of another corpus")
def other_corpus(made: Path, tmp: Path) -> Case:
    return verb("evaluate", made, tmp, made / "few", "another corpus", index=made / "few", retrieval_only="true")


@case("evaluate: an index file was replaced by another index's")
def replaced_file(made: Path, tmp: Path) -> Case:
    index = copied(made / "index", tmp / "index")
    shutil.copy(made / "few" / PASSAGES, index / PASSAGES)
    return verb("evaluate", made, tmp, index / PASSAGES, index=index)


@case("ask: one byte of the index was changed")
def changed_byte(made: Path, tmp: Path) -> Case:
    file = copied(made / "index", tmp / "index") / PASSAGES
    data = file.read_bytes()
    file.write_bytes(data[:50] + bytes([data[50] ^ 1]) + data[51:])
    return ask(made, file, "changed", index=tmp / "index")


@case("ask: the folder is no index")
def no_index(made: Path, tmp: Path) -> Case:
    return ask(made, tmp, "no manifest", index=tmp)


@case("ask: the manifest is broken")
def broken_manifest(made: Path, tmp: Path) -> Case:
    index = copied(made / "few", tmp / "index")
    (index / "manifest.json").write_text("{", encoding="utf-8")
    return ask(made, index / "manifest.json", index=index)


@case("distill: another base")
def other_base(made: Path, tmp: Path) -> Case:
    return verb("distill", made, tmp, made / "data", "made for base", base=made / "wide")


@case("distill: the examples were changed")
def changed_examples(made: Path, tmp: Path) -> Case:
    data = copied(made / "data", tmp / "data")
    with (data / "examples.jsonl").open("a") as file:
        file.write("\n")
    return verb("distill", made, tmp, data / "examples.jsonl", dataset=data)


@case("dataset: no answer is right")
def nothing_right(made: Path, tmp: Path) -> Case:
    lines = [json.loads(line) for line in (made / "journal.jsonl").read_text().splitlines()]
    wrong = [{**line, "answer": "no"} if line["line"] == "finished" else line for line in lines]
    return verb("dataset", made, tmp, tmp / "j", "wrong answer", journal=write_lines(tmp / "j", wrong))


@case("evaluate: the run folder has other settings")
def other_settings(made: Path, tmp: Path) -> Case:
    good = verb("evaluate", made, tmp, limit=1)
    assert good.main(good.argv) == 0
    return verb("evaluate", made, tmp, tmp / "out" / "settings.json", "k = 4", k=3)


@case("evaluate: the run folder's settings are broken")
def broken_settings(made: Path, tmp: Path) -> Case:
    (tmp / "out").mkdir()
    (tmp / "out" / "settings.json").write_text("{", encoding="utf-8")
    return verb("evaluate", made, tmp, tmp / "out" / "settings.json")


def file_in_the_way(name: str, made: Path, tmp: Path) -> Case:
    write_lines(tmp / "out", [])
    return verb(name, made, tmp, tmp / "out")


SPECS = {"nonsense": "nonsense", "provider": "nobody:gpt", "folder": "local:{tmp}/none", "not a model": "local:{tmp}",
         "student": "local:{made}/base+{made}/student", "no student": "local:{made}/base+{tmp}/none"}  # fmt: skip


def spec(text: str, name: str, made: Path, tmp: Path) -> Case:
    given = text.format(made=made, tmp=tmp)
    words = (given.rpartition("+")[2].removeprefix("local:"),)
    if name == "ask":
        return ask(made, *words, model=given)
    return verb(name, made, tmp, *words, **{"teacher" if name == "collect" else "model": given})


CASES |= {
    f"{name}: model spec, {what}": partial(spec, text, name)
    for what, text in SPECS.items() for name in ("ask", "evaluate", "collect")
}  # fmt: skip
CASES |= {
    f"{name}: a file is where the run folder should be": partial(file_in_the_way, name) for name in VERBS
}  # fmt: skip
# settings
CASES |= {
    "toml: unknown key": lambda m, t: verb(
        "evaluate", m, t, t / "run.toml", "`concurency`", "did you mean `concurrency`",
        config=toml(t, "[evaluate]\nconcurency = 2")),
    "toml: wrong type": lambda m, t: verb(
        "distill", m, t, t / "run.toml", "`epochs`", config=toml(t, '[distill]\nepochs = "many"')),
    "toml: no such table": lambda m, t: verb(
        "evaluate", m, t, t / "run.toml", "[evaluat]", config=toml(t, "[evaluat]\nk = 2")),
    "toml: no TOML": lambda m, t: verb("collect", m, t, t / "run.toml", "line 2", config=toml(t, "[collect]\nk = \n")),
    "flag: wrong type": lambda m, t: verb("evaluate", m, t, "`k`", "evaluate", k="four"),
    "flag: out of range": lambda m, t: verb("collect", m, t, "`steps`", steps=0),
    "flag: unknown": lambda m, t: verb("dataset", m, t, "`max_lenght`", "`max_length`", max_lenght=5),
    "flag: a required one is missing": lambda m, t: verb("distill", m, t, "`dataset`", dataset=None),
    "collect: nothing to ask": lambda m, t: verb("collect", m, t, "--questions or --replay", questions=None),
    "collect: two things to ask": lambda m, t: verb("collect", m, t, "--replay", replay=t / "none"),
    "collect: no such condition": lambda m, t: verb("collect", m, t, "--where", where="dataset"),
    "collect: no question meets the condition": lambda m, t: verb("collect", m, t, m / "questions.jsonl", where="a=b"),
    "distill: nonsense weighting": lambda m, t: verb("distill", m, t, "`fair`", "learned", weighting="fair"),
    "distill: a weight that is no number": lambda m, t: verb("distill", m, t, "fixed:nan", weighting="fixed:nan,1,1"),
    "distill: a batch that does not split": lambda m, t: verb("distill", m, t, "accumulate", batch=4, accumulate=3),
    "fresh: nonsense size": lambda m, t: verb("fresh", m, t, "`big`", parameters="big"),
    "fresh: endless size": lambda m, t: verb("fresh", m, t, "`infM`", parameters="infM"),
    "evaluate: no model": lambda m, t: verb("evaluate", m, t, "--model", model=None),
    "evaluate: unknown strategy": lambda m, t: verb("evaluate", m, t, "`guess`", "ircot", strategy="guess"),
    "ask: a folder where the journal should be": lambda m, t: ask(m, t, journal=t),
}  # fmt: skip


@pytest.mark.parametrize("bad", CASES.values(), ids=CASES)
def test_it_is_one_error_that_says_what_where_and_how_to_fix_it(
    bad: Bad, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main, argv, words = bad(made, tmp_path)
    capsys.readouterr()
    code = main(argv)
    told = capsys.readouterr().err
    assert code == 2
    assert [found.span()[1] for found in ONE_ERROR.finditer(told)] == [len(told)], told
    assert "Traceback" not in told
    assert all(word in told for word in words), told
