"""Options that speak of others, labels, letters that are left out."""

import numpy as np
import pytest

from medr1.answers.wording import word_rows
from medr1.data.options import keeps_order, options_refer, without_labels
from medr1.prompts import question_text
from medr1.stats import chance
from medr1.train.dataset import reordered
from medr1.types import LETTERS, Sample
from medr1.variants import VARIANTS

REFERRING = [
    ("Right upper", "Right lower", "Both A and B", "None of the above"),
    ("Left", "Right", "Both"),
    ("CT", "MRI", "all of the above."),
    ("A", "B", "C", "D"),
    ("CT", "MRI", "Neither A nor B"),
    ("CT", "MRI", "X-ray", "A, B, and C"),
    ("CT", "MRI", "(A) & (B)"),
    ("CT", "MRI", "B only"),
    ("CT", "MRI", "None of these"),
    ("CT", "MRI", "A和B都是"),
    ("CT", "MRI", "A、B均正确"),
    ("CT", "MRI", "以上都不是"),
    ("CT", "MRI", "仅A"),
]
PLAIN = [
    ("CT", "MRI"),
    ("Hepatitis A and B", "Hepatitis C"),
    ("5 cm以上", "5 cm以下"),
    ("E. coli", "S. aureus"),
    ("Above the diaphragm", "Below the diaphragm"),
    ("Both lungs", "Left lung"),
    ("Vitamin A", "Vitamin D"),
    ("T", "S"),
    ("a", "b", "c"),
    ("A lesion", "No"),
    ("Normal", "All leads are displaced"),
]


def ask(*options: str, gold: int = 0) -> Sample:
    return Sample(id="1", images=(), question="Which?", options=options, answer_index=gold)


@pytest.mark.parametrize("options", REFERRING)
def test_options_that_speak_of_others_keep_their_order(options: tuple[str, ...]):
    sample = ask(*options, gold=len(options) - 1)
    assert options_refer(sample)
    assert all(reordered(sample, np.random.default_rng(seed)) == sample for seed in range(5))
    assert VARIANTS["rotated1"].prepare([sample], seed=0) == []


@pytest.mark.parametrize("options", PLAIN)
def test_other_options_may_be_drawn_in_any_order(options: tuple[str, ...]):
    sample = ask(*options)
    assert not keeps_order(sample)
    assert len({reordered(sample, np.random.default_rng(seed)).options for seed in range(20)}) > 1
    assert len(VARIANTS["rotated1"].prepare([sample], seed=0)) == 1


def test_every_line_of_the_table_is_found():
    for row in word_rows("option_references", "medr1.data"):
        assert options_refer(ask("CT", "MRI", row["words"].replace("{letters}", "A and B"))), row


def test_a_letter_that_is_left_out_stays_left_out():
    sample = ask("", "axial", "coronal", "sagittal", gold=2)
    assert sample.gold == "C"
    assert question_text(sample, "lines") == "Which?\nB) axial\nC) coronal\nD) sagittal"
    assert question_text(sample, "inline") == "Which? B)axial, C)coronal, D)sagittal"
    assert keeps_order(sample)
    assert not options_refer(sample)
    assert chance([sample]) == pytest.approx(1 / 3)


def test_labels_are_taken_off_where_all_options_have_their_own():
    assert without_labels(["A. CT", " (B) MRI", "c: X-ray", "D、PET"]) == ("CT", "MRI", "X-ray", "PET")
    assert without_labels(["", "B. MRI", "C. CT"]) == ("", "MRI", "CT")
    for options in (("A. CT", "MRI"), ("E. coli", "S. aureus"), ("A lesion", "B lesion")):
        assert without_labels(options) == options
    assert keeps_order(ask("A. CT", "MRI"))


def test_there_are_twenty_six_letters():
    assert ask(*LETTERS.lower(), gold=25).gold == "Z"
