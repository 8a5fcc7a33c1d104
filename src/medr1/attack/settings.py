"""What `medr1 attack` is asked for."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from annotated_types import Ge, Le
from pydantic import field_validator, model_validator

from medr1.engines.settings import AskedSettings, LocalSettings
from medr1.errors import ConfigError
from medr1.settings import Positional, RunSettings, Several, known

if TYPE_CHECKING:
    from medr1.attack.stage import AttackJob

Mode = Literal["direct", "rationale", "joint", "stop"]
"""What is forced before the letter.

`direct`: the answer tag alone. `rationale`: the model's own thinking, renewed as the image changes. `joint`: the same,
and the thinking itself is made unlikely (rationale attack). `stop`: an empty thinking, which is made likely
(stop-reasoning attack, arXiv 2402.14899).
"""
Region = Literal["all", "inside", "outside"]
Space = Literal["grid", "native"]
LEVELS = 255


class AttackSettings(RunSettings, AskedSettings, LocalSettings):
    """An attack: on which checkpoint and questions, by which searches, within which budgets."""

    model: Positional[str]
    """Checkpoint: a folder, a name of `medr1 models list`, or a hub name."""
    data: Path
    """Samples: a folder that `medr1 data` wrote, or a parquet file."""
    out: Path
    """Folder for images, predictions, attack.json, grid.json and attack.html."""
    attack: Several[str] = ()
    """noise, fgsm, pgd, pgd_strong, apgd, mi, square, typographic; several with commas. [pgd]"""
    k: Several[Annotated[int, Ge(0), Le(LEVELS)]] = ()
    """Budgets in grey levels of 255, comma-separated. [8]"""
    epsilon: Annotated[float, Ge(0), Le(1)] | None = None
    """Budget from 0 to 1 instead of --k: 0.03 is k = 7."""
    grid: bool = False
    """Unless named otherwise, the attacks noise,fgsm,pgd at k = 2,4,7,8."""
    modes: Several[Mode] = ()
    """Words forced before the letter: direct, rationale, joint, stop. [joint,stop or direct]"""
    steps: Annotated[int, Ge(1)] | None = None
    """Gradient steps or queries; the attack's own."""
    restarts: Annotated[int, Ge(1)] | None = None
    """Restarts; the attack's own."""
    grey: bool = False
    """One perturbation for the three channels."""
    region: Region = "all"
    """Pixels that may change, by --masks."""
    masks: Path | None = None
    """.npz with a mask by sample id."""
    space: Space = "grid"
    """grid: the size that the model sees; native: that of the file."""
    train_data: Path | None = None
    """Training samples: text prior, and which images occur in them."""
    max_new_tokens: Annotated[int, Ge(1)] = 256
    """Limit of a completion."""
    batch_size: Annotated[int, Ge(1)] = 32
    """Samples that are attacked together."""
    limit: Annotated[int, Ge(1)] | None = None
    """Attack so many samples, drawn at random."""
    seed: int = 0
    """Seed of the drawn samples and of the attacks."""
    checks: bool = True
    """Run the checks; without them nothing is trustworthy."""

    @field_validator("attack")
    @classmethod
    def _attack(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        from medr1.attack.craft import ATTACKS  # PyTorch takes seconds, and --help need not wait for it

        return tuple(known("attack", name, ATTACKS) for name in names)

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if self.epsilon is not None and self.k:
            raise ConfigError("--k and --epsilon both set the budget; leave one out")
        return self

    def job(self) -> "AttackJob":
        """The attack as the searches take it; the prompt must be named (`flows.engines.as_trained`)."""
        from medr1.attack.craft import named_attack
        from medr1.attack.stage import AttackJob
        from medr1.attack.threat import ThreatModel, levels_of

        assert self.prompt is not None, "which prompt it is depends on the checkpoint"
        changes = {"steps": self.steps, "restarts": self.restarts}
        changes = {name: value for name, value in changes.items() if value is not None}
        names = self.attack or (("noise", "fgsm", "pgd") if self.grid else ("pgd",))
        budgets = (levels_of(self.epsilon),) if self.epsilon is not None else self.k
        return AttackJob(
            out=self.out,
            attacks=tuple(named_attack(name, **changes) for name in names),
            budgets=budgets or ((2, 4, 7, 8) if self.grid else (8,)),
            prompt=self.prompt,
            protocol=self.protocol,
            modes=self.modes or None,
            threat=ThreatModel(k=0, grey=self.grey, region=self.region, space=self.space),
            masks=self.masks,
            max_new_tokens=self.max_new_tokens,
            batch_size=self.batch_size,
            seed=self.seed,
            checks=self.checks,
            arguments={
                "model": self.model,
                "data": self.data,
                "limit": self.limit,
                "steps": self.steps,
                "restarts": self.restarts,
                "settings": self.dump(),
            },
            overwrite=self.overwrite,
        )
