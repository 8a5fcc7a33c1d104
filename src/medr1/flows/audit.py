"""From data sets to files about them: the audit of a split, and the description of a set."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medr1.data.audit import audit
from medr1.data.describe import describe, picture_wall
from medr1.data.questions import content_of, open_samples, read_questions
from medr1.records import read_json, write_json
from medr1.report.audit import audit_report
from medr1.report.html import write_report
from medr1.runs import Run

Progress = Callable[[str, int], None]
"""Called with what is done and how many questions of it are."""
AUDIT, AUDIT_PAGE = "audit.json", "audit.html"
STATS, WALL = "stats.json", "pictures.png"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditJob:
    """What to compare, and where to write."""

    train: Path
    """Folder that `medr1 data` wrote, or a file or folder in any source format."""
    test: Path
    out: Path
    """Folder for `audit.json`, `audit.html` and `manifest.json`."""
    source: str | None = None
    """Format of both; None detects each."""
    image_root: Path | None = None
    """Folder that the image names of source files are relative to; None is the folder of the data."""
    with_images: bool = True
    """Hash the images that are there."""
    seed: int = 0
    overwrite: bool = False


def run_audit(job: AuditJob, progress: Progress = lambda what, done: None) -> dict[str, Any]:
    """Read both sets, compare them, write the files, and return what `audit.json` holds.

    Called again, it changes nothing; other data are refused unless `job.overwrite`.
    """
    given = {"source": job.source, "image_root": job.image_root, "with_images": job.with_images}
    sets = {"train": job.train, "test": job.test}
    content = {
        f"{part}_{name}": value for part, path in sets.items() for name, value in content_of(path, **given).items()
    }
    with Run(
        job.out,
        command="data audit",
        arguments={name: getattr(job, name) for name in job.__slots__ if name != "overwrite"},
        identity={"with_images": job.with_images, **content},
        seed=job.seed,
        owns=(AUDIT, AUDIT_PAGE),
        overwrite=job.overwrite,
    ) as run:
        if run.done and run.has(AUDIT, AUDIT_PAGE):
            return read_json(job.out / AUDIT)
        train, test = (
            read_questions(path, **given, progress=lambda done, part=part: progress(f"reading {part}", done))
            for part, path in sets.items()
        )
        progress("comparing", len(test.samples))
        result = audit(train, test, seed=job.seed)
        with run.everything() as staged:
            write_json(staged / AUDIT, result)
            write_report(staged / AUDIT_PAGE, audit_report(result, run.made_by))
        run.reach("done")
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsJob:
    """What to describe, and where to write."""

    path: Path
    """Folder that `medr1 data` wrote, or a file or folder in any source format."""
    out: Path | None = None
    """Folder for `stats.json` and `pictures.png`; None writes nothing."""
    source: str | None = None
    image_root: Path | None = None
    with_images: bool = True
    seed: int = 0
    """Of the pictures on the wall."""
    overwrite: bool = False


def run_stats(job: StatsJob, progress: Progress = lambda what, done: None) -> dict[str, Any]:
    """Describe a set, write the files, and return what `stats.json` holds; called again, it changes nothing."""
    given = {"source": job.source, "image_root": job.image_root, "with_images": job.with_images}

    def described() -> dict[str, Any]:
        return describe(read_questions(job.path, **given, progress=lambda done: progress("reading", done)))

    if job.out is None:
        return described()
    with Run(
        job.out,
        command="data stats",
        arguments={name: getattr(job, name) for name in job.__slots__ if name != "overwrite"},
        identity={"with_images": job.with_images, **content_of(job.path, **given)},
        seed=job.seed,
        owns=(STATS, WALL),
        overwrite=job.overwrite,
    ) as run:
        if run.done and run.has(STATS):
            return read_json(job.out / STATS)
        result = described()
        shown = open_samples(job.path, job.source, job.image_root)[0] if job.with_images else ()
        with run.everything() as staged:
            write_json(staged / STATS, result)
            if (wall := picture_wall(shown, job.seed)) is not None:
                (staged / WALL).write_bytes(wall)
        run.reach("done")
    return result
