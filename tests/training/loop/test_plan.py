"""A dry run counts what a run will take, and writes nothing."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch

from steper_agent.errors import ConfigError
from tests.tiny import tiny_base
from tests.training.journals import make_journal
from tests.training.samples import random_examples, small_model
from training import distill
from training.dataset import DatasetConfig, build
from training.disk import DiskFull, needed
from training.distill import DistillConfig
from training.examples.dataset_folder import Dataset, read_card
from training.loop.plan import Plan, Planned, _Tried, plan
from training.trees.pieces import Budget
from training.trees.support import prepare_for_trees


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("plan")
    base = tiny_base(folder / "base", window=4096)
    build(DatasetConfig(journal=(make_journal(folder / "journal.jsonl", count=6),), base=base, out=folder / "set"))
    return {"dataset": folder / "set", "base": base, "out": folder / "run", "rank": 4, "alpha": 8, "batch": 4, "epochs": 3, "save_every": 4}


@pytest.fixture(scope="module")
def planned(settings: dict[str, Any]) -> Plan:
    return distill.dry_run(DistillConfig(**settings))


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_dry_run_writes_nothing_and_prints_everything(settings: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    folder = settings["out"].parent
    before = files(folder)
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()]
    assert distill.main([*flags, "--dry-run"]) == 0
    assert files(folder) == before
    told = capsys.readouterr().out
    for words in ("6 trajectories", "expansion", "as rows", "as trees", "updates   6", "2 checkpoints", "an estimate", "activations", "logits", "disk", "enough"):
        assert words in told


def test_what_is_counted_is_what_the_data_set_holds(planned: Plan, settings: dict[str, Any]) -> None:
    card = read_card(settings["dataset"])
    assert {kind: held.examples for kind, held in planned.kinds.items()} == card.examples
    assert sum(held.tokens for held in planned.kinds.values()) == card.tokens
    assert sum(held.learned for held in planned.kinds.values()) == card.learned_tokens
    assert planned.as_rows == card.tokens - sum(card.examples.values()), "the last token of an example is only a target"
    assert planned.as_trees < planned.as_rows
    assert planned.updates == 6
    assert planned.checkpoints == 2


def test_the_plan_of_rows_takes_more_than_that_of_trees(planned: Plan, settings: dict[str, Any]) -> None:
    rows = distill.dry_run(DistillConfig(**{**settings, "packing": "rows"}))
    assert (rows.as_rows, rows.as_trees) == (planned.as_rows, planned.as_trees)
    assert rows.largest > planned.largest
    assert rows.activations > planned.activations
    assert rows.weights == planned.weights == 4 * sum(p.numel() for p in torch.nn.ModuleList([distill._prepare(DistillConfig(**settings)).model]).parameters())
    assert planned.gradients * 2 == planned.optimizer


def planned_for(model: Any, count: int) -> Planned:
    data = Dataset([[example] for example in random_examples(1, count=count)], [f"q{number}" for number in range(count)])
    return Planned(model, data, "trees", "", Budget(), 0, batch=8, micro=8, processes=1, epochs=1, max_steps=0, save_every=5, bf16=False, seed=0,
                   out=Path("nowhere"))  # fmt: skip


def test_the_passes_change_no_weight_and_leave_no_gradient() -> None:
    model = small_model("llama")
    assert prepare_for_trees(model, longest=300) == ""
    before = [weight.clone() for weight in model.parameters()]
    found = plan(planned_for(model, 12))
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), before, strict=True))
    assert all(weight.grad is None for weight in model.parameters())
    assert found.seconds > 0


def test_activations_grow_with_the_layers() -> None:
    few, many = (small_model("llama", num_hidden_layers=layers) for layers in (2, 4))
    for model in (few, many):
        assert prepare_for_trees(model, longest=300) == ""
    less, more = (plan(planned_for(model, 12)).activations for model in (few, many))
    assert 1.5 * less < more < 2.5 * less


def test_time_lies_on_the_line_through_both_passes_or_follows_the_larger_ones_pace() -> None:
    tried = _Tried((100, 3.0), (50, 2.0), 0, 0, "")
    assert [tried.seconds(tokens) for tokens in (100, 50, 0)] == [3.0, 2.0, 1.0]
    assert _Tried((100, 3.0), (50, 4.0), 0, 0, "").seconds(50) == 1.5
    assert _Tried((100, 3.0), (100, 2.0), 0, 0, "").seconds(50) == 1.5


def test_too_little_disk_is_told_before_the_first_update(settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6 - 1000, 1000))
    config = DistillConfig(**{**settings, "out": tmp_path / "run"})
    with pytest.raises(DiskFull, match=r"the student need .* and 1\.0 kB are free"):
        distill.run(config, on_update=lambda *_: pytest.fail("trained"))
    assert "TOO LITTLE" in str(distill.dry_run(config))
    assert needed(100) > 4 * 100


def test_a_dry_run_refuses_what_a_run_refuses(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="unknown weighting"):
        distill.dry_run(DistillConfig(**{**settings, "weighting": "guess"}))
    with pytest.raises(ConfigError, match="do not split"):
        distill.dry_run(DistillConfig(**{**settings, "accumulate": 3}))
