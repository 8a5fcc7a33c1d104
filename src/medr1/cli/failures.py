"""How a command ends that cannot go on: one sentence with what, where and what to do; a traceback is a bug of ours."""

import errno
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from medr1.doors import clean
from medr1.errors import MedR1Error
from medr1.processes import Stop, obey_parent, stoppable
from medr1.runs import STAGING

REPEAT = "repeat the command, which goes on where it stopped"
MOST_WORDS = 300
"""Characters of a library's message that are shown."""
OUTPUT_OPTIONS = ("--out", "--output_dir", "--output_path")

SENTENCES = {
    errno.ENOSPC: f"the disk is full while writing {{where}}; make room and {REPEAT}",
    errno.EDQUOT: f"your share of the disk is full while writing {{where}}; make room and {REPEAT}",
    errno.EROFS: "{where} lies where nothing can be written; choose another folder for the output",
    errno.EACCES: "{where} may not be read or written by this user; change its permissions or choose another path",
    errno.EPERM: "{where} may not be changed by this user; change its permissions or choose another path",
    errno.EISDIR: "{where} is a folder where a file is needed; name a file, or move the folder away",
    errno.ENOTDIR: "{where} leads through a file as if it were a folder; name another path",
    errno.EEXIST: "{where} is there already and stands in the way; choose another path or move it away",
    errno.ENOENT: "{where} does not exist; check the path",
    errno.ENAMETOOLONG: "the path {where} is too long; choose a shorter one",
    errno.EMFILE: f"too many files are open at {{where}}; raise the limit with `ulimit -n` and {REPEAT}",
    errno.EIO: f"the disk fails at {{where}}; check the disk, then {REPEAT}",
}
"""What the errors of the operating system mean."""
FULL_DISK = re.compile(r"No space left on device|os error 28|StorageFull|\d+ requested and \d+ written")
"""In messages of libraries that write files themselves."""
NO_MEMORY = re.compile(r"DefaultCPUAllocator: .*(can't|not enough)|out of memory", re.IGNORECASE)
FILE_ERRORS = {
    *("ArrowException", "BadZipFile", "JSONDecodeError", "LZMAError", "SafetensorError", "UnicodeDecodeError"),
    *("UnpicklingError", "YAMLError", "sqlite3.Error", "zlib.error"),
}
"""Errors of libraries about what is in a file, by name: importing them all would take seconds."""


NETWORK_ERRORS = {"TransportError"}
"""Of the clients that hubs and endpoints are asked with."""


def run_command(command: Callable[[], object]) -> None:
    """Run a command line and end as its user expects: exit code 1 and one sentence for what the user can mend.

    Ctrl-C and SIGTERM end it with one sentence and exit code 130 or 143; a reader who has closed the pipe ends it
    without a word.
    """
    obey_parent()
    with stoppable() as stop:
        try:
            try:
                command()
            finally:
                sys.stdout.flush()  # not at the interpreter's end, where an error could only be printed
        except BaseException as error:
            _end(error, stop)
            raise


def _end(error: BaseException, stop: Stop) -> None:
    """Say what there is to say and exit; return where the error is not the user's."""
    if stop.number is not None:  # whatever failed since then failed by it
        stop.end()
    # Pipes of ours break too, but those errors are their own or name the file that was being written.
    reader_is_gone = isinstance(error, BrokenPipeError) and error.filename is None
    sentence = None if reader_is_gone else explanation(error)
    if sentence is None and not reader_is_gone:
        return
    if sentence is not None:
        print(f"medr1: {clean(' '.join(sentence.split()))}", file=sys.stderr)
    _drop_output()
    sys.exit(1)


def _drop_output() -> None:
    """Let what cannot be written go nowhere: the interpreter would try again at its end, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def explanation(error: BaseException) -> str | None:
    """What is wrong, where, and how to mend it; None for a bug of ours."""
    words = " ".join(str(error).split())[:MOST_WORDS]
    if isinstance(error, MedR1Error):
        return str(error)
    if isinstance(error, Exception) and FULL_DISK.search(str(error)):
        return SENTENCES[errno.ENOSPC].format(where=_where(error))
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and NO_MEMORY.search(str(error))):
        advice = "ask for smaller batches or fewer processes, or close other programs"
        return f"the memory does not suffice ({words or 'no details'}); {advice}, and {REPEAT}"
    if isinstance(error, OSError):
        if error.errno in SENTENCES:
            return SENTENCES[error.errno].format(where=_where(error))
        return f"{words or type(error).__name__} ({_where(error)}); check the path, or the connection, and {REPEAT}"
    kinds = {name for kind in type(error).__mro__ for name in (kind.__name__, f"{kind.__module__}.{kind.__name__}")}
    if kinds & NETWORK_ERRORS:
        return f"the network does not answer ({words or type(error).__name__}); check the connection, and {REPEAT}"
    if kinds & FILE_ERRORS:
        return f"{_where(error, 'a file')} is damaged or of another kind than is needed ({words}); mend or replace it"
    return None


def _where(error: BaseException, otherwise: str = "") -> str:
    """The file of an error: the one it names, else the one that our code was at, else the command's output."""
    name = getattr(error, "filename", None)
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    if not isinstance(name, str) or not name:
        name = _path_at(error.__traceback__) or otherwise or _output()
    parts = [part for part in Path(name).parts if not part.startswith(STAGING)]
    return str(Path(*parts)) if parts else name


def _path_at(traceback: TracebackType | None) -> str | None:
    """The path that the innermost of our functions was working on."""
    found = None
    while traceback is not None:
        if traceback.tb_frame.f_globals.get("__name__", "").startswith("medr1."):
            paths = [value for value in traceback.tb_frame.f_locals.values() if isinstance(value, Path)]
            found = str(paths[-1]) if paths else found
        traceback = traceback.tb_next
    return found


def _output() -> str:
    """What the command line names for the output."""
    for option, value in zip(sys.argv, [*sys.argv[1:], ""], strict=True):
        name, _, joined = option.partition("=")
        if name in OUTPUT_OPTIONS:
            return joined or value
    return "the output"
