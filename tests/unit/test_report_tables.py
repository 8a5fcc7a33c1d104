"""Tables of results, on the terminal and as cells."""

from rich.console import Console

from medr1.report.tables import (
    Table,
    all_tables,
    comparison,
    confidence,
    controls,
    overview,
    parts,
    rich_table,
    sampling,
    subgroups,
)
from medr1.results.evaluated import BlindSplit, Confidence, OptionConfidence, Sampling, Void
from report_cases import comparison as compared_pair
from report_cases import control, difference, part, results

RESULTS = results(
    **part(0.7104, [0.68, 0.74], n=1200, chance=0.27, n_groups=900),
    failed=3,
    blind={"text_prior": 0.995, "format_rule": 0.23, "longest_option": 0.17, "blank_image": 0.6},
    parse={"missing_tag": 120, "ok": 1080},
    protocols={"default": {"accuracy": 0.7104, "ci95": [0.68, 0.74]}},
    by_modality={"CT": part()},
    by_task={"other": part()},
    controls={
        "swapped": control(
            0.1,
            original={"accuracy": 0.8, "ci95": [0.5, 0.95]},
            difference={"n": 10, "value": -0.7, "ci95": [-0.9, -0.3], "ci_method": "bonett-price"},
            follows={"n": 8, "share": 0.75, "ci95": [0.4, 0.9]},
        ),
        "no_image": {"n": 0, "dropped": 12, "failed": 0},
    },
)


def printed(table: Table) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(rich_table(table))
    return console.export_text()


def test_accuracy_stands_beside_all_it_has_to_beat() -> None:
    cells = dict(overview(RESULTS).rows)
    assert cells == {
        "accuracy [95 % interval]": "71.0 [68.0, 74.0]",
        "chance": "27.0",
        "majority letter": "30.0",
        "format rule, no image": "23.0",
        "longest option, no image": "17.0",
        "text prior, no image": "99.5",
        "blank image": "60.0",
        "swapped image": "–",
        "no image": "–",
        "unreadable answers": "10.0",
    }
    assert "1,200 answers, 3 failed generations" in overview(RESULTS).note
    assert "900 groups" in overview(RESULTS).note


def test_parts_and_controls() -> None:
    assert parts(RESULTS.by_modality, "x").rows == [("CT", "10", "50.0 [25.0, 75.0]", "25.0")]
    assert controls(RESULTS).rows == [
        (
            "swapped",
            "10",
            "2",
            "80.0 [50.0, 95.0]",
            "10.0 [0.0, 40.0]",
            "-70.0 [-90.0, -30.0]",
            "75.0 [40.0, 90.0]",
        ),
        ("no_image", "0", "12", "–", "–", "–", "–"),
    ]


def test_comparison_has_the_paired_test() -> None:
    table = comparison(
        compared_pair(
            base={"accuracy": 0.2, "ci95": [0.1, 0.3]},
            other={"accuracy": 0.6, "ci95": [0.5, 0.7]},
            change=difference(0.4, [0.2, 0.5]),
            flips={"wrong_to_right": 22, "right_to_wrong": 2},
        )
    )
    assert [row[1] for row in table.rows] == [
        "20.0 [10.0, 30.0]",
        "60.0 [50.0, 70.0]",
        "40.0 [20.0, 50.0]",
        "22",
        "2",
        "0.0012",
    ]


def test_tables_without_rows_are_left_out() -> None:
    assert [table.title for table in all_tables(RESULTS)] == [
        "Results",
        "By modality",
        "By task",
        "Controls",
        "How the answers could be read",
        "The same completions under every published protocol",
    ]


def test_small_subgroups_show_their_n_only() -> None:
    names = {"modality": "CT", "task": "other", "source": "s"}
    rows = [part(num_options=2, **names), part(None, None, num_options=4, **names)]
    assert subgroups(results(subgroups=rows)).rows == [
        ("CT · other · s · 2 options", "10", "50.0 [25.0, 75.0]", "25.0"),
        ("CT · other · s · 4 options", "10", "–", "25.0"),
    ]
    assert subgroups(results(subgroups=rows[:1])).rows == []


def test_draws_and_confidence() -> None:
    single = {"n": 10, "accuracy": 0.5, "ci95": [0.25, 0.75], "ci_method": "wilson", "n_groups": 9}
    drawn = Sampling.model_validate(
        {
            "num_draws": 2,
            "n_questions": 30,
            "mean": single,
            "spread": {"by_draw": [0.4, 0.6], "min": 0.4, "max": 0.6, "sd": 0.1},
            "majority": {name: value for name, value in single.items() if name != "n"} | {"accuracy": 0.6},
            "pass_at_k": {
                "1": {"n": 9, "share": 0.5, "ci95": [0.25, 0.75], "ci_method": "wilson", "n_groups": 9},
                "2": None,
            },
        }
    )
    assert [cell for _, cell in sampling(drawn).rows] == [
        "50.0 [25.0, 75.0]",
        "40.0 to 60.0",
        "60.0 [25.0, 75.0]",
        "50.0 [25.0, 75.0]",
        "–",
    ]
    measured = {"n": 9, "left_out": 1, "accuracy": 0.7, "accuracy_at_80_percent": 0.8, "mean_confidence": 0.9}
    measured |= {"ece": 0.2, "brier": 0.1234, "aurc": 0.05, "overconfidence": 0.2, "risk_coverage": [(1.0, 0.3)]}
    assert len(confidence(Confidence.model_validate(measured)).rows) == 6
    scaled = {"ece": 0.1, "brier": 0.1, "mean_confidence": 0.7, "overconfidence": 0.0, "temperatures": [1.5]}
    rows = dict(confidence(OptionConfidence.model_validate(measured | {"temperature_scaled": scaled})).rows)
    assert rows["the same, temperature scaled"] == "10.0"
    assert rows["Brier score (0 to 2)"] == "0.123"


def test_brackets_are_text_not_markup() -> None:
    text = printed(
        Table(title="[red]t", columns=("[b]c", "n"), rows=[("[link=x]name[/link]", "[0.1, 0.2]")], note="[i]")
    )
    for text_part in ("[red]t", "[b]c", "[link=x]name[/link]", "[0.1, 0.2]", "[i]"):
        assert text_part in text


def test_what_is_void_stands_above_the_table() -> None:
    why = "all 12 readable answers are D, whatever was asked"
    text = printed(overview(RESULTS.model_copy(update={"void": [Void(what="accuracy", why=why)]})))
    line = "void: accuracy: all 12 readable answers are D, whatever was asked."
    assert text.index(line) < text.index("accuracy [95 % interval]")
    assert "void" not in printed(overview(RESULTS))


def test_the_split_by_what_is_answered_without_looking() -> None:
    found = {
        "answerable": part(n=4),
        "not_answerable": None,
        "by": ["blank_image", "text_prior"],
        "not_checked": 2,
        "reason": None,
    }
    split = RESULTS.model_copy(update={"by_blind": BlindSplit.model_validate(found)})
    text = printed(overview(split))
    assert "on 4 answered without looking" in text
    assert "others" not in text
    (table,) = [t for t in all_tables(split) if t.title.startswith("By what is answered")]
    assert table.rows == [("answered without looking", "4", "50.0 [25.0, 75.0]", "25.0")]
    assert "the model on a blank image or the text prior is right" in table.note
    assert "2 answers" in table.note
    assert not [t for t in all_tables(RESULTS) if t.title.startswith("By what is answered")]
