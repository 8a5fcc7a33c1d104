"""What the sources call the modalities and tasks, in the words of the record contract."""

import re

from medr1.types import Modality, Task

MODALITY_NAMES: dict[str, Modality] = {
    "ct": "CT",
    "ctcomputedtomography": "CT",
    "computedtomography": "CT",
    "mr": "MRI",
    "mri": "MRI",
    "mrmagneticresonanceimaging": "MRI",
    "magneticresonanceimaging": "MRI",
    "xray": "X-Ray",
    "us": "Ultrasound",
    "ultrasound": "Ultrasound",
    "der": "Dermoscopy",
    "dermo": "Dermoscopy",
    "dermoscopy": "Dermoscopy",
    "fp": "Fundus",
    "fundus": "Fundus",
    "fundusphotography": "Fundus",
    "oct": "OCT",
    "octopticalcoherencetomography": "OCT",
    "opticalcoherencetomography": "OCT",
    "micro": "Microscopy",
    "microscopy": "Microscopy",
    "microscopyimages": "Microscopy",
    "endoscopy": "other",
    "digitalphotography": "other",
    "infraredreflectanceimaging": "other",
    "other": "other",
}

TASK_NAMES: dict[str, Task] = {
    "anatomyidentification": "Anatomy Identification",
    "diseasediagnosis": "Disease Diagnosis",
    "lesiongrading": "Lesion Grading",
    "modalityrecognition": "Modality Recognition",
    "otherbiologicalattributes": "Other Biological Attributes",
    "other": "other",
}

_MODALITY_OF_DATASETS: dict[Modality, str] = {
    "CT": "Chest CT Scan, Covid CT, SARS-CoV-2 CT-scan",
    "X-Ray": "COVIDx CXR-4, Chest X-Ray PA, CoronaHack, Covid-19 tianchi, Covid19 heywhale, Knee Osteoarthritis, MIAS, "
    "Mura, Pulmonary Chest MC, Pulmonary Chest Shenzhen, RUS CHN",
    "Dermoscopy": "Fitzpatrick 17k, ISBI2016, ISIC2018, ISIC2019, ISIC2020, Monkeypox Skin Image 2022, PAD-UFES-20",
    "Fundus": "ACRIMA, Adam Challenge, DRIMDB, DeepDRiD, Diabetic Retinopathy, JSIEC, OLIVES, PALM2019, Yangxi",
    "OCT": "Retinal OCT-C8",
    "Microscopy": "ALL Challenge, BioMediTech, Blood Cell, BreakHis, CRC100k, HuSHeM, MAlig Lymph, MHSMA, "
    "NLM- Malaria Data",
}

DATASET_MODALITY: dict[str, Modality] = {
    dataset: modality for modality, datasets in _MODALITY_OF_DATASETS.items() for dataset in datasets.split(", ")
}
"""Modality of the OmniMedVQA data sets that have only one; RadImageNet and OCT & X-Ray 2017 have several."""


def modality_of(name: str) -> Modality:
    """Modality that a name stands for, whatever its case and punctuation; "unknown" when it stands for none.

    >>> modality_of("MR (Mag-netic Resonance Imaging)"), modality_of("OCT & X-Ray 2017")
    ('MRI', 'unknown')
    """
    return MODALITY_NAMES.get(_letters(name), "unknown")


def task_of(name: str) -> Task:
    """Task that a name stands for, whatever its case and punctuation; "unknown" when it stands for none."""
    return TASK_NAMES.get(_letters(name), "unknown")


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
