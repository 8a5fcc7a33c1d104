import io
import logging
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dicom_files import STORED, dicom
from medr1.data.dicom import DISPLAY, OWNER, PIXELS, decode_dicom, window
from medr1.data.dicom_header import FRAME, PLACE
from medr1.data.images import BURNED_IN, embed_images, open_image
from medr1.data.source import choice_sample
from medr1.errors import DataError
from medr1.types import ImageRef

pydicom = pytest.importorskip("pydicom")
uid = pytest.importorskip("pydicom.uid")


def shown(data: bytes) -> np.ndarray:
    return np.asarray(decode_dicom(data, "x.dcm", max_pixels=10**6).image)


def test_without_a_window_the_values_are_stretched():
    low, high = int(STORED.min()), int(STORED.max())
    expected = np.rint((STORED - low) * (255.0 / (high - low)))
    assert np.array_equal(shown(dicom()), expected)
    assert not shown(dicom(np.full((4, 4), 9, np.uint16))).any()


def test_air_is_black_in_monochrome1_too():
    assert np.array_equal(shown(dicom(PhotometricInterpretation="MONOCHROME1")), 255 - shown(dicom()))


def test_padding_does_not_stretch():
    padded = STORED.astype(np.int16)
    padded[:8] = -2000
    data = dicom(padded, PixelPaddingValue=-2000)
    low, high = int(padded[8:].min()), int(padded[8:].max())
    assert np.array_equal(shown(data)[8:], np.rint((padded[8:] - low) * (255.0 / (high - low))))
    assert not shown(data)[:8].any()


def test_rescale_comes_before_the_first_window():
    hounsfield = np.array([[-1024, -160, 40, 240, 3000]], np.int16)
    data = dicom(
        (hounsfield + 1024).astype(np.uint16),
        RescaleSlope=1,
        RescaleIntercept=-1024,
        WindowCenter=[40, -600],
        WindowWidth=[400, 1500],
    )
    # PS3.3 C.11.2.1.2: ((x - 39.5) / 399 + 0.5) * 255 = 0 at -160 and 127.8 at 40; 240 is over the upper end
    assert shown(data).tolist() == [[0, 0, 128, 255, 255]]


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("centre", "width"), [(2048.0, 4096.0), (40.0, 400.0), (100.5, 2.0), (300.0, 1.0)])
def test_windows_are_those_of_pydicom(function: str, centre: float, width: float):
    header = pydicom.Dataset()
    header.PhotometricInterpretation, header.BitsStored, header.PixelRepresentation = "MONOCHROME2", 16, 0
    header.WindowCenter, header.WindowWidth, header.VOILUTFunction = centre, width, function
    reference = pydicom.pixels.apply_windowing(STORED, header) / 65535
    assert np.abs(window(STORED.astype(float), centre, width, function) - reference).max() < 1e-9


def test_a_table_of_voi_values_is_looked_up():
    table = pydicom.Dataset()
    table.LUTDescriptor = [4, 0, 16]
    table.LUTData = np.array([0, 65535, 32768, 16384], "<u2").tobytes()
    data = dicom(np.array([[0, 1, 2, 3, 9]], np.uint16), VOILUTSequence=[table], WindowCenter=1, WindowWidth=2)
    assert shown(data).tolist() == [[0, 255, 128, 64, 64]]


def test_colours_are_kept_and_palettes_looked_up():
    colours = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    assert np.array_equal(shown(dicom(colours)), colours)
    assert np.array_equal(shown(dicom(colours.astype(np.uint16) * 256 + 3)), colours)
    palette: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, values in {"Red": [1, 40], "Green": [2, 50], "Blue": [3, 60]}.items():
        palette[f"{name}PaletteColorLookupTableDescriptor"] = [2, 0, 16]
        palette[f"{name}PaletteColorLookupTableData"] = (np.array(values, "<u2") * 256).tobytes()
    assert shown(dicom(np.array([[0, 1]], np.uint8), **palette)).tolist() == [[[1, 2, 3], [40, 50, 60]]]


@pytest.mark.parametrize("syntax", ["RLELossless", "JPEG2000Lossless", "JPEGLSLossless"])
def test_compressed_pixels_are_the_plain_ones(syntax: str):
    pytest.importorskip({"JPEG2000Lossless": "openjpeg", "JPEGLSLossless": "jpeg_ls"}.get(syntax, "numpy"))
    assert np.array_equal(shown(dicom(syntax=getattr(uid, syntax))), shown(dicom()))


def test_baseline_jpeg_is_read_as_pillow_does():
    grey = Image.fromarray((STORED // 16).astype(np.uint8))
    buffer = io.BytesIO()
    grey.save(buffer, "JPEG")
    header = pydicom.dcmread(io.BytesIO(dicom(np.asarray(grey))))
    header.PixelData = pydicom.encaps.encapsulate([buffer.getvalue()])
    header["PixelData"].VR = "OB"
    header.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    header.WindowCenter, header.WindowWidth, header.VOILUTFunction = 127.5, 255, "LINEAR_EXACT"
    whole = io.BytesIO()
    header.save_as(whole)
    assert np.array_equal(shown(whole.getvalue()), np.asarray(Image.open(buffer)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"NumberOfFrames": 3}, "several frames"),
        ({"Rows": 20_000, "Columns": 20_000}, "million pixels"),
        ({"PhotometricInterpretation": "HSV"}, "colour model"),
        ({"Rows": 49}, "damaged or no installed decoder"),
        ({"Rows": None}, "header"),
        ({"BitsAllocated": 12, "BitsStored": 12, "HighBit": 11}, "damaged or no installed decoder"),
        ({"BitsAllocated": 12}, "lowest bits"),
        ({"RescaleSlope": "1e308", "RescaleIntercept": "1e308"}, "values that are not finite"),
    ],
)
def test_what_cannot_be_shown_is_one_clear_line(change: dict[str, Any], message: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = dicom(**change)
    with pytest.raises(DataError, match=message) as raised:
        decode_dicom(data, "x.dcm", max_pixels=10**8)
    assert "x.dcm" in str(raised.value)


def test_lossless_jpeg_has_no_decoder_and_says_how_to_unpack_it():
    header = pydicom.dcmread(io.BytesIO(dicom()))
    header.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
    header["PixelData"].VR = "OB"
    header.file_meta.TransferSyntaxUID = uid.JPEGLosslessSV1
    buffer = io.BytesIO()
    header.save_as(buffer)
    with pytest.raises(DataError, match="gdcmconv"):
        shown(buffer.getvalue())


@pytest.mark.parametrize("syntax", ["JPEG2000Lossless", "JPEGLSLossless"])
def test_decoders_that_fail_write_no_log(caplog: pytest.LogCaptureFixture, syntax: str):
    pytest.importorskip({"JPEG2000Lossless": "openjpeg", "JPEGLSLossless": "jpeg_ls"}[syntax])
    header = pydicom.dcmread(io.BytesIO(dicom()))
    header.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9" * 20])
    header["PixelData"].VR = "OB"
    header.file_meta.TransferSyntaxUID = getattr(uid, syntax)
    buffer = io.BytesIO()
    header.save_as(buffer)
    caplog.clear()
    with pytest.raises(DataError, match="damaged"):
        shown(buffer.getvalue())
    assert not caplog.records


def test_nothing_of_the_patient_is_logged_warned_or_said(caplog: pytest.LogCaptureFixture, tmp_path: Path):
    """The dates and numbers are wrong on purpose: pydicom quotes such values when it reads them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        good = dicom(WindowCenter=40, WindowWidth=400, SeriesInstanceUID="1.SECRET", PatientBirthDate="SECRET-99")
        bad = dicom(Rows=None, SeriesInstanceUID="1.SECRET", RescaleSlope="1", PatientBirthDate="SECRET-99")
    sample = choice_sample(source="s", image_names=["a.dcm"], question="?", options=["a", "b"], answer_index=0)
    caplog.clear()
    with warnings.catch_warnings(record=True) as warned, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        (tmp_path / "a.dcm").write_bytes(good)
        stored = embed_images(sample, tmp_path, owners={})
        (tmp_path / "a.dcm").write_bytes(bad)
        with pytest.raises(DataError) as raised:
            embed_images(sample, tmp_path)
    everything = f"{stored}{raised.value}{raised.value.__cause__}{[str(w.message) for w in warned]}{caplog.text}"
    for secret in ("SECRET", "Doe", "Hidden", "1.2.840.1'"):
        assert secret not in everything
    assert not caplog.records
    assert stored.images[0].path == "a.png"


def test_a_stored_picture_is_what_opening_shows(tmp_path: Path):
    (tmp_path / "a.dcm").write_bytes(dicom())
    sample = choice_sample(source="s", image_names=["a.dcm"], question="?", options=["a", "b"], answer_index=0)
    stored = embed_images(sample, tmp_path)
    opened = open_image(ImageRef(path=str(tmp_path / "a.dcm")))
    assert opened.mode == "RGB"
    assert np.array_equal(np.asarray(open_image(stored.images[0])), np.asarray(opened))
    assert BURNED_IN not in stored.extra


@pytest.mark.parametrize(("value", "warned"), [("YES", True), ("NO", False), (None, False)])
def test_burned_in_text_is_warned_of(tmp_path: Path, value: str | None, warned: bool):
    (tmp_path / "a.dcm").write_bytes(dicom(BurnedInAnnotation=value))
    sample = choice_sample(source="s", image_names=["a.dcm"], question="?", options=["a", "b"], answer_index=0)
    assert (BURNED_IN in embed_images(sample, tmp_path).extra) == warned


def test_images_of_one_patient_or_series_share_a_group(tmp_path: Path):
    files = {
        "1.dcm": {"PatientID": "P1", "SeriesInstanceUID": "1.1"},
        "2.dcm": {"PatientID": "P2", "SeriesInstanceUID": "1.2"},
        "3.dcm": {"PatientID": "P1", "SeriesInstanceUID": "1.3"},
        "4.dcm": {"PatientID": None, "SeriesInstanceUID": "1.4"},
        "5.dcm": {"PatientID": "", "SeriesInstanceUID": "1.4"},
        "6.dcm": {"PatientID": None, "SeriesInstanceUID": None},
    }
    owners: dict[bytes, str] = {}
    groups = []
    for name, elements in files.items():
        (tmp_path / name).write_bytes(dicom(**elements))
        sample = choice_sample(source="s", image_names=[name], question="?", options=["a", "b"], answer_index=0)
        groups.append(embed_images(sample, tmp_path, owners=owners).group)
        own = replace(sample, group="of the source")
        assert embed_images(own, tmp_path, owners=owners).group == "of the source"
    assert [groups.index(group) for group in groups] == [0, 1, 0, 3, 3, 5]


def test_the_documentation_lists_what_is_read_of_a_header() -> None:
    read = {*DISPLAY, *PIXELS, *OWNER, *FRAME, *PLACE, "Modality"}
    page = (Path(__file__).parents[2] / "docs" / "pictures.md").read_text()
    table = page[page.index("## What is kept of people") :]
    told = set(re.findall(r"`([A-Z]\w+)`", table)) - {"Green", "Blue"}
    colours = {name.replace("Red", colour) for name in told if name.startswith("Red") for colour in ("Green", "Blue")}
    assert told | colours == read
