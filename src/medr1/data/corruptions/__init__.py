"""Image corruptions: what befalls medical pictures without an adversary, proper to each modality, in five severities.

All act on the decoded 8-bit picture and return one of the same size ("picture-domain surrogates": true dose or k-space
needs raw data). Nothing is rescaled afterwards: values are clipped and rounded, so that a darker picture stays darker.
Severities start from the published values of MedMNIST-C (Di Salvo et al. 2024) and TorchIO and are graded, on phantoms
and real pictures, by structural similarity to the clean picture: about 0.95, 0.9, 0.8, 0.7 and 0.6, as far as that
measure fits the corruption (a shift by two pixels costs more of it than a reader).

Randomness is seeded by run, corruption and sample, not by severity: from severity to severity the same hair, the same
shadow and the same noise grow stronger.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medr1.data.corruptions import coherent, general, magnetic, optical, overlays, radiography
from medr1.data.corruptions.picture import Picture, to_bytes
from medr1.errors import ConfigError
from medr1.types import MODALITIES, Modality

SEVERITIES = (1, 2, 3, 4, 5)

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
        (general.gaussian_noise, MODALITIES, (0.01, 0.02, 0.04, 0.07, 0.12)),
        (general.gaussian_blur, MODALITIES, (0.8, 1.3, 2, 3, 4.5)),
        (general.motion_blur, MODALITIES, (3, 5, 8, 12, 18)),
        (general.jpeg, MODALITIES, (50, 30, 18, 12, 7)),
        (general.low_resolution, MODALITIES, (0.7, 0.5, 0.35, 0.25, 0.16)),
        (general.brightness, MODALITIES, (0.08, 0.15, 0.22, 0.3, 0.4)),
        (general.contrast, MODALITIES, (0.75, 0.6, 0.45, 0.3, 0.18)),
        (general.rotation, MODALITIES, (3, 6, 10, 16, 25)),
        (general.translation, MODALITIES, (0.01, 0.02, 0.04, 0.06, 0.09)),
        (radiography.low_dose, ("CT",), (0.015, 0.03, 0.05, 0.08, 0.12)),
        (radiography.window, ("CT",), (0.1, 0.17, 0.25, 0.32, 0.4)),
        (radiography.ring, ("CT",), (0.03, 0.06, 0.1, 0.15, 0.22)),
        (radiography.streak, ("CT",), (0.08, 0.15, 0.25, 0.38, 0.55)),
        (radiography.sparse_view, ("CT",), (260, 180, 120, 80, 54)),
        (radiography.limited_angle, ("CT",), (5, 12, 24, 40, 60)),
        (radiography.beam_hardening, ("CT",), (0.4, 0.8, 1.2, 1.7, 2.3)),
        (radiography.thick_slice, ("CT",), (0.005, 0.01, 0.02, 0.035, 0.055)),
        (radiography.quantum_noise, ("X-Ray",), (0.015, 0.03, 0.05, 0.08, 0.12)),
        (radiography.scatter, ("X-Ray",), (0.15, 0.35, 0.7, 1.2, 2.0)),
        (radiography.exposure, ("X-Ray", "Fundus"), (0.2, 0.35, 0.5, 0.7, 0.9)),
        (radiography.grid_lines, ("X-Ray",), (0.06, 0.1, 0.18, 0.28, 0.4)),
        (overlays.burned_in_text, ("CT", "MRI", "X-Ray", "Ultrasound"), (1, 2, 4, 8, 16)),
        (magnetic.rician_noise, ("MRI",), (0.02, 0.04, 0.07, 0.10, 0.15)),
        (magnetic.bias_field, ("MRI",), (0.2, 0.4, 0.6, 0.8, 1.0)),
        (magnetic.kspace_motion, ("MRI",), (0.3, 0.5, 0.7, 0.85, 0.95)),
        (magnetic.ghosting, ("MRI",), (0.2, 0.4, 0.6, 0.8, 1.0)),
        (magnetic.gibbs, ("MRI",), (0.8, 0.65, 0.5, 0.4, 0.3)),
        (magnetic.spike, ("MRI",), (0.015, 0.03, 0.05, 0.08, 0.12)),
        (magnetic.undersampling, ("MRI",), (0.15, 0.3, 0.5, 0.7, 0.9)),
        (coherent.speckle, ("Ultrasound", "OCT", "Fundus"), (0.08, 0.14, 0.22, 0.34, 0.5)),
        (coherent.acoustic_shadow, ("Ultrasound",), (0.2, 0.4, 0.6, 0.8, 1.0)),
        (coherent.gain, ("Ultrasound",), (0.15, 0.3, 0.5, 0.75, 1.0)),
        (coherent.depth_attenuation, ("Ultrasound",), (0.4, 0.8, 1.3, 2.0, 3.0)),
        (coherent.reverberation, ("Ultrasound",), (0.05, 0.1, 0.16, 0.24, 0.34)),
        (coherent.eye_motion, ("OCT",), (0.003, 0.006, 0.01, 0.016, 0.025)),
        (coherent.blink, ("OCT",), (0.03, 0.06, 0.12, 0.2, 0.3)),
        (coherent.vessel_shadow, ("OCT",), (0.2, 0.4, 0.6, 0.8, 1.0)),
        (optical.defocus, ("OCT", *COLOUR), (1.5, 2.2, 3.2, 4.6, 6.5)),
        (optical.illumination, COLOUR, (0.15, 0.3, 0.45, 0.6, 0.8)),
        (optical.vignette, ("Dermoscopy", "Fundus", "OCT"), (0.15, 0.3, 0.5, 0.7, 0.95)),
        (optical.colour_cast, ("Dermoscopy",), (0.06, 0.12, 0.2, 0.3, 0.42)),
        (optical.haze, ("Fundus",), (0.15, 0.3, 0.45, 0.6, 0.75)),
        (optical.dust, ("Fundus", "Microscopy"), (0.2, 0.4, 0.6, 0.8, 1)),
        (optical.stain_shift, ("Microscopy",), (0.1, 0.2, 0.32, 0.45, 0.6)),
        (optical.stain_deposit, ("Microscopy",), (0.03, 0.06, 0.11, 0.18, 0.28)),
        (general.pixelate, ("Microscopy",), (0.8, 0.6, 0.45, 0.35, 0.25)),
        (overlays.hair, ("Dermoscopy",), (4, 10, 20, 40, 80)),
        (overlays.bubbles, ("Dermoscopy", "Microscopy"), (1, 3, 6, 12, 24)),
        (overlays.ruler, ("Dermoscopy",), (0.05, 0.08, 0.12, 0.17, 0.23)),
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
    digest = hashlib.sha256(f"{key}:{name}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:16], "big"))
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
