"""docs/python.md as its reader types it: no command line."""

import re
from pathlib import Path

import pytest
from PIL import Image

from medr1.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Image.effect_noise((84, 84), 50).save("photo.png")
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL))
    exec(compile(code, str(PAGE), "exec"), {})  # our own page
    numbers, p, said = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"0\.\d+ 0\.\d+ [01]\.\d+ 0\.\d+ 0\.\d+", numbers)
    assert re.fullmatch(r"[01]\.\d+", p)
    assert re.fullmatch(r"([A-C]|None) (\(.*\)|None) ([A-C]|None)", said)
    assert (tmp_path / "runs" / "nothink" / "results.json").exists()


def test_its_table_names_what_there_is() -> None:
    from importlib import import_module

    for line in re.findall(r"^\| `.*", PAGE.read_text(), flags=re.MULTILINE):
        paths = re.findall(r"`(medr1\.[\w.]+)`", line)
        assert len(paths) == 2
        found = [getattr(import_module(path.rpartition(".")[0]), path.rpartition(".")[2]) for path in paths]
        assert issubclass(found[0], Settings)
        assert callable(found[1])
