"""Several draws of every question: their mean, its spread, the majority vote and pass@k."""

from collections.abc import Sequence
from statistics import stdev

from medr1.eval.measures import accuracy_of, draws_of, group_of, is_right
from medr1.results.evaluated import Sampling, Spread
from medr1.stats import majority_hit, pass_at_k, proportion
from medr1.types import Estimate, Prediction


def score_draws(predictions: Sequence[Prediction], num_draws: int) -> Sampling:
    """What k draws of every question amount to; questions with failed draws count by the draws that they have.

    `mean` is the accuracy of a single draw, `spread` how it varies from draw to draw over the whole set, `majority` the
    vote with ties drawn at random, `pass_at_k` the chance that one of k draws is right (Chen et al. 2021), for k of
    powers of two and `num_draws`, over the questions that have k draws.
    """
    questions = draws_of(predictions)
    whole_sets = [[p for p in predictions if p.draw == draw] for draw in range(num_draws)]
    by_draw = [accuracy_of(answers).value for answers in whole_sets if answers]
    votes = [majority_hit([p.answer for p in draws], draws[0].gold) for draws in questions]
    groups = [group_of(draws[0]) for draws in questions]
    return Sampling(
        num_draws=num_draws,
        n_questions=len(questions),
        mean=accuracy_of(predictions),
        spread=Spread(
            by_draw=by_draw,
            min=min(by_draw),
            max=max(by_draw),
            sd=stdev(by_draw) if len(by_draw) > 1 else None,
        ),
        majority=proportion(votes, groups),
        pass_at_k={str(k): _passed(questions, k, num_draws) for k in _powers_of_two(num_draws)},
    )


def _passed(questions: Sequence[Sequence[Prediction]], k: int, num_draws: int) -> Estimate | None:
    enough = [draws for draws in questions if len(draws) >= k]
    if not enough:
        return None
    chances = [pass_at_k(len(draws), sum(map(is_right, draws)), k) for draws in enough]
    return proportion(chances, [group_of(draws[0]) for draws in enough], draws=num_draws)


def _powers_of_two(most: int) -> list[int]:
    """1, 2, 4, … below `most`, and `most`."""
    return sorted({2**i for i in range(most.bit_length()) if 2**i <= most} | {most})
