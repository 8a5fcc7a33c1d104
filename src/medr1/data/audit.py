"""The audit of a split: what test shares with train, and how far one gets without looking at an image.

`audit` returns what `audit.json` holds; the definitions are those of the published audit of Med-R1's splits, so that
its figures come out to the printed digit. `verdicts` are lines that a person can act on: what is wrong, how much, and
what to do.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from medr1.data.blind import blind_hits, learning_curve
from medr1.data.describe import option_checks
from medr1.data.leakage import Pictures, leakage, near_duplicates, same_sample, shared_images, slice_neighbours
from medr1.data.questions import QuestionSet
from medr1.diagnosis import FAIL, LEAK_FAIL, LEVELS, NOT_CHECKED, PASS, WARN
from medr1.errors import DataError
from medr1.results.audited import Audited, AuditedPart, BlindAccuracies, PictureCounts, Shared
from medr1.stats import chance
from medr1.types import Sample

Flags = Mapping[str, NDArray[np.bool_]]
Hits = Mapping[str, NDArray[np.float64]]

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


def audit(train: QuestionSet, test: QuestionSet, *, seed: int = 0) -> Audited:
    """Compare two sets; what follows from train alone is fitted there.

    Blind rules answer the test questions that have one right option; a set without any is a `DataError`.
    """
    asked = [sample for sample in test.samples if sample.answer_index is not None]
    guessed = chance(asked)
    if guessed is None:
        raise DataError(f"{test.name} has no question with one right option, so no blind rule can answer it")
    fitted = [sample for sample in train.samples if sample.answer_index is not None]
    pictures = Pictures(train, test)
    flags = {name: np.array(found) for name, found in leakage(train, test, pictures).items()}
    scores = blind_hits(fitted, asked, seed)

    def parts(field: str) -> dict[str, AuditedPart]:
        return by_part(test.samples, asked, field, flags, scores)

    found = Audited(
        train=train.name,
        test=test.name,
        n_train=len(train.samples),
        n_test=len(test.samples),
        n_choice=len(asked),
        n_train_choice=len(fitted),
        groups_of_several_images=_groups_of_several(train) + _groups_of_several(test),
        **{name: _shared(shared) for name, shared in flags.items()},
        images_compared=pictures.summary(),
        shared_images=shared_images(train, test, pictures),
        same_samples=same_sample(train.samples, test.samples),
        images={"train": _image_counts(train), "test": _image_counts(test)},
        near_duplicates=near_duplicates(train, test),
        slice_neighbours=slice_neighbours(train, test, pictures=pictures),
        chance=guessed,
        blind=_blind(scores),
        learning_curve=learning_curve(fitted, asked, seed),
        by_modality=parts("modality"),
        by_task=parts("task"),
        by_source=parts("source"),
        options={"train": option_checks(train), "test": option_checks(test)},
        verdicts=(),
    )
    return found.model_copy(update={"verdicts": verdicts(found)})


def by_part(
    samples: Sequence[Sample], asked: Sequence[Sample], field: str, flags: Flags, scores: Hits
) -> dict[str, AuditedPart]:
    """Leakage and blind accuracies of the test questions of each modality, task or source.

    `flags` belong to `samples`, `scores` to those of them that have one right option (`asked`).
    """
    of_sample = np.array([getattr(sample, field) for sample in samples])
    of_asked = np.array([getattr(sample, field) for sample in asked])
    return {
        name: AuditedPart(
            n=count,
            image_leakage=_shared(flags["image_leakage"][of_sample == name]),
            question_repeats=_shared(flags["question_repeats"][of_sample == name]),
            chance=chance(sample for sample in asked if getattr(sample, field) == name),
            blind=_blind({rule: values[of_asked == name] for rule, values in scores.items()}),
        )
        for name, count in sorted(Counter(of_sample.tolist()).items())
    }


def _shared(flags: NDArray[np.bool_]) -> Shared:
    return Shared(records=int(flags.sum()), share=float(flags.mean()))


def _blind(scores: Hits) -> BlindAccuracies:
    return BlindAccuracies(**{rule: float(np.mean(values)) if len(values) else None for rule, values in scores.items()})


def _groups_of_several(questions: QuestionSet) -> int:
    """Groups that say more than which image is shown: those with several images."""
    images: defaultdict[str, set[str]] = defaultdict(set)
    for sample, shown in zip(questions.samples, questions.images, strict=True):
        if sample.group:
            images[sample.group].update(image.identity for image in shown)
    return sum(len(found) > 1 for found in images.values())


def _image_counts(questions: QuestionSet) -> PictureCounts:
    images = questions.fingerprints()
    return PictureCounts(
        distinct=len({image.identity for image in images}),
        hashed=sum(image.pixel_hash is not None for image in images),
        missing=sum(image.pixel_hash is None for image in images),
    )


# Verdicts ------------------------------------------------------------------------------------------------------------


def verdicts(result: Audited) -> tuple[str, ...]:
    """One line a finding, `fail: …`, `warn: …`, `not checked: …` or `pass: …`, the gravest first.

    Every check has a line, so that a missing one does not read as a pass; what the data do not tell is not checked.
    """
    found = [line for check in CHECKS for line in check(result)]
    return tuple(sorted(found, key=lambda line: LEVELS.index(line.partition(":")[0])))


def _of_images(result: Audited) -> Iterator[str]:
    leak, compared = result.image_leakage, result.images_compared
    if leak.records:
        level = FAIL if leak.share > LEAK_FAIL else WARN
        by = ", ".join(f"{count:,} by {basis}" for basis, count in compared.found_by.items() if count)
        yield (
            f"{level}: {leak.records:,} of {result.n_test:,} test questions ({leak.share:.1%}) "
            f"show an image that is also in train ({by}); split again by image with `medr1 data split`."
        )
    elif compared.basis == "content":
        yield f"{PASS}: no test image is in train (all images of both were compared by content)."
    if compared.basis is None:
        yield f"{NOT_CHECKED}: whether test images are in train: one of the two shows no images."
    elif compared.basis != "content":
        missing = ", ".join(
            f"{counts.missing:,} of the {part}" for part, counts in result.images.items() if counts.missing
        )
        yield (
            f"{NOT_CHECKED}: whether test images are in train under another name: {missing} images were not there, "
            "so those were compared by name only; give --image-root."
        )
    if compared.other_pixels:
        yield (
            f"{WARN}: {compared.other_pixels:,} test questions show an image with folders and name of a training "
            "image but other pixels: a copy of another size, or another image; see the near-duplicates."
        )


def _of_groups(result: Audited) -> Iterator[str]:
    extra = result.group_leakage.records - result.image_leakage.records
    if extra > 0:
        yield (
            f"{FAIL}: {extra:,} more test questions belong to a group (patient or series) that is also in train; split "
            "again by group with `medr1 data split`."
        )
    elif result.groups_of_several_images:
        yield f"{PASS}: no further test question belongs to a group (patient or series) that is in train."
    else:
        yield f"{NOT_CHECKED}: patients and series: no group of several images is known."


def _of_records(result: Audited) -> Iterator[str]:
    same = max(result.record_repeats.records, result.same_samples)
    if same:
        yield (
            f"{FAIL}: {same:,} test questions are in train as they are, image, question and options; remove them from "
            "one of the two, and never evaluate on another axis than the one trained on."
        )
    elif result.images_compared.basis == "content":
        yield f"{PASS}: no test question is in train with the same image, question and options."


def _of_near(result: Audited) -> Iterator[str]:
    near = result.near_duplicates
    if near is None:
        yield f"{NOT_CHECKED}: near-duplicates, because no image files were there to look at; give --image-root."
        return
    rates = f"{near.rate:.1%} of the test images, against {near.expected_rate:.1%} expected of unrelated ones"
    if near.rate - near.expected_rate > NEAR_MARGIN:
        yield f"{FAIL}: near-duplicates in train: {rates}; group the series or patients and split again."
    elif result.images_compared.basis == "content":
        yield f"{PASS}: near-duplicates in train: {rates}."
    else:
        yield f"{NOT_CHECKED}: near-duplicates among the images that were not there; among the others {rates}."


def _of_slices(result: Audited) -> Iterator[str]:
    neighbours = result.slice_neighbours
    if neighbours is None:
        yield f"{NOT_CHECKED}: neighbouring slices: the names of the test images tell no slice numbers."
        return
    share = neighbours[GAP].share
    if share > SLICE_WARN:
        yield (
            f"{FAIL}: {share:.1%} of the test slices have a training slice of the same series within {GAP} numbers; "
            "split by blocks of slices with `medr1 data split`."
        )
    else:
        yield f"{PASS}: {share:.1%} of the test slices have a training slice within {GAP} numbers."


def _of_questions(result: Audited) -> Iterator[str]:
    repeats = result.question_repeats.records - result.record_repeats.records
    if repeats:
        yield (
            f"{WARN}: {repeats:,} test questions ({repeats / result.n_test:.1%}) have question and options word "
            "for word as in train, about another image; the answer can be recalled, so report them apart."
        )
    elif not result.question_repeats.records:
        yield f"{PASS}: no test question has question and options word for word as in train."


def _of_blind(result: Audited) -> Iterator[str]:
    # On few questions a rule is above chance by luck: two standard errors are no finding.
    luck = 2 * math.sqrt(result.chance * (1 - result.chance) / result.n_choice)
    for rule, accuracy in result.blind:
        if accuracy is None or (rule in FITTED and not result.n_train_choice):
            yield f"{NOT_CHECKED}: {RULE_NAMES[rule]}: no training question has one right option to learn from."
            continue
        above = accuracy - result.chance
        scores = f"{RULE_NAMES[rule]} reaches {accuracy:.1%} without any image; chance is {result.chance:.1%}"
        if above > max(BLIND_MARGIN, luck):
            yield f"{FAIL if above > BLIND_FAIL else WARN}: {scores}; {MENDS[rule]}."
        elif luck > BLIND_FAIL:
            yield f"{NOT_CHECKED}: {scores}, and {result.n_choice:,} questions are too few to tell that from luck."
        else:
            yield f"{PASS}: {scores}."


def _of_options(result: Audited) -> Iterator[str]:
    checks = result.options["test"]
    faults = checks.faults
    if not faults.folded_duplicates and not faults.conflicting_answers:
        yield f"{PASS}: no test question offers a text twice or contradicts another one about its image."
    unfair = {"ambiguous_gold": "have two right letters", "conflicting_answers": "contradict another record's answer"}
    for name, what in unfair.items():
        if count := getattr(faults, name):
            yield f"{WARN}: {count:,} test questions {what} ({name}); remove or correct them."
    if faults.folded_duplicates:
        twice = faults.folded_duplicates
        yield f"{WARN}: {twice:,} test questions offer the same text twice; replace one of the twins."
    for item in checks.one_sided[:1]:
        if item.share > 0.9:
            yield (
                f"{WARN}: among {' / '.join(item.options)} the answer is {item.answer!r} in {item.share:.1%} "
                f"of {item.n:,} test questions; balance the answers or leave the family out."
            )


CHECKS: tuple[Callable[[Audited], Iterator[str]], ...] = (
    _of_images,
    _of_groups,
    _of_records,
    _of_near,
    _of_slices,
    _of_questions,
    _of_blind,
    _of_options,
)
"""Each turns an audit into its lines."""
