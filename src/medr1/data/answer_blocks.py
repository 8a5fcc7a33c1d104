"""Answer blocks: K questions with K different answers that share one option list, in one order, and one wording.

Within a block every text that a model is shown is the same K times, and each option is right exactly once. Whatever
rule maps the text to an option therefore scores exactly 1 / K, whatever it was fitted on: a letter, a format, the
longest option, how often an answer was right elsewhere. Only the images differ.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from medr1.types import Prediction, Sample

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
