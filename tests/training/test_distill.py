"""The trainer on the smallest base: σ moves, splits change nothing, a killed run comes to the same student."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from steper_agent.errors import ConfigError, DataError
from steper_agent.records import KINDS
from steper_agent.students.student import verify_student
from tests.tiny import tiny_base
from tests.training.journals import make_journal
from training import distill
from training.dataset import DatasetConfig, build
from training.distill import DistillConfig, Distilled
from training.examples.dataset_folder import read_card
from training.loop.curve import Curve


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base"), window=4096)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    folder = tmp_path_factory.mktemp("data")
    journal = make_journal(folder / "journal.jsonl", count=12)
    build(DatasetConfig(journal=(journal,), base=base, out=folder / "set"))
    return folder / "set"


@pytest.fixture(scope="module")
def settings(data: Path, base: Path) -> dict[str, Any]:
    return {"dataset": data, "base": base, "rank": 4, "alpha": 8, "batch": 4, "epochs": 4, "save_every": 3}


@pytest.fixture(scope="module")
def done(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Distilled:
    """A run that nobody disturbs."""
    return distill.run(DistillConfig(**settings, out=tmp_path_factory.mktemp("run") / "calm"))


def weights(run: Distilled, name: str = "adapter_model.safetensors") -> dict[str, torch.Tensor]:
    return load_file(run.student / name)


def without_clock(run: Distilled) -> list[dict[str, Any]]:
    return [point.model_dump(exclude={"seconds"}) for point in run.curve]


def test_a_run_leaves_a_student_that_fits_its_base(done: Distilled, base: Path, data: Path) -> None:
    card = verify_student(done.student, base)
    assert card.name == done.name
    assert card.data == read_card(data).digest
    assert set(card.sigma) == set(KINDS)
    assert "lm_head" not in " ".join(weights(done))
    assert [point.step for point in done.curve] == list(range(1, 13))
    assert sum(p.loss["aggregation"] for p in done.curve[-3:]) < sum(p.loss["aggregation"] for p in done.curve[:3])
    assert all((done.student.parent / name).stat().st_size > 1000 for name in ("loss.png", "sigma.png"))


def test_sigma_moves_at_its_own_constant_rate(done: Distilled) -> None:
    logs = [2 * torch.log(torch.tensor(list(point.sigma.values()))) for point in done.curve]
    moves = torch.stack(logs).diff(dim=0)
    # Every loss is far above 1, so every σ climbs, at Adam's full stride to the last update.
    torch.testing.assert_close(moves, torch.full_like(moves, 0.02), atol=5e-3, rtol=0)
    assert done.curve[-1].rate < 0.1 * max(point.rate for point in done.curve)


@pytest.mark.parametrize("weighting", ["learned", "ema"])
def test_micro_batches_do_not_change_the_student(settings: dict[str, Any], tmp_path: Path, weighting: str) -> None:
    common = {**settings, "weighting": weighting, "max_steps": 4}
    whole = distill.run(DistillConfig(**common, out=tmp_path / "whole"))
    split = distill.run(DistillConfig(**common, accumulate=2, piece_tokens=900, out=tmp_path / "split"))
    for before, after in zip(whole.curve, split.curve, strict=True):
        assert after.loss == pytest.approx(before.loss, rel=1e-4)
        assert after.sigma == pytest.approx(before.sigma, rel=1e-4)
        assert after.tokens == before.tokens


def test_a_finished_run_is_only_read(done: Distilled, settings: dict[str, Any]) -> None:
    again = distill.run(DistillConfig(**settings, out=done.student.parent), on_update=lambda *_: pytest.fail("trained"))
    assert again == done


def test_other_settings_are_refused_by_name(done: Distilled, settings: dict[str, Any]) -> None:
    other = DistillConfig(**{**settings, "rank": 8}, out=done.student.parent)
    with pytest.raises(ConfigError, match="rank"):
        distill.run(other)


@pytest.mark.parametrize("folder", ["checkpoint-500", "student"])
def test_the_work_of_another_program_is_refused_and_kept(settings: dict[str, Any], tmp_path: Path, folder: str) -> None:
    theirs = tmp_path / "run" / folder / "model.safetensors"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"days of work")
    with pytest.raises(ConfigError, match=rf"work of another program here \({folder}\)(.|\n)*--out"):
        distill.run(DistillConfig(**settings, out=tmp_path / "run"), on_update=lambda *_: pytest.fail("trained"))
    assert [path for path in (tmp_path / "run").rglob("*") if path.is_file()] == [theirs]


def test_a_data_set_for_another_base_is_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    other = tiny_base(tmp_path / "other", seed=1, window=4096)
    with pytest.raises(DataError, match="was made for base"):
        distill.run(DistillConfig(**{**settings, "base": other}, out=tmp_path / "run"))


def test_a_run_cut_short_between_checkpoints_comes_to_the_same_student(
    settings: dict[str, Any], tmp_path: Path, done: Distilled
) -> None:
    class Power(RuntimeError):
        pass

    def cut(point: Any, _steps: int) -> None:
        if point.step == 8:
            raise Power

    config = DistillConfig(**settings, out=tmp_path / "run")
    with pytest.raises(Power):
        distill.run(config, on_update=cut)
    half = config.out / "checkpoint-9"
    half.mkdir()
    (half / "adapter_model.safetensors").write_bytes(b"half")
    assert len(Curve(config.out / "curve.jsonl").read()) == 8
    again = distill.run(config)
    assert without_clock(again) == without_clock(done)
    torch.testing.assert_close(weights(again), weights(done), atol=0, rtol=0)


def test_a_run_killed_after_its_last_update_does_not_do_another(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DistillConfig(**{**settings, "max_steps": 2}, out=tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(distill, "_finish", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            distill.run(config)
    again = distill.run(config, on_update=lambda *_: pytest.fail("trained"))
    whole = distill.run(config.model_copy(update={"out": tmp_path / "whole"}))
    assert without_clock(again) == without_clock(whole)
    torch.testing.assert_close(weights(again), weights(whole), atol=0, rtol=0)


@pytest.mark.timeout(900)
def test_a_run_killed_ten_times_comes_to_the_same_student(settings: dict[str, Any], tmp_path: Path, done: Distilled) -> None:
    """Each time at another moment: while it starts, computes, writes a checkpoint or the student, wherever that falls."""
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in {**settings, "save_every": 1}.items()]
    command = [sys.executable, "-m", "training.distill", *flags, "--out", str(tmp_path / "run")]
    curve, rng = tmp_path / "run" / "curve.jsonl", random.Random()
    # A sum of another number of threads rounds otherwise, and other tests may have set this process's.
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    begun = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as victim:
        while not curve.is_file() and victim.poll() is None:
            time.sleep(0.002)
        victim.kill()
    start_up, moments = time.monotonic() - begun, list[float]()
    for _ in range(9):
        # From shortly before its first update to some updates later; a whole run takes about a second of updates.
        moments.append(start_up * rng.uniform(0.7, 1.15))
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as victim:
            with contextlib.suppress(subprocess.TimeoutExpired):
                victim.wait(moments[-1])
            victim.kill()
    again = distill.run(DistillConfig(**{**settings, "save_every": 1}, out=tmp_path / "run"))
    assert without_clock(again) == without_clock(done), f"killed after {moments} seconds"
    torch.testing.assert_close(weights(again), weights(done), atol=1e-6, rtol=0)


def test_full_weights_make_a_student_that_loads_by_itself(settings: dict[str, Any], base: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    full = {**settings, "method": "full", "learning_rate": 1e-3, "max_steps": 2, "weighting": "uniform"}
    run = distill.run(DistillConfig(**full, out=tmp_path / "run"))
    assert verify_student(run.student, base).form == "full"
    assert AutoTokenizer.from_pretrained(run.student).chat_template
    model = AutoModelForCausalLM.from_pretrained(run.student)
    assert sum(p.numel() for p in model.parameters()) == run.parameters
    assert all(sigma == 1 for sigma in run.sigma.values())
