"""A small attack of the shipped tiny model, for tests that end it.

The model is loaded with the module and asked nothing: a fork that comes before the first forward pass can use PyTorch.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from attack_cases import engine
from medr1.attack.craft import ATTACKS
from medr1.attack.run import run_attack
from medr1.attack.stage import AttackJob
from medr1.attack.threat import ThreatModel
from medr1.data.phantom import phantom
from medr1.results.attacked import Grid

torch.set_num_threads(1)  # others would not survive a fork
engine()
SAMPLES = [
    phantom("validation", index, side=side).sample
    for index, side in ((0, 84), (2, 112), (4, 84), (5, 84), (7, 112), (1, 84))
]
"""All but the last are answered rightly; pictures of two sizes are attacked apart, so that batches are mixed."""
PGD = replace(ATTACKS["pgd"], steps=1, restarts=1, refresh=1)


def attacked(out: Path, *, single: bool = False) -> Grid:
    """Noise and a short search at one budget, or the search alone."""
    job = AttackJob(
        out=out,
        attacks=(PGD,) if single else (ATTACKS["noise"], PGD),
        budgets=(8,),
        prompt="bare",
        modes=("joint",),
        max_new_tokens=12,
        batch_size=2,
        threat=ThreatModel(k=0, space="native"),
        checks=False,
    )
    return run_attack(job, SAMPLES, engine())


SECONDS = re.compile(r'("seconds(?:_per_sample)?": )[\d.]+|(<tr><td>(?:seconds|started)</td><td>)[^<]*', flags=re.ASCII)


def without_seconds(value: Any) -> Any:
    """What a file holds, but for the times that two equal runs differ in."""
    if isinstance(value, bytes):
        try:
            return SECONDS.sub(lambda found: found[1] or found[2], value.decode())
        except UnicodeDecodeError:
            return value
    if isinstance(value, dict):
        return {name: without_seconds(part) for name, part in value.items() if name != "seconds_per_sample"}
    return value
