"""What is wrong with a training run, read from its log: pure rules from log records to findings.

A record is what TRL logs at a step (`train_log.jsonl`). The callback of a running training and `medr1 doctor RUN`
share these rules; each looks only back, so both say the same at the same step. A value that a run does not log (`kl`
without a reference model, `reward` in supervised fine-tuning) silences the rules that need it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean, median, variance

from medr1.diagnosis.history import WINDOW, History, Severity, Symptom

TOO_SHORT, NOT_LOGGED = "too short to judge", "not logged"
"""Why a rule has no outcome."""
STREAK = 5
"""Records in a row of a value that is no noise: one zero gradient or the zero rate of the first step is ordinary."""
UNPAID_STEPS = 30
"""Steps after which a reward that no completion has earned, or all have earned alike, is told."""
LATEST = 100
"""Records of the past that a running median looks at."""

MAX_ZERO_VARIANCE = 0.8
"""Share of groups without gradient: above it, five times the sampling is paid for each useful group."""
HIGH_REWARD = 0.5
"""Mean reward, as a share of the maximum, that tells groups all right from groups all wrong."""
SATURATED_REWARD = 0.97
"""Share of the maximum: what is left to gain is about the noise of one batch."""
SATURATED_STD = 0.1
"""Standard deviation of rewards below which almost no completion differs from the others."""
COLLAPSED_LENGTH = 1 / 3
"""Share of the first length: a terser style explains some shortening, only a lost chain of thought explains this."""
SHORT_COMPLETION = 5
"""Tokens: fewer hold no tagged answer, so a fall below them (to less than half) is a collapse whatever the start."""
MAX_CLIPPED_LENGTH = 0.3
"""Share of completions cut at the limit: they end without an answer and teach brevity, not seeing."""
CLIPPED_GROWTH = 1.5
"""Multiple of the first share of cut completions that is an explosion."""
CLIPPED_PATIENCE = 50
"""Records after which a share that was high from the start should have fallen; the demo's needs 35."""
KL_FACTOR = 10
"""Multiple of the running median: the k3 estimator has heavy tails, but not this heavy."""
KL_FLOOR = 0.5
"""Nats per token: below it a spike is far from leaving the reference model."""
MAX_CLIP_RATIO = 0.3
"""Share of tokens outside the trust region, whose gradient is cut; published runs stay below a tenth."""
COLLAPSED_ENTROPY = 0.05
"""Share of the first entropy. A run that learns loses most of it too (the demo keeps 15 %)."""
ENTROPY_FLOOR = 0.01
"""Nats per token: sampled completions of a group are then equal."""
EXPLODED_ENTROPY = 3.0
"""Multiple of the first entropy, with at least `ENTROPY_CEILING`."""
ENTROPY_CEILING = 1.0
"""Nats per token: text of a language model in good order is below."""
READABLE = 0.8
"""Mean format reward after which the format counts as learnt."""
UNREADABLE = 0.5
"""Mean format reward below which it counts as lost."""
MAX_LOGP_GAP = 0.1
"""Nats per token: bfloat16 in two engines differs by some hundredths; wrong prompts or stale weights by tenths."""
LONG_RUN = 200
"""Steps after which a recipe that works has moved: MedVLM-R1 trains for 300."""
FLAT_WINDOW = 50
"""Most records at the start and at the end whose mean rewards are compared."""
FLAT_REWARD = 0.01
"""Rise of the mean reward that counts as moving, however small its standard error."""
FLAT_ERRORS = 2.0
"""Standard errors that a rise must exceed."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What is looked for, and what must be logged before the answer means anything."""

    severity: Severity
    look: Callable[[History], Symptom | None]
    key: str
    """Regular expression of the value that it reads."""
    records: int
    """Of that value, before the rule can speak."""
    steps: int = 0
    """Likewise."""

    def unjudged(self, history: History) -> str | None:
        """Why the rule cannot say anything yet; None where it can."""
        keys = history.keys(self.key)
        if not keys:
            return f"{NOT_LOGGED} ({self.key})"
        records, steps = (max(map(of, keys)) for of in (lambda key: len(history.values(key)), history.steps_covered))
        if records < self.records:
            return f"{TOO_SHORT} ({records} of {self.records} records)"
        return f"{TOO_SHORT} ({steps} of {self.steps} steps)" if steps < self.steps else None


def zero_variance(history: History) -> Symptom | None:
    """Groups whose completions all earn the same."""
    share, reward = history.mean("frac_reward_zero_std"), history.share_of_maximum()
    if share is None or share <= MAX_ZERO_VARIANCE:
        return None
    figure = f"frac_reward_zero_std {share:.2f} over {WINDOW} records"
    problem = "Most groups earn the same reward in all completions and give no gradient"
    if reward is not None and reward >= HIGH_REWARD:
        remedy = "The questions are too easy or already learnt: train on harder ones, or stop here."
    else:
        remedy = "The questions are too hard or unreadable: raise num_generations, warm up by SFT, or start easier."
    return Symptom(figure, problem, remedy)


def reward_saturation(history: History) -> Symptom | None:
    """Nothing left to gain."""
    reward, std = history.share_of_maximum(), history.mean("reward_std")
    if reward is None or std is None or reward < SATURATED_REWARD or std > SATURATED_STD:
        return None
    return Symptom(
        f"rewards at {reward:.1%} of their maximum, reward_std {std:.3f}",
        "The reward is at its maximum and no completion differs",
        "Stop here and evaluate against the blind twin, or go on with harder questions.",
    )


def length_collapse(history: History) -> Symptom | None:
    """Completions become much shorter."""
    first, now = history.first("completions/mean_length"), history.mean("completions/mean_length")
    if first is None or now is None:
        return None
    if now >= COLLAPSED_LENGTH * first and not (now < SHORT_COMPLETION and now < first / 2):
        return None
    return Symptom(
        f"{now:.1f} tokens, {first:.1f} at the start",
        "Completions have become much shorter, so the policy answers without reasoning",
        "Where the prompt asks for thinking, reward the format strictly, lower learning_rate, or raise beta.",
    )


def length_explosion(history: History) -> Symptom | None:
    """Completions run into the limit: more and more of them, or as many as ever."""
    key = "completions/clipped_ratio"
    first, now = history.first(key), history.mean(key)
    if first is None or now is None or now <= MAX_CLIPPED_LENGTH:
        return None
    if now <= CLIPPED_GROWTH * first and len(history.values(key)) < CLIPPED_PATIENCE:
        return None
    return Symptom(
        f"{key} {now:.2f}, {first:.2f} at the start",
        "Many completions are cut at max_completion_length before they answer",
        "Raise max_completion_length, or set mask_truncated_completions, and ask for a shorter answer.",
    )


def kl_spike(history: History) -> Symptom | None:
    """The policy jumps away from the reference model."""
    values = history.values("kl")
    if len(values) <= WINDOW:
        return None
    usual = median(values[-LATEST - 1 : -1])
    if values[-1] <= KL_FLOOR or values[-1] <= KL_FACTOR * usual:
        return None
    return Symptom(
        f"kl {values[-1]:.3g}, median {usual:.3g}",
        "The policy has jumped away from the reference model",
        "Lower learning_rate or max_grad_norm, or raise beta, and go on from the checkpoint before.",
    )


def clip_fraction(history: History) -> Symptom | None:
    """Updates leave the trust region."""
    share = history.mean("clip_ratio/region_mean")
    if share is None or share <= MAX_CLIP_RATIO:
        return None
    return Symptom(
        f"clip_ratio/region_mean {share:.2f} over {WINDOW} records",
        "A large share of tokens is clipped: updates are larger than the trust region",
        "Lower learning_rate or num_iterations, or generate more often (smaller steps_per_generation).",
    )


def entropy_collapse(history: History) -> Symptom | None:
    """The policy no longer explores."""
    first, now = _policy_entropy(history)
    if first is None or now is None or (now >= COLLAPSED_ENTROPY * first and now >= ENTROPY_FLOOR):
        return None
    return Symptom(
        f"entropy {now:.3g} nats, {first:.3g} at the start",
        "The policy writes nearly the same completion every time and no longer explores",
        "Raise temperature or epsilon_high, lower learning_rate, or add an entropy bonus.",
    )


def entropy_explosion(history: History) -> Symptom | None:
    """The policy dissolves into noise."""
    first, now = _policy_entropy(history)
    if first is None or now is None or now <= EXPLODED_ENTROPY * first or now <= ENTROPY_CEILING:
        return None
    return Symptom(
        f"entropy {now:.3g} nats, {first:.3g} at the start",
        "The policy is dissolving into noise",
        "Lower learning_rate or temperature, take away an entropy bonus, or raise beta.",
    )


def unreadable(history: History) -> Symptom | None:
    """The answer format was learnt and is lost again."""
    for key in history.keys(r"rewards/.*format.*/mean"):
        now, best = history.mean(key), history.best(key)
        if now is not None and now < UNREADABLE and best > READABLE:
            return Symptom(
                f"{key} {now:.2f}, was {best:.2f}",
                "Completions that were readable no longer are",
                "Read completions.parquet for what they have become, lower learning_rate, and keep a format reward.",
            )
    return None


def sampling_gap(history: History) -> Symptom | None:
    """Sampler and trainer disagree about the same tokens."""
    gap = history.mean("sampling/sampling_logp_difference/mean")
    if gap is None or gap <= MAX_LOGP_GAP:
        return None
    largest = history.values("sampling/sampling_logp_difference/max")
    figure = f"sampling/sampling_logp_difference/mean {gap:.3g} nats"
    return Symptom(
        figure + (f", max {largest[-1]:.3g}" if largest else ""),
        "What samples and what learns give the same tokens different probabilities",
        "Check that both see the same prompt tokens, weights after each update, dtype and sampling filters; what is "
        "left is weighed out by sampler_correction (with vLLM by vllm_importance_sampling_correction).",
    )


def broken_gradient(history: History) -> Symptom | None:
    """The gradient is not a number, or nothing."""
    values = history.values("grad_norm")
    if values and not math.isfinite(values[-1]):
        return Symptom(
            f"grad_norm {values[-1]}",
            "The gradient is not a number",
            "Go on from the checkpoint before, with a lower learning_rate, and bf16 or float32 in place of fp16.",
        )
    if len(values) >= STREAK and not any(values[-STREAK:]):
        return Symptom(
            f"grad_norm 0 in {STREAK} records",
            "There is no gradient, so the weights stay as they are",
            "Check frac_reward_zero_std, the rewards, and that some weights are trainable.",
        )
    return None


def reward_flat(history: History) -> Symptom | None:
    """A long run that has not moved."""
    values = history.values("reward")
    size = min(FLAT_WINDOW, len(values) // 4)
    share = history.share_of_maximum()
    if history.steps_covered("reward") < LONG_RUN or size < 2 or (share is not None and share >= SATURATED_REWARD):
        return None
    early, late = values[:size], values[-size:]
    rise = fmean(late) - fmean(early)
    error = math.sqrt((variance(early) + variance(late)) / size)
    if not rise <= max(FLAT_ERRORS * error, FLAT_REWARD):
        return None
    return Symptom(
        f"reward {fmean(early):.3f} at the start, {fmean(late):.3f} now",
        f"The reward has not risen in {history.steps_covered('reward')} steps",
        "Raise learning_rate, temperature or num_generations, and check rewards on some completions by hand.",
    )


def zero_learning_rate(history: History) -> Symptom | None:
    """The optimizer does nothing."""
    values = history.values("learning_rate")
    if len(values) < STREAK or any(values[-STREAK:]):
        return None
    return Symptom(
        f"learning_rate 0 in {STREAK} records",
        "The learning rate is zero, so the weights stay as they are",
        "Set learning_rate, and check that the schedule's max_steps and warmup_steps are those of this run.",
    )


def _policy_entropy(history: History) -> tuple[float | None, float | None]:
    """First and present entropy of a policy; in supervised fine-tuning a low entropy is the aim."""
    if not history.values("reward"):
        return None, None
    return history.first("entropy"), history.mean("entropy")


def unpaid_reward(history: History, key: str) -> Symptom | None:
    """A reward that no completion earns."""
    values = history.values(key)
    if len(values) >= STREAK and all(math.isnan(value) for value in values[-STREAK:]):
        return Symptom(
            f"{key} is not a number in {STREAK} records",
            "The reward gives no number for any completion, so nothing that it asks for is learnt",
            "Let it give 0 in place of None, and check that the data have what it reads.",
        )
    if (steps := history.standing(key, 0.0)) < UNPAID_STEPS:
        return None
    return Symptom(
        f"{key} 0 for {steps} steps",
        "The reward paid nothing to any completion, so nothing that it asks for is learnt",
        "Read completions.parquet: prompt and reward must ask for the same; warm up by SFT, or start easier.",
    )


def uniform_reward(history: History, key: str) -> Symptom | None:
    """A reward that pays all completions the same, and not in full."""
    std, paid = key.removesuffix("/mean") + "/std", history.values(key)[-1]
    steps = history.standing(std, 0.0)
    if steps < UNPAID_STEPS or paid == 0 or paid >= SATURATED_REWARD:
        return None
    return Symptom(
        f"{std} 0 for {steps} steps, {key} {paid:.2f}",
        "The reward pays every completion the same, so it tells none from another",
        "Check on some completions by hand what it reads of them; `medr1 rewards fuzz` tries it.",
    )


RULES: dict[str, Rule] = {
    "zero variance": Rule("warning", zero_variance, "frac_reward_zero_std", WINDOW),
    "reward saturation": Rule("warning", reward_saturation, "reward_std", WINDOW),
    "length collapse": Rule("warning", length_collapse, "completions/mean_length", 2 * WINDOW),
    "length explosion": Rule("warning", length_explosion, "completions/clipped_ratio", 2 * WINDOW),
    "KL spike": Rule("error", kl_spike, "kl", WINDOW + 1),
    "clip fraction": Rule("warning", clip_fraction, "clip_ratio/region_mean", WINDOW),
    "entropy collapse": Rule("warning", entropy_collapse, "entropy", 2 * WINDOW),
    "entropy explosion": Rule("error", entropy_explosion, "entropy", 2 * WINDOW),
    "unreadable answers": Rule("error", unreadable, r"rewards/.*format.*/mean", WINDOW),
    "sampling gap": Rule("error", sampling_gap, "sampling/sampling_logp_difference/mean", WINDOW),
    "broken gradient": Rule("error", broken_gradient, "grad_norm", STREAK),
    "reward flat": Rule("warning", reward_flat, "reward", 8, LONG_RUN),
    "zero learning rate": Rule("error", zero_learning_rate, "learning_rate", STREAK),
}
"""Every rule about the whole run, by name."""

REWARD_RULES: dict[str, tuple[Severity, Callable[[History, str], Symptom | None]]] = {
    "unpaid reward": ("error", unpaid_reward),
    "uniform reward": ("warning", uniform_reward),
}
"""Every rule about a single reward, given the key of its mean; a finding is named after rule and reward."""
