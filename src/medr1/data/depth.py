"""Values of more than 8 bits as 8 bits: one rule for all files, so that a picture is the same in every container.

- **Grey** has no scale of its own (scanners store 10 to 14 bits in 16): it is stretched linearly from its smallest to
  its largest value to 0 … 255; a constant picture becomes black. Padding and what is transparent are left out of the
  range. A window or lookup table of DICOM goes before.
- **Colour** has a scale: black is 0, and a hue is a ratio. So it is only shifted, all channels alike: the eight highest
  of the bits in use are kept. Declared bits are believed where they are fewer than the container has (12 of 16). A
  full container declares nothing: then the smallest of `COLOUR_DEPTHS` counts that holds the largest value, so that
  dark pictures stay dark unless all of it would be next to black. The same holds for the entries of palettes.
- **Opacity** is a share of the bits that it uses, and uses at least as many as the colours beside it.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Shades = NDArray[np.uint8]
"""8-bit pixels, `[height, width]` grey or `[height, width, 3]`."""


Range = tuple[float, float]
"""The smallest and largest value that there is, or that is possible."""

COLOUR_DEPTHS = (8, 10, 12, 16)
"""Bits that devices give a colour, whatever the container: 12 of 16 are at most 6 % of white, taken for 16."""


STRIP_PIXELS = 2**20
"""Pixels that are worked on at a time where shares of them take eight bytes each."""


def strips(picture: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """A picture, some rows at a time."""
    rows = max(1, STRIP_PIXELS // max(1, picture.shape[1]))
    return (picture[top : top + rows] for top in range(0, len(picture), rows))


def in_strips(picture: NDArray[Any], shown: Callable[[NDArray[Any]], Shades]) -> Shades:
    """What `shown` makes of a picture, worked out by `strips`."""
    return np.concatenate([shown(part) for part in strips(picture)])


def span(grey: NDArray[Any], measured: NDArray[np.bool_] | None = None) -> Range | None:
    """Smallest and largest value of the pixels that are `measured`; None where none is."""
    known = grey if measured is None else grey[measured]
    return (float(known.min()), float(known.max())) if known.size else None


def shares(grey: NDArray[Any], ends: Range) -> NDArray[np.float64]:
    """Grey of any depth from its smallest to its largest value to 0 … 1; constant values become 0."""
    low, high = ends
    return np.subtract(grey, low, dtype=np.float64) / (high - low) if high > low else np.zeros(grey.shape)


def to_bytes(parts: NDArray[np.float64]) -> Shades:
    """0 … 1 to 0 … 255, rounded. `ValueError` for what is not finite."""
    if not np.isfinite(parts).all():
        raise ValueError("values that are not finite")
    levels = np.clip(parts, 0, 1)
    levels *= 255
    return np.rint(levels, out=levels).astype(np.uint8)


def bits_in_use(values: NDArray[Any], declared: int, container: int, depths: Sequence[int] = COLOUR_DEPTHS) -> int:
    """How many bits colours, or entries of a table, make use of by the rule of this module.

    >>> bits_in_use(np.array([0, 4000]), declared=16, container=16), bits_in_use(np.array([3]), 12, container=16)
    (12, 12)
    """
    if declared < container:
        return declared
    needed = int(values.max(initial=0)).bit_length()
    return next((bits for bits in depths if bits >= needed), container)


def highest_bits(values: NDArray[Any], bits: int) -> Shades:
    """The eight highest of `bits` bits; fewer than eight are spread over the range.

    >>> highest_bits(np.array([0, 16, 4095]), bits=12).tolist(), highest_bits(np.array([0, 1, 3]), bits=2).tolist()
    ([0, 1, 255], [0, 85, 255])
    """
    if bits < 8:
        return to_bytes(values / (2**bits - 1))
    return (values >> (bits - 8)).astype(np.uint8)


def on_white(shades: Shades, opacity: NDArray[np.float64]) -> Shades:
    """A picture of some opacity (`[height, width]`, 0 … 1) before white, as browsers and qwen-vl-utils show it."""

    def shown(rows: slice) -> Shades:
        parts = opacity[rows] if shades.ndim == 2 else opacity[rows, :, None]
        return np.rint(255 + (shades[rows].astype(np.float64) - 255) * parts).astype(np.uint8)

    height = max(1, STRIP_PIXELS // max(1, shades.shape[1]))
    return np.concatenate([shown(slice(top, top + height)) for top in range(0, len(shades), height)])
