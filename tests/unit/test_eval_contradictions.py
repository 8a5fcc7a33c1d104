"""Thinking that names another modality or anatomy than the record."""

from dataclasses import replace

import pytest

from medr1.data.synonyms import IMAGING
from medr1.eval.reasoning import known_anatomies, modalities_named
from medr1.eval.reasoning import score_contradictions as _score_contradictions
from medr1.types import Prediction, Sample
from written import as_written

score_contradictions = as_written(_score_contradictions)

BASE = Prediction(
    id="q",
    variant="",
    draw=0,
    group="image",
    modality="CT",
    task="Disease Diagnosis",
    source="s",
    options=("Cyst", "Tumor"),
    gold="A",
    prompt_style="think",
    completion="",
    answer="A",
    parse_status="ok",
    num_tokens=1,
)


def thinks(text: str, **changes) -> Prediction:
    return replace(BASE, completion=f"<think>{text}</think><answer>A</answer>", **changes)


@pytest.mark.parametrize(
    ("thinking", "named"),
    [
        ("This CT scan shows a cyst", {"CT"}),
        ("An axial computed tomography image", {"CT"}),
        ("An MR image; T2", {"MRI"}),
        ("OCT of the macula", {"OCT"}),
        ("the chest X-ray", {"X-Ray"}),
        ("a radiograph", {"X-Ray"}),
        ("mammogram", {"X-Ray"}),
        ("colour fundus photography", {"Fundus"}),
        ("fundus of high myopia", set()),
        ("sonographic view, ultrasound", {"Ultrasound"}),
        ("light microscopy and histopathology", {"Microscopy"}),
        ("dermoscopic image: dermoscopy", {"Dermoscopy"}),
        ("not a CT but an MRI", {"MRI"}),
        ("octagonal, factory, district", set()),
    ],
)
def test_modalities_in_running_text(thinking: str, named: set[str]) -> None:
    assert modalities_named(thinking) == named


def test_every_imaging_technique_of_the_list_is_known() -> None:
    for _, name in IMAGING:
        assert len(modalities_named(f"This is {name}.")) == 1, name


def test_only_naming_another_and_not_its_own_contradicts() -> None:
    predictions = [
        thinks("This MRI shows a cyst", id="1"),
        thinks("Unlike an MRI, this CT", id="2"),
        thinks("MRI or CT", id="3"),
        thinks("a cyst", id="4"),
        thinks("This MRI", id="5", modality="unknown"),
        thinks("This MRI", id="6", task="Modality Recognition"),
    ]
    scores = score_contradictions(predictions, {})["modality"]
    assert scores is not None
    assert (scores["n"], scores["named"], scores["contradicting"]["share"]) == (4, 3, 0.25)
    assert score_contradictions(predictions[4:], {}) == {"modality": None, "anatomy": None}


def test_anatomy_is_known_from_the_record_or_from_a_question_about_the_same_image() -> None:
    asked = thinks(
        "", id="a", task="Anatomy Identification", options=("Liver", "Lung", "Portal vein"), gold="B", group="i1"
    )
    same, other = replace(BASE, id="b", group="i1"), replace(BASE, id="c", group="i2")
    sample = Sample(id="c", images=(), question="?", extra={"anatomy": "Knee"})
    assert known_anatomies([asked, same, other]) == {"a": "Lung", "b": "Lung"}
    assert known_anatomies([asked, same, other], [sample]) == {"a": "Lung", "b": "Lung", "c": "Knee"}
    assert known_anatomies([replace(asked, group="")]) == {}


def test_another_anatomy_contradicts_unless_it_may_be_true_too() -> None:
    asked = thinks("", id="a", task="Anatomy Identification", options=("Liver", "Lung", "Portal vein"), gold="A")
    predictions = [
        asked,
        thinks("The lung shows a cyst", id="1"),
        thinks("The liver shows a cyst, not the lung", id="2"),
        thinks("The portal vein in the liver", id="3"),
        thinks("The portal vein", id="4"),
        thinks("Knee", id="5"),
        thinks("The portal vein and the lung", id="6"),
    ]
    anatomies = dict.fromkeys(("1", "2", "3", "4", "5", "6"), "Liver")
    scores = score_contradictions(predictions, anatomies)["anatomy"]
    assert scores is not None
    # A portal vein lies in the liver; no record names a knee, so the word is not in the vocabulary.
    assert (scores["n"], scores["named"], scores["contradicting"]["share"]) == (6, 5, 1 / 6)
