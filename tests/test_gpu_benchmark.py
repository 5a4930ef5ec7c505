"""The script of the measurements on a GPU, run without one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed (it is for Linux)")
SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu.py"


def test_it_runs_at_toy_sizes(tmp_path):
    parts = ["check low pass", "ffts", "low pass", "check graphs"]
    command = [sys.executable, SCRIPT, "--device", "cpu", "--quick", "--out", tmp_path]
    command += [word for part in parts for word in ("--only", part)]
    result = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert [part["error"] for part in results["parts"].values()] == [None] * 4
    assert all(row["ok"] for row in results["parts"]["check low pass"]["rows"])
    table = (tmp_path / "table.md").read_text()
    assert all(f"## {part}" in table for part in parts)
    assert "Not measured." in table.split("## check graphs")[1]
