"""What one set of questions holds: counts, sizes, lengths, what its options give away, and a wall of its images."""

import io
import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from medr1.answers.wording import plain_words
from medr1.data.blind import format_rule
from medr1.data.convert import summarise
from medr1.data.images import open_image
from medr1.data.options import options_refer
from medr1.data.questions import Fingerprint, QuestionSet
from medr1.results.audited import (
    Described,
    Giveaways,
    GoldTexts,
    OneSided,
    OptionChecks,
    OptionFaults,
    OptionStats,
    PictureStats,
    Spread,
    TextStats,
)
from medr1.types import LETTERS, Sample

QUANTILES = {"min": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "max": 1.0}
TOP_SIZES = 10
TILE, GAP, COLUMNS, ROWS = 128, 4, 10, 6
TOP = 10
"""Most frequent texts and most one-sided option sets that are listed."""
MIN_ASKED = 20
"""An option set asked less often says nothing about its answers."""


def describe(questions: QuestionSet) -> Described:
    """Counts, images and their sizes, lengths of the texts in characters, and right options."""
    samples = questions.samples
    images = {image.identity: image for image in questions.fingerprints()}
    sizes = [image.size for image in images.values() if image.size is not None]
    options = [option for sample in samples for option in sample.options]
    asked = [sample for sample in samples if sample.answer_index is not None]
    return summarise(samples).extended(
        Described,
        images=PictureStats(
            distinct=len(images),
            missing=len(images) - len(sizes),
            per_question=spread([len(sample.images) for sample in samples]),
            width=spread([width for width, _ in sizes]),
            height=spread([height for _, height in sizes]),
            commonest_sizes={f"{w} × {h}": count for (w, h), count in Counter(sizes).most_common(TOP_SIZES)},
        ),
        questions=TextStats(
            distinct=len({sample.question for sample in samples}),
            length=spread([len(sample.question) for sample in samples]),
        ),
        options=OptionStats(
            distinct=len(set(options)),
            length=spread(list(map(len, options))),
            gold_letters=gold_letters(asked),
            gold_texts=gold_texts(asked),
            faults=faults(questions),
        ),
    )


def spread(values: Sequence[int]) -> Spread | None:
    """Minimum, quartiles, maximum and mean; None for no values.

    >>> spread([1, 2, 3])
    Spread(min=1.0, q25=1.5, median=2.0, q75=2.5, max=3.0, mean=2.0)
    """
    if not values:
        return None
    found = np.quantile(values, list(QUANTILES.values()))
    return Spread(**dict(zip(QUANTILES, map(float, found), strict=True)), mean=float(np.mean(values)))


def option_checks(questions: QuestionSet) -> OptionChecks:
    """Distributions of the answers, faults of the options and format giveaways of a set."""
    asked = [sample for sample in questions.samples if sample.answer_index is not None]
    return OptionChecks(
        gold_letters=gold_letters(asked),
        gold_texts=gold_texts(asked),
        one_sided=one_sided(asked),
        faults=faults(questions),
        format_giveaways=format_giveaways(asked),
    )


def gold_letters(samples: Iterable[Sample]) -> dict[str, int]:
    """How often each letter is right."""
    counts = Counter(sample.gold for sample in samples if sample.gold is not None)
    return {letter: counts[letter] for letter in LETTERS if letter in counts}


def gold_texts(samples: Sequence[Sample]) -> GoldTexts:
    """How few texts are ever right: distinct right and wrong texts, and the share of wrong options never right.

    Texts are compared as written, but for case and outer punctuation (`normalise`).
    """
    gold, wrong = Counter[str](), Counter[str]()
    for sample in samples:
        for position, option in enumerate(sample.options):
            (gold if position == sample.answer_index else wrong)[plain_words(option)] += 1
    never = sum(count for text, count in wrong.items() if text not in gold)
    return GoldTexts(
        distinct=len(gold),
        distinct_distractors=len(wrong),
        distractors_never_right=never / wrong.total() if wrong else 0.0,
        top=dict(gold.most_common(TOP)),
    )


def one_sided(samples: Iterable[Sample], min_asked: int = MIN_ASKED) -> list[OneSided]:
    """Option sets, asked at least `min_asked` times, by the excess of their commonest answer over 1 / K."""
    answers: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for sample in samples:
        texts = [plain_words(option) for option in sample.options]
        if sample.answer_index is not None:
            answers[tuple(sorted(set(texts)))][texts[sample.answer_index]] += 1
    found = []
    for options, counts in answers.items():
        text, count = counts.most_common(1)[0]
        if len(options) > 1 and counts.total() >= min_asked and count * len(options) > counts.total():
            share = count / counts.total()
            found.append(OneSided(options=list(options), n=counts.total(), answer=text, share=share))
    found.sort(key=lambda item: (item.n * (1 / len(item.options) - item.share), item.options))
    return found[:TOP]


def _identities(images: Sequence[Fingerprint]) -> Iterable[Hashable]:
    """All by which what a question shows can be known: of several pictures, only all of them together."""
    return images[0].keys if len(images) == 1 else [tuple(image.identity for image in images)] if images else []


def faults(questions: QuestionSet) -> OptionFaults:
    """Questions that cannot be answered fairly, counted by fault."""
    counts = Counter[str]()
    right: defaultdict[tuple[Hashable, str], set[str]] = defaultdict(set)
    keys_of = [
        [(key, s.question) for key in _identities(images)]
        for images, s in zip(questions.images, questions.samples, strict=True)
    ]
    for sample, keys in zip(questions.samples, keys_of, strict=True):
        if sample.answer_index is not None:
            for key in keys:
                right[key].add(plain_words(sample.options[sample.answer_index]))
    for sample, keys in zip(questions.samples, keys_of, strict=True):
        counts["options_that_refer"] += options_refer(sample)
        offered = [option for option in sample.options if option]
        folded = [plain_words(option) for option in offered]
        counts["duplicate_options"] += len(set(offered)) < len(offered)
        counts["folded_duplicates"] += len(set(folded)) < len(folded)
        if sample.answer_index is None:
            continue
        gold = plain_words(sample.options[sample.answer_index])
        others = set().union(*(right[key] for key in keys)) - {gold}
        counts["ambiguous_gold"] += folded.count(gold) > 1
        counts["conflicting_answers"] += bool(others)
        counts["several_true"] += bool(others & set(folded))
    return OptionFaults(**{name: counts[name] for name in OptionFaults.model_fields})


def format_giveaways(samples: Sequence[Sample]) -> Giveaways:
    """How the right options are written, beside the wrong ones, and how far the format rule gets with that."""
    right = [s.options[s.answer_index] for s in samples if s.answer_index is not None]
    wrong = [option for s in samples for i, option in enumerate(s.options) if i != s.answer_index]
    picks = [(format_rule(sample), sample) for sample in samples]
    decided = [(pick[0], sample) for pick, sample in picks if len(pick) == 1 < len(sample.options)]
    return Giveaways(
        coverage=len(decided) / max(len(samples), 1),
        hit_rate=_mean(pick == sample.answer_index for pick, sample in decided),
        gold_lower_case=_mean(text[:1].islower() for text in right),
        distractor_lower_case=_mean(text[:1].islower() for text in wrong),
        gold_full_stop=_mean(text.endswith(".") for text in right),
        distractor_full_stop=_mean(text.endswith(".") for text in wrong),
        gold_mean_length=_mean(map(len, right)),
        distractor_mean_length=_mean(map(len, wrong)),
    )


def _mean(values: Iterable[float]) -> float:
    """0.0 for no values."""
    found = list(values)
    return sum(found) / max(len(found), 1)


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
