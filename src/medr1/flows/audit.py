"""From data sets to files about them: the audit of a split, and the description of a set."""

from collections.abc import Callable

from medr1.data.audit import audit
from medr1.data.describe import describe, picture_wall
from medr1.data.questions import content_of, open_samples, read_questions
from medr1.data.settings import AuditSettings, StatsSettings
from medr1.records import read_record, write_json
from medr1.report.audit import audit_report
from medr1.report.html import write_report
from medr1.results.audited import Audited, Described
from medr1.runs import Run

Progress = Callable[[str, int], None]
"""Called with what is done and how many questions of it are."""
AUDIT, AUDIT_PAGE = "audit.json", "audit.html"
STATS, WALL = "stats.json", "pictures.png"


def run_audit(settings: AuditSettings, progress: Progress = lambda what, done: None) -> Audited:
    """Read both sets, compare them, write the files, and return what `audit.json` holds.

    Called again, it changes nothing; other data are refused unless `settings.overwrite`.
    """
    given = {"source": settings.source, "image_root": settings.image_root, "with_images": not settings.text_only}
    sets = {"train": settings.train, "test": settings.test}
    content = {
        f"{part}_{name}": value for part, path in sets.items() for name, value in content_of(path, **given).items()
    }
    with Run(
        settings.out,
        command="data audit",
        arguments=settings.dump(),
        identity={"with_images": not settings.text_only, **content},
        seed=settings.seed,
        owns=(AUDIT, AUDIT_PAGE),
        overwrite=settings.overwrite,
    ) as run:
        if run.done and run.has(AUDIT, AUDIT_PAGE):
            return read_record(settings.out / AUDIT, Audited)
        train, test = (
            read_questions(path, **given, progress=lambda done, part=part: progress(f"reading {part}", done))
            for part, path in sets.items()
        )
        progress("comparing", len(test.samples))
        result = audit(train, test, seed=settings.seed)
        with run.everything() as staged:
            write_json(staged / AUDIT, result)
            write_report(staged / AUDIT_PAGE, audit_report(result, run.made_by.written()))
        run.reach("done")
    return result


def run_stats(settings: StatsSettings, progress: Progress = lambda what, done: None) -> Described:
    """Describe a set, write the files, and return what `stats.json` holds; called again, it changes nothing."""
    given = {"source": settings.source, "image_root": settings.image_root, "with_images": not settings.text_only}

    def described() -> Described:
        return describe(read_questions(settings.path, **given, progress=lambda done: progress("reading", done)))

    if settings.out is None:
        return described()
    with Run(
        settings.out,
        command="data stats",
        arguments=settings.dump(),
        identity={"with_images": not settings.text_only, **content_of(settings.path, **given)},
        seed=settings.seed,
        owns=(STATS, WALL),
        overwrite=settings.overwrite,
    ) as run:
        if run.done and run.has(STATS):
            return read_record(settings.out / STATS, Described)
        result = described()
        shown = open_samples(settings.path, settings.source, settings.image_root)[0] if not settings.text_only else ()
        with run.everything() as staged:
            write_json(staged / STATS, result)
            if (wall := picture_wall(shown, settings.seed)) is not None:
                (staged / WALL).write_bytes(wall)
        run.reach("done")
    return result
