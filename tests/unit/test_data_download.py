import json
import zipfile
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from medr1.data import SOURCES, find_source
from medr1.data.download import download, download_of, unpack
from medr1.data.record_files import data_files
from medr1.errors import ConfigError, DataError
from run_faults import assert_same, files, moments, refusal, stamps, stopped


class Hub:
    """Stands for `snapshot_download`: remembers its arguments and writes files."""

    def __init__(self, files: dict[str, dict[str, bytes]] | None = None) -> None:
        self.calls: list[dict[str, Any]] = []
        self.files = files or {}

    def __call__(self, **arguments: Any) -> None:
        self.calls.append(arguments)
        for name, members in self.files.items():
            make_zip(arguments["local_dir"] / name, members)


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    stub = Hub()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", stub)
    return stub


@pytest.mark.parametrize("name", [name for name, source in SOURCES.items() if source.download])
def test_every_download_asks_for_data_files_of_one_repository(hub: Hub, tmp_path: Path, name: str):
    download(name, tmp_path, revision="abc")
    [asked] = hub.calls
    wanted = SOURCES[name].download
    assert wanted is not None
    assert asked == {
        "repo_id": wanted.repo,
        "repo_type": "dataset",
        "revision": "abc",
        "local_dir": tmp_path,
        "allow_patterns": list(wanted.files),
    }
    assert wanted.repo.count("/") == 1
    assert wanted.files
    assert not any(pattern.endswith((".py", "*")) for pattern in wanted.files)


def test_any_data_set_of_the_hub_can_be_named(hub: Hub, tmp_path: Path):
    assert download("owner/name", tmp_path) == []
    assert (hub.calls[0]["repo_id"], hub.calls[0]["allow_patterns"]) == ("owner/name", None)


@pytest.mark.parametrize(("name", "message"), [("csv", "write it yourself"), ("slak", "owner/name"), ("a/b/c", "hub")])
def test_what_cannot_be_fetched_says_where_to_get_it(name: str, message: str):
    with pytest.raises(ConfigError, match=message):
        download_of(name)


def test_archives_are_unpacked_once(hub: Hub, tmp_path: Path):
    hub.files = {"imgs.zip": {"imgs/xmlab0/source.jpg": b"1", "__MACOSX/x": b"2", "imgs/.DS_Store": b"3"}}
    steps: list[tuple[int, int]] = []
    assert download("slake", tmp_path, progress=lambda *step: steps.append(step)) == [tmp_path / "imgs.zip"]
    assert (tmp_path / "imgs/xmlab0/source.jpg").read_bytes() == b"1"
    assert files(tmp_path).keys() == {"imgs.zip", "imgs.zip.unpacked", "imgs/xmlab0/source.jpg", "manifest.json"}
    assert steps == [(1, 1)]
    before = stamps(tmp_path)
    assert download("slake", tmp_path) == [tmp_path / "imgs.zip"]
    assert stamps(tmp_path) == before
    assert len(hub.calls) == 1, "the hub is not asked again"


def test_another_data_set_or_revision_is_refused_and_may_replace(hub: Hub, tmp_path: Path):
    out = tmp_path / "out"
    hub.files = {"imgs.zip": {"imgs/1.jpg": b"1"}}
    download("slake", out)
    assert "revision was None, now 'v2'" in refusal(lambda: download("slake", out, revision="v2"), tmp_path)
    assert "repository was 'BoKelvin/SLAKE'" in refusal(lambda: download("owner/name", out), tmp_path)
    hub.files = {"imgs.zip": {"imgs/2.jpg": b"2"}}
    download("slake", out, revision="v2", overwrite=True)
    assert [path.name for path in (out / "imgs").iterdir()] == ["2.jpg"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").touch()
    assert "(a.txt is there)" in refusal(lambda: download("slake", tmp_path / "mine"), tmp_path)


def test_a_broken_connection_costs_nothing_and_a_misspelt_name_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    out = tmp_path / "out"

    def break_off(local_dir: Path, **arguments: Any) -> None:
        part = local_dir / ".cache" / "huggingface" / "download" / "x.incomplete"
        part.parent.mkdir(parents=True)
        part.write_bytes(b"half of it")
        raise LocalEntryNotFoundError("no connection")

    def refuse(local_dir: Path, **arguments: Any) -> None:
        (local_dir / ".cache" / "huggingface").mkdir(parents=True)
        (local_dir / ".cache" / "huggingface" / "CACHEDIR.TAG").touch()
        raise LocalEntryNotFoundError("no such data set")

    for fail, is_kept in ((refuse, False), (break_off, True)):
        monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
        with pytest.raises(DataError, match="could not be fetched"):
            download("slake", out)
        assert out.exists() == is_kept
    assert len(list(out.rglob("*.incomplete"))) == 1
    with pytest.raises(DataError, match="is not finished"):
        find_source(out, "slake")


def test_a_killed_download_goes_on(hub: Hub, tmp_path: Path):
    hub.files = {"imgs.zip": {"imgs/1.jpg": b"1", "imgs/2.jpg": b"2"}}
    download("slake", tmp_path / "whole" / "out")
    every = moments(lambda: download("slake", tmp_path / "counted" / "out"))
    assert [moment.point for moment in every if moment.side == "after"] == [
        "folder",
        "manifest",
        *["file"] * 3,
        "manifest",
    ]
    for moment in every:
        out = tmp_path / f"{moment.number}-{moment.side}" / "out"
        assert stopped(lambda out=out: download("slake", out), moment)
        download("slake", out)
        assert_same(out, tmp_path / "whole" / "out", but=("imgs.zip",))  # a zip holds times


def test_the_manifest_of_a_download_is_no_data(tmp_path: Path, hub: Hub):
    download("owner/name", tmp_path / "out")
    (tmp_path / "out" / "rows.json").write_text("[]")
    (tmp_path / "out" / "theirs").mkdir()
    (tmp_path / "out" / "theirs" / "manifest.json").write_text("[]")
    found = data_files(tmp_path / "out", (".json",))
    assert [str(path.relative_to(tmp_path / "out")) for path in found] == ["rows.json", "theirs/manifest.json"]


def test_folders_inside_are_left_out_where_the_publisher_does(hub: Hub, tmp_path: Path):
    hub.files = {"images_3.zip": {"pmc/images_3/pmc_1_0.jpg": b"1"}}
    download("pubmedvision", tmp_path)
    assert (tmp_path / "images/pmc_1_0.jpg").read_bytes() == b"1"


def test_unpacking_goes_on_where_it_stopped(tmp_path: Path):
    archive = make_zip(tmp_path / "a.zip", {"x/1.png": b"one", "x/2.png": b"two"})
    (tmp_path / "out/x").mkdir(parents=True)
    (tmp_path / "out/x/1.png").write_bytes(b"ONE")
    (tmp_path / "out/x/2.png").write_bytes(b"t")
    assert len(list(unpack(archive, tmp_path / "out"))) == 2
    assert (tmp_path / "out/x/1.png").read_bytes() == b"ONE", "of the right length, so it is not written again"
    assert (tmp_path / "out/x/2.png").read_bytes() == b"two", "cut off, so it is"


@pytest.mark.parametrize("name", ["../x.png", "/etc/x.png", "a/../../x.png"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str):
    archive = make_zip(tmp_path / "a.zip", {name: b"1"})
    with pytest.raises(DataError, match=r"has '\.\.'|leads out of"):
        list(unpack(archive, tmp_path / "out"))
    assert not (tmp_path / "x.png").exists()


def test_links_in_archives_are_refused(tmp_path: Path):
    link = zipfile.ZipInfo("link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match="link or device"):
        list(unpack(tmp_path / "a.zip", tmp_path / "out"))


def test_damaged_archives_are_named(tmp_path: Path):
    whole = make_zip(tmp_path / "a.zip", {"x.png": b"0123456789"}).read_bytes()
    for damaged in (b"", b"PK", whole[:20], whole.replace(b"0123456789", b"0123456780")):
        (tmp_path / "a.zip").write_bytes(damaged)
        with pytest.raises(DataError, match=r"a\.zip"):
            list(unpack(tmp_path / "a.zip", tmp_path / "out"))
        assert not [path for path in (tmp_path / "out").iterdir() if path.is_file()]


def test_a_hub_that_does_not_answer_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def refuse(**arguments: Any) -> None:
        raise LocalEntryNotFoundError("no connection\nsecond line")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(DataError, match=r"BoKelvin/SLAKE could not be fetched .*\(no connection\)"):
        download("slake", tmp_path)


@pytest.mark.parametrize(
    ("name", "published", "left"),
    [
        ("pubmedvision", ["PubMedVision_Alignment_VQA.json", "PubMedVision_InstructionTuning_VQA.json", "images_9.zip"],
         ["PubMedVision_Original_Caption.json"]),
        ("pmc-vqa", ["train.csv", "test_clean.csv", "train_2.csv", "test_2.csv", "images.zip", "images_2.zip"],
         ["oa_comm_use_file_list.csv"]),
        ("mm-iq", ["test-00000-of-00001.parquet"], ["data.zip"]),
    ],
)  # fmt: skip
def test_only_the_questions_and_their_images_are_asked_for(name: str, published: list[str], left: list[str]):
    patterns = download_of(name).files
    assert [file for file in (*published, *left) if any(fnmatch(file, one) for one in patterns)] == published


def test_a_download_of_omnimedvqa_is_read_from_where_it_was_put(tmp_path: Path):
    record = {"dataset": "MIAS", "question_type": "Modality Recognition", "question": "How?", "gt_answer": "X-Ray"}
    record |= {"image_path": "Images/MIAS/a.png", "option_A": "X-Ray", "option_B": "CT", "modality_type": "X-Ray"}
    data = tmp_path / "OmniMedVQA"
    file = data / "QA_information" / "Open-access" / "MIAS.json"
    for path, content in ((file, json.dumps([record])), (data / "Images" / "MIAS" / "a.png", "x")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    source = SOURCES["omnimedvqa"]
    for asked in (tmp_path, data, data / "QA_information", file.parent, file):
        assert source.image_root(asked).resolve() == data
