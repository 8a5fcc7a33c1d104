"""Tables of a judge: every count in its column, and no kappa where there is none."""

from medr1.report.tables import judge_tables
from medr1.results.answered import JudgeScores

SCORES = {
    "engine": {"model": "m"},
    "closed": {"n": 8, "decided": 5, "accuracy": 0.4, "ci95": [0.1, 0.8], "unparsable": 2, "failed": 1},
    "open": {"n": 4, "decided": 0, "accuracy": None, "ci95": None, "unparsable": 0, "failed": 4},
    "agreement": {
        "default": {"n": 5, "agreement": 0.8, "ci95": [0.3, 0.9], "kappa": 0.456},
        "mmmu-open": {"n": 3, "agreement": 1.0, "ci95": [0.4, 1.0], "kappa": None},
    },
}


def test_verdicts_and_agreement() -> None:
    verdicts, agreement = judge_tables(JudgeScores.model_validate(SCORES))
    assert verdicts.title == "Judged by m, %"
    assert list(verdicts.rows) == [
        ("closed questions", "8", "40.0 [10.0, 80.0]", "25.0", "1"),
        ("open questions", "4", "–", "0.0", "4"),
    ]
    assert list(agreement.rows) == [
        ("default", "5", "80.0 [30.0, 90.0]", "0.46"),
        ("mmmu-open", "3", "100.0 [40.0, 100.0]", "–"),
    ]


def test_no_table_of_an_agreement_that_there_is_not() -> None:
    assert len(judge_tables(JudgeScores.model_validate({**SCORES, "agreement": {}}))) == 1
