"""Questions about several pictures under attack: one budget for all, each saved and shown in its place."""

import hashlib
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np

from attack_cases import engine
from medr1.attack.craft import ATTACKS
from medr1.attack.run import run_attack
from medr1.attack.stage import AttackJob
from medr1.attack.store import load_png, manifest_lines
from medr1.data.images import open_image
from medr1.data.phantom import phantom
from medr1.eval.runner import read_predictions
from medr1.records import read_samples


def test_every_picture_is_attacked_and_shown_in_order(tmp_path: Path) -> None:
    pictures = [phantom("validation", index).sample for index in range(6)]
    samples = [replace(one, images=(*one.images, *other.images)) for one, other in itertools.pairwise(pictures)]
    job = AttackJob(
        out=tmp_path,
        attacks=(ATTACKS["pgd"],),
        budgets=(4,),
        prompt="bare",
        max_new_tokens=12,
        batch_size=4,
        checks=False,
    )
    job = replace(job, attacks=(replace(ATTACKS["pgd"], steps=2, refresh=1),))
    result = run_attack(job, samples, engine())
    assert result.n == 5
    assert not result.failures
    lines = manifest_lines(tmp_path)
    changed = 0
    for sample in read_samples(tmp_path / "dataset.parquet"):
        line, original = lines[sample.id], next(one for one in samples if one.id == sample.id)
        assert (line.pictures, line.hw) == (2, (84, 84))
        assert len(sample.images) == 2
        for ref, clean in zip(sample.images, original.images, strict=True):
            change = np.abs(load_png(Path(str(ref.path))).astype(int) - np.asarray(open_image(clean))).max()
            assert change <= 4
            assert line.attacked or change == 0
            changed += change > 0
    attacked = [line for line in lines.values() if line.attacked and line.outcome != "flipped"]
    assert changed >= 2 * len(attacked)
    for prediction in read_predictions(tmp_path):
        files = [tmp_path / "images" / f"{prediction.id}-{n}.png" for n in (1, 2)]
        shown = [hashlib.sha256(load_png(file).tobytes()).hexdigest() for file in files]
        assert [one.sha256 for one in prediction.images or ()] == shown
