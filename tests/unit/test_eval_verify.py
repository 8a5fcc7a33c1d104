"""Results that follow from their predictions, and every way in which they do not."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from medr1.data.convert import choose
from medr1.errors import DataError
from medr1.eval.verify import FITTED, verify
from medr1.records import read_json, read_samples, write_json, write_samples
from medr1.types import ImageRef, Sample
from stored_runs import questions, store

CONTROLS = ("blank", "swapped")


def swappable(samples: list[Sample]) -> list[Sample]:
    """The same with right answers that differ within modality and task, so that images can be swapped."""
    return [replace(sample, answer_index=i // 4 % len(sample.options)) for i, sample in enumerate(samples)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_samples(folder / "test", swappable(questions(40, per_image=2)))
    write_samples(folder / "train", [replace(s, id=f"t{s.id}") for s in questions(30)])
    return folder


@pytest.fixture(scope="module")
def stored(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    train = list(read_samples(data / "train"))
    samples = list(read_samples(data / "test"))
    folder = tmp_path_factory.mktemp("stored") / "run"
    return store(folder, samples, right=0.7, unreadable=0.1, num_draws=2, variants=CONTROLS, train_samples=train)


@pytest.fixture
def run(stored: Path, tmp_path: Path) -> Path:
    shutil.copytree(stored, tmp_path / "run")
    return tmp_path / "run"


def change_line(run: Path, number: int, **fields: object) -> None:
    path = run / "predictions.jsonl"
    lines = path.read_text().splitlines()
    lines[number] = json.dumps(json.loads(lines[number]) | fields)
    path.write_text("\n".join(lines) + "\n")


def leaves(value: object) -> int:
    if isinstance(value, dict):
        return sum(map(leaves, value.values()))
    return sum(map(leaves, value)) if isinstance(value, list) else 1


def test_everything_follows_from_predictions_and_data(run: Path, data: Path) -> None:
    found = verify(run, data / "test", data / "train")
    assert found.differing == []
    assert found.unchecked == []
    assert found.checked == leaves(read_json(run / "results.json"))


def test_without_the_data_the_rest_is_checked_and_said(run: Path, data: Path) -> None:
    for given, unchecked in (
        ({}, sorted([*FITTED, "controls.swapped.follows"])),
        ({"train_data": data / "train"}, sorted([*FITTED, "controls.swapped.follows"])),
        ({"data": data / "test"}, list(FITTED)),
    ):
        found = verify(run, **given)
        assert (found.differing, found.unchecked) == ([], unchecked)


def test_results_of_versions_without_a_split_by_blindness_are_not_called_wrong(run: Path, data: Path) -> None:
    results = read_json(run / "results.json")
    for name in ("void", "train_overlap", "by_blind"):
        del results[name]
    write_json(run / "results.json", results)
    found = verify(run, data / "test", data / "train")
    assert (found.differing, found.unchecked) == ([], ["by_blind", "train_overlap", "void"])


def test_every_number_is_watched(run: Path, data: Path) -> None:
    results = read_json(run / "results.json")

    def numbers(value: object, path: tuple = ()):
        if isinstance(value, dict | list):
            for key, inside in value.items() if isinstance(value, dict) else enumerate(value):
                yield from numbers(inside, (*path, key))
        elif isinstance(value, int | float):
            yield path

    paths = list(numbers(results))
    assert len(paths) > 200
    for path in paths:  # all at once: each must be named
        *above, last = path
        holder = results
        for key in above:
            holder = holder[key]
        holder[last] += 1e-6
    write_json(run / "results.json", results)
    assert len(verify(run, data / "test", data / "train").differing) == len(paths)


def test_a_missing_and_an_invented_value(run: Path) -> None:
    results = read_json(run / "results.json")
    del results["by_task"]["Lesion Grading"]
    results["by_modality"]["OCT"] = {"n": 3}
    write_json(run / "results.json", results)
    lines = verify(run).differing
    assert any(line.startswith("results.json, by_task.Lesion Grading: 'nothing' is stored") for line in lines)
    assert any("by_modality.OCT" in line and "'nothing' follows" in line for line in lines)


def test_an_answer_that_the_completion_does_not_give(run: Path) -> None:
    line = json.loads((run / "predictions.jsonl").read_text().splitlines()[0])
    change_line(run, 0, answer="B" if line["answer"] != "B" else "A", parse_status="ok")
    (found, *_) = verify(run).differing
    assert found.startswith(f"predictions.jsonl, {line['id']} original draw {line['draw']}:")
    assert "the completion reads" in found


def test_a_status_that_the_completion_does_not_have(run: Path) -> None:
    change_line(run, 0, answer=None, parse_status="several_answers", completion="I cannot say.")
    assert any("None (several_answers) is stored, the completion reads None" in line for line in verify(run).differing)


def test_a_changed_gold_letter_shows_against_the_data(run: Path, data: Path) -> None:
    line = json.loads((run / "predictions.jsonl").read_text().splitlines()[0])
    change_line(run, 0, gold="B" if line["gold"] == "A" else "A")
    assert any("not those of the data" in found for found in verify(run, data / "test").differing)


def test_changed_options_show_against_the_data(run: Path, data: Path) -> None:
    line = json.loads((run / "predictions.jsonl").read_text().splitlines()[0])
    change_line(run, 0, options=[*line["options"][:-1], "another"])
    assert any("not those of the data" in found for found in verify(run, data / "test").differing)


def test_a_prediction_that_stands_twice(run: Path) -> None:
    path = run / "predictions.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")
    assert any("stands twice" in line for line in verify(run).differing)


@pytest.mark.parametrize("name", ["manifest.json", "results.json"])
def test_files_that_are_no_objects_are_refused(run: Path, name: str) -> None:
    write_json(run / name, [])
    with pytest.raises(DataError, match=rf"{name}(: the value is \[\]| is not what `medr1 eval` wrote)"):
        verify(run)


@pytest.mark.parametrize("name", ["blind", "controls"])
def test_a_part_that_was_emptied_shows(run: Path, name: str) -> None:
    write_json(run / "results.json", {**read_json(run / "results.json"), name: None})
    assert any(line.startswith(f"results.json, {name}: None is stored") for line in verify(run).differing)


def test_other_data_are_refused(run: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not the data of this run"):
        verify(run, data / "train")
    with pytest.raises(DataError, match="is not what the text prior of this run was fitted on"):
        verify(run, data / "test", data / "test")
    with pytest.raises(DataError, match=r"manifest\.json"):
        verify(tmp_path / "nowhere")


def test_the_data_are_looked_for_where_the_manifest_says(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # of other places the manifest keeps no path
    shutil.copytree(data / "test", tmp_path / "test")
    samples = choose(list(read_samples(tmp_path / "test")), 30, 3)
    arguments = {"data": tmp_path / "test", "limit": 30}
    run = store(tmp_path / "run", samples, right=0.7, seed=3, variants=("swapped",), arguments=arguments)
    found = verify(run)
    assert (found.differing, found.unchecked) == ([], []), "which image was swapped in is in the data only"
    shutil.rmtree(tmp_path / "test")
    assert verify(run).unchecked == ["controls.swapped.follows", "void"]
    shutil.copytree(data / "train", tmp_path / "test")
    found = verify(run)
    assert (found.differing, found.unchecked) == ([], ["controls.swapped.follows", "void"]), (
        "other data stand there now"
    )


def test_questions_without_an_answer_are_counted_and_in_older_runs_need_the_data(tmp_path: Path) -> None:
    samples = questions(12)
    samples[3] = replace(samples[3], images=(ImageRef(path=str(tmp_path / "data" / "gone.png")),))
    run = store(tmp_path / "run", samples, right=0.5)
    assert read_json(run / "results.json")["failed"] == 1
    assert verify(run).differing == []
    lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    answers, failed = [x for x in lines if "failure" not in x], [x for x in lines if "failure" in x]
    (run / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in answers))
    old = [{"id": x["id"], "variant": x["variant"], "draw": None, "reason": x["failure"]["message"]} for x in failed]
    (run / "failures.jsonl").write_text("".join(json.dumps(line) + "\n" for line in old))
    with pytest.raises(DataError, match="without any answer; name the evaluated data with --data"):
        verify(run)
    write_samples(tmp_path / "data", samples, embed_images=False)
    assert verify(run, tmp_path / "data").differing == []
