"""Which questions ask the same thing, so that they can be asked in one wording with the answers of one another.

Published stems are paraphrases that a language model wrote, so a family is found from the answers: two stems of one
data set are of one family when they share an answer, directly or through others. Three rules go beyond that. The
answer to a yes/no question means nothing without it, so its family is what the question asks about. An answer that
finds nothing in the image goes with the diagnoses of its data set. And what imaging technique was used is one family
over all data sets, since the data set decides that answer alone.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from medr1.answers.wording import plain_words
from medr1.data.groups import UnionFind
from medr1.data.synonyms import NO_ABNORMALITY, finds_nothing, imaging_technique, tidy, topic
from medr1.types import Sample, Task

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
