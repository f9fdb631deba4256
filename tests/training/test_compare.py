"""One command, all methods: every part is real and only the scores are poor; what is finished is read and never made again."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import get_args

import pytest
import torch
from rich.console import Console

from graphs.run import Context, answer_all
from steper_agent.errors import ConfigError, JournalError
from steper_agent.journal import Journal, trajectories
from steper_agent.records import View
from steper_agent.retrieval import build_index, open_index
from tests.tiny import tiny_base
from tests.training.journals import make_journal
from training import compare as room
from training import judged
from training.compare import METHODS, CompareConfig, Comparison, compare, drawn, main, show
from training.evaluate import EvaluateConfig, Report, evaluate
from training.examples.rivals import ONE_SEARCH, unfound
from training.journalled import Journalled
from training.microworld.questions import CHAINS, make_questions
from training.microworld.teacher import SymbolicTeacher
from training.microworld.world import make_world
from training.verb import run

K, TAUGHT, ASKED = 2, 12, 5
"""One of those asked is in the journal too: a leak."""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> CompareConfig:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("compare")
    world = make_world(120, split="train", seed=1)
    *questions, leaked = make_questions(world, TAUGHT + ASKED, seed=2, mix=CHAINS)
    learned, asked = [*questions[:TAUGHT], leaked], [*questions[TAUGHT:], leaked]
    for name, records in (("corpus", world.passages), ("questions", asked)):
        (folder / f"{name}.jsonl").write_text("".join(record.model_dump_json() + "\n" for record in records))
    build_index([folder / "corpus.jsonl"], folder / "index")
    with Journal(folder / "journal.jsonl") as journal:
        answer_all(learned, Context(SymbolicTeacher(), open_index(folder / "index"), k=K, steps=5, journal=journal, recipe="recipe"))
    base = tiny_base(folder / "base", window=8192)
    return CompareConfig(journal=(folder / "journal.jsonl",), base=base, questions=folder / "questions.jsonl", index=folder / "index",
                         out=folder / "run", max_updates=1, batch=2, rank=2, alpha=4, steps=2, max_tokens=3)


@pytest.fixture(scope="module")
def found(config: CompareConfig) -> Comparison:
    """Stopped in the middle once, as by a person or a power cut, and gone on with."""
    asked = list[str]()

    def stops(settings: EvaluateConfig) -> Report:
        asked.append(settings.strategy)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return evaluate(settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judged, "evaluate", stops)
        with pytest.raises(KeyboardInterrupt):
            compare(config)
        assert not (config.out / room.REPORT).exists()
        return compare(config)


def written(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name not in (room.REPORT, room.PLOT)}


def test_every_method_has_a_row_with_its_own_strategy_and_the_same_training(found: Comparison, config: CompareConfig) -> None:
    assert get_args(View) == METHODS
    assert [row.method for row in found.rows] == list(METHODS)
    assert {row.method: row.strategy for row in found.rows} == {**{view: view for view in METHODS}, "stepwise": "ircot", "vanilla": "ircot"}
    assert [row.weighting for row in found.rows] == ["learned"] + ["uniform"] * 5
    assert len({row.student for row in found.rows}) == len(METHODS)
    for row in found.rows:
        assert row.score.n == ASKED
        assert all(low <= getattr(row.score, name) <= high for name, (low, high) in row.intervals.items())
        assert row.searches == (1 if row.method in ONE_SEARCH else 2)
        assert 0 < row.written <= 3 * 3
        assert row.training_tokens > 0
        settings = json.loads((config.out / row.method / "distill" / "settings.json").read_text())
        assert (settings["seed"], settings["max_steps"], settings["rank"]) == (config.seed, 1, 2)
    assert [row.gain is None for row in found.rows] == [True] + [False] * 5


def test_the_report_says_what_is_the_same_and_what_differs(found: Comparison, config: CompareConfig) -> None:
    assert Comparison.model_validate_json((config.out / room.REPORT).read_bytes()) == found
    assert found.same["k"] == K
    assert not set(found.differ) & set(found.same)
    assert {"questions", "index", "decoding", "steps", "versions"} <= set(found.same)
    assert (config.out / room.PLOT).read_bytes().startswith(b"\x89PNG")
    assert drawn(found).startswith(b"\x89PNG")
    said = io.StringIO()
    show(found, Console(file=said, width=200))
    for row in found.rows:
        assert f"{row.method} by {row.strategy}" in " ".join(said.getvalue().split())
    assert "differs on purpose" in said.getvalue()


def test_what_is_finished_is_only_read(found: Comparison, config: CompareConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    before = written(config.out)
    monkeypatch.setattr(judged, "evaluate", lambda _: pytest.fail("asked again"))
    assert compare(config) == found
    assert written(config.out) == before


def test_rows_do_not_depend_on_the_order_of_methods_nor_on_their_company(found: Comparison, config: CompareConfig, tmp_path: Path) -> None:
    alone = compare(config.model_copy(update={"methods": ("sail", "stepwise"), "out": tmp_path / "run"}))
    bare = {row.method: row.model_copy(update={"gain": None}) for row in found.rows}
    assert [row.model_copy(update={"gain": None}) for row in alone.rows] == [bare["sail"], bare["stepwise"]]
    forth, back = next(row for row in found.rows if row.method == "sail").gain, alone.rows[1].gain
    assert forth is not None
    assert back is not None
    assert forth.mean == pytest.approx(-back.mean)


@pytest.mark.usefixtures("found")
def test_other_settings_and_other_judgements_are_refused(config: CompareConfig) -> None:
    with pytest.raises(ConfigError, match="has learning_rate = "):
        compare(config.model_copy(update={"learning_rate": 1.0}))
    parts = [room._part(config.model_copy(update={"k": K}), method, "ircot") for method in ("stepwise", "sail")]
    other = parts[1].report.model_copy(update={"recipe": {**parts[1].report.recipe, "k": K + 1}})
    with pytest.raises(ConfigError, match="judged with another `k`"):
        room.compared([parts[0], parts[1]._replace(report=other)], config)


def test_more_questions_are_asked_of_the_students_there_are(found: Comparison, config: CompareConfig) -> None:
    fewer = compare(config.model_copy(update={"methods": ("vanilla",), "limit": 2}))
    assert (fewer.rows[0].score.n, fewer.rows[0].student) == (2, found.rows[1].student)
    again = compare(config.model_copy(update={"methods": ("vanilla",)}))
    assert again.rows[0].score == found.rows[1].score


@pytest.mark.usefixtures("found")
def test_the_command_line_takes_methods_parted_by_commas(config: CompareConfig, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [word for name in ("base", "questions", "index", "out", "max_updates", "batch", "rank", "alpha", "steps", "max_tokens")
             for word in (f"--{name.replace('_', '-')}", str(getattr(config, name)))]
    assert run(main, ["--journal", str(config.journal[0]), *flags, "--methods", "vanilla,self_rag"]) == 0
    shown = capsys.readouterr().out
    assert "vanilla by ircot, self_rag by self_rag" in " ".join(shown.split())
    assert "stepwise:" not in shown
    assert run(main, ["--journal", str(config.journal[0]), *flags, "--methods", "kard"]) == 2
    assert "methods" in capsys.readouterr().err


def test_what_the_journal_cannot_give_is_said_before_anybody_is_taught(config: CompareConfig, tmp_path: Path) -> None:
    other = config.model_copy(update={"out": tmp_path / "run", "journal": (make_journal(tmp_path / "j.jsonl"),)})
    with pytest.raises(JournalError, match="--k"):
        compare(other)
    with pytest.raises(JournalError, match="no journal here"):
        compare(other.model_copy(update={"journal": (tmp_path / "missing.jsonl",)}))
    told = config.journal[0].read_text().replace('"strategy":"ircot"', '"strategy":"self_ask"')
    (tmp_path / "self_ask.jsonl").write_text(told)
    with pytest.raises(ConfigError, match="cannot be made of a chain of self_ask"):
        compare(other.model_copy(update={"journal": (tmp_path / "self_ask.jsonl",)}))
    assert not (tmp_path / "run").exists()


def test_who_is_taught_the_teachers_own_chains_answers_in_the_teachers_way(config: CompareConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "journalled", lambda _: Journalled("self_ask", K, 1))
    found = compare(config.model_copy(update={"out": tmp_path / "run", "methods": ("vanilla",), "limit": 1}))
    assert found.rows[0].strategy == "self_ask"


def test_no_leak_is_taught_and_rivals_that_search_once_keep_fewer(found: Comparison, config: CompareConfig) -> None:
    *told, _leaked = trajectories(config.journal[0])
    kept = sum(not unfound(one) for one in told)
    assert [row.trajectories for row in found.rows] == [kept if row.method in ONE_SEARCH else TAUGHT for row in found.rows]
