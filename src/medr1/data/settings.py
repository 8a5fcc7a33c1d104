"""What the commands are asked for that make and describe data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import field_validator, model_validator

from medr1.errors import ConfigError
from medr1.settings import Positional, Repeated, RunSettings, Settings, Several
from medr1.types import LETTERS

if TYPE_CHECKING:
    from medr1.data.slices import SlicePlan
    from medr1.data.source import Choice

Plane = Literal["sagittal", "coronal", "axial"]
"""By the axis of the patient that its slices follow: to the left, to the back, to the head."""


class CorruptSettings(RunSettings):
    """Which pictures are corrupted, and how."""

    data: Positional[Path]
    """Samples: a folder that `medr1 data` wrote, or a parquet file."""
    out: Path
    """Folder for the PNGs, dataset.parquet, images.jsonl and sheet.png."""
    corruptions: Several[str] = ()
    """Names, comma-separated; by default all that are proper to each sample's modality."""
    severities: Several[Annotated[int, Ge(1), Le(5)]] = (1, 3, 5)
    """1 (mild) to 5 (severe), comma-separated."""
    limit: Annotated[int, Ge(1)] | None = None
    """Corrupt so many samples, drawn at random."""
    seed: int = 0
    """Seed of the drawn samples and of the corruptions."""
    processes: Annotated[int, Ge(1)] = 2
    """Processes that compute."""


class _QuestionsSettings(Settings):
    """How questions of any format are read."""

    source: str | None = None
    """Format of the data; detected by default."""
    image_root: Path | None = None
    """Folder that image paths are relative to; the data's own by default."""
    text_only: bool = False
    """Leave the image files alone."""


class AuditSettings(RunSettings, _QuestionsSettings):
    """Which two sets are compared."""

    train: Positional[Path]
    """Training questions: converted folder, or any source file or folder."""
    test: Positional[Path]
    """Test questions, in the same ways."""
    out: Path
    """Folder for audit.json and audit.html."""
    seed: int = 0
    """Seed of the learning curve and of the linear text model."""


class StatsSettings(_QuestionsSettings):
    """Which set is described."""

    path: Positional[Path]
    """Converted folder, or any source file or folder."""
    out: Path | None = None
    """Folder for stats.json and pictures.png, a wall of images; without it nothing is written."""
    seed: int = 0
    """Seed of the pictures on the wall."""
    overwrite: bool = False
    """Start anew where the folder holds a run."""


class CheckTableSettings(Settings):
    """Which published table is checked."""

    path: Positional[Path]
    """CSV or JSON: columns model, test, accuracy, n; or one row a model, one column a test, and a row n."""
    n: Annotated[int, Ge(1)] | None = None
    """Questions behind each figure where the table has no n."""


class StudySettings(Settings):
    """How the slices of a study are shown."""

    plane: Plane | None = None
    """Plane of the slices; by default that in which the study is stored."""
    window: str | None = None
    """lung, mediastinum, soft-tissue, liver, brain, stroke, bone, or CENTRE,WIDTH; by default what the files say."""
    volume: Annotated[int, Ge(1)] | None = None
    """Which of several volumes of a study (echoes, time points), from 1."""


class ConvertSettings(RunSettings, StudySettings):
    """Which records become a data set of ours."""

    path: Positional[Path]
    """File or folder in one of the formats of `medr1 data sources`."""
    source: str | None = None
    """Format; detected from the first record by default."""
    where: Repeated[str] = ()
    """FIELD=VALUE: only records with it; again for more values or fields."""
    column: Repeated[str] = ()
    """OURS=THEIRS: what the data call a field of the format, e.g. answer=label."""
    image_root: Path | None = None
    """Folder that image paths are relative to; the data's own by default."""
    limit: Annotated[int, Ge(1)] | None = None
    """Take this many questions, drawn at random under the seed."""
    seed: int = 0
    """Seed of the draw."""
    allow_missing_images: bool = False
    """Keep only the name of an image that is not there."""
    allow_text_only: bool = False
    """Keep questions without a picture, which are refused otherwise."""
    skip_bad: bool = False
    """Leave out records or images that cannot be used, count and name them."""
    slices: str | None = None
    """Images may be studies (a series or volume), shown by uniform/8, every/5-mm, around-mask/5 or montage/9."""

    @field_validator("where", "column")
    @classmethod
    def _pairs(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            name, _, value = text.partition("=")
            if not (name and value):
                raise ConfigError(f"{text!r} is not NAME=VALUE; write it as --where q_lang=en or --column answer=label")
        return texts

    @model_validator(mode="after")
    def _has_plan(self) -> "ConvertSettings":
        given = sorted(StudySettings.model_fields.keys() & self.changed)
        if given and self.slices is None:
            raise ConfigError(f"--{given[0]} is for studies; say which of their slices, as --slices uniform/8")
        assert self.plan is None or self.slices  # its names are checked as it is made
        return self

    @property
    def plan(self) -> "SlicePlan | None":
        """How studies become pictures; None where images are pictures."""
        if self.slices is None:
            return None
        from medr1.data.slices import SlicePlan

        return SlicePlan(slices=self.slices, **{name: getattr(self, name) for name in StudySettings.model_fields})

    @property
    def choice(self) -> "Choice":
        """Which records, and what their fields are called."""
        from medr1.data.source import Choice

        values: dict[str, list[str]] = {}
        for name, _, value in (text.partition("=") for text in self.where):
            values.setdefault(name, []).append(value)
        return Choice(
            where=values, columns={name: value for name, _, value in (text.partition("=") for text in self.column)}
        )


class DownloadSettings(RunSettings):
    """Which data set is fetched."""

    name: Positional[str]
    """A source of `medr1 data sources`, or OWNER/NAME of any data set."""
    out: Path
    """Folder to fetch into."""
    revision: str | None = None
    """Branch, tag or commit; the newest by default."""
    overwrite: bool = False
    """Fetch all anew, in place of everything in the folder."""


class ResizeSettings(RunSettings):
    """To which size pictures are brought."""

    path: Positional[Path]
    """Folder that `convert` wrote, or any other parquet folder of samples."""
    size: Annotated[int, Ge(1), Le(8192)] = 384
    """Pixels; Med-R1 trains on 384 × 384."""
    longest_side: bool = False
    """Keep the shape, and never enlarge: SIZE is for the longer side."""
    threads: Annotated[int, Ge(1)] | None = None
    """Threads that work; by default one a core."""


class SplitSettings(RunSettings):
    """How a data set is split."""

    data: Positional[Path]
    """Folder that `convert` wrote, or any other parquet folder of samples."""
    by: Literal["modality", "task", "source", "none"] = "none"
    """Cut train and test into one folder for each of these."""
    test_share: Annotated[float, Gt(0), Lt(1)] = 0.2
    """Share of the questions that go to test."""
    seed: int = 0
    """Seed of the order in which groups are assigned."""
    series_gap: int = 10
    """Largest step between the numbers of slices of one series."""
    series_max: int = 50
    """Most images of one series."""
    published: bool = False
    """Write the published split as it is."""


class HardenSettings(RunSettings):
    """Which questions are rebuilt, and how."""

    data: Positional[Path]
    """Folder that `convert` wrote, or any other parquet folder of samples."""
    train: Path | None = None
    """Training set to fit blind rules on: adds their scores and `controlled`."""
    options: Annotated[int, Ge(2), Le(len(LETTERS))] = 4
    """Most options of a question."""
    seed: int = 0
    """Seed of the blocks and of the order of their options."""


class PhantomSettings(RunSettings):
    """Which phantoms are drawn."""

    split: str
    """train, validation or test; test has a shifted range of nuisances."""
    count: Annotated[int, Ge(1)] = 1000
    """Number of images, one question each."""
    side: Annotated[int, Ge(28), Le(1024)] = 84
    """Side in pixels."""
    seed: int = 0
    """Seed of the pictures and questions."""
    processes: Annotated[int, Ge(1)] = 2
    """Processes that draw."""
    masks: bool = False
    """Write the lesion masks beside."""
    sheet: bool = False
    """Write a contact sheet to OUT.png."""
