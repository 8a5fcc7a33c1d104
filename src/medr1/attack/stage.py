"""An attack from data to `attack.json`: clean images, crafting, saving, and free generation from the saved files.

    OUT/manifest.json, checks.json    arguments, identity and state, versions, failures by type; the checks
    OUT/clean/                        clean images at the size that the model sees, evaluated with its blind controls
    OUT/clean_repeat/, clean_native/  the same in other batches (noise floor), and the original files
    OUT/<attack>-k<k>/                images, manifest.jsonl, dataset.parquet, predictions.jsonl, attack.json
    OUT/grid.json, attack.html        all of them side by side

A single attack has its files in OUT itself, the evaluation that they come from in OUT/evaluation, and its control with
random noise in OUT/noise. Success is read from the saved files alone, by the ordinary evaluation with the stock
processor. OUT is a `medr1.runs.Run`, and so is every evaluation inside of it: a killed run goes on where it stopped,
one that is done changes nothing, and further attacks and budgets are further work on the same run.
"""

import copy
import hashlib
import json
import logging
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medr1.attack.craft import ATTACKS, Attack, default_modes
from medr1.attack.objective import Mode
from medr1.attack.store import dataset_samples, load_strip, png_names, save_strip
from medr1.attack.threat import LEVELS, ThreatModel
from medr1.attack.victim import Victim
from medr1.data.images import open_image
from medr1.engines.engine import SamplingParams, about_pictures, request_for
from medr1.engines.transformers import TransformersEngine, refusal
from medr1.errors import ConfigError, DataError
from medr1.eval.pairs import noise_floor, originals
from medr1.eval.reliance import reliance_rows
from medr1.eval.runner import Asking, evaluate, read_predictions
from medr1.eval.scoring import protocol_for
from medr1.models.pixels import grid_image
from medr1.prompts import PROMPTS
from medr1.records import content_hashes, data_hash, labels_hash, short_hash
from medr1.results.evaluated import Results
from medr1.runs import Run, stored_manifest
from medr1.types import Estimate, ImageRef, Prediction, Sample

logger = logging.getLogger(__name__)

NAMED = 3
"""Samples that cannot be attacked that a message names."""
Progress = Callable[[str, int, int], None]
"""Called with what is done, how many samples of it, and of how many."""

CONTROLS = ("blank", "swapped", "no_image")
"""What tells whether a question is image-reliant; blank and swapped images are also tried as adversarial ones."""
OLD_MANIFEST = "run.json"
"""Of version 0.1, whose evaluations had their manifest where the run has it now."""
EVALUATION = "evaluation"
"""Folder of the evaluation of a single attack, whose other files are in the folder of the run itself."""
FILES = (
    *("clean", "clean_repeat", "clean_native", "noise", EVALUATION, "checks.json", "grid.json", "attack.html"),
    *(f"{attack.name}-k[0-9]*" if attack.bounded else attack.name for attack in ATTACKS.values()),
    *("images", "manifest.jsonl", "dataset.parquet", "attack.json", "predictions.jsonl", "results.json"),
)
"""What a run writes beside its manifest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackJob:
    """What to attack, how, and where to write."""

    out: Path
    attacks: tuple[Attack, ...]
    budgets: tuple[int, ...]
    """k, in grey levels."""
    prompt: str = "think"
    protocol: str = "default"
    modes: tuple[Mode, ...] | None = None
    """What is forced before the letter; None takes the strongest modes known for the prompt's answer format."""
    threat: ThreatModel = field(default_factory=lambda: ThreatModel(k=0))
    """Everything but the budget."""
    masks: Path | None = None
    """`.npz` with a mask by sample id, where the region is not the whole image."""
    max_new_tokens: int = 256
    batch_size: int = 32
    seed: int = 0
    checks: bool = True
    check_samples: int = 16
    square_queries: int = 200
    arguments: Mapping[str, object] | None = None
    """Of the caller, for the manifest: model, data, …"""
    overwrite: bool = False
    """Start anew where the folder holds a run."""
    cell_out: Path | None = None
    """Folder of the only cell, where it is not `out`."""

    @property
    def cells(self) -> list[tuple[Attack, int]]:
        """Attacks and budgets in the order in which they run; an attack without a budget runs once."""
        bounded = [(attack, k) for attack in self.attacks if attack.bounded for k in sorted(set(self.budgets))]
        return bounded + [(attack, LEVELS) for attack in self.attacks if not attack.bounded]

    @property
    def cell_names(self) -> list[str]:
        """How results name the cells."""
        return [f"{attack.name}-k{k}" if attack.bounded else attack.name for attack, k in self.cells]

    @property
    def sampling(self) -> SamplingParams:
        """How the model generates, also while it is attacked."""
        return SamplingParams(max_new_tokens=self.max_new_tokens, seed=self.seed)

    @property
    def forced(self) -> tuple[Mode, ...]:
        """What is forced before the letter."""
        return self.modes or default_modes(PROMPTS[self.prompt].answer_format)

    def folder(self, attack: Attack, k: int) -> Path:
        """Where the files of a cell are."""
        if len(self.cells) == 1:
            return self.cell_out or self.out
        return self.out / (f"{attack.name}-k{k}" if attack.bounded else attack.name)

    def evaluation(self, attack: Attack, k: int) -> Path:
        """Where the evaluation of a cell is."""
        folder = self.folder(attack, k)
        return folder / EVALUATION if folder == self.out else folder


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanRun:
    """The clean images and what the model makes of them."""

    samples: tuple[Sample, ...]
    """With their clean images as files of the run."""
    predictions: Mapping[str, Prediction]
    reliant: frozenset[str]
    in_train: frozenset[str] | None
    results: Results
    native_accuracy: float
    noise_floor: Estimate
    failures: Mapping[str, int]
    """Samples that cannot be attacked, by reason."""

    @property
    def n_asked(self) -> int:
        """Samples that are attacked or copied."""
        return len(self.samples)


class Stage:
    """What every part of a run needs: the job, the run, the engine, the victim, and a way to evaluate a folder."""

    def __init__(self, job: AttackJob, run: Run, engine: TransformersEngine, progress: Progress) -> None:
        self.job, self.run, self.engine, self.progress = job, run, engine, progress
        self.params, self.modes = job.sampling, job.forced
        read = protocol_for(job.protocol, job.prompt)
        self.victim = Victim(engine, prompt=PROMPTS[job.prompt], params=self.params, read=read)

    def name(self, path: Path) -> str:
        """A path of the run as its publications name it."""
        return path.relative_to(self.job.out).as_posix()

    def pixels(self, image: Image.Image) -> np.ndarray:
        """A picture in the space that is attacked, `(H, W, 3)`."""
        native = self.job.threat.space == "native"
        return np.asarray(image) if native else grid_image(image, self.victim.image_processor)

    def noise_control(self) -> "Stage":
        """The same stage for the control of a single attack, random noise in a folder of its own."""
        control = copy.copy(self)
        control.job = replace(self.job, attacks=(ATTACKS["noise"],), cell_out=self.job.out / "noise")
        return control

    def evaluate(
        self, name: str, samples: Sequence[Sample], folder: Path, *, variants: Sequence[str] = (), batch_size: int,
        train_samples: Sequence[Sample] | None = None,
    ) -> Results:  # fmt: skip
        """Free generation from files: the results, with the predictions in the folder."""
        return evaluate(
            samples,
            self.engine,
            Asking(
                prompt=self.job.prompt,
                protocol=self.job.protocol,
                params=self.params,
                variants=variants,
                batch_size=batch_size,
                seed=self.job.seed,
                arguments={**(self.job.arguments or {}), "images": name},
            ),
            out=folder,
            train_samples=train_samples,
            progress=lambda done, total: self.progress(f"evaluating {name}", done, total),
        )

    def evaluate_cell(self, name: str, samples: Sequence[Sample], attack: Attack, k: int) -> None:
        """Free generation from the images of a cell: `predictions.jsonl` and `results.json` in its folder."""
        folder, place = self.job.folder(attack, k), self.job.evaluation(attack, k)
        self.evaluate(name, samples, place, batch_size=self.job.batch_size)
        if place != folder:
            for file in ("predictions.jsonl", "results.json"):
                with self.run.file(self.name(folder / file)) as path:
                    shutil.copyfile(place / file, path)


def open_run(
    job: AttackJob, engine: TransformersEngine, samples: Sequence[Sample], masks: Mapping[str, np.ndarray] | None
) -> Run:
    """The run that the job starts or goes on with. Raises `ConfigError` for a folder of version 0.1."""
    if (job.out / OLD_MANIFEST).exists():
        raise ConfigError(
            f"{job.out} was written by version 0.1, which did not note what went in; choose another folder, or remove "
            "this one"
        )
    threat = {name: value for name, value in asdict(job.threat).items() if name != "k"}
    facts = {
        "prompt": job.prompt,
        "protocol": job.protocol,
        "modes": list(job.forced),
        "threat": threat,
        "sampling": asdict(job.sampling),
    }
    described = dict(engine.describe())
    known = {name: value for name, value in described.items() if not (name == "model" and "weights" in described)}
    return Run(
        job.out,
        command="attack",
        arguments={**(job.arguments or {}), **facts, "engine": described, "data_hash": data_hash(samples)},
        identity={
            **known,
            **facts,
            **content_hashes(samples),
            "labels": short_hash(sorted([one.id, one.variant, labels_hash(one)] for one in samples)),
            "prompt_text": short_hash(asdict(PROMPTS[job.prompt])),
            "masks": None if masks is None else _masks_hash(masks),
            # It has its files where another run has folders.
            "single_attack": job.cell_names[0] if len(job.cells) == 1 else None,
        },
        seed=job.seed,
        owns=FILES,
        overwrite=job.overwrite,
    )


def attack_settings(job: AttackJob) -> dict[str, dict[str, object]]:
    """The settings of the job's attacks by name, with those that the folder has run before.

    Raises `ConfigError` where it has run one of them with other settings: budgets would not be comparable.
    """
    stored = None if job.overwrite else stored_manifest(job.out)
    before = {} if stored is None else stored.facts.get("attacks", {})
    now = {attack.name: json.loads(json.dumps(asdict(attack))) for attack in job.attacks}
    for name, settings in now.items():
        del settings["description"]
        old = before.get(name, settings)
        changed = [key for key in settings if old.get(key) != settings[key]]
        if changed:
            told = "; ".join(f"{key} was {old.get(key)!r}, now {settings[key]!r}" for key in changed)
            raise ConfigError(
                f"{job.out} holds {name} with other settings ({told}); choose another folder, or start anew with "
                "--overwrite"
            )
    return before | now


def _masks_hash(masks: Mapping[str, np.ndarray]) -> str:
    digests = {name: hashlib.sha256(mask.tobytes()).hexdigest() for name, mask in masks.items()}
    return short_hash([digests, {name: mask.shape for name, mask in masks.items()}])


def clean_run(stage: Stage, samples: Sequence[Sample], train_samples: Sequence[Sample] | None) -> CleanRun:
    """Write and evaluate the clean images, twice, and the original files."""
    out = stage.job.out
    kept, failures = _write_clean(stage, samples)
    shown = with_images(kept, out / "clean")
    batch = stage.job.batch_size
    results = stage.evaluate(
        "clean", shown, out / "clean", variants=CONTROLS, batch_size=batch, train_samples=train_samples
    )
    stage.evaluate("clean again", shown, out / "clean_repeat", batch_size=max(1, batch // 2 + 1))
    native = stage.evaluate("original files", kept, out / "clean_native", batch_size=batch)
    predictions = read_predictions(out / "clean")
    answers = originals(predictions)
    rows = reliance_rows(answers, {name: [p for p in predictions if p.variant == name] for name in CONTROLS})
    return CleanRun(
        samples=tuple(shown),
        predictions={p.id: p for p in answers},
        reliant=frozenset(row.id for row in rows if row.reliant),
        in_train=seen_in_training(kept, train_samples),
        results=results,
        native_accuracy=native.accuracy.value,
        noise_floor=noise_floor(answers, read_predictions(out / "clean_repeat")),
        failures=failures,
    )


def _write_clean(stage: Stage, samples: Sequence[Sample]) -> tuple[list[Sample], dict[str, int]]:
    """The samples that can be attacked, their clean images written; the others by reason, the first of them named."""
    kept, failures, told = [], Counter[str](), []
    with stage.run.staged() as aside:
        for number, one in enumerate(samples, start=1):
            image, reason, said = _attackable(stage, one)
            if image is None:
                failures[reason] += 1
                told.append(f"{one.id}: {said}")
                continue
            names = [f"clean/{name}" for name in png_names(one.id, len(one.images))]
            if not stage.run.has(*names):
                save_strip([aside / name for name in names], image)
                for name in names:
                    stage.run.publish(aside / name, name, durable=False)
            kept.append(one)
            stage.progress("clean images", number, len(samples))
    first = "; ".join(told[:NAMED])
    if not kept:
        raise DataError(f"none of the {len(samples)} samples has readable images of one size ({first}); check the data")
    if told:
        logger.warning("%d of %d samples cannot be attacked (first: %s).", len(told), len(samples), first)
    stage.run.write_dataset("clean/dataset.parquet", dataset_samples(kept, ""))
    return kept, dict(failures)


def _attackable(stage: Stage, one: Sample) -> tuple[np.ndarray | None, str, str]:
    """The pictures of a sample that can be attacked, as a strip; else none, with the kind of reason and the fault."""
    if not one.images:
        return None, "no image", "it has no picture"
    if len(one.images) > 1 and stage.job.threat.region != "all":
        return None, "several images under a mask", f"it has {len(one.images)} pictures, and a mask is for one"
    try:
        images = [open_image(ref) for ref in one.images]
    except DataError as error:
        return None, f"unreadable image ({type(error).__name__})", about_pictures(one, str(error))
    asked = request_for(PROMPTS[stage.job.prompt], one, images, key=one.id)
    refused = refusal(stage.engine.processor, asked)
    if refused is None:
        pixels = [stage.pixels(image) for image in images]
        if len({piece.shape for piece in pixels}) > 1:
            return None, "images of several sizes", f"its {len(images)} pictures are of several sizes"
        return np.concatenate(pixels), "", ""
    said = about_pictures(one, refused.text) if refused.failure == "picture" else refused.text
    return None, f"refused {refused.failure}", said


def with_images(samples: Sequence[Sample], folder: Path, variant: str = "") -> list[Sample]:
    """The samples with the images of a folder."""
    return [
        replace(one, images=tuple(ImageRef(path=str(folder / str(ref.path))) for ref in one.images))
        for one in dataset_samples(samples, variant)
    ]


def load_masks(job: AttackJob, samples: Sequence[Sample]) -> dict[str, np.ndarray] | None:
    """Where pixels may change (H, W, 0 or 1), by sample id, for a region; None for the whole image."""
    if job.threat.region == "all":
        return None
    if job.masks is None:
        raise ConfigError(f"--region {job.threat.region} needs masks; add --masks FILE.npz")
    with _opened_masks(job.masks) as file:
        missing = [one.id for one in samples if one.id not in file]
        if missing:
            raise DataError(f"{job.masks} has no mask for sample {missing[0]}; make masks for all samples")
        inside = {one.id: file[one.id] > 0 for one in samples}
    wanted = job.threat.region == "inside"
    return {name: (mask == wanted).astype(np.uint8) for name, mask in inside.items()}


def _opened_masks(path: Path) -> Any:
    try:
        return np.load(path)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as .npz ({error}); name a file of masks by sample id") from error


def pixels_of(sample: Sample) -> np.ndarray:
    """The images of a sample of a run, one below the other."""
    return load_strip([Path(str(ref.path)) for ref in sample.images])


def seen_in_training(samples: Sequence[Sample], train_samples: Sequence[Sample] | None) -> frozenset[str] | None:
    """Ids of the samples whose pixels occur in the training data; None where those images are not there."""
    if train_samples is None:
        return None
    try:
        known = {_pixel_hash(ref) for one in train_samples for ref in one.images}
    except DataError:
        return None
    return frozenset(one.id for one in samples if any(_pixel_hash(ref) in known for ref in one.images))


def _pixel_hash(ref: ImageRef) -> bytes:
    image = open_image(ref)
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).digest()
