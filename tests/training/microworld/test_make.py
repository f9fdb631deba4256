"""A world on disk: what the command leaves, that its card tells the truth, and that a folder holds one world."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from steper_agent.errors import ConfigError
from steper_agent.records import Hit, Passage, Question
from steper_agent.retrieval import open_index, read_passages, read_questions
from training.microworld.at_once import share_at_once
from training.microworld.dials import PRESETS, Dials
from training.microworld.make import MakeConfig, WorldCard, main, make, settled
from training.models import open_model

SMALL = ["--passages", "150", "--questions", "30", "--split", "train", "--seed", "2"]


def test_the_command_leaves_a_world_that_its_card_describes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "world"
    assert main(["--out", str(out), *SMALL, "--preset", "medium", "--distractors", "2", "--missing", "0.2"]) == 0
    card = WorldCard.model_validate_json((out / "card.json").read_text())
    assert card.dials == PRESETS["medium"].model_copy(update={"distractors": 2, "missing": 0.2})
    passages, questions = list(read_passages(out / "passages.jsonl")), read_questions(out / "questions.jsonl")
    assert (len(passages), len(questions), len(open_index(out / "index"))) == (card.passages, 30, card.passages)
    assert card.unknown == sum(question.answers == ("unknown",) for question in questions) == 8
    assert sum(card.hops.values()) == sum(card.types.values()) == card.questions == 30
    assert card.touched["missing"] == 6
    assert 0 <= card.at_once < card.recall[1] <= card.recall[3] <= card.recall[10] <= 1
    assert "30 questions, 8 of them without an answer" in capsys.readouterr().out


def test_the_same_settings_make_the_same_files_and_others_are_refused(tmp_path: Path) -> None:
    config = MakeConfig(out=tmp_path / "a", passages=120, questions=10, noise=1)
    card = make(config)
    assert make(config) == card == make(config.model_copy(update={"out": tmp_path / "b"}))
    for other in ({"noise": 2}, {"seed": 1}, {"preset": "hard"}):
        with pytest.raises(ConfigError, match="this folder's run has"):
            make(config.model_copy(update=other))


def test_a_killed_run_is_finished_by_the_same_command(tmp_path: Path) -> None:
    config = MakeConfig(out=tmp_path / "a", passages=120, questions=10)
    card = make(config)
    (tmp_path / "a" / "card.json").unlink()
    (tmp_path / "a" / "questions.jsonl").unlink()
    assert make(config) == card
    assert json.loads((tmp_path / "a" / "card.json").read_text())["digests"] == card.digests


def test_a_dial_that_is_given_goes_before_its_presets_even_at_zero() -> None:
    config = MakeConfig.model_validate({"out": "x", "preset": "hard", "hops": 0})
    assert (settled(config).hops, settled(config).noise) == (0, PRESETS["hard"].noise)
    assert settled(settled(config)) == settled(config)


def test_dials_that_exclude_a_presets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at most 1 together"):
        make(MakeConfig(out=tmp_path, preset="hard", missing=0.95))


def test_the_help_says_where_every_preset_puts_its_dials(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert all(preset in said for preset in PRESETS)
    assert all(f"--{dial}" in said for dial in Dials.model_fields)
    assert "hops 1, distractors 1" in said


def test_a_teacher_that_gives_up_has_a_name_of_its_own() -> None:
    versions = [getattr(open_model(spec), "version") for spec in ("symbolic", "symbolic:0", "symbolic:2", "symbolic:3")]  # noqa: B009
    assert versions == ["symbolic-teacher", "symbolic-teacher", "symbolic-teacher-2", "symbolic-teacher-3"]


@pytest.mark.parametrize(("question", "texts", "share"), [
    ("What is the mother of Baldor Zimkin?", ["The mother of Baldor Zimkin is Tostel Hivrin."], 1.0),
    ("Name the mother of Baldor Zimkin.", ["The mother of Baldor Zimkin is Tostel Hivrin."], 0.0),
    ("What is the mother of Baldor Zimkin?", ["Baldor Zimkin was brought up by Tostel Hivrin."], 0.0),
    ("What is the mother of Baldor Zimkin?", ["An old song. " * 40, "The mother of Baldor Zimkin is Tostel Hivrin."], 0.0),
    ("What is the mother of the spouse of Baldor Zimkin?",
     ["The spouse of Baldor Zimkin is Dernas Galdor.", "The mother of Dernas Galdor is Tostel Hivrin."], 1.0),
    ("What is the mother of the spouse of Baldor Zimkin?", ["The spouse of Baldor Zimkin is Dernas Galdor."], 0.0),
])
def test_answered_at_once_is_what_stands_in_the_first_words_as_pretraining_says_it(question: str, texts: list[str], share: float) -> None:
    hits = [Hit(passage=Passage(id=str(n), title="", text=text), score=1.0) for n, text in enumerate(texts)]
    known = Question(id="q", text=question, answers=("Tostel Hivrin",))
    unknown = known.model_copy(update={"answers": ("unknown",)})
    assert share_at_once([known, unknown], [hits, hits]) == share
