"""The one door through which what others named is opened: data, checkpoints, archives, and texts for people.

A data set, a checkpoint or a server is written by somebody else. What it names may be a device without end, a file of
this machine, a few kilobytes that unpack to gigabytes, or a text that paints over a terminal. So

- a name leads to an ordinary file under the folder of what named it, or nowhere (`resolve_inside`); nothing is fetched
  from an address that data hold, nor taken for one;
- a file is read up to a limit, and unpacked as a stream up to a limit (`read_file`, `unpacked`); all limits are in
  `Most`, and what is above is refused before it is unpacked or decoded;
- a name is cleaned before a terminal, a page or a table sees it (`clean`, `cell`).

Not guarded: a folder whose links are changed by another program while it is read.
"""

import gzip
import io
import os
import re
import stat
import unicodedata
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO

from medr1.errors import DataError

MIB = 2**20


class Most:
    """The largest of everything that is taken; `docs/pictures.md` tells users."""

    NAME_CHARS = 1024
    """A name of a file, as data hold it."""
    FILE_BYTES = 512 * MIB
    """A file that holds one picture, and anything else that is read in one piece."""
    PIXELS = 64_000_000
    """A picture, by its header: a few kilobytes can unpack to gigabytes."""
    VOXELS = 2**27
    """A volume: 512 slices of 512 × 512."""
    COSTLY_PIXELS = 24_000_000
    """The same of one that takes more room while it is decoded: 16-bit colours, 32-bit grey, transparency."""
    RECORD_CHARS = 64 * MIB
    """A record of a text file; a longer one is damage (a quote that never closes) or a bomb."""
    BLANK_LINES = 1_000_000
    """Lines without a record in a file of JSON lines."""
    JSON_PARTS = 2_000_000
    """Lists and objects of a JSON file that is read in one piece, or of a record."""
    GZIP_TIMES = 100
    """How many times larger than itself a packed text may be, where that is more than `GZIP_FREE_BYTES`."""
    GZIP_FREE_BYTES = 256 * MIB
    """What any packed text may unpack to."""
    ZIP_TIMES = 100
    """How many times larger than itself a downloaded archive may be, where that is more than `GZIP_FREE_BYTES`."""
    BATCH_BYTES = 128 * MIB
    """What is unpacked of a parquet file at once, if it is not less than `COLUMN_TIMES` its size in the file."""
    COLUMN_TIMES = 8
    """How many times larger than itself a large column of a row group may be: pictures hardly shrink."""
    ROW_BYTES = 256 * MIB
    """A column of one row of a parquet file."""
    ROWS = 100_000_000
    """Rows of a parquet file: a billion empty ones take no room."""
    COLUMNS = 10_000
    """Columns of a parquet file."""
    CONFIG_BYTES = 64 * MIB
    """A file of a checkpoint beside its weights: a tokenizer of 250,000 words takes 35 MiB."""
    MODEL_SIZE = 4_000_000
    """A layer count, vocabulary or width in the configuration of a checkpoint."""
    TEMPLATE_CHARS = 262_144
    """A chat template."""
    TEMPLATE_RANGE = 1000
    """What a chat template counts to."""


SHOWN_CHARS = 200
"""Of a name in a sentence."""
HUB_SNAPSHOT = re.compile(r"((?:.*/)?(?:models|datasets)--[^/]+)/snapshots/[^/]+(?:/.*)?$")
"""A folder in the cache of huggingface_hub, whose files are links to `blobs` of the same repository."""

# --- Files ----------------------------------------------------------------------------------------------------------


def resolve_inside(root: Path, relative: str, what: str = "path") -> Path:
    """`root / relative` for a name taken from a data file; `DataError`, which begins with `what`, if it could lead out.

    Names are used as they are: `%`, `#`, `&`, spaces and brackets mean themselves, nothing is decoded or expanded.
    """
    shown = f"{what} {clean(relative[:SHOWN_CHARS])!r}"
    if not relative or "\0" in relative or len(relative) > Most.NAME_CHARS:
        raise DataError(f"{shown} is empty or no name of a file; write one of at most {Most.NAME_CHARS} characters")
    if ".." in PurePosixPath(relative).parts:
        raise DataError(f"{shown} has '..'; write it relative to the folder of the data")
    path = root / relative
    inside = _home(_real(os.path.abspath(root)))
    real = os.path.join(_real(os.path.abspath(path.parent)), path.name)
    if os.path.islink(real):
        real = os.path.realpath(real)
    if os.path.commonpath([inside, real]) != inside:
        how = "is absolute and" if PurePosixPath(relative).is_absolute() else "is behind a link that"
        raise DataError(f"{shown} {how} leads out of {root}; copy the file into the folder and name it from there")
    return path


@lru_cache(maxsize=4096)
def _real(folder: str) -> str:
    """A folder without links. Kept, since a data set names a hundred thousand files in a few folders."""
    return os.path.realpath(folder)


def _home(root: str) -> str:
    """What may be read of a folder: itself, and of a snapshot in the hub's cache the repository, where its files are.

    >>> _home("/cache/hub/datasets--a--b/snapshots/0f"), _home("/data/cases")
    ('/cache/hub/datasets--a--b', '/data/cases')
    """
    return HUB_SNAPSHOT.sub(r"\1", root)


def check_file(path: Path, what: str = "file") -> int:
    """Size of an ordinary file; `DataError`, which begins with `what`, for anything else."""
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise DataError(f"{what} {clean(str(path))} does not exist; check the name and the folder") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{what} {clean(str(path))} cannot be read ({reason}); check the path") from error
    if not stat.S_ISREG(status.st_mode):  # a pipe or device has no end
        raise DataError(f"{what} {clean(str(path))} is no ordinary file; name the file itself")
    return status.st_size


def read_file(path: Path, what: str = "file", most: int = Most.FILE_BYTES) -> bytes:
    """The bytes of an ordinary file; `DataError`, which begins with `what`, for anything else and above the limit."""
    if check_file(path, what) > most:
        raise DataError(f"{what} {clean(str(path))} is larger than {most // MIB} MiB; make it smaller")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{what} {clean(str(path))} cannot be read ({error.strerror}); check its permissions"
        ) from error


def unpacked(path: Path) -> IO[str]:
    """The UTF-8 text of an ordinary file, unpacked on the way where its name ends in `.gz`, up to the limit."""
    most = max(Most.GZIP_FREE_BYTES, Most.GZIP_TIMES * check_file(path))
    binary = _Unpacked(path, most) if path.name.lower().endswith(".gz") else path.open("rb")
    return io.TextIOWrapper(binary, encoding="utf-8-sig", newline="")  # pyright: ignore[reportArgumentType]


class _Unpacked(gzip.GzipFile):
    """A packed file as it unpacks; `DataError` once it is larger than the limit."""

    def __init__(self, path: Path, most: int) -> None:
        super().__init__(path, "rb")
        self._most, self._seen = most, 0

    def read(self, size: int | None = -1) -> bytes:
        """So many bytes, or all."""
        return self._counted(super().read(self._most + 1 if size is None or size < 0 else size))

    def read1(self, size: int = -1) -> bytes:
        """The next bytes; what `io.TextIOWrapper` reads lines by."""
        return self._counted(super().read1(size))

    def _counted(self, data: bytes) -> bytes:
        self._seen += len(data)
        if self._seen > self._most:
            most = f"{self._most // MIB:,} MiB"
            raise DataError(f"{self.name} unpacks to more than {most}; unpack it yourself if that is right")
        return data


def check_json(text: str, name: str) -> str:
    """The text itself; `DataError` where its lists and objects would take a hundred times its room."""
    if text.count("[") + text.count("{") > Most.JSON_PARTS:
        raise DataError(f"{name} has more than {Most.JSON_PARTS:,} lists and objects in one piece; replace the file")
    return text


# --- Texts for people -----------------------------------------------------------------------------------------------

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""


def clean(text: str) -> str:
    r"""A text that paints nothing but itself: control, direction and invisible characters are spelled out.

    Line breaks, tabs and spaces of all widths stay.

    >>> clean("a\x1b[31m\u202egnp.exe\u200b"), clean("Fehlfärbung 50 %")
    ('a\\x1b[31m\\u202egnp.exe\\u200b', 'Fehlfärbung 50 %')
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in "\n\t" or unicodedata.category(c) == "Zs" else _spelled(c) for c in text
    )


def _spelled(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def cell(text: str) -> str:
    """A text for a cell of CSV: cleaned, and no formula to any spreadsheet.

    >>> cell("=HYPERLINK(A1)"), cell("-5"), cell("lung")
    ("'=HYPERLINK(A1)", "'-5", 'lung')
    """
    text = clean(text)
    return f"'{text}" if text.startswith(FORMULA) else text
