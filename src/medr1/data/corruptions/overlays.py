"""Things that lie over the picture: burned-in text, a ruler, hair, bubbles; with each severity more of them."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from medr1.data.corruptions.picture import Field, Picture, coordinates, scale_of

SUPERSAMPLING = 3
SIGNS = "0123456789ABCDEFHKMNPTUVXYZ"
"""No L and R: a side marker would be evidence."""
HAIR = np.array([0.12, 0.08, 0.06])


def burned_in_text(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """This many lines of meaningless white text, from the corners inwards."""
    height, width = picture.shape[:2]
    size = max(6.0, 11 * scale_of(picture))
    lines = ["".join(rng.choice(list(SIGNS), 4)) + " " + "".join(rng.choice(list(SIGNS), 7)) for _ in range(16)]

    def draw(pen: ImageDraw.ImageDraw, zoom: int) -> None:
        font = ImageFont.load_default(size * zoom)
        for number, text in enumerate(lines[: int(strength)]):
            row, right, bottom = number // 4, number % 2, number // 2 % 2
            x = width - size * 0.4 - font.getlength(text) / zoom if right else size * 0.4
            y = height - size * (1.5 + 1.3 * row) if bottom else size * (0.3 + 1.3 * row)
            pen.text((x * zoom, y * zoom), text, fill=255, font=font)

    cover = _drawn(picture, draw)
    return picture * (1 - cover) + cover


def ruler(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """A white scale with ticks and numbers along the lower border, covering this share of the height."""
    height, width = picture.shape[:2]
    band = strength * height
    step = 22 * scale_of(picture)
    offset, first = rng.uniform(0, step), int(rng.integers(1, 60))

    def draw(pen: ImageDraw.ImageDraw, zoom: int) -> None:
        font = ImageFont.load_default(max(5.0, band * 0.45) * zoom)
        for tick in range(int(width / step) + 1):
            x, top = offset + tick * step, height - band
            length = band * (0.5 if tick % 2 == 0 else 0.3)
            pen.line([(x * zoom, top * zoom), (x * zoom, (top + length) * zoom)], fill=255, width=max(1, zoom))
            if tick % 2 == 0:
                pen.text(((x + 1) * zoom, (top + band * 0.48) * zoom), str(first + tick), fill=255, font=font)

    paper = (np.arange(height) >= height - band)[:, None, None] * 0.95
    ink = _drawn(picture, draw)
    return (picture * (1 - paper) + 0.93 * paper) * (1 - 0.9 * ink)


def hair(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """This many dark bent hairs."""
    height, width = picture.shape[:2]
    strokes = [_hair(rng, height, width) for _ in range(80)][: int(strength)]
    thickness = 1.6 * scale_of(picture)

    def draw(pen: ImageDraw.ImageDraw, zoom: int) -> None:
        for points in strokes:
            line = [(x * zoom, y * zoom) for x, y in points]
            pen.line(line, fill=255, width=max(1, round(thickness * zoom)), joint="curve")

    cover = 0.9 * _drawn(picture, draw)
    return picture * (1 - cover) + cover * _in_channels(HAIR, picture)


def bubbles(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """This many bubbles under the glass: a dark outline, a bright rim, a highlight."""
    y, x = coordinates(picture)
    result = picture
    placed = rng.uniform((-1, -1, 0.06), (1, 1, 0.2), (24, 3))
    for cy, cx, radius in placed[: int(strength)]:
        distance = np.hypot(y - cy, x - cx) / radius
        outline = np.exp(-(((distance - 1) / 0.08) ** 2))
        rim = np.exp(-(((distance - 0.84) / 0.08) ** 2))
        shine = np.exp(-((np.hypot(y - cy + 0.4 * radius, x - cx + 0.4 * radius) / (0.22 * radius)) ** 2))
        inside = 0.18 * (distance < 1)
        light = np.clip(0.6 * rim + 0.8 * shine + inside, 0, 1)
        result = (result * (1 - 0.7 * outline)) * (1 - light) + light
    return result


def _hair(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Points `[20, 2]` (x, y) of a bent stroke."""
    t = np.linspace(0, 1, 20)[:, None]
    start = rng.uniform(-0.1, 1.1, 2)
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.9)
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]]) * rng.uniform(-0.35, 0.35)
    return (start + length * (t * along + t * t * across)) * min(height, width)


def _drawn(picture: Picture, draw: Callable[[ImageDraw.ImageDraw, int], None]) -> Field:
    """What a pen covers, 0 … 1, smoothed by drawing it three times as large."""
    height, width = picture.shape[:2]
    mask = Image.new("L", (width * SUPERSAMPLING, height * SUPERSAMPLING))
    draw(ImageDraw.Draw(mask), SUPERSAMPLING)
    return np.asarray(mask.resize((width, height), Image.Resampling.BOX))[:, :, None] / 255


def _in_channels(colour: np.ndarray, picture: Picture) -> np.ndarray:
    """A colour for a picture: its mean where the picture is grey."""
    return colour if picture.shape[2] == 3 else colour.mean(keepdims=True)
