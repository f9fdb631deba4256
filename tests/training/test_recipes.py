"""The recipes are read by the verbs they are for, hold what they say they hold, and the small ones run from end to end."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from steper_agent.config import command_line, read_tables
from steper_agent.errors import ConfigError
from steper_agent.retrieval import build_index
from training import collect, dataset, distill, evaluate, preflight
from training.checks.files import agreement
from training.checks.opened import Opened
from training.microworld.questions import CHAINS, make_questions
from training.microworld.world import Split, make_world
from training.recipe import TABLES, overrides_of, read_recipe
from training.verb import run

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.toml"))
PAPERS = [path for path in RECIPES if path.name.startswith("paper-")]
SMALL = [path for path in RECIPES if path.name.startswith("microworld-")]
VERBS: dict[str, Callable[[Sequence[str] | None], int]] = {"collect": collect.main, "dataset": dataset.main, "distill": distill.main, "evaluate": evaluate.main}
every_recipe = pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)


def test_there_are_recipes_for_every_data_set_and_strategy() -> None:
    names = {path.stem for path in RECIPES}
    assert {"paper-hotpotqa", "paper-2wikimultihopqa", "paper-musique", "paper-qwen-sizes", "bamboogle"} <= names
    assert {read_recipe(path).collect.strategy for path in SMALL} == {"ircot", "self_ask", "tool_calling"}


@every_recipe
def test_every_table_is_read_by_its_verb_as_preflight_reads_it(path: Path) -> None:
    recipe = read_recipe(path)
    assert set(recipe.tables) == set(read_tables(path)) <= set(TABLES)
    for name, table in recipe.tables.items():
        assert command_line(TABLES[name], name, "", ["--config", str(path)]) == table


@every_recipe
def test_the_tables_of_a_recipe_fit_together(path: Path, tmp_path: Path) -> None:
    assert [finding.state for finding in agreement(Opened(read_recipe(path), tmp_path))] == ["ok"]


@pytest.mark.parametrize("path", [*RECIPES, ROOT / "docs" / "evidence.md"], ids=lambda path: path.stem)
def test_the_commands_that_go_with_a_recipe_know_their_flags(path: Path) -> None:
    text = re.sub(r"\\\n#?", "", path.read_text(encoding="utf-8"))
    commands = [shlex.split(line, comments=True) for line in re.findall(r"^[# ]*(?:python|accelerate .*) -m training\.(.*)", text, flags=re.MULTILINE)]
    assert {words[0] for words in commands} & {"preflight", *TABLES}
    for verb, *words in commands:
        flags = {word for word in words if word.startswith("--")}
        if verb in TABLES:
            flags -= {f"--{field.replace('_', '-')}" for field in TABLES[verb].model_fields} | {"--config"}
            assert not flags, f"{verb} has no {flags}"
        elif verb == "preflight":
            assert flags <= {"--config", "--no-calls"}


@pytest.mark.parametrize("path", PAPERS, ids=lambda path: path.stem)
def test_the_papers_settings_are_the_papers(path: Path) -> None:
    recipe = read_recipe(path)
    assert (recipe.collect.k, recipe.collect.steps, recipe.collect.strategy) == (4, 5, "ircot")
    assert re.search(r"Llama-3\.1-70B|Qwen2\.5-72B", recipe.collect.teacher)
    assert (recipe.dataset.view, recipe.dataset.target, recipe.dataset.all_answers) == ("stepwise", "cumulative", False)
    assert (recipe.distill.method, recipe.distill.learning_rate, recipe.distill.epochs) == ("full", 5e-6, 2)
    assert recipe.distill.weighting == "learned"
    assert 0 < recipe.distill.warmup < 1
    assert recipe.evaluate.questions in recipe.dataset.held_out


def test_a_setting_is_overridden_as_toml_or_else_as_text(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('[collect]\nindex = "i"\nout = "o"\n')
    overrides = overrides_of(["collect.limit=3", 'collect.where=["a=b"]', "collect.teacher=openai:gpt-4o"])
    found = read_recipe(path, overrides).collect
    assert (found.limit, found.where, found.teacher) == (3, ("a=b",), "openai:gpt-4o")
    with pytest.raises(ConfigError, match="TABLE.KEY=VALUE"):
        overrides_of(["limit=3"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[colect]\nindex = "i"', r"no verb reads the table \[colect\][^$]*did you mean \[collect\]"),
        ('[collect]\nindx = "i"', "unknown key `indx`[^$]*did you mean `index`"),
        ("[experiment]\nseeds = 3", "without a table that is checked"),
        ('index = "i"', "no verb reads"),
        ("[collect", "not TOML"),
    ],
)
def test_a_recipe_that_no_verb_would_read_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_recipe(tmp_path / "r.toml")


def test_a_table_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('[collect]\nindex = "i"\nout = "o"\n')
    with pytest.raises(ConfigError, match=r"there is no table \[distill\]"):
        read_recipe(tmp_path / "r.toml").distill  # noqa: B018


def make_worlds(folder: Path) -> None:
    """What the recipes' first two commands make, smaller, and the base where the recipes look for it."""
    splits: tuple[Split, Split] = ("train", "test")
    for split in splits:
        at, world = folder / "runs/microworld" / split, make_world(120, split=split, seed=0)
        at.mkdir(parents=True)
        for name, records in (("passages", world.passages), ("questions", make_questions(world, 8, seed=0, mix=CHAINS))):
            (at / f"{name}.jsonl").write_text("".join(record.model_dump_json() + "\n" for record in records))
        build_index([at / "passages.jsonl"], at / "index")
    (folder / "training").mkdir()
    (folder / "training/microworld").symlink_to(ROOT / "training/microworld")


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.stem)
def test_a_small_recipe_runs_from_preflight_to_report(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_worlds(tmp_path)
    monkeypatch.chdir(tmp_path)
    smaller = {"collect": ["--limit=5"], "dataset": [], "distill": ["--max-steps=1", "--batch=2", "--rank=2"], "evaluate": ["--limit=2", "--max-tokens=24"]}
    assert run(preflight.main, ["--config", str(path), "--json", "preflight.json"]) == 0
    assert {one["state"] for one in json.loads(Path("preflight.json").read_text())["checks"]} == {"ok"}
    for verb, main in VERBS.items():
        assert run(main, ["--config", str(path), *smaller[verb]]) == 0, verb
    report = json.loads((read_recipe(path).evaluate.out / "report.json").read_text())
    assert report["evaluation"]["score"]["n"] == 2
    assert report["model"].startswith("student@")
