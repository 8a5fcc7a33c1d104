"""Every test of this folder runs on the CPU, and again on a GPU where there is one (`make test-cuda`)."""

import os
from collections.abc import Iterator

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from devices import DEVICES

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when a GPU is first used; see `same_bits`


@pytest.fixture(scope="session", params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """`cpu` or `cuda`."""
    return request.param


@pytest.fixture(autouse=True)
def full_precision() -> Iterator[None]:
    """float32 products in float32: ten bits of TF32 would hide what these tests look for."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture
def same_bits(device: str) -> Iterator[None]:
    """Two runs on a GPU give the same bits: no sum is made by atomic additions, whose order changes.

    Warnings only, since the sampler's sums of float64 have none; their last bits choose no token. That leaves the
    backward of fused attention kernels as it is, so the plain one runs.
    """
    if device == "cpu":
        yield
        return
    torch.use_deterministic_algorithms(True, warn_only=True)
    with sdpa_kernel(SDPBackend.MATH):
        yield
    torch.use_deterministic_algorithms(False)
