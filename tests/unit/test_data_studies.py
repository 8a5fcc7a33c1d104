"""Studies as pictures, against an independent reading by pydicom and nibabel."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dicom_files import pydicom
from medr1.data.slices import WINDOWS, SlicePlan, cut, spread
from medr1.data.studies import open_study
from medr1.errors import ConfigError, DataError
from study_files import AXIAL, CORONAL, FLIPPED, SAGITTAL, enhanced, nib, solid, stacked, write_nifti, write_series

TILT = np.radians(15)
TILTED = (1, 0, 0, 0, np.cos(TILT), -np.sin(TILT))


def shown(files: list[Path], mask: Path | None = None, **plan: object) -> list[np.ndarray]:
    """The pictures of a study under a plan."""
    plan = SlicePlan(**plan)  # type: ignore[arg-type]
    masked = None if mask is None else open_study([mask], "mask", None)
    return [np.asarray(one) for one in cut(open_study(files, "study", plan.volume), plan, masked).pictures]


def by_pydicom(files: list[Path], along: int, centre: float, width: float) -> list[np.ndarray]:
    """All slices in the order of one coordinate, windowed by pydicom."""
    headers = sorted((pydicom.dcmread(file) for file in files), key=lambda one: one.ImagePositionPatient[along])
    pictures = []
    for header in headers:
        values = pydicom.pixels.apply_rescale(header.pixel_array, header).astype(float)
        header.WindowCenter, header.WindowWidth = centre, width
        for gone in ("RescaleSlope", "RescaleIntercept"):
            if gone in header:
                delattr(header, gone)
        low = -(2 ** (header.BitsStored - 1)) if header.PixelRepresentation else 0
        scaled = pydicom.pixels.apply_windowing(values, header)
        pictures.append((scaled - low) / (2**header.BitsStored - 1) * 255)
    return pictures


def same(pictures: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert [one.shape for one in pictures] == [one.shape for one in expected]
    for one, other in zip(pictures, expected, strict=True):
        assert np.abs(one.astype(float) - other).max() <= 1.0


def ct(folder: Path, **elements: object) -> list[Path]:
    """Twelve slices of a tilted gantry, from the head to the feet, with one that is missing after the fourth."""
    places = stacked(13, (0, 0, -5))
    kept = [n for n in range(13) if n != 4]
    return write_series(
        folder, solid((13, 40, 48))[kept], [places[n] for n in kept], orientation=TILTED, **{**HU, **elements}
    )


HU = {"RescaleSlope": 1, "RescaleIntercept": -1700, "WindowCenter": 0, "WindowWidth": 900}


def test_ct_with_a_tilted_gantry_and_a_gap(tmp_path: Path) -> None:
    files = ct(tmp_path)
    everything = by_pydicom(files, 2, 0, 900)
    same(shown(files, slices="uniform/12"), everything)
    same(shown(files, slices="uniform/4", window="lung"), by_pydicom(files, 2, *WINDOWS["lung"])[1::3])
    volume = open_study(files, "study", None)
    assert cut(volume, SlicePlan(slices="uniform/40")).notes == (
        "1 uneven steps between its slices, up to 9.7 mm",
        "its slices lie 15° from the axial plane",
        "12 slices, where 40 are asked for",
    )
    for plane in ("sagittal", "coronal"):
        with pytest.raises(DataError, match=r"1 uneven steps.*show the plane in which it is stored, axial"):
            cut(volume, SlicePlan(slices="uniform/2", plane=plane))


def test_a_tilted_gantry_is_not_shown_sheared(tmp_path: Path) -> None:
    files = write_series(tmp_path, solid((6, 20, 24)), stacked(6, (0, 0, 4)), orientation=TILTED)
    with pytest.raises(DataError, match=r"sheared by 15° in the plane sagittal \(a tilted gantry\)"):
        shown(files, slices="uniform/2", plane="sagittal")
    assert shown(files, slices="uniform/2", plane="coronal")[0].shape[1] == 24


def test_prone_patients_are_shown_upright(tmp_path: Path) -> None:
    """Stored from the right side to the left, from the back to the front: turned by half."""
    values = solid((5, 20, 24))
    supine = write_series(tmp_path / "supine", values, stacked(5, (0, 0, 4)), **HU)
    prone = write_series(
        tmp_path / "prone", values[:, ::-1, ::-1], stacked(5, (0, 0, 4)), orientation=(-1, 0, 0, 0, -1, 0), **HU
    )
    same(shown(prone, slices="uniform/5"), [one.astype(float) for one in shown(supine, slices="uniform/5")])


def mr(folder: Path) -> list[Path]:
    """Two echoes of a sagittal series whose pixels are not square, from the left to the right; no value is clipped."""
    values = solid((6, 30, 16), seed=1)
    facts = {
        "Modality": "MR",
        "orientation": SAGITTAL,
        "spacing": (1.0, 2.0),
        "WindowCenter": 1900,
        "WindowWidth": 3900,
    }
    files = write_series(folder, values, stacked(6, (-4, 0, 0)), EchoTime=10.0, **facts)
    return files + write_series(folder, values // 2, stacked(6, (-4, 0, 0)), EchoTime=90.0, start=50, **facts)


def test_echoes_are_volumes_of_their_own(tmp_path: Path) -> None:
    files = mr(tmp_path)
    with pytest.raises(DataError, match=r"holds 2 volumes \(echo times\); choose one with --volume 1 … 2"):
        shown(files, slices="uniform/3")
    for volume, own in ((1, files[:6]), (2, files[6:])):
        stored = by_pydicom(own, 0, 1900, 3900)
        wide = [np.stack([stretch(row, 32) for row in one]) for one in stored]
        same(shown(files, slices="uniform/6", volume=volume), wide)
    with pytest.raises(DataError, match="holds 2 volumes, and --volume is 3"):
        shown(files, slices="uniform/3", volume=3)
    with pytest.raises(DataError, match="is no CT, and the window lung is in Hounsfield units"):
        shown(files, slices="uniform/3", volume=1, window="lung")


def stretch(row: np.ndarray, count: int) -> np.ndarray:
    """Linear interpolation between the middles of pixels."""
    at = (np.arange(count) + 0.5) * len(row) / count - 0.5
    return np.interp(at, np.arange(len(row)), row)


def test_a_file_of_several_frames(tmp_path: Path) -> None:
    """Coronal, each frame with its own rescale, in no order."""
    values, places = solid((7, 24, 20)), stacked(7, (0, 6, 0))
    mixed = [3, 0, 6, 2, 5, 1, 4]
    file = tmp_path / "enhanced"
    file.write_bytes(enhanced(values[mixed], [places[n] for n in mixed], CORONAL))
    order = np.argsort(mixed)
    measured = [values[mixed[at]] * (1 + at / 100) - at for at in order]
    expected = [np.clip((one - 1699.5) / 1499 + 0.5, 0, 1) * 255 for one in measured]
    same(shown([file], slices="uniform/7"), expected)
    assert open_study([file], "study", None).plane == "coronal"


def canonical(path: Path, plane: str, time: int | None = None) -> list[np.ndarray]:
    """Slices by nibabel: turned to right, front, head; then as radiology looks at them."""
    values = np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj, float)
    values = values if time is None else values[..., time]
    if plane == "axial":
        return [values[::-1, ::-1, k].T for k in range(values.shape[2])]
    if plane == "coronal":
        return [values[::-1, j, ::-1].T for j in reversed(range(values.shape[1]))]
    return [values[i, ::-1, ::-1].T for i in reversed(range(values.shape[0]))]


def squared(values: np.ndarray, down: float, right: float) -> np.ndarray:
    """Square pixels of the finer side."""
    fine = min(down, right)
    height, width = round(values.shape[0] * down / fine), round(values.shape[1] * right / fine)
    wide = np.stack([stretch(row, width) for row in values])
    return np.stack([stretch(column, height) for column in wide.T]).T


SIDES = {"axial": (0.75, 1.5), "coronal": (3.0, 1.5), "sagittal": (3.0, 0.75)}


@pytest.mark.parametrize("plane", SIDES)
@pytest.mark.parametrize("name", ["flipped.nii", "flipped.nii.gz"])
def test_nifti_with_a_flipped_affine(tmp_path: Path, plane: str, name: str) -> None:
    path = write_nifti(tmp_path / name, solid((14, 18, 10)), FLIPPED)
    slices = [squared(one, *SIDES[plane]) for one in canonical(path, plane)]
    expected = [np.clip((one - 1599.5) / 1799 + 0.5, 0, 1) * 255 for one in slices]
    same(shown([path], slices="uniform/64", plane=plane, window="1600,1800"), expected)


def test_without_a_window_the_slices_that_are_shown_share_a_scale(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", solid((14, 18, 10)), FLIPPED)
    chosen = [canonical(path, "axial")[at] for at in (2, 7)]
    low, high = min(map(np.min, chosen)), max(map(np.max, chosen))
    expected = [squared((one - low) / (high - low) * 255, *SIDES["axial"]) for one in chosen]
    same(shown([path], slices="uniform/2"), expected)


def test_time_points_are_chosen(tmp_path: Path) -> None:
    values = np.stack([solid((6, 7, 5), seed) for seed in range(3)], axis=-1)
    path = write_nifti(tmp_path / "fmri.nii.gz", values, FLIPPED)
    with pytest.raises(DataError, match=r"holds 3 volumes \(time points\); choose one with --volume 1 … 3"):
        shown([path], slices="uniform/2")
    expected = [squared(one, 0.75, 1.5) for one in canonical(path, "axial", time=1)]
    expected = [np.clip((one - 1599.5) / 1799 + 0.5, 0, 1) * 255 for one in expected]
    same(shown([path], slices="uniform/5", volume=2, window="1600,1800"), expected)


@pytest.mark.parametrize(("plane", "axis"), [("sagittal", 2), ("coronal", 1)])
def test_other_planes_of_a_ct(tmp_path: Path, plane: str, axis: int) -> None:
    """Axial slices, from the head to the feet, cut across: the head is on top."""
    values = solid((8, 20, 24))
    files = write_series(tmp_path, values[::-1], stacked(8, (0, 0, -4), first=(0, 0, 28)), **HU)
    hounsfield = values.astype(float) - 1700
    cuts = [np.take(hounsfield, at, axis)[::-1] for at in range(values.shape[axis])]
    expected = [np.clip((squared(one, 4, 0.8) + 0.5) / 899 + 0.5, 0, 1) * 255 for one in cuts]
    same(shown(files, slices="uniform/64", plane=plane), expected)


def test_slices_around_a_mask_on_another_grid(tmp_path: Path) -> None:
    """The mask lies at z = 108 to 120 mm, on a grid of 3 mm with another order of axes than the series."""
    files = write_series(tmp_path, solid((12, 40, 48)), stacked(12, (0, 0, 4), first=(0, 0, 100)), **HU)
    mask = np.zeros((20, 20, 20), np.uint8)
    mask[5:8, 5:8, 3:8] = 1  # z = 120 down to 108
    affine = np.array([[-3.0, 0, 0, 0], [0, -3.0, 0, 0], [0, 0, -3.0, 129], [0, 0, 0, 1]])
    path = write_nifti(tmp_path / "mask.nii", mask, affine)
    everything = by_pydicom(files, 2, 0, 900)
    same(shown(files, path, slices="around-mask/9"), everything[2:6])
    same(shown(files, path, slices="around-mask/2"), [everything[3], everything[5]])
    affine[2, 3] += 900
    away = write_nifti(tmp_path / "away.nii", mask, affine)
    with pytest.raises(DataError, match="the mask mask touches no slice of study"):
        shown(files, away, slices="around-mask/9")
    with pytest.raises(DataError, match="has no mask, which around-mask/9 needs"):
        shown(files, slices="around-mask/9")


def test_every_so_many_millimetres(tmp_path: Path) -> None:
    files = ct(tmp_path)
    everything = by_pydicom(files, 2, 0, 900)
    step = 5 * np.cos(TILT)
    same(shown(files, slices=f"every/{2 * step}-mm"), [everything[at] for at in (0, 2, 4, 6, 7, 9, 11)])
    with pytest.raises(DataError, match="makes 65 pictures of study; take at most 64"):
        shown([write_nifti(tmp_path / "a.nii", solid((2, 2, 65)), np.eye(4))], slices="every/1-mm")


def test_a_montage_is_read_row_by_row(tmp_path: Path) -> None:
    files = write_series(tmp_path, solid((6, 10, 12)), stacked(6, (0, 0, 4)), **HU)
    (sheet,) = shown(files, slices="montage/5")
    tiles = shown(files, slices="uniform/5")
    assert sheet.shape == (20, 36)
    assert np.array_equal(sheet[:10], np.hstack(tiles[:3]))
    assert np.array_equal(sheet[10:], np.hstack([*tiles[3:], np.zeros((10, 12))]))


def test_inverted_files_are_inverted(tmp_path: Path) -> None:
    plain = write_series(tmp_path / "1", solid((3, 8, 9)), stacked(3, (0, 0, 4)), **HU)
    inverted = write_series(
        tmp_path / "2", solid((3, 8, 9)), stacked(3, (0, 0, 4)), PhotometricInterpretation="MONOCHROME1", **HU
    )
    same(shown(inverted, slices="uniform/3"), [255 - one.astype(float) for one in shown(plain, slices="uniform/3")])


def test_padding_has_no_say_in_the_scale(tmp_path: Path) -> None:
    values = solid((3, 8, 9))
    values[:, 0, 0] = -2000
    files = write_series(tmp_path, values, stacked(3, (0, 0, 4)), PixelPaddingValue=-2000)
    low, high = values[values > -2000].min(), values.max()
    expected = [np.clip((one.astype(float) - low) / (high - low), 0, 1) * 255 for one in values]
    same(shown(files, slices="uniform/3"), expected)


def test_copies_are_left_out_and_told(tmp_path: Path) -> None:
    files = write_series(tmp_path, solid((3, 8, 9)), stacked(3, (0, 0, 4)), **HU)
    copy = tmp_path / "copy"
    copy.write_bytes(files[1].read_bytes())
    study = cut(open_study([*files, copy], "study", None), SlicePlan(slices="uniform/9"))
    assert len(study.pictures) == 3
    assert study.notes[0] == "1 files are copies of others and left out"


BAD = {
    "positions": ({"ImagePositionPatient": None}, "does not say where it lies"),
    "orientation": ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "no right angle"),
    "spacing": ({"PixelSpacing": None}, "does not say how large its pixels are"),
    "colours": ({"PhotometricInterpretation": "PALETTE COLOR"}, "in colours"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_volume_is_refused(tmp_path: Path, case: str) -> None:
    elements, said = BAD[case]
    files = write_series(tmp_path, solid((3, 8, 9)), stacked(3, (0, 0, 4)), **{**HU, **elements})
    with pytest.raises(DataError, match=said):
        shown(files, slices="uniform/2")


def test_mixed_slices_are_refused(tmp_path: Path) -> None:
    files = write_series(tmp_path, solid((3, 8, 9)), stacked(3, (0, 0, 4)), **HU)
    scout = write_series(tmp_path, solid((1, 8, 9)), stacked(1, (0, 0, 4)), orientation=CORONAL, start=20, **HU)
    twice = write_series(tmp_path, solid((1, 8, 9), seed=5), stacked(1, (0, 0, 4)), start=30, **HU)
    large = write_series(tmp_path, solid((1, 8, 10)), stacked(1, (0, 0, 4), first=(0, 0, 0)), start=40, **HU)
    for other, said in (
        (scout, r"several orientations \(3 as the first, 1 others\)|several orientations \(1 as the first, 3 others\)"),
        (twice, "1 slices in the place of another one, with other contents"),
        (large, "slices of several sizes"),
    ):
        with pytest.raises(DataError, match=said):
            shown([*files, *other], slices="uniform/2")


NIFTI_FAULTS = {
    "no orientation": lambda image: replace_affine(image),
    "colours": lambda image: nib.Nifti1Image(np.zeros((3, 3, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")]), np.eye(4)),
    "not finite": lambda image: nib.Nifti1Image(np.full((3, 3, 3), np.nan, np.float32), np.eye(4)),
}


def replace_affine(image: object) -> object:
    image.set_sform(None, 0)  # type: ignore[attr-defined]
    image.set_qform(None, 0)  # type: ignore[attr-defined]
    return image


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("no orientation", "does not say how it lies in the patient"),
        ("colours", "colours or complex numbers"),
        ("not finite", "no finite numbers"),
    ],
)
def test_nifti_that_cannot_be_shown(tmp_path: Path, fault: str, said: str) -> None:
    path = tmp_path / "a.nii"
    nib.save(NIFTI_FAULTS[fault](nib.Nifti1Image(solid((3, 3, 3)), np.eye(4))), path)
    with pytest.raises(DataError, match=said):
        shown([path], slices="uniform/2")


def test_damaged_nifti_is_refused(tmp_path: Path) -> None:
    whole = write_nifti(tmp_path / "a.nii", solid((6, 7, 8)), np.eye(4)).read_bytes()
    packed = write_nifti(tmp_path / "a.nii.gz", solid((6, 7, 8)), np.eye(4)).read_bytes()
    random = np.random.default_rng(0)
    damaged = [whole[:-40], whole[:100], b"", b"\1" * 400, packed[: len(packed) // 2]]
    for _ in range(60):
        bad = bytearray(whole)
        for at in random.integers(0, 352, 6):
            bad[at] = random.integers(256)
        damaged.append(bytes(bad))
    path = tmp_path / "bad.nii"
    refused = 0
    for data in damaged:
        path.write_bytes(data)
        try:
            shown([path], slices="uniform/2")
        except DataError:
            refused += 1
    assert refused >= 5


def test_nifti_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medr1.doors.Most.FILE_BYTES", 1000)
    path = write_nifti(tmp_path / "a.nii.gz", np.zeros((60, 60, 60), np.uint8), np.eye(4))
    with pytest.raises(DataError, match="has more than 0 MiB"):
        shown([path], slices="uniform/2")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"slices": "evenly/3"}, "there is no slice plan 'evenly'; choose one of uniform, every, around-mask, montage"),
        ({"slices": "uniform"}, "needs a number behind the slash: 1 to 64, as uniform/8"),
        ({"slices": "uniform/65"}, "1 to 64"),
        ({"slices": "every/0-mm"}, "a distance from 0.1 mm on"),
        ({"slices": "every/nan"}, "a distance from 0.1 mm on"),
        ({"slices": "uniform/3", "window": "lungs"}, "there is no window 'lungs'; choose one of lung, mediastinum"),
        ({"slices": "uniform/3", "window": "40,0"}, "or CENTRE,WIDTH as 40,400"),
        ({"slices": "uniform/3", "plane": "oblique"}, "plane is 'oblique'"),
    ],
)
def test_plans_are_checked(given: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SlicePlan(**given)  # type: ignore[arg-type]


def test_spread_takes_the_middle_of_equal_parts() -> None:
    assert spread(range(100), 4) == [12, 37, 62, 87]
    assert spread(range(7), 1) == [3]
    assert spread(range(5), 5) == [0, 1, 2, 3, 4]


def test_axes_of_an_oblique_volume(tmp_path: Path) -> None:
    """Turned by 30° about the long axis of the patient, and told."""
    turn = np.radians(30)
    right, down = (np.cos(turn), np.sin(turn), 0), (0, 0, -1)
    normal = np.cross(right, down)
    files = write_series(tmp_path, solid((4, 8, 9)), stacked(4, 4 * normal), orientation=(*right, *down), **HU)
    volume = open_study(files, "study", None)
    study = cut(volume, SlicePlan(slices="uniform/4"))
    assert volume.plane == "coronal"
    assert study.notes == ("its slices lie 30° from the coronal plane",)
    assert replace(volume, name="x").axes == (1, 2, 0)
    assert AXIAL != CORONAL
