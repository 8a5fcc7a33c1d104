"""Questions about studies: converted, described without what tells a patient, made again, and split by patient."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dicom_files import SECRETS
from medr1.cli import app
from medr1.data.convert import convert
from medr1.data.images import open_image
from medr1.data.settings import ConvertSettings, SplitSettings
from medr1.data.slices import WINDOWS
from medr1.data.splits import split
from medr1.data.studies import STUDIES, recipes_of, remake
from medr1.errors import ConfigError, DataError
from medr1.records import read_json, read_samples, write_samples
from medr1.types import Sample
from study_files import write_pair, write_scans, write_table


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven questions about four studies of three patients, and one about a picture."""
    return write_scans(tmp_path_factory.mktemp("scans"))


def converted(scans: Path, out: Path, **given: object) -> list[Sample]:
    convert(ConvertSettings(**{"path": scans, "out": out, "slices": "uniform/4", **given}))  # type: ignore[arg-type]
    return list(read_samples(out))


def test_every_kind_of_study_becomes_slices(scans: Path, tmp_path: Path) -> None:
    samples = converted(scans, tmp_path / "out")
    assert [len(sample.images) for sample in samples] == [4, 4, 4, 4, 8, 1, 4]
    assert [len(recipes_of(sample)) for sample in samples] == [1, 1, 1, 1, 2, 0, 1]
    facts = read_json(tmp_path / "out" / "manifest.json")
    assert facts["studies"] == 6
    assert [note.partition(": ")[2] for note in facts["study_notes"]] == ["its slices lie 15° from the axial plane"]
    assert samples[0].images == samples[1].images
    assert samples[4].images == (*samples[0].images, *samples[3].images)


def test_groups_are_patients_and_no_split_parts_them(scans: Path, tmp_path: Path) -> None:
    """One patient has a CT and a file of several frames; a question about the CT and a volume joins the two."""
    samples = converted(scans, tmp_path / "out")
    groups = [sample.group for sample in samples]
    assert groups[0] == groups[1] == groups[6]
    assert groups[4] in (groups[0], groups[3])
    assert len(set(groups)) == 4
    for share in (0.3, 0.5, 0.7):
        out = tmp_path / f"split{share}"
        split(SplitSettings(data=tmp_path / "out", out=out, test_share=share))
        parts = [{s.id for s in read_samples(out / part)} for part in ("train", "test") if (out / part).exists()]
        joined = {samples[n].id for n in (0, 1, 3, 4, 6)}
        assert sum(map(len, parts)) == 7
        assert any(joined <= part for part in parts)


def test_nothing_that_tells_a_patient_is_stored(scans: Path, tmp_path: Path) -> None:
    converted(scans, tmp_path / "out")
    stored = b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir())
    texts = json.dumps([str(replace(sample, images=())) for sample in read_samples(tmp_path / "out")]).encode()
    names = [ref.path for sample in read_samples(tmp_path / "out") for ref in sample.images]
    for told in (*SECRETS.values(), "PAT-1", "PAT-2", "1.2.840", "smith_john"):
        assert told.encode() not in stored + texts
        assert not any(told in str(name) for name in names)


def test_pictures_are_made_again_from_their_files(scans: Path, tmp_path: Path) -> None:
    """Wherever the files lie and whatever they are called."""
    samples = converted(scans, tmp_path / "out")
    moved = tmp_path / "moved"
    moved.mkdir()
    for number, path in enumerate(path for path in scans.rglob("*") if path.is_file()):
        (moved / f"{number}{''.join(path.suffixes)}").write_bytes(path.read_bytes())
    found = CliRunner().invoke(app, ["verify", str(tmp_path / "out"), "--data", str(moved), "--json"])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout) == {"checked": 28, "differing": [], "unchecked": []}

    other = replace(samples[0], images=(samples[0].images[1], samples[0].images[0], *samples[0].images[2:]))
    again = remake([other, replace(samples[2], images=samples[2].images[:3])], moved)
    assert [line.partition(", ")[2] or line.partition(": ")[2] for line in again.differing] == [
        "picture 1: other pixels than its study gives",
        "picture 2: other pixels than its study gives",
        "its study gives 4",
    ]
    (moved / "0").unlink(missing_ok=True)
    one = next(path for path in moved.iterdir() if path.suffix == ".gz")
    one.unlink()
    lost = remake(samples, moved)
    assert any("files of its study" in line for line in lost.missing)
    assert not lost.differing


def test_verify_asks_for_the_studies(scans: Path, tmp_path: Path) -> None:
    converted(scans, tmp_path / "out")
    found = CliRunner().invoke(app, ["verify", str(tmp_path / "out")])
    assert found.exit_code != 0
    assert isinstance(found.exception, ConfigError)
    write_samples(tmp_path / "plain", [replace(next(read_samples(tmp_path / "out")), extra={})])
    with pytest.raises(DataError, match="show no studies, only pictures"):
        remake(read_samples(tmp_path / "plain"), scans)
    with pytest.raises(DataError, match="what it was made from cannot be read"):
        recipes_of(replace(next(read_samples(tmp_path / "out")), extra={STUDIES: "[{}]"}))


@st.composite
def plans(draw: st.DrawFn) -> dict[str, str | None]:
    kind = draw(st.sampled_from(["uniform", "montage", "every", "around-mask"]))
    number = f"{draw(st.floats(1.5, 40))}-mm" if kind == "every" else str(draw(st.integers(1, 20)))
    window = draw(st.sampled_from([None, *WINDOWS, "100,700"]))
    plane = draw(st.sampled_from([None, "axial", "sagittal", "coronal"]))
    return {"slices": f"{kind}/{number}", "plane": plane, "window": window}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pair(tmp_path_factory.mktemp("pair"))


@settings(max_examples=25)
@given(plan=plans())
def test_any_plan_gives_the_same_bits_again(pair: Path, tmp_path_factory: pytest.TempPathFactory, plan: dict) -> None:
    folder = tmp_path_factory.mktemp("plan")
    chosen = {**plan, "where": ("image=head.nii.gz",)} if "mask" in plan["slices"] else plan
    samples = converted(pair, folder / "out", **chosen)
    again = remake(samples, pair.parent)
    assert not again.differing
    assert not again.missing
    assert again.checked == sum(len(sample.images) for sample in samples)
    twice = converted(pair, folder / "twice", **chosen)
    assert [sample.images for sample in twice] == [sample.images for sample in samples]


def test_a_converted_folder_is_its_plan(scans: Path, tmp_path: Path) -> None:
    converted(scans, tmp_path / "out")
    before = (tmp_path / "out" / "data-00000.parquet").stat().st_mtime_ns
    converted(scans, tmp_path / "out")
    assert (tmp_path / "out" / "data-00000.parquet").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="slices was 'uniform/4', now 'uniform/5'"):
        converted(scans, tmp_path / "out", slices="uniform/5")


def test_another_file_of_a_study_is_another_input(tmp_path: Path) -> None:
    scans = write_scans(tmp_path / "scans")
    converted(scans, tmp_path / "out")
    (one, *_) = (scans / "PAT-1" / "ct").iterdir()
    one.unlink()
    with pytest.raises(ConfigError, match="other pictures"):
        converted(scans, tmp_path / "out")


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("PAT-2", r"holds 2 DICOM series \(of [65], [65] files\); name a folder with one, or the series"),
        ("empty", "holds no DICOM series"),
        ("1.2.3.4", "there is no DICOM series 1.2.3.4 under"),
        ("../scans", "has .\\.\\..; write it relative"),
        ("gone", "does not exist"),
    ],
)
def test_names_of_no_study_are_refused(scans: Path, tmp_path: Path, image: str, said: str) -> None:
    table = write_table(tmp_path, [{"image": image}])
    with pytest.raises(DataError, match=said):
        converted(table, tmp_path / "out", image_root=scans)
    good = write_table(tmp_path, [{"image": image}, {"image": "PAT-1/ct"}])
    assert len(converted(good, tmp_path / "out", image_root=scans, skip_bad=True)) == 1


def test_planes_need_slices(scans: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--plane is for studies; say which of their slices, as --slices uniform/8"):
        ConvertSettings(path=scans, out=tmp_path, plane="axial")
    with pytest.raises(ConfigError, match="there is no slice plan 'some'"):
        ConvertSettings(path=scans, out=tmp_path, slices="some/3")
    table = write_table(tmp_path, [{"image": "PAT-1/frames.dcm"}])
    with pytest.raises(DataError, match=r"has several frames.*or convert with --slices"):
        convert(ConvertSettings(path=table, out=tmp_path / "out", image_root=scans))


def test_the_command_says_what_is_odd(scans: Path, tmp_path: Path) -> None:
    plan = ["--slices", "uniform/20", "--window", "600,900"]
    found = CliRunner().invoke(app, ["data", "convert", str(scans), *plan, "--out", str(tmp_path / "o")])
    assert found.exit_code == 0, found.output
    assert "its slices lie 15° from the axial plane" in found.output
    assert "slices, where 20 are asked for" in found.output
    picture = np.asarray(open_image(next(read_samples(tmp_path / "o")).images[0]))
    assert picture.dtype == np.uint8
