"""A set of questions in numbers and one picture: counts, sizes, lengths, options, and a wall of its images."""

import io
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from medr1.data.convert import summarise
from medr1.data.images import open_image
from medr1.data.option_checks import faults, gold_letters, gold_texts
from medr1.data.questions import QuestionSet
from medr1.types import Sample

QUANTILES = {"min": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "max": 1.0}
TOP_SIZES = 10
TILE, GAP, COLUMNS, ROWS = 128, 4, 10, 6


def describe(questions: QuestionSet) -> dict[str, Any]:
    """Counts (`summarise`), images and their sizes, lengths of the texts in characters, and right options."""
    samples = questions.samples
    images = {image.identity: image for image in questions.fingerprints()}
    sizes = [image.size for image in images.values() if image.size is not None]
    options = [option for sample in samples for option in sample.options]
    asked = [sample for sample in samples if sample.answer_index is not None]
    return {
        **summarise(samples),
        "by_answer_type": dict(Counter(sample.answer_type for sample in samples).most_common()),
        "images": {
            "distinct": len(images),
            "missing": len(images) - len(sizes),
            "per_question": spread([len(sample.images) for sample in samples]),
            "width": spread([width for width, _ in sizes]),
            "height": spread([height for _, height in sizes]),
            "commonest_sizes": {f"{w} × {h}": count for (w, h), count in Counter(sizes).most_common(TOP_SIZES)},
        },
        "questions": {
            "distinct": len({sample.question for sample in samples}),
            "length": spread([len(sample.question) for sample in samples]),
        },
        "options": {
            "distinct": len(set(options)),
            "length": spread(list(map(len, options))),
            "gold_letters": gold_letters(asked),
            "gold_texts": gold_texts(asked),
            "faults": faults(questions),
        },
    }


def spread(values: Sequence[int]) -> dict[str, float] | None:
    """Minimum, quartiles, maximum and mean; None for no values.

    >>> spread([1, 2, 3])
    {'min': 1.0, 'q25': 1.5, 'median': 2.0, 'q75': 2.5, 'max': 3.0, 'mean': 2.0}
    """
    if not values:
        return None
    found = np.quantile(values, list(QUANTILES.values()))
    return {**dict(zip(QUANTILES, map(float, found), strict=True)), "mean": float(np.mean(values))}


def picture_wall(samples: Iterable[Sample], seed: int = 0, tile: int = TILE) -> bytes | None:
    """A PNG with up to 60 images drawn at random under the seed, each fitted into a square; None without images.

    Samples stream by and only the drawn ones are kept (reservoir sampling). Images that are not there are passed over.
    """
    chance, drawn, seen = random.Random(seed), [], 0
    for sample in samples:
        for ref in sample.images:
            if ref.data is None and not Path(ref.path or "").is_file():
                continue
            seen += 1
            if len(drawn) < COLUMNS * ROWS:
                drawn.append(ref)
            elif (place := chance.randrange(seen)) < len(drawn):
                drawn[place] = ref
    if not drawn:
        return None
    columns = min(COLUMNS, len(drawn))
    rows = -(-len(drawn) // columns)
    wall = Image.new("RGB", (columns * (tile + GAP) - GAP, rows * (tile + GAP) - GAP), "white")
    for number, ref in enumerate(drawn):
        picture = ImageOps.contain(open_image(ref), (tile, tile))
        left, top = (number % columns) * (tile + GAP), (number // columns) * (tile + GAP)
        wall.paste(picture, (left + (tile - picture.width) // 2, top + (tile - picture.height) // 2))
    buffer = io.BytesIO()
    wall.save(buffer, format="PNG")
    return buffer.getvalue()
