"""A contact sheet for the eye: one row a corruption, the clean picture first, then the severities."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from medr1.data.corruptions import SEVERITIES, corrupt, named
from medr1.data.image_distance import ssim
from medr1.data.resize import resized
from medr1.types import Modality

TILE, GAP, LINE, LABEL = 160, 4, 14, 130


def corruption_sheet(
    path: Path,
    pictures: Mapping[Modality, Image.Image],
    names: Sequence[str],
    severities: Sequence[int] = SEVERITIES,
    *,
    seed: int = 0,
) -> None:
    """Write the sheet as PNG: every corruption on the first of its modalities that has a picture, with the SSIM.

    Corruptions none of whose modalities has a picture are left out.
    """
    shown: list[tuple[str, str, Image.Image]] = []
    for name in names:
        fitting = [(modality, image) for modality, image in pictures.items() if modality in named(name).modalities]
        shown += [(name, *one) for one in fitting[:1]]
    size = LABEL + (1 + len(severities)) * (TILE + GAP), len(shown) * (TILE + LINE + GAP)
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for row, (name, modality, picture) in enumerate(shown):
        top = row * (TILE + LINE + GAP)
        clean = np.asarray(resized(picture, TILE, longest_side=True))
        pen.text((2, top + TILE // 2), f"{name}\n{modality}", fill="black")
        tiles = [("clean", clean)]
        for severity in severities:
            image = corrupt(clean, name, severity, f"{seed}:sheet")
            tiles.append((f"{severity}  SSIM {ssim(clean, image):.2f}", image))
        for column, (label, tile) in enumerate(tiles):
            left = LABEL + column * (TILE + GAP)
            sheet.paste(Image.fromarray(tile), (left, top + LINE))
            pen.text((left + 2, top), label, fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
