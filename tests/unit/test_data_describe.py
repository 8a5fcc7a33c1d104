"""The description of a data set and its picture wall."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from medr1.cli.data import app
from medr1.data.describe import COLUMNS, GAP, ROWS, describe, picture_wall, spread
from medr1.data.questions import Fingerprint, QuestionSet, question_set
from medr1.records import as_json, write_samples
from medr1.results.audited import Described, Spread
from medr1.types import ImageRef, Sample


def ask(number: int, image: ImageRef, options: tuple[str, ...] = ("CT", "an MRI")) -> Sample:
    return Sample(id=str(number), images=(image,), question="Which?", options=options, answer_index=number % 2)


def square(colour: int, size: tuple[int, int] = (30, 20)) -> ImageRef:
    buffer = io.BytesIO()
    Image.new("RGB", size, (colour, colour, colour)).save(buffer, format="PNG")
    return ImageRef(data=buffer.getvalue(), path=f"{colour}.png")


def test_describe_by_hand() -> None:
    samples = [ask(0, ImageRef(path="1.png")), ask(1, ImageRef(path="1.png")), ask(2, ImageRef(path="2.png"))]
    seen = Fingerprint(name="1.png", pixel_hash="pixels:1", size=(30, 20))
    questions = QuestionSet(name="x", samples=samples, images=[(seen,), (replace(seen),), (Fingerprint(name="2.png"),)])
    found = describe(questions)
    assert found.n == 3
    assert found.images.distinct == 2
    assert found.images.missing == 1
    assert found.images.commonest_sizes == {"30 × 20": 1}
    assert found.images.width == spread([30])
    assert found.options.length == Spread(min=2, q25=2, median=4, q75=6, max=6, mean=4)
    assert found.options.gold_letters == {"A": 2, "B": 1}
    assert found.questions.distinct == 1
    assert Described.model_validate(json.loads(as_json(found))) == found


def test_without_images_nothing_is_measured() -> None:
    found = describe(question_set("x", [ask(0, ImageRef(path="1.png"))])).images
    assert (found.distinct, found.missing, found.width) == (1, 1, None)
    assert picture_wall([ask(0, ImageRef(path="no such file.png"))]) is None


def opened(wall: bytes | None) -> np.ndarray:
    assert wall is not None
    return np.asarray(Image.open(io.BytesIO(wall)))


def test_wall_fits_each_picture_into_its_tile() -> None:
    wall = opened(picture_wall([ask(0, square(40)), ask(1, square(90, (10, 20)))], tile=30))
    assert wall.shape == (30, 2 * 30 + GAP, 3)
    colours = {0: wall[:, :30], 1: wall[:, 30 + GAP :]}
    # 30 × 20 fills the width and leaves five rows white above and below; 10 × 20 becomes 15 × 30.
    assert [int((tile[:, :, 0] == colour).sum()) for tile, colour in zip(colours.values(), (40, 90), strict=True)] == [
        30 * 20,
        15 * 30,
    ]


def test_wall_draws_from_the_whole_stream_under_the_seed() -> None:
    samples = [ask(i, square(i, (4, 4))) for i in range(250)]
    one, same, other = (opened(picture_wall(iter(samples), seed=seed, tile=4)) for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    colours = set(np.unique(one)) - {255}
    assert len(colours) == COLUMNS * ROWS
    assert max(colours) > 200  # not the first sixty


def test_command_writes_json_and_wall(tmp_path: Path) -> None:
    write_samples(tmp_path / "data", [ask(i, square(40 * i)) for i in range(3)])
    arguments = ["stats", str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--json"]
    printed = json.loads(CliRunner().invoke(app, arguments, catch_exceptions=False).stdout)
    assert printed == json.loads((tmp_path / "out" / "stats.json").read_text())
    assert printed["images"]["commonest_sizes"] == {"30 × 20": 3}
    assert opened((tmp_path / "out" / "pictures.png").read_bytes()).shape[1] > 3 * 100
    assert "image size: 30 × 20" in CliRunner().invoke(app, arguments[:-1], catch_exceptions=False).stdout
