"""Every rule of the diagnosis: a log that fires it, a near miss that does not, and a healthy log that fires none."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medr1.diagnosis import RULES, Finding, diagnose, watched


def healthy(steps: int = 300) -> list[dict[str, Any]]:
    """The demo's GRPO run in smooth curves: many cut completions at the start, a slow rise, entropy down to 15 %."""
    records = []
    for step in range(1, steps + 1):
        done = 1 - math.exp(-step / 60)
        wave = 0.04 * math.sin(1.7 * step)
        records.append(
            {
                "step": step,
                "loss": 1e-8,
                "grad_norm": 1.3 + wave,
                "learning_rate": 1e-5 * min(step - 1, 10),
                "completions/mean_length": 9.5 - 1.5 * done,
                "completions/clipped_ratio": 0.45 * math.exp(-max(0, step - 10) / 40),
                "rewards/accuracy/mean": 0.12 + 0.36 * done + wave,
                "rewards/format/mean": 0.34 + 0.65 * done,
                "reward": 0.46 + 1.01 * done + wave,
                "reward_std": 0.7 - 0.2 * done,
                "frac_reward_zero_std": 0.4 * done,
                "entropy": 1.42 - 1.21 * done,
                "kl": 0.02 * done,
                "clip_ratio/region_mean": 0.01,
                "sampling/sampling_logp_difference/mean": 0.02,
            }
        )
    return [*records, {"step": steps, "train_runtime": 346.5, "train_loss": 2.8e-9, "epoch": 1.0}]


Change = Callable[[dict[str, Any], int], dict[str, Any]]


def found(change: Change, steps: int = 60) -> dict[str, Finding]:
    log = [record | (change(record, record["step"]) if "loss" in record else {}) for record in healthy(steps)]
    return {finding.name: finding for finding in diagnose(log)}


def constant(**values: float) -> Change:
    return lambda record, step: {key.replace("__", "/"): value for key, value in values.items()}


def after(step_of_change: int, **values: float) -> Change:
    return lambda record, step: constant(**values)(record, step) if step > step_of_change else {}


GAP = "sampling/sampling_logp_difference/mean"
CASES: dict[str, list[tuple[Change, Change]]] = {
    "zero variance": [
        (constant(frac_reward_zero_std=0.82), constant(frac_reward_zero_std=0.8)),
        # one window above is needed, nine records of it are not
        (after(50, frac_reward_zero_std=0.95), after(53, frac_reward_zero_std=0.95)),
    ],
    "reward saturation": [
        (
            constant(rewards__accuracy__mean=0.96, rewards__format__mean=0.99, reward_std=0.05),
            constant(rewards__accuracy__mean=0.94, rewards__format__mean=0.99, reward_std=0.05),
        ),
        (
            constant(rewards__accuracy__mean=1, rewards__format__mean=1, reward_std=0.0),
            constant(rewards__accuracy__mean=1, rewards__format__mean=1, reward_std=0.11),
        ),
    ],
    "length collapse": [
        (
            lambda record, step: {"completions/mean_length": 90 if step <= 30 else 29},
            lambda record, step: {"completions/mean_length": 90 if step <= 30 else 31},
        ),
        (
            lambda record, step: {"completions/mean_length": 12 if step <= 30 else 4.5},
            lambda record, step: {"completions/mean_length": 8 if step <= 30 else 4.5},
        ),
    ],
    "length explosion": [
        (
            lambda record, step: {"completions/clipped_ratio": 0.1 if step <= 20 else 0.35},
            lambda record, step: {"completions/clipped_ratio": 0.1 if step <= 20 else 0.29},
        ),
        # cut from the start: patience first
        (
            constant(completions__clipped_ratio=0.5),
            lambda record, step: {"completions/clipped_ratio": 0.5 - step / 200},
        ),
    ],
    "KL spike": [
        (
            lambda record, step: {"kl": 0.7 if step == 40 else 0.05},
            lambda record, step: {"kl": 0.7 if step == 40 else 0.08},
        ),
        (
            lambda record, step: {"kl": 0.6 if step == 40 else 0.01},
            lambda record, step: {"kl": 0.4 if step == 40 else 0.01},
        ),
    ],
    "clip fraction": [(constant(clip_ratio__region_mean=0.32), constant(clip_ratio__region_mean=0.3))],
    "entropy collapse": [
        (
            lambda record, step: {"entropy": 1.0 if step <= 30 else 0.045},
            lambda record, step: {"entropy": 1.0 if step <= 30 else 0.055},
        ),
        (constant(entropy=0.009), constant(entropy=0.011)),
    ],
    "entropy explosion": [
        (
            lambda record, step: {"entropy": 0.5 if step <= 30 else 1.6},
            lambda record, step: {"entropy": 0.5 if step <= 30 else 1.4},
        ),
        (
            lambda record, step: {"entropy": 0.1 if step <= 30 else 1.1},
            lambda record, step: {"entropy": 0.1 if step <= 30 else 0.9},
        ),
    ],
    "unreadable answers": [
        (
            lambda record, step: {"rewards/format/mean": 0.85 if step <= 30 else 0.4},
            lambda record, step: {"rewards/format/mean": 0.75 if step <= 30 else 0.4},
        ),
        (
            lambda record, step: {"rewards/med-r1/format-nothink/mean": 0.85 if step <= 30 else 0.4},
            lambda record, step: {"rewards/med-r1/format-nothink/mean": 0.85 if step <= 30 else 0.55},
        ),
    ],
    "sampling gap": [(lambda record, step: {GAP: 0.12}, lambda record, step: {GAP: 0.1})],
    "broken gradient": [
        (after(55, grad_norm=0.0), after(56, grad_norm=0.0)),
        (after(59, grad_norm=math.nan), after(59, grad_norm=1e4)),
        (after(59, grad_norm=math.inf), after(59, grad_norm=0.0)),
    ],
    "zero learning rate": [(constant(learning_rate=0.0), after(56, learning_rate=0.0))],
}


@pytest.mark.parametrize(("name", "fires", "near_miss"), [(n, *pair) for n, pairs in CASES.items() for pair in pairs])
def test_a_rule_fires_and_nearly_fires(name: str, fires: Change, near_miss: Change) -> None:
    assert set(found(fires)) == {name}
    assert not found(near_miss)


def test_a_share_of_cut_completions_that_grows_is_told_before_the_patience_ends() -> None:
    def grown(now: float) -> set[str]:
        return set(found(lambda record, step: {"completions/clipped_ratio": 0.4 if step <= 20 else now}, steps=40))

    assert grown(0.65) == {"length explosion"}
    assert grown(0.55) == set()


def test_every_rule_is_tested() -> None:
    assert set(CASES) | {"reward flat"} == set(RULES)


@pytest.mark.parametrize(
    ("reward", "steps", "fires"),
    [
        (lambda step: 0.5 + 0.1 * math.sin(1.7 * step), 200, True),
        (lambda step: 0.5 + 0.1 * math.sin(1.7 * step), 199, False),
        (lambda step: 0.5 + 0.1 * math.sin(1.7 * step) - 0.001 * step, 200, True),  # falling does not rise either
        (lambda step: 0.5 + 0.1 * math.sin(1.7 * step) + 0.001 * step, 200, False),
        (lambda step: 0.5 + 0.3 * math.sin(1.7 * step) + 0.00015 * step, 200, True),  # a rise within the noise
        (lambda step: 0.5 + 0.00005 * step, 200, True),  # surely positive, and too little
    ],
)
def test_a_long_run_that_does_not_move(reward: Callable[[int], float], steps: int, fires: bool) -> None:
    assert ("reward flat" in found(lambda record, step: {"reward": reward(step)}, steps)) == fires


def test_a_saturated_run_is_not_called_flat() -> None:
    perfect = constant(reward=2, rewards__accuracy__mean=1, rewards__format__mean=1, reward_std=0.3)
    assert not found(perfect, 200)


def test_a_long_run_logged_every_tenth_step_is_long_all_the_same() -> None:
    log = [{"step": 10 * k, "reward": 0.5 + 0.01 * (k % 2), "learning_rate": 1e-6} for k in range(1, 22)]
    assert [finding.name for finding in diagnose(log)] == ["reward flat"]


def test_a_healthy_log_has_no_finding() -> None:
    assert diagnose(healthy()) == []
    assert diagnose([]) == []


ACCURACY, FORMAT = "rewards/accuracy/mean", "rewards/format/mean"


@pytest.mark.parametrize(
    ("logged", "names"),
    [
        ([{"step": step, FORMAT: 0.0, ACCURACY: 0.5} for step in range(1, 31)], {"unpaid reward: format"}),
        ([{"step": step, FORMAT: 0.0, ACCURACY: 0.5} for step in range(1, 30)], set()),
        # One completion was paid once, thirty steps ago, and twenty-nine.
        ([{"step": step, FORMAT: float(step == 5)} for step in range(1, 36)], {"unpaid reward: format"}),
        ([{"step": step, FORMAT: float(step == 6)} for step in range(1, 36)], set()),
        # A record speaks for the steps since the one before it.
        ([{"step": 10 * k, FORMAT: 0.0} for k in range(1, 4)], {"unpaid reward: format"}),
        ([{"step": 10 * k, FORMAT: 0.0} for k in range(1, 3)], set()),
        # Each by itself.
        (
            [{"step": step, FORMAT: 0.0, ACCURACY: 0.0, "rewards/length/mean": 0.9} for step in range(1, 41)],
            {"unpaid reward: format", "unpaid reward: accuracy"},
        ),
        ([{"step": step, FORMAT: math.nan, ACCURACY: 0.5} for step in range(1, 6)], {"unpaid reward: format"}),
        ([{"step": step, FORMAT: math.nan if step > 1 else 0.5} for step in range(1, 6)], set()),
        # All the same, and not in full; in full is where a format should end.
        ([{"step": k, FORMAT: 0.5, "rewards/format/std": 0.0} for k in range(1, 31)], {"uniform reward: format"}),
        ([{"step": k, FORMAT: 0.5, "rewards/format/std": 0.0} for k in range(1, 30)], set()),
        ([{"step": k, FORMAT: -3.0, "rewards/format/std": 0.0} for k in range(1, 31)], {"uniform reward: format"}),
        ([{"step": k, FORMAT: 1.0, "rewards/format/std": 0.0} for k in range(1, 31)], set()),
        ([{"step": k, FORMAT: 0.5, "rewards/format/std": 0.1} for k in range(1, 31)], set()),
    ],
)
def test_each_reward_is_judged_by_itself(logged: list[dict[str, Any]], names: set[str]) -> None:
    assert {finding.name for finding in diagnose(logged)} == names


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.2] * 19, "too short to judge (19 of 20 records)"),
        ([0.2 + 0.01 * k for k in range(40)], "rises by 0.30"),
        ([0.6 - 0.01 * k for k in range(40)], "falls by 0.30"),
        ([0.5 + 0.1 * (k % 2) for k in range(40)], "does not move"),
        ([0.99] * 40, "at its maximum"),
    ],
)
def test_where_a_reward_went(values: list[float], verdict: str) -> None:
    watch = watched([{"step": step, ACCURACY: value} for step, value in enumerate(values, start=1)])
    assert watch.rewards()["accuracy"] == {"first": values[0], "last": values[-1], "verdict": verdict}


def test_every_rule_says_what_it_lacks_until_it_can_speak() -> None:
    reasons = watched([]).not_checked()
    assert reasons.keys() == RULES.keys()
    assert all(reason.startswith("not logged") for reason in reasons.values())
    log = healthy(200)
    assert watched(log).not_checked() == {}
    short = watched(log[:9]).not_checked()
    assert "broken gradient" not in short
    assert short["zero variance"] == "too short to judge (9 of 10 records)"
    assert watched(log[:199]).not_checked() == {"reward flat": "too short to judge (199 of 200 steps)"}


@pytest.mark.parametrize(("name", "fires"), [(name, pairs[0][0]) for name, pairs in CASES.items()])
def test_what_was_found_is_not_called_unchecked(name: str, fires: Change) -> None:
    log = [record | (fires(record, record["step"]) if "loss" in record else {}) for record in healthy(60)]
    assert name not in watched(log).not_checked()


def test_groups_all_right_and_all_wrong_get_different_advice() -> None:
    easy = constant(frac_reward_zero_std=0.9, rewards__accuracy__mean=0.9, rewards__format__mean=0.9)
    hard = constant(frac_reward_zero_std=0.9, rewards__accuracy__mean=0.0, rewards__format__mean=0.2)
    assert "too easy" in found(easy)["zero variance"].remedy
    assert "too hard" in found(hard)["zero variance"].remedy


def test_supervised_runs_may_lose_their_entropy() -> None:
    log = [{"step": step, "loss": 0.1, "grad_norm": 1.0, "learning_rate": 1e-5, "entropy": 1e-4} for step in range(40)]
    assert diagnose(log) == []


def test_a_finding_names_the_step_at_which_it_showed_and_stands_in_one_line() -> None:
    finding = found(after(40, grad_norm=0.0))["broken gradient"]
    assert (finding.step, finding.severity) == (45, "error")
    line = finding.line()
    assert "\n" not in line
    for part in ("step 45", "broken gradient", "grad_norm 0 in 5 records", finding.remedy):
        assert part in line


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.dictionaries(st.sampled_from(sorted(healthy(1)[0])), st.floats(0, 2) | st.none(), max_size=15), max_size=45
    ),
    st.integers(0, 45),
)
def test_what_a_running_training_was_told_is_what_the_finished_log_says(log: list[dict], cut: int) -> None:
    whole = diagnose([record | {"step": step} for step, record in enumerate(log)])
    begun = diagnose([record | {"step": step} for step, record in enumerate(log[:cut])])
    assert whole[: len(begun)] == begun
