"""Files that were made to do harm. Each case writes its files into `data` and returns what a user would call on them.

What must not be read lies beside that folder: `secret.png`, a picture like any other.
"""

import base64
import gzip
import io
import json
import os
import shutil
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

import dicom_files
import medr1
from medr1.data import read_source
from medr1.data.convert import convert
from medr1.data.download import unpack
from medr1.data.images import open_image
from medr1.data.settings import ConvertSettings
from medr1.records import read_samples, write_samples
from medr1.types import ImageRef, Sample

Call = Callable[[], object]
CASES: dict[str, Callable[[Path], Call]] = {}
TAKEN = {"a large picture of 16-bit grey"}
"""Cases that are no attack, only large: they are read within the same limits."""
MIB = 2**20


def case(name: str) -> Callable[[Callable[[Path], Call]], Callable[[Path], Call]]:
    def add(make: Callable[[Path], Call]) -> Callable[[Path], Call]:
        assert name not in CASES
        CASES[name] = make
        return make

    return add


# ruff: noqa: E501

# --- Names ----------------------------------------------------------------------------------------------------------


def _referenced(data: Path, name: str) -> Call:
    write_samples(data, [Sample(id="1", images=(ImageRef(path=name),), question="?")], embed_images=False)

    def ask() -> None:
        for sample in read_samples(data):
            open_image(sample.images[0])

    return ask


def _converted(data: Path, name: str) -> Call:
    record = {"image": name, "question": "?", "options": ["a", "b"], "answer": "A"}
    (data / "q.jsonl").write_text(json.dumps(record))
    return lambda: convert(ConvertSettings(path=data, out=data.parent / "out"))


def _placed(data: Path, kind: str) -> str:
    """Put something that is no picture into the folder; its name."""
    path = data / "x.png"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            os.chdir(data)  # such a name is short
            server.bind(path.name)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"device": "/dev/zero", "loop": "x.png", "link": "../secret.png"}[kind])
    return path.name


NAMES = {
    "an absolute path": "{secret}",
    "a path upwards": "../secret.png",
    "a path down and upwards": "a/../../secret.png",
    "a device": "/dev/zero",
    "a file of the system": "/proc/self/environ",
    "an address": "http://127.0.0.1:9/x.png",
    "an address of a file": "file://{secret}",
    "a name without end": "x" * 5000,
    "a path without end": "a/" * 2000 + "x.png",
    "a name with a zero": "x\0.png",
    "no name": "",
}
for what, how in (("parquet", _referenced), ("convert", _converted)):
    for label, written in NAMES.items():
        CASES[f"{what} names {label}"] = lambda data, how=how, written=written: how(
            data, written.replace("{secret}", str(data.parent / "secret.png"))
        )
    for label in ("pipe", "socket", "folder", "device", "loop", "link"):

        def place(data: Path, how: Callable[[Path, str], Call] = how, label: str = label) -> Call:
            if how is _referenced:
                ask = how(data, "x.png")
                _placed(data, label)
                return ask
            return how(data, _placed(data, label))

        CASES[f"{what} names a {label} in the folder"] = place


@case("a folder that is a link")
def _folder_link(data: Path) -> Call:
    ask = _referenced(data, "in/secret.png")
    (data / "in").symlink_to(data.parent)
    return ask


@case("questions behind a link")
def _question_link(data: Path) -> Call:
    (data.parent / "q.jsonl").write_text('{"question": "?", "options": ["a", "b"], "answer": "A"}')
    (data / "q.jsonl").symlink_to("../q.jsonl")
    return lambda: list(read_source(data))


@case("a shard behind a link")
def _shard_link(data: Path) -> Call:
    write_samples(data.parent / "other", [Sample(id="1", images=(), question="?")])
    (data / "a.parquet").symlink_to("../other/data-00000.parquet")
    return lambda: list(read_samples(data))


def _saved(data: Path, name: str) -> Call:
    (data / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    return lambda: list(read_samples(data))


CASES["a saved data set that names files above it"] = lambda data: _saved(data, "../secret.png")
CASES["a saved data set that names a device"] = lambda data: _saved(data, "/dev/zero")

# --- Pictures -------------------------------------------------------------------------------------------------------


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png(width: int, height: int, bits: int, colour: int, *chunks: bytes, fill: bool = False) -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    pixels = b""
    if fill:
        row = 1 + width * bits * {0: 1, 2: 3, 4: 2, 6: 4}[colour] // 8
        packer = zlib.compressobj(1)
        pixels = b"".join(packer.compress(bytes(row)) for _ in range(height)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _zeros(number: int, *, raw: bool = False) -> bytes:
    """Packed zeros: one block of them again and again, with a wrong check sum at the end of it all."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = packer.compress(bytes(MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    return (b"" if raw else b"\x78\xda") + block * (number // MIB) + packer.flush()


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _tiff(entries: dict[int, tuple[int, int, int]]) -> bytes:
    """A TIFF of one folder: tag → type, count, value."""
    body = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(entries.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4)


def _grey_tiff(width: int, height: int, **more: tuple[int, int, int]) -> bytes:
    entries = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 277: (3, 1, 1)}
    return _tiff(
        {**entries, 273: (4, 1, 8), 278: (4, 1, height), 279: (4, 1, 64)} | {int(k[1:]): v for k, v in more.items()}
    )


def _jpeg(width: int, height: int) -> bytes:
    data = bytearray(_encoded(Image.new("L", (8, 8)), "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def _pages(kind: str, number: int) -> bytes:
    frames = [Image.new("L", (8, 8), n % 256) for n in range(number)]
    return _encoded(frames[0], kind, save_all=True, append_images=frames[1:])


PICTURES: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "a PNG of 2³¹ × 2³¹": lambda: _png(2**31 - 1, 2**31 - 1, 8, 2),
    "a PNG of 60,000 × 60,000": lambda: _png(60_000, 60_000, 1, 0, _chunk(b"IDAT", _zeros(64 * MIB))),
    "a PNG with a text that unpacks to 1 GiB": lambda: _png(8, 8, 8, 0, _chunk(b"zTXt", b"a\0\0" + _zeros(1024 * MIB))),
    "a PNG with an international text of 1 GiB": lambda: _png(
        8, 8, 8, 0, _chunk(b"iTXt", b"a\0\1\0\0\0" + _zeros(1024 * MIB))
    ),
    "a PNG with a profile of 1 GiB": lambda: _png(8, 8, 8, 0, _chunk(b"iCCP", b"a\0\0" + _zeros(1024 * MIB))),
    "a PNG of 36 million deep colours": lambda: _png(6000, 6000, 16, 2, fill=True),
    "a PNG of 36 million transparent pixels": lambda: _png(6000, 6000, 8, 6, fill=True),
    "a TIFF of 2³¹ pixels a side": lambda: _grey_tiff(2**31, 2**31),
    "a TIFF with tiles of 2³⁰ pixels": lambda: _grey_tiff(
        64, 64, t322=(4, 1, 2**15), t323=(4, 1, 2**15), t324=(4, 1, 8), t325=(4, 1, 64), t259=(3, 1, 8)
    ),
    "a TIFF with a tag of 4 GiB": lambda: _grey_tiff(64, 64, t270=(2, 2**32 - 1, 8)),
    "a TIFF of 500 pages": lambda: _pages("TIFF", 500),
    "a TIFF whose pages go round": lambda: _grey_tiff(64, 64)[:-4] + struct.pack("<I", 8),
    "a JPEG of 65,500 × 65,500": lambda: _jpeg(65_500, 65_500),
    "a GIF of 2,000 frames": lambda: _pages("GIF", 2000),
    "a GIF of 65,535 × 65,535": lambda: b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b"," + struct.pack(
        "<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x00;",
    "a BMP of 2³⁰ × 2": lambda: b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 2**30, 2, 1, 24, 0, 0, 0, 0, 0, 0),
    "a WebP of 16,383 × 16,383": lambda: b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8L" + struct.pack("<I", 10) + b"\x2f"
    + struct.pack("<I", 16382 | 16382 << 14) + bytes(5),
    "a large picture of 16-bit grey": lambda: _png(8000, 8000, 16, 0, fill=True),
}  # fmt: skip


def _dicom(**elements: Any) -> bytes:

    return dicom_files.dicom(**elements)


def _deflated(number: int) -> bytes:
    """A DICOM file whose data set is zeros behind its header."""

    header = dicom_files.pydicom.dcmread(io.BytesIO(_dicom()))
    header.file_meta.TransferSyntaxUID = dicom_files.uid.DeflatedExplicitVRLittleEndian
    start = dicom_files.saved(header)
    length = struct.unpack_from("<I", start, 140)[0]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    element = packer.compress(b"\xe0\x7f\x10\x00OW\0\0" + struct.pack("<I", number)) + packer.flush(zlib.Z_FULL_FLUSH)
    return start[: 144 + length] + element + _zeros(number, raw=True)


def _nested_dicom(depth: int) -> bytes:
    whole = _dicom()
    at = whole.index(b"\xe0\x7f\x10\x00")
    item = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    return whole[:at] + item * depth + whole[at:]


PICTURES |= {
    "a DICOM that unpacks to 2 GiB": lambda: _deflated(2048 * MIB),
    "a DICOM of 10⁹ frames": lambda: _dicom(NumberOfFrames=10**9),
    "a DICOM of 65,535 × 65,535": lambda: _dicom(Rows=65535, Columns=65535),
    "a DICOM of 36 million coloured pixels": lambda: _dicom(
        Rows=6000, Columns=6000, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0,
        BitsAllocated=8, BitsStored=8, HighBit=7,
    ),
    "a DICOM cut inside its pixels": lambda: _dicom()[:-1000],
    "a DICOM of 5,000 sequences in one another": lambda: _nested_dicom(5000),
}  # fmt: skip


def _picture(make: Callable[[], bytes]) -> Callable[[Path], Call]:
    def write(data: Path) -> Call:
        (data / "x.png").write_bytes(make())
        return lambda: open_image(ImageRef(path=str(data / "x.png")))

    return write


CASES |= {name: _picture(make) for name, make in PICTURES.items()}


@case("a file of 600 MiB")
def _sparse(data: Path) -> Call:
    with (data / "x.png").open("wb") as file:
        file.truncate(600 * MIB)
    return lambda: open_image(ImageRef(path=str(data / "x.png")))


# --- Records --------------------------------------------------------------------------------------------------------

PICTURE_TYPE = pa.list_(pa.struct({"bytes": pa.binary(), "path": pa.string()}))


def _parquet(data: Path, rows: list[list[bytes]], **options: Any) -> Call:
    pictures = pa.array([[{"bytes": one, "path": None} for one in row] for row in rows], PICTURE_TYPE)
    table = pa.table({"id": [str(n) for n in range(len(rows))], "question": ["?"] * len(rows), "images": pictures})
    pq.write_table(table, data / "a.parquet", compression="zstd", **options)
    return lambda: [open_image(sample.images[0]) for sample in read_samples(data)]


CASES["a parquet of zeros"] = lambda data: _parquet(data, [[bytes(48 * MIB)]] * 16, use_dictionary=False)
CASES["a parquet whose rows mean one picture"] = lambda data: _parquet(data, [[bytes(24 * MIB)]] * 32)
CASES["a parquet of which one row means a picture many times"] = lambda data: _parquet(data, [[bytes(24 * MIB)] * 20])


@case("a parquet of 10⁹ empty rows")
def _empty_rows(data: Path) -> Call:
    schema = pa.schema([("id", pa.null()), ("question", pa.null()), ("images", pa.null())])
    with pq.ParquetWriter(data / "a.parquet", schema) as writer:
        batch = pa.table({name: pa.nulls(10_000_000) for name in schema.names})
        for _ in range(11):
            writer.write_table(batch, row_group_size=10_000_000)
    return lambda: list(read_samples(data))


@case("an Arrow stream with false lengths")
def _false_lengths(data: Path) -> Call:
    table = pa.table({"id": ["abcdefgh"], "question": ["?"], "images": pa.array([[]], PICTURE_TYPE)})
    with pa.OSFile(str(data / "a.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    whole = (data / "a.arrow").read_bytes()
    at = whole.rindex(struct.pack("<ii", 0, 8))
    (data / "a.arrow").write_bytes(whole[:at] + struct.pack("<ii", 0, 2**30) + whole[at + 8 :])
    return _saved(data, "a.arrow")


def _packed(data: Path, name: str, first: bytes, filler: bytes, number: int) -> Call:
    (data / name).write_bytes(gzip.compress(first) + gzip.compress(filler) * number)
    return lambda: list(read_source(data / name))


CASES["packed lines of nothing"] = lambda data: _packed(data, "q.jsonl.gz", b"", b"\n" * MIB, 1500)
CASES["a packed JSON list of blanks"] = lambda data: _packed(data, "q.json.gz", b"[", b" " * MIB, 1500)
CASES["a packed cell without end"] = lambda data: _packed(data, "q.csv.gz", b'question,A,B\n"', b"a" * MIB, 1000)


def _text(data: Path, name: str, text: str) -> Call:
    (data / name).write_text(text)
    return lambda: list(read_source(data / name))


RECORD = '{"question": "?", "options": ["a", "b"], "answer": "A", "image": '
CASES |= {
    "JSON of a million lists in one another": lambda data: _text(data, "q.jsonl", RECORD + "[" * 10**6),
    "a JSON list of a million lists in one another": lambda data: _text(data, "q.json", "[" + RECORD + "[" * 10**6),
    "JSON of 20 million empty lists": lambda data: _text(data, "q.jsonl", RECORD + "[" + "[]," * 20_000_000 + "[]]}"),
    "a JSON list of 20 million empty lists": lambda data: _text(
        data, "q.json", "[" + RECORD + "[" + "[]," * 20_000_000 + "[]]}]"
    ),
    "a number of a million digits": lambda data: _text(data, "q.jsonl", RECORD + "1" * 10**6 + "}"),
    "a quote that never closes": lambda data: _text(data, "q.csv", 'image,question,A,B,answer\nx,"' + "a\n" * 60 * MIB),
    "lists in lists in a cell": lambda data: _text(
        data, "q.tsv", "index\timage\tquestion\tA\tB\tanswer\n1\t" + "[" * 5000 + "]" * 5000 + "\t?\ta\tb\tA\n"
    ),
    "base64 that is none": lambda data: _text(
        data, "q.tsv", "index\timage\tquestion\tA\tB\tanswer\n1\t" + "=A" * 500 + "\t?\ta\tb\tA\n"
    ),
}


@case("base64 of a picture that unpacks")
def _base64(data: Path) -> Call:
    bomb = base64.b64encode(_png(60_000, 60_000, 1, 0, _chunk(b"IDAT", _zeros(32 * MIB)))).decode()
    (data / "q.tsv").write_text(f"index\timage\tquestion\tA\tB\tanswer\n1\t{bomb}\t?\ta\tb\tA\n")
    return lambda: convert(ConvertSettings(path=data / "q.tsv", out=data.parent / "out"))


def _zip(data: Path, name: str, kind: int = 0o100644, size: int = 1) -> Call:
    with zipfile.ZipFile(data / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr, info.compress_type = kind << 16, zipfile.ZIP_DEFLATED
        with archive.open(info, "w", force_zip64=True) as member:
            for _ in range(size):
                member.write(bytes(MIB))
    return lambda: list(unpack(data / "a.zip", data / "out"))


CASES |= {
    "an archive that writes above its folder": lambda data: _zip(data, "../x.png"),
    "an archive that writes anywhere": lambda data: _zip(data, "/tmp/x.png"),
    "an archive with a link": lambda data: _zip(data, "x", kind=0o120777),
    "an archive that unpacks to 1 GiB": lambda data: _zip(data, "x", size=1024),
}

# --- Checkpoints ----------------------------------------------------------------------------------------------------

WARM = Path(medr1.__file__).parent / "models" / "warm_start"


def _checkpoint(change: Callable[[Path], object]) -> Callable[[Path], Call]:
    def make(data: Path) -> Call:
        from medr1.models.loading import load_model, load_processor

        shutil.copytree(WARM, data, dirs_exist_ok=True)
        change(data)
        return lambda: (load_processor(data), load_model(data))

    return make


def _config(file: str = "config.json", **values: Any) -> Callable[[Path], Call]:
    def change(data: Path) -> None:
        config = json.loads((data / file).read_text())
        for name, value in values.items():
            *parts, last = name.split("__")
            inside = config
            for part in parts:
                inside = inside.setdefault(part, {})
            inside[last] = value
        (data / file).write_text(json.dumps(config))

    return _checkpoint(change)


def _file(name: str, content: str | bytes) -> Callable[[Path], Call]:
    return _checkpoint(
        lambda data: (data / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    )


def _index(shard: str) -> Callable[[Path], Call]:
    return _file("model.safetensors.index.json", json.dumps({"metadata": {}, "weight_map": {"a": shard}}))


def _instead(name: str, make: Callable[[Path], object]) -> Callable[[Path], Call]:
    def change(data: Path) -> None:
        (data / name).unlink()
        make(data / name)

    return _checkpoint(change)


def _pickled(data: Path) -> None:
    (data / "model.safetensors").unlink()
    (data / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")


def _end(length: int) -> bytes:
    return struct.pack("<Q", length) + b"{}"


KERNEL = "someone/kernel"
CASES |= {
    "a checkpoint with classes of its own": _config(auto_map={"AutoModel": "evil.Model"}),
    "a tokenizer with a class of its own": _config(
        "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", None]}
    ),
    "a processor with a class of its own": _config("processor_config.json", image_processor__auto_map={"A": "evil.P"}),
    "attention from the hub": _config(_attn_implementation=KERNEL),
    "attention from the hub, at a revision": _config(attn_implementation=f"{KERNEL}@main:flash"),
    "attention from the hub, in pages": _config(_attn_implementation=f"paged|{KERNEL}"),
    "attention from the hub for the text": _config(text_config___attn_implementation=KERNEL),
    "attention from the hub for pictures": _config(vision_config___attn_implementation=KERNEL),
    "attention from the hub by parts": _config(_attn_implementation={"text_config": KERNEL}),
    "experts from the hub": _config(_experts_implementation=KERNEL),
    "weights that other code unpacks": _config(quantization_config={"quant_method": "mxfp4"}),
    "a vocabulary of 10¹²": _config(text_config__vocab_size=10**12),
    "10⁹ layers": _config(text_config__num_hidden_layers=10**9),
    "a configuration of a million lists in one another": _file("config.json", "[" * 10**6),
    "a configuration that is a pipe": _instead("config.json", os.mkfifo),
    "a configuration behind a link": _instead("config.json", lambda path: path.symlink_to("../secret.png")),
    "weights that are a device": _instead("model.safetensors", lambda path: path.symlink_to("/dev/zero")),
    "weights that run code": _checkpoint(_pickled),
    "weights with a header of 2⁶³": _file("model.safetensors", _end(2**63)),
    "weights with a header of 90 MiB": _file("model.safetensors", _end(90 * MIB)),
    "shards above the folder": _index("../secret.safetensors"),
    "shards anywhere": _index("/etc/passwd"),
    "a template that counts to 10⁹": _file("chat_template.jinja", "{% for i in range(1000000000) %}a{% endfor %}"),
    "a template that counts twice": _file(
        "chat_template.jinja", "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    ),
    "a template that multiplies": _file("chat_template.jinja", "{{ 'a' * 10000000000 }}"),
    "a template that pads by an operator": _file("chat_template.jinja", "{% set s = '%9999999999d' %}{{ s % 1 }}"),
    "a template that pads behind a loop's name": _file(
        "chat_template.jinja", "{% set loop = namespace(index='%9999999999d') %}{{ loop.index % 1 }}"
    ),
    "a template that raises to powers": _file("chat_template.jinja", "{{ 9 ** 9 ** 9 }}"),
    "a template that pads": _file("chat_template.jinja", "{{ '%9999999999d' | format(1) }}"),
    "a template that doubles": _file(
        "chat_template.jinja",
        "{% set s = namespace(a='a') %}{% for i in range(60) %}{% set s.a = s.a ~ s.a %}{% endfor %}",
    ),
    "a template that calls itself": _file(
        "chat_template.jinja", "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}"
    ),
    "a template that leaves the sandbox": _file(
        "chat_template.jinja", "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    ),
    "a template of 1 MiB": _file("chat_template.jinja", "a" * MIB),
    "a template in the tokenizer": _config("tokenizer_config.json", chat_template="{{ 9 ** 9 ** 9 }}"),
    "a tokenizer of 100 MiB": _file("tokenizer.json", b" " * (100 * MIB)),
}
