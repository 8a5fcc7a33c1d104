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

PART = {"n": 10, "accuracy": 0.5, "ci95": [0.25, 0.75], "chance": 0.25}
RESULTS = {
    "n": 1200,
    "accuracy": 0.7104,
    "ci95": [0.68, 0.74],
    "ci_method": "wilson-clustered",
    "n_groups": 900,
    "failed": 3,
    "chance": 0.27,
    "majority_letter": 0.3,
    "blind": {
        "text_prior": 0.995,
        "format_rule": 0.23,
        "longest_option": 0.17,
        "blank_image": 0.6,
        "swapped_image": None,
    },
    "parse": {"missing_tag": 120, "ok": 1080},
    "protocols": {"default": {"accuracy": 0.7104, "ci95": [0.68, 0.74]}},
    "by_modality": {"CT": PART},
    "by_task": {"other": PART},
    "by_source": {},
    "controls": {
        "swapped": {
            "n": 10,
            "dropped": 2,
            "accuracy": 0.1,
            "ci95": [0.0, 0.4],
            "original": {"accuracy": 0.8, "ci95": [0.5, 0.95]},
            "difference": {"value": -0.7, "ci95": [-0.9, -0.3]},
            "follows": {"n": 8, "share": 0.75, "ci95": [0.4, 0.9]},
        },
        "no_image": {"n": 0, "dropped": 12, "failed": 0},
    },
}


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
    assert parts(RESULTS, "by_modality", "x").rows == [("CT", "10", "50.0 [25.0, 75.0]", "25.0")]
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
        {
            "n": 50,
            "base": {"accuracy": 0.2, "ci95": [0.1, 0.3]},
            "other": {"accuracy": 0.6, "ci95": [0.5, 0.7]},
            "difference": {"value": 0.4, "ci95": [0.2, 0.5]},
            "mcnemar_p": 0.00123,
            "flips": {"wrong_to_right": 22, "right_to_wrong": 2},
        }
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
    rows = [PART | names | {"num_options": 2}, PART | names | {"num_options": 4, "accuracy": None, "ci95": None}]
    assert subgroups({"subgroups": rows}).rows == [
        ("CT · other · s · 2 options", "10", "50.0 [25.0, 75.0]", "25.0"),
        ("CT · other · s · 4 options", "10", "–", "25.0"),
    ]
    assert subgroups({"subgroups": rows[:1]}).rows == []


def test_draws_and_confidence() -> None:
    drawn = {
        "num_draws": 2,
        "n_questions": 30,
        "mean": PART,
        "spread": {"min": 0.4, "max": 0.6, "sd": 0.1},
        "majority": PART | {"accuracy": 0.6},
        "pass_at_k": {"1": {"share": 0.5, "ci95": [0.25, 0.75]}, "2": None},
    }
    assert [cell for _, cell in sampling(drawn).rows] == [
        "50.0 [25.0, 75.0]",
        "40.0 to 60.0",
        "60.0 [25.0, 75.0]",
        "50.0 [25.0, 75.0]",
        "–",
    ]
    measured = {"n": 9, "left_out": 1, "accuracy": 0.7, "accuracy_at_80_percent": 0.8, "mean_confidence": 0.9}
    measured |= {"ece": 0.2, "brier": 0.1234, "aurc": 0.05}
    assert len(confidence(measured, "votes").rows) == 6
    rows = dict(confidence(measured | {"temperature_scaled": {"ece": 0.1}}, "options").rows)
    assert rows["the same, temperature scaled"] == "10.0"
    assert rows["Brier score (0 to 2)"] == "0.123"


def test_brackets_are_text_not_markup() -> None:
    text = printed(
        Table(title="[red]t", columns=("[b]c", "n"), rows=[("[link=x]name[/link]", "[0.1, 0.2]")], note="[i]")
    )
    for part in ("[red]t", "[b]c", "[link=x]name[/link]", "[0.1, 0.2]", "[i]"):
        assert part in text


def test_what_is_void_stands_above_the_table() -> None:
    void = [{"what": "accuracy", "why": "all 12 readable answers are D, whatever was asked"}]
    text = printed(overview({**RESULTS, "void": void}))
    line = "void: accuracy: all 12 readable answers are D, whatever was asked."
    assert text.index(line) < text.index("accuracy [95 % interval]")
    assert "void" not in printed(overview(RESULTS))
    assert "void" not in printed(overview({**RESULTS, "void": []}))


def test_the_split_by_what_is_answered_without_looking() -> None:
    found = {
        "answerable": {**PART, "n": 4},
        "not_answerable": None,
        "by": ["blank_image", "text_prior"],
        "not_checked": 2,
    }
    text = printed(overview({**RESULTS, "by_blind": found}))
    assert "on 4 answered without looking" in text
    assert "others" not in text
    (table,) = [t for t in all_tables({**RESULTS, "by_blind": found}) if t.title.startswith("By what is answered")]
    assert table.rows == [("answered without looking", "4", "50.0 [25.0, 75.0]", "25.0")]
    assert "the model on a blank image or the text prior is right" in table.note
    assert "2 answers" in table.note
    assert not [t for t in all_tables(RESULTS) if t.title.startswith("By what is answered")]
