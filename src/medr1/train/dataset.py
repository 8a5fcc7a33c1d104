"""Samples as the rows that TRL's trainers take, decoded when they are asked for.

The rows of an epoch are drawn lazily: option order anew in every epoch, images from an in-memory cache, so that the G
copies of a prompt share one picture.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from datasets import Dataset
from datasets.table import InMemoryTable
from PIL import Image
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from medr1.answers.without_options import gold_text
from medr1.data.options import keeps_order
from medr1.errors import ConfigError, DataError
from medr1.prompts import Message, PromptTemplate, chat, record_span, render
from medr1.rewards import REWARDS, sample_columns
from medr1.streams import numbered
from medr1.types import Sample
from medr1.variants import VARIANTS
from medr1.variants.controls import shuffled_partners
from medr1.variants.variant import AS_IT_IS

TrainingImages = Literal["real", "blank", "shuffled"]
"""`blank`: the trained blind twin, same recipe without pixels; `shuffled`: every question with another one's image."""
Augmentation = Literal["none", "noise", "corruption"]
"""What is done to real and shuffled pictures, as by the variants `degraded:noise` and `degraded:corruption`."""


def _shuffled(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """For every sample the one whose pictures it is shown. Raises `ConfigError` where there is none."""
    shown = []
    for sample, other in zip(samples, shuffled_partners(samples, seed), strict=True):
        if other is None:
            raise ConfigError(
                f"train_images shuffled: no other sample has as many pictures as {sample.id} and other ones; "
                "take more data"
            )
        shown.append(other)
    return shown


class TrainingRows:
    """Makes the rows of a data set.

    Args:
        samples: questions with a right option or right answers.
        prompt: template of the user turn.
        seed: of option orders and of the image shuffle.
        shuffle_options: draw the order of the options anew per epoch.
        images: what the model is shown.
        augment: how they are degraded, drawn anew per epoch; the G completions of a group see one picture.
        extra: further columns of a row.
        cache_size: rows kept decoded; TRL asks for a generation batch once per accumulation step.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        prompt: PromptTemplate,
        *,
        seed: int,
        shuffle_options: bool = True,
        images: TrainingImages = "real",
        augment: Augmentation = "none",
        extra: Callable[[Sample], Mapping[str, object]] = lambda sample: {},
        cache_size: int = 1024,
    ) -> None:
        self.samples, self.prompt, self.seed = samples, prompt, seed
        self.shuffle_options, self.images, self.extra = shuffle_options, images, extra
        self.augment: Augmentation = augment
        self.epoch = 0
        self._cache: OrderedDict[tuple[int, int], dict[str, object]] = OrderedDict()
        self._cache_size = cache_size
        self._shown = _shuffled(samples, seed) if images == "shuffled" else samples

    def row(self, index: int) -> dict[str, object]:
        """One row: prompt, images, and the columns from which rewards rebuild the sample."""
        key = (self.epoch, index)
        if key not in self._cache:
            self._cache[key] = self._make(index)
            if len(self._cache) > self._cache_size:
                self._cache.popitem(last=False)
        return self._cache[key]

    def _make(self, index: int) -> dict[str, object]:
        sample = self.samples[index]
        if self.shuffle_options:
            sample = reordered(sample, numbered(self.seed, self.epoch, index))
        return {
            "prompt": conversation(self.prompt, sample),
            "images": self._pictures(index),
            **sample_columns(sample),
            **self.extra(sample),
        }

    def _pictures(self, index: int) -> list[Image.Image]:
        if self.images == "blank":
            variant = VARIANTS["blank"]
        else:
            variant = AS_IT_IS if self.augment == "none" else VARIANTS[f"degraded:{self.augment}"]
        return list(variant.pictures(self._shown[index], f"{self.seed}:{self.epoch}"))

    def dataset(self) -> "RowDataset":
        """The rows as a `datasets.Dataset`, which TRL asks for."""
        return RowDataset(self)


class RowDataset(Dataset):
    """A `datasets.Dataset` of row numbers that hands out the rows themselves.

    Not `with_transform`: that would pickle all samples to compute a fingerprint.
    """

    def __init__(self, rows: TrainingRows) -> None:
        super().__init__(InMemoryTable.from_pydict({"index": list(range(len(rows.samples)))}))
        self.rows = rows

    def __getitem__(self, key: int) -> dict[str, object]:  # type: ignore[override]
        return dict(self.rows.row(key))

    def __getitems__(self, keys: list[int]) -> list[dict[str, object]]:  # type: ignore[override]
        return [self[key] for key in keys]

    def __iter__(self) -> Iterator[dict[str, object]]:  # type: ignore[override]
        return (self[key] for key in range(len(self)))


def conversation(template: PromptTemplate, sample: Sample) -> list[Message]:
    """The prompt of a row: chat messages that say which of their words are the record's."""
    images = [{"type": "image"} for _ in sample.images]
    return chat(
        render(template, sample),
        images,
        system=template.system,
        image_first=template.image_first,
        record=record_span(template, sample),
    )


def reordered(sample: Sample, rng: np.random.Generator) -> Sample:
    """The same question with its options in a random order; as it is where the order is part of what they say."""
    if sample.answer_index is None or keeps_order(sample):
        return sample
    order = rng.permutation(len(sample.options)).tolist()
    options = tuple(sample.options[k] for k in order)
    return replace(sample, options=options, answer_index=order.index(sample.answer_index))


class EpochOfRows(TrainerCallback):
    """Tells the rows which epoch it is, so that resumed and uninterrupted runs see the same option orders."""

    def __init__(self, rows: TrainingRows) -> None:
        self.rows = rows

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """The epoch as a whole number."""
        self.rows.epoch = int(state.epoch or 0)


def check_trainable(samples: Sequence[Sample], rewards: Sequence[str] = ()) -> None:
    """Raise `ConfigError` when there is nothing to learn from, or a question that one of the rewards cannot score."""
    if not samples:
        raise ConfigError("the training data is empty; check --train_data and --limit")
    without = [sample.id for sample in samples if gold_text(sample) is None]
    if without:
        raise ConfigError(
            f"{len(without)} of {len(samples)} training questions have no right option and no right answer (first: "
            f"{without[0]}): filter them out"
        )
    for name in rewards:
        for sample in samples:
            try:
                REWARDS[name]("", sample)
            except DataError as error:
                raise ConfigError(f"reward {name!r} cannot score the training data: {error}") from error
