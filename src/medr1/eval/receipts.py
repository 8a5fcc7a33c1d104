"""Receipts: which pictures an engine got, so that an accuracy on pictures that nobody saw is not taken for one."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence

from PIL import Image

from medr1.eval.measures import key_of
from medr1.records import image_hash
from medr1.types import Prediction, Receipt, Sample


def receipts_of(images: Sequence[Image.Image], tokens: Sequence[int] | None) -> tuple[Receipt, ...]:
    """A receipt for each picture of a prompt.

    Args:
        images: 8-bit RGB, as they were handed to the engine.
        tokens: of each of them, where the engine tells.
    """
    counts = [None] * len(images) if tokens is None else tokens
    return tuple(
        Receipt(
            sha256=hashlib.sha256(image.tobytes()).hexdigest(), width=image.width, height=image.height, tokens=count
        )
        for image, count in zip(images, counts, strict=True)
    )


def receipt_verdicts(predictions: Iterable[Prediction], samples: Iterable[Sample] | None = None) -> list[str]:
    """What the receipts of the unperturbed questions say against their accuracy, one line each; nothing where all is
    well.

    `fail: …`, where no picture can have been seen or all of them were one, and `not checked: …`, where nobody told.

    Args:
        predictions: of a run; those of controls and corruptions are passed over.
        samples: what was asked, with its pictures; None where they are not at hand: every question counts as one
            about a picture of its own, where it has receipts at all.
    """
    asked = None if samples is None else {key_of(sample): sample for sample in samples}
    plain = [p for p in predictions if p.variant == "" and (asked is None or key_of(p) in asked)]
    shown = [p for p in plain if asked is None or asked[key_of(p)].images]
    return [*_missing(shown, with_data=asked is not None), *_alike(shown, asked)]


def _missing(shown: Sequence[Prediction], *, with_data: bool) -> Iterator[str]:
    untold = [p for p in shown if p.images is None]
    if untold:
        yield (
            f"not checked: {len(untold):,} of {len(shown):,} answers have no receipt of a picture ({untold[0].id} "
            "first), so nobody knows whether the model was shown one; evaluate again with `medr1 eval`."
        )
    if not with_data:
        return
    blind = [p for p in shown if p.images is not None and not _seen(p)]
    if blind:
        yield (
            f"fail: {len(blind):,} of {len(shown):,} questions about a picture were asked without one ({blind[0].id} "
            "first), so the accuracy is not that of a model that looks; check the engine and its image processor."
        )


def _seen(prediction: Prediction) -> bool:
    """Whether a picture went in and, as far as the engine tells, became tokens."""
    return bool(prediction.images) and all(one.tokens != 0 for one in prediction.images or ())


def _alike(shown: Sequence[Prediction], asked: dict[tuple[str, str], Sample] | None) -> Iterator[str]:
    """All receipts alike, where the pictures of the data are not."""
    told = [p for p in shown if p.images]
    hashes = {one.sha256 for p in told for one in p.images or ()}
    if len(hashes) != 1:
        return
    if asked is None:
        pictures = len({p.group or p.id for p in told})
    else:
        pictures = len({image_hash(ref) for p in told for ref in asked[key_of(p)].images})
    if pictures > 1:
        yield (
            f"fail: all {len(told):,} questions were asked with one and the same picture (sha256 {min(hashes)[:12]}…), "
            f"and the data have {pictures:,}; the accuracy is that of a model that sees nothing of them."
        )
