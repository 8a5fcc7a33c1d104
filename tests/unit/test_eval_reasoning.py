"""What a thinking concludes, whether the answer follows, how long it is: by hand."""

from collections.abc import Sequence

from medr1.eval.reasoning import score_consistency as _score_consistency
from medr1.eval.reasoning import score_lengths as _score_lengths
from medr1.eval.reasoning import score_reasoning as _score_reasoning
from medr1.types import Prediction
from written import as_written

score_consistency = as_written(_score_consistency)
score_lengths = as_written(_score_lengths)
score_reasoning = as_written(_score_reasoning)

ORGANS = ("Liver", "Lung", "Breast tissue", "Breast")


def prediction(id: str, thinking: str, answer: str | None, *, gold: str = "A", options: Sequence[str] = ORGANS):
    return Prediction(
        id=id,
        variant="",
        draw=0,
        group=id,
        modality="CT",
        task="other",
        source="s",
        options=tuple(options),
        gold=gold,
        prompt_style="think",
        completion=f"<think>{thinking}</think><answer>{answer}</answer>" if thinking else f"<answer>{answer}</answer>",
        answer=answer,
        parse_status="ok" if answer else "missing_tag",
        num_tokens=1,
    )


def test_consistency_with_its_accuracy() -> None:
    predictions = [
        prediction("1", "the liver", "A"),
        prediction("2", "the lung", "B"),
        prediction("3", "the lung", "A"),
        prediction("4", "hard to say", "A"),
        prediction("5", "the liver", None),
    ]
    scores = score_consistency(predictions)
    assert scores is not None
    assert (scores["n"], scores["unreadable"]) == (4, 1)
    assert (scores["consistent"]["share"], scores["consistent"]["accuracy"]) == (0.5, 0.5)
    assert (scores["inconsistent"]["n"], scores["inconsistent"]["accuracy"]) == (1, 1.0)
    assert (scores["no_conclusion"]["n"], scores["no_conclusion"]["accuracy"]) == (1, 1.0)
    assert score_consistency(predictions[-1:]) is None


def test_lengths_are_counted_in_words_without_tags() -> None:
    predictions = [prediction(str(n), " ".join(["word"] * n), "A" if n < 5 else "B") for n in range(1, 12)]
    scores = score_lengths(predictions)
    assert scores["all"] == {"mean": 6.0, "median": 6.0, "q05": 1.5, "q95": 10.5, "max": 11.0}
    assert scores["right"] is not None
    assert (scores["right"]["median"], scores["right"]["max"]) == (2.5, 4.0)
    assert score_lengths(predictions[:4])["not_right"] is None


def test_answers_without_thinking_are_counted_apart() -> None:
    scores = score_reasoning([prediction("1", "the liver", "A"), prediction("2", "", "A")], {})
    assert (scores["n"], scores["without_thinking"], scores["consistency"]["n"]) == (1, 1, 1)
    empty = score_reasoning([prediction("2", "", "A")], {})
    assert (empty["n"], empty["consistency"], empty["words"]["all"]) == (0, None, None)
