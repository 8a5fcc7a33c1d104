"""Kept completions: found again by what decides them and by nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from medr1.engines.cache import ResponseCache, image_hash, request_hash
from medr1.engines.engine import Request, SamplingParams
from medr1.types import Completion

GREY = Image.new("RGB", (4, 4), (7, 7, 7))
ENGINE = {"engine": "endpoint", "model": "m"}
GREEDY, SAMPLED = SamplingParams(), SamplingParams(temperature=1.0)
REQUEST = Request(key="q1:", text="What?", images=(GREY,), system="Be brief.")
DONE = Completion(text="é B", token_ids=(1, 2), num_tokens=2, logprobs=(-0.5, -0.1))


def test_a_completion_comes_back_as_it_was(tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path)
    key = request_hash(ENGINE, REQUEST, GREEDY, 0)
    assert cache.get(key) is None
    cache.put(key, DONE)
    assert cache.get(key) == DONE
    assert cache.get(request_hash(ENGINE, REQUEST, SAMPLED, 0)) is None


@pytest.mark.parametrize("params", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_everything_that_decides_a_completion_is_in_its_key(params: SamplingParams) -> None:
    other = Image.new("RGB", (4, 4), (7, 7, 8))
    keys = [
        request_hash(ENGINE, REQUEST, params, 0),
        request_hash(ENGINE | {"model": "n"}, REQUEST, params, 0),
        request_hash(ENGINE, replace(REQUEST, text="What? "), params, 0),
        request_hash(ENGINE, replace(REQUEST, system=None), params, 0),
        request_hash(ENGINE, replace(REQUEST, completion_prefix="<think>"), params, 0),
        request_hash(ENGINE, replace(REQUEST, image_first=False), params, 0),
        request_hash(ENGINE, replace(REQUEST, images=(other,)), params, 0),
        request_hash(ENGINE, replace(REQUEST, images=(GREY, GREY)), params, 0),
        request_hash(ENGINE, replace(REQUEST, images=(GREY, other)), params, 0),
        request_hash(ENGINE, replace(REQUEST, images=(other, GREY)), params, 0),
        request_hash(ENGINE, REQUEST, replace(params, max_new_tokens=5), 0),
        request_hash(ENGINE, REQUEST, replace(params, top_p=0.9), 0),
        request_hash(ENGINE, REQUEST, replace(params, temperature=0.5), 0),
    ]
    assert len(set(keys)) == len(keys)


def test_random_numbers_matter_where_there_are_any() -> None:
    def variants(params: SamplingParams) -> set[str]:
        return {
            request_hash(ENGINE, REQUEST, params, 0),
            request_hash(ENGINE, REQUEST, params, 1),
            request_hash(ENGINE, replace(REQUEST, key="q2:"), params, 0),
            request_hash(ENGINE, REQUEST, replace(params, seed=1), 0),
        }

    assert len(variants(SAMPLED)) == 4
    assert len(variants(GREEDY)) == 1
    assert request_hash(ENGINE, REQUEST, SAMPLED, 1) == request_hash(ENGINE, REQUEST, replace(SAMPLED, num_draws=8), 1)


def test_pixels_count_and_not_the_file(tmp_path: Path) -> None:
    GREY.save(tmp_path / "a.png")
    GREY.save(tmp_path / "b.bmp")
    assert image_hash(Image.open(tmp_path / "a.png")) == image_hash(Image.open(tmp_path / "b.bmp")) == image_hash(GREY)
    assert image_hash(Image.new("RGB", (2, 8), (7, 7, 7))) != image_hash(GREY), "the same bytes in another shape"


def test_torn_and_foreign_files_are_no_completions(tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path)
    key = request_hash(ENGINE, REQUEST, GREEDY, 0)
    cache.put(key, DONE)
    (path,) = tmp_path.rglob("*.json")
    whole = path.read_bytes()
    for torn in (whole[:-3], whole[: len(whole) // 2], b"", b"{}", b"[1]", b'{"text": 3}', b"\xff\x00"):
        path.write_bytes(torn)
        assert cache.get(key) is None
    cache.put(key, DONE)
    assert cache.get(key) == DONE
    assert list(tmp_path.rglob("*.json")) == [path], "nothing is left aside"


def test_failures_are_not_kept(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        ResponseCache(tmp_path).put("ab", Completion(text="timed out", finish_reason="error"))
