"""What befalls any picture, and what cameras and microscopes see.

Any picture: noise, blur, compression, lost resolution, wrong exposure, a crooked frame. Cameras and microscopes: focus,
light, colour, haze, dust and stain. Things that lie over a picture: burned-in text, a ruler, hair, bubbles; with each
severity more of them.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from medr1.variants.corruptions.picture import (
    Field,
    Picture,
    blurred,
    convolved,
    coordinates,
    scale_of,
    smooth_noise,
    to_bytes,
)

HAZE_SIGMA = 4
"""Reference pixels."""
VEIL = 0.72
"""Luminance of a cataract's veil."""
DUST = 40
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""Optical density in red, green and blue of haematoxylin, eosin and DAB (Ruifrok and Johnston 2001)."""
DEPOSIT = np.array([0.25, 0.10, 0.35])
"""Colour of precipitated stain."""
SUPERSAMPLING = 3
SIGNS = "0123456789ABCDEFHKMNPTUVXYZ"
"""No L and R: a side marker would be evidence."""
HAIR = np.array([0.12, 0.08, 0.06])


# Any picture ----------------------------------------------------------------------------------------------------------


def gaussian_noise(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Normal noise on every value; the strength is its standard deviation."""
    return picture + strength * rng.standard_normal(picture.shape)


def gaussian_blur(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Blur with this standard deviation in reference pixels."""
    return blurred(picture, strength * scale_of(picture))


def motion_blur(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Movement along a line of this length in reference pixels, in any direction."""
    angle = rng.uniform(0, np.pi)
    half = strength * scale_of(picture) / 2
    radius = int(np.ceil(half)) + 1
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1))
    along = np.linspace(-half, half, 8 * radius)
    y, x = radius + along * np.sin(angle), radius + along * np.cos(angle)
    for near_y, share_y in ((np.floor(y), 1 - y % 1), (np.floor(y) + 1, y % 1)):
        for near_x, share_x in ((np.floor(x), 1 - x % 1), (np.floor(x) + 1, x % 1)):
            np.add.at(kernel, (near_y.astype(int), near_x.astype(int)), share_y * share_x)
    return convolved(picture, kernel)


def jpeg(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """JPEG at this quality (100 best)."""
    pixels = to_bytes(picture)
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=int(strength))
    with Image.open(buffer) as decoded:
        return np.asarray(decoded).reshape(picture.shape) / 255


def low_resolution(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Reduced to this share of its size and smoothly enlarged again."""
    return _down_and_up(picture, strength, Image.Resampling.BICUBIC)


def pixelate(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Reduced to this share of its size and enlarged in squares."""
    return _down_and_up(picture, strength, Image.Resampling.NEAREST)


def brightness(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Brighter or darker by this share of the range."""
    return picture + rng.choice((-1, 1)) * strength


def contrast(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Differences from the mean, left at this share."""
    mean = picture.mean()
    return mean + strength * (picture - mean)


def rotation(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Turned by this many degrees either way, mirrored at the border."""
    from scipy.ndimage import rotate

    angle = float(rng.choice((-1, 1)) * strength)
    return rotate(picture, angle, axes=(1, 0), reshape=False, order=1, mode="mirror")


def translation(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Moved by this share of the shorter side in any direction; the border is repeated."""
    from scipy.ndimage import shift

    angle, length = rng.uniform(0, 2 * np.pi), strength * min(picture.shape[:2])
    return shift(picture, (length * np.sin(angle), length * np.cos(angle), 0), order=1, mode="nearest")


def _down_and_up(picture: Picture, share: float, up: Image.Resampling) -> Picture:
    height, width = picture.shape[:2]
    small = max(1, round(width * share)), max(1, round(height * share))
    channels = [Image.fromarray(channel.astype(np.float32)) for channel in np.moveaxis(picture, 2, 0)]
    resized = (channel.resize(small, Image.Resampling.BOX).resize((width, height), up) for channel in channels)
    return np.stack([np.asarray(channel) for channel in resized], axis=2)


# Cameras and microscopes ----------------------------------------------------------------------------------------------


def defocus(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Every point becomes a disc with this radius in reference pixels."""
    radius = strength * scale_of(picture)
    reach = int(np.ceil(radius))
    offset = np.arange(-reach, reach + 1)
    disc = np.clip(radius + 0.5 - np.hypot(offset[:, None], offset[None, :]), 0, 1)
    return convolved(picture, disc)


def illumination(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Light from one side: across the picture it changes by this share of its mean, to both sides."""
    y, x = coordinates(picture)
    angle = rng.uniform(0, 2 * np.pi)
    return picture * (1 + strength * (np.cos(angle) * x + np.sin(angle) * y))


def vignette(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Dark corners: light falls off from the middle, by this share one half side away."""
    y, x = coordinates(picture)
    return picture * np.clip(1 - strength * (y * y + x * x) ** 1.5, 0, 1)


def colour_cast(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """White balance that is off: red, green and blue multiplied by up to exp(strength) apart, mean kept."""
    gains = np.exp(strength * _apart(rng))
    return picture * (gains / gains.mean())


def haze(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """A cataract: fine detail blurred and a bright veil, both by this share."""
    seen = (1 - strength) * picture + strength * blurred(picture, HAZE_SIGMA * scale_of(picture))
    return (1 - strength / 2) * seen + strength / 2 * VEIL


def dust(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Forty soft dark spots on the optics, up to this dark."""
    y, x = coordinates(picture)
    result = picture
    for _ in range(DUST):
        cy, cx, radius = rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(0.02, 0.09)
        spot = np.exp(-((((y - cy) ** 2 + (x - cx) ** 2) / radius**2) ** 2))
        result = result * (1 - strength * spot)
    return result


def stain_shift(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Another laboratory's staining: haematoxylin and eosin multiplied by exp(strength), each either way."""
    rgb = np.broadcast_to(picture, (*picture.shape[:2], 3))
    directions = STAINS / np.linalg.norm(STAINS, axis=1, keepdims=True)
    amounts = -np.log(np.clip(rgb, 1 / 255, 1)) @ np.linalg.inv(directions)
    factors = np.exp(strength * np.array([*rng.choice((-1, 1), 2), 0]))  # what neither stain explains stays
    return np.exp(-(amounts * factors) @ directions)


def stain_deposit(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Precipitated stain over about this share of the picture."""
    noise = smooth_noise(picture, rng, 14)
    threshold = np.quantile(noise, 1 - strength)
    cover = 0.85 * np.clip((noise - threshold) / 0.15, 0, 1)
    return (1 - cover) * picture + cover * DEPOSIT


def _apart(rng: np.random.Generator) -> np.ndarray:
    """Three numbers, the largest 1 in size, that do not all have one sign."""
    values = rng.standard_normal(3)
    values -= values.mean()
    return values / np.abs(values).max()


# Over the picture -----------------------------------------------------------------------------------------------------


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
