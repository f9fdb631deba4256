"""Several processes come to the student that one process comes to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from steper_agent.students.student import verify_student
from tests.tiny import tiny_base
from tests.training.journals import make_journal
from training import distill
from training.dataset import DatasetConfig, build
from training.distill import DistillConfig, Distilled

ROOT = Path(__file__).parents[3]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
DISTILL, SHARDED = ["-m", "training.distill"], [str(Path(__file__).with_name("sharded.py"))]
SHARDS = "pytorch_model_fsdp.bin"
"""What accelerate leaves in a checkpoint of a model in shards, and nowhere else."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Ten trajectories in updates of four: the last update of an epoch is not full."""
    folder = tmp_path_factory.mktemp("ranks")
    base = tiny_base(folder / "base", window=4096)
    build(DatasetConfig(journal=(make_journal(folder / "journal.jsonl", count=10),), base=base, out=folder / "set"))
    return {"dataset": folder / "set", "base": base, "rank": 4, "alpha": 8, "batch": 4, "epochs": 2, "save_every": 2}


def in_shards() -> dict[str, str]:
    """The documented file as `accelerate launch` hands it on."""
    config = yaml.safe_load((ROOT / "docs" / "accelerate" / "fsdp2.yaml").read_text())
    return {"ACCELERATE_USE_FSDP": "true", **{key.upper(): str(value) for key, value in config["fsdp_config"].items()}}


def started(script: list[str], settings: dict[str, Any], out: Path) -> subprocess.CompletedProcess[str]:
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **(in_shards() if script is SHARDED else {})}
    return subprocess.run([sys.executable, *TORCHRUN, *script, *flags, "--out", str(out)], capture_output=True, text=True, check=False, cwd=ROOT, env=env)


def finished(script: list[str], settings: dict[str, Any], out: Path) -> Distilled:
    told = started(script, settings, out)
    assert told.returncode == 0, told.stderr[-3000:]
    assert told.stdout.count("updates") == 1, "only one of them talks"
    return Distilled.model_validate_json((out / "report.json").read_bytes())


def cut_short(out: Path) -> None:
    """As a run is left that was killed behind its second checkpoint, in the middle of an epoch."""
    for made in ("student", "checkpoint-6"):
        shutil.rmtree(out / made)
    (out / "report.json").unlink()


def assert_same(ours: Distilled, alone: Distilled, weights: str) -> None:
    for mine, its in zip(ours.curve, alone.curve, strict=True):
        assert mine.loss == pytest.approx(its.loss, rel=1e-3)
        assert mine.sigma == pytest.approx(its.sigma, rel=1e-3)
        assert mine.tokens == its.tokens
    one, other = (load_file(run.student / weights) for run in (ours, alone))
    assert one.keys() == other.keys()
    for name, weight in other.items():
        torch.testing.assert_close(one[name], weight, atol=1e-4, rtol=1e-3)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("script", "method", "weights"),
    [(DISTILL, "lora", "adapter_model.safetensors"), (SHARDED, "lora", "adapter_model.safetensors"), (SHARDED, "full", "model.safetensors")],
    ids=["torchrun, adapter", "FSDP2, adapter", "FSDP2, all weights"],
)
def test_two_processes_come_to_the_student_of_one_also_when_they_are_resumed(
    settings: dict[str, Any], tmp_path: Path, script: list[str], method: str, weights: str
) -> None:
    told = {**settings, "method": method}
    alone = distill.run(DistillConfig(**told, out=tmp_path / "alone"))
    ours = finished(script, told, tmp_path / "run")
    assert (tmp_path / "run" / "checkpoint-6" / SHARDS).is_file() == (script is SHARDED)
    assert verify_student(ours.student, settings["base"]).name == ours.name
    assert_same(ours, alone, weights)
    cut_short(tmp_path / "run")
    assert_same(finished(script, told, tmp_path / "run"), alone, weights)


@pytest.mark.timeout(600)
def test_a_batch_that_the_processes_cannot_share_is_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    told = started(DISTILL, {**settings, "batch": 3}, tmp_path / "run")
    assert told.returncode != 0
    assert "3 trajectories do not split into 1 micro-batches on 2 processes each" in told.stderr
    assert not (tmp_path / "run").exists()
