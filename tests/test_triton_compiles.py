"""The Triton kernels are compiled for a GPU, whether there is one or not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed (it is for Linux)")


def test_kernels_compile(tmp_path):
    # In a process of its own: here kernels are made for the interpreter.
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    script = Path(__file__).with_name("triton_compile.py")
    result = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    lines = result.stdout.splitlines()
    for kernel in ("_amplitude", "_amplitude_phase", "_haar_1d", "_haar_2d", "_forward", "_backward", "_mask"):
        assert any(f".{kernel} " in line for line in lines)
