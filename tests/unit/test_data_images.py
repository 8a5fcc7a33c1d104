import io
import os
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medr1.data.images import UNFIT, embed_images, open_image, unfit
from medr1.doors import Most, resolve_inside
from medr1.errors import DataError
from medr1.types import ImageRef, Sample

RAMP = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
SAMPLE = Sample(id="1", images=(), question="?")


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    image = open_image(ImageRef(data=data))
    assert image.mode == "RGB"
    return np.asarray(image)


def header_only_png(width: int, height: int) -> bytes:
    """A few bytes that claim to be a large picture."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_grey_is_repeated_and_rgb_is_kept(kind: str):
    colour = np.stack([RAMP, 255 - RAMP, RAMP // 2], axis=-1)
    assert np.array_equal(pixels(encoded(Image.fromarray(colour), kind)), colour)
    assert np.array_equal(pixels(encoded(Image.fromarray(RAMP), kind)), np.stack([RAMP] * 3, axis=-1))


def test_jpeg_is_decoded_as_pillow_does():
    data = encoded(Image.fromarray(RAMP), "JPEG")
    assert np.array_equal(pixels(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_deep_grey_is_stretched_from_its_minimum_to_its_maximum(kind: str):
    deep = np.array([[1000, 2000], [3000, 5000]], dtype=np.uint16)
    expected = np.array([[0, 64], [128, 255]])  # 255 * (x - 1000) / 4000 = 0, 63.75, 127.5 (to even), 255
    assert np.array_equal(pixels(encoded(Image.fromarray(deep), kind))[..., 0], expected)
    flat = Image.fromarray(np.full((2, 2), 700, dtype=np.uint16))
    assert not pixels(encoded(flat, kind)).any()


def test_floating_point_grey_is_stretched_and_must_be_finite():
    values = np.array([[-1.0, 0.0], [0.5, 1.0]], dtype=np.float32)
    assert pixels(encoded(Image.fromarray(values), "TIFF"))[..., 1].tolist() == [[0, 128], [191, 255]]
    values[0, 0] = np.nan
    with pytest.raises(DataError, match="not finite"):
        pixels(encoded(Image.fromarray(values), "TIFF"))


def test_palettes_and_inks_are_looked_up():
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    assert pixels(encoded(palette)).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    assert pixels(encoded(Image.new("CMYK", (1, 1), (255, 0, 0, 0)), "TIFF")).tolist() == [[[0, 255, 255]]]


def test_the_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    data = encoded(Image.fromarray(RAMP), exif=exif)
    assert np.array_equal(pixels(data)[..., 0], np.rot90(RAMP, k=-1))


def test_a_stack_of_frames_is_refused():
    frames = [Image.fromarray(RAMP), Image.fromarray(255 - RAMP)]
    for kind in ("TIFF", "PNG"):
        with pytest.raises(DataError, match="several frames"):
            pixels(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("width", "height"), [(8001, 8000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_a_decompression_bomb_is_refused_before_decoding(width: int, height: int):
    with pytest.raises(DataError, match="million pixels"):
        pixels(header_only_png(width, height))


def test_the_pixel_limit_itself_is_allowed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Most, "PIXELS", RAMP.size)
    pixels(encoded(Image.fromarray(RAMP)))
    monkeypatch.setattr(Most, "PIXELS", RAMP.size - 1)
    with pytest.raises(DataError, match="million pixels"):
        pixels(encoded(Image.fromarray(RAMP)))


def test_unusable_files_are_named(tmp_path: Path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    files = {
        "empty.png": b"",
        "text.png": b"no picture at all",
        "cut.png": encoded(noise)[:600],
        "cut.jpg": encoded(noise, "JPEG")[:600],
        "cut.bmp": encoded(noise, "BMP")[:600],
        "cut.tif": encoded(noise, "TIFF")[:600],
        "cut.gif": encoded(noise, "GIF")[:600],
        "cut.webp": encoded(noise, "WEBP")[:600],
        "other.ppm": encoded(noise, "PPM"),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=name.replace(".", r"\.")):
            open_image(ImageRef(path=str(tmp_path / name)))
    for name in ("missing.png", "", "nul\0.png"):
        with pytest.raises(DataError):
            open_image(ImageRef(path=str(tmp_path / name)))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP"])
@pytest.mark.filterwarnings("ignore")
def test_random_damage_ends_in_a_picture_or_a_data_error(kind: str):
    rng = np.random.default_rng(0)
    whole = encoded(Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)), kind)
    for _ in range(300):
        data = bytearray(whole)
        for position in rng.integers(0, min(len(data), 200), size=rng.integers(1, 6)):
            data[position] = rng.integers(256)
        try:
            open_image(ImageRef(data=bytes(data[: rng.integers(1, 2 * len(data))])))
        except DataError:
            continue


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "large"])
def test_what_is_no_ordinary_file_is_not_read(tmp_path: Path, kind: str):
    path = Path("/dev/zero") if kind == "device" else tmp_path / "a.png"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "large":
        with path.open("wb") as file:
            file.truncate(Most.FILE_BYTES + 1)
    with pytest.raises(DataError, match="larger than 512 MiB" if kind == "large" else "no ordinary file"):
        open_image(ImageRef(path=str(path)))


@pytest.mark.parametrize("name", ["/etc/passwd", "../x.png", "a/../../x.png", "a/..", "", "a\0b"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str):
    with pytest.raises(DataError):
        resolve_inside(tmp_path, name)


def test_links_that_lead_out_are_refused(tmp_path: Path):
    root = tmp_path / "root"
    (root / "inside").mkdir(parents=True)
    (tmp_path / "root-secret").mkdir()
    os.symlink(tmp_path / "root-secret", root / "out")
    os.symlink(root / "inside", root / "in")
    assert resolve_inside(root, "in/x.png") == root / "in/x.png"
    with pytest.raises(DataError, match="link"):
        resolve_inside(root, "out/x.png")


@pytest.mark.parametrize("name", ["71%1.jpg", "a%20b.png", "a#b?.png", "H&E (2).png", "[0-9]*.png", "Images/a b/c.png"])
def test_names_mean_themselves(tmp_path: Path, name: str):
    path = resolve_inside(tmp_path, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(Image.fromarray(RAMP)))
    sample = embed_images(replace(SAMPLE, images=(ImageRef(path=name),)), tmp_path)
    assert sample.images == (ImageRef(path=Path(name).name, data=path.read_bytes()),)


def test_embedding_keeps_bytes_where_every_reader_sees_the_same(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 3
    plain = Image.fromarray(RAMP)
    stored = {
        "grey.png": encoded(plain),
        "colour.jpg": encoded(plain.convert("RGB"), "JPEG"),
        "deep.tif": encoded(Image.fromarray(RAMP.astype(np.uint16) * 100), "TIFF"),
        "alpha.png": encoded(plain.convert("RGBA")),
        "clear.gif": encoded(plain.convert("P"), "GIF", transparency=4),
        "plain.webp": encoded(plain.convert("RGB"), "WEBP", lossless=True),
        "key.png": encoded(plain, transparency=3),
        "turned.jpg": encoded(plain, "JPEG", exif=exif),
        "palette.bmp": encoded(Image.fromarray(np.stack([RAMP, 255 - RAMP, RAMP], axis=-1)).quantize(8), "BMP"),
    }
    for name, data in stored.items():
        (tmp_path / name).write_bytes(data)
        ref = embed_images(replace(SAMPLE, images=(ImageRef(path=name),)), tmp_path).images[0]
        assert ref.data is not None
        assert np.array_equal(pixels(ref.data), pixels(data))
        with Image.open(io.BytesIO(ref.data)) as image:
            assert np.array_equal(np.asarray(image.convert("RGB")), pixels(data)), "what a reader without the rule sees"
        kept = name in ("grey.png", "colour.jpg", "plain.webp")
        assert (ref.data == data) == kept
        assert ref.path == (name if kept else Path(name).stem + ".png")


@pytest.mark.parametrize(
    ("size", "fits"),
    [((2500, 10), False), ((10, 2500), False), ((2000, 10), True), ((2001, 10), False), ((1, 1), True)],
)
def test_pictures_that_no_qwen_vl_takes_are_told_from_others(tmp_path: Path, size: tuple[int, int], fits: bool):
    assert (unfit(size) is None) == fits
    Image.new("L", size, 9).save(tmp_path / "strip.png")
    sample = embed_images(replace(SAMPLE, images=(ImageRef(path="strip.png"),)), tmp_path)
    assert sample.extra == (
        {} if fits else {UNFIT: f"strip.png: {size[0]} × {size[1]} pixels: one side is more than 200 times the other"}
    )


def test_missing_images_are_kept_as_names_only_when_allowed(tmp_path: Path):
    sample = replace(SAMPLE, images=(ImageRef(path="gone.png"),))
    assert embed_images(sample, tmp_path, allow_missing=True) == sample
    with pytest.raises(DataError, match=r"gone\.png does not exist"):
        embed_images(sample, tmp_path)
    (tmp_path / "gone.png").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"gone\.png"):
        embed_images(sample, tmp_path, allow_missing=True)


def test_the_published_images_open(real_data: Path):
    files = sorted((real_data / "medvlm_r1" / "images").rglob("*.*"))
    assert len(files) == 12
    sizes = {open_image(ImageRef(path=str(file))).size for file in files}
    assert sizes == {(224, 224), (1024, 1024), (1462, 1010)}
