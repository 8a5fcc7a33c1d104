"""Several stored runs: what may be compared, one family of tests, ranks, the blind twin."""

from dataclasses import replace
from pathlib import Path

import pytest

from medr1.errors import ConfigError, DataError
from medr1.eval.compare import compare as _compare
from medr1.eval.side_by_side import StoredEvaluation, open_runs
from medr1.eval.side_by_side import side_by_side as _side_by_side
from medr1.stats import holm
from stored_runs import questions, store
from written import as_written

compare = as_written(_compare)

side_by_side = as_written(_side_by_side)

SAMPLES = questions(120, per_image=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    for name, settings in {
        "base": {"right": 0.4, "unreadable": 0.3},
        "good": {"right": 0.8},
        "same": {"right": 0.81},
        "twin": {"right": 0.45, "blank": 0.45},
    }.items():
        store(root / name / "eval", SAMPLES, **settings)
    return root


@pytest.fixture(scope="module")
def runs(folder: Path) -> list[StoredEvaluation]:
    return open_runs([folder / name / "eval" for name in ("base", "good", "same")])


def test_names_are_the_ends_that_tell_runs_apart(folder: Path, runs: list[StoredEvaluation]) -> None:
    assert [run.name for run in runs] == ["base/eval", "good/eval", "same/eval"]
    with pytest.raises(ConfigError, match="named twice"):
        open_runs([folder / "base" / "eval", folder / "base" / ".." / "base" / "eval"])
    with pytest.raises(DataError, match=r"holds no predictions\.jsonl"):
        open_runs([folder / "base"])


def test_pairs_are_one_family(runs: list[StoredEvaluation]) -> None:
    compared = side_by_side(runs)
    names = [("base/eval", "good/eval"), ("base/eval", "same/eval"), ("good/eval", "same/eval")]
    assert [(pair["base"], pair["other"]) for pair in compared["pairs"]] == names
    by_name = {run.name: run.predictions for run in runs}
    alone = [compare(by_name[a], by_name[b]) for a, b in names]
    assert [pair["p_holm"] for pair in compared["pairs"]] == pytest.approx(holm([pair["p"] for pair in alone]))
    for pair, expected in zip(compared["pairs"], alone, strict=True):
        assert pair["difference"]["value"] == expected["difference"]["value"]
        assert pair["difference"]["ci95"] == pytest.approx(expected["difference"]["ci95"], abs=1e-12)
    assert compared["pairs"][0]["test"] == "exact sign flips of groups"


def test_runs_that_cannot_be_told_apart_share_their_ranks(runs: list[StoredEvaluation]) -> None:
    compared = side_by_side(runs)
    assert compared["pairs"][2]["p_holm"] > 0.05
    ranks = {name: scores["rank"] for name, scores in compared["runs"].items()}
    assert ranks == {"base/eval": [3, 3], "good/eval": [1, 2], "same/eval": [1, 2]}


def test_only_questions_that_all_answered_count(runs: list[StoredEvaluation]) -> None:
    short = replace(runs[2], predictions=[p for p in runs[2].predictions if p.id != "q7"])
    compared = side_by_side([*runs[:2], short])
    assert compared["n"] == 119
    assert {scores["n"] for scores in compared["runs"].values()} == {119}
    assert compared["left_out"] == {"base/eval": 1, "good/eval": 1, "same/eval": 0}
    assert "q7" not in {row["id"] for row in compared["flipped"]}
    with pytest.raises(DataError, match="no question in common"):
        side_by_side([runs[0], replace(runs[1], predictions=[replace(p, id="x") for p in runs[1].predictions])])


def test_the_same_question_must_have_the_same_options(runs: list[StoredEvaluation]) -> None:
    turned = [replace(p, options=p.options[::-1]) if p.id == "q3" else p for p in runs[1].predictions]
    with pytest.raises(DataError, match="question q3 has other options"):
        side_by_side([runs[0], replace(runs[1], predictions=turned)])


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("protocol", {"protocol": "med-r1/think"}),
        ("data", {"data_hash": "0"}),
        ("backend", {"engine": {"engine": "scripted", "image_backend": "pil"}}),
    ],
)
def test_what_does_not_mean_the_same_is_refused(runs: list[StoredEvaluation], name: str, changed: dict) -> None:
    other = replace(runs[1], arguments={**runs[1].arguments, **changed})
    with pytest.raises(ConfigError, match=f"differ in {name} .*add --across {name}"):
        side_by_side([runs[0], other])
    with pytest.raises(ConfigError, match=f"differ in {name}"):
        side_by_side([runs[0], runs[2]], blind_twin=other)
    others = [known for known in ("protocol", "data", "backend") if known != name]
    with pytest.raises(ConfigError, match=f"differ in {name}"):
        side_by_side([runs[0], other], across=others)
    assert next(iter(changed)) in side_by_side([runs[0], other], across=[name])["differing_arguments"]


def test_unknown_names_are_refused(runs: list[StoredEvaluation]) -> None:
    with pytest.raises(ConfigError, match="--across does not know 'engine'"):
        side_by_side(runs, across=["engine"])
    with pytest.raises(ConfigError, match="--by does not know 'colour'"):
        side_by_side(runs, axes=["colour"])


def test_the_blind_twin_is_beside_the_runs_not_among_them(folder: Path, runs: list[StoredEvaluation]) -> None:
    twin = open_runs([folder / "twin" / "eval"])[0]
    compared = side_by_side(runs, blind_twin=twin)
    assert list(compared["runs"]) == [run.name for run in runs]
    assert len(compared["pairs"]) == 3
    lead = compared["blind_twin"]["runs"]["good/eval"]
    assert lead["difference"]["value"] == compare(twin.predictions, runs[1].predictions)["difference"]["value"] > 0
    assert lead["p"] <= lead["p_holm"]
    assert compared["gain"]["good/eval"]["blind"] == "answers of the blind twin to blank images"


def test_parts_are_one_family_and_small_ones_are_not_scored(runs: list[StoredEvaluation]) -> None:
    rare = {f"q{i}" for i in range(6)}
    few = [
        replace(run, predictions=[replace(p, modality="OCT" if p.id in rare else "CT") for p in run.predictions])
        for run in runs
    ]
    parts = side_by_side(few, axes=["modality", "task"])["by"]
    assert parts["modality"]["OCT"] == {"n": 6, "n_groups": 3, "runs": {}, "differences": {}}
    assert parts["modality"]["CT"]["runs"]["good/eval"]["n"] == 114
    family = [d for part in parts["task"].values() for d in part["differences"].values()]
    assert len(family) == 4
    assert [d["p_holm"] for d in family] == pytest.approx(holm([d["p"] for d in family]))


def test_flipped_questions_are_those_where_the_runs_differ(runs: list[StoredEvaluation]) -> None:
    compared = side_by_side(runs[:2])
    flips = compared["pairs"][0]["flips"]
    assert len(compared["flipped"]) == flips["wrong_to_right"] + flips["right_to_wrong"]
    row = compared["flipped"][0]
    assert sum(answer == row["gold"] for answer in row["answers"].values()) == 1
