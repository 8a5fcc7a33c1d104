"""Picture files made byte by byte, for the kinds that Pillow does not write."""

import struct
import zlib

import numpy as np

SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Channels of the colour types of PNG: grey, colour, palette, grey and alpha, colour and alpha."""
INTERLACED = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
"""First row and column, and steps of both, of the seven passes of Adam7."""


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    values: np.ndarray,
    colour_type: int,
    depth: int,
    *,
    key: tuple[int, ...] = (),
    palette: np.ndarray | None = None,
    opacity: bytes = b"",
    interlaced: bool = False,
    before: bytes = b"",
) -> bytes:
    """A PNG of `values` `[height, width]` or `[height, width, channels]`, in any depth of the standard.

    `key` is its transparent colour, `opacity` that of the entries of its `palette`, `before` further chunks.
    """
    height, width = values.shape[:2]
    cube = values.reshape(height, width, SAMPLES[colour_type])
    passes = [cube[y::down, x::right] for y, x, down, right in INTERLACED] if interlaced else [cube]
    rows = b"".join(b"\0" + packed(row, depth) for part in passes if part.size for row in part)
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, int(interlaced))
    transparency = opacity or struct.pack(f">{len(key)}H", *key)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            before,
            b"" if palette is None else chunk(b"PLTE", palette.astype(np.uint8).tobytes()),
            chunk(b"tRNS", transparency) if transparency else b"",
            chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND", b""),
        ]
    )


def packed(row: np.ndarray, depth: int) -> bytes:
    """One row of samples in `depth` bits each."""
    if depth >= 8:
        return row.astype(f">u{depth // 8}").tobytes()
    bits = (row.reshape(-1, 1) >> np.arange(depth - 1, -1, -1)) & 1
    return np.packbits(bits.astype(np.uint8)).tobytes()
