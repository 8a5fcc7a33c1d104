"""From the numbers of an audit to lines that a person can act on: what is wrong, how much, and what to do."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from medr1.diagnosis import FAIL, LEAK_FAIL, LEVELS, NOT_CHECKED, PASS, WARN

Audit = Mapping[str, Any]

BLIND_MARGIN = 0.03
"""A rule that beats chance by more than this has found something that is not in the image."""
BLIND_FAIL = 0.15
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
FITTED = ("majority_letter_of_train", "text_prior", "linear_text")
"""Rules that learn from the training questions."""
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
    """One line a finding, `fail: …`, `warn: …`, `not checked: …` or `pass: …`, the gravest first.

    Every check has a line, so that a missing one does not read as a pass; what the data do not tell is not checked.
    """
    found = [line for check in CHECKS for line in check(result)]
    return sorted(found, key=lambda line: LEVELS.index(line.partition(":")[0]))


def _images(result: Audit) -> Iterator[str]:
    leak, compared = result["image_leakage"], result["images_compared"]
    if leak["records"]:
        level = FAIL if leak["share"] > LEAK_FAIL else WARN
        by = ", ".join(f"{count:,} by {basis}" for basis, count in compared["found_by"].items() if count)
        yield (
            f"{level}: {leak['records']:,} of {result['n_test']:,} test questions ({leak['share']:.1%}) "
            f"show an image that is also in train ({by}); split again by image with `medr1 data split`."
        )
    elif compared["basis"] == "content":
        yield f"{PASS}: no test image is in train (all images of both were compared by content)."
    if compared["basis"] is None:
        yield f"{NOT_CHECKED}: whether test images are in train: one of the two shows no images."
    elif compared["basis"] != "content":
        missing = ", ".join(
            f"{counts['missing']:,} of the {part}" for part, counts in result["images"].items() if counts["missing"]
        )
        yield (
            f"{NOT_CHECKED}: whether test images are in train under another name: {missing} images were not there, "
            "so those were compared by name only; give --image-root."
        )
    if compared["other_pixels"]:
        yield (
            f"{WARN}: {compared['other_pixels']:,} test questions show an image with folders and name of a training "
            "image but other pixels: a copy of another size, or another image; see the near-duplicates."
        )


def _groups(result: Audit) -> Iterator[str]:
    extra = result["group_leakage"]["records"] - result["image_leakage"]["records"]
    if extra > 0:
        yield (
            f"{FAIL}: {extra:,} more test questions belong to a group (patient or series) that is also in train; split "
            "again by group with `medr1 data split`."
        )
    elif result["groups_of_several_images"]:
        yield f"{PASS}: no further test question belongs to a group (patient or series) that is in train."
    else:
        yield f"{NOT_CHECKED}: patients and series: no group of several images is known."


def _records(result: Audit) -> Iterator[str]:
    same = max(result["record_repeats"]["records"], result["same_samples"])
    if same:
        yield (
            f"{FAIL}: {same:,} test questions are in train as they are, image, question and options; remove them from "
            "one of the two, and never evaluate on another axis than the one trained on."
        )
    elif result["images_compared"]["basis"] == "content":
        yield f"{PASS}: no test question is in train with the same image, question and options."


def _near(result: Audit) -> Iterator[str]:
    near = result["near_duplicates"]
    if near is None:
        yield f"{NOT_CHECKED}: near-duplicates, because no image files were there to look at; give --image-root."
        return
    rates = f"{near['rate']:.1%} of the test images, against {near['expected_rate']:.1%} expected of unrelated ones"
    if near["rate"] - near["expected_rate"] > NEAR_MARGIN:
        yield f"{FAIL}: near-duplicates in train: {rates}; group the series or patients and split again."
    elif result["images_compared"]["basis"] == "content":
        yield f"{PASS}: near-duplicates in train: {rates}."
    else:
        yield f"{NOT_CHECKED}: near-duplicates among the images that were not there; among the others {rates}."


def _slices(result: Audit) -> Iterator[str]:
    neighbours = result["slice_neighbours"]
    if neighbours is None:
        yield f"{NOT_CHECKED}: neighbouring slices: the names of the test images tell no slice numbers."
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
    repeats = result["question_repeats"]["records"] - result["record_repeats"]["records"]
    if repeats:
        yield (
            f"{WARN}: {repeats:,} test questions ({repeats / result['n_test']:.1%}) have question and options word "
            "for word as in train, about another image; the answer can be recalled, so report them apart."
        )
    elif not result["question_repeats"]["records"]:
        yield f"{PASS}: no test question has question and options word for word as in train."


def _blind(result: Audit) -> Iterator[str]:
    # On few questions a rule is above chance by luck: two standard errors are no finding.
    luck = 2 * math.sqrt(result["chance"] * (1 - result["chance"]) / result["n_choice"])
    for rule, accuracy in result["blind"].items():
        if rule in FITTED and not result["n_train_choice"]:
            yield f"{NOT_CHECKED}: {RULE_NAMES[rule]}: no training question has one right option to learn from."
            continue
        above = accuracy - result["chance"]
        scores = f"{RULE_NAMES[rule]} reaches {accuracy:.1%} without any image; chance is {result['chance']:.1%}"
        if above > max(BLIND_MARGIN, luck):
            yield f"{FAIL if above > BLIND_FAIL else WARN}: {scores}; {MENDS[rule]}."
        elif luck > BLIND_FAIL:
            yield f"{NOT_CHECKED}: {scores}, and {result['n_choice']:,} questions are too few to tell that from luck."
        else:
            yield f"{PASS}: {scores}."


def _options(result: Audit) -> Iterator[str]:
    checks = result["options"]["test"]
    faults = checks["faults"]
    if not faults["folded_duplicates"] and not faults["conflicting_answers"]:
        yield f"{PASS}: no test question offers a text twice or contradicts another one about its image."
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
