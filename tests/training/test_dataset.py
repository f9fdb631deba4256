"""What is taught is what the graph will ask, and a data set says what it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from steper_agent.errors import DataError, ModelError
from steper_agent.journal import Journal, trajectories
from steper_agent.records import Trajectory
from tests.tiny import tiny_base, tiny_tokenizer
from tests.training.journals import add_run, make_journal
from training.dataset import DatasetConfig, build, load_dataset, main, read_card
from training.views import Teaching, examples_of, kind_of


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> list[Trajectory]:
    return trajectories(make_journal(tmp_path_factory.mktemp("journal") / "journal.jsonl"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base"), window=4096)


def test_cumulative_learns_every_line_and_incremental_the_last(told: list[Trajectory], tokenizer: Any) -> None:
    trajectory = next(t for t in told if len(t.steps) == 3)
    both = {t: examples_of(trajectory, 0, Teaching(tokenizer, "stepwise", t, 10_000))[0] for t in ("cumulative", "incremental")}
    for step, (whole, own) in enumerate(zip(both["cumulative"], both["incremental"], strict=True), start=1):
        taught = tokenizer.decode([i for i, learned in zip(whole.ids, whole.learn, strict=True) if learned])
        assert taught.removesuffix("<|end|>") == "".join(f"{s.rationale}\n" for s in trajectory.steps[:step])
        assert whole.ids == own.ids
        assert (sum(whole.learn) > sum(own.learn)) == (step > 1)


def test_the_vanilla_view_is_the_last_example_of_the_stepwise_one(told: list[Trajectory], tokenizer: Any) -> None:
    for trajectory in told:
        stepwise, _ = examples_of(trajectory, 0, Teaching(tokenizer, "stepwise", "cumulative", 10_000))
        vanilla, _ = examples_of(trajectory, 0, Teaching(tokenizer, "vanilla", "cumulative", 10_000))
        assert vanilla == stepwise[-1:]


def test_kinds_follow_from_the_position() -> None:
    assert [kind_of(step, 4) for step in (1, 2, 3, 4)] == ["initialization", "expansion", "expansion", "aggregation"]
    assert kind_of(1, 1) == "aggregation"


def test_a_long_example_loses_its_oldest_unneeded_passages_and_never_its_target(
    told: list[Trajectory], tokenizer: Any
) -> None:
    trajectory = next(t for t in told if len(t.steps) == 4)
    full = examples_of(trajectory, 0, Teaching(tokenizer, "stepwise", "cumulative", 10_000))[0][-1]
    (cut,), _ = examples_of(trajectory, 0, Teaching(tokenizer, "vanilla", "cumulative", len(full.ids) - 1))
    text = tokenizer.decode(cut.ids)
    passages = [hit.passage for step in trajectory.steps for hit in step.hits]
    assert passages[1].text not in text
    assert all(p.text in text for p in passages if p is not passages[1])
    assert sum(cut.learn) == sum(full.learn)
    assert examples_of(trajectory, 0, Teaching(tokenizer, "vanilla", "cumulative", 60)) == ([], 1)


def test_what_is_written_is_read_and_counted(tmp_path: Path, base: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        for number in range(6):
            add_run(journal, number, steps=1 + number % 3, right=number != 4)
        add_run(journal, 6, steps=2, stop="budget")
    config = DatasetConfig(journal=(tmp_path / "journal.jsonl",), base=base, out=tmp_path / "data")
    card = build(config)
    assert card == read_card(tmp_path / "data")
    assert card.trajectories == {"read": 7, "kept": 5, "wrong answer": 1, "stopped by budget": 1}
    loaded, questions = load_dataset(tmp_path / "data")
    assert len(questions) == len(loaded)
    assert [examples[0].trajectory for examples in loaded] == [0, 1, 2, 3, 4]
    assert sum(len(examples) for examples in loaded) == sum(card.examples.values())
    assert sum(len(e.ids) for examples in loaded for e in examples) == card.tokens
    assert all(len(e.ids) == len(e.learn) for examples in loaded for e in examples)
    everything = build(config.model_copy(update={"all_answers": True, "out": tmp_path / "all"}))
    assert everything.trajectories["kept"] == 6


def test_bad_input_is_one_clear_error(tmp_path: Path, base: Path) -> None:
    journal = make_journal(tmp_path / "journal.jsonl")
    config = DatasetConfig(journal=(journal,), base=base, out=tmp_path / "data", max_length=300)
    with pytest.raises(DataError, match=r"exceed 300 tokens(.|\n)*--max-length"):
        build(config)
    with pytest.raises(ModelError):
        build(config.model_copy(update={"base": tmp_path / "nowhere"}))
    with pytest.raises(DataError, match="no data set here"):
        load_dataset(tmp_path / "nowhere")
    build(config.model_copy(update={"max_length": 4096}))
    with (tmp_path / "data" / "examples.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(DataError, match="not those the card describes"):
        load_dataset(tmp_path / "data")


def test_the_command_line_makes_a_data_set(tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = make_journal(tmp_path / "journal.jsonl")
    assert main(["--journal", str(journal), "--base", str(base), "--out", str(tmp_path / "data"), "--view", "vanilla"]) == 0
    assert "8 of 8 trajectories" in capsys.readouterr().out
