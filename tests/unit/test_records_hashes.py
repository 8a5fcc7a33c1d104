"""Hashes of contents: of every file once, of samples apart by what may differ."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from medr1.records import DataHash, content_hashes, file_hash, file_hashes, files_hash, image_hash
from medr1.records import hashes as module
from medr1.records.hashes import MISSING
from medr1.types import ImageRef, Sample


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "medr1" / "hashes.sqlite"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read."""
    names: list[str] = []
    digest = module._digest

    def noted(path: Path) -> str:
        names.append(Path(path).name)
        assert Path(path).is_file(), "who opens a pipe waits for ever"
        return digest(path)

    monkeypatch.setattr(module, "_digest", noted)
    return names


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_file_is_read_once_until_it_changes(tmp_path: Path, read: list[str]) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    assert file_hash(path) == file_hash(path) == sha(b"one")
    assert read == ["a"]
    times = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file_hash(path) == sha(b"two"), "of the same size and time"
    (tmp_path / "b").write_bytes(b"333")
    os.utime(tmp_path / "b", ns=(times.st_atime_ns, times.st_mtime_ns))
    os.replace(tmp_path / "b", path)
    assert file_hash(path) == sha(b"333"), "another file under its name"
    assert read == ["a", "a", "a"]


def test_many_files_come_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: list[str]) -> None:
    monkeypatch.setattr(module, "BATCH", 3)
    for n in range(8):
        (tmp_path / str(n)).write_text(f"{n // 2}")
    os.mkfifo(tmp_path / "pipe")
    paths = [tmp_path / name for name in ("5", "gone", "0", "5", "pipe", "cache", "7", "1", "0\0")]
    wanted = [sha(b"2"), MISSING, sha(b"0"), sha(b"2"), MISSING, MISSING, sha(b"3"), sha(b"0"), MISSING]
    assert list(file_hashes(paths)) == wanted
    assert list(file_hashes(paths)) == wanted
    assert sorted(read) == ["0", "1", "5", "7"]


@pytest.mark.parametrize("name", ["gone", "cache"])
def test_what_is_no_file_has_no_hash(tmp_path: Path, cache: Path, name: str) -> None:
    cache.parent.mkdir(parents=True)
    with pytest.raises(OSError, match=name):
        file_hash(tmp_path / name)
    with pytest.raises(OSError, match=name):
        files_hash([tmp_path / name], tmp_path)


@pytest.mark.parametrize("spoil", [Path.touch, lambda path: path.write_text("no database" * 99)])
def test_without_a_cache_files_are_read_again(tmp_path: Path, cache: Path, spoil: Callable[[Path], object]) -> None:
    cache.parent.parent.mkdir()
    spoil(cache.parent)
    (tmp_path / "a").write_bytes(b"one")
    assert file_hash(tmp_path / "a") == file_hash(tmp_path / "a") == sha(b"one")


def test_names_and_contents_make_the_hash_of_files_whatever_their_order(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    paths = [tmp_path / "a", tmp_path / "b"]
    before = files_hash(paths, tmp_path)
    assert files_hash(paths[::-1], tmp_path) == before
    (tmp_path / "b").rename(tmp_path / "c")
    assert files_hash([tmp_path / "a", tmp_path / "c"], tmp_path) != before


SAMPLE = Sample(
    id="q", images=(ImageRef(path="a.png", data=b"1"),), question="?", options=("x", "y"), answer_index=0, group="g"
)
CHANGES: list[tuple[dict, set[str]]] = [
    ({"question": "!"}, {"questions"}),
    ({"options": ("x", "z")}, {"questions"}),
    ({"id": "p"}, {"questions"}),
    ({"answer_index": 1}, {"gold_answers"}),
    ({"answers": ("x",)}, {"gold_answers"}),
    ({"modality": "CT"}, {"labels"}),
    ({"group": "h"}, {"labels"}),
    ({"extra": {"a": "b"}}, {"labels"}),
    ({"rationale": "so"}, {"labels"}),
    ({"images": (ImageRef(path="a.png", data=b"2"),)}, {"pictures"}),
    ({"images": (ImageRef(path="b.png", data=b"1"),)}, {"pictures"}),
    ({"images": ()}, {"pictures"}),
]


def whole(*samples: Sample, root: Path | None = None) -> dict[str, str]:
    content = DataHash(root)
    assert list(content.watch(samples)) == list(samples)
    return content.identity()


@pytest.mark.parametrize(("change", "differs"), CHANGES)
def test_what_differs_has_a_name(change: dict, differs: set[str]) -> None:
    other = replace(SAMPLE, id="r")
    before, after = whole(SAMPLE, other), whole(replace(SAMPLE, **change), other)
    assert {name for name in before if before[name] != after[name]} == differs
    assert whole(other, SAMPLE)["questions"] != before["questions"], "the order counts"


def test_pictures_are_hashed_where_they_lie_and_named_as_the_data_name_them(tmp_path: Path) -> None:
    def sets(root: Path) -> dict[str, str]:
        refs = (ImageRef(path=str(root / "a.png")), ImageRef(path=str(root / "gone.png")))
        return whole(replace(SAMPLE, images=refs), root=root)

    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(b"1")
    before = sets(tmp_path / "here")
    assert sets(tmp_path / "there") == before
    (tmp_path / "there" / "a.png").write_bytes(b"2")
    assert {name for name in before if sets(tmp_path / "there")[name] != before[name]} == {"pictures"}
    (tmp_path / "here" / "gone.png").touch()
    assert sets(tmp_path / "here")["pictures"] != before["pictures"]


def test_sets_of_samples_are_the_same_in_any_order(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"1")
    inside, outside = SAMPLE, replace(SAMPLE, id="r", images=(ImageRef(path=str(tmp_path / "a.png")),))
    assert content_hashes([inside, outside]) == content_hashes([outside, inside])
    assert image_hash(inside.images[0]) == image_hash(outside.images[0]) == sha(b"1")
    assert image_hash(ImageRef(path=str(tmp_path / "gone.png"))) == image_hash(ImageRef()) == MISSING
    before = content_hashes([inside, outside])
    (tmp_path / "a.png").write_bytes(b"2")
    after = content_hashes([inside, outside])
    assert {name for name in before if before[name] != after[name]} == {"pictures"}
