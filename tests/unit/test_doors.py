"""Which names lead where, how much is read, and what people see of texts that others wrote."""

import gzip
import os
import re
from pathlib import Path

import pytest

from medr1.doors import Most, cell, clean, read_file, resolve_inside, unpacked
from medr1.errors import DataError


def test_links_inside_a_snapshot_of_the_hubs_cache_lead_to_its_blobs_and_no_further(tmp_path: Path):
    repository = tmp_path / "hub" / "datasets--owner--name"
    snapshot, blob, other = repository / "snapshots" / "0f", repository / "blobs" / "1", tmp_path / "hub" / "secret"
    for file in (snapshot / "data" / "x", blob, other):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"1")
    os.symlink("../../blobs/1", snapshot / "a.parquet")
    os.symlink("../../../secret", snapshot / "b.parquet")
    assert resolve_inside(snapshot, "a.parquet").read_bytes() == b"1"
    with pytest.raises(DataError, match="link that leads out of"):
        resolve_inside(snapshot, "b.parquet")


def test_a_folder_that_is_itself_reached_by_a_link_is_the_folder(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x").write_bytes(b"1")
    os.symlink(tmp_path / "real", tmp_path / "link")
    assert resolve_inside(tmp_path / "link", "x") == tmp_path / "link" / "x"


def test_relative_folders_are_those_of_the_working_folder_of_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "one" / "data").mkdir(parents=True)
    (tmp_path / "two").mkdir()
    os.symlink("/", tmp_path / "two" / "data")
    monkeypatch.chdir(tmp_path / "two")
    resolve_inside(Path("data"), "x")
    monkeypatch.chdir(tmp_path / "one")
    os.symlink("/etc/passwd", tmp_path / "one" / "data" / "x")
    with pytest.raises(DataError, match="link that leads out of"):
        resolve_inside(Path("data"), "x")


@pytest.mark.parametrize(
    ("packed", "free", "times", "fits"), [(5000, 5000, 1, True), (5000, 4999, 1, False), (5000, 1, 1000, True)]
)
def test_a_packed_text_unpacks_up_to_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: int, free: int, times: int, fits: bool
):
    monkeypatch.setattr(Most, "GZIP_FREE_BYTES", free)
    monkeypatch.setattr(Most, "GZIP_TIMES", times)
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"0" * packed))
    with unpacked(tmp_path / "a.gz") as text:
        if fits:
            assert text.read() == "0" * packed
        else:
            with pytest.raises(DataError, match="unpacks to more than"):
                text.read()


def test_a_file_is_read_up_to_its_limit(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"123")
    assert read_file(tmp_path / "a", most=3) == b"123"
    with pytest.raises(DataError, match="larger"):
        read_file(tmp_path / "a", most=2)


def test_what_paints_or_hides_is_spelled_out():
    hidden = "\0\a\x1b\x7f\x9b\u200b\u200f\u202e\u2066\ufeff\U000e0041\ud800"
    for character in hidden:
        shown = clean(f"a{character}b")
        assert re.fullmatch(r"a\\\w+b", shown), ascii(character)
        assert clean(shown) == shown
    for text in ("Röntgen 胸部 é \u0301", "two\nlines\tand", "thin\u2009space 5\u00a0mm", "👩"):
        assert clean(text) == text


def test_no_cell_is_a_formula():
    texts = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "", "lung", "1-2", "'quoted'")
    cells = ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\t=1", r"\r=1", "", "lung", "1-2", "'quoted'"]
    assert [cell(text) for text in texts] == cells
