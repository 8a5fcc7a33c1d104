"""Fetching published data sets from the Hugging Face hub: resumable, data only, nothing that is fetched is executed."""

import zipfile
import zlib
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from shutil import copyfileobj

from medr1.data import SOURCES
from medr1.data.source import Download
from medr1.doors import MIB, Most, resolve_inside
from medr1.errors import ConfigError, DataError
from medr1.runs import LOCK, MANIFEST, Run, publication

Progress = Callable[[int, int], None]
"""Called with the number of files unpacked and of all files in the archives."""

UNPACKED = ".unpacked"
"""End of the name of the empty file beside an archive that was unpacked whole."""


def download_of(name: str) -> Download:
    """Where the data set of a source, or `owner/name` on the hub, is fetched from; `ConfigError` when nowhere."""
    if name in SOURCES:
        found = SOURCES[name].download
        if found is None:
            raise ConfigError(f"{name} has no download: {SOURCES[name].note}")
        return found
    if name.count("/") != 1:
        known = ", ".join(name for name, source in SOURCES.items() if source.download)
        raise ConfigError(f"{name!r} is neither a data set on the hub (owner/name) nor one of {known}")
    return Download(repo=name)


def download(
    name: str,
    out: Path,
    *,
    revision: str | None = None,
    overwrite: bool = False,
    progress: Progress = lambda done, total: None,
) -> list[Path]:
    """Fetch a data set into `out`, unpack its archives there, and return the archives.

    `name` is a source of `SOURCES` or `owner/name`. Called again it fetches and unpacks only what is missing, so a
    broken connection costs nothing; when all is there, it asks the hub nothing. `overwrite` fetches all anew, in place
    of everything in `out`. `DataError` when the hub does not answer or refuses, and for an archive that is damaged or
    whose names lead out of `out`.
    """
    wanted = download_of(name)
    asked = {"repository": wanted.repo, "revision": revision}
    with Run(
        out,
        command="data download",
        arguments={"name": name, "out": out, "revision": revision},
        identity={**asked, "files": sorted(wanted.files)},
        seed=None,
        owns=("*",),
        overwrite=overwrite,
    ) as run:
        if not run.done:
            run.start()
            try:
                _fetch(wanted, out, revision)
            except DataError:  # such as a misspelt name, after which another one may be tried
                if not _has_begun(out):
                    run.discard()
                raise
            _unpack_missing(wanted, out, progress)
            run.reach("done")
    return _archives(wanted, out)


def _has_begun(out: Path) -> bool:
    """Whether a file, or a part of one, was fetched."""
    found = (path for path in out.rglob("*") if path.is_file() and path.name not in (MANIFEST, LOCK))
    return any(path.suffix == ".incomplete" or ".cache" not in path.relative_to(out).parts for path in found)


def _archives(wanted: Download, out: Path) -> list[Path]:
    return sorted(file for file in out.rglob("*.zip") if _folder_of(wanted, file) is not None)


def _unpack_missing(wanted: Download, out: Path, progress: Progress) -> None:
    archives = _archives(wanted, out)
    todo = [archive for archive in archives if not _mark(archive).exists()]
    total = sum(len(_members(archive)) for archive in todo)
    done = 0
    for archive in todo:
        folder = out / (_folder_of(wanted, archive) or "")
        for _ in unpack(archive, folder, flat=wanted.flat):
            done += 1
            progress(done, total)
        with publication("file", _mark(archive)):
            _mark(archive).touch()


def _fetch(wanted: Download, out: Path, revision: str | None) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        snapshot_download(
            repo_id=wanted.repo,
            repo_type="dataset",
            revision=revision,
            local_dir=out,
            allow_patterns=list(wanted.files) or None,
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise DataError(
            f"{wanted.repo} could not be fetched from the Hugging Face hub ({reason}); check the name and the "
            "connection, log in with `hf auth login` where the data set asks for it, and run the command again"
        ) from error


def _folder_of(wanted: Download, archive: Path) -> str | None:
    return next((folder for pattern, folder in wanted.archives.items() if fnmatch(archive.name, pattern)), None)


def _mark(archive: Path) -> Path:
    return archive.with_name(archive.name + UNPACKED)


def _members(archive: Path) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(archive) as opened:
            return [member for member in opened.infolist() if _is_wanted(member)]
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{archive} is not a zip file ({error}); delete it and run the download again") from error


def _is_wanted(member: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(member.filename).parts
    return not member.is_dir() and "__MACOSX" not in parts and not parts[-1].startswith(".")


def unpack(archive: Path, folder: Path, *, flat: bool = False) -> Iterator[Path]:
    """Write the files of a zip under `folder`, one at a time; those that are there in full are skipped.

    `flat` leaves out the folders inside the archive. `DataError` for a damaged archive, for a member that is no plain
    file and for a name that leads out of `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    members = _members(archive)
    size, most = sum(m.file_size for m in members), Most.ZIP_TIMES * archive.stat().st_size
    if size > max(most, Most.GZIP_FREE_BYTES):
        raise DataError(
            f"{archive} unpacks to {size // MIB:,} MiB, more than {Most.ZIP_TIMES} times itself; unpack it by hand"
        )
    for member in members:
        name = PurePosixPath(member.filename).name if flat else member.filename
        if member.external_attr >> 16 & 0o170000 not in (0, 0o100000):
            raise DataError(f"{archive} has {member.filename!r}, which is a link or device; unpack it by hand")
        target = resolve_inside(folder, name)
        if not (target.is_file() and target.stat().st_size == member.file_size):
            _write(archive, member, target)
        yield target


def _write(archive: Path, member: zipfile.ZipInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.part")
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(member) as packed, aside.open("wb") as file:
            copyfileobj(packed, file)
        with publication("file", target):
            aside.replace(target)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        raise DataError(
            f"{archive}: {member.filename!r} cannot be unpacked ({error}); fetch the archive again"
        ) from error
    finally:
        aside.unlink(missing_ok=True)
