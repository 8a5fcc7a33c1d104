"""What a completion earns: pure functions of completion and sample, each a score in [0, 1] with its breakdown.

    ours.py       the right letter; the blocks that the prompt asked for; yes or no, numbers, labels, free text
    shaping.py    thinking that concludes the answer; length
    published.py  those of MedVLM-R1 and Med-R1, as they are
    trl.py        the form of TRL's `reward_funcs`
    fuzz.py       tries to earn a reward without answering, with the completions of probes.py

Ours are strict about the format, since every slack is found by training; they read answers with the parser that
evaluation uses. An unreadable completion earns 0.0, never None: TRL gives None no gradient.
"""

from collections.abc import Callable

from medr1.rewards.ours import (
    RELAXED,
    Reward,
    accuracy,
    any_type,
    consistency,
    cosine_length,
    labels_exact,
    labels_f1,
    nothink_format,
    number,
    soft_overlong,
    text_exact,
    text_f1,
    think_format,
    yes_no,
)
from medr1.rewards.published import med_r1_accuracy, med_r1_nothink_format, medvlm_accuracy, medvlm_format
from medr1.rewards.trl import as_trl_reward, sample_columns

REWARDS: dict[str, Reward] = {
    "accuracy": accuracy,
    "answer": any_type,
    "yes-no": yes_no,
    "number": number(),
    "number-relaxed": number(RELAXED),
    "labels-f1": labels_f1,
    "labels-exact": labels_exact,
    "text-f1": text_f1,
    "text-exact": text_exact,
    "format": think_format,
    "format-nothink": nothink_format,
    "consistency": consistency,
    "length": soft_overlong(),
    "length-cosine": cosine_length(),
    "medvlm-r1/accuracy": medvlm_accuracy,
    "medvlm-r1/format": medvlm_format,
    "med-r1/accuracy": med_r1_accuracy,
    "med-r1/format": medvlm_format,
    "med-r1/format-nothink": med_r1_nothink_format,
}

PAYS_FOR: dict[str, str] = {
    "accuracy": "the right letter, or its text, as evaluation reads it",
    "answer": "the right answer of whatever type the question has, by the rewards below",
    "yes-no": "the right one of yes and no",
    "number": "the right number",
    "number-relaxed": f"a number within {RELAXED:.0%} of the right one",
    "labels-f1": "F1 of the labels, where more than half of those named are right",
    "labels-exact": "all labels and no other",
    "text-f1": "F1 of the words, where the answer is no hedge and denies nothing else than the right one",
    "text-exact": "the words of an accepted answer",
    "format": "one think block and one answer block, and nothing else",
    "format-nothink": "one answer block and nothing else",
    "consistency": "thinking that ends at the option that is answered, right or wrong",
    "length": "a short completion (DAPO's soft over-long punishment, in characters)",
    "length-cosine": "the right answer, more for a shorter completion",
    "medvlm-r1/accuracy": "MedVLM-R1: the right letter; half for it beside characters that are no A to J",
    "medvlm-r1/format": "MedVLM-R1: think, then answer, with what else may be in between",
    "med-r1/accuracy": "Med-R1: the right letter, with or without tags",
    "med-r1/format": "Med-R1: as medvlm-r1/format",
    "med-r1/format-nothink": "Med-R1: an answer block at the end",
}
"""In a few words, for lists."""


def trl_reward(name: str) -> Callable[..., list[float]]:
    """The reward of that name in the form of TRL's `reward_funcs`, see `as_trl_reward`."""
    return as_trl_reward(name, REWARDS[name])


__all__ = ["PAYS_FOR", "REWARDS", "Reward", "sample_columns", "trl_reward"]
