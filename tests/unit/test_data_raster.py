"""Pictures of every kind and depth are what the file declares, by arithmetic on the values that were written."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from medr1.data.images import open_image
from medr1.errors import DataError
from medr1.types import ImageRef
from picture_files import chunk, png

tifffile = pytest.importorskip("tifffile")
RNG = np.random.default_rng(11)


def shown(data: bytes) -> np.ndarray:
    return np.asarray(open_image(ImageRef(path="x", data=data)))


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(values: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def stretched(values: np.ndarray) -> np.ndarray:
    """From the smallest to the largest value, three channels."""
    values = values.astype(float)
    return np.stack([np.rint((values - values.min()) * 255 / (values.max() - values.min()))] * 3, axis=-1)


def random_values(bits: int, *shape: int) -> np.ndarray:
    """Values that use all of the bits."""
    values = RNG.integers(0, 2**bits, shape)
    values.flat[:3] = 2**bits - 1
    return values


# --- Colours of 16 bits ---------------------------------------------------------------------------------------------

SHIFTS = {8: 0, 10: 2, 12: 4, 16: 8}


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("bits", SHIFTS)
def test_colours_in_png_keep_the_highest_bits_in_use(bits: int, channels: int, interlaced: bool):
    values = random_values(bits, 9, 13, channels)
    values[..., 3:] = 2**bits - 1 if interlaced else 65535  # opaque, as the depth or the container has it
    data = png(values, 2 if channels == 3 else 6, 16, interlaced=interlaced)
    assert np.array_equal(shown(data), values[..., :3] >> SHIFTS[bits])


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("extra", ["none", "unspecified", "assocalpha", "unassalpha"])
@pytest.mark.parametrize("bits", SHIFTS)
def test_colours_in_tiff_keep_the_highest_bits_in_use(bits: int, extra: str, compression: str | None, byteorder: str):
    values = random_values(bits, 9, 13, 3 if extra == "none" else 4).astype(np.uint16)
    values[..., 3:] = 2**bits - 1 if extra != "unspecified" else values[..., 3:]
    extras = {} if extra == "none" else {"extrasamples": [extra]}
    data = tiff(values, photometric="rgb", compression=compression, byteorder=byteorder, **extras)
    assert np.array_equal(tifffile.imread(io.BytesIO(data)), values)
    assert np.array_equal(shown(data), values[..., :3] >> SHIFTS[bits])


def test_dark_colours_stay_dark():
    values = RNG.integers(0, 16384, (9, 13, 3))
    values[0, 0] = 16383
    assert np.array_equal(shown(png(values, 2, 16)), values >> 8)


def test_strips_and_tiles_of_deep_colours_are_put_together():
    values = random_values(12, 70, 50, 3).astype(np.uint16)
    for options in ({"rowsperstrip": 7}, {"tile": (16, 32)}, {"tile": (16, 32), "compression": "zlib"}):
        assert np.array_equal(shown(tiff(values, photometric="rgb", **options)), values >> 4)


def test_deep_files_are_turned_upright():
    values = random_values(12, 5, 8, 3).astype(np.uint16)
    upright = np.rot90(values, k=-1) >> 4
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = png(values, 2, 16, before=chunk(b"eXIf", exif.tobytes()[6:]))
    assert np.array_equal(shown(turned), upright)
    for compression in (None, "zlib"):
        data = tiff(values, photometric="rgb", compression=compression, extratags=[(274, "H", 1, 6, True)])
        assert np.array_equal(shown(data), upright)
    grey = png(values[..., 0], 0, 16, before=chunk(b"eXIf", exif.tobytes()[6:]))
    assert np.array_equal(shown(grey), stretched(np.rot90(values[..., 0], k=-1)))


# --- Grey of every type ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "f4"])
def test_grey_of_every_type_is_read(kind: str, photometric: str, compression: str | None, byteorder: str):
    values = np.zeros((9, 13), kind)
    values[...] = (
        RNG.standard_normal((9, 13))
        if kind == "f4"
        else RNG.integers(np.iinfo(kind).min, np.iinfo(kind).max, (9, 13), dtype=kind, endpoint=True)
    )
    data = tiff(values, photometric=photometric, compression=compression, byteorder=byteorder)
    expected = np.stack([values] * 3, axis=-1).astype(float) if kind == "u1" else stretched(values)
    if photometric == "miniswhite":
        expected = 255 - expected
    assert np.abs(shown(data) - expected).max() <= 1  # a half rounds to either side once it is turned round


@pytest.mark.parametrize("kind", ["f2", "f8", "u8"])
def test_types_that_are_not_read_are_named_as_such(kind: str):
    with pytest.raises(DataError, match=r"x is TIFF .* kind that is not read here .*pixel mode"):
        shown(tiff(np.ones((4, 4), kind)))


def test_min_is_white_of_16_bits_is_no_negative():
    values = np.array([[0, 1000], [2000, 4000]], np.uint16)
    for byteorder in "<>":
        data = tiff(values, photometric="miniswhite", byteorder=byteorder)
        assert shown(data)[..., 0].tolist() == [[255, 191], [128, 0]]


def test_twelve_bits_packed_are_read():
    values = random_values(12, 4, 6)
    packed = np.packbits(((values.reshape(-1, 1) >> np.arange(11, -1, -1)) & 1).astype(np.uint8))
    strip = packed.tobytes()
    tags = [(256, 6), (257, 4), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 4), (279, len(strip))]
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    data = struct.pack("<2sHI", b"II", 42, 8 + len(strip)) + strip + struct.pack("<H", len(tags)) + entries + bytes(4)
    assert np.array_equal(shown(data), stretched(values))


@pytest.mark.parametrize("scale", [1, 257])
def test_colour_maps_of_tiff_are_looked_up_at_their_depth(scale: int):
    colours = RNG.integers(0, 256, (3, 256)).astype(np.uint16)
    values = RNG.integers(0, 256, (9, 13)).astype(np.uint8)
    data = tiff(values, photometric="palette", colormap=colours * scale)
    assert np.array_equal(shown(data), np.moveaxis(colours[:, values], 0, -1))


# --- Transparency -----------------------------------------------------------------------------------------------------


def before_white(colours: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    return np.rint(255 + (colours - 255.0) * opacity[..., None])


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_what_is_transparent_is_shown_before_white(kind: str):
    values = RNG.integers(0, 256, (9, 13, 4)).astype(np.uint8)
    data = saved(Image.fromarray(values), kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    assert np.array_equal(shown(data), before_white(values[..., :3], values[..., 3] / 255))


@pytest.mark.parametrize("bits", SHIFTS)
def test_deep_opacity_is_a_share_of_the_depth_of_the_colours(bits: int):
    values = random_values(bits, 9, 13, 4)
    expected = before_white(values[..., :3] >> SHIFTS[bits], values[..., 3] / (2**bits - 1))
    assert np.array_equal(shown(png(values, 6, 16)), expected)


def test_associated_colours_are_divided_by_their_opacity():
    alpha = RNG.integers(20000, 65536, (9, 13))
    colours = random_values(16, 9, 13, 3)
    stored = np.rint(colours * (alpha / 65535)[..., None])
    values = np.concatenate([stored, alpha[..., None]], axis=-1).astype(np.uint16)
    data = tiff(values, photometric="rgb", extrasamples=["assocalpha"])
    assert np.abs(shown(data) - before_white(colours >> 8, alpha / 65535)).max() <= 1


def test_grey_with_alpha_is_stretched_over_what_is_seen():
    grey, alpha = RNG.integers(1000, 5000, (9, 13)), np.full((9, 13), 65535)
    grey[:2], alpha[:2] = 0, 0
    picture = shown(png(np.stack([grey, alpha], axis=-1), 4, 16))
    assert (picture[:2] == 255).all()
    assert np.array_equal(picture[2:], stretched(grey[2:]))
    eight = np.stack([grey // 20, alpha // 257], axis=-1)
    assert np.array_equal(shown(png(eight, 4, 8))[2:], np.stack([eight[2:, :, 0]] * 3, axis=-1))


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_shade_is_compared_at_the_depth_of_the_file(depth: int):
    values = RNG.integers(0, 2**depth, (9, 13))
    values[0, :2] = 0, 2**depth - 1
    key = 2**depth - 1 if depth < 4 else int(values[4, 4])
    picture = shown(png(values, 0, depth, key=(key,)))
    kept = values != key
    assert (picture[~kept] == 255).all()
    levels = stretched(values)[kept] if depth < 16 else stretched(values[kept])
    if depth == 1:
        assert (picture[kept] == 0).all()
    elif depth < 8:
        assert np.array_equal(picture[kept], np.stack([values[kept] * (255 // (2**depth - 1))] * 3, axis=-1))
    else:
        assert np.array_equal(picture[kept], levels if depth == 16 else np.stack([values[kept]] * 3, axis=-1))


@pytest.mark.parametrize("depth", [8, 16])
def test_a_transparent_colour_is_compared_at_the_depth_of_the_file(depth: int):
    values = random_values(depth, 9, 13, 3)
    values[2, 3] = values[5, 5]
    values[2, 4] = values[5, 5] ^ [0, 0, 1]  # differs in the lowest bit alone
    picture = shown(png(values, 2, depth, key=tuple(int(value) for value in values[5, 5])))
    expected = values >> (depth - 8)
    expected[2, 3] = expected[5, 5] = 255
    assert np.array_equal(picture, expected)


def test_palettes_with_opacity_are_shown_before_white():
    colours, values = RNG.integers(0, 256, (16, 3)), RNG.integers(0, 16, (9, 13))
    opacity = RNG.integers(0, 256, 16)
    expected = before_white(colours[values], opacity[values] / 255)
    for depth in (4, 8):
        data = png(values, 3, depth, palette=colours, opacity=bytes(opacity.tolist()))
        assert np.array_equal(shown(data), expected)
    image = Image.fromarray(values.astype(np.uint8))
    image.putpalette(colours.astype(np.uint8).tobytes())
    gif = saved(image, "GIF", transparency=5, optimize=False)
    assert np.array_equal(shown(gif), before_white(colours[values], (values != 5).astype(float)))


@pytest.mark.parametrize("alpha", [0, 9])
def test_what_nobody_sees_is_refused(alpha: int):
    values = np.full((4, 4, 4), 200, np.uint8)
    values[..., 3] = alpha
    deep = values.astype(int) * 257
    for data in (saved(Image.fromarray(values), "PNG"), png(deep, 6, 16), png(deep[..., 2:], 4, 16)):
        with pytest.raises(DataError, match="transparent everywhere"):
            shown(data)
    with pytest.raises(DataError, match="transparent everywhere"):
        shown(png(deep[..., 0], 0, 16, key=(200 * 257,)))


# --- What is refused says why -----------------------------------------------------------------------------------------


def without_tag(data: bytes, tag: int) -> bytes:
    """The TIFF (little-endian, one page) with the tag's number changed to one that nobody knows."""
    return data.replace(struct.pack("<HH", tag, 3), struct.pack("<HH", 65000, 3), 1)


def twelve_bit_jpeg() -> bytes:
    data = bytearray(saved(Image.new("L", (16, 16), 90), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 1 : frame + 5] = b"\xc1" + data[frame + 2 : frame + 4] + b"\x0c"
    return bytes(data)


GREY = RNG.integers(0, 256, (9, 13)).astype(np.uint8)
INKS = Image.fromarray(RNG.integers(0, 256, (9, 13, 4)).astype(np.uint8), "CMYK")
NEGATIVE = [Image.fromarray(255 - GREY)]
PLANES = np.zeros((3, 9, 13), "u2")
GREY_AND_ALPHA = {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]}
APART = {"photometric": "rgb", "planarconfig": "separate"}
REFUSED = {
    "frames of a GIF": ("several frames", saved(Image.fromarray(GREY), "GIF", save_all=True, append_images=NEGATIVE)),
    "frames of WebP": ("several frames", saved(Image.fromarray(GREY), "WEBP", save_all=True, append_images=NEGATIVE)),
    "frames of PNG": ("several frames", saved(Image.fromarray(GREY), "PNG", save_all=True, append_images=NEGATIVE)),
    "pages of TIFF": ("several frames", tiff(np.stack([GREY, 255 - GREY]), photometric="minisblack")),
    "planes": ("stored apart", tiff(PLANES, **APART)),
    "compressed planes": ("stored apart", tiff(PLANES, **APART, compression="zlib")),
    "no photometric": ("black or white", without_tag(tiff(GREY), 262)),
    "deep inks": ("CMYK of 16 bits", tiff(np.zeros((9, 13, 4), "u2"), photometric="separated")),
    "unmarked inks": ("inks are inverted", saved(INKS, "JPEG").replace(b"Adobe", b"Adobf")),
    "12-bit JPEG": ("x is JPEG .* kind that is not read here", twelve_bit_jpeg()),
    "deep grey and alpha in TIFF": ("x is TIFF .* not read here", tiff(PLANES.T[..., :2], **GREY_AND_ALPHA)),
    "not finite": ("not finite", tiff(np.full((4, 4), np.inf, "f4"))),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_has_no_certain_meaning_is_refused_with_its_reason(what: str):
    reason, data = REFUSED[what]
    with pytest.raises(DataError, match=reason) as raised:
        shown(data)
    assert str(raised.value).startswith("image x ")


def test_inks_that_say_how_they_are_stored_are_read():
    expected = np.asarray(INKS.convert("RGB"), int)
    assert np.array_equal(shown(saved(INKS, "TIFF")), expected)
    assert np.abs(shown(saved(INKS, "JPEG", quality=100, subsampling=0)) - expected).mean() < 3


def test_lab_is_measured_colour():
    values = np.zeros((1, 3, 3), np.uint8)
    values[0] = [[128, 0, 0], [255, 0, 0], [128, 60, 206]]  # lightness 50 and 100, then purple (a 60, b -50)
    grey, white, purple = shown(tiff(values, photometric="cielab"))[0].astype(int)
    assert np.abs(grey - 119).max() <= 2
    assert np.abs(white - 255).max() <= 1
    assert purple[0] > purple[1] + 80
    assert purple[2] > purple[1] + 80
