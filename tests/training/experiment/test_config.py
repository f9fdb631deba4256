"""What is wrong in an experiment's file is said before anything is made, with the name that was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from steper_agent.errors import ConfigError
from training.experiment.cells import cells_of
from training.experiment.config import Experiment, Served, Taught, read_experiment

HEAD = """
[experiment]
out = "run"
seeds = [0, 1]

[journals]
ircot = "a.jsonl"
self_ask = ["b.jsonl", "c.jsonl"]

[bases]
small = "s"
large = "l"

[tests.dev]
index = "i"
questions = "q.jsonl"

[defaults]
rank = 2
view = "vanilla"
"""
ROW = '\n[[rows]]\nname = "one"\n'


def read(tmp_path: Path, text: str) -> Experiment:
    path = tmp_path / "e.toml"
    path.write_text(text)
    return read_experiment(path)


def test_rows_differ_from_the_defaults_and_grids_are_products(tmp_path: Path) -> None:
    found = read(tmp_path, HEAD + ROW + """
[[rows]]
name = "two"
view = "stepwise"
base = "large"
seeds = [7]

[[rows]]
name = "teacher"
model = "symbolic"

[[grid]]
name = "grid"
view = "stepwise"
weighting = ["learned", "fixed:1.5,1,0.5"]
trajectories = ["1/4", 900]
kinds = ["initialization,aggregation", "aggregation"]
""")  # fmt: skip
    one, two, teacher, *grid = found.rows
    assert isinstance(one, Taught)
    assert isinstance(two, Taught)
    assert (one.view, one.rank, one.journal, one.base) == ("vanilla", 2, "ircot", "small")
    assert (two.view, two.rank, two.base) == ("stepwise", 2, "large")
    assert isinstance(teacher, Served)
    assert [found.seeds(row) for row in found.rows[:3]] == [(0, 1), (7,), (0,)]
    assert [row.name for row in grid[:3]] == ["grid learned 1/4 initialization,aggregation", "grid learned 1/4 aggregation", "grid learned 900 initialization,aggregation"]
    assert len({row.model_dump_json(exclude={"name"}) for row in grid}) == 8
    assert len(cells_of(found)) == 2 + 1 + 1 + 16
    assert found.journals["self_ask"] == (Path("b.jsonl"), Path("c.jsonl"))


def test_lists_of_one_choice_have_one_spelling(tmp_path: Path) -> None:
    text = '[[rows]]\nname = "{}"\nkinds = {}\nfilters = {}\n'
    found = read(tmp_path, HEAD + text.format("a", '["aggregation", "expansion"]', '["supported", "dedupe"]') + text.format("b", '"expansion, aggregation"', '"dedupe, supported"'))
    assert len({row.model_dump_json(exclude={"name"}) for row in found.rows}) == 1


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        (HEAD + ROW + "wieghting = 'ema'", "unknown key `wieghting`", "did you mean `weighting`?"),
        (HEAD.replace("rank", "ranks") + ROW, "unknown key `ranks`", "did you mean `rank`?"),
        (HEAD.replace("seeds", "sed"), "unknown key `sed`", "did you mean `seed`?"),
        (HEAD.replace("[journals]", "[journal]") + ROW, "unknown table `journal`", "did you mean `journals`?"),
        (HEAD + ROW + "base = 'smal'", "unknown base `smal`", "did you mean `small`?"),
        (HEAD + ROW + "journal = 'ircott'", "unknown journal `ircott`", "did you mean `ircot`?"),
        (HEAD + ROW + "view = 'stepwize'", "`view`", "give view"),
        (HEAD + ROW + "weighting = 'learnt'", "weighting", ""),
        (HEAD + ROW + "trajectories = '3/2'", "no part of the trajectories", ""),
        (HEAD + ROW + "view = 'vanilla'\nkinds = 'initialization'", "has no step of these kinds", "stepwise"),
        (HEAD + ROW + "kinds = 'expanding'", "`kinds", ""),
        (HEAD + ROW + "filters = ['suported']", "`filters", ""),
        (HEAD + ROW + "model = 'symbolic'\nview = 'vanilla'", "unknown key `view`", ""),
        (HEAD + ROW + ROW, "two are called `one`", ""),
        (HEAD, "there are no rows", ""),
        (HEAD.replace("[0, 1]", "[0, 0]") + ROW, "a seed is given twice", ""),
        (HEAD + "[[grid]]\nview = []", "`view` has no value", ""),
        (HEAD.replace("[tests.dev]", "[tests]") + ROW, "`index` in [tests]", "[tests.NAME]"),
        (HEAD.replace('small = "s"', "small = 3") + ROW, "`small` in [bases]", ""),
        (HEAD.replace('"a.jsonl"', "[]") + ROW, "`ircot` in [journals]", ""),
        (HEAD + "name = 'x'" + ROW, "defaults have no name", ""),
        (HEAD + "[rows]\nname = 'x'", "`rows` is no list of tables", "[[rows]]"),
        (HEAD.replace("seeds = [0, 1]", "reference = 'on'") + ROW, "unknown row `on`", "did you mean `one`?"),
        (HEAD + ROW + "[[claims]]\nname = 'c'\nrow = 'one'\nagainst = 'tow'", "unknown row `tow`", ""),
        (HEAD + ROW + "[[claims]]\nname = 'c'\nrow = 'one'\nagainst = 'one'\ntest = 'dv'", "unknown test `dv`", "did you mean `dev`?"),
        (HEAD + ROW + "[[claims]]\nname = 'rows'\nrow = 'one'\nagainst = 'one'", "has a `rows` of its own", ""),
        (HEAD + ROW + "tests = ['dve']", "unknown test `dve`", "did you mean `dev`?"),
        (HEAD + "[tests.far]\nindex = 'i'\nquestions = 'f.jsonl'\n" + ROW + "tests = ['far']\n[[claims]]\nname = 'c'\nrow = 'one'\nagainst = 'one'",
         "`one` is not judged on `dev`", "another test"),
        (HEAD + ROW + "[[claims]]\nname = 'A b'\nrow = 'one'\nagainst = 'one'", "`name`", ""),
        ("[experiment]\nout = 'x'" + ROW, "no questions to judge by", "[tests.NAME]"),
        ("rows = 3", "`out`", ""),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_what_was_meant(tmp_path: Path, text: str, what: str, fix: str) -> None:
    with pytest.raises(ConfigError) as told:
        read(tmp_path, text)
    assert what in told.value.what
    assert fix in told.value.fix


def test_a_missing_file_and_no_toml_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_experiment(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="not TOML"):
        read(tmp_path, "[experiment")
