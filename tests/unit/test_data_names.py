import pytest

from medr1.data.names import DATASET_MODALITY, modality_of, task_of


@pytest.mark.parametrize(
    ("name", "modality"),
    [
        ("CT(Computed Tomography)", "CT"),
        ("MR (Mag-netic Resonance Imaging)", "MRI"),
        ("MR", "MRI"),
        ("X-Ray", "X-Ray"),
        ("ultrasound", "Ultrasound"),
        ("Dermoscopy", "Dermoscopy"),
        ("Fundus Photography", "Fundus"),
        ("OCT (Optical Coherence Tomography", "OCT"),
        ("Microscopy Images", "Microscopy"),
        ("OCT & X-Ray 2017", "unknown"),
        ("CT scan", "CT"),
        ("Chest X-ray", "X-Ray"),
        ("Radiograph", "X-Ray"),
        ("Mammography", "X-Ray"),
        ("T2-weighted MRI", "MRI"),
        ("Histopathology", "Microscopy"),
        ("H&E", "Microscopy"),
        ("Retinal OCT", "OCT"),
        ("Endoscopic ultrasound", "other"),
        ("PET/CT", "other"),
        ("胸部X光", "X-Ray"),
        ("US", "Ultrasound"),
        ("US patients", "unknown"),
        ("CT, MRI", "unknown"),
        ("Doctors", "unknown"),
        ("Modality Recognition", "unknown"),
        ("unknown", "unknown"),
        ("", "unknown"),
    ],
)
def test_modality_names(name: str, modality: str):
    assert modality_of(name) == modality


def test_task_names():
    assert task_of("Lesion Grading") == task_of("Lesion_Grading") == "Lesion Grading"
    assert task_of("MR") == task_of("") == "unknown"


def test_forty_data_sets_have_one_modality():
    assert len(DATASET_MODALITY) == 40
    assert DATASET_MODALITY["NLM- Malaria Data"] == "Microscopy"
    assert "RadImageNet" not in DATASET_MODALITY
