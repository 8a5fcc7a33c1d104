"""What can befall any picture: noise, blur, compression, lost resolution, wrong exposure, a crooked frame."""

import io

import numpy as np
from PIL import Image
from scipy.ndimage import rotate, shift

from medr1.data.corruptions.picture import Picture, blurred, convolved, scale_of, to_bytes


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
    angle = float(rng.choice((-1, 1)) * strength)
    return rotate(picture, angle, axes=(1, 0), reshape=False, order=1, mode="mirror")


def translation(picture: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Moved by this share of the shorter side in any direction; the border is repeated."""
    angle, length = rng.uniform(0, 2 * np.pi), strength * min(picture.shape[:2])
    return shift(picture, (length * np.sin(angle), length * np.cos(angle), 0), order=1, mode="nearest")


def _down_and_up(picture: Picture, share: float, up: Image.Resampling) -> Picture:
    height, width = picture.shape[:2]
    small = max(1, round(width * share)), max(1, round(height * share))
    channels = [Image.fromarray(channel.astype(np.float32)) for channel in np.moveaxis(picture, 2, 0)]
    resized = (channel.resize(small, Image.Resampling.BOX).resize((width, height), up) for channel in channels)
    return np.stack([np.asarray(channel) for channel in resized], axis=2)
