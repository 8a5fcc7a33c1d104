"""Thinking that speaks about another image: it names a modality or an anatomy, and none that the record has.

Words only: what is named with words that the lists do not know, or after a denial, is not seen, and a thinking that
names the record's own beside another is never counted. Questions that ask for the modality (or the anatomy) are left
out: naming another one there is a wrong answer.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from medr1.answers.wording import clauses, denied, mentioned, plain_words
from medr1.data.synonyms import IMAGING, exclusive
from medr1.eval.compare import thinking_of
from medr1.eval.measures import group_of, share
from medr1.types import LETTERS, Modality, Prediction, Sample

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


def score_contradictions(predictions: Sequence[Prediction], anatomies: Mapping[str, str]) -> dict[str, Any]:
    """`{modality, anatomy}`, each `{n, named, contradicting: {share, ci95}}`; None where no record knows its own.

    `n` counts thinkings whose record knows it, `named` those that name any, and the share is of `n`.
    """
    modality = [p for p in predictions if p.modality not in ("unknown", "other") and p.task != "Modality Recognition"]
    anatomy = [p for p in predictions if p.id in anatomies and not _asks_for_anatomy(p)]
    asked = [option for p in predictions if _asks_for_anatomy(p) for option in p.options]
    vocabulary = sorted({plain_words(text) for text in (*anatomies.values(), *asked)})
    named_modalities = [modalities_named(thinking_of(p.completion)) for p in modality]
    named_anatomies = [mentioned(thinking_of(p.completion), vocabulary) for p in anatomy]
    return {
        "modality": _score(
            modality,
            [bool(named) for named in named_modalities],
            [bool(named) and p.modality not in named for p, named in zip(modality, named_modalities, strict=True)],
        ),
        "anatomy": _score(
            anatomy,
            [bool(named) for named in named_anatomies],
            [
                bool(named) and all(exclusive(vocabulary[i], anatomies[p.id]) for i in named)
                for p, named in zip(anatomy, named_anatomies, strict=True)
            ],
        ),
    }


def _score(predictions: Sequence[Prediction], named: Sequence[bool], hits: Sequence[bool]) -> dict[str, Any] | None:
    if not predictions:
        return None
    groups = [group_of(prediction) for prediction in predictions]
    return {"n": len(predictions), "named": sum(named), "contradicting": share(hits, groups, "share")}


def _asks_for_anatomy(prediction: Prediction) -> bool:
    return prediction.task == "Anatomy Identification"


def _position(prediction: Prediction) -> int:
    return LETTERS.index(prediction.gold or "")
