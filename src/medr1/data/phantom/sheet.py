"""A contact sheet of what the phantoms look like: 16 anatomies by 8 states."""

import io

import numpy as np
from PIL import Image, ImageDraw

from medr1.data.phantom.anatomy import ANATOMIES
from medr1.data.phantom.generate import SIDE, render
from medr1.data.phantom.nuisance import NUISANCE
from medr1.data.phantom.state import NO_SIZE, NORMAL, QUADRANTS, SIDES, PhantomState

COLUMNS = (
    (NORMAL, NO_SIZE, 0),
    ("nodule", "small", 1),
    ("nodule", "large", 1),
    ("cyst", "medium", 1),
    ("abscess", "large", 1),
    ("calcification", "large", 1),
    ("abscess", "medium", 3),
    ("cyst", "small", 4),
)
"""Finding, size and count of each column."""
_GAP, _HEADER, _LABEL = 4, 16, 88


def contact_sheet(*, side: int = SIDE, split: str = "train", seed: int = 0) -> bytes:
    """The sheet as PNG; each tile has its own nuisances."""
    step = side + _GAP
    sheet = Image.new("RGB", (_LABEL + len(COLUMNS) * step, _HEADER + len(ANATOMIES) * step), "white")
    pen = ImageDraw.Draw(sheet)
    for column, (finding, size, count) in enumerate(COLUMNS):
        pen.text((_LABEL + column * step, 2), f"{finding[:6]} {size[:3]} {count}" if count else finding, fill="black")
    for row, (name, anatomy) in enumerate(ANATOMIES.items()):
        pen.text((2, _HEADER + row * step + side // 2 - 10), f"{anatomy.modality}\n{name}", fill="black")
        for column, (finding, size, count) in enumerate(COLUMNS):
            rng = np.random.default_rng((seed, row, column))
            side_word = tuple(SIDES)[rng.integers(len(SIDES))] if count == 1 else None
            centres = (SIDES[side_word],) if side_word else tuple(QUADRANTS[k] for k in rng.permutation(4)[:count])
            state = PhantomState(
                modality=anatomy.modality,
                anatomy=name,
                finding=finding,
                size=size,
                count=count,
                side=side_word,
                centres=centres,
            )
            image, _ = render(state, NUISANCE[split], rng, side)
            sheet.paste(Image.fromarray(image), (_LABEL + column * step, _HEADER + row * step))
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()
