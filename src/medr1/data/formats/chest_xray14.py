"""NIH ChestX-ray14 (arXiv:1705.02315): 112,120 frontal chest films of 30,805 patients with up to 14 findings each.

A row of `Data_Entry_2017.csv` is `Image Index, Finding Labels, Follow-up #, Patient ID, Patient Age, Patient Gender,
View Position, OriginalImage[Width, Height], OriginalImagePixelSpacing[x, y]` and, in the first edition, an empty
column; the commas in the brackets are unquoted, so the header splits there and still has one name a cell. `Finding
Labels` is `Cardiomegaly|Emphysema`, or `No Finding` alone. Every film becomes one question with several answers; films
of one patient share a group. The official split is told by `train_val_list.txt` and `test_list.txt`, one name a line,
where they lie beside the table.
"""

from collections.abc import Iterator
from pathlib import Path

from medr1.data.record_files import CSV_SUFFIXES, Record, read_records
from medr1.data.source import Source, text
from medr1.data.typed import image_refs, other_fields, typed_sample
from medr1.errors import DataError
from medr1.types import Sample

FINDINGS = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia"),
    *("Infiltration", "Mass", "Nodule", "Pleural Thickening", "Pneumonia", "Pneumothorax"),
)
NO_FINDING = "No Finding"
QUESTION = f"Which of these findings does the chest X-ray show: {', '.join(FINDINGS)}, or {NO_FINDING}?"

SPLIT_LISTS = {"train_val_list.txt": "train", "test_list.txt": "test"}


def _records(file: Path) -> Iterator[Record]:
    split_of = {
        name: split
        for list_name, split in SPLIT_LISTS.items()
        if (file.parent / list_name).is_file()
        for name in _names(file.parent / list_name)
    }
    for record in read_records(file):
        split = split_of.get(record.get("Image Index", ""))
        yield {**record, "split": split} if split else record


def _names(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} is no list of image names ({error}); fetch it again, or take it away") from error


def _sniff(record: Record) -> bool:
    return {"Image Index", "Finding Labels", "Patient ID"} <= record.keys()


def _parse(record: Record, file: Path) -> Sample:
    del file  # its name tells nothing
    findings = [label.strip().replace("_", " ") for label in text(record, "Finding Labels").split("|")]
    unknown = [label for label in findings if label not in FINDINGS]
    if unknown and findings != [NO_FINDING]:
        raise DataError(
            f"the finding {unknown[0][:80]!r} is none of {', '.join(FINDINGS)}, nor {NO_FINDING!r} alone; correct it"
        )
    return typed_sample(
        source="ChestX-ray14",
        images=image_refs(record, "Image Index"),
        question=QUESTION,
        answers=findings,
        answer_type="multi",
        modality="X-Ray",
        task="Disease Diagnosis",
        group=text(record, "Patient ID"),
        extra=other_fields(record, {"Image Index", "Finding Labels", "Patient ID"}),
    )


SOURCE = Source(
    name="chest-xray14",
    description="NIH ChestX-ray14, Data_Entry_2017.csv: Image Index, Finding Labels (several, by |), Patient ID",
    suffixes=CSV_SUFFIXES,
    sniff=_sniff,
    parse=_parse,
    records=_records,
    keeps_repeats=True,
    image_folders=("images", ""),
    note="nihcc.app.box.com/v/ChestXray-NIHCC; unpack all image archives into images/ beside the table",
)
