"""The six kinds of multiple-choice questions about a phantom.

Answers are uniform over their pool, distractors are uniform over the rest of it and the order of the options is random,
so that question and options alone say nothing about the answer.
"""

from dataclasses import dataclass

import numpy as np

from medr1.data.phantom.anatomy import ANATOMIES
from medr1.data.phantom.state import COUNTS, FINDINGS, MODALITY_WORDS, SIDES, SIZES, PhantomState
from medr1.types import Task

OPTIONS = 4
TWO_OPTIONS_SHARE = 0.15
"""Share of the questions that offer two options only."""


@dataclass(frozen=True, slots=True)
class QuestionKind:
    """What is asked, in which words, and what may be answered."""

    key: str
    """Key of `PhantomState.values()`, and the word for it in a rationale."""
    wordings: tuple[str, ...]
    pool: tuple[str, ...]
    """Every option text: one word each."""
    task: Task


QUESTIONS: dict[str, QuestionKind] = {
    "modality": QuestionKind(
        "modality",
        (
            "Which imaging modality is shown?",
            "What technique produced this image?",
            "How was this image acquired?",
        ),
        tuple(MODALITY_WORDS.values()),
        "Modality Recognition",
    ),
    "anatomy": QuestionKind(
        "anatomy",
        ("Which anatomy is imaged?", "What body part does this image show?", "What structure is depicted?"),
        tuple(ANATOMIES),
        "Anatomy Identification",
    ),
    "diagnosis": QuestionKind(
        "finding",
        ("What is the diagnosis?", "Which finding is present?", "What does this image reveal?"),
        FINDINGS,
        "Disease Diagnosis",
    ),
    "grading": QuestionKind(
        "size",
        ("What is the size grade of the lesion?", "How large is the lesion?", "Grade the size of the lesion."),
        SIZES,
        "Lesion Grading",
    ),
    "location": QuestionKind(
        "location",
        ("Where is the lesion?", "Which region holds the lesion?", "On which side is the lesion?"),
        tuple(SIDES),
        "Other Biological Attributes",
    ),
    "count": QuestionKind(
        "count",
        ("How many lesions are there?", "What is the number of lesions?", "Count the lesions."),
        COUNTS,
        "Other Biological Attributes",
    ),
}


@dataclass(frozen=True, slots=True)
class Question:
    """One wording with its options."""

    text: str
    options: tuple[str, ...]
    answer_index: int


def ask(state: PhantomState, kind: str, rng: np.random.Generator) -> Question:
    """A question of the given kind about the state."""
    spec = QUESTIONS[kind]
    answer = state.values()[spec.key]
    assert answer is not None, f"the state has no answer to a {kind} question"
    others = [word for word in spec.pool if word != answer]
    total = 2 if rng.random() < TWO_OPTIONS_SHARE else OPTIONS
    chosen = [answer, *(others[k] for k in rng.permutation(len(others))[: total - 1])]
    order = rng.permutation(total)
    return Question(
        text=spec.wordings[rng.integers(len(spec.wordings))],
        options=tuple(chosen[k] for k in order),
        answer_index=int(np.flatnonzero(order == 0)[0]),
    )
