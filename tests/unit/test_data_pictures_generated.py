"""Generated pictures of all kinds: shown as the values that were written, or refused by name; never anything else.

What is expected is arithmetic on the values, without any reader: the rules of `medr1.data.depth` spelt once more.
"""

import io
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from PIL import Image

from dicom_files import dicom, table
from medr1.data.images import embed_images, open_image
from medr1.errors import DataError
from medr1.types import ImageRef, Sample
from picture_files import png

tifffile = pytest.importorskip("tifffile")

many = settings(max_examples=120, suppress_health_check=list(HealthCheck))


@dataclass(frozen=True)
class Made:
    """A file, and what has to be seen in it."""

    data: bytes
    expected: np.ndarray
    may_be_refused: bool = False


def scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip((values - float(low)) * 255 / (float(high) - float(low)), 0, 255) if high > low else 0.0 * values


def coloured(values: np.ndarray) -> np.ndarray:
    """16-bit colours by the bits that the largest needs."""
    bits = next(bits for bits in (8, 10, 12, 16) if values.max() < 2**bits)
    return (values // 2 ** (bits - 8)).astype(float)


def before_white(shades: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    return 255 - (255 - shades) * (opacity if shades.ndim == 2 else opacity[..., None])


def three(shades: np.ndarray) -> np.ndarray:
    return shades if shades.ndim == 3 else np.stack([shades] * 3, axis=-1)


def arrays(draw: st.DrawFn, bits: int, *shape: int, signed: bool = False) -> np.ndarray:
    """Values of `bits` bits whose range is all of them, a part, or one value."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    ends = sorted(draw(st.tuples(st.integers(low, high), st.integers(low, high))))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return rng.integers(ends[0], ends[1], shape, dtype=np.int64, endpoint=True)


def size(draw: st.DrawFn) -> tuple[int, int]:
    return draw(st.integers(1, 9)), draw(st.integers(1, 9))


@st.composite
def pngs(draw: st.DrawFn) -> Made:
    kind, shape = draw(st.sampled_from(["grey", "colour", "palette", "grey+alpha", "colour+alpha"])), size(draw)
    interlaced = draw(st.booleans())
    if kind == "palette":
        depth = draw(st.sampled_from([1, 2, 4, 8]))
        colours, values = arrays(draw, 8, 2**depth, 3), arrays(draw, depth, *shape)
        opacity = arrays(draw, 8, 2**depth)
        data = png(values, 3, depth, palette=colours, opacity=bytes(opacity.tolist()), interlaced=interlaced)
        seen = opacity[values] / 255
        return Made(data, before_white(colours[values].astype(float), seen), may_be_refused=seen.max() < 0.1)
    if kind in ("grey", "colour"):
        depth = draw(st.sampled_from([1, 2, 4, 8, 16] if kind == "grey" else [8, 16]))
        values = arrays(draw, depth, *shape, *([3] if kind == "colour" else []))
        key = tuple(np.atleast_1d(values[0, 0]).tolist()) if draw(st.booleans()) else ()
        data = png(values, 0 if kind == "grey" else 2, depth, key=key, interlaced=interlaced)
        seen = np.ones(shape)
        if key:
            seen = 1.0 - (three(values) == key).all(axis=-1)
        if depth == 16 and kind == "grey":
            known = values[seen > 0] if seen.any() else values
            shades = scaled(values, known.min(), known.max())
        else:
            shades = values * (255.0 / (2**depth - 1)) if depth < 16 else coloured(values)
        return Made(data, before_white(shades, seen), may_be_refused=not seen.any())
    depth, channels = draw(st.sampled_from([8, 16])), 2 if kind == "grey+alpha" else 4
    used = depth if depth == 8 else draw(st.sampled_from([8, 10, 12, 16]))
    values = arrays(draw, used, *shape, channels)
    values[0, 0, -1] = 2**used - 1
    colours, alpha = values[..., :-1], values[..., -1]
    seen = alpha / (2**used - 1)
    shades = colours.astype(float) if depth == 8 else coloured(colours)
    if kind == "grey+alpha":
        grey = colours[..., 0]
        shades = grey.astype(float) if depth == 8 else scaled(grey, grey[seen > 0].min(), grey[seen > 0].max())
    return Made(png(values, 4 if channels == 2 else 6, depth, interlaced=interlaced), before_white(shades, seen))


@st.composite
def tiffs(draw: st.DrawFn) -> Made:
    shape = size(draw)
    options: dict[str, Any] = {
        "byteorder": draw(st.sampled_from("<>")),
        "compression": draw(st.sampled_from([None, "zlib"])),
        "rowsperstrip": draw(st.sampled_from([None, 2])),
    }
    if draw(st.booleans()):
        kind = draw(st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4", "f4"]))
        white = draw(st.booleans())
        values = arrays(draw, 8 * int(kind[1]), *shape, signed=kind[0] != "u").astype(kind)
        shades = values.astype(float) if kind == "u1" else scaled(values, values.min(), values.max())
        constant = kind != "u1" and values.min() == values.max()  # is black
        data = written(values, photometric="miniswhite" if white else "minisblack", **options)
        return Made(data, 255 - shades if white and not constant else shades)
    kind, channels = draw(st.sampled_from(["u1", "u2"])), draw(st.sampled_from([3, 4]))
    values = arrays(draw, 8 if kind == "u1" else draw(st.sampled_from([8, 10, 12, 16])), *shape, channels)
    extra = draw(st.sampled_from(["unspecified", "unassalpha"])) if channels == 4 else None
    if extra == "unassalpha":
        values[..., 3] = 255 if kind == "u1" else 65535
    planes = draw(st.sampled_from(["contig", "separate"]))
    stored = values if planes == "contig" else np.moveaxis(values, -1, 0)
    options |= {"extrasamples": [extra]} if extra else {}
    data = written(stored.astype(kind), photometric="rgb", planarconfig=planes, **options)
    colours = values[..., :3]
    return Made(data, colours.astype(float) if kind == "u1" else coloured(colours), may_be_refused=planes == "separate")


def written(values: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


@st.composite
def others(draw: st.DrawFn) -> Made:
    """GIF, WebP, BMP and JPEG, which Pillow writes in 8 bits."""
    kind, shape = draw(st.sampled_from(["GIF", "WEBP", "BMP", "JPEG"])), size(draw)
    channels = draw(st.sampled_from([1, 3, 4] if kind == "WEBP" else [1, 3]))
    values = arrays(draw, 8, *shape, channels).astype(np.uint8)
    buffer = io.BytesIO()
    if kind == "GIF":
        grey = values[..., 0]
        Image.fromarray(grey).save(buffer, "GIF")
        return Made(buffer.getvalue(), grey.astype(float))
    options = {"WEBP": {"lossless": True, "exact": True}, "JPEG": {"quality": 95}, "BMP": {}}[kind]
    if kind == "JPEG":
        values[:] = values[0, 0]
    Image.fromarray(values[..., 0] if channels == 1 else values).save(buffer, kind, **options)
    if channels == 4:
        seen = values[..., 3] / 255
        return Made(
            buffer.getvalue(), before_white(values[..., :3].astype(float), seen), may_be_refused=seen.max() < 0.1
        )
    return Made(buffer.getvalue(), values[..., 0].astype(float) if channels == 1 else values.astype(float))


@st.composite
def dicoms(draw: st.DrawFn) -> Made:
    kind, bits = draw(st.sampled_from([("u1", 8), ("u2", 10), ("u2", 12), ("u2", 16), ("i2", 12), ("i2", 16)]))
    signed, shape = kind[0] == "i", size(draw)
    elements: dict[str, Any] = {"BitsStored": bits}
    if draw(st.integers(0, 3)) == 0 and not signed:
        colours = arrays(draw, bits, *shape, 3)
        container = 8 * int(kind[1])
        shades = coloured(colours) if bits == container else (colours // 2 ** (bits - 8)).astype(float)
        return Made(dicom(colours.astype(kind), **elements), shades)
    stored = arrays(draw, bits, *shape, signed=signed)
    values, step = stored.astype(float), draw(st.sampled_from(["nothing", "window", "padding", "table"]))
    if draw(st.booleans()):
        slope, intercept = draw(st.sampled_from([(1, -1024), (2, 0), (-1, 30)]))
        elements |= {"RescaleSlope": slope, "RescaleIntercept": intercept}
        values = values * slope + intercept
    shades = scaled(values, values.min(), values.max())
    if step == "window":
        centre, width = draw(st.integers(-2000, 4000)), draw(st.integers(2, 3000))
        elements |= {"WindowCenter": centre, "WindowWidth": width}
        shades = np.clip((values - centre + 0.5) / (width - 1) + 0.5, 0, 1) * 255
    elif step == "padding":
        elements["PixelPaddingValue"] = int(stored[0, 0])
        known = values[stored != stored[0, 0]]
        shades = scaled(values, known.min(), known.max()) if known.size else shades
    elif step == "table":
        entries = np.linspace(65535, 0, 300).astype(int)
        elements["VOILUTSequence"] = [table(-100, entries, 16, first_vr=draw(st.sampled_from(["SS", "US"])))]
        if values.min() >= 0 and not signed and elements.get("RescaleSlope") in (None, 2):
            elements["VOILUTSequence"] = [table(100, entries, 16, first_vr="US")]
            values = values - 200
        shades = entries[np.clip(values + 100, 0, 299).astype(int)] * (255 / 65535)
    if draw(st.booleans()):
        elements["PhotometricInterpretation"] = "MONOCHROME1"
        shades = 255 - shades
    return Made(dicom(stored.astype(kind), **elements), shades)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("made", [pngs(), tiffs(), others(), dicoms()], ids=["PNG", "TIFF", "others", "DICOM"])
@many
@given(data=st.data())
def test_no_picture_is_silently_another_one(made: st.SearchStrategy[Made], data: st.DataObject):
    picture = data.draw(made)
    refused = ""
    try:
        shown = np.asarray(open_image(ImageRef(path="a.bin", data=picture.data)), int)
    except DataError as error:
        refused, shown = str(error), np.zeros(0)
    event("refused" if refused else "shown")
    if refused:
        assert picture.may_be_refused
        assert "a.bin" in refused
        return
    assert np.abs(shown - three(picture.expected)).max() <= 1.01
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.bin").write_bytes(picture.data)
        sample = replace(Sample(id="1", images=(), question="?"), images=(ImageRef(path="a.bin"),))
        (stored,) = embed_images(sample, Path(folder)).images
    assert np.array_equal(np.asarray(open_image(stored)), shown), "what is stored is what is shown"
    with Image.open(io.BytesIO(stored.data or b"")) as plain:
        assert np.array_equal(np.asarray(plain.convert("RGB")), shown), "and what a reader without these rules shows"
