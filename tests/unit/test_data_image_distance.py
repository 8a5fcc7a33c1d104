"""Image distances against values worked out by hand, and SSIM against a plain loop over windows."""

import math

import numpy as np
import pytest

from medr1.data.image_distance import frac_changed, l2, linf, psnr, ssim

RNG = np.random.default_rng(0)
FIRST = RNG.integers(0, 256, (17, 14, 3), dtype=np.uint8)
SECOND = np.clip(FIRST.astype(int) + RNG.integers(-30, 31, FIRST.shape), 0, 255).astype(np.uint8)


def test_by_hand() -> None:
    a = np.array([[10, 250], [0, 7]], dtype=np.uint8)
    b = np.array([[13, 246], [0, 7]], dtype=np.uint8)  # changes 3 and -4, where unsigned numbers would wrap around
    assert linf(a, b) == linf(b, a) == 4
    assert l2(a, b) == pytest.approx(5 / 255, abs=1e-12)
    assert frac_changed(a, b) == 0.5
    assert psnr(a, b) == pytest.approx(10 * math.log10(255**2 / (25 / 4)), abs=1e-9)
    assert psnr(a, a) == math.inf


def test_ssim_equals_a_loop_over_windows() -> None:
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(window, window) / window.sum() ** 2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for y in range(5, FIRST.shape[0] - 5):
        for x in range(5, FIRST.shape[1] - 5):
            for channel in range(3):
                a, b = (i[y - 5 : y + 6, x - 5 : x + 6, channel].astype(float) for i in (FIRST, SECOND))
                ma, mb = (window * a).sum(), (window * b).sum()
                va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
                cov = (window * (a - ma) * (b - mb)).sum()
                values.append((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    assert ssim(FIRST, SECOND) == pytest.approx(np.mean(values), abs=1e-10)
    assert ssim(FIRST, FIRST) == pytest.approx(1, abs=1e-12)


def test_images_of_different_sizes_are_a_bug() -> None:
    with pytest.raises(AssertionError, match="one size"):
        linf(FIRST, FIRST[1:])
