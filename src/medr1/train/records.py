"""Which records of a data set can be trained on: decided before training, alike in every process.

A bad record is one whose picture cannot be read or is refused by the checkpoint's processor, or whose text breaks the
chat template or cannot be taught. It is left out and named, up to a share of all records. A prompt that is too long is
left out too, and counted apart.
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object

from medr1.data.images import open_image
from medr1.engines.engine import about_pictures, request_for
from medr1.engines.transformers import chat_text, refusal
from medr1.errors import ConfigError, DataError
from medr1.models.literal import has_control_text, token_ids
from medr1.models.pixels import image_tokens
from medr1.prompts import PromptTemplate, question_text
from medr1.types import Sample

logger = logging.getLogger(__name__)

NAMED = 3
"""Bad records that a message names."""
THREADS = 8
"""Pictures that a process decodes at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What a record must pass.

    Args:
        processor: of the checkpoint, with the bounds of the run.
        template: how it is asked.
        row: the further columns of a training row; raises `DataError` for a record that cannot be taught.
        max_length: longest prompt, image tokens included; None: no bound.
        literal: whether the training encodes text as text; TRL's own path does not, and control text is refused there.
    """

    processor: Any
    template: PromptTemplate
    row: Callable[[Sample], Mapping[str, Any]] = lambda sample: {}
    max_length: int | None = None
    literal: bool = True

    def __call__(self, sample: Sample) -> str | bool:
        """What is wrong with a record, else whether its prompt is short enough."""
        try:
            request = request_for(self.template, sample, [open_image(ref) for ref in sample.images], key=sample.id)
            self.row(sample)
        except DataError as error:
            return about_pictures(sample, str(error))
        refused = refusal(self.processor, request)
        if refused is not None:
            return about_pictures(sample, refused.text) if refused.failure == "picture" else refused.text
        if not self.literal and has_control_text(self.processor.tokenizer, question_text(sample, "lines")):
            return "its text holds a control token, which TRL's own path would take for one"
        if self.max_length is None:
            return True
        ids = token_ids(self.processor.tokenizer, chat_text(self.processor, request))
        sizes = [image_tokens(image.width, image.height, self.processor.image_processor) for image in request.images]
        return len(ids) + sum(size - 1 for size in sizes) <= self.max_length


@dataclass(frozen=True, slots=True)
class Usable:
    """What a run trains on, and what it leaves out."""

    samples: list[Sample]
    bad: dict[str, str]
    """Why, by id."""
    too_long: int


def usable(samples: Sequence[Sample], check: Check, *, max_bad_share: float, name: str = "training") -> Usable:
    """The records that pass, found by all processes together, so that all of them leave out the same.

    Raises:
        ConfigError: a larger share is bad, or every prompt is too long.
    """
    found = _checked(samples, check)
    bad = {sample.id: why for sample, why in zip(samples, found, strict=True) if isinstance(why, str)}
    kept = [sample for sample, fits in zip(samples, found, strict=True) if fits is True]
    if bad:
        _tell(bad, len(samples), max_bad_share, name)
    if not kept:
        raise ConfigError(
            f"all {len(samples)} prompts are longer than max_prompt_length {check.max_length}; raise it or lower "
            "max_pixels"
        )
    return Usable(kept, bad, len(samples) - len(kept) - len(bad))


def _checked(samples: Sequence[Sample], check: Check) -> list[str | bool]:
    """Findings of all samples; every process looks at its share."""
    processes = PartialState()
    own = range(processes.process_index, len(samples), processes.num_processes)
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as threads:
        shares: Any = [dict(zip(own, threads.map(check, (samples[i] for i in own)), strict=True))]
    found = {index: why for share in gather_object(shares) for index, why in share.items()}
    return [found[index] for index in range(len(samples))]


def _tell(bad: Mapping[str, str], count: int, max_bad_share: float, name: str) -> None:
    """Name the first bad records in a warning; raise `ConfigError` where there are too many."""
    first = "; ".join(f"{key}: {why}" for key, why in list(bad.items())[:NAMED])
    told = f"{len(bad)} of {count} {name} records ({len(bad) / count:.1%}) cannot be used (first: {first})"
    if len(bad) > max_bad_share * count:
        raise ConfigError(f"{told}; mend or remove them, or raise max_bad_share {max_bad_share:g}")
    if PartialState().is_main_process:
        logger.warning("%s; they are left out.", told)
