"""Answer blocks: K questions with K different answers that share one option list, in one order, and one wording.

Within a block every text that a model is shown is the same K times, and each option is right exactly once. Whatever
rule maps the text to an option therefore scores exactly 1 / K, whatever it was fitted on: a letter, a format, the
longest option, how often an answer was right elsewhere. Only the images differ.

What may stand in one block is a family: questions that ask the same thing, so that one wording does for all, with the
answers of one another. Published stems are paraphrases that a language model wrote, so a family is found from the
answers: two stems of one data set are of one family when they share an answer, directly or through others. Three rules
go beyond that. The answer to a yes/no question means nothing without it, so its family is what the question asks about.
An answer that finds nothing in the image goes with the diagnoses of its data set. And what imaging technique was used
is one family over all data sets, since the data set decides that answer alone.
"""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from medr1.answers.wording import plain_words
from medr1.data.groups import UnionFind
from medr1.data.synonyms import NO_ABNORMALITY, finds_nothing, imaging_technique, tidy, topic
from medr1.types import Prediction, Sample, Task

Fits = Callable[[str, str], bool]
"""Whether two answers may stand in one option list; never true of an answer and itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A question that may enter a block."""

    sample: Sample
    family: tuple[str, ...]
    """Questions of one family can be asked in the same words."""
    answer: str
    """Its answer, with synonyms made one."""
    truths: frozenset[str] = frozenset()
    """All answers that are known to be right for the same image or series."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks of items with pairwise different answers, and why the other items are in none."""

    blocks: list[tuple[Item, ...]]
    left_out: dict[str, str]
    """Reason by sample id."""


ONE_ANSWER = "its family has one answer only"
NO_PARTNER = "other answers of its family may be true of it"
NONE_LEFT = "no question with another answer is left for it"


def build_blocks(items: Iterable[Item], fits: Fits, size: int = 4, seed: int = 0) -> Blocks:
    """Blocks of at most `size` and at least two items of one family, made greedily from the most frequent answers.

    Taking the answers with the most questions left keeps the pools level, which uses as many questions as blocks of
    different answers can. An answer joins only if it fits all others of the block, and a question only if none of the
    block's other answers is, or does not fit, one of its `truths`. The result does not depend on the order of `items`.
    """
    families: dict[tuple[str, ...], dict[str, list[Item]]] = defaultdict(lambda: defaultdict(list))
    for item in sorted(items, key=lambda item: item.sample.id):
        families[item.family][item.answer].append(item)
    rng = random.Random(seed)
    result = Blocks([], {})
    for family in sorted(families):
        _fill(families[family], fits, size, rng, result)
    return result


def _fill(pools: dict[str, list[Item]], fits: Fits, size: int, rng: random.Random, result: Blocks) -> None:
    for answer in sorted(pools):
        rng.shuffle(pools[answer])
    order = {answer: rank for rank, answer in enumerate(rng.sample(sorted(pools), len(pools)))}
    while any(pools.values()):
        alive = sorted((a for a in pools if pools[a]), key=lambda a: (-len(pools[a]), order[a]))
        block = [pools[alive[0]].pop()]
        for answer in alive[1:]:
            if len(block) == size:
                break
            at = _first_fitting(pools[answer], block, fits)
            if at is not None:
                block.append(pools[answer].pop(at))
        if len(block) > 1:
            result.blocks.append(tuple(block))
            continue
        result.left_out[block[0].sample.id] = _reason(block[0], pools, fits)


def _reason(item: Item, answers: Iterable[str], fits: Fits) -> str:
    others = [answer for answer in answers if answer != item.answer]
    if not others:
        return ONE_ANSWER
    possible = any(fits(item.answer, other) and _untrue_of(other, item, fits) for other in others)
    return NONE_LEFT if possible else NO_PARTNER


def _first_fitting(pool: Sequence[Item], block: Sequence[Item], fits: Fits) -> int | None:
    """Position of the last item of a pool that goes with every member of the block."""
    answer = pool[0].answer
    if not all(fits(answer, member.answer) and _untrue_of(answer, member, fits) for member in block):
        return None
    return next(
        (i for i in reversed(range(len(pool))) if all(_untrue_of(m.answer, pool[i], fits) for m in block)), None
    )


def _untrue_of(answer: str, item: Item, fits: Fits) -> bool:
    """Whether an answer is neither right for the item's image or series nor says the same as what is."""
    return all(truth == item.answer or fits(truth, answer) for truth in item.truths)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockScore:
    """How many blocks were answered without a mistake."""

    num_blocks: int
    """Blocks of which every question was answered, each draw for itself."""
    all_right: float | None
    """Share of them with all questions right (0..1); None without any."""
    chance: float | None
    """That share for independent guesses: the mean of (1 / K)^K."""
    num_incomplete: int
    """Blocks of which a question is missing, left out of the shares."""


def block_score(predictions: Iterable[Prediction], blocks: Mapping[str, str]) -> BlockScore:
    """The group score of hardened questions: a block counts when all of its K questions are right.

    `blocks` maps sample ids to block ids, as `blocks_of` reads them from the samples. An unreadable answer is not
    right. Text alone never gets a block right, since it would have to give different answers to the same text.
    """
    size: dict[str, int] = defaultdict(int)
    for block in blocks.values():
        size[block] += 1
    right: dict[tuple[str, str, int], list[bool]] = defaultdict(list)
    for prediction in predictions:
        if prediction.id in blocks:
            key = (blocks[prediction.id], prediction.variant, prediction.draw)
            right[key].append(prediction.answer is not None and prediction.answer == prediction.gold)
    whole = {key: values for key, values in right.items() if len(values) == size[key[0]]}
    n = len(whole)
    return BlockScore(
        num_blocks=n,
        all_right=sum(map(all, whole.values())) / n if n else None,
        chance=sum(len(values) ** -len(values) for values in whole.values()) / n if n else None,
        num_incomplete=len(right) - n,
    )


BLOCK = "block"
"""Key of `Sample.extra` with the id of the sample's block."""


def blocks_of(samples: Iterable[Sample]) -> dict[str, str]:
    """Block by sample id, of the samples that are in one."""
    return {sample.id: sample.extra[BLOCK] for sample in samples if BLOCK in sample.extra}


# Families -----------------------------------------------------------------------------------------------------------

NEUTRAL_QUESTION: dict[Task, str] = {
    "Anatomy Identification": "Which anatomical structure, tissue or cell does this image show?",
    "Disease Diagnosis": "Which diagnosis or finding fits this image?",
    "Lesion Grading": "Which grade, stage or quality fits this image?",
    "Modality Recognition": "Which imaging technique produced this image?",
    "Other Biological Attributes": "Which description fits this image?",
    "other": "Which of these answers fits this image?",
    "unknown": "Which of these answers fits this image?",
}
"""The wording of a block whose original questions differ: true of every question of its task."""

NEGATIVE_ANSWERS = {
    "finding": NO_ABNORMALITY,
    "cancer": "No cancer",
    "malaria": "No malaria infection",
    "19 covid": "No COVID-19",
}
"""What "No" says, by the topic of the yes/no question that it answers."""
POSITIVE_ANSWERS = {"19 covid": "COVID-19"}
"""What "Yes" says, by the topic of the question, where the topic names a diagnosis."""

_FINDING_STEM = re.compile(
    r"abnormal|anomal|irregular|disease|condition|diagnos|finding|observ|patholog|illness|visible|seen|lesion|cancer|"
    r"infection",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a question asks and how it is answered, in words that many questions share."""

    answer: str
    """Text of the answer, tidied and with synonyms made one."""
    negative: bool
    """Whether the answer finds nothing, and so goes with the diagnoses of its data set."""
    polar_topic: str | None
    """Topic of a yes/no question whose answer is a bare "Yes" or "No"."""


def read(sample: Sample) -> Reading:
    """Reading of a multiple-choice question."""
    assert sample.answer_index is not None, "only questions with one right option have a reading"
    gold = sample.options[sample.answer_index]
    plain = plain_words(gold)
    if plain in ("yes", "no"):
        asked = topic(sample.question)
        said = (NEGATIVE_ANSWERS if plain == "no" else POSITIVE_ANSWERS).get(asked)
        if said is not None:
            return Reading(said, plain == "no", None)
        return Reading(plain.capitalize(), False, asked)
    if finds_nothing(gold):
        return Reading(NO_ABNORMALITY, True, None)
    return Reading(imaging_technique(gold) or tidy(gold), False, None)


def families(samples: Sequence[Sample]) -> list[tuple[tuple[str, ...], str]]:
    """Family and answer of each sample; the family's name is stable under the order of the samples."""
    readings = [read(sample) for sample in samples]
    keys = [_keys(sample, reading) for sample, reading in zip(samples, readings, strict=True)]
    joined = UnionFind()
    for place, stem, answer in keys:
        joined.join((place, "stem", stem), (place, "answer", answer))
    _join_negatives(samples, readings, keys, joined)
    names: dict[object, tuple[str, ...]] = {}
    for place, _, answer in sorted(keys):
        names.setdefault(joined.find((place, "answer", answer)), (*place, answer))
    spelling = _most_frequent_spelling(readings, keys)
    return [(names[joined.find((place, "answer", answer))], spelling[place, answer]) for place, _, answer in keys]


def _keys(sample: Sample, reading: Reading) -> tuple[tuple[str, ...], str, str]:
    """The place in which a family lies, the stem and the answer: nodes that are joined."""
    answer = plain_words(reading.answer)
    if imaging_technique(reading.answer) is not None:
        return ("imaging technique",), "", answer
    place = (sample.source, sample.modality)
    if reading.polar_topic is not None:
        return (*place, "yes or no"), reading.polar_topic, f"{answer} to {reading.polar_topic}"
    return place, plain_words(sample.question), answer


def _join_negatives(
    samples: Sequence[Sample],
    readings: Sequence[Reading],
    keys: Sequence[tuple[tuple[str, ...], str, str]],
    joined: UnionFind,
) -> None:
    """Join the answers that find nothing with every family of their place that asks for findings."""
    finding: dict[object, Counter[bool]] = defaultdict(Counter)
    negatives: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for sample, reading, (place, _, answer) in zip(samples, readings, keys, strict=True):
        if reading.negative:
            negatives[place].add(answer)
        elif reading.polar_topic is None:
            finding[place, joined.find((place, "answer", answer))][_asks_for_finding(sample)] += 1
    places = {root: counts for root, counts in finding.items() if counts[True] > counts[False]}
    for place, root in places:  # pyright: ignore[reportGeneralTypeIssues]
        for answer in negatives.get(place, ()):
            joined.join(root, (place, "answer", answer))


def _asks_for_finding(sample: Sample) -> bool:
    if sample.task not in ("unknown", "other"):
        return sample.task == "Disease Diagnosis"
    return _FINDING_STEM.search(sample.question) is not None


def _most_frequent_spelling(
    readings: Sequence[Reading], keys: Iterable[tuple[tuple[str, ...], str, str]]
) -> dict[tuple[tuple[str, ...], str], str]:
    """One text for each answer of a place: the spelling that most questions have, the first of equals."""
    counts: dict[tuple[tuple[str, ...], str], Counter[str]] = defaultdict(Counter)
    for reading, (place, _, answer) in zip(readings, keys, strict=True):
        counts[place, answer][reading.answer] += 1
    return {key: min(texts, key=lambda text: (-texts[text], text)) for key, texts in counts.items()}


def common_question(samples: Sequence[Sample]) -> str:
    """One wording for several questions: theirs where they agree, else the neutral one of their task.

    Bare yes/no questions of one topic keep the wording of the first: no neutral one would say what is asked.
    """
    if len({plain_words(sample.question) for sample in samples}) == 1:
        return samples[0].question
    if all(read(sample).polar_topic is not None for sample in samples):
        return samples[0].question
    tasks = {sample.task for sample in samples}
    return NEUTRAL_QUESTION[samples[0].task if len(tasks) == 1 else "unknown"]
