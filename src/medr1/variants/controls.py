"""Controls: the same question with pictures that cannot, or must not, lead to the same answer, or with other options.

A model that sees loses its accuracy on a blank picture and answers what a swapped one shows; one that does not see
keeps it. One that reads its options answers the same text wherever it stands, and says so where the right one is gone.
"""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from medr1.answers.wording import plain_words
from medr1.data.options import keeps_order, options_refer
from medr1.streams import choices
from medr1.types import LETTERS, Prediction, Sample
from medr1.variants.variant import Assign, Stream, Variant, each, group_of

BLANK_LEVEL = 127
"""Of every value of a blank picture: the middle of the range, where normalised pixels are near zero."""
LOW_RESOLUTION = 8
"""Pixels of a side that become one in the low-resolution control."""
ROTATIONS = {f"rotated{shift}": shift for shift in range(1, len(LETTERS))}
"""Controls that move every option up by so many places (the first ones to the end), by name."""
NONE_OF_THE_ABOVE = "None of the above"
SHOWN_ANSWER = "shown_answer"
"""Key of `Sample.extra`: the right answer to this question for the picture that the swapped control shows instead."""


def chosen_option(prediction: Prediction) -> int | None:
    """Position of the answer among the options in their original order; None where no option was chosen.

    Some published protocols extract letters that the question does not have; they choose nothing.
    """
    letters = LETTERS[: len(prediction.options)]
    if not prediction.answer or prediction.answer not in letters:
        return None
    return (letters.index(prediction.answer) + ROTATIONS.get(prediction.variant, 0)) % len(letters)


def blank(picture: Image.Image, sample: Sample, seed: Stream, position: int) -> Image.Image:
    """A picture of the same size that shows nothing."""
    return Image.new("RGB", picture.size, (BLANK_LEVEL,) * 3)


def _noise(picture: Image.Image, sample: Sample, seed: Stream, position: int) -> Image.Image:
    chance = choices(seed, "noise", sample.id)
    numbers = [chance.getrandbits(64) for _ in range(position + 1)]
    width, height = picture.size
    return Image.fromarray(np.random.default_rng(numbers[-1]).integers(0, 256, (height, width, 3), dtype=np.uint8))


def _low_resolution(picture: Image.Image, sample: Sample, seed: Stream, position: int) -> Image.Image:
    """Means over squares of pixels, enlarged again: colours and coarse shapes are left."""
    small = picture.resize([max(1, round(side / LOW_RESOLUTION)) for side in picture.size], Image.Resampling.BOX)
    return small.resize(picture.size, Image.Resampling.BICUBIC)


def _with_pictures(sample: Sample) -> Sample | None:
    return sample if sample.images else None


def _without_pictures(sample: Sample) -> Sample | None:
    return replace(sample, images=()) if sample.images else None


def _rotated(sample: Sample, shift: int) -> Sample | None:
    """The options moved up by so many places, where there are more of them, in any order."""
    size = len(sample.options)
    if shift >= size or keeps_order(sample):
        return None
    options = sample.options[shift:] + sample.options[:shift]
    return replace(sample, options=options, answer_index=(_gold_index(sample) - shift) % size)


def _none_of_the_above(sample: Sample) -> Sample | None:
    """The right option's text replaced, so that none of the others is right; its letter stays right.

    Options that speak of others would speak of this one, or say the same.
    """
    if options_refer(sample):
        return None
    gold = _gold_index(sample)
    return replace(sample, options=(*sample.options[:gold], NONE_OF_THE_ABOVE, *sample.options[gold + 1 :]))


def _other_modality(samples: Sequence[Sample], seed: int, answers: Sequence[Prediction]) -> list[Sample]:
    """Each sample with the pictures of a random one of another modality; without those whose modality is not known."""
    known = [s for s in sorted(samples, key=lambda s: s.id) if s.modality not in ("unknown", "other")]
    others = {m: [s for s in known if s.modality != m] for m in {s.modality for s in known}}
    return _shown(
        samples,
        [_first_other(sample, others.get(sample.modality, ()), f"{seed}:other_modality") for sample in samples],
    )


def shuffled_partners(samples: Sequence[Sample], seed: int) -> list[Sample | None]:
    """For each sample a random one whose pictures it can get, whatever was asked about them; None without any."""
    return [_first_other(sample, samples, f"{seed}:shuffled") for sample in samples]


def _shuffled(samples: Sequence[Sample], seed: int, answers: Sequence[Prediction]) -> list[Sample]:
    return _shown(samples, shuffled_partners(samples, seed))


def _shown(samples: Sequence[Sample], partners: Sequence[Sample | None]) -> list[Sample]:
    pairs = zip(samples, partners, strict=True)
    return [replace(sample, images=partner.images) for sample, partner in pairs if partner is not None]


def _first_other(sample: Sample, candidates: Sequence[Sample], stream: str) -> Sample | None:
    """The first candidate, from a random one on, with as many pictures and other ones."""
    if not candidates:
        return None
    start, n = choices(stream, sample.id).randrange(len(candidates)), len(candidates)
    order = (candidates[(start + i) % n] for i in range(n))
    return next(
        (o for o in order if len(o.images) == len(sample.images) and shows_other_pictures(sample, o)),
        None,
    )


def shows_other_pictures(sample: Sample, other: Sample) -> bool:
    """Whether both have pictures, and none in common; of an image without a known group, as it is referred to."""
    if not (sample.images and other.images) or group_of(sample) == group_of(other):
        return False
    grouped = sample.group and other.group
    return bool(grouped) or not any(ref in other.images for ref in sample.images)


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
                candidates = [other for other in samples if _can_be_shown(sample, other)]
                if candidates:
                    return chance.choice(candidates)
        return None


def _swapped(samples: Sequence[Sample], seed: int, answers: Sequence[Prediction]) -> list[Sample]:
    """Each sample with the pictures of one that was asked the same question and has another answer.

    Partners share question, modality and number of pictures; where the modality is what was asked for, theirs is
    another one. Samples without any partner are left out.
    """
    families: dict[tuple[str, ...], _Family] = defaultdict(_Family)
    for sample in sorted(samples, key=lambda sample: sample.id):
        families[_family_of(sample)].add(sample)
    swapped = []
    for sample in samples:
        partner = families[_family_of(sample)].partner(sample, choices(seed, "swapped", sample.id))
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


def _can_be_shown(sample: Sample, other: Sample) -> bool:
    same_modality = _asks_for_modality(sample) and sample.modality == other.modality
    return not same_modality and shows_other_pictures(sample, other)


def _wrong_options(sample: Sample) -> list[str]:
    """Normalised, each once; an option that reads like the right one is none of them."""
    return list(dict.fromkeys(text for text in map(plain_words, sample.options) if text != _gold_text(sample)))


def _gold_index(sample: Sample) -> int:
    assert sample.answer_index is not None, "controls are made for questions with one right option"
    return sample.answer_index


def _gold_text(sample: Sample) -> str:
    return plain_words(sample.options[_gold_index(sample)])


def _rotation(shift: int) -> Assign:
    return each(lambda sample: _rotated(sample, shift))


CONTROLS: tuple[Variant, ...] = (
    Variant(name="blank", assign=each(_with_pictures), draw=blank, removes_evidence=True),
    Variant(name="noise", assign=each(_with_pictures), draw=_noise, removes_evidence=True),
    Variant(name="no_image", assign=each(_without_pictures), removes_evidence=True),
    Variant(name="low_resolution", assign=each(_with_pictures), draw=_low_resolution),
    Variant(name="shuffled", assign=_shuffled, removes_evidence=True, pairs=True),
    Variant(name="other_modality", assign=_other_modality, removes_evidence=True, pairs=True),
    Variant(name="swapped", assign=_swapped, removes_evidence=True, pairs=True),
    *(Variant(name=name, assign=_rotation(shift)) for name, shift in ROTATIONS.items()),
    Variant(name="none_of_the_above", assign=each(_none_of_the_above)),
)
