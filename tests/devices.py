"""The device as a parameter of tests: the CPU, and a GPU where there is one."""

import os

import pytest
import torch

CUDA = pytest.param(
    "cuda",
    marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")],
)
DEVICES = ["cpu", CUDA]
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
KERNEL_DEVICES = [
    pytest.param("cpu", marks=pytest.mark.skipif(not INTERPRETED, reason="Triton compiles here, for a GPU")),
    CUDA,
]
"""Where Triton's kernels run: on a CPU only in its interpreter."""
