"""The blind rules: by hand, and against the published baselines on the published splits."""

import gzip
import json
from pathlib import Path

import pytest

from medr1.data.blind import (
    MajorityLetter,
    TextPrior,
    format_rule,
    longest_option,
    rule_accuracy,
)
from medr1.types import Sample


def sample(*options: str, gold: int = 0, question: str = "Which?") -> Sample:
    return Sample(id="/".join(options), images=(), question=question, options=options, answer_index=gold)


def read_split(path: Path) -> list[Sample]:
    """Med-R1's records; options start at " A)", then ", B)" and so on."""
    samples = []
    for record in json.loads(gzip.decompress(path.read_bytes())):
        question, rest = record["problem"].split(" A)", 1)
        options = []
        for letter in "BCDE":
            option, found, tail = rest.partition(f", {letter})")
            options.append(option)
            if not found:
                break
            rest = tail
        gold = "ABCD".index(record["solution"].split()[1])
        samples.append(sample(*options, gold=gold, question=question))
    return samples


@pytest.mark.parametrize(
    ("options", "picks"),
    [
        (("Lung", "liver", "Heart"), (1,)),
        (("Lung", "liver", "heart."), (2,)),
        (("Lung", "Liver", "Heart."), (2,)),
        (("Lung.", "Liver.", "Heart"), (0, 1, 2)),
        (("lung", "liver", "Heart"), (0, 1, 2)),
        (("1st", "", "Heart"), (0, 2)),
        (("liver", "Lung.", "Heart"), (0,)),
    ],
)
def test_format_rule(options: tuple[str, ...], picks: tuple[int, ...]) -> None:
    assert format_rule(sample(*options)) == picks


def test_longest_option_splits_ties() -> None:
    assert longest_option(sample("ab", "abc", "abd")) == (1, 2)
    assert rule_accuracy(longest_option, [sample("ab", "abc", "abd", gold=1), sample("a", "bb", gold=1)]) == 0.75


def test_majority_letter_is_that_of_the_training_samples() -> None:
    rule = MajorityLetter([sample("a", "b", gold=1), sample("a", "b", gold=1), sample("a", "b", gold=0)])
    assert rule_accuracy(rule, [sample("a", "b", gold=1), sample("a", "b"), sample("a", "b")]) == pytest.approx(1 / 3)
    assert MajorityLetter([sample("a", "b", gold=1), sample("a", "b", gold=0)]).position == 0


def test_text_prior_by_hand() -> None:
    prior = TextPrior([sample("Lung.", "Liver", gold=0), sample("Heart", "lung", gold=1, question="What?")])
    # "lung": seen twice, gold twice: p0 = 2.25 / 3. With "which": (1 + 2·0.75) / (1 + 2).
    assert prior.score("which", "lung") == pytest.approx(2.5 / 3, abs=1e-12)
    assert prior.score("which", "liver") == pytest.approx(2 * (0.25 / 2) / 3, abs=1e-12)
    # Never seen: p0 = 0.25 / 1 and nothing else.
    assert prior.score("which", "spleen") == pytest.approx(0.25, abs=1e-12)
    assert prior(sample("Liver", "LUNG", "Spleen")) == (1,)
    assert prior(sample("Spleen", "Kidney")) == (0, 1)


def test_no_samples_have_no_accuracy() -> None:
    assert rule_accuracy(format_rule, []) is None


PUBLISHED = [
    ("modality", "CT(Computed Tomography)", 23.01, 16.85, 99.51),
    ("modality", "ultrasound", 93.27, 12.74, 86.89),
    ("modality", "Fundus Photography", 53.32, 49.56, 96.68),
    ("modality", "OCT (Optical Coherence Tomography", 27.83, 51.36, 100.00),
    ("question_type", "Anatomy Identification", 78.00, 20.07, 87.71),
    ("question_type", "Modality Recognition", 38.95, 10.24, 96.95),
    ("question_type", "Other Biological Attributes", 26.81, 50.50, 100.00),
]
"""Axis, split, and the test accuracies in % of format rule, longest option and text prior."""


@pytest.mark.parametrize(("axis", "name", "fmt", "longest", "prior"), PUBLISHED)
def test_published_baselines(real_data: Path, axis: str, name: str, fmt: float, longest: float, prior: float) -> None:
    folder = real_data / "med_r1" / "splits" / axis
    test = read_split(folder / "test" / f"{name}_test.json.gz")
    train = read_split(folder / "train" / f"{name}_train.json.gz")
    found = [rule_accuracy(rule, test) for rule in (format_rule, longest_option, TextPrior(train))]
    assert [round(100 * (value or 0), 2) for value in found] == [fmt, longest, prior]
