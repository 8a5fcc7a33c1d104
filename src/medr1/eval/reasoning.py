"""Reasoning: does the answer follow from the thinking, and does the thinking speak about this image?

What a thinking concludes is read by a rule, not by a model (`medr1.answers.wording`, by which the reward for
consistency and the comparison of runs read too). So `no_conclusion` is no fault of the model, and a sample of each
outcome should be read by a person before the shares are believed.

A thinking speaks about another image where it names a modality or an anatomy, and none that the record has. What is
named with words that the lists do not know, or after a denial, is not seen, and a thinking that names the record's own
beside another is never counted. Questions that ask for the modality (or the anatomy) are left out: naming another one
there is a wrong answer.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medr1.answers.wording import clauses, conclusion, denied, mentioned, plain_words
from medr1.data.synonyms import IMAGING, exclusive
from medr1.engines.engine import Engine
from medr1.errors import DataError
from medr1.eval.compare import thinking_of
from medr1.eval.measures import group_of, is_right
from medr1.eval.runner import Asking, Progress, evaluate, read_predictions
from medr1.eval.scoring import score_thinking
from medr1.records import short_hash
from medr1.results.answered import Conclusion, Consistency, Contradicting, Contradictions, Lengths, Thinking, Words
from medr1.results.evaluated import Intervention
from medr1.stats import proportion
from medr1.types import LETTERS, Modality, Prediction, Sample
from medr1.variants import VARIANTS
from medr1.variants.controls import chosen_option
from medr1.variants.thinking import COMPLETION_PREFIX

_MODALITY_OF: dict[str, Modality] = {
    "X-ray": "X-Ray",
    "Mammography": "X-Ray",
    "Computed tomography (CT)": "CT",
    "Magnetic resonance imaging (MRI)": "MRI",
    "Ultrasound": "Ultrasound",
    "Dermoscopy": "Dermoscopy",
    "Optical coherence tomography (OCT)": "OCT",
    "Fundus photography": "Fundus",
    "Microscopy": "Microscopy",
}
"""Modality of the records by the name that `medr1.data.synonyms` gives an imaging technique."""
_PATTERNS: list[tuple[re.Pattern[str], Modality]] = [
    *((re.compile(rf"(?<!\S)(?:{pattern})(?!\S)"), _MODALITY_OF[name]) for pattern, name in IMAGING),
    (re.compile(r"(?<!\S)radiographs?(?!\S)"), "X-Ray"),
    (re.compile(r"(?<!\S)sonogra\w+"), "Ultrasound"),
]


def score_reasoning(predictions: Sequence[Prediction], anatomies: Mapping[str, str]) -> Thinking:
    """All that saved predictions of the original images tell about their thinking.

    `anatomies` is the anatomy of the image by prediction id, where it is known. `n` counts predictions with thinking.
    """
    thinking = [prediction for prediction in predictions if thinking_of(prediction.completion)]
    return Thinking(
        n=len(thinking),
        without_thinking=len(predictions) - len(thinking),
        consistency=score_consistency(thinking),
        contradictions=score_contradictions(thinking, anatomies),
        words=score_lengths(thinking),
    )


def score_consistency(predictions: Sequence[Prediction]) -> Consistency | None:
    """Shares of the readable answers that their thinking concludes, contradicts or leaves open.

    Each with the `accuracy` of those answers: where `inconsistent` ones are as often right as others, the thinking does
    not carry the answer. None where no answer can be read.
    """
    readable = [prediction for prediction in predictions if chosen_option(prediction) is not None]
    if not readable:
        return None
    outcomes = [_consistency(prediction) for prediction in readable]
    groups = [group_of(prediction) for prediction in readable]

    def part(name: str) -> Conclusion:
        found = [p for p, outcome in zip(readable, outcomes, strict=True) if outcome == name]
        return Conclusion(
            n=len(found),
            share=proportion([outcome == name for outcome in outcomes], groups),
            accuracy=sum(map(is_right, found)) / len(found) if found else None,
        )

    return Consistency(
        n=len(readable),
        unreadable=len(predictions) - len(readable),
        consistent=part("consistent"),
        inconsistent=part("inconsistent"),
        no_conclusion=part("no_conclusion"),
    )


def _consistency(prediction: Prediction) -> str:
    concluded = conclusion(thinking_of(prediction.completion), prediction.options)
    if concluded is None:
        return "no_conclusion"
    letter = LETTERS.index(prediction.answer or "")
    return "consistent" if concluded == letter else "inconsistent"


def score_lengths(predictions: Sequence[Prediction]) -> Words:
    """Words of thinking: mean, median, 5 and 95 % quantiles and most, over all, right and other answers."""
    right = [is_right(prediction) for prediction in predictions]
    words = np.array([len(thinking_of(prediction.completion).split()) for prediction in predictions], dtype=float)
    kept = np.array(right, dtype=bool)
    return Words(all=_lengths(words), right=_lengths(words[kept]), not_right=_lengths(words[~kept]))


def _lengths(words: np.ndarray) -> Lengths | None:
    if not len(words):
        return None
    q05, median, q95 = np.quantile(words, (0.05, 0.5, 0.95)).tolist()
    return Lengths(mean=float(words.mean()), median=median, q05=q05, q95=q95, max=float(words.max()))


def modalities_named(thinking: str) -> set[Modality]:
    """Modalities that a thinking names and does not deny.

    >>> sorted(modalities_named("This axial CT, not an MRI, shows a chest radiograph."))
    ['CT', 'X-Ray']
    """
    text = clauses(thinking)
    return {
        modality
        for pattern, modality in _PATTERNS
        if any(not denied(text[: match.start()]) for match in pattern.finditer(text))
    }


def known_anatomies(predictions: Iterable[Prediction], samples: Iterable[Sample] = ()) -> dict[str, str]:
    """Anatomy of the image by prediction id: what the record says, else what a question about the same image says."""
    by_group = {
        p.group: p.options[_position(p)] for p in predictions if _asks_for_anatomy(p) and p.group and p.gold is not None
    }
    known = {p.id: by_group[p.group] for p in predictions if p.group in by_group}
    return known | {sample.id: sample.extra["anatomy"] for sample in samples if sample.extra.get("anatomy")}


def score_contradictions(predictions: Sequence[Prediction], anatomies: Mapping[str, str]) -> Contradictions:
    """Thinkings that speak about another image, by what they contradict.

    `n` counts thinkings whose record knows it, `named` those that name any, and the share is of `n`.
    """
    modality = [p for p in predictions if p.modality not in ("unknown", "other") and p.task != "Modality Recognition"]
    anatomy = [p for p in predictions if p.id in anatomies and not _asks_for_anatomy(p)]
    asked = [option for p in predictions if _asks_for_anatomy(p) for option in p.options]
    vocabulary = sorted({plain_words(text) for text in (*anatomies.values(), *asked)})
    named_modalities = [modalities_named(thinking_of(p.completion)) for p in modality]
    named_anatomies = [mentioned(thinking_of(p.completion), vocabulary) for p in anatomy]
    return Contradictions(
        modality=_contradicting(
            modality,
            [bool(named) for named in named_modalities],
            [bool(named) and p.modality not in named for p, named in zip(modality, named_modalities, strict=True)],
        ),
        anatomy=_contradicting(
            anatomy,
            [bool(named) for named in named_anatomies],
            [
                bool(named) and all(exclusive(vocabulary[i], anatomies[p.id]) for i in named)
                for p, named in zip(anatomy, named_anatomies, strict=True)
            ],
        ),
    )


def _contradicting(
    predictions: Sequence[Prediction], named: Sequence[bool], hits: Sequence[bool]
) -> Contradicting | None:
    if not predictions:
        return None
    groups = [group_of(prediction) for prediction in predictions]
    return Contradicting(n=len(predictions), named=sum(named), contradicting=proportion(hits, groups))


def _asks_for_anatomy(prediction: Prediction) -> bool:
    return prediction.task == "Anatomy Identification"


def _position(prediction: Prediction) -> int:
    return LETTERS.index(prediction.gold or "")


def intervene(
    name: str,
    samples: Sequence[Sample],
    predictions: Sequence[Prediction],
    engine: Engine,
    asking: Asking,
    *,
    out: Path,
    progress: Progress | None = None,
) -> Intervention:
    """Answer anew after another thinking (`VARIANTS["thinking:" + name]`), and score that.

    It is an evaluation in `out`, where a killed one goes on. `predictions` are those of the original images and of the
    same prompt and sampling. Raises `DataError` where none of them has thinking and an answer.
    """
    changed = VARIANTS[f"thinking:{name}"].prepare(samples, asking.seed, predictions)
    prepared = [replace(sample, variant="") for sample in changed]
    if not prepared:
        raise DataError(
            f"no answer of these samples has a closed think block, so {name!r} thinking cannot be put into one; "
            "evaluate with a prompt that asks for thinking, on the data that the run was made on"
        )
    told = {"thinking": name, "prefixes": short_hash([s.extra[COMPLETION_PREFIX] for s in prepared])}
    asking = replace(asking, params=replace(asking.params, num_draws=1), arguments=told)
    evaluate(prepared, engine, asking, out=out, progress=progress)
    return score_thinking(predictions, read_predictions(out), prepared)
