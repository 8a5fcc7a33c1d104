"""What the table of protocols says, worked out by hand."""

import pytest

from medr1.answers import PROTOCOLS, YES_NO_ONLY, is_refusal
from medr1.eval.measures import key_of, protocol_for, spread
from medr1.eval.measures import score_protocols as _score_protocols
from medr1.eval.stored.run import prediction_of
from medr1.results.evaluated import ProtocolScore
from medr1.types import Sample
from written import as_written

score_protocols = as_written(_score_protocols)

OPTIONS = ("CT", "Breast tissue", "MRI", "X-ray")
REFUSAL = "I'm sorry, I cannot determine this from the image."


def scored(texts: list[str], options: tuple[str, ...] = OPTIONS, style: str = "other") -> dict:
    samples = [
        Sample(id=str(i), images=(), question="?", options=options, answer_index=1, group=str(i))
        for i in range(len(texts))
    ]
    predictions = [prediction_of(s, text, 0, style) for s, text in zip(samples, texts, strict=True)]
    return score_protocols(predictions, {key_of(s): s for s in samples})


def test_shares_by_hand() -> None:
    table = scored(["<answer>B</answer>", REFUSAL, "no idea", "B"])
    assert set(table) == set(PROTOCOLS) - YES_NO_ONLY
    default = table["default"]
    assert (default["n"], default["accuracy"], default["unreadable"], default["refused"]) == (4, 0.5, 0.5, 0.25)
    assert default["refused_but_read"] == 0
    # An answer that is no option is not read, although something was extracted.
    assert table["med-r1/zeroshot"]["unreadable"] == 0.75
    # The longest option attracts the refusal and the gibberish.
    kit = table["medevalkit@9b12e3b/A.text"]
    assert (kit["unreadable"], kit["refused"], kit["refused_but_read"]) == (0, 0, 0.25)
    assert kit["accuracy"] >= 0.75
    # Only the bare letter is read; three of four are drawn from four options.
    guesses = table["lmms-medqa@75571cf"]
    assert (guesses["accuracy"], guesses["unreadable"]) == (0.25, 0.75)
    assert guesses["with_guesses"] == pytest.approx((1 + 3 / 4) / 4)
    assert "with_guesses" not in default


def test_the_name_of_an_option_is_no_refusal() -> None:
    options = ("Benign", "Cannot determine the answer")
    assert is_refusal(options[1])
    default = scored([options[1]], options)["default"]
    assert (default["refused"], default["refused_but_read"]) == (0, 0)


def test_protocols_for_yes_and_no_count_their_own_questions() -> None:
    table = scored(["No", "yes"], ("Yes", "No"))
    assert set(table) == set(PROTOCOLS)
    assert table["vlmevalkit-yorn@e8e78f0"]["accuracy"] == 0.5


def test_answers_without_tags_count_where_the_prompt_is_not_ours() -> None:
    sample = Sample(id="1", images=(), question="?", options=OPTIONS, answer_index=1)
    assert protocol_for("default", "vlmevalkit")("B", sample).letter == "B"
    assert protocol_for("default", "think")("B", sample).letter is None


def test_spread_ignores_protocols_with_fewer_questions() -> None:
    table = {"a": (4, 0.5), "b": (4, 0.75), "c": (2, 0.0)}
    scores = {name: {"n": n, "accuracy": accuracy, "ci95": [0.0, 1.0]} for name, (n, accuracy) in table.items()}
    apart = spread({name: ProtocolScore.model_validate(score) for name, score in scores.items()})
    assert apart.written() == {"lowest": "a", "highest": "b", "difference": 0.25}


@pytest.mark.parametrize(
    ("completion", "refuses"),
    [
        (REFUSAL, True),
        ("I'm sorry, but without the image provided I cannot answer.", True),
        ("As an AI, I can't provide a diagnosis.", True),
        ("I am unable to interpret medical images.", True),
        ("There is insufficient information.", True),
        ("<think>Hard.</think><answer>I do not know</answer>", True),
        ("<think>I cannot determine it at first, but then:</think><answer>B</answer>", False),
        ("I cannot determine it with certainty, but <answer>B</answer>", False),
        ("<think>I'm sorry", False),
        ("B, not A", False),
        ("The patient cannot walk.", False),
        ("", False),
    ],
)
def test_refusals(completion: str, refuses: bool) -> None:
    assert is_refusal(completion) is refuses
