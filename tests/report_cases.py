"""Records with plain values, of which a test of a report states those that it looks at."""

from typing import Any

from medr1.results.attacked import Cell, Grid
from medr1.results.compared import Compared, Comparison, Steps
from medr1.results.evaluated import Results

METHOD = {"ci_method": "wilson", "n_groups": 9}


def part(accuracy: float | None = 0.5, ci95: Any = (0.25, 0.75), n: int = 10, **further: Any) -> dict[str, Any]:
    return {"n": n, "accuracy": accuracy, "ci95": ci95, "chance": 0.25, **METHOD, **further}


def results(**stated: Any) -> Results:
    """`results.json`."""
    blind = dict.fromkeys(("text_prior", "format_rule", "longest_option", "blank_image", "swapped_image"))
    plain = {
        **part(),
        "failed": 0,
        "majority_letter": 0.3,
        "blind": blind | stated.pop("blind", {}),
        "parse": {"ok": 10},
        "mean_tokens": 5.0,
        "protocols": {},
        **{f"by_{axis}": {} for axis in ("modality", "task", "source", "num_options")},
        "by_modality_and_task": [],
        "subgroups": [],
        "sampling": None,
        "confidence": None,
        "controls": {},
        "image_reliance": None,
        "option_order": None,
    }
    return Results.model_validate(plain | stated)


def control(accuracy: float, ci95: Any = (0.0, 0.4), **further: Any) -> dict[str, Any]:
    return {"n": 10, "dropped": 2, "failed": 0, "accuracy": accuracy, "ci95": ci95, **METHOD, **further}


def difference(value: float, ci95: Any) -> dict[str, Any]:
    return {"n": 50, "value": value, "ci95": ci95, "ci_method": "bonett-price", "bootstrap_ci95": ci95}


def pair(base: Any, other: Any, change: dict[str, Any], **further: Any) -> dict[str, Any]:
    plain = {
        "n": 50,
        "n_groups": 50,
        "base": base,
        "other": other,
        "difference": change,
        "p": 0.001,
        "test": "exact McNemar",
        "mcnemar_p": 0.00123,
        "flips": {"wrong_to_right": 12, "right_to_wrong": 3},
        "agreement": 0.75,
        "detectable_difference": 0.08,
        "only_in_base": 0,
        "only_in_other": 0,
    }
    return plain | further


def comparison(**stated: Any) -> Comparison:
    return Comparison.model_validate(pair(**stated))


def compared(**stated: Any) -> Compared:
    """`compare.json`."""
    plain: dict[str, Any] = {n: {} for n in ("left_out", "differing_arguments", "runs", "gain", "steps", "by")}
    return Compared.model_validate(plain | {"n": 1000, "pairs": [], "blind_twin": None, "flipped": []} | stated)


def attack_scores(robust: float, ci95: Any = (0.0, 0.2), **further: Any) -> dict[str, Any]:
    plain = {
        "n": 50,
        "clean_accuracy": 0.8,
        "clean_ci95": [0.67, 0.89],
        "robust_accuracy": robust,
        "ci95": ci95,
        "n_attacked": 40,
        "attack_success_rate": 0.875,
        "attack_success_ci95": [0.74, 0.95],
        "lost": {"flipped": 33, "unreadable": 1, "refused": 1},
        "recovered": 0,
        "mcnemar_p": 0.001,
    }
    return plain | further


BESIDE = {
    "checks": {"gradient": "failed"},
    "check_details": {"gradient": "largest relative error 0.5"},
    "trustworthy": False,
}
UNKNOWN = {"noise_control_accuracy": None, "mcnemar_p_holm": None}


def cell(robust: float, ci95: Any, **further: Any) -> Cell:
    """`attack.json`."""
    plain = {
        **attack_scores(robust, ci95),
        **BESIDE,
        **UNKNOWN,
        "attack": "pgd",
        "norm": "linf",
        "k": 7,
        "epsilon": 7 / 255,
        "failed": 0,
        "image_reliant": None,
        "image_not_in_train": None,
        "by_modality": {"CT": attack_scores(robust)},
        "by_task": {"other": attack_scores(robust)},
        "linf_max": 7,
        "l2_mean": 3.0,
        "psnr_mean": 33.3,
        "ssim_mean": 0.91,
        "ssim_min": 0.8,
        "attacked_wrong": 0,
        "seconds_per_sample": 0.1,
        "chance": 0.25,
        "blind": results().blind,
        "native_clean_accuracy": 0.8,
        "noise_floor": {"n": 50, "share": 0.02, "ci95": [0.0, 0.1]},
    }
    return Cell.model_validate(plain | further)


def grid(**stated: Any) -> Grid:
    """`grid.json`."""
    plain = {
        **BESIDE,
        "n": 50,
        "native_clean_accuracy": 0.8,
        "noise_floor": {"n": 50, "share": 0.02, "ci95": [0.0, 0.1]},
        "image_reliant": 44,
        "failures": {},
        "area_under_curve": {},
        "reasons": ["gradient: largest relative error 0.5"],
    }
    return Grid.model_validate(plain | stated)


def steps(**stated: Any) -> Steps:
    return Steps.model_validate(stated)
