"""Controls: the same questions with images that cannot, or must not, lead to the same answer, or with turned options.

A model that sees loses its accuracy on a blank image and answers what a swapped image shows; one that does not see
keeps it. One that reads its options answers the same text wherever it stands. A control works in two steps, so that a
resumed run does not draw what it has already evaluated: `assign` chooses the questions and what they get, `draw`
changes the pixels of one of them when its turn comes.
"""

import io
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from PIL import Image

from medr1.answers.wording import plain_words
from medr1.data.images import blank, open_image, picture_key, with_other_pictures
from medr1.data.options import keeps_order
from medr1.types import LETTERS, ImageRef, Sample

LOW_RESOLUTION = 8
"""Pixels of a side that become one in the low-resolution control."""
ROTATIONS = {f"rotated{shift}": shift for shift in range(1, len(LETTERS))}
"""Controls that move every option up by so many places (the first ones to the end), by name."""
ALL_ROTATIONS = "rotated"
"""Stands for those of `ROTATIONS` that the samples have options for."""
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
    removes_evidence: bool = True
    """Whether an answer that stays the same was given without the image."""

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


def control_names(names: Sequence[str], samples: Sequence[Sample]) -> list[str]:
    """The names, each once, with `rotated` replaced by every rotation that some sample has options for."""
    most_options = max((len(sample.options) for sample in samples), default=0)
    rotations = [name for name, shift in ROTATIONS.items() if shift < most_options]
    return list(dict.fromkeys(n for name in names for n in (rotations if name == ALL_ROTATIONS else [name])))


def png_bytes(image: Image.Image) -> bytes:
    """The image as PNG, the same bytes for the same pixels."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _same_images(samples: Sequence[Sample], seed: int) -> list[Sample]:
    return list(samples)


def _without_images(samples: Sequence[Sample], seed: int) -> list[Sample]:
    return [replace(sample, images=()) for sample in samples]


def _blank(image: Image.Image, chance: random.Random) -> Image.Image:
    return blank(image)


def _noise(image: Image.Image, chance: random.Random) -> Image.Image:
    width, height = image.size
    pixels = np.random.default_rng(chance.getrandbits(64)).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def _low_resolution(image: Image.Image, chance: random.Random) -> Image.Image:
    """Means over squares of pixels, enlarged again: colours and coarse shapes are left."""
    small = image.resize([max(1, round(side / LOW_RESOLUTION)) for side in image.size], Image.Resampling.BOX)
    return small.resize(image.size, Image.Resampling.BICUBIC)


def _rotated(samples: Sequence[Sample], seed: int, *, shift: int) -> list[Sample]:
    """Each sample that has more than `shift` options, in any order, with the options moved up by so many places."""
    rotated = []
    for sample in samples:
        size = len(sample.options)
        if shift < size and not keeps_order(sample):
            options = sample.options[shift:] + sample.options[:shift]
            rotated.append(replace(sample, options=options, answer_index=(_gold_index(sample) - shift) % size))
    return rotated


def _other_modality(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """Each sample with the images of a random one of another modality; without those whose modality is not known."""
    known = [s for s in sorted(samples, key=lambda s: s.id) if s.modality not in ("unknown", "other")]
    others = {m: [s for s in known if s.modality != m] for m in {s.modality for s in known}}
    moved = []
    for sample in samples:
        candidates = others.get(sample.modality, [])
        if candidates:
            order = _random_order(candidates, random.Random(f"{seed}:other_modality:{sample.id}"))
            partner = next((other for other in order if len(other.images) == len(sample.images)), None)
            if partner is not None:
                moved.append(replace(sample, images=partner.images))
    return moved


def _shuffled(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """Each sample with the images of a random other group, whatever was asked about them."""
    shuffled = []
    for sample in samples:
        chance = random.Random(f"{seed}:shuffled:{sample.id}")
        partner = with_other_pictures(sample, _random_order(samples, chance))
        if partner is not None:
            shuffled.append(replace(sample, images=partner.images))
    return shuffled


def _random_order(samples: Sequence[Sample], chance: random.Random):
    """The samples from a random one on, each once; cheap where the first that fits is taken."""
    start, n = chance.randrange(len(samples)), len(samples)
    return (samples[(start + i) % n] for i in range(n))


class _Family:
    """Samples that were asked the same question, by normalised right answer and by normalised wrong option."""

    def __init__(self) -> None:
        self.by_answer: dict[str, list[Sample]] = defaultdict(list)
        self.by_wrong_option: dict[str, list[Sample]] = defaultdict(list)

    def add(self, sample: Sample) -> None:
        self.by_answer[_gold_text(sample)].append(sample)
        for option in _wrong_options(sample):
            self.by_wrong_option[option].append(sample)

    def partner(self, sample: Sample, chance: random.Random) -> Sample | None:
        """A random sample with another answer.

        First among those whose answer is a wrong option here, so that it can be chosen; then among those that have the
        answer here as a wrong option; last among those whose answer merely reads differently.
        """
        gold = _gold_text(sample)
        choosable = [self.by_answer[text] for text in _wrong_options(sample) if text in self.by_answer]
        excluding = [self.by_wrong_option.get(gold, [])]
        different = [samples for text, samples in self.by_answer.items() if text != gold]
        for tier in (choosable, excluding, different):
            chance.shuffle(tier)
            for samples in tier:
                candidates = [other for other in samples if _shows_another_image(sample, other)]
                if candidates:
                    return chance.choice(candidates)
        return None


def _swapped(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """Each sample with the images of one that was asked the same question and has another answer.

    Partners share question, modality and number of images; where the modality is what was asked for, theirs is another
    one. Samples without any partner are left out.
    """
    families: dict[tuple[str, ...], _Family] = defaultdict(_Family)
    for sample in sorted(samples, key=lambda sample: sample.id):
        families[_family_of(sample)].add(sample)
    swapped = []
    for sample in samples:
        partner = families[_family_of(sample)].partner(sample, random.Random(f"{seed}:swapped:{sample.id}"))
        if partner is not None:
            shown = partner.options[_gold_index(partner)]
            swapped.append(replace(sample, images=partner.images, extra={**sample.extra, SHOWN_ANSWER: shown}))
    return swapped


def _asks_for_modality(sample: Sample) -> bool:
    return sample.task == "Modality Recognition"


def _family_of(sample: Sample) -> tuple[str, ...]:
    # Within a modality, "CT" and "Computed tomography" would pass for different answers.
    modality = "any" if _asks_for_modality(sample) else sample.modality
    return sample.task, modality, plain_words(sample.question), str(len(sample.images))


def _shows_another_image(sample: Sample, other: Sample) -> bool:
    same_modality = _asks_for_modality(sample) and sample.modality == other.modality
    return picture_key(sample) != picture_key(other) and not same_modality


def _wrong_options(sample: Sample) -> list[str]:
    """Normalised, each once; an option that reads like the right one is none of them."""
    return list(dict.fromkeys(text for text in map(plain_words, sample.options) if text != _gold_text(sample)))


def _gold_index(sample: Sample) -> int:
    assert sample.answer_index is not None, "controls are made for questions with one right option"
    return sample.answer_index


def _gold_text(sample: Sample) -> str:
    return plain_words(sample.options[_gold_index(sample)])


CONTROLS: dict[str, Control] = {
    control.name: control
    for control in (
        Control(name="blank", assign=_same_images, draw=_blank),
        Control(name="noise", assign=_same_images, draw=_noise),
        Control(name="no_image", assign=_without_images),
        Control(name="low_resolution", assign=_same_images, draw=_low_resolution, removes_evidence=False),
        Control(name="shuffled", assign=_shuffled),
        Control(name="other_modality", assign=_other_modality),
        Control(name="swapped", assign=_swapped),
        *(
            Control(name=name, assign=partial(_rotated, shift=shift), removes_evidence=False)
            for name, shift in ROTATIONS.items()
        ),
    )
}
"""What `medr1 eval --controls` takes, by name, beside `rotated` for all rotations at once."""
