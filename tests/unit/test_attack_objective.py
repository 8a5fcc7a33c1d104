"""What is forced before the letter, and what is pushed on, by hand."""

import math

import pytest
import torch
from torch.nn.functional import one_hot

from medr1.attack.objective import (
    Surrogate,
    letter_fork,
    letter_loss,
    margin,
    option_logits,
    surrogate,
    text_before_letter,
    text_logprob,
    with_target,
)
from medr1.models.loading import load_processor
from medr1.models.tiny import WARM_START


@pytest.fixture(scope="module")
def tokenizer():
    return load_processor(WARM_START).tokenizer


class JoiningTokenizer:
    """Joins ">" with the letter behind it, as byte-pair vocabularies may."""

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        assert not add_special_tokens
        return [1, 2, 100 + ord(text[-1])] if text[-2:-1] == ">" else [1, 2, 3, ord(text[-1])]


WORDS = Surrogate(ids=(3,), option_ids=(5, 6, 7), gold=1)


def test_margin_and_cross_entropy() -> None:
    logits = torch.tensor([[1.0, 2.0, 5.0], [0.0, 1.0, -torch.inf]])
    gold = torch.tensor([1, 1])
    assert margin(logits, gold).tolist() == [3, -1]
    two = [WORDS, WORDS]
    assert letter_loss("margin", logits, two).tolist() == [3, -1]
    expected = [math.log(math.e + math.e**2 + math.e**5) - 2, math.log(1 + math.e) - 1]
    assert letter_loss("ce", logits, two).tolist() == pytest.approx(expected, rel=1e-6)


def test_the_targeted_loss_leads_to_its_target() -> None:
    logits = torch.tensor([[1.0, 2.0, 5.0]])
    assert [with_target(WORDS, wrong).target for wrong in range(4)] == [2, 0, 2, 0]
    assert letter_loss("targeted", logits, [with_target(WORDS, 0)]).tolist() == [3]
    assert letter_loss("targeted", logits, [with_target(WORDS, 1)]).tolist() == [-4]


def test_options_that_a_sample_lacks_never_win() -> None:
    last = torch.arange(20.0).repeat(2, 1)
    few = Surrogate(ids=(), option_ids=(9, 4), gold=0)
    logits = option_logits(last, [WORDS, few])
    assert logits.tolist() == [[5, 6, 7], [9, 4, -math.inf]]


def test_letters_that_are_joined_with_the_sign_before_them() -> None:
    assert letter_fork(JoiningTokenizer(), "<answer>", 2) == ((1, 2), (100 + ord("A"), 100 + ord("B")))
    assert letter_fork(JoiningTokenizer(), "<answer> ", 2) == ((1, 2, 3), (ord("A"), ord("B")))


@pytest.mark.parametrize(
    ("completion", "letter", "form", "before"),
    [
        ("<think>A or C</think><answer>C</answer>", "C", "think", "<think>A or C</think><answer>"),
        ("<answer> (B) lung</answer>", "B", "nothink", "<answer> ("),
        ("B", "B", "letter", ""),
        ("<think>x</think><answer>Lung</answer>", "B", "think", None),
        ("<think>x</think><answer>Abscess</answer>", "A", "think", None),
        ("no tags", "A", "think", None),
    ],
)
def test_text_before_the_letter(completion: str, letter: str, form, before: str | None) -> None:
    assert text_before_letter(completion, letter, form) == before


def test_every_mode_forces_its_words(tokenizer) -> None:
    own = "<think>finding cyst</think><answer>B</answer>"

    def words(mode) -> Surrogate:
        return surrogate(mode, tokenizer, num_options=3, gold=1, answer_format="think", completion=own, letter="B")

    forced = {mode: tokenizer.decode(words(mode).ids) for mode in ("direct", "rationale", "joint", "stop")}
    assert forced == {
        "direct": "<answer>",
        "rationale": "<think>finding cyst</think><answer>",
        "joint": "<think>finding cyst</think><answer>",
        "stop": "<think></think><answer>",
    }
    assert [words(mode).text_sign for mode in ("direct", "rationale", "joint", "stop")] == [0, 0, -1, 1]
    assert [tokenizer.decode([i]) for i in words("joint").option_ids] == ["A", "B", "C"]
    assert words("joint").gold == 1


def test_without_a_letter_the_bare_tag_is_forced(tokenizer) -> None:
    one = surrogate(
        "joint", tokenizer, num_options=2, gold=0, answer_format="think", completion="I cannot", letter=None
    )
    assert (tokenizer.decode(one.ids), one.text_sign) == ("<answer>", 0)


def test_log_probability_of_forced_words() -> None:
    """Two samples of different length, padded on the left: the last column predicts the letter."""
    logits = torch.zeros(2, 3, 4)
    logits[0, 0, 2], logits[0, 1, 1] = 3.0, 1.0  # sample 0 forces (2, 1), predicted by columns 0 and 1
    logits[1, 1, 3] = 2.0  # sample 1 forces (3,), predicted by column 1
    long = Surrogate(ids=(2, 1), option_ids=(0, 1), gold=0, text_sign=1)
    short = Surrogate(ids=(3,), option_ids=(0, 1), gold=0, text_sign=-1)
    expected = [3 - math.log(math.e**3 + 3) + 1 - math.log(math.e + 3), -(2 - math.log(math.e**2 + 3))]
    assert text_logprob(logits, [long, short]).tolist() == pytest.approx(expected, rel=1e-6)
    silent = Surrogate(ids=(2, 1), option_ids=(0, 1), gold=0)
    assert text_logprob(logits, [silent, short])[0] == 0
    assert one_hot(torch.tensor(long.gold), 2)[0] == 1
