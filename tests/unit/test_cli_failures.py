"""What cannot go on ends in one sentence with what, where and what to do; bugs of ours end in a traceback."""

# ruff: noqa: F811 - arguments named as imported fixtures

import errno
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from safetensors import SafetensorError
from typer.main import get_command

from every_command import COMMANDS, WRITES_NOTHING, arguments_of, inputs, leaves, run  # noqa: F401 - fixtures
from medr1.cli import app
from medr1.cli.failures import explanation, run_command
from medr1.errors import DataError
from medr1.runs import STAGING, Run

# --- The sentence -------------------------------------------------------------------------------------------------


class TransportError(Exception):
    """Named as that of the HTTP clients."""


class ConnectError(TransportError):
    pass


def os_error(code: int, name: str | None = "runs/a/results.json") -> OSError:
    return OSError(code, os.strerror(code), name)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DataError("the data is bad; mend it"), ["the data is bad; mend it"]),
        (os_error(errno.ENOSPC), ["the disk is full", "runs/a/results.json", "make room", "goes on where it stopped"]),
        (os_error(errno.EDQUOT), ["share of the disk", "runs/a/results.json", "make room"]),
        (os_error(errno.EROFS), ["runs/a/results.json", "nothing can be written", "another folder"]),
        (os_error(errno.EACCES), ["runs/a/results.json", "permissions"]),
        (os_error(errno.EISDIR), ["runs/a/results.json", "is a folder", "name a file"]),
        (os_error(errno.ENOTDIR), ["runs/a/results.json", "through a file"]),
        (os_error(errno.ENOENT), ["runs/a/results.json does not exist", "check the path"]),
        (os_error(errno.EXDEV), ["runs/a/results.json", "check the path"]),
        (OSError("it is in the air"), ["it is in the air", "repeat the command"]),
        (os_error(errno.ENOSPC, f"runs/a/{STAGING}x1/results.json"), ["while writing runs/a/results.json;"]),
        (MemoryError(), ["memory", "smaller batches", "repeat the command"]),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), ["memory", "9 bytes"]),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), ["memory", "2 GiB"]),
        (SafetensorError("I/O error: No space left on device (os error 28)"), ["the disk is full", "make room"]),
        (OSError("3670016 requested and 12 written"), ["the disk is full"]),
        (SafetensorError("Error while deserializing header"), ["damaged", "deserializing header", "replace it"]),
        (pa.ArrowInvalid("Parquet magic bytes not found in footer"), ["damaged", "magic bytes"]),
        (zipfile.BadZipFile("File is not a zip file"), ["damaged", "not a zip file"]),
        (ConnectError("All connection attempts failed"), ["network", "attempts failed", "check the connection"]),
        (json.JSONDecodeError("Expecting value", "x", 0), ["damaged", "Expecting value"]),
    ],
)
def test_the_sentence_says_what_where_and_what_to_do(error: Exception, words: list[str]) -> None:
    sentence = explanation(error)
    assert sentence is not None
    assert "\n" not in sentence
    for word in words:
        assert word in sentence


@pytest.mark.parametrize(
    "error", [KeyError("gold"), AssertionError("no"), RuntimeError("shapes"), TypeError("x"), ValueError("y")]
)
def test_a_bug_keeps_its_traceback(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert explanation(error) is None

    def command() -> None:
        raise error

    with pytest.raises(type(error)):
        run_command(command)
    assert capsys.readouterr().err == ""


def test_without_a_name_the_file_that_our_code_was_at_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="full") as caught,
        Run(tmp_path / "out", command="x", arguments={}, identity={}, seed=None, owns=()) as run,
        run.file("results.json"),
    ):
        raise OSError(errno.ENOSPC, "full")
    assert f"while writing {tmp_path / 'out' / 'results.json'};" in str(explanation(caught.value))


def test_without_any_name_it_is_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (["--out", "runs/a"], ["--out=runs/a"], ["--output_dir", "runs/a"]):
        monkeypatch.setattr(sys, "argv", ["medr1", "x", *arguments])
        assert "while writing runs/a;" in str(explanation(OSError(errno.ENOSPC, "full")))
    monkeypatch.setattr(sys, "argv", ["medr1", "x"])
    assert "while writing the output;" in str(explanation(OSError(errno.ENOSPC, "full")))


# --- Every command at its first write -----------------------------------------------------------------------------


class FirstWrite:
    """Fails the first thing that this process makes below a folder. Audit hooks cannot be taken away again."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.code, self.failed = 0, ""
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple) -> None:
        if self.folder is None or event not in ("open", "os.mkdir"):
            return
        path, flags = arguments[0], arguments[2]
        writes = event == "os.mkdir" or (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if isinstance(path, (str, bytes)) and writes and os.fsdecode(path).startswith(str(self.folder)):
            self.folder, self.failed = None, os.fsdecode(path)
            raise OSError(self.code, os.strerror(self.code), None if self.code == errno.ENOSPC else path)


@pytest.fixture(scope="module")
def first_write() -> FirstWrite:
    return FirstWrite()


CODES = {"full": errno.ENOSPC, "read-only": errno.EROFS, "forbidden": errno.EACCES, "a folder": errno.EISDIR}


def test_every_command_is_here() -> None:
    assert COMMANDS.keys() | WRITES_NOTHING == set(leaves(get_command(app)))


@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_failing_first_write_is_one_sentence(
    run: Callable[..., tuple[int, str]], inputs: Path, tmp_path: Path, first_write: FirstWrite, command: str, kind: str
) -> None:
    (tmp_path / "sub").mkdir()
    first_write.folder, first_write.code, first_write.failed = tmp_path / "sub", CODES[kind], ""
    try:
        code, said = run(*arguments_of(command, inputs=inputs, out=tmp_path / "sub" / "out"))
    finally:
        first_write.folder = None
    assert first_write.failed, f"nothing was written: {said}"
    assert code == 1, said
    lines = said.splitlines()
    assert "Traceback" not in said
    assert [line for line in lines if line.startswith("medr1: ")] == lines[-1:], said
    assert str(tmp_path / "sub") in lines[-1]
    assert STAGING not in lines[-1]


# --- Readers and interpreters -------------------------------------------------------------------------------------


BUFFERED = "from medr1.cli.failures import run_command; run_command(lambda: print('a line that stays in the buffer'))"
PRINTING = {
    "help": ["-m", "medr1", "--help"],
    "list": ["-m", "medr1", "rewards", "list"],
    "table": ["-m", "medr1", "data", "sources"],
    "buffered": ["-c", BUFFERED],
}


def printed_to(output: int, command: list[str]) -> tuple[int, str]:
    """Exit code and standard error of a program with a buffer before its output."""
    buffered = os.environ | {"PYTHONUNBUFFERED": ""}
    done = subprocess.run([sys.executable, *command], stdout=output, stderr=subprocess.PIPE, text=True, env=buffered)
    return done.returncode, done.stderr


@pytest.mark.parametrize("command", PRINTING.values(), ids=PRINTING)
def test_a_reader_who_leaves_ends_it_without_a_word(command: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        assert printed_to(writing, command) == (1, "")
    finally:
        os.close(writing)


@pytest.mark.parametrize("command", PRINTING.values(), ids=PRINTING)
def test_a_disk_that_is_full_behind_the_output(command: list[str]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    with open("/dev/full", "w") as full:
        code, said = printed_to(full.fileno(), command)
    assert code == 1
    assert said.startswith("medr1: the disk is full while writing the output;")
    assert said.count("\n") == 1, said
