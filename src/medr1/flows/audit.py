"""The audit of a split from files to files: `audit.json` and a page to read."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medr1.data.audit import audit
from medr1.data.questions import read_questions
from medr1.records import manifest, write_json
from medr1.report.audit import audit_report
from medr1.report.html import write_report

Progress = Callable[[str, int], None]
"""Called with what is done and how many questions of it are."""


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


def run_audit(job: AuditJob, progress: Progress = lambda what, done: None) -> dict[str, Any]:
    """Read both sets, compare them, write the files, and return what `audit.json` holds."""
    train, test = (
        read_questions(
            path,
            source=job.source,
            image_root=job.image_root,
            with_images=job.with_images,
            progress=lambda done, name=name: progress(f"reading {name}", done),
        )
        for name, path in (("train", job.train), ("test", job.test))
    )
    progress("comparing", len(test.samples))
    result = audit(train, test, seed=job.seed)
    made_by = manifest({name: getattr(job, name) for name in job.__slots__}, job.seed)
    write_json(job.out / "audit.json", result)
    write_json(job.out / "manifest.json", made_by)
    write_report(job.out / "audit.html", audit_report(result, made_by))
    return result
