"""Phantoms by number: the same seed, split and index give the same picture and question on every machine."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medr1.data.phantom.anatomy import ANATOMIES
from medr1.data.phantom.canvas import canvas
from medr1.data.phantom.lesions import paint_lesions
from medr1.data.phantom.nuisance import NUISANCE, NuisanceRange, expose, framing
from medr1.data.phantom.questions import QUESTIONS, Question, ask
from medr1.data.phantom.state import PhantomState, draw_state
from medr1.errors import ConfigError
from medr1.streams import stream_bytes
from medr1.types import ImageRef, Sample
from medr1.workers import Workers

SIDE = 84
"""Default side in pixels: three merged patches of 28."""
_CHUNK = 64
"""Phantoms that a worker process draws at a time."""


@dataclass(frozen=True, slots=True)
class Phantom:
    """A picture, the question about it, and the truth behind both."""

    sample: Sample
    image: NDArray[np.uint8]
    """`[side, side, 3]`"""
    mask: NDArray[np.uint8]
    """`[side, side]`: 1 on lesions."""
    state: PhantomState


def _generators(split: str, index: int, seed: int) -> tuple[np.random.Generator, np.random.Generator]:
    """One source of randomness for state and question, another for the pixels."""
    digest = stream_bytes(seed, split, index)
    first, second = (int.from_bytes(digest[k : k + 16], "little") for k in (0, 16))
    return np.random.Generator(np.random.PCG64(first)), np.random.Generator(np.random.PCG64(second))


def _nuisance(split: str) -> NuisanceRange:
    if split not in NUISANCE:
        raise ConfigError(f"There is no phantom split {split!r}: choose one of {', '.join(NUISANCE)}.")
    return NUISANCE[split]


def _draw_question(rng: np.random.Generator, kind: str | None) -> tuple[str, PhantomState, Question]:
    drawn = tuple(QUESTIONS)[rng.integers(len(QUESTIONS))]
    kind = drawn if kind is None else kind
    if kind not in QUESTIONS:
        raise ConfigError(f"There is no question kind {kind!r}: choose one of {', '.join(QUESTIONS)}.")
    state = draw_state(rng, kind)
    return kind, state, ask(state, kind, rng)


def render(
    state: PhantomState, nuisance: NuisanceRange, rng: np.random.Generator, side: int = SIDE, *, with_mask: bool = False
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """The picture `[side, side, 3]` of a state, and on request the mask `[side, side]` of its lesions."""
    shift, zoom = framing(nuisance, rng)
    scene = canvas(side, rng, shift=shift, zoom=zoom)
    picture = ANATOMIES[state.anatomy].draw(scene)
    picture, mask = paint_lesions(picture, state.finding, state.size, state.centres, rng, with_mask=with_mask)
    return expose(picture, state.modality, nuisance, scene), mask


def draw(
    split: str, index: int, *, seed: int = 0, side: int = SIDE, kind: str | None = None
) -> tuple[NDArray[np.uint8], PhantomState, str]:
    """The image, the state and the question kind of a phantom, without the cost of a PNG file and a mask."""
    to_ask, to_paint = _generators(split, index, seed)
    kind, state, _ = _draw_question(to_ask, kind)
    image, _ = render(state, _nuisance(split), to_paint, side)
    return image, state, kind


def phantom(split: str, index: int, *, seed: int = 0, side: int = SIDE, kind: str | None = None) -> Phantom:
    """The phantom with the number `index` of a split (`train`, `validation` or `test`).

    `kind` asks for one kind of question instead of a random one. Raises `ConfigError` on an unknown split or kind.
    """
    to_ask, to_paint = _generators(split, index, seed)
    kind, state, question = _draw_question(to_ask, kind)
    image, mask = render(state, _nuisance(split), to_paint, side, with_mask=True)
    assert mask is not None
    values = state.values()
    key = QUESTIONS[kind].key
    png = _png(image)
    sample = Sample(
        id=_digest("phantom", seed, split, index, side, question.text, *question.options),
        images=(ImageRef(data=png),),
        question=question.text,
        options=question.options,
        answer_index=question.answer_index,
        modality=state.modality,
        task=QUESTIONS[kind].task,
        source="phantom",
        group=hashlib.sha256(image.tobytes()).hexdigest()[:16],
        rationale=f"{key} {values[key]}",
        extra={"kind": kind} | {name: value for name, value in values.items() if value is not None},
    )
    return Phantom(sample=sample, image=image, mask=mask, state=state)


def _digest(*parts: object) -> str:
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:16]


def _png(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def generate(
    split: str, count: int, *, seed: int = 0, side: int = SIDE, processes: int = 1, start: int = 0
) -> Iterator[Phantom]:
    """The phantoms `start` to `start + count - 1`, in order, drawn by one or more processes."""
    indices = range(start, start + count)
    make = partial(phantom, split, seed=seed, side=side)
    if processes == 1 or count <= _CHUNK:
        yield from map(make, indices)
        return
    with Workers(processes) as workers:
        yield from workers.map(make, zip(indices), chunk=_CHUNK)


def bulk(
    split: str, count: int, *, seed: int = 0, side: int = SIDE, processes: int = 1, start: int = 0
) -> tuple[NDArray[np.uint8], list[PhantomState], list[str]]:
    """Images `[count, side, side, 3]`, states and question kinds of as many phantoms, for training on pixels."""
    images = np.empty((count, side, side, 3), np.uint8)
    states: list[PhantomState] = []
    kinds: list[str] = []
    make = partial(draw, split, seed=seed, side=side)
    indices = range(start, start + count)

    def collect(drawn: Iterator[tuple[NDArray[np.uint8], PhantomState, str]]) -> None:
        for row, (image, state, kind) in enumerate(drawn):
            images[row] = image
            states.append(state)
            kinds.append(kind)

    if processes == 1:
        collect(map(make, indices))
    else:
        with Workers(processes) as workers:
            collect(workers.map(make, zip(indices), chunk=_CHUNK))
    return images, states, kinds
