"""An answer written into a corner of the picture: no model, no gradient, no budget (prompt injection by image).

The cheapest attack that a hospital may really meet (Clusmann et al., Nature Communications 2025).
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

MAX_SHARE = 0.02
"""Of the image's area, for the box with the text."""


def with_text(image: NDArray[np.uint8], text: str, max_share: float = MAX_SHARE) -> NDArray[np.uint8]:
    """The image (H, W, 3) with black text on a white box in its lower left corner, at most `max_share` of its area."""
    height, width = image.shape[:2]
    font = ImageFont.load_default(64)
    left, top, right, bottom = font.getbbox(text)
    label = Image.new("L", (int(right - left) + 16, int(bottom - top) + 16), 255)
    ImageDraw.Draw(label).text((8 - left, 8 - top), text, fill=0, font=font)
    scale = min((max_share * height * width / (label.width * label.height)) ** 0.5, width / label.width)
    size = max(1, int(label.width * scale)), max(1, int(label.height * scale))
    box = np.asarray(label.resize(size, Image.Resampling.LANCZOS))
    written = image.copy()
    written[height - size[1] :, : size[0]] = box[:, :, None]
    return written
