"""What a variant is: one thing done to questions, under one name.

A variant works in two steps, so that a resumed run does not draw what it has already evaluated: `prepare` chooses the
questions and what they get, without opening a picture; `pictures` draws those of one question when its turn comes.
Whatever is drawn follows from seed, name and question alone: neither the order of the questions nor what else is asked
changes it, but where a question gets what belongs to another one.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from PIL import Image

from medr1.data.images import open_image, png_bytes
from medr1.types import ImageRef, Prediction, Sample

Stream = int | str
"""What random numbers are drawn from, beside name and question: the seed of a run, with more where it draws anew."""
Assign = Callable[[Sequence[Sample], int, Sequence[Prediction]], list[Sample]]
"""Questions, seed, their answers → the questions that the variant can be made of, changed; in order."""
Draw = Callable[[Image.Image, Sample, Stream, int], Image.Image]
"""Picture (8-bit RGB), the question that it belongs to, stream, its place among its pictures → picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One thing that is done to questions."""

    name: str
    """`variant` of the samples and of the predictions."""
    assign: Assign
    draw: Draw | None = None
    """Where pixels change."""
    removes_evidence: bool = False
    """Whether an answer that stays the same was given without the picture."""
    pairs: bool = False
    """Whether a question gets what belongs to another one."""
    reads_answers: bool = False
    """Whether it is made of the answers to the questions as they are."""

    def prepare(self, samples: Sequence[Sample], seed: int, answers: Sequence[Prediction] = ()) -> list[Sample]:
        """The variants of the samples, in order; a sample that has none is left out."""
        return [replace(sample, variant=self.name) for sample in self.assign(samples, seed, answers)]

    def pictures(self, sample: Sample, seed: Stream) -> Iterator[Image.Image]:
        """The pictures of a prepared sample as they are shown, 8-bit RGB. Raises `DataError`."""
        for position, ref in enumerate(sample.images):
            picture = open_image(ref)
            yield picture if self.draw is None else self.draw(picture, sample, seed, position)

    def materialise(self, sample: Sample, seed: Stream) -> Sample:
        """A prepared sample with its final pictures, as PNG bytes where pixels change. Raises `DataError`."""
        if self.draw is None:
            return sample
        return replace(
            sample, images=tuple(ImageRef(data=png_bytes(picture)) for picture in self.pictures(sample, seed))
        )


AS_IT_IS = Variant(name="", assign=lambda samples, seed, answers: list(samples))
"""What has been made already, or has nothing done to it; no part of the registry."""


def each(change: Callable[[Sample], Sample | None]) -> Assign:
    """What is done to every question by itself; None leaves one out."""
    return lambda samples, seed, answers: [changed for sample in samples if (changed := change(sample)) is not None]


def group_of(record: Sample | Prediction) -> str:
    """What questions about one picture share; the question itself where no group is known."""
    return record.group or record.id
