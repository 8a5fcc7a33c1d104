"""`medr1 models tiny`: the families that can be written, and the ones that can be trained."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from medr1.cli.models import app
from medr1.errors import ConfigError, DataError
from medr1.models.loading import load_processor, model_type
from medr1.models.tiny.build import FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_written(tmp_path: Path, family: str) -> None:
    result = CliRunner().invoke(app, ["tiny", "--out", str(tmp_path), "--family", family, "--random"])
    assert result.exit_code == 0, result.output
    assert model_type(tmp_path) == family
    assert load_processor(tmp_path).image_processor.patch_size == (16 if family == "qwen3_vl" else 14)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--family", "llava"], "choose one of qwen2_5_vl, qwen2_vl, qwen3_vl"),
        (["--family", "qwen3_vl", "--train"], "train qwen2_5_vl or qwen2_vl"),
    ],
)
def test_what_cannot_be_made_is_refused_with_what_can(tmp_path: Path, arguments: list[str], said: str) -> None:
    error = CliRunner().invoke(app, ["tiny", "--out", str(tmp_path / "out"), *arguments]).exception
    assert isinstance(error, ConfigError)
    assert said in str(error)
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_is_still_being_made_is_not_opened(tmp_path: Path) -> None:
    """One inside a training that still runs is whole."""
    made = tmp_path / "made"
    result = CliRunner().invoke(app, ["tiny", "--out", str(made), "--random"])
    assert result.exit_code == 0, result.output
    (tmp_path / "manifest.json").write_text((made / "manifest.json").read_text().replace('"done"', '"started"'))
    assert model_type(made) == "qwen2_5_vl"
    (tmp_path / "manifest.json").replace(made / "manifest.json")
    with pytest.raises(DataError, match="is not finished"):
        model_type(made)
