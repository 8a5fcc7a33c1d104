"""Adversarial images on disk: lossless PNGs, one manifest line each, and a data set that refers to them.

FOLDER/images/<sample id>.png, of several pictures <sample id>-1.png, -2.png, …
FOLDER/manifest.jsonl     appended as they come; a killed run goes on behind its last line
FOLDER/dataset.parquet    the samples with these images, like any other data

All of it is published by the run that the folder belongs to; see `medr1.runs`.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medr1.data.image_distance import frac_changed, l2, linf, psnr, ssim
from medr1.records import checked, read_jsonl, short_hash
from medr1.results.attacked import AttackedImage, Distances, Realised
from medr1.types import ImageRef, Sample

MANIFEST = "manifest.jsonl"
_PLAIN = re.compile(r"[\w-][\w.-]{0,99}")


def png_names(sample_id: str, pictures: int = 1) -> list[str]:
    """Paths of a sample's images inside the folder, in order; ids that are no file names are hashed."""
    name = sample_id if _PLAIN.fullmatch(sample_id) else short_hash(sample_id)
    return [f"images/{name}{f'-{n}' if pictures > 1 else ''}.png" for n in range(1, pictures + 1)]


def save_strip(paths: Sequence[Path], pixels: NDArray[np.uint8]) -> None:
    """Write the pictures of a sample, which `pixels` has one below the other."""
    for path, piece in zip(paths, np.split(pixels, len(paths)), strict=True):
        save_png(path, piece)


def load_strip(paths: Sequence[Path]) -> NDArray[np.uint8]:
    """The pictures of a sample, of one size, one below the other."""
    return np.concatenate([load_png(path) for path in paths])


def save_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write RGB pixels (H, W, 3) without loss, colour profile or alpha."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, format="PNG")


def load_png(path: Path) -> NDArray[np.uint8]:
    """The pixels (H, W, 3) that a reader of the file sees."""
    with Image.open(path) as image:
        assert image.mode == "RGB" and "icc_profile" not in image.info, f"{path} is no plain RGB file"
        return np.asarray(image)


def pixel_hash(paths: Sequence[Path]) -> str:
    """SHA-256 of the decoded pixels of a sample's files."""
    return hashlib.sha256(load_strip(paths).tobytes()).hexdigest()


def realised(clean: Sequence[Path], image: Sequence[Path]) -> Realised:
    """Distances between the files of a sample before and after, from what they decode to."""
    a, b = load_strip(clean), load_strip(image)
    ratio = psnr(a, b)
    return Realised(
        linf_levels=linf(a, b),
        l2=round(l2(a, b), 5),
        frac_changed=round(frac_changed(a, b), 5),
        psnr=round(ratio, 3) if np.isfinite(ratio) else None,
        ssim=round(ssim(a, b), 5),
    )


def manifest_lines(folder: Path) -> dict[str, AttackedImage]:
    """Lines of a folder's manifest by sample id; none where it has not begun."""
    path = folder / MANIFEST
    lines = [checked(line, AttackedImage, path) for line in read_jsonl(path)] if path.exists() else []
    return {line.sample_id: line for line in lines}


def dataset_samples(samples: Iterable[Sample], variant: str) -> Iterator[Sample]:
    """What `dataset.parquet` holds: the samples with the images beside it."""
    return (
        replace(one, images=tuple(ImageRef(path=name) for name in png_names(one.id, len(one.images))), variant=variant)
        for one in samples
    )


def distances(lines: Sequence[AttackedImage]) -> Distances:
    """Largest and mean distances over the images that were attacked."""
    found = [line.realised for line in lines if line.attacked]
    if not found:
        return Distances(linf_max=0, l2_mean=0.0, psnr_mean=None, ssim_mean=1.0, ssim_min=1.0)
    ratios = [one.psnr for one in found if one.psnr is not None]
    return Distances(
        linf_max=max(one.linf_levels for one in found),
        l2_mean=float(np.mean([one.l2 for one in found])),
        psnr_mean=float(np.mean(ratios)) if ratios else None,
        ssim_mean=float(np.mean([one.ssim for one in found])),
        ssim_min=min(one.ssim for one in found),
    )
