"""Controls: the same questions with images that cannot, or must not, lead to the same answer.

A model that sees loses its accuracy on a blank image and answers what a swapped image shows; one that does not see
keeps it. A control works in two steps, so that a resumed run does not draw what it has already evaluated: `assign`
chooses the questions and whose images they get, `draw` changes the pixels of one of them when its turn comes.
"""

import io
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from medr1.data.images import open_image
from medr1.data.shortcuts import normalise
from medr1.types import ImageRef, Sample

GREY = 127
SHOWN_ANSWER = "shown_answer"
"""Key of `Sample.extra`: the right answer to this question for the image that the swapped control shows instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One way to take the evidence away; its name is the `variant` of the samples."""

    name: str
    assign: Callable[[Sequence[Sample], int], list[Sample]]
    """Samples and seed → the samples that the control can be made for, with the images they get."""
    draw: Callable[[Image.Image, random.Random], Image.Image] | None = None
    """The image that is shown instead, where pixels change."""

    def prepare(self, samples: Sequence[Sample], seed: int) -> list[Sample]:
        """Variants of the samples in order, without opening an image; what has no variant is left out."""
        return [replace(sample, variant=self.name) for sample in self.assign(samples, seed)]

    def materialise(self, sample: Sample, seed: int) -> Sample:
        """A prepared sample with its final images, as PNG bytes where pixels change. Raises `DataError`."""
        if self.draw is None:
            return sample
        chance = random.Random(f"{seed}:{self.name}:{sample.id}")
        drawn = (self.draw(open_image(ref), chance) for ref in sample.images)
        return replace(sample, images=tuple(ImageRef(data=png_bytes(image)) for image in drawn))


def png_bytes(image: Image.Image) -> bytes:
    """The image as PNG, the same bytes for the same pixels."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _same_images(samples: Sequence[Sample], seed: int) -> list[Sample]:
    return list(samples)


def _without_images(samples: Sequence[Sample], seed: int) -> list[Sample]:
    return [replace(sample, images=()) for sample in samples]


def _grey(image: Image.Image, chance: random.Random) -> Image.Image:
    return Image.new("RGB", image.size, (GREY, GREY, GREY))


def _noise(image: Image.Image, chance: random.Random) -> Image.Image:
    width, height = image.size
    pixels = np.random.default_rng(chance.getrandbits(64)).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def _shuffled(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """Each sample with the images of a random other group, whatever was asked about them."""
    shuffled = []
    for sample in samples:
        chance = random.Random(f"{seed}:shuffled:{sample.id}")
        others = (s for s in _random_order(samples, chance) if _image_key(s) != _image_key(sample))
        partner = next((other for other in others if len(other.images) == len(sample.images)), None)
        if partner is not None:
            shuffled.append(replace(sample, images=partner.images))
    return shuffled


def _random_order(samples: Sequence[Sample], chance: random.Random):
    """The samples from a random one on, each once; cheap where the first that fits is taken."""
    start, n = chance.randrange(len(samples)), len(samples)
    return (samples[(start + i) % n] for i in range(n))


def _swapped(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """Each sample with the images of one that was asked the same question and has another answer.

    Partners share modality, question and number of images, and show another image; those whose answer is among the
    options of the sample come first. Samples without any partner are left out.
    """
    families: dict[tuple[str, str, int], dict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for sample in sorted(samples, key=lambda sample: sample.id):
        families[_family(sample)][_gold_text(sample)].append(sample)
    swapped = []
    for sample in samples:
        partner = _partner(sample, families[_family(sample)], random.Random(f"{seed}:swapped:{sample.id}"))
        if partner is not None:
            shown = partner.options[_gold_index(partner)]
            swapped.append(replace(sample, images=partner.images, extra={**sample.extra, SHOWN_ANSWER: shown}))
    return swapped


def _partner(sample: Sample, by_answer: dict[str, list[Sample]], chance: random.Random) -> Sample | None:
    """A random sample with another answer, one of this sample's options if there is such."""
    other_answers = [text for text in by_answer if text != _gold_text(sample)]
    offered = {normalise(option) for option in sample.options}
    for texts in ([t for t in other_answers if t in offered], [t for t in other_answers if t not in offered]):
        chance.shuffle(texts)
        for text in texts:
            candidates = [s for s in by_answer[text] if _image_key(s) != _image_key(sample)]
            if candidates:
                return chance.choice(candidates)
    return None


def _family(sample: Sample) -> tuple[str, str, int]:
    return sample.modality, normalise(sample.question), len(sample.images)


def _gold_index(sample: Sample) -> int:
    assert sample.answer_index is not None, "controls are made for questions with one right option"
    return sample.answer_index


def _gold_text(sample: Sample) -> str:
    return normalise(sample.options[_gold_index(sample)])


def _image_key(sample: Sample) -> str:
    return sample.group or sample.id


CONTROLS: dict[str, Control] = {
    control.name: control
    for control in (
        Control(name="blank", assign=_same_images, draw=_grey),
        Control(name="noise", assign=_same_images, draw=_noise),
        Control(name="no_image", assign=_without_images),
        Control(name="shuffled", assign=_shuffled),
        Control(name="swapped", assign=_swapped),
    )
}
"""What `medr1 eval --controls` takes, by name."""
