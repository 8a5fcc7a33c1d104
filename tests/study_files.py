"""Studies made in memory: CT and MR series, a file of several frames, NIfTI; and a question about each."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dicom_files import dicom, pydicom, saved
from medr1.types import LETTERS

nib = pytest.importorskip("nibabel")

CT_UID, MR_UID = "1.2.840.99.1", "1.2.840.99.2"
AXIAL = (1, 0, 0, 0, 1, 0)
SAGITTAL = (0, 1, 0, 0, 0, -1)
CORONAL = (1, 0, 0, 0, 0, -1)


def solid(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """A body whose every voxel tells where it is: a ramp along each axis, a ball and noise; 12 bits."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    ball = (grid**2).sum(0) < 0.5
    ramps = 300 * grid[0] + 500 * grid[1] + 700 * grid[2]
    return (1600 + ramps + 400 * ball + np.random.default_rng(seed).integers(0, 60, shape)).astype(np.int16)


def write_series(
    folder: Path,
    values: np.ndarray,
    places: Sequence[Sequence[float]],
    *,
    orientation: Sequence[float] = AXIAL,
    spacing: Sequence[float] = (0.8, 0.8),
    start: int = 0,
    **elements: Any,
) -> list[Path]:
    """One file a slice, `values` `[slices, rows, columns]`, in a shuffled order of names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = np.random.default_rng(len(values)).permutation(len(values)) + start
    files = []
    for name, pixels, place in zip(names, values, places, strict=True):
        facts = {
            "Modality": "CT",
            "SeriesInstanceUID": CT_UID,
            "StudyInstanceUID": "1.2.840.99",
            "ImagePositionPatient": list(map(float, place)),
            "ImageOrientationPatient": list(map(float, orientation)),
            "PixelSpacing": list(spacing),
            **elements,
        }
        files.append(folder / f"IM{name:04d}")
        files[-1].write_bytes(dicom(np.ascontiguousarray(pixels), **facts))
    return files


def stacked(count: int, step: Sequence[float], first: Sequence[float] = (-20, -30, 100)) -> list[np.ndarray]:
    """Places of evenly spaced slices."""
    return [np.array(first, float) + n * np.array(step, float) for n in range(count)]


def enhanced(
    values: np.ndarray, places: Sequence[Sequence[float]], orientation: Sequence[float], **elements: Any
) -> bytes:
    """A file of several frames with what tells them apart in functional groups."""

    def item(**inside: Any) -> Any:
        found = pydicom.Dataset()
        for keyword, value in inside.items():
            setattr(found, keyword, value)
        return found

    header = pydicom.dcmread(io.BytesIO(dicom(values[0], Modality="MR", SeriesInstanceUID="1.2.840.99.3")))
    header.NumberOfFrames = len(values)
    header.PixelData = np.ascontiguousarray(values).tobytes()
    header.SharedFunctionalGroupsSequence = [
        item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=list(map(float, orientation)))],
            PixelMeasuresSequence=[item(PixelSpacing=[0.9, 0.9])],
            FrameVOILUTSequence=[item(WindowCenter=1700, WindowWidth=1500)],
        )
    ]
    header.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=list(map(float, place)))],
            PixelValueTransformationSequence=[item(RescaleSlope=1 + n / 100, RescaleIntercept=-n, RescaleType="US")],
        )
        for n, place in enumerate(places)
    ]
    for keyword, value in elements.items():
        setattr(header, keyword, value)
    return saved(header)


def write_nifti(path: Path, values: np.ndarray, affine: np.ndarray) -> Path:
    """A NIfTI file that says how it lies in the patient."""
    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


FLIPPED = np.array([[-1.5, 0, 0, 30], [0, 0.75, 0, -40], [0, 0, -3.0, 50], [0, 0, 0, 1]])
"""To the left, to the front, to the feet."""


def write_table(folder: Path, rows: Sequence[dict[str, Any]], name: str = "questions.csv") -> Path:
    """Questions with three options about studies; each row names its image, and more where it says so."""
    columns = list(dict.fromkeys(key for row in rows for key in ("image", "question", *LETTERS[:3], "answer", *row)))
    with (folder / name).open("w", newline="") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        for row in rows:
            about = {"question": "Where is the ball?", "A": "left", "B": "right", "C": "middle", "answer": "C"}
            table.writerow({**about, **row})
    return folder / name


def write_scans(folder: Path) -> Path:
    """Seven questions about studies of two patients and a volume, in `questions.jsonl`."""
    hounsfield = {"RescaleSlope": 1, "RescaleIntercept": -1700, "WindowCenter": 0, "WindowWidth": 900}
    tilt = np.radians(15)
    tilted = (1, 0, 0, 0, np.cos(tilt), -np.sin(tilt))
    one, two = folder / "PAT-1", folder / "PAT-2" / "smith_john"
    facts = {**hounsfield, "PatientID": "PAT-1", "SeriesInstanceUID": CT_UID}
    write_series(one / "ct", solid((6, 40, 48)), stacked(6, (0, 0, 4)), orientation=tilted, **facts)
    frames = enhanced(solid((5, 30, 32)), stacked(5, (0, 3, 0)), CORONAL, PatientID="PAT-1")
    (one / "frames.dcm").write_bytes(frames)
    facts = {"Modality": "MR", "PatientID": "PAT-2", "orientation": SAGITTAL}
    write_series(two, solid((5, 36, 40)), stacked(5, (-4, 0, 0)), SeriesInstanceUID=MR_UID, **facts)
    facts = {**facts, "StudyInstanceUID": "1.2.840.100"}
    write_series(two, solid((6, 36, 40), 1), stacked(6, (-4, 0, 0)), SeriesInstanceUID="1.2.840.7", start=50, **facts)
    write_nifti(folder / "head.nii.gz", solid((40, 44, 8)), FLIPPED)
    (folder / "empty").mkdir()
    Image.fromarray(solid((1, 30, 30))[0].astype(np.uint8)).save(folder / "plain.png")
    names = [
        "PAT-1/ct",
        "PAT-1/ct",
        MR_UID,
        "head.nii.gz",
        ["PAT-1/ct", "head.nii.gz"],
        "plain.png",
        "PAT-1/frames.dcm",
    ]
    rows = [
        {
            "images": name,
            "question": f"Where is the ball, {number}?" if number in (1, 4) else "Where is the ball?",
            "options": ["left", "right", "middle"],
            "answer": "ABC"[number % 3],
            "modality": "MRI" if name == MR_UID else "CT",
        }
        for number, name in enumerate(names)
    ]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def write_pair(folder: Path) -> Path:
    """A CT, and a volume with a mask, in a table of their own."""
    facts = {"RescaleSlope": 1, "RescaleIntercept": -1700, "WindowCenter": 0, "WindowWidth": 900}
    write_series(folder / "ct", solid((9, 20, 24)), stacked(9, (0, 0, 2)), **facts)
    write_nifti(folder / "head.nii.gz", solid((14, 18, 10)), FLIPPED)
    mask = np.zeros((14, 18, 10), np.uint8)
    mask[4:9, 5:7, 2:9] = 1
    write_nifti(folder / "mask.nii", mask, FLIPPED)
    return write_table(folder, [{"image": "head.nii.gz", "mask": "mask.nii"}, {"image": "ct"}])
