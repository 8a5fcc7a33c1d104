"""What a text names and denies, and what a thinking concludes: by hand, for rewards, evaluations and comparisons."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medr1.answers.wording import conclusion, mentioned
from medr1.eval.compare import names_gold
from medr1.eval.reasoning import score_consistency as _score_consistency
from medr1.rewards.ours import consistency
from medr1.types import Prediction, Sample
from written import as_written

score_consistency = as_written(_score_consistency)

ORGANS = ("Liver", "Lung", "Breast tissue", "Breast")


@pytest.mark.parametrize(
    ("thinking", "concluded"),
    [
        ("I see the lung.", 1),
        ("It looks like lung. But the texture is that of LIVER", 0),
        ("Lung. The image is sharp. No more to say.", 1),
        ("Breast tissue is shown", 2),
        ("breast is shown", 3),
        ("This is not the lung", None),
        ("Liver. This is not a lung.", 0),
        ("Liver rather than lung", 0),
        ("lung or liver", None),
        ("liver, although lung and breast are near.\nSo lung or liver.", None),
        ("Compared to the lung, this is liver.", 0),
        ("Liver in contrast to lung", 0),
        ("Contrast-enhanced liver", 0),
        ("It can't be the lung; isn't breast; so LIVER", 0),
        ("So it is breast\ntissue", 2),
        ("Finding: lung\nConclusion: liver", 0),
        ("Hence C", 2),
        ("Hence C.", 2),
        ("(B)", 1),
        ("The answer is C because of the border", 2),
        ("Option D fits", 3),
        ("The bright rim points to B.", 1),
        ("Hepatitis B", None),
        ("Grade B.", None),
        ("The answer is B.", 1),
        ("The answer is: (C)", 2),
        ("so option D", 3),
        ("Hence B) Lung", 1),
        ("Hence A) Lung", None),
        ("The answer is A lesion in the image", None),
        ("The answer is not B, it is A)", 0),
        ("not lung but liver", 0),
        ("That is not it, option A", 0),
        ("That is not it: A)", 0),
        ("No evidence of the lung", None),
        ("a) is a list", None),
        ("choice E.", None),
        ("livers and lungs", None),
        ("", None),
    ],
)
def test_the_last_sentence_that_names_one_option_decides(thinking: str, concluded: int | None) -> None:
    assert conclusion(thinking, ORGANS) == concluded


def test_options_that_deny_are_options() -> None:
    options = ("No tumor", "Tumor", "1.5 cm", "Yes, normal")
    assert conclusion("I find no tumor here.", options) == 0
    assert conclusion("There is a tumor.", options) == 1
    assert conclusion("Its size is 1.5 cm.", options) == 2
    assert conclusion("I say yes, normal", options) == 3


def test_what_a_longer_name_covers_is_not_named_again() -> None:
    assert mentioned("x ray of chest x ray", ["x ray", "chest x ray", ""]) == {0, 1}
    assert mentioned("chest x ray", ["x ray", "chest x ray"]) == {1}
    assert mentioned("no a b c lung", ["lung"]) == set()
    assert mentioned("no a b c d lung", ["lung"]) == {0}
    assert mentioned("no lung but here lung is fine and lung", ["lung"]) == {0}


@given(thinking=st.text(), options=st.lists(st.text(max_size=5), max_size=10))
def test_any_thinking_has_a_conclusion_among_the_options_or_none(thinking: str, options: list[str]) -> None:
    assert conclusion(thinking, options) in {None, *range(len(options))}


def test_reward_evaluation_and_comparison_read_alike() -> None:
    thinking, options = "Compared to MRI, this is CT.", ("CT", "MRI")
    completion = f"<think>{thinking}</think><answer>A</answer>"
    sample = Sample(id="1", images=(), question="?", options=options, answer_index=0)
    prediction = Prediction(
        id="1", variant="", draw=0, group="1", modality="CT", task="other", source="s", options=options, gold="A",
        prompt_style="think", completion=completion, answer="A", parse_status="ok", num_tokens=1,
    )  # fmt: skip
    scores = score_consistency([prediction])
    assert consistency(completion, sample).value == 1.0
    assert scores is not None
    assert scores["consistent"]["n"] == 1
    assert names_gold(prediction)


def test_the_tag_of_a_thinking_is_no_part_of_it() -> None:
    sample = Sample(id="1", images=(), question="?", options=("CT", "Think"), answer_index=0)
    assert consistency("<think>(A)</think><answer>A</answer>", sample).value == 1.0
