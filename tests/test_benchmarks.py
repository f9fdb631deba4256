"""Benchmarks run and write what they promise; how fast anything is, no test says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_graph_overhead_writes_its_ratios(tmp_path: Path) -> None:
    made = tmp_path / "overhead.json"
    command = [sys.executable, "benchmarks/graph_overhead.py", "--json", str(made), "--runs", "2", "--repeats", "1"]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr
    found = json.loads(made.read_text())
    for key in ("ratio_c1", "ratio_c64", "ours_ms_per_node", "floor_ms_per_node", "bare_ms_per_node"):
        assert found[key] > 0
    assert found["ratio_c1"] == found["ours_ms_per_node"] / found["floor_ms_per_node"]
