"""Corruptions: what befalls medical pictures without an adversary, proper to each modality, in five severities.

All act on the decoded 8-bit picture and return one of the same size ("picture-domain surrogates": true dose or k-space
needs raw data). Nothing is rescaled afterwards: values are clipped and rounded, so that a darker picture stays darker.
Severities start from the published values of MedMNIST-C (Di Salvo et al. 2024) and TorchIO and are graded, on phantoms
and real pictures, by structural similarity to the clean picture: about 0.95, 0.9, 0.8, 0.7 and 0.6, as far as that
measure fits the corruption (a shift by two pixels costs more of it than a reader).

Randomness is seeded by run, corruption and sample, not by severity: from severity to severity the same hair, the same
shadow and the same noise grow stronger.

Robust training shows degraded pictures, drawn anew in every epoch: half of them clean, so that clean accuracy is
trained for as well, the others with noise or with a mild corruption.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medr1.errors import ConfigError
from medr1.streams import stream_bytes
from medr1.types import MODALITIES, Modality, Sample
from medr1.variants.corruptions import optics, scanners
from medr1.variants.corruptions.picture import Picture, to_bytes
from medr1.variants.variant import Assign, Draw, Stream, Variant, each

SEVERITIES = (1, 2, 3, 4, 5)
MILD = (1, 2, 3)
"""What a reader would still answer from."""
CLEAN_SHARE = 0.5
"""Of the pictures of robust training."""
LARGEST_NOISE = 0.1
"""Standard deviation of the noise of robust training, as a share of the range of grey levels."""

GREY: tuple[Modality, ...] = ("CT", "MRI", "X-Ray", "Ultrasound", "OCT")
COLOUR: tuple[Modality, ...] = ("Dermoscopy", "Fundus", "Microscopy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Corruption:
    """One kind of damage."""

    name: str
    modalities: tuple[Modality, ...]
    """Where it can happen."""
    strengths: tuple[float, float, float, float, float]
    """Of severity 1 … 5; what they mean is said by the function."""
    apply: Callable[[Picture, float, np.random.Generator], Picture]
    """Picture `[H, W, C]` of numbers 0 … 1 (C = 1 where it is grey), strength, randomness → picture."""

    @property
    def description(self) -> str:
        """What it does, in one line."""
        return (self.apply.__doc__ or "").partition("\n")[0]


def _table() -> list[Corruption]:
    rows: list[tuple[Callable[[Picture, float, np.random.Generator], Picture], Sequence[Modality], Sequence[float]]] = [
        (optics.gaussian_noise, MODALITIES, (0.01, 0.02, 0.04, 0.07, 0.12)),
        (optics.gaussian_blur, MODALITIES, (0.8, 1.3, 2, 3, 4.5)),
        (optics.motion_blur, MODALITIES, (3, 5, 8, 12, 18)),
        (optics.jpeg, MODALITIES, (50, 30, 18, 12, 7)),
        (optics.low_resolution, MODALITIES, (0.7, 0.5, 0.35, 0.25, 0.16)),
        (optics.brightness, MODALITIES, (0.08, 0.15, 0.22, 0.3, 0.4)),
        (optics.contrast, MODALITIES, (0.75, 0.6, 0.45, 0.3, 0.18)),
        (optics.rotation, MODALITIES, (3, 6, 10, 16, 25)),
        (optics.translation, MODALITIES, (0.01, 0.02, 0.04, 0.06, 0.09)),
        (scanners.low_dose, ("CT",), (0.015, 0.03, 0.05, 0.08, 0.12)),
        (scanners.window, ("CT",), (0.1, 0.17, 0.25, 0.32, 0.4)),
        (scanners.ring, ("CT",), (0.03, 0.06, 0.1, 0.15, 0.22)),
        (scanners.streak, ("CT",), (0.08, 0.15, 0.25, 0.38, 0.55)),
        (scanners.sparse_view, ("CT",), (260, 180, 120, 80, 54)),
        (scanners.limited_angle, ("CT",), (5, 12, 24, 40, 60)),
        (scanners.beam_hardening, ("CT",), (0.4, 0.8, 1.2, 1.7, 2.3)),
        (scanners.thick_slice, ("CT",), (0.005, 0.01, 0.02, 0.035, 0.055)),
        (scanners.quantum_noise, ("X-Ray",), (0.015, 0.03, 0.05, 0.08, 0.12)),
        (scanners.scatter, ("X-Ray",), (0.15, 0.35, 0.7, 1.2, 2.0)),
        (scanners.exposure, ("X-Ray", "Fundus"), (0.2, 0.35, 0.5, 0.7, 0.9)),
        (scanners.grid_lines, ("X-Ray",), (0.06, 0.1, 0.18, 0.28, 0.4)),
        (optics.burned_in_text, ("CT", "MRI", "X-Ray", "Ultrasound"), (1, 2, 4, 8, 16)),
        (scanners.rician_noise, ("MRI",), (0.02, 0.04, 0.07, 0.10, 0.15)),
        (scanners.bias_field, ("MRI",), (0.2, 0.4, 0.6, 0.8, 1.0)),
        (scanners.kspace_motion, ("MRI",), (0.3, 0.5, 0.7, 0.85, 0.95)),
        (scanners.ghosting, ("MRI",), (0.2, 0.4, 0.6, 0.8, 1.0)),
        (scanners.gibbs, ("MRI",), (0.8, 0.65, 0.5, 0.4, 0.3)),
        (scanners.spike, ("MRI",), (0.015, 0.03, 0.05, 0.08, 0.12)),
        (scanners.undersampling, ("MRI",), (0.15, 0.3, 0.5, 0.7, 0.9)),
        (scanners.speckle, ("Ultrasound", "OCT", "Fundus"), (0.08, 0.14, 0.22, 0.34, 0.5)),
        (scanners.acoustic_shadow, ("Ultrasound",), (0.2, 0.4, 0.6, 0.8, 1.0)),
        (scanners.gain, ("Ultrasound",), (0.15, 0.3, 0.5, 0.75, 1.0)),
        (scanners.depth_attenuation, ("Ultrasound",), (0.4, 0.8, 1.3, 2.0, 3.0)),
        (scanners.reverberation, ("Ultrasound",), (0.05, 0.1, 0.16, 0.24, 0.34)),
        (scanners.eye_motion, ("OCT",), (0.003, 0.006, 0.01, 0.016, 0.025)),
        (scanners.blink, ("OCT",), (0.03, 0.06, 0.12, 0.2, 0.3)),
        (scanners.vessel_shadow, ("OCT",), (0.2, 0.4, 0.6, 0.8, 1.0)),
        (optics.defocus, ("OCT", *COLOUR), (1.5, 2.2, 3.2, 4.6, 6.5)),
        (optics.illumination, COLOUR, (0.15, 0.3, 0.45, 0.6, 0.8)),
        (optics.vignette, ("Dermoscopy", "Fundus", "OCT"), (0.15, 0.3, 0.5, 0.7, 0.95)),
        (optics.colour_cast, ("Dermoscopy",), (0.06, 0.12, 0.2, 0.3, 0.42)),
        (optics.haze, ("Fundus",), (0.15, 0.3, 0.45, 0.6, 0.75)),
        (optics.dust, ("Fundus", "Microscopy"), (0.2, 0.4, 0.6, 0.8, 1)),
        (optics.stain_shift, ("Microscopy",), (0.1, 0.2, 0.32, 0.45, 0.6)),
        (optics.stain_deposit, ("Microscopy",), (0.03, 0.06, 0.11, 0.18, 0.28)),
        (optics.pixelate, ("Microscopy",), (0.8, 0.6, 0.45, 0.35, 0.25)),
        (optics.hair, ("Dermoscopy",), (4, 10, 20, 40, 80)),
        (optics.bubbles, ("Dermoscopy", "Microscopy"), (1, 3, 6, 12, 24)),
        (optics.ruler, ("Dermoscopy",), (0.05, 0.08, 0.12, 0.17, 0.23)),
    ]
    return [
        Corruption(name=function.__name__, modalities=tuple(modalities), strengths=tuple(strengths), apply=function)  # type: ignore[arg-type]
        for function, modalities, strengths in rows
    ]


CORRUPTIONS: dict[str, Corruption] = {corruption.name: corruption for corruption in _table()}
"""By name, the general ones first."""


def proper_for(modality: Modality) -> list[str]:
    """Names of the corruptions that a modality can suffer."""
    return [name for name, corruption in CORRUPTIONS.items() if modality in corruption.modalities]


def corrupt(image: NDArray[np.uint8], name: str, severity: int, key: str) -> NDArray[np.uint8]:
    """The image `[H, W, 3]` with that corruption at severity 1 … 5.

    `key` decides the randomness, together with the name: use the seed of the run and the id of the sample. Grey
    pictures stay grey, unless the corruption is one of colour. `ConfigError` for an unknown name or severity.
    """
    corruption = named(name)
    if severity not in SEVERITIES:
        raise ConfigError(f"there is no severity {severity}; choose 1 to {SEVERITIES[-1]}")
    rng = _random(f"{key}:{name}")
    picture = image / 255
    if (image == image[:, :, :1]).all():
        picture = picture[:, :, :1]
    pixels = to_bytes(corruption.apply(picture, corruption.strengths[severity - 1], rng))
    return np.ascontiguousarray(np.broadcast_to(pixels, image.shape))


def named(name: str) -> Corruption:
    """The corruption of that name; `ConfigError` where there is none."""
    if name not in CORRUPTIONS:
        raise ConfigError(f"there is no corruption {name!r}; choose one of {', '.join(CORRUPTIONS)}")
    return CORRUPTIONS[name]


_Degrade = Callable[[NDArray[np.uint8], Modality, np.random.Generator, str], NDArray[np.uint8]]
"""Pixels, modality, randomness, key → pixels."""


def variant_name(name: str, severity: int) -> str:
    """Name of a corruption with its severity.

    >>> variant_name("jpeg", 3), parse_variant("jpeg/3"), parse_variant("blank")
    ('jpeg/3', ('jpeg', 3), None)
    """
    return f"{name}/{severity}"


def parse_variant(variant: str) -> tuple[str, int] | None:
    """Corruption and severity of a variant; None where it is something else."""
    name, _, severity = variant.partition("/")
    return (name, int(severity)) if name in CORRUPTIONS and severity.isdecimal() else None


def corruption_variants() -> Iterator[Variant]:
    """Every corruption at every severity for the questions of its modalities, then the pictures of robust training."""
    for name, corruption in CORRUPTIONS.items():
        for severity in SEVERITIES:
            yield Variant(
                name=variant_name(name, severity),
                assign=_suffered(corruption.modalities),
                draw=_corrupted(name, severity),
            )
    for name, draw in (("noise", _noisy), ("corruption", _mildly_corrupted)):
        yield Variant(name=f"degraded:{name}", assign=_suffered(MODALITIES), draw=_half_clean(name, draw))


def _suffered(modalities: Sequence[Modality]) -> Assign:
    return each(lambda sample: sample if sample.images and sample.modality in modalities else None)


def _corrupted(name: str, severity: int) -> Draw:
    def draw(picture: Image.Image, sample: Sample, seed: Stream, position: int) -> Image.Image:
        return Image.fromarray(corrupt(np.asarray(picture), name, severity, f"{seed}:{sample.id}:{position}"))

    return draw


def _half_clean(name: str, degrade: _Degrade) -> Draw:
    def draw(picture: Image.Image, sample: Sample, seed: Stream, position: int) -> Image.Image:
        key = f"{seed}:{sample.id}:{position}"
        rng = _random(f"{key}:{name}")
        if rng.random() < CLEAN_SHARE:
            return picture
        return Image.fromarray(degrade(np.asarray(picture), sample.modality, rng, key))

    return draw


def _noisy(pixels: NDArray[np.uint8], modality: Modality, rng: np.random.Generator, key: str) -> NDArray[np.uint8]:
    std = 255 * rng.uniform(0, LARGEST_NOISE)
    return np.rint(np.clip(pixels + std * rng.standard_normal(pixels.shape), 0, 255)).astype(np.uint8)


def _mildly_corrupted(
    pixels: NDArray[np.uint8], modality: Modality, rng: np.random.Generator, key: str
) -> NDArray[np.uint8]:
    name = str(rng.choice(proper_for(modality)))
    return corrupt(pixels, name, int(rng.choice(MILD)), key)


def _random(key: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(stream_bytes(key)[:16], "big"))
