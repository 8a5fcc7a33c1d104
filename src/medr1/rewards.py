"""What a completion earns: pure functions of completion and sample, each a score in [0, 1] with its breakdown.

Ours are strict about the format, since every slack is found by training; they read answers with the parser that
evaluation uses. The published ones are reproduced as they are, loop-holes included (MedVLM-R1: arXiv 2502.19634,
Med-R1: arXiv 2503.13939). An unreadable completion earns 0.0, never None: TRL gives None no gradient.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from medr1.answers import parse_answer
from medr1.answers.tags import TAG
from medr1.errors import DataError
from medr1.types import ParseStatus, Sample, Score

Reward = Callable[[str, Sample], Score]
"""Scores one completion to one sample: pure, deterministic, 0 to 1."""


def accuracy(completion: str, sample: Sample) -> Score:
    """1 where the default parser reads the gold letter, else 0; `readable` tells wrong from unreadable."""
    gold = _gold(sample)
    parsed = parse_answer(completion, sample)
    value = float(parsed.letter == gold)
    readable = float(parsed.status is ParseStatus.OK)
    return Score(value=value, answer=parsed.letter, breakdown={"accuracy": value, "readable": readable})


def think_format(completion: str, sample: Sample) -> Score:
    """1 for one think block, then one answer block, both with text in them, and nothing else but white space.

    >>> sample = Sample(id="1", images=(), question="Which?", options=("CT", "MRI"), answer_index=1)
    >>> [think_format(text, sample).value for text in ("<think>r</think> <answer>B</answer>", "<answer>B</answer>")]
    [1.0, 0.0]
    """
    return _format_score(_consists_of_blocks(completion, ("think", "answer")))


def nothink_format(completion: str, sample: Sample) -> Score:
    """1 for one answer block with text in it and nothing else but white space."""
    return _format_score(_consists_of_blocks(completion, ("answer",)))


def medvlm_accuracy(completion: str, sample: Sample) -> Score:
    """MedVLM-R1: 1 for the letter alone between the first answer tags, 0.5 with anything beside it that has no A to J.

    Every character counts as a letter, so `B.` earns 0.5 but `Option B` and `B) CT` earn 0 (o-p-t-I-on is an I).
    """
    gold = _gold(sample)
    match = re.search(r"<answer>(.*?)</answer>", completion, re.DOTALL | re.IGNORECASE)
    answer = match[1].strip().upper() if match else ""
    if re.findall(r"[A-J]", answer) != [gold]:
        return _accuracy_score(0.0, answer if match else None)
    return _accuracy_score(1.0 if answer == gold else 0.5, answer)


def medvlm_format(completion: str, sample: Sample) -> Score:
    """MedVLM-R1, and Med-R1 with thinking: a full match that allows empty blocks and further tags inside them."""
    return _format_score(re.fullmatch(r"<think>.*?</think>\s*<answer>.*?</answer>", completion, re.DOTALL) is not None)


def med_r1_accuracy(completion: str, sample: Sample) -> Score:
    """Med-R1: the text between the first answer tags that stand on one line, or without tags everything, is the letter.

    Its first step, symbolic comparison by math-verify, is left out: the gold `<answer> B </answer>` parses to nothing
    there, so the step never fires for a letter.
    """
    gold = _gold(sample)
    match = re.search(r"<answer>(.*?)</answer>", completion)
    answer = (match[1] if match else completion).strip()
    return _accuracy_score(float(answer == gold), answer)


def med_r1_nothink_format(completion: str, sample: Sample) -> Score:
    """Med-R1 without thinking: white space is allowed before the answer block, not behind it."""
    return _format_score(re.fullmatch(r"\s*<answer>.*?</answer>", completion, re.DOTALL) is not None)


REWARDS: dict[str, Reward] = {
    "accuracy": accuracy,
    "format": think_format,
    "format-nothink": nothink_format,
    "medvlm-r1/accuracy": medvlm_accuracy,
    "medvlm-r1/format": medvlm_format,
    "med-r1/accuracy": med_r1_accuracy,
    "med-r1/format": medvlm_format,
    "med-r1/format-nothink": med_r1_nothink_format,
}


def sample_columns(sample: Sample) -> dict[str, Any]:
    """The columns of a training row from which a reward made by `trl_reward` knows the sample again."""
    return {
        "id": sample.id,
        "question": sample.question,
        "options": list(sample.options),
        "answer_index": sample.answer_index,
    }


def trl_reward(name: str) -> Callable[..., list[float]]:
    """A reward in the form of TRL's `reward_funcs`; TRL logs it as `rewards/<__name__>/mean`.

    The function takes `prompts`, `completions` (texts, or conversations of which the last turn counts) and the columns
    of `sample_columns`, one value a completion, and returns one number a completion. Other columns are ignored.
    """
    reward = REWARDS[name]

    def reward_func(
        prompts: Sequence[Any],
        completions: Sequence[str | Sequence[dict[str, Any]]],
        *,
        id: Sequence[str],
        question: Sequence[str],
        options: Sequence[Sequence[str]],
        answer_index: Sequence[int],
        **_: object,
    ) -> list[float]:
        samples = [
            Sample(id=id_, images=(), question=question_, options=tuple(options_), answer_index=answer_index_)
            for id_, question_, options_, answer_index_ in zip(id, question, options, answer_index, strict=True)
        ]
        return [reward(_text(text), sample).value for text, sample in zip(completions, samples, strict=True)]

    reward_func.__name__ = re.sub(r"[/-]", "_", name)
    return reward_func


def _text(completion: str | Sequence[dict[str, Any]]) -> str:
    """The text of a completion; in a conversation that of its last turn, whose content may be a list of parts."""
    if isinstance(completion, str):
        return completion
    content = completion[-1]["content"] or ""
    return content if isinstance(content, str) else "".join(part.get("text") or "" for part in content)


def _gold(sample: Sample) -> str:
    if sample.gold is None:
        raise DataError(f"sample {sample.id} has no right option to reward: keep only samples with an answer_index")
    return sample.gold


def _accuracy_score(value: float, answer: str | None) -> Score:
    return Score(value=value, answer=answer, breakdown={"accuracy": value})


def _format_score(holds: bool) -> Score:
    return Score(value=float(holds), breakdown={"format": float(holds)})


def _consists_of_blocks(completion: str, names: Sequence[str]) -> bool:
    """Whether the text is these blocks in this order, none of them empty, and no other think or answer tag."""
    tags = list(TAG.finditer(completion))
    wanted = [tag for name in names for tag in (f"<{name}>", f"</{name}>")]
    if [tag[0] for tag in tags] != wanted:
        return False
    # The text before, between and behind the tags: inside a block at odd places, outside at even ones.
    edges = [0, *(edge for tag in tags for edge in tag.span()), len(completion)]
    pieces = [completion[start:end].strip() for start, end in zip(edges[::2], edges[1::2], strict=True)]
    return all(bool(piece) == (place % 2 == 1) for place, piece in enumerate(pieces))
