"""How far two 8-bit images of one size are apart: the distances that attacks and corruptions are reported with.

Axes: H height, W width, C channels; grey images may come without the last one.
"""

import numpy as np
from numpy.typing import NDArray

PEAK = 255
_SIGMA, _RADIUS = 1.5, 5
_C1, _C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2


def linf(original: NDArray[np.uint8], image: NDArray[np.uint8]) -> int:
    """Largest change of any value, in grey levels."""
    return int(np.abs(_change(original, image)).max())


def l2(original: NDArray[np.uint8], image: NDArray[np.uint8]) -> float:
    """Euclidean length of the change, values on the scale 0 to 1."""
    return float(np.linalg.norm(_change(original, image)) / PEAK)


def frac_changed(original: NDArray[np.uint8], image: NDArray[np.uint8]) -> float:
    """Share of values that changed."""
    return float((_change(original, image) != 0).mean())


def psnr(original: NDArray[np.uint8], image: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB; infinite for equal images."""
    mean_square = float((_change(original, image) ** 2).mean())
    return float("inf") if mean_square == 0 else float(10 * np.log10(PEAK**2 / mean_square))


def ssim(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Mean structural similarity (Wang et al. 2004): Gaussian window of 11 × 11 with σ 1.5, mean over the channels.

    Borders where the window does not fit are left out, as in the reference implementation; images smaller than the
    window are compared with mirrored borders.
    """
    from scipy.ndimage import gaussian_filter

    assert first.shape == second.shape, f"images of one size: {first.shape} and {second.shape}"
    a, b = (np.atleast_3d(image).astype(np.float64) for image in (first, second))

    def smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return gaussian_filter(values, sigma=(_SIGMA, _SIGMA, 0), truncate=_RADIUS / _SIGMA, mode="reflect")

    mean_a, mean_b = smooth(a), smooth(b)
    variance_a, variance_b = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2
    covariance = smooth(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    structure = (2 * covariance + _C2) / (variance_a + variance_b + _C2)
    similarity = luminance * structure
    inside = similarity[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS]
    return float(inside.mean() if inside.size else similarity.mean())


def _change(original: NDArray[np.uint8], image: NDArray[np.uint8]) -> NDArray[np.float64]:
    assert original.shape == image.shape, f"images of one size: {original.shape} and {image.shape}"
    return image.astype(np.float64) - original.astype(np.float64)
