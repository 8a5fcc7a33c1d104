"""Plain rows: one field a fact. A table says what each format calls them, a few lines mend what is odd in it.

Your own data, and any Hugging Face data set under `--column`: `image` or `images` (a path, a list of them, or embedded
images; in CSV a JSON list), `question`, the options as one list or object in `options` (in CSV as JSON) or one a column
as `A`, `B`, … or `option_A`, `option_B`, …, and `answer`, the letter or the text of an option, or `answer_index`, its
place from 0. Without options the question is open: `answer` is a text, a number, yes or no, or a list of them.
Optional: `answer_type`, `modality`, `task`, `source` (or `dataset`), `group` (a patient or series: what must not be
split), `rationale`. Other columns are kept in `extra`.
"""

import ast
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medr1.data.formats.fields import Fields, option_columns
from medr1.data.options import absent
from medr1.data.record_files import CSV_SUFFIXES, JSON_SUFFIXES, ROW_SUFFIXES, TSV_SUFFIXES, Record
from medr1.data.source import Download, Source, text
from medr1.data.typed import base64_bytes, split_of, split_of_file
from medr1.errors import DataError
from medr1.types import LETTERS

# --- What is odd ----------------------------------------------------------------------------------------------------

LONGEST_INDEX = 64
"""A cell of at most so many characters is the index of another row (VLMEvalKit's own rule)."""


def _vlmevalkit(record: Record) -> Record:
    """Hint before the question; the images of a cell, which may be a list as Python or JSON writes it."""
    mended = dict(record)
    if not absent(record.get("hint")):
        mended["question"] = f"{record['hint']}\n{record['question']}"
    mended.pop("hint", None)
    if not absent(record.get("image")):
        pictures = [base64_bytes(_long(cell), "image") for cell in _cells(record, "image")]
        mended["image"] = [{"bytes": picture, "path": None} for picture in pictures]
    elif not absent(record.get("image_path")):
        mended["image_path"] = _cells(record, "image_path")
    return mended


def _cells(record: Record, name: str) -> list[str]:
    cell = text(record, name)
    try:
        cells = ast.literal_eval(cell) if cell.startswith("[") and cell.endswith("]") else [cell]
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # the last two: lists in lists in lists
        cells = []
    if not cells or not all(isinstance(value, str) for value in cells):
        raise DataError(f"{name} is neither one image nor a list of texts; write the table again")
    return cells


def _long(cell: str) -> str:
    if len(cell) <= LONGEST_INDEX:
        raise DataError(f"image {cell!r} stands for the picture of another row; write every row's picture into it")
    return cell


def _medxpertqa(record: Record) -> Record:
    """The question without its copy of the options."""
    asked = record.get("question")
    if isinstance(asked, str):
        record = {**record, "question": asked.partition("\nAnswer Choices: (A)")[0]}
    return {**record, "task": "Disease Diagnosis" if record.get("medical_task") == "Diagnosis" else "other"}


def _pmc_vqa(record: Record) -> Record:
    """Choices without their own letter, which most of them begin with (` A:Axial `)."""
    names = option_columns(tuple(record), ("Choice ",))
    bare = {name: _choice(record[name], name[-1]) for name in names if isinstance(record[name], str)}
    return {**record, **bare}


def _choice(choice: str, letter: str) -> str:
    return re.sub(rf"^\s*{letter}\s*[:.)]\s*", "", choice).strip()


def _vqa_rad_split(record: Record, file: Path) -> dict[str, str]:
    """By the phrase type in the authors' file, whose test questions are those of `test_…`; else by the file."""
    phrase = record.get("phrase_type")
    return (split_of(phrase) or {"split": "train"}) if isinstance(phrase, str) else split_of_file(file)


def _omnimedvqa_split(record: Record, file: Path) -> dict[str, str]:
    access = file.parent.name
    return {"access": access} if access.endswith("-access") else {}


# --- The formats ----------------------------------------------------------------------------------------------------


def _source(name: str, description: str, suffixes: Sequence[str], fields: Fields, **facts: Any) -> Source:
    kept = {"keeps_repeats": True, **facts}
    return Source(name, description, tuple(suffixes), sniff=fields.sniff, parse=fields.parse, **kept)


OMNIMEDVQA = _source(
    "omnimedvqa",
    "OmniMedVQA, QA_information/*/*.json: gt_answer, image_path, option_A … option_D, modality_type",
    (".json",),
    Fields(
        needs=frozenset({"gt_answer", "image_path", "question", "option_A"}),
        images=("image_path",),
        columns=("option_",),
        answer=("gt_answer",),
        says="text",
        source=("dataset",),
        # One record of `Chest CT Scan` says `modality`: Med-R1's split lost it for that.
        modality=("modality_type", "modality"),
        task=("question_type",),
        required=("dataset", "question_type"),
        split=_omnimedvqa_split,
    ),
    image_folders=("", "..", "../..", "OmniMedVQA"),
    download=Download(repo="foreverbeliever/OmniMedVQA", files=("*.zip", "*.md"), archives={"*.zip": ""}),
    note="the restricted data sets must be asked for at their owners; their questions are in the download",
)
VQA_RAD = _source(
    "vqa-rad",
    "VQA-RAD: the hub's rows (image, question, answer) or the authors' JSON file (image_name, image_organ)",
    (*ROW_SUFFIXES, ".json"),
    Fields(
        needs=frozenset({"image_name", "image_organ", "question", "answer", "phrase_type"}),
        images=("image_name", "image"),
        title="VQA-RAD",
        split=_vqa_rad_split,
    ),
    image_folders=("", "VQA_RAD Image Folder", "images"),
    download=Download(repo="flaviagiammarino/vqa-rad", files=("data/*.parquet", "*.md")),
    note="name the format (--source vqa-rad): the hub's rows look like any other's",
)
SLAKE = _source(
    "slake",
    "SLAKE: img_name, question, answer, q_lang, modality, answer_type, content_type",
    JSON_SUFFIXES,
    # A CLOSED question is not always yes or no, so the type follows from the answer.
    Fields(
        needs=frozenset({"img_name", "q_lang", "question", "answer"}),
        images=("img_name",),
        open_letters=True,
        title="SLAKE",
        modality=("modality",),
        required=("modality",),
    ),
    image_folders=("imgs", ""),
    download=Download(
        repo="BoKelvin/SLAKE",
        files=("train.json", "validation.json", "test.json", "imgs.zip"),
        archives={"imgs.zip": ""},
    ),
    note="choose a language with --where q_lang=en",
)
PATH_VQA = _source(
    "path-vqa",
    "PathVQA, the hub's rows: image, question, answer",
    ROW_SUFFIXES,
    Fields(needs=None, images=("image",), title="PathVQA", modality_is="Microscopy"),
    download=Download(repo="flaviagiammarino/path-vqa", files=("data/*.parquet", "*.md")),
    note="name the format (--source path-vqa): its rows look like any other's",
)
# Version 1 (`train.csv`, `test.csv`, `test_clean.csv`) has the answer's text in `Answer` and its letter in
# `Answer_label`, version 2 (`train_2.csv`, `test_2.csv`, figures in `images_2.zip`) its letter in `Answer`. The first
# uploads of version 1 spell it `Anwser`: `--column Answer=Anwser`.
PMC_VQA = _source(
    "pmc-vqa",
    "PMC-VQA, both versions of the CSV: Figure_path, Question, Choice A … Choice D, Answer",
    CSV_SUFFIXES,
    Fields(
        needs=frozenset({"Figure_path", "Question", "Answer", *(f"Choice {letter}" for letter in LETTERS[:4])}),
        images=("Figure_path",),
        question="Question",
        columns=("Choice ",),
        answer=("Answer_label", "Answer"),
        title="PMC-VQA",
        mend=_pmc_vqa,
    ),
    image_folders=("images", "figures", ""),
    download=Download(
        repo="RadGenome/PMC-VQA",
        files=("train.csv", "test.csv", "test_clean.csv", "train_2.csv", "test_2.csv", "images.zip", "images_2.zip"),
        archives={"images*.zip": "images"},
        flat=True,
    ),
    note="convert one file at a time: test_clean.csv is part of test.csv, and *_2.csv are version 2",
)
MEDXPERTQA = _source(
    "medxpertqa-mm",
    "MedXpertQA MM: options by letter, label, images, medical_task, body_system, question_type",
    JSON_SUFFIXES,
    Fields(
        needs=frozenset({"medical_task", "body_system", "options", "label", "images"}),
        images=("images",),
        options="options",
        answer=("label",),
        says="letter",
        title="MedXpertQA-MM",
        task=("task",),
        mend=_medxpertqa,
    ),
    image_folders=("images", "../images"),
    download=Download(
        repo="TsinghuaC3I/MedXpertQA", files=("MM/*.jsonl", "images.zip", "README.md"), archives={"images.zip": ""}
    ),
)
MEDVLTHINKER = _source(
    "medvlthinker",
    "MedVLThinker rows: images, question, options by letter, answer_label, dataset_name",
    (*ROW_SUFFIXES, *JSON_SUFFIXES),
    Fields(
        needs=frozenset({"question", "options", "answer_label", "dataset_name"}),
        images=("images", "image"),
        options="options",
        answer=("answer_label",),
        says="letter",
        same="answer",
        source=("dataset_name",),
        required=("dataset_name",),
        rationale=("reasoning",),
    ),
    download=Download(repo="UCSC-VLAA/MedVLThinker-Eval", files=("*.parquet", "**/*.parquet", "*.md")),
    note="its training rows: medr1 data download UCSC-VLAA/MedVLThinker-pmc_vqa",
)
# The four options are drawn in the image, so their texts are the letters alone. The English question is asked.
MM_IQ = _source(
    "mm-iq",
    "MM-IQ, the hub's rows: question_en, image with the options in it, answer, category, data_id",
    ROW_SUFFIXES,
    Fields(
        needs=frozenset({"question_en", "question_zh", "image", "answer", "data_id", "category"}),
        images=("image",),
        question="question_en",
        options="options",
        says="letter",
        title="MM-IQ",
        modality_is="other",
        task=("task",),
        mend=lambda record: {**record, "options": list(LETTERS[:4]), "task": "other"},
    ),
    download=Download(repo="huanqia/MM-IQ", files=("*.parquet", "*.md")),
    note="no medical data: what training on medical images does to reasoning about shapes",
)
HUB = (OMNIMEDVQA, VQA_RAD, SLAKE, PATH_VQA, PMC_VQA, MEDXPERTQA, MEDVLTHINKER, MM_IQ)
"""Data sets of the Hugging Face hub."""

VLMEVALKIT = _source(
    "vlmevalkit",
    "VLMEvalKit TSV: index, image (base64) or image_path, question, A, B, …, answer, category",
    TSV_SUFFIXES,
    Fields(
        needs=frozenset({"index", "question", "answer"}),
        images=("image", "image_path"),
        columns=("",),
        says="letter",
        mend=_vlmevalkit,
    ),
    note="the tables of VLMEvalKit lie under opencompass.openxlab.space/utils; save the one you mean",
)

_OWN = Fields(
    needs=frozenset({"question"}),
    options="options",
    columns=("", "option_"),
    place="answer_index",
    source=("source", "dataset"),
    modality=("modality",),
    task=("task",),
    rationale=("rationale",),
    group=("group",),
    answer_type=("answer_type",),
)
OWN = (
    _source(
        "jsonl",
        "your own JSON lines or JSON list: image, question, options, answer",
        JSON_SUFFIXES,
        _OWN,
        keeps_repeats=False,
        note="write it yourself: `pydoc medr1.data.formats.rows` lists the fields",
    ),
    _source(
        "csv",
        "your own CSV or TSV: image, question, options or A, B, …, answer",
        CSV_SUFFIXES + TSV_SUFFIXES,
        _OWN,
        keeps_repeats=False,
        note="write it yourself: `pydoc medr1.data.formats.rows` lists the columns",
    ),
    _source(
        "rows",
        "any Hugging Face data set: parquet files or a `save_to_disk` folder, with --column to map its names",
        ROW_SUFFIXES,
        _OWN,
        note="medr1 data download OWNER/NAME",
    ),
)
"""Your own data."""
