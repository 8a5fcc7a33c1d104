"""What the options of a question set give away, and what is wrong with them."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from medr1.answers.wording import plain_words
from medr1.data.options import options_refer
from medr1.data.questions import QuestionSet
from medr1.data.shortcuts import format_rule
from medr1.types import LETTERS, Sample

TOP = 10
"""Most frequent texts and most one-sided option sets that are listed."""
MIN_ASKED = 20
"""An option set asked less often says nothing about its answers."""


def option_checks(questions: QuestionSet) -> dict[str, Any]:
    """Distributions of the answers, faults of the options and format giveaways of a set, for its `audit.json`."""
    asked = [sample for sample in questions.samples if sample.answer_index is not None]
    return {
        "gold_letters": gold_letters(asked),
        "gold_texts": gold_texts(asked),
        "one_sided": one_sided(asked),
        "faults": faults(questions),
        "format_giveaways": format_giveaways(asked),
    }


def gold_letters(samples: Iterable[Sample]) -> dict[str, int]:
    """How often each letter is right."""
    counts = Counter(sample.gold for sample in samples if sample.gold is not None)
    return {letter: counts[letter] for letter in LETTERS if letter in counts}


def gold_texts(samples: Sequence[Sample]) -> dict[str, Any]:
    """How few texts are ever right: distinct right and wrong texts, and the share of wrong options never right.

    Texts are compared as written, but for case and outer punctuation (`normalise`).
    """
    gold, wrong = Counter[str](), Counter[str]()
    for sample in samples:
        for position, option in enumerate(sample.options):
            (gold if position == sample.answer_index else wrong)[plain_words(option)] += 1
    never = sum(count for text, count in wrong.items() if text not in gold)
    return {
        "distinct": len(gold),
        "distinct_distractors": len(wrong),
        "distractors_never_right": never / wrong.total() if wrong else 0.0,
        "top": dict(gold.most_common(TOP)),
    }


def one_sided(samples: Iterable[Sample], min_asked: int = MIN_ASKED) -> list[dict[str, Any]]:
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
            found.append(
                {"options": list(options), "n": counts.total(), "answer": text, "share": count / counts.total()}
            )
    found.sort(key=lambda item: (item["n"] * (1 / len(item["options"]) - item["share"]), item["options"]))
    return found[:TOP]


def faults(questions: QuestionSet) -> dict[str, int]:
    """Questions that cannot be answered fairly, counted by fault.

    - `duplicate_options`: two options are the same text; `folded_duplicates`: they differ in case or punctuation only;
    - `ambiguous_gold`: the right option is among such twins, so that two letters are right;
    - `conflicting_answers`: another record asks the same of the same image and gives another text as right;
    - `several_true`: an option is another record's right answer to the same question about the same image;
    - `options_that_refer`: an option speaks of others ("Both A and B"), so that their order is kept everywhere.
    """
    counts = Counter[str]()
    right: defaultdict[tuple[Any, ...], set[str]] = defaultdict(set)
    keys_of = [
        [(key, s.question) for image in images for key in image.keys]
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
    names = ("duplicate_options", "folded_duplicates", "ambiguous_gold", "conflicting_answers", "several_true")
    return {name: counts[name] for name in (*names, "options_that_refer")}


def format_giveaways(samples: Sequence[Sample]) -> dict[str, float]:
    """How the right options are written, beside the wrong ones, and how far the format rule gets with that.

    `coverage` is the share of questions in which the rule picks one option, `hit_rate` how often that one is right.
    """
    right = [s.options[s.answer_index] for s in samples if s.answer_index is not None]
    wrong = [option for s in samples for i, option in enumerate(s.options) if i != s.answer_index]
    picks = [(format_rule(sample), sample) for sample in samples]
    decided = [(pick[0], sample) for pick, sample in picks if len(pick) == 1 < len(sample.options)]
    return {
        "coverage": len(decided) / max(len(samples), 1),
        "hit_rate": sum(pick == sample.answer_index for pick, sample in decided) / max(len(decided), 1),
        "gold_lower_case": _share(right, _is_lower),
        "distractor_lower_case": _share(wrong, _is_lower),
        "gold_full_stop": _share(right, _has_stop),
        "distractor_full_stop": _share(wrong, _has_stop),
        "gold_mean_length": sum(map(len, right)) / max(len(right), 1),
        "distractor_mean_length": sum(map(len, wrong)) / max(len(wrong), 1),
    }


def _share(texts: Sequence[str], has: Any) -> float:
    return sum(map(has, texts)) / max(len(texts), 1)


def _is_lower(text: str) -> bool:
    return text[:1].islower()


def _has_stop(text: str) -> bool:
    return text.endswith(".")
