"""From the numbers of an audit to lines that a person can act on: what is wrong, how much, and what to do."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Audit = Mapping[str, Any]

FAIL, WARN, PASS = "fail", "warn", "pass"

BLIND_MARGIN = 0.03
"""A rule that beats chance by more than this has found something that is not in the image."""
BLIND_FAIL = 0.15
LEAK_FAIL = 0.01
NEAR_MARGIN = 0.02
"""Points by which near-duplicates may exceed the rate of unrelated images."""
SLICE_WARN = 0.01
GAP = "5"
"""Slice gap of the verdict: five slices of a scan apart is the same organ, usually the same finding."""

RULE_NAMES = {
    "majority_letter": "always answering the commonest letter",
    "majority_letter_of_train": "always answering the commonest letter of the training questions",
    "format_rule": "picking the option that is written differently (lower case, full stop)",
    "longest_option": "picking the longest option",
    "text_prior": "a counter of past answers",
    "linear_text": "a linear model on the words",
}
_CHANGE_DISTRACTORS = (
    "choose distractors that are right elsewhere (`medr1 data harden`) and report accuracies beside it"
)
MENDS = {
    "majority_letter": "shuffle the options of every question",
    "majority_letter_of_train": "shuffle the options of every question",
    "format_rule": "write all options alike (`medr1 data harden` does)",
    "longest_option": "choose distractors as long as the answers (`medr1 data harden`)",
    "text_prior": _CHANGE_DISTRACTORS,
    "linear_text": _CHANGE_DISTRACTORS,
}


def verdicts(result: Audit) -> list[str]:
    """One line a finding, `fail: …`, `warn: …` or `pass: …`, the gravest first.

    Everything looked at has a line, so that a missing one does not read as a pass.
    """
    found = [line for check in CHECKS for line in check(result)]
    return sorted(found, key=lambda line: (FAIL, WARN, PASS).index(line.partition(":")[0]))


def _images(result: Audit) -> Iterator[str]:
    leak = result["image_leakage"]
    if leak["records"]:
        level = FAIL if leak["share"] > LEAK_FAIL else WARN
        yield (
            f"{level}: {leak['records']:,} of {result['n_test']:,} test questions ({leak['share']:.1%}) "
            "show an image that is also in train; split again by image with `medr1 data split`."
        )
    else:
        basis = (
            "names, file and pixel hashes" if result["images"]["test"]["hashed"] else "names only: no files were there"
        )
        yield f"{PASS}: no test image is in train ({basis})."


def _groups(result: Audit) -> Iterator[str]:
    extra = result["group_leakage"]["records"] - result["image_leakage"]["records"]
    if extra > 0:
        yield (
            f"{FAIL}: {extra:,} more test questions belong to a group (patient or series) that is also in train; split "
            "again by group with `medr1 data split`."
        )


def _records(result: Audit) -> Iterator[str]:
    same = max(result["record_repeats"]["records"], result["same_samples"])
    if same:
        yield (
            f"{FAIL}: {same:,} test questions are in train as they are, image, question and options; remove them from "
            "one of the two, and never evaluate on another axis than the one trained on."
        )


def _near(result: Audit) -> Iterator[str]:
    near = result["near_duplicates"]
    if near is None:
        yield f"{WARN}: near-duplicates were not looked for, because no image files were there; give --image-root."
        return
    rates = f"{near['rate']:.1%} of the test images, against {near['expected_rate']:.1%} expected of unrelated ones"
    if near["rate"] - near["expected_rate"] > NEAR_MARGIN:
        yield f"{FAIL}: near-duplicates in train: {rates}; group the series or patients and split again."
    else:
        yield f"{PASS}: near-duplicates in train: {rates}."


def _slices(result: Audit) -> Iterator[str]:
    neighbours = result["slice_neighbours"]
    if neighbours is None:
        return
    share = neighbours[GAP]["share"]
    if share > SLICE_WARN:
        yield (
            f"{FAIL}: {share:.1%} of the test slices have a training slice of the same series within {GAP} numbers; "
            "split by blocks of slices with `medr1 data split`."
        )
    else:
        yield f"{PASS}: {share:.1%} of the test slices have a training slice within {GAP} numbers."


def _questions(result: Audit) -> Iterator[str]:
    repeats = result["question_repeats"]
    if repeats["records"]:
        yield (
            f"{WARN}: {repeats['records']:,} test questions ({repeats['share']:.1%}) have question and options word "
            "for word as in train, about another image; the answer can be recalled, so report them apart."
        )


def _blind(result: Audit) -> Iterator[str]:
    # On few questions a rule is above chance by luck: two standard errors are no finding.
    luck = 2 * math.sqrt(result["chance"] * (1 - result["chance"]) / result["n_choice"])
    for rule, accuracy in result["blind"].items():
        above = accuracy - result["chance"]
        scores = f"{RULE_NAMES[rule]} reaches {accuracy:.1%} without any image; chance is {result['chance']:.1%}"
        if above > max(BLIND_MARGIN, luck):
            yield f"{FAIL if above > BLIND_FAIL else WARN}: {scores}; {MENDS[rule]}."
        else:
            yield f"{PASS}: {scores}."


def _options(result: Audit) -> Iterator[str]:
    checks = result["options"]["test"]
    faults = checks["faults"]
    unfair = {"ambiguous_gold": "have two right letters", "conflicting_answers": "contradict another record's answer"}
    for name, what in unfair.items():
        if faults[name]:
            yield f"{WARN}: {faults[name]:,} test questions {what} ({name}); remove or correct them."
    if faults["folded_duplicates"]:
        twice = faults["folded_duplicates"]
        yield f"{WARN}: {twice:,} test questions offer the same text twice; replace one of the twins."
    for item in checks["one_sided"][:1]:
        if item["share"] > 0.9:
            yield (
                f"{WARN}: among {' / '.join(item['options'])} the answer is {item['answer']!r} in {item['share']:.1%} "
                f"of {item['n']:,} test questions; balance the answers or leave the family out."
            )


CHECKS: tuple[Callable[[Audit], Iterator[str]], ...] = (
    _images,
    _groups,
    _records,
    _near,
    _slices,
    _questions,
    _blind,
    _options,
)
"""Each turns an audit into its lines."""
