"""A run tells against itself what it should, once, and ends where its figures are no numbers any more."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from steper_agent.durable import digest_file
from steper_agent.errors import ConfigError, DataError, DependencyError
from steper_agent.records import KINDS
from tests.tiny import tiny_base
from tests.training.journals import make_journal
from training import distill
from training.dataset import DatasetConfig, build
from training.disk import DiskFull, room_for
from training.distill import DistillConfig, Distilled
from training.examples.dataset_folder import DatasetCard, read_card
from training.loop import trainer
from training.loop.curve import Curve, CurvePoint
from training.loop.reporters import reporters
from training.loop.resume import MARK
from training.loop.watch import Diverged, Watch, Watched, absent, cut_short, risen, unmoved


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Several threads only wait for each other in models this small; and nobody looks at these pictures."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("training.loop.plots.draw_curves", lambda *_: None)
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("watch")
    base = tiny_base(folder / "base", window=4096)
    build(DatasetConfig(journal=(make_journal(folder / "journal.jsonl", count=4),), base=base, out=folder / "set"))
    return {"dataset": folder / "set", "base": base, "rank": 2, "alpha": 4, "batch": 2, "epochs": 2, "save_every": 2}


@pytest.fixture(scope="module")
def card(settings: dict[str, Any]) -> DatasetCard:
    return read_card(settings["dataset"])


@pytest.fixture(scope="module")
def done(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Distilled:
    return distill.run(DistillConfig(**settings, out=tmp_path_factory.mktemp("calm") / "run"))


def curve(losses: list[float], sigma: float = 1.0) -> list[CurvePoint]:
    return [CurvePoint(step=step, seconds=step, tokens=step, rate=1.0, loss={"aggregation": loss}, sigma=dict.fromkeys(KINDS, sigma))
            for step, loss in enumerate(losses, start=1)]


def watched(card: DatasetCard, weighting: str = "learned") -> Watched:
    return Watched(weighting, 0.02, 1.0, card)


def test_a_kind_that_is_not_there_is_named_with_what_that_means(card: DatasetCard) -> None:
    assert absent(card) == ""
    without = card.model_copy(update={"examples": {**card.examples, "expansion": 0}})
    assert "no example of expansion" in absent(without)
    assert "to go on from a chain" in absent(without)
    assert absent(without.model_copy(update={"view": "vanilla"})) == "", "it was not asked for"
    assert absent(without.model_copy(update={"kinds": ("initialization", "aggregation")})) == ""


def test_sigma_that_stays_is_told_only_where_it_belongs_elsewhere(card: DatasetCard) -> None:
    assert "aggregation ended at 1.05 and belongs at 2.00" in unmoved(curve([4.0] * 8, sigma=1.05), watched(card))
    assert unmoved(curve([4.0] * 8, sigma=1.2), watched(card)) == ""
    assert unmoved(curve([1.0] * 8, sigma=1.05), watched(card)) == ""
    assert unmoved(curve([4.0] * 8), watched(card, "uniform")) == ""
    assert "--sigma-rate" in unmoved(curve([4.0] * 8), watched(card, "ema"))


def test_a_loss_that_rises_is_told_from_noise_and_from_a_rise_made_up_before() -> None:
    rng = random.Random(0)
    noise = [rng.gauss(0, 0.05) for _ in range(100)]
    assert risen(curve([2.0 + off for off in noise])) == ""
    assert risen(curve([2.0 - 0.01 * step + off for step, off in enumerate(noise)])) == ""
    assert risen(curve([(1.0 if step < 50 else 2.0) + off for step, off in enumerate(noise)])) == ""
    assert "aggregation from" in risen(curve([1.0 + max(0, step - 75) * 0.05 + off for step, off in enumerate(noise)]))
    assert risen(curve([1.0, 5.0])) == ""


def test_most_updates_clipped_is_told_early_and_once(card: DatasetCard) -> None:
    said: list[str] = []
    watch = Watch(watched(card, "uniform"), said.append)
    for step in range(1, 41):
        watch.look(step, 40, clipped=step)
    watch.end(curve([1.0] * 40), clipped=40)
    assert len(said) == len(watch.warnings) == 1
    assert said == [f"warning: {watch.warnings[0]}"]
    assert "20 of 20 updates" in said[0]
    assert cut_short(5, 10, watched(card, "uniform")) == ""
    assert cut_short(10, 10, watched(card)) == "", "a σ that falls makes every gradient longer"


def test_a_loss_that_is_no_number_stops_the_run_and_what_was_good_stays(settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, calls = trainer.sum_by_kind, [0]

    def broken(losses: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        calls[0] += len(losses) > 12
        return honest(losses, weights) * (float("nan") if calls[0] >= 3 else 1)

    config = DistillConfig(**{**settings, "save_every": 1, "packing": "trees"}, out=tmp_path / "run")
    monkeypatch.setattr(trainer, "sum_by_kind", broken)
    with pytest.raises(Diverged, match="is no finite number") as told:
        distill.run(config)
    assert "q" in str(told.value.where)
    points = Curve(config.out / "curve.jsonl").read()
    last = points[-1].step
    assert f"update {last + 1}" in told.value.what
    assert f"checkpoint-{last} is whole" in told.value.what
    assert not (config.out / "student").exists()
    assert not (config.out / f"checkpoint-{last + 1}").exists()
    monkeypatch.undo()
    assert distill.run(config).steps == 4


def test_a_gradient_that_is_no_number_is_no_update(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="of update 2 is no finite number"):
        distill.run(DistillConfig(**{**settings, "learning_rate": 1e38, "save_every": 1}, out=tmp_path / "run"))
    assert not list(tmp_path.glob("run/checkpoint-*"))


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "file")


@pytest.mark.parametrize("what", ["curve", "checkpoint", "student", "report"])
def test_a_full_disk_is_one_error_and_the_same_command_goes_on(
    what: str, settings: dict[str, Any], done: Distilled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DistillConfig(**settings, out=tmp_path / "run")

    def fill(point: CurvePoint, _steps: int) -> None:
        if point.step == 3 and what == "curve":
            config.out.joinpath("curve.jsonl").rename(tmp_path / "before")
            config.out.joinpath("curve.jsonl").symlink_to("/dev/full")
        if point.step == 3 and what == "checkpoint":
            monkeypatch.setattr(torch, "save", full)
        if point.step == 4 and what == "student":
            monkeypatch.setattr("steper_agent.students.golden.write_golden", full)
        if point.step == 4 and what == "report":
            monkeypatch.setattr("training.loop.plots.draw_curves", full)

    with pytest.raises(DiskFull, match=r"the disk is full(.|\n)*run the same command again"):
        distill.run(config, on_update=fill)
    assert all((checkpoint / MARK).is_file() for checkpoint in config.out.glob("checkpoint-*"))
    assert (config.out / "student").exists() == (what == "report")
    assert not (config.out / "report.json").exists()
    monkeypatch.undo()
    if what == "curve":
        (tmp_path / "before").replace(config.out / "curve.jsonl")
    again = distill.run(config)
    assert again.name == done.name
    assert [point.loss for point in again.curve] == [point.loss for point in done.curve]


def test_libraries_that_have_errors_of_their_own_for_it_are_understood(tmp_path: Path) -> None:
    from safetensors import SafetensorError

    for error in (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
                  SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")):  # fmt: skip
        (tmp_path / "half").mkdir()
        with pytest.raises(DiskFull), room_for("it", tmp_path / "half"):
            raise error
        assert not (tmp_path / "half").exists()
    with pytest.raises(PermissionError), room_for("it", tmp_path):
        raise PermissionError(errno.EACCES, "no")


@pytest.fixture(scope="module")
def cut_short_behind_its_checkpoint(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    class Power(RuntimeError):
        pass

    def cut(point: CurvePoint, _steps: int) -> None:
        if point.step == 3:
            raise Power

    out = tmp_path_factory.mktemp("cut") / "run"
    with pytest.raises(Power):
        distill.run(DistillConfig(**settings, out=out), on_update=cut)
    return out


@pytest.fixture
def halfway(settings: dict[str, Any], cut_short_behind_its_checkpoint: Path, tmp_path: Path) -> tuple[DistillConfig, Path]:
    """A run of which nothing is there but its first checkpoint and a curve."""
    shutil.copytree(cut_short_behind_its_checkpoint, tmp_path / "run")
    return DistillConfig(**settings, out=tmp_path / "run"), tmp_path / "run" / "checkpoint-2"


def altered(checkpoint: Path, **changes: Any) -> None:
    mark = json.loads((checkpoint / MARK).read_text())
    (checkpoint / MARK).write_text(json.dumps(mark | changes))


def other_weights(checkpoint: Path) -> None:
    file = checkpoint / "adapter_model.safetensors"
    save_file({name: weight + 0.5 for name, weight in load_file(file).items()}, file)


def no_memory(checkpoint: Path) -> None:
    state = torch.load(checkpoint / "optimizer.pt", weights_only=True)
    torch.save({**state, "state": {}}, checkpoint / "optimizer.pt")


@pytest.mark.parametrize(("harm", "named"), [
    (other_weights, "adapter_model.safetensors changed since"),
    (lambda place: (other_weights(place), altered(place, weights={"adapter_model.safetensors": digest_file(place / "adapter_model.safetensors")})),
     "the loss of its probe was"),
    (no_memory, "the optimizer remembers nothing"),
    (lambda place: altered(place, seed=7), "seed was 7"),
    (lambda place: altered(place, following=[99]), "the next update was to hold the trajectories 99"),
    (lambda place: altered(place, step="x"), "its mark cannot be read"),
], ids=["weights", "probe", "optimizer", "seed", "data", "mark"])  # fmt: skip
def test_a_checkpoint_that_does_not_come_back_as_it_was_is_refused_by_name(
    harm: Any, named: str, halfway: tuple[DistillConfig, Path]
) -> None:
    config, checkpoint = halfway
    harm(checkpoint)
    with pytest.raises(DataError, match=named) as told:
        distill.run(config)
    assert told.value.where == checkpoint


def test_other_figures_reach_the_trainers_reporters_by_kind(settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distill, "reporters", lambda text: ["wandb"] if text == "wandb" else [])
    made = distill._arguments

    def arguments(config: DistillConfig) -> Any:
        given = made(config.model_copy(update={"report_to": "none"}))
        given.logging_strategy = "steps"
        return given

    monkeypatch.setattr(distill, "_arguments", arguments)
    run = distill.run(DistillConfig(**{**settings, "max_steps": 2}, out=tmp_path / "run"))
    told = json.loads((tmp_path / "run" / "checkpoint-2" / "trainer_state.json").read_text())["log_history"]
    assert [line["step"] for line in told] == [1, 2]
    for line, point in zip(told, run.curve, strict=True):
        assert {kind: line[f"loss/{kind}"] for kind in point.loss} == point.loss
        assert {kind: line[f"sigma/{kind}"] for kind in point.sigma} == point.sigma


def test_a_reporter_that_is_not_there_is_an_error_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reporters("none") == reporters("") == []
    with pytest.raises(ConfigError, match="unknown reporter `wand`"):
        reporters("wand")
    monkeypatch.setattr("training.loop.reporters.find_spec", lambda _: None)
    with pytest.raises(DependencyError, match=r"wandb is not installed(.|\n)*pip install wandb"):
        reporters("none,wandb")
    monkeypatch.setattr("training.loop.reporters.find_spec", lambda name: name != "tensorboard")
    assert reporters("tensorboard, wandb,wandb") == ["tensorboard", "wandb"]
