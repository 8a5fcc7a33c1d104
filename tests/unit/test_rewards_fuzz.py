"""Rewards under attack: ours pay for answers only, the published ones for what is known of them, a user's is judged."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from medr1.errors import ConfigError
from medr1.rewards import REWARDS
from medr1.rewards.fuzz import FuzzReport, find_reward
from medr1.rewards.fuzz import fuzz as fuzz_with_time
from medr1.rewards.probes import QUESTIONS, Slow, honest, probes, slow_patterns
from medr1.types import ANSWER_TYPES

PUBLISHED = [name for name in REWARDS if "/" in name]

fuzz = partial(fuzz_with_time, with_time=False)


def holes(report: FuzzReport) -> set[str]:
    return {finding.probe for finding in report.findings}


@pytest.fixture
def user_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(
        """
import re

CLASSES = ("Mass", "Nodule")


def contains(completions, answer, **kwargs):
    return [float(a in c[-1]["content"]) for c, a in zip(completions, answer)]


def last_tag_and_form(prompts, completions, solution):
    values = []
    for completion, gold in zip(completions, solution):
        text = completion[0]["content"]
        found = re.findall(r"<answer>(.*?)</answer>", text)
        form = re.fullmatch(r"<think>.+</think><answer>.+</answer>", text, re.DOTALL) is not None
        right = bool(found) and found[-1].strip() == re.search(r"<answer>(.*?)</answer>", gold)[1].strip()
        values.append(right + float(form))
    return values


def strict(completion, sample):
    return completion == f"<answer>{sample.gold}</answer>"


def fragile(completion, sample):
    return float(re.search(r"<answer>(.*?)</answer>", completion)[1] == sample.gold) if completion else 0.0


def careless(completion, sample):
    return 1


def silent(completions, **kwargs):
    return [None for _ in completions]


def with_images(completions, image_ids):
    return [0.0]


def not_a_list(completions):
    return 1.0


def words(completion, sample):
    return "good"
"""
    )
    return path


@pytest.mark.parametrize("name", [name for name in REWARDS if name not in PUBLISHED])
def test_ours_pay_for_answers_only(name):
    report = fuzz(name)
    assert holes(report) == set()
    assert report.completions > 100


@pytest.mark.parametrize(
    ("name", "known"),
    [
        (
            "medvlm-r1/accuracy",
            {
                "several answers",
                "answer inside thinking, another outside",
                "answer denied",
                "Cyrillic look-alike beside it",
            },
        ),
        ("med-r1/accuracy", {"several answers", "answer inside thinking", "answer spam"}),
        (
            "medvlm-r1/format",
            {"empty thinking", "answer behind junk", "draft answer inside thinking", "several answers", "empty answer"},
        ),
        ("med-r1/format", {"empty thinking", "answer behind junk", "draft answer inside thinking"}),
        ("med-r1/format-nothink", {"several answers", "empty answer", "tag spam"}),
    ],
)
def test_published_rewards_show_their_known_holes(name, known):
    assert known <= holes(fuzz(name))


def test_what_a_finding_says():
    found = {finding.probe: finding for finding in fuzz("medvlm-r1/accuracy").findings}
    denied = found["answer denied"]
    assert (denied.value, denied.right, denied.wrong) == (0.5, 1.0, 0.0)
    assert denied.problem == "more than a wrong answer"
    assert denied.example == "<answer>not A</answer>"
    assert found["several answers"].problem == "as much as a right answer"
    assert found["several answers"].answer_types == ("choice", "yes_no")
    # Two turns of three orders on each of six listed questions: only the right answer first is paid.
    assert found["several answers"].completions == 18
    nested = {finding.probe: finding for finding in fuzz("med-r1/format").findings}["nested tags"]
    assert nested.problem == "as much as the right form"


def test_a_users_rewards(user_file: Path):
    contains = fuzz(f"{user_file}:contains")
    assert {"list of all answers", "answer denied", "answer inside thinking", "two answers in one"} <= holes(contains)
    assert contains.answer_types == tuple(dict.fromkeys(q.sample.answer_type for q in QUESTIONS))

    both = {finding.probe: finding for finding in fuzz(f"{user_file}:last_tag_and_form").findings}
    assert both["right answer again and again after a wrong one"].value == 2
    assert both["draft answer inside thinking"].problem == "as much as the right form"
    assert both["answer inside thinking"].problem == "as much as a wrong answer in its form"

    strict = fuzz(f"{user_file}:strict")
    assert holes(strict) == set()
    assert strict.answer_types == ("choice", "yes_no")
    assert set(strict.skipped) == {"number", "multi", "text"}

    careless = fuzz(f"{user_file}:careless")
    assert {"empty", "tag spam", "echo of the prompt"} <= holes(careless)


def test_a_reward_that_fails_on_a_completion_is_reported(user_file: Path):
    path = user_file.with_name("odd.py")
    path.write_text(
        "def reward(completion, sample):\n"
        "    if '\\u200b' in completion: raise KeyError('odd')\n"
        "    return float(completion == f'<answer>{sample.gold}</answer>')\n"
    )
    failing = fuzz(f"{path}:reward").findings
    assert {finding.problem for finding in failing} == {"fails with KeyError"}
    assert all(finding.value is None for finding in failing)
    assert "zero-width character" in {finding.probe for finding in failing}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no-such", r"no reward 'no-such'; choose one of accuracy"),
        ("{folder}/none.py:f", r"no file .*none.py"),
        ("{file}:f", r"no function 'f'; it has .*contains"),
        ("{file}:CLASSES", r"no function 'CLASSES'"),
        ("{file}:with_images", r"needs the columns image_ids, which are unknown here"),
        ("{file}:silent", r"rewards no question .*a right answer earns nothing"),
        ("{file}:fragile", r"rewards no question .*TypeError"),
        ("{file}:not_a_list", r"returns 1.0 for one completion"),
        ("{file}:words", r"returns 'good'; a reward returns a number"),
        ("{broken}:f", r"cannot be imported: .*; mend it"),
    ],
)
def test_what_cannot_be_tried(name, message, user_file: Path, tmp_path: Path):
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_that_name\n")
    with pytest.raises(ConfigError, match=message):
        fuzz(name.format(folder=tmp_path, file=user_file, broken=broken))


def test_probes_do_not_give_the_right_answer_unless_they_say_so():
    kinds = {question.sample.answer_type for question in QUESTIONS}
    assert kinds == set(ANSWER_TYPES)
    for question in QUESTIONS:
        assert question.right != question.wrong
        assert {question.right, question.wrong} <= set(question.candidates) or question.sample.answer_type == "multi"
        for form in honest(question.right).values():
            assert not any(probe.completion == form and not probe.commits for probe in probes(question))
        assert find_reward("answer")(honest(question.right)["think"], question.sample) == 1
        assert find_reward("answer")(honest(question.wrong)["think"], question.sample) == 0


class Stopwatch:
    """A clock that runs as a reward of that cost computes."""

    def __init__(self, cost: Any) -> None:
        self.now, self.cost = 0.0, cost

    def pays(self, completion: str) -> float:
        self.now += self.cost(completion)
        return 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("cost", "exponent"),
    [
        (lambda text: 1e-5 * len(text), None),
        (lambda text: 1e-6 * len(text) ** 1.2, None),
        (lambda text: 1e-12 * len(text) ** 2, None),  # never noticeable
        (lambda text: 1e-8 * len(text) ** 2, 2.0),
        (lambda text: 1e-11 * len(text) ** 3, 3.0),
    ],
)
def test_growth_faster_than_the_length_is_told(cost, exponent):
    clock = Stopwatch(cost)
    found = list(slow_patterns(clock.pays, clock))
    assert bool(found) is (exponent is not None)
    assert all(pattern.exponent == pytest.approx(exponent, abs=0.05) for pattern in found)


def test_exponential_growth_is_not_waited_for():
    clock = Stopwatch(lambda text: 1e-3 * 2 ** (len(text) / 256))
    found = list(slow_patterns(clock.pays, clock))
    assert found
    assert clock.now < 1000


def test_only_some_patterns_are_slow():
    clock = Stopwatch(lambda text: 1e-8 * len(text) ** 2 if text.startswith("<answer><answer>") else 0.0)
    assert {(pattern.prefix, pattern.unit) for pattern in slow_patterns(clock.pays, clock)} == {
        ("", "<answer>"),
        ("<answer>", "<answer>"),
        ("<answer>", "<answer>B"),
        ("<answer>", "<answer>B</answer>"),
    }


def test_a_report_has_its_slow_patterns_steepest_first(monkeypatch: pytest.MonkeyPatch):
    def found(pays: Any) -> list[Slow]:
        pays("<answer>")
        return [Slow(prefix="", unit=unit, characters=9, seconds=1.0, exponent=n) for unit, n in (("a", 2), ("b", 3))]

    monkeypatch.setattr("medr1.rewards.fuzz.slow_patterns", found)
    assert [pattern.unit for pattern in fuzz_with_time("format").slow] == ["b", "a"]
    assert fuzz("format").slow == ()
