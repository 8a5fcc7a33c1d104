"""The kernels compile for GPUs, whose types the interpreter does not look at."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LARGEST = 99 * 1024
"""Bytes of shared memory that a program may take on the smallest of today's GPUs."""


def test_every_kernel_compiles_and_fits_a_small_gpu(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    program = Path(__file__).parents[1] / "compiled_kernels.py"
    alone = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, env=alone)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert len(lines) >= 40
    assert max(int(line.split()[3]) for line in lines) <= LARGEST, done.stdout
