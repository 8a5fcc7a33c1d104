"""What scanners do to their pictures: CT and X-ray, MRI, ultrasound and OCT.

CT and X-ray have too few photons, too few views, metal, scatter, a wrong window. MRI has noise of the magnitude
picture, an uneven coil, and errors of k-space (the picture's Fourier transform), whose rows are phase-encoding lines,
measured one after the other. Ultrasound and OCT build a picture column by column from echoes: speckle, shadows, gain,
movement.

Picture-domain surrogates: all act on the windowed 8-bit picture, where bright is dense, and k-space is that of the
magnitude picture. True dose and true k-space need raw data.
"""

from collections.abc import Callable

import numpy as np

from medr1.variants.corruptions.picture import (
    Field,
    Picture,
    blurred,
    coordinates,
    depth,
    grain,
    scale_of,
    smooth_curve,
)

SCATTER_SIGMA = 30
"""Reference pixels."""
GRID_PITCH = 5
"""Reference pixels between the lines of an anti-scatter grid."""
COPIES = 5
"""Slices that a thick one averages."""
BIAS_ORDER = 3
MOVEMENTS = 6
"""On either side of the middle of k-space."""
MOVEMENT = 6
"""Largest one along each axis, in reference pixels."""
CENTRE_SHARE = 0.08
"""Lines around the middle of k-space that an accelerated measurement keeps."""
ECHOES = 4
VESSELS = 6
JUMPS = 5


# CT and X-ray ---------------------------------------------------------------------------------------------------------


def low_dose(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Noise of few photons: more where it is dense, and grainy like a filtered back-projection."""
    noise = grain(picture, rng)
    noise = blurred(noise, 0.5) - blurred(noise, 1.5)
    return _with_photon_noise(picture, strength, noise / noise.std())


def quantum_noise(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Noise of few photons: more where it is dense, independent from pixel to pixel."""
    return _with_photon_noise(picture, strength, grain(picture, rng))


def window(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """A grey-level window whose level is off by half this share, and its width by this share."""
    level, width = rng.choice((-1, 1), 2) * strength
    return 0.5 + (picture - 0.5 - level / 2) / (1 + width)


def ring(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Rings around the centre of rotation, from detectors that read too much or too little."""
    y, x = coordinates(picture)
    radius = np.hypot(y, x) * min(picture.shape[:2]) / 2
    detectors = int(radius.max()) + 2
    bad = rng.random(detectors) < 0.15
    profile = np.where(bad, rng.standard_normal(detectors), 0)
    return picture + strength * np.interp(radius, np.arange(detectors), profile)


def streak(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """A piece of metal with dark and bright streaks that start at it."""
    y, x = coordinates(picture)
    dy, dx = y - rng.uniform(-0.5, 0.5), x - rng.uniform(-0.5, 0.5)
    distance, angle = np.hypot(dy, dx), np.arctan2(dy, dx)
    rays = smooth_curve(361, rng, 48)
    rays[-1] = rays[0]
    amplitude = np.interp(angle, np.linspace(-np.pi, np.pi, 361), rays)
    metal = distance < 0.04
    return np.where(metal, 1.0, picture + strength * amplitude * np.exp(-1.5 * distance))


def sparse_view(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Reconstructed from this many evenly spaced views (of a picture of the reference size).

    A view measures one line through the centre of the picture's Fourier transform (the slice theorem). Where the lines
    are further apart than a sample, what lies between them is missing and they are weighted up.
    """
    views, first = max(1, round(strength * scale_of(picture))), rng.uniform(0, np.pi)
    return _in_frequencies(picture, lambda angle, radius: _spokes(angle, radius, views, first))


def limited_angle(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Reconstructed without the views of a wedge of this many degrees."""
    start, missing = rng.uniform(0, np.pi), np.radians(strength)

    def measured(angle: np.ndarray, radius: np.ndarray) -> np.ndarray:
        return ((angle - start) % np.pi >= missing) | (radius == 0)

    return _in_frequencies(picture, measured)


def beam_hardening(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Cupping: the inside of the body darker than its rim at the same mean; the strength is the slope."""
    dense = picture.mean(axis=2, keepdims=True) + 1e-6
    inside = blurred(dense, 0.15 * min(picture.shape[:2]))
    inside = inside / inside.max()
    return picture * (1 + strength * (np.average(inside, weights=dense) - inside))


def thick_slice(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """The mean over a thick slice, in which the body widens by this share to both sides of the middle."""
    return np.mean([_enlarged(picture, 1 + share * strength) for share in np.linspace(0, 1, COPIES)], axis=0)


def scatter(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """A veil of scattered photons, this share of the image-forming ones."""
    return (picture + strength * blurred(picture, SCATTER_SIGMA * scale_of(picture))) / (1 + strength)


def exposure(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Under- or over-exposed: a gamma curve whose exponent is off by this much (natural logarithm), either way."""
    return picture ** np.exp(rng.choice((-1, 1)) * strength)


def grid_lines(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Lines of an anti-scatter grid that take away up to this share of the light."""
    pitch = max(3.0, GRID_PITCH * scale_of(picture))
    lines = 0.5 + 0.5 * np.cos(2 * np.pi * np.arange(picture.shape[1]) / pitch + rng.uniform(0, 2 * np.pi))
    return picture * (1 - strength * lines[None, :, None])


def _with_photon_noise(picture: Picture, strength: float, noise: Field) -> Picture:
    """Of N exp(-p) photons the logarithm has the standard deviation exp(p / 2) / sqrt(N); p is 2 at white."""
    return picture + strength * np.exp(picture.mean(axis=2, keepdims=True) - 0.5) * noise


def _in_frequencies(picture: Picture, transfer: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Picture:
    """The picture with its frequencies weighted by `transfer(angle, radius)`; radius in samples of its own size."""
    height, width = picture.shape[:2]
    size = 2 * max(height, width)  # room, so that nothing wraps around
    level = picture.mean()
    up, left = (size - height) // 2, (size - width) // 2
    padded = np.pad(picture - level, ((up, size - height - up), (left, size - width - left), (0, 0)))
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
    weights = transfer(np.arctan2(fy, fx) % np.pi, np.hypot(fy, fx) * max(height, width))
    spectrum = np.fft.rfft2(padded, axes=(0, 1)) * weights[:, :, None]
    filtered = np.fft.irfft2(spectrum, s=(size, size), axes=(0, 1))
    return level + filtered[up : up + height, left : left + width]


def _spokes(angle: np.ndarray, radius: np.ndarray, views: int, first: float) -> np.ndarray:
    gap = radius * np.pi / views  # samples between two lines
    to_next = ((angle - first) % (np.pi / views)) * radius
    off = np.minimum(to_next, gap - to_next)
    return np.where(gap <= 1, 1.0, gap * np.clip(1 - off, 0, 1))


def _enlarged(picture: Picture, factor: float) -> Picture:
    """The middle of the picture, `factor` times as large."""
    from scipy.ndimage import affine_transform

    shrink = np.array([1 / factor, 1 / factor, 1])
    middle = (np.array(picture.shape) - 1) / 2
    return affine_transform(picture, shrink, offset=middle * (1 - shrink), order=1, mode="nearest")  # type: ignore[arg-type]


# MRI ------------------------------------------------------------------------------------------------------------------


def rician_noise(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Normal noise of this standard deviation on both parts of the complex signal, of which the magnitude is shown."""
    return np.hypot(picture + strength * grain(picture, rng), strength * grain(picture, rng))


def bias_field(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Multiplied by the exponential of a polynomial of order 3 with coefficients up to the strength, mean 1."""
    y, x = coordinates(picture)
    powers = [(i, j) for i in range(BIAS_ORDER + 1) for j in range(BIAS_ORDER + 1 - i) if i + j > 0]
    coefficients = strength * rng.uniform(-1, 1, len(powers))
    field = np.exp(sum(c * y**i * x**j for c, (i, j) in zip(coefficients, powers, strict=True)))
    return picture * field / field.mean()


def kspace_motion(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """The patient lies still, then moves several times while the outer lines of k-space, this share, are measured."""
    frequency = _lines(picture)[:, None, None]
    across = np.fft.fftfreq(picture.shape[1])[None, :, None]
    largest = MOVEMENT * scale_of(picture)
    moves = rng.uniform(-largest, largest, (2 * MOVEMENTS, 2))
    block = np.clip(((frequency + 0.5) * 2 * MOVEMENTS).astype(int), 0, 2 * MOVEMENTS - 1)
    moved = np.abs(frequency) > (1 - strength) / 2
    dy, dx = (np.where(moved, moves[block, axis], 0) for axis in (0, 1))
    return _magnitude(_kspace(picture) * np.exp(-2j * np.pi * (frequency * dy + across * dx)))


def ghosting(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Two to six faint copies along the phase direction: every n-th line of k-space loses this share."""
    lines = _lines(picture)
    every = int(rng.integers(2, 7))
    weakened = (np.rint(lines * picture.shape[0]) % every == 0) & (np.abs(lines) > 0.01)
    return _magnitude(_kspace(picture) * np.where(weakened, 1 - strength, 1.0)[:, None, None])


def gibbs(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Ringing at edges: of k-space only this share along each side, around the middle, was measured."""
    height, width = picture.shape[:2]
    kept = (np.abs(np.fft.fftfreq(height))[:, None] <= strength / 2) & (
        np.abs(np.fft.fftfreq(width))[None, :] <= strength / 2
    )
    return _magnitude(_kspace(picture) * kept[:, :, None])


def spike(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Stripes all over the picture, from one sample of k-space that is far too large."""
    y, x = coordinates(picture)
    angle, frequency = rng.uniform(0, np.pi), rng.uniform(8, 25)
    phase = 2 * np.pi * frequency * (x * np.cos(angle) + y * np.sin(angle)) + rng.uniform(0, 2 * np.pi)
    return picture + strength * np.cos(phase)


def undersampling(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """This share of the outer lines of k-space, drawn at random, was not measured and is taken as zero."""
    lines = _lines(picture)
    measured = (rng.random(len(lines)) >= strength) | (np.abs(lines) < CENTRE_SHARE / 2)
    return _magnitude(_kspace(picture) * measured[:, None, None])


def _lines(picture: Picture) -> np.ndarray:
    """Frequency of every phase-encoding line, in cycles per pixel."""
    return np.fft.fftfreq(picture.shape[0])


def _kspace(picture: Picture) -> np.ndarray:
    return np.fft.fft2(picture, axes=(0, 1))


def _magnitude(kspace: np.ndarray) -> Picture:
    return np.abs(np.fft.ifft2(kspace, axes=(0, 1)))


# Ultrasound and OCT ---------------------------------------------------------------------------------------------------


def speckle(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Multiplied by the magnitude of a complex normal field of mean 1; the strength is its standard deviation."""
    magnitude = np.hypot(blurred(grain(picture, rng), 0.6), blurred(grain(picture, rng), 0.6))
    return picture * (1 + strength * (magnitude - magnitude.mean()) / magnitude.std())


def acoustic_shadow(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """A widening wedge below a reflector that lets through all but this share."""
    y, x = coordinates(picture)
    top, middle = rng.uniform(-0.6, -0.1), rng.uniform(-0.5, 0.5)
    below = y - top
    width = 0.16 + 0.25 * np.clip(below, 0, None)
    side = np.clip((width - np.abs(x - middle * (1 + 0.3 * below))) / 0.06, 0, 1)
    return picture * (1 - strength * side * np.clip(below / 0.08, 0, 1))


def gain(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Time-gain sliders set wrongly: bands of depth amplified or damped by up to about exp(strength)."""
    curve = np.clip(smooth_curve(picture.shape[0], rng, 6), -1.5, 1.5)
    return picture * np.exp(strength * curve)[:, None, None]


def depth_attenuation(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Echoes fade with depth, at the bottom to exp(-strength)."""
    return picture * np.exp(-strength * depth(picture))


def reverberation(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Echoes that went to and fro: fainter copies of the picture, each deeper by the same way."""
    step = max(1, round(rng.uniform(0.1, 0.2) * picture.shape[0]))
    result = picture.copy()
    for echo in range(1, ECHOES + 1):
        deeper = echo * step
        result[deeper:] += strength * 0.7 ** (echo - 1) * picture[:-deeper]
    return result


def eye_motion(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """The eye moves while the scan goes across: columns slip up and down by up to about this share of the height."""
    from scipy.ndimage import map_coordinates

    height, width, channels = picture.shape
    drift = smooth_curve(width, rng, 6)
    starts = rng.uniform(0, width, JUMPS)
    jumps = rng.uniform(-1, 1, JUMPS)
    slip = drift / 2 + (np.arange(width)[:, None] >= starts) @ jumps
    slip = strength * height * (slip - slip.mean())
    rows = np.arange(height)[:, None] + slip[None, :]
    columns = np.broadcast_to(np.arange(width)[None, :], rows.shape)
    moved = [map_coordinates(picture[:, :, c], (rows, columns), order=1, mode="nearest") for c in range(channels)]
    return np.stack(moved, axis=2)


def blink(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """A dark band of this share of the columns, from a blink."""
    _, x = coordinates(picture)
    middle, half = rng.uniform(-0.6, 0.6), strength * picture.shape[1] / min(picture.shape[:2])
    return picture * (1 - 0.92 * np.clip((half - np.abs(x - middle)) / 0.02, 0, 1))


def vessel_shadow(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Columns behind six vessels that let through all but this share."""
    _, x = coordinates(picture)
    result = picture
    for middle, half in zip(rng.uniform(-0.9, 0.9, VESSELS), rng.uniform(0.02, 0.07, VESSELS), strict=True):
        shade = np.clip((half - np.abs(x - middle)) / 0.02, 0, 1)
        result = result * (1 - strength * shade * np.clip((depth(picture) - 0.2) / 0.1, 0, 1))
    return result
