"""Benchmarks run and write what they promise; how fast anything is, no test says."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.served import needs_vllm
from training.experiment.config import Served, read_experiment

ROOT = Path(__file__).parent.parent


def benchmark(name: str, made: Path, *words: str) -> dict[str, Any]:
    command = [sys.executable, f"benchmarks/{name}", "--json", str(made), *words]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr
    found: dict[str, Any] = json.loads(made.read_text())
    return found


def test_graph_overhead_writes_its_ratios(tmp_path: Path) -> None:
    found = benchmark("graph_overhead.py", tmp_path / "overhead.json", "--runs", "2", "--repeats", "1")
    for key in ("ratio_c1", "ratio_c64", "ours_ms_per_node", "floor_ms_per_node", "bare_ms_per_node"):
        assert found[key] > 0
    assert found["ratio_c1"] == found["ours_ms_per_node"] / found["floor_ms_per_node"]


def test_training_throughput_trains_both_sides_to_the_same_loss(tmp_path: Path) -> None:
    found = benchmark("training_throughput.py", tmp_path / "training.json", "--size", "tiny", "--steps", "2", "--k", "1", "--rounds", "1", "--updates", "2")
    for key in ("ratio", "ours_per_s", "peer_per_s", "peak_gb_ours", "peak_gb_peer"):
        assert found[key] > 0
    assert found["loss_ours"] == pytest.approx(found["loss_peer"], rel=1e-4)


def test_tui_latency_writes_how_soon_a_key_is_seen(tmp_path: Path) -> None:
    found = benchmark("tui_latency.py", tmp_path / "latency.json", "--rounds", "1", "--keys", "2", "--questions", "1")
    for key in ("first_paint_s", "key_p95_ms_idle", "key_p95_ms_answering", "key_p95_ms_loading", "key_p95_ms_streaming"):
        assert found[key] > 0
    assert found["keys"] == 2 + 2 + 10 + 2


def test_retrieval_measures_every_engine_on_the_same_passages(tmp_path: Path) -> None:
    found = benchmark("retrieval.py", tmp_path / "retrieval.json", "--sizes", "2000", "--dense", "1000", "--kinds", "auto", "--folder", str(tmp_path))
    measures = ("build_s", "peak_gb", "open_s", "p50_ms", "p95_ms", "qps", "rss_gb", "disk_gb")
    for engine in ("ours", "bm25s"):
        assert min(found["sizes"]["2000"][engine][measure] for measure in measures) > 0
    assert found["sizes"]["2000"]["ours"]["raw_p50_ms"] > 0
    vectors = found["dense"]["1000"]
    assert min(vectors["ours_p50_ms"], vectors["faiss_p50_ms"]) > 0
    assert (vectors["kind"], vectors["recall"]) == ("flat", 1.0)


@needs_vllm
@pytest.mark.timeout(900)
def test_swaps_under_load_fail_nobody_and_mix_nothing(tmp_path: Path) -> None:
    found = benchmark("swap.py", tmp_path / "swap.json", "--swaps", "6", "--askers", "4", "--pause", "0", "--warm", "1", "--checked", "4")
    assert found["runs"] > 0
    assert (found["failed"], found["mixed_runs"], found["foreign"]) == (0, 0, 0)
    assert found["checked"] == found["identical"] + found["ties"] > 0
    for key in ("switch_ms_p95", "ttft_new_s", "memory_mib_after_5", "memory_mib_at_end"):
        assert found[key] > 0
    assert {"naive_same_name", "naive_at_once"} <= found.keys()


@needs_vllm
@pytest.mark.timeout(900)
def test_serving_throughput_writes_what_every_side_did(tmp_path: Path) -> None:
    found = benchmark("serving_throughput.py", tmp_path / "throughput.json", "--questions", "4", "--rounds", "1")
    ours, other = found["sides"]["ours"], found["sides"][found["baseline"]]
    assert found["ratio"] == pytest.approx(ours["questions_per_second"] / other["questions_per_second"])
    for side in found["sides"].values():
        assert side["calls_per_question"] >= 1
        assert side["output_tokens_per_question"] > 0


def test_the_micro_world_study_makes_what_its_experiment_reads() -> None:
    spec = importlib.util.spec_from_file_location("microworld_study", ROOT / "benchmarks" / "microworld_study.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(study := importlib.util.module_from_spec(spec))
    made = {Path(stage.command.split("--out ")[1]) for stage in study.stages(2) if "--out" in stage.command}
    experiment = read_experiment(ROOT / study.RECIPE)
    read = {path.parent for paths in experiment.journals.values() for path in paths} | {one.index.parent for one in experiment.tests.values()}
    taught = {Path(row.model.removeprefix("local:")).parent for row in experiment.rows if isinstance(row, Served) and "study" in row.model}
    assert read | taught <= made
    assert experiment.settings.out / "report.json" == study.REPORT
    assert {claim.name for claim in experiment.claims} >= {"stepwise_minus_vanilla", "sigma_minus_uniform", "student_over_teacher"}
    assert all(len(experiment.seeds(row)) >= 3 for row in experiment.rows if not isinstance(row, Served))
