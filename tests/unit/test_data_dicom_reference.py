"""Made DICOM files as pydicom's own handlers show them, and written in every other way that means the same."""

import io
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dicom_files import dicom, pydicom, rewritten, saved, table, uid
from medr1.data.dicom import decode_dicom
from medr1.data.dicom_header import Table
from medr1.data.images import open_image
from medr1.types import ImageRef

Values = dict[str, Any]
RNG = np.random.default_rng(7)
DEPTHS: list[tuple[str, int]] = [("u1", 8), ("u2", 12), ("u2", 16), ("i2", 12), ("i2", 16), ("u4", 20), ("i1", 8)]


def values_of(kind: str, bits: int) -> np.ndarray:
    """Random stored values that reach both ends of the declared bits."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if kind[0] == "i" else (0, 2**bits - 1)
    stored = RNG.integers(low, high, (9, 14), endpoint=True)
    stored[0, :2] = low, high
    return stored.astype(kind)


def reference(data: bytes, **flat: Any) -> np.ndarray:
    """The picture by pydicom's handlers; `flat` are elements that the file holds somewhere else."""
    header = pydicom.dcmread(io.BytesIO(data))
    for keyword, value in flat.items():
        setattr(header, keyword, value)
    values = pydicom.pixels.apply_modality_lut(header.pixel_array.astype(int), header).astype(float)
    possible = np.array([-(2 ** (header.BitsStored - 1)), 2 ** (header.BitsStored - 1) - 1], float)
    if not header.PixelRepresentation:
        possible = np.array([0, 2**header.BitsStored - 1], float)
    if "RescaleSlope" in header:
        possible = possible * float(header.RescaleSlope) + float(header.RescaleIntercept)
    if "ModalityLUTSequence" in header:
        possible = np.array([0, 2 ** header.ModalityLUTSequence[0].LUTDescriptor[2] - 1], float)
    if "VOILUTSequence" in header:
        values = pydicom.pixels.apply_voi(values.astype(int), header).astype(float)
        low, high = 0.0, 2.0 ** header.VOILUTSequence[0].LUTDescriptor[2] - 1
    elif "WindowWidth" in header:
        values = pydicom.pixels.apply_windowing(values, header)
        low, high = possible  # a negative slope turns them round, and the window with them
        if low > high:
            values, low, high = low + high - values, high, low
    else:
        low, high = values.min(), values.max()
    shares = (values - low) / (high - low)
    return np.rint(255 * np.clip(1 - shares if header.PhotometricInterpretation == "MONOCHROME1" else shares, 0, 1))


def shown(data: bytes) -> np.ndarray:
    return np.asarray(decode_dicom(data, "x.dcm", max_pixels=10**6).image)


def same(data: bytes, expected: np.ndarray) -> None:
    """Equal within a grey level: a rounding apart where a value falls between two."""
    assert np.abs(shown(data).astype(int) - expected).max() <= 1
    assert np.mean(shown(data) != expected) < 0.2
    assert np.array_equal(np.asarray(open_image(ImageRef(data=data)))[..., 0], shown(data))


# --- The steps of display, by pydicom -------------------------------------------------------------------------------


def steps(kind: str, bits: int) -> dict[str, Values]:
    """What a header may say of values of a depth."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if kind[0] == "i" else (0, 2**bits - 1)
    span, centre = high - low, (low + high) / 2
    ramp = np.linspace(0, 65535, 200).astype(int)
    return {
        "nothing": {},
        "rescale": {"RescaleSlope": "0.5", "RescaleIntercept": "-1024"},
        "window": {"WindowCenter": centre + span / 10, "WindowWidth": span / 3},
        "windows": {"WindowCenter": [centre, 0], "WindowWidth": [span / 2, 1], "VOILUTFunction": "LINEAR_EXACT"},
        "sigmoid": {"WindowCenter": centre, "WindowWidth": span / 4, "VOILUTFunction": "SIGMOID"},
        "negative slope": {
            **{"RescaleSlope": "-1", "RescaleIntercept": f"{high}"},
            **{"WindowCenter": high - centre, "WindowWidth": span / 2, "VOILUTFunction": "LINEAR_EXACT"},
        },
        "voi table": {"VOILUTSequence": [table(low // 2 if low else 40, ramp, 16)]},
        "modality table": {"ModalityLUTSequence": [table(low // 2 if low else 40, ramp[::-1], 16)]},
    }


CASES = [
    (kind, bits, step, photometric)
    for (kind, bits), photometric in itertools.product(DEPTHS, ("MONOCHROME2", "MONOCHROME1"))
    for step in steps(kind, bits)
    if not ("table" in step and bits > 16)
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "bits", "step", "photometric"), CASES)
def test_steps_of_display_are_those_of_pydicom(kind: str, bits: int, step: str, photometric: str):
    elements = {"BitsStored": bits, "PhotometricInterpretation": photometric, **steps(kind, bits)[step]}
    data = dicom(values_of(kind, bits), **elements)
    same(data, reference(data))


def test_there_are_enough_of_them():
    assert len(CASES) >= 60


ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "no preamble": lambda data: data[132:],
    "DICM at once": lambda data: data[128:],
    "no meta": lambda data: without_meta(data),
    "implicit, no meta": lambda data: without_meta(encoded_as(data, uid.ImplicitVRLittleEndian)),
    "big-endian, no meta": lambda data: without_meta(encoded_as(data, uid.ExplicitVRBigEndian)),
    "implicit": lambda data: encoded_as(data, uid.ImplicitVRLittleEndian),
    "big-endian": lambda data: encoded_as(data, uid.ExplicitVRBigEndian),
    "deflated": lambda data: encoded_as(data, uid.DeflatedExplicitVRLittleEndian),
}


def encoded_as(data: bytes, syntax: Any) -> bytes:
    read = pydicom.dcmread(io.BytesIO(data))
    header = pydicom.Dataset(read)
    header.file_meta = read.file_meta
    if syntax == uid.ExplicitVRBigEndian:
        header.PixelData = read.pixel_array.astype(f">u{header.BitsAllocated // 8}").tobytes()
        for name in ("VOILUTSequence", "ModalityLUTSequence"):
            for item in header.get(name) or ():
                item.LUTData = np.frombuffer(item.LUTData, "<u2").astype(">u2").tobytes()
    header.file_meta.TransferSyntaxUID = syntax
    return saved(header)


def without_meta(data: bytes) -> bytes:
    header = pydicom.dcmread(io.BytesIO(data))
    end = io.BytesIO(data)
    pydicom.filereader.read_preamble(end, force=False)
    pydicom.filereader._read_file_meta_info(end)
    assert header.file_meta
    return data[end.tell() :]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("step", ["window", "voi table", "modality table"])
def test_the_encoding_of_a_file_changes_nothing(encoding: str, step: str):
    data = dicom(values_of("u2", 12), BitsStored=12, SpecificCharacterSet="ISO_IR 100", **steps("u2", 12)[step])
    other = ENCODINGS[encoding](data)
    assert other != data
    assert np.array_equal(shown(other), shown(data))


# --- Numbers and tables, whatever they were written with --------------------------------------------------------------


@pytest.mark.parametrize(
    ("vr", "value"),
    [
        ("FD", 40.0),
        ("FL", 40.0),
        ("IS", "40"),
        ("SS", 40),
        ("LO", "40"),
        ("SH", "40\\7"),
        ("UN", b"40"),
        ("OB", b"40\\7 "),
    ],
)
def test_numbers_are_read_whatever_they_were_written_with(vr: str, value: Any):
    data = dicom(values_of("i2", 12), BitsStored=12, WindowCenter="40", WindowWidth="700")
    assert np.array_equal(shown(rewritten(data, WindowCenter=(vr, value))), shown(data))
    data = dicom(
        values_of("i2", 12), BitsStored=12, RescaleSlope="40", RescaleIntercept="3", WindowCenter=9, WindowWidth=70
    )
    assert np.array_equal(shown(rewritten(data, RescaleSlope=(vr, value))), shown(data))


@pytest.mark.parametrize("vr", ["SS", "US", "DS", "UN"])
@pytest.mark.parametrize(
    ("kind", "bits", "padding"), [("i2", 16, -2000), ("i2", 12, -2000), ("u2", 16, 63536), ("u2", 12, 0)]
)
def test_padding_of_the_other_sign_is_padding(kind: str, bits: int, padding: int, vr: str):
    stored = RNG.integers(100, 1500, (9, 14)).astype(kind)
    tissue = stored[3:]
    stored[:3] = padding
    data = dicom(stored, BitsStored=bits)
    unsigned = padding % 2**16
    signed = unsigned - 2**16 if unsigned >= 2**15 else unsigned
    if vr == "UN":
        written = rewritten(data, PixelPaddingValue=("US", unsigned))
        short, unknown = b"\x28\x00\x20\x01US\x02\x00", b"\x28\x00\x20\x01UN\x00\x00\x02\x00\x00\x00"
        assert short in written
        picture = shown(written.replace(short, unknown))
    else:
        value = {"SS": signed, "US": unsigned, "DS": str(padding)}[vr]
        picture = shown(rewritten(data, PixelPaddingValue=(vr, value)))
    expected = np.rint((tissue.astype(float) - tissue.min()) * 255 / (int(tissue.max()) - int(tissue.min())))
    assert np.array_equal(picture[3:], expected)
    assert not np.array_equal(shown(data)[3:], expected)


def test_a_range_of_padding_may_cross_zero():
    stored = RNG.integers(100, 1500, (9, 14)).astype("i2")
    expected = shown(dicom(stored[1:]))
    stored[0] = np.arange(14) * 300 - 4000
    data = rewritten(dicom(stored), PixelPaddingValue=("US", 61536), PixelPaddingRangeLimit=("SS", 50))
    assert np.array_equal(shown(data)[1:], expected)


@pytest.mark.parametrize("sequence", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize("first_vr", ["SS", "US"])
def test_the_first_value_of_a_table_of_the_other_sign_is_meant(sequence: str, first_vr: str):
    stored = RNG.integers(-1100, 1300, (9, 14)).astype("i2")
    ramp = np.linspace(0, 65535, 2048).astype(int)
    expected = ramp[np.clip(stored.astype(int) + 1024, 0, 2047)]
    scaled = expected if sequence == "VOILUTSequence" else 65535 * (expected - expected.min()) / np.ptp(expected)
    data = dicom(stored, **{sequence: [table(-1024, ramp, 16, first_vr=first_vr)]})
    same(data, np.rint(scaled / 65535 * 255))


def test_rescaled_values_decide_the_sign_of_a_table():
    """The stored values are unsigned, what the table is for is not."""
    stored = RNG.integers(0, 4000, (9, 14)).astype("u2")
    ramp = np.linspace(0, 65535, 1024).astype(int)
    item = table(-1024, ramp, 16, first_vr="US")
    data = dicom(stored, BitsStored=12, RescaleSlope=1, RescaleIntercept=-1024, VOILUTSequence=[item])
    same(data, np.rint(ramp[np.clip(stored.astype(int), 0, 1023)] / 65535 * 255))
    high = table(40000, ramp, 16, first_vr="US")
    stored = RNG.integers(39000, 42000, (9, 14)).astype("u2")
    same(
        dicom(stored, VOILUTSequence=[high]), np.rint(ramp[np.clip(stored.astype(int) - 40000, 0, 1023)] / 65535 * 255)
    )


@pytest.mark.parametrize("vr", ["OW", "OB", "US"])
def test_tables_of_eight_bits_are_read_in_bytes_and_in_words(vr: str):
    stored = RNG.integers(0, 1100, (9, 14)).astype("u2")
    entries = np.linspace(255, 0, 1023).astype(int)
    data = dicom(stored, VOILUTSequence=[table(20, entries, 8, vr=vr, first_vr="US")])
    assert np.array_equal(shown(data), entries[np.clip(stored.astype(int) - 20, 0, 1022)])


@pytest.mark.parametrize(
    ("declared", "used", "white"), [(16, 12, 4095), (16, 14, 16383), (12, 12, 4095), (12, 11, 4095), (16, 16, 65535)]
)
def test_a_table_that_declares_its_container_is_as_deep_as_its_entries(declared: int, used: int, white: int):
    entries = np.linspace(0, 2**used - 1, 500).astype(int)
    stored = RNG.integers(0, 500, (9, 14)).astype("u2")
    same(dicom(stored, VOILUTSequence=[table(0, entries, declared)]), np.rint(entries[stored] / white * 255))


# --- Functional groups ------------------------------------------------------------------------------------------------


def grouped(where: str, **elements: Any) -> Values:
    """The elements in the functional groups of an enhanced file, shared or of its frame."""
    frame = pydicom.Dataset()
    for group, names in {
        "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "VOILUTFunction"),
        "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
        "UnassignedSharedConvertedAttributesSequence": ("PixelPaddingValue",),
    }.items():
        item = pydicom.Dataset()
        for name in names:
            if name in elements:
                setattr(item, name, elements[name])
        if len(item):
            setattr(frame, group, [item])
    return {f"{where}FunctionalGroupsSequence": [frame], "NumberOfFrames": 1}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("where", ["Shared", "PerFrame"])
@pytest.mark.parametrize(
    "elements", [steps("u2", 12)[name] for name in ("window", "rescale", "windows", "sigmoid", "negative slope")]
)
def test_functional_groups_are_those_of_the_frame(where: str, elements: Values):
    stored = values_of("u2", 12)
    flat = dicom(stored, BitsStored=12, **elements)
    enhanced = dicom(stored, BitsStored=12, **grouped(where, **elements))
    assert np.array_equal(shown(enhanced), shown(flat))
    same(enhanced, reference(enhanced, **elements))
    assert np.array_equal(shown(encoded_as(enhanced, uid.ImplicitVRLittleEndian)), shown(flat))


def test_a_frame_of_its_own_goes_before_what_is_shared_and_that_before_the_top():
    stored = values_of("u2", 12)
    right = {"WindowCenter": 900, "WindowWidth": 500}
    wrong = {"WindowCenter": 9, "WindowWidth": 5}
    flat = shown(dicom(stored, BitsStored=12, **right))
    own = {**grouped("Shared", **wrong), **grouped("PerFrame", **right)}
    assert np.array_equal(shown(dicom(stored, BitsStored=12, **wrong, **own)), flat)
    shared = grouped("Shared", **right)
    assert np.array_equal(shown(dicom(stored, BitsStored=12, **wrong, **shared)), flat)


def test_padding_of_a_converted_file_is_padding():
    stored = RNG.integers(100, 1500, (9, 14)).astype("i2")
    stored[:3] = -2000
    enhanced = dicom(stored, **grouped("Shared", PixelPaddingValue=-2000))
    assert np.array_equal(shown(enhanced), shown(dicom(stored, PixelPaddingValue=-2000)))
    assert not np.array_equal(shown(enhanced), shown(dicom(stored)))


# --- Colours, palettes, unused bits -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored_bits", "used", "shift"),
    [(8, 8, 0), (12, 12, 4), (12, 11, 4), (16, 12, 4), (16, 10, 2), (16, 8, 0), (16, 16, 8)],
)
def test_colours_keep_the_highest_bits_of_those_in_use(stored_bits: int, used: int, shift: int):
    colours = RNG.integers(0, 2**used, (6, 7, 3))
    colours[0, 0] = 2**used - 1
    data = dicom(colours.astype("u1" if stored_bits == 8 else "u2"), BitsStored=stored_bits)
    assert np.array_equal(shown(data), colours >> shift)


def test_planes_of_colours_are_put_together():
    colours = RNG.integers(0, 4096, (6, 7, 3)).astype("u2")
    colours[0, 0] = 4095
    header = pydicom.dcmread(io.BytesIO(dicom(colours)))
    header.PlanarConfiguration, header.PixelData = 1, np.moveaxis(colours, -1, 0).tobytes()
    assert np.array_equal(shown(saved(header)), colours >> 4)


def test_luminance_and_chrominance_become_colours():
    stored = RNG.integers(0, 256, (8, 8, 3)).astype("u1")
    data = dicom(stored, PhotometricInterpretation="YBR_FULL")
    expected = np.asarray(Image.fromarray(stored, "YCbCr").convert("RGB"), int)
    assert np.abs(shown(data).astype(int) - expected).max() <= 1


def palette(stored: np.ndarray, colours: np.ndarray, bits: int, dtype: str, first: int = 0) -> bytes:
    elements: Values = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, channel in zip(("Red", "Green", "Blue"), colours.T, strict=True):
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [len(channel) % 2**16, first, bits]
        packed = channel.astype(dtype).tobytes()
        elements[f"{name}PaletteColorLookupTableData"] = packed + b"\0" * (len(packed) % 2)
    return dicom(stored, **elements)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("bits", "dtype", "scale"), [(16, "<u2", 256), (16, "<u2", 257), (16, "<u2", 1), (8, "u1", 1), (8, "<u2", 1)]
)
@pytest.mark.parametrize("size", [200, 1000, 65536])
def test_palettes_are_looked_up_at_their_depth(bits: int, dtype: str, scale: int, size: int):
    colours = RNG.integers(0, 256, (size, 3))
    colours[0] = 255
    stored = RNG.integers(0, size, (9, 14)).astype("u2")
    assert np.array_equal(shown(palette(stored, colours * scale, bits, dtype)), colours[stored])


def test_a_dark_palette_stays_dark():
    colours = RNG.integers(0, 60, (256, 3))
    colours[0] = 60
    stored = RNG.integers(0, 256, (9, 14)).astype("u1")
    assert np.array_equal(shown(palette(stored, colours * 257, 16, "<u2")), colours[stored])


def test_overlays_in_unused_bits_are_no_values():
    stored = RNG.integers(0, 4096, (64, 64)).astype("u2")
    plain = dicom(stored, BitsStored=12)
    overlaid = stored | (RNG.integers(0, 16, stored.shape).astype("u2") << 12)
    assert np.array_equal(shown(dicom(overlaid, BitsStored=12)), shown(plain))
    pytest.importorskip("openjpeg")
    header = pydicom.dcmread(io.BytesIO(dicom(overlaid)))
    header.compress(uid.JPEG2000Lossless)
    header.BitsStored, header.HighBit = 12, 11
    assert np.array_equal(shown(saved(header)), shown(plain))


@pytest.mark.parametrize(
    ("written", "possible", "meant"),
    [
        (64512, (-32768, 32767), -1024),
        (-1024, (0, 65535), 64512),
        (50000, (-32768, 98302), -15536),  # both are possible: signed, since the inputs may be
        (40000, (-1024, 64511), 40000),  # the other one is not possible
        (64512, (-1024, 3071), -1024),
        (40000, (0, 4095), 40000),  # neither is possible: as the standard has it
    ],
)
def test_a_first_value_is_the_one_that_the_inputs_can_have(written: int, possible: tuple[int, int], meant: int):
    assert Table.of([2, written, 8], b"\0\1", possible, is_little_endian=True).first == meant
