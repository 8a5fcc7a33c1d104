"""One attack at one budget: what is missing is crafted in batches, saved, and judged from the files."""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from pydantic import JsonValue
from torch import Tensor

from medr1.attack.craft import Attack, craft
from medr1.attack.problem import Problem
from medr1.attack.stage import CleanRun, Stage, pixels_of, with_images
from medr1.attack.store import (
    MANIFEST,
    dataset_samples,
    distances,
    load_png,
    manifest_lines,
    pixel_hash,
    png_names,
    realised,
    save_strip,
)
from medr1.data.images import open_image
from medr1.errors import MedR1Error
from medr1.eval.measures import is_right
from medr1.eval.pairs import paired, robustness
from medr1.eval.runner import read_predictions
from medr1.results.attacked import AttackedImage, CellScores, Crash, ImageAttack
from medr1.types import Sample
from medr1.variants import VARIANTS
from medr1.variants.controls import BLANK_LEVEL

NOT_ATTACKED = "not attacked"
"""Outcome of a sample that was answered wrongly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The clean side of a run, and what crafting needs of it."""

    clean: CleanRun
    masks: Mapping[str, np.ndarray] | None
    swapped: Mapping[str, np.ndarray]
    """By sample id, an image that was asked the same question and has another answer."""

    def attacked(self) -> list[Sample]:
        """Samples that were answered rightly: only those can be lost."""
        return [one for one in self.clean.samples if is_right(self.clean.predictions[one.id])]


def swapped_images(stage: Stage, clean: CleanRun) -> dict[str, np.ndarray]:
    """Where the swapped control has a partner of the same size, its image."""
    found = {}
    sizes = {one.id: pixels_of(one).shape for one in clean.samples}
    for one in VARIANTS["swapped"].prepare(list(clean.samples), stage.job.seed):
        pieces = [stage.pixels(open_image(ref)) for ref in one.images]
        if len({piece.shape for piece in pieces}) == 1 and np.concatenate(pieces).shape == sizes[one.id]:
            found[one.id] = np.concatenate(pieces)
    return found


def batches(samples: Sequence[Sample], size: int) -> Iterator[tuple[list[Sample], Tensor]]:
    """Samples with their images `(N, H, W, 3)`, at most `size` together, all of one size and as many pictures."""
    by_shape: dict[tuple[int, ...], list[tuple[Sample, np.ndarray]]] = {}
    for one in samples:
        pixels = pixels_of(one)
        shape = (len(one.images), *pixels.shape)
        together = by_shape.setdefault(shape, [])
        together.append((one, pixels))
        if len(together) == size:
            yield [s for s, _ in together], torch.tensor(np.stack([p for _, p in by_shape.pop(shape)]))
    for together in by_shape.values():
        yield [s for s, _ in together], torch.tensor(np.stack([p for _, p in together]))


def problem_of(stage: Stage, inputs: Inputs, samples: Sequence[Sample], images: Tensor, k: int) -> Problem:
    """A batch under attack at a budget; the readings are the victim's own on the clean images."""
    victim = stage.victim
    prompts = victim.encode(samples, [one.numpy() for one in images])
    readings = victim.generate(prompts, images.to(prompts[0].input_ids_L.device, victim.pixel_dtype), samples)
    allowed = None
    if inputs.masks is not None:
        allowed = torch.tensor(np.stack([resized_mask(inputs.masks[one.id], *images.shape[1:3]) for one in samples]))
        allowed = allowed[..., None]
    return Problem(victim, samples, prompts, images, readings, replace(stage.job.threat, k=k), allowed)


def resized_mask(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """The nearest value of a mask (h, w) at every pixel of (height, width)."""
    rows = (np.arange(height) + 0.5) * mask.shape[0] / height
    columns = (np.arange(width) + 0.5) * mask.shape[1] / width
    return mask[rows.astype(int)][:, columns.astype(int)]


def starts_of(problem: Problem, inputs: Inputs, smaller: Path | None) -> dict[str, Tensor]:
    """Images to try first: grey, swapped (grey where there is none), and the best one at a smaller budget."""
    grey = torch.full_like(problem.clean_NHW3, BLANK_LEVEL)
    swapped = grey.clone()
    for row, one in enumerate(problem.samples):
        if one.id in inputs.swapped:
            swapped[row] = torch.tensor(inputs.swapped[one.id]).to(swapped)
    starts = {"blank": grey, "swapped": swapped}
    if smaller is not None:
        held = [pixels_of(one) for one in with_images(problem.samples, smaller)]
        starts["smaller budget"] = torch.tensor(np.stack(held)).to(grey)
    return starts


def run_cell(stage: Stage, inputs: Inputs, attack: Attack, k: int, smaller: Path | None) -> CellScores:
    """Craft what is missing, evaluate the files, and return what `attack.json` holds, without the checks.

    `smaller` is the folder of the same attack at the next smaller budget: what it changed already stays as it is.
    """
    folder = stage.job.folder(attack, k)
    name = folder.name if folder != stage.job.out else f"{attack.name}-k{k}"
    craft_missing(stage, inputs, attack, k, folder, smaller, name)
    return judged(stage, inputs, attack, k, folder, name)


def craft_missing(
    stage: Stage, inputs: Inputs, attack: Attack, k: int, folder: Path, smaller: Path | None, name: str
) -> None:
    """Images and manifest lines of the samples that have none yet; wrong answers are copied, not attacked.

    Batches are made of all samples and what is done already is left out of them, so that the lines come in one order
    however often the run was killed.
    """
    done = manifest_lines(folder)
    before = manifest_lines(smaller) if smaller is not None else {}
    right = {one.id for one in inputs.attacked()}
    to_attack, count = [], len(done)
    with stage.run.staged() as aside, stage.run.appending(stage.name(folder / MANIFEST)) as lines:

        def publish(one: Sample, pixels: np.ndarray, outcome: str, trace: Mapping[str, JsonValue]) -> None:
            """The image first: one without a line is made again, into the same bytes."""
            names = png_names(one.id, len(one.images))
            images = [aside / name for name in names]
            save_strip(images, pixels)
            line = _line(stage, one, images, _attack_facts(stage, attack, k), outcome, trace)
            for image, name in zip(images, names, strict=True):
                stage.run.publish(image, stage.name(folder / name), durable=False)
            lines.append(line)

        for one in inputs.clean.samples:
            if one.id in right and not (one.id in before and before[one.id].outcome == "flipped"):
                to_attack.append(one)
            elif one.id not in done:
                held = one if one.id not in right else with_images([one], smaller or folder)[0]
                trace = {"found_by": "smaller budget"} if one.id in right else {}
                outcome = "flipped" if one.id in right else NOT_ATTACKED
                publish(one, pixels_of(held), outcome, trace)
                count += 1
        missing = any(one.id not in done for one in to_attack)
        for samples, images in batches(to_attack if missing else [], stage.job.batch_size):
            rows = [row for row, one in enumerate(samples) if one.id not in done]
            if not rows:
                continue
            started = time.monotonic()
            samples, images = [samples[row] for row in rows], images[rows]
            problem = problem_of(stage, inputs, samples, images, k)
            starts = starts_of(problem, inputs, smaller) if attack.nested else {}
            best = craft(problem, attack, stage.modes, seed=stage.job.seed, starts=starts)
            seconds = (time.monotonic() - started) / len(samples)
            for row, (one, pixels) in enumerate(zip(samples, problem.images(best).cpu().numpy(), strict=True)):
                trace = asdict(best.traces[row]) | {"seconds": round(seconds, 4)}
                outcome = ("right", "unreadable", "flipped")[best.rank_N[row]] if attack.nested else "not judged"
                publish(one, pixels, outcome, trace)
            count += len(samples)
            stage.progress(f"crafting {name}", count, len(inputs.clean.samples))


def _line(
    stage: Stage, one: Sample, images: Sequence[Path], attack: ImageAttack, outcome: str, trace: Mapping[str, JsonValue]
) -> AttackedImage:
    names = png_names(one.id, len(one.images))
    clean = [stage.job.out / "clean" / name for name in names]
    height, width = load_png(images[0]).shape[:2]
    return AttackedImage(
        sample_id=one.id,
        adv_png=names[0],
        pictures=len(names),
        clean_sha256=pixel_hash(clean),
        sha256=hashlib.sha256(b"".join(image.read_bytes() for image in images)).hexdigest(),
        pixel_sha256=pixel_hash(images),
        hw=(height, width),
        gold=one.gold,
        num_options=len(one.options),
        modality=one.modality,
        attacked=outcome != NOT_ATTACKED,
        outcome=outcome,
        attack=attack,
        realised=realised(clean, images),
        trace=dict(trace),
    )


def _attack_facts(stage: Stage, attack: Attack, k: int) -> ImageAttack:
    threat = stage.job.threat
    return ImageAttack(
        name=attack.name,
        norm="linf",
        k=k,
        epsilon=k / 255,
        steps=attack.steps,
        losses=list(attack.losses),
        restarts=attack.restarts,
        modes=list(stage.modes),
        grey=threat.grey,
        region=threat.region,
        space=threat.space,
        seed=stage.job.seed,
        dtype=str(stage.victim.dtype).removeprefix("torch."),
    )


def judged(stage: Stage, inputs: Inputs, attack: Attack, k: int, folder: Path, name: str) -> CellScores:
    """Free generation from the files of a folder, and what it amounts to."""
    clean = inputs.clean
    samples = with_images(clean.samples, folder, variant=name)
    stage.run.write_dataset(stage.name(folder / "dataset.parquet"), dataset_samples(clean.samples, name))
    stage.evaluate_cell(name, samples, attack, k)
    by_id = manifest_lines(folder)
    lines = [by_id[one.id] for one in clean.samples]
    right = {one.id for one in inputs.attacked()}
    seconds = [found for line in lines if isinstance(found := line.trace.get("seconds"), float)]
    scores = robustness(
        paired(list(clean.predictions.values()), read_predictions(folder)),
        n_asked=clean.n_asked,
        reliant=clean.reliant,
        in_train=clean.in_train,
    )
    return scores.extended(
        CellScores,
        **dict(distances(lines)),
        attack=attack.name,
        norm="linf" if attack.bounded else "none",
        k=k,
        epsilon=k / 255,
        attacked_wrong=sum(line.attacked and line.sample_id not in right for line in lines),
        seconds_per_sample=float(np.mean(seconds)) if seconds else None,
        chance=clean.results.chance,
        blind=clean.results.blind,
        native_clean_accuracy=clean.native_accuracy,
        noise_floor=clean.noise_floor,
    )


def failed_cell(attack: Attack, k: int, error: Exception) -> Crash:
    """A cell that crashed: a failure with its reason, and no accuracy."""
    kind = type(error).__name__
    said = f"{kind}: {' '.join(str(error).split())[:300]}"
    return Crash(attack=attack.name, k=k, epsilon=k / 255, error=said)


CELL_ERRORS = (MedR1Error, RuntimeError)
"""What may end a cell without ending the run: a user's error, or PyTorch's (out of memory)."""


def first_problem(stage: Stage, inputs: Inputs, samples: Sequence[Sample], k: int) -> Problem | None:
    """A batch of samples of the commonest size, for the checks; None where there is none."""
    found = list(batches(samples, len(samples))) if samples else []
    if not found:
        return None
    chosen, images = max(found, key=lambda item: len(item[0]))
    return problem_of(stage, inputs, chosen, images, k)
