"""What an attack leaves: `attack.json`, `grid.json`, and a line of its `manifest.jsonl`."""

from typing import Annotated, Literal

from pydantic import JsonValue

from medr1.results import CountedShare, Record, Written
from medr1.results.evaluated import Blind, Results
from medr1.types import Estimate


class Lost(Record):
    """What became of right answers: another option, nothing that can be read, or a refusal."""

    flipped: int
    unreadable: int
    refused: int


class AttackScores(Record):
    """Both accuracies and what became of the right answers; without questions there are no accuracies."""

    n: int
    clean_accuracy: Annotated[Estimate | None, Written("clean_accuracy", "clean_ci95", n="n", merged=True)]
    robust_accuracy: Annotated[Estimate | None, Written("robust_accuracy", n="n", merged=True)]
    n_attacked: int
    attack_success_rate: Annotated[
        Estimate | None, Written("attack_success_rate", "attack_success_ci95", n="n_attacked", merged=True)
    ]
    lost: Lost
    recovered: int
    mcnemar_p: float


class Robustness(AttackScores):
    """The same with its parts; those that were not told apart are None."""

    failed: int
    image_reliant: AttackScores | None
    image_not_in_train: AttackScores | None
    by_modality: dict[str, AttackScores]
    by_task: dict[str, AttackScores]


class Distances(Record):
    """Between clean and attacked images."""

    linf_max: int
    l2_mean: float
    psnr_mean: float | None
    ssim_mean: float
    ssim_min: float


class CellScores(Robustness, Distances):
    """One attack at one budget."""

    attack: str
    norm: Literal["linf", "none"]
    k: int
    epsilon: float
    attacked_wrong: int
    seconds_per_sample: float | None
    chance: float | None
    blind: Blind
    native_clean_accuracy: float
    noise_floor: CountedShare


class Crash(Record):
    """One that crashed: no accuracy."""

    attack: str
    k: int
    epsilon: float
    error: str


class Trust(Record):
    """The outcome of every check (`passed`, `failed`, `not_run`), with what was seen."""

    checks: dict[str, Literal["passed", "failed", "not_run"]]
    check_details: dict[str, str]
    trustworthy: bool


class Beside(Trust):
    """What stands beside a cell once all of them are there."""

    noise_control_accuracy: float | None
    mcnemar_p_holm: float | None


class Cell(CellScores, Beside):
    """`attack.json`."""


class CrashedCell(Crash, Beside):
    """`attack.json` of a cell that crashed."""


class Grid(Trust):
    """`grid.json`: all attacks at all budgets."""

    n: int
    clean: Results
    native_clean_accuracy: float
    noise_floor: CountedShare
    image_reliant: int
    failures: dict[str, int]
    cells: dict[str, Cell | CrashedCell]
    area_under_curve: dict[str, float | None]
    reasons: list[str]


class Realised(Record):
    """Distances of one image from its clean one, from what the files decode to."""

    linf_levels: int
    l2: float
    frac_changed: float
    psnr: float | None
    ssim: float


class ImageAttack(Record):
    """What was done to an image."""

    name: str
    norm: str
    k: int
    epsilon: float
    steps: int
    losses: list[str]
    restarts: int
    modes: list[str]
    grey: bool
    region: str
    space: str
    seed: int
    dtype: str


class AttackedImage(Record):
    """One line of an attack's `manifest.jsonl`."""

    sample_id: str
    adv_png: str
    """The first of its pictures."""
    pictures: int = 1
    """How many it has: where several, `adv_png` ends in -1, and the hashes are of all, one behind the other."""
    clean_sha256: str
    sha256: str
    pixel_sha256: str
    hw: tuple[int, int]
    gold: str | None
    num_options: int
    modality: str
    attacked: bool
    outcome: str
    attack: ImageAttack
    realised: Realised
    trace: dict[str, JsonValue]
