"""What test shares with train: by hand, and against the published audit of Med-R1's splits."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medr1.data.leakage import (
    Pictures,
    leakage,
    near_duplicates,
    same_sample,
    sample_overlap,
    shared_images,
    slice_neighbours,
    slice_position,
)
from medr1.data.questions import Fingerprint, QuestionSet, fingerprint, question_set, read_questions
from medr1.errors import DataError
from medr1.records import write_samples
from medr1.results.audited import PicturesCompared, SliceNeighbours
from medr1.types import ImageRef, Sample


def ask(
    image: str, question: str = "Which?", options: Sequence[str] = ("a", "b"), *, gold: int = 0, source: str = "s"
) -> Sample:
    name = f"{image}/{question}/{'/'.join(options)}"
    return Sample(
        id=name,
        images=(ImageRef(path=image),),
        question=question,
        options=tuple(options),
        answer_index=gold,
        source=source,
        group=image,
    )


def counts(train: Sequence[Sample], test: Sequence[Sample]) -> dict[str, int]:
    found = leakage(question_set("train", train), question_set("test", test))
    return {name: sum(flags) for name, flags in found.items()}


def test_every_level_is_counted_on_its_own() -> None:
    train = [ask("1.png"), ask("2.png", "What?"), ask("2.png", "What?", ("c", "d"))]
    test = [
        ask("1.png"),  # everything
        ask("1.png", options=("b", "a")),  # image and question
        ask("3.png"),  # question and options
        ask("3.png", "What?", ("x", "y")),  # the question alone
        ask("2.png", "Why?"),  # the image alone
        ask("4.png", "which?"),  # nothing: text is compared as written
    ]
    assert counts(train, test) == {
        "image_leakage": 3,
        "question_repeats": 2,
        "stem_repeats": 4,
        "image_question_repeats": 2,
        "record_repeats": 1,
        "group_leakage": 3,
    }
    assert shared_images(question_set("a", train), question_set("b", test)) == 2
    assert same_sample(train, test) == 1


def test_one_shared_image_of_several_is_a_leak() -> None:
    train = [ask("1.png")]
    both = Sample(id="x", images=(ImageRef(path="9.png"), ImageRef(path="1.png")), question="?", options=("a", "b"))
    assert counts(train, [both])["image_leakage"] == 1


def test_samples_without_group_share_none() -> None:
    alone = Sample(id="x", images=(ImageRef(path="9.png"),), question="?", options=("a", "b"))
    assert counts([alone], [alone])["group_leakage"] == 0


@pytest.mark.parametrize(
    ("name", "source", "position"),
    [
        ("Images/RadImageNet/bowel_mass/abd068206.png", "RadImageNet", ("Images/RadImageNet/bowel_mass/abd", 68206)),
        ("Images/RadImageNet/normal/abd-normal023599.png", "x", ("Images/RadImageNet/normal/abd-normal", 23599)),
        ("abd068206.png", "RadImageNet", ("abd", 68206)),
        ("Images/RadImageNet/normal/abd.png", "RadImageNet", None),
        ("Images/ISIC2018/ISIC_0012345.jpg", "ISIC2018", None),
    ],
)
def test_slice_position(name: str, source: str, position: tuple[str, int] | None) -> None:
    assert slice_position(Fingerprint(name=name), source) == position


def test_slice_neighbours_by_hand() -> None:
    folder = "Images/RadImageNet/cyst/"
    train = [ask(f"{folder}abd{number:06d}.png") for number in (100, 200, 201)]
    test = [
        ask(f"{folder}abd000101.png"),  # 1 away
        ask(f"{folder}abd000101.png", "What?"),  # the same image counts once
        ask(f"{folder}abd000195.png"),  # 5 away
        ask(f"{folder}abd000200.png"),  # itself in train, and next to 201
        ask(f"{folder}us000101.png"),  # another prefix
        ask("Images/ISIC2018/abd000101.png"),  # no slice
    ]
    found = slice_neighbours(question_set("a", train), question_set("b", test))
    assert found is not None
    assert {gap: (near.images, near.share) for gap, near in found.items()} == {
        "1": (1, 0.25),
        "2": (1, 0.25),
        "5": (2, 0.5),
        "10": (2, 0.5),
    }
    assert slice_neighbours(question_set("a", train), question_set("b", [ask("1.png")])) is None


# --- Image files --------------------------------------------------------------------------------------------------


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind, **options)
    return buffer.getvalue()


def picture(seed: int, side: int = 96) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def test_fingerprint_knows_a_file_from_its_pixels() -> None:
    png, again, bmp = (
        fingerprint(ImageRef(data=data, path="x.png"))
        for data in (encoded(picture(0)), encoded(picture(0), compress_level=0), encoded(picture(0), "BMP"))
    )
    assert png.file_hash != again.file_hash
    assert png.pixel_hash == again.pixel_hash == bmp.pixel_hash
    assert png.size == (96, 96)
    other = fingerprint(ImageRef(data=encoded(picture(1))))
    assert other.pixel_hash != png.pixel_hash
    # One column as another shape: the same bytes, but not the same picture.
    tall, wide = (fingerprint(ImageRef(data=encoded(np.zeros(shape, np.uint8)))) for shape in ((8, 4), (4, 8)))
    assert tall.pixel_hash != wide.pixel_hash


def test_perceptual_hash_is_that_of_imagehash() -> None:
    import imagehash

    found = fingerprint(ImageRef(data=encoded(picture(0)))).perceptual_hash
    assert found is not None
    assert f"{found:016x}" == str(imagehash.phash(Image.fromarray(picture(0))))


def test_embedded_images_are_known_by_content_not_by_base_name(tmp_path: Path) -> None:
    sets = {}
    for name, seeds in (("train", (0, 1)), ("test", (1, 2))):
        samples = [
            Sample(
                id=f"{name}{seed}",
                images=(ImageRef(path=f"{'ab'[place]}/{place}.png", data=encoded(picture(seed))),),
                question="?",
                options=("a", "b"),
                answer_index=0,
            )
            for place, seed in enumerate(seeds)
        ]
        write_samples(tmp_path / name, samples)
        sets[name] = read_questions(tmp_path / name, processes=2)
    # Test 0.png is train's 1.png; the equal base names 0.png and 1.png say nothing.
    assert leakage(sets["train"], sets["test"])["image_leakage"] == [True, False]
    assert shared_images(sets["train"], sets["test"]) == 1
    assert all(ref.data is None for sample in sets["test"].samples for ref in sample.images)


def test_references_in_two_folders_keep_their_names(tmp_path: Path) -> None:
    for name in ("train", "test"):
        write_samples(tmp_path / name, [ask("Images/1.png", name)], embed_images=False)
    found = leakage(*(read_questions(tmp_path / name) for name in ("train", "test")))
    assert found["image_leakage"] == [True]


def test_images_beside_a_source_file_are_hashed(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(encoded(picture(0)))
    (tmp_path / "own.csv").write_text("image,question,A,B,answer\n1.png,Which?,a,b,A\n2.png,Which?,a,b,A\n")
    first, missing = read_questions(tmp_path / "own.csv", processes=1).fingerprints()
    assert (first.name, first.size) == ("1.png", (96, 96))
    assert (missing.name, missing.size, missing.keys) == ("2.png", None, ("name:2.png",))
    untouched = read_questions(tmp_path / "own.csv", with_images=False).fingerprints()
    assert [image.size for image in untouched] == [None, None]


def test_damaged_images_are_named(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"no image")
    (tmp_path / "own.csv").write_text("image,question,A,B,answer\n1.png,Which?,a,b,A\n")
    with pytest.raises(DataError, match=r"1\.png"):
        read_questions(tmp_path / "own.csv", processes=1)


# --- By what pictures are compared --------------------------------------------------------------------------------


def shown(*images: Fingerprint) -> QuestionSet:
    samples = [ask(f"{number}.png", question=f"{number}?") for number in range(len(images))]
    return QuestionSet(name="x", samples=samples, images=[(image,) for image in images])


def there(name: str, pixels: str, *, embedded: bool = False) -> Fingerprint:
    return Fingerprint(name=name, embedded=embedded, file_hash=f"file:{pixels}", pixel_hash=f"pixels:{pixels}")


def missing(name: str, *, embedded: bool = False) -> Fingerprint:
    return Fingerprint(name=name, embedded=embedded)


@pytest.mark.parametrize(
    ("train", "test", "basis"),
    [
        (there("a/x.png", "1"), there("b/y.png", "1"), "content"),
        (there("a/scan1.png", "1"), there("a/scan1.png", "2"), None),  # both are there: the name decides nothing
        (there("a/scan1.png", "1", embedded=True), there("scan1.png", "2", embedded=True), None),
        (missing("a/x.png"), missing("a/x.png"), "name"),
        (missing("a/x.png"), there("a/x.png", "1"), "name"),
        (there("a/x.png", "1"), missing("a/x.png"), "name"),
        (missing("a/scan1.png"), missing("b/scan1.png"), "base name"),
        (missing("scan1.png", embedded=True), missing("b/scan1.png"), "base name"),
        (there("scan1.png", "1", embedded=True), missing("b/scan1.png"), "base name"),
        (missing("b/scan1.png"), there("scan1.png", "1", embedded=True), "base name"),
        (missing("a/scan1.JPEG"), missing("b/scan1.png"), "base name"),  # converted
        (missing("a\\scan1.png"), missing("b/scan1.png"), "base name"),
        (missing("a/0001.png"), missing("b/0001.png"), None),  # every data set has one
        (missing("a/scan1.png"), missing("b/scan2.png"), None),
    ],
)
def test_pictures_are_compared_by_the_surest_that_both_have(
    train: Fingerprint, test: Fingerprint, basis: str | None
) -> None:
    pictures = Pictures(shown(train), shown(test))
    assert pictures.basis(test) == basis
    assert sum(pictures.summary().found_by.values()) == (basis is not None)


def test_a_base_name_of_several_pictures_identifies_none() -> None:
    train = shown(missing("a/scan1.png"), missing("a/deep/scan1.png"), missing("a/scan2.png"))
    test = shown(missing("b/scan1.png"), missing("b/scan2.png"))
    assert leakage(train, test)["image_leakage"] == [False, True]


def test_under_folders_that_both_have_full_names_decide() -> None:
    train, test = shown(missing("CT/scan1.png"), missing("MRI/scan2.png")), shown(missing("MRI/scan1.png"))
    assert leakage(train, test)["image_leakage"] == [False]
    # One folder of train was renamed: its pictures are known by base name though another folder is shared.
    test = shown(missing("MRI/scan2.png"), missing("other/scan1.png"))
    assert leakage(train, test)["image_leakage"] == [True, True]


def test_the_summary_says_what_the_comparison_rests_on() -> None:
    one, two = there("a/scan1.png", "1"), there("a/scan2.png", "2")
    renamed, gone = there("a/scan1.png", "3"), missing("a/scan3.png")

    def summary(train: QuestionSet, test: QuestionSet) -> PicturesCompared:
        return Pictures(train, test).summary()

    assert summary(shown(one), shown(two)).basis == "content"
    assert summary(shown(one, gone), shown(two)).basis == "content and names"
    assert summary(shown(gone), shown(two)).basis == "names"
    free = Sample(id="free", images=(), question="?", options=("a", "b"))
    assert summary(question_set("free", [free]), shown(two)).basis is None
    assert [summary(shown(one), shown(image)).other_pixels for image in (one, two, renamed, gone)] == [0, 0, 1, 0]


def test_overlap_of_samples_is_told_by_the_content_of_their_files(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("copy", 0), ("b", 1)):
        (tmp_path / f"{name}.png").write_bytes(encoded(picture(seed)))
    train = [ask(str(tmp_path / "a.png"), "Which?")]

    def overlap(*test: Sample) -> tuple[int, int]:
        found = sample_overlap(train, test)
        return found.questions, found.pictures

    embedded = Sample(
        id="e",
        images=(ImageRef(data=encoded(picture(0))),),
        question="Which?",
        options=train[0].options,
        answer_index=0,
    )
    assert overlap(*train) == (1, 1)
    assert overlap(ask(str(tmp_path / "copy.png"), "Which?"), embedded) == (2, 2)
    assert overlap(ask(str(tmp_path / "copy.png"), "What?")) == (0, 1)
    assert overlap(ask(str(tmp_path / "b.png"), "Which?")) == (0, 0)
    # A file that is not there is like no other, not like every other that is not there.
    train.append(ask(str(tmp_path / "gone.png"), "Why?"))
    assert overlap(ask(str(tmp_path / "lost.png"), "Why?")) == (0, 0)
    assert overlap(train[1]) == (1, 1)


# --- Near-duplicates ----------------------------------------------------------------------------------------------


def hashed(name: str, hashes: dict[str, int], sources: dict[str, str] | None = None) -> QuestionSet:
    samples = [ask(image, source=(sources or {}).get(image, "s")) for image in hashes]
    images = [
        (Fingerprint(name=image, pixel_hash=f"pixels:{name}{image}", perceptual_hash=value),)
        for image, value in hashes.items()
    ]
    return QuestionSet(name=name, samples=samples, images=images)


def test_near_duplicates_by_hand() -> None:
    train = hashed("train", {"t1": 0, "t2": 2**64 - 1}, {"t1": "s", "t2": "other"})
    # 0, 3, 6 and 60 bits from t1, which is 64 from t2: the last one is 4 from t2.
    test = hashed("test", {"a": 0, "b": 0b111, "c": 0b111111, "d": 2**60 - 1})
    found = near_duplicates(train, test)
    assert found is not None
    assert [level.rate for level in found.by_threshold] == [0.25, 0.25, 0.75, 1.0]
    # Unrelated are the pairs with t2, of another source: one of four is within 4 bits; two training images.
    assert found.expected_rate == pytest.approx(1 - (1 - 1 / 4) ** 2, abs=1e-12)
    assert (found.rate, found.unrelated) == (0.75, "other source")


def test_one_source_compares_other_groups() -> None:
    train = hashed("train", {"same": 0, "t2": 0})
    found = near_duplicates(train, hashed("test", {"same": 0, "b": 2**64 - 1}))
    assert found is not None
    # Pairs of different groups: (same, t2) is close, (b, same) and (b, t2) are not.
    assert found.expected_rate == pytest.approx(1 - (1 - 1 / 3) ** 2, abs=1e-12)
    assert found.unrelated == "other group"


def test_near_duplicates_need_images() -> None:
    assert near_duplicates(question_set("a", [ask("1.png")]), question_set("b", [ask("1.png")])) is None


def test_a_recompressed_picture_is_near_and_another_is_not() -> None:
    pairs = [(0, "JPEG"), (1, "PNG")]
    train = [fingerprint(ImageRef(data=encoded(picture(seed)))) for seed in (0, 5, 6, 7)]
    test = [fingerprint(ImageRef(data=encoded(picture(seed), kind))) for seed, kind in pairs]

    def as_set(images: list[Fingerprint]) -> QuestionSet:
        return QuestionSet(name="x", samples=[ask(str(i)) for i in range(len(images))], images=[(i,) for i in images])

    found = near_duplicates(as_set(train), as_set(test))
    assert found is not None
    assert found.rate == 0.5


# --- The published splits -----------------------------------------------------------------------------------------

MODALITY = {
    "CT": "CT(Computed Tomography)",
    "US": "ultrasound",
    "FP": "Fundus Photography",
    "OCT": "OCT (Optical Coherence Tomography",
}


def pair(real_data: Path, axis: str, name: str) -> tuple[QuestionSet, QuestionSet]:
    folder = real_data / "med_r1" / "splits" / axis
    train, test = (read_questions(folder / part / f"{name}_{part}.json.gz") for part in ("train", "test"))
    return train, test


def row(train: QuestionSet, test: QuestionSet) -> tuple[int | str, ...]:
    """Sizes, leaked records, shared images, image+problem, image+stem and problem repeats, and stems in percent."""
    flags = leakage(train, test)
    leaked, problems = sum(flags["image_leakage"]), sum(flags["question_repeats"])
    n = len(test.samples)
    return (
        len(train.samples),
        n,
        leaked,
        f"{100 * leaked / n:.1f}",
        shared_images(train, test),
        sum(flags["record_repeats"]),
        sum(flags["image_question_repeats"]),
        problems,
        f"{100 * problems / n:.1f}",
        f"{100 * sum(flags['stem_repeats']) / n:.1f}",
    )


@pytest.mark.parametrize(
    ("axis", "name", "expected"),
    [
        ("modality", MODALITY["CT"], (12567, 3241, 435, "13.4", 396, 0, 1, 650, "20.1", "88.0")),
        ("modality", MODALITY["US"], (8917, 2074, 43, "2.1", 43, 0, 0, 3, "0.1", "98.0")),
        ("modality", MODALITY["FP"], (4300, 1098, 106, "9.7", 106, 0, 0, 165, "15.0", "92.3")),
        ("modality", MODALITY["OCT"], (3798, 848, 253, "29.8", 250, 0, 0, 27, "3.2", "63.6")),
        ("question_type", "Anatomy Identification", (13119, 3329, 20, "0.6", None, 0, None, 86, "2.6", "94.3")),
        ("question_type", "Modality Recognition", (9173, 2392, 0, "0.0", None, 0, None, 21, "0.9", "90.9")),
        ("question_type", "Other Biological Attributes", (2794, 704, 0, "0.0", None, 0, None, 2, "0.3", "78.8")),
    ],
)
def test_published_leakage(real_data: Path, axis: str, name: str, expected: tuple[int | str | None, ...]) -> None:
    found = row(*pair(real_data, axis, name))
    printed = [value for value, wanted in zip(found, expected, strict=True) if wanted is not None]
    assert printed == [value for value in expected if value is not None]


def in_percent(found: dict[str, SliceNeighbours] | None) -> list[str]:
    assert found is not None
    return [f"{100 * near.share:.1f}" for near in found.values()]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("CT", ["5.9", "10.4", "22.7", "37.5"]), ("US", ["6.6", "13.0", "27.0", "41.7"])],
)
def test_published_slice_neighbours(real_data: Path, name: str, expected: list[str]) -> None:
    assert in_percent(slice_neighbours(*pair(real_data, "modality", MODALITY[name]))) == expected


@pytest.mark.slow
def test_published_bounds_of_the_absent_train_files(real_data: Path) -> None:
    folder = real_data / "med_r1"
    mri = read_questions(folder / "splits/modality/test/MR (Mag-netic Resonance Imaging)_test.json.gz")
    part = read_questions(folder / "recovered_partial/MR_train_partial.json.gz")
    flags = leakage(part, mri)
    assert (len(part.samples), sum(flags["image_leakage"]), sum(flags["record_repeats"])) == (11029, 158, 0)
    # The published slice figures rest on the 7,399 records that the question-type files alone give away.
    on_other_axis = {s.id for s in read_questions(folder / "splits/question_type").samples}
    fewer = question_set("MR", [sample for sample in part.samples if sample.id in on_other_axis])
    assert len(fewer.samples) == 7399
    assert in_percent(slice_neighbours(fewer, mri)) == ["1.8", "3.3", "8.0", "15.9"]
    diagnosis = read_questions(folder / "splits/question_type/test/Disease Diagnosis_test.json.gz")
    part = read_questions(folder / "recovered_partial/Disease_Diagnosis_train_partial.json.gz")
    assert (len(part.samples), sum(leakage(part, diagnosis)["image_leakage"])) == (29851, 195)


@pytest.mark.slow
def test_published_leakage_across_tasks_and_axes(real_data: Path) -> None:
    folder = real_data / "med_r1" / "splits"
    tasks = [path.name.removesuffix("_test.json.gz") for path in sorted((folder / "question_type/test").glob("*.gz"))]
    test = {task: read_questions(folder / f"question_type/test/{task}_test.json.gz") for task in tasks}
    train = {
        task: read_questions(folder / f"question_type/train/{task}_train.json.gz")
        for task in tasks
        if task != "Disease Diagnosis"
    }
    train["Disease Diagnosis"] = read_questions(
        real_data / "med_r1/recovered_partial/Disease_Diagnosis_train_partial.json.gz"
    )
    shares = {}
    for task in tasks:
        others = question_set("others", [sample for name in tasks if name != task for sample in train[name].samples])
        flags = leakage(others, test[task])["image_leakage"]
        shares[task] = f"{100 * sum(flags) / len(flags):.1f}"
    assert shares == {
        "Anatomy Identification": "13.0",
        "Disease Diagnosis": "6.8",
        "Lesion Grading": "12.2",
        "Modality Recognition": "20.7",
        "Other Biological Attributes": "28.1",
    }

    modality = {part: read_questions(folder / "modality" / part).samples for part in ("train", "test")}
    asked = [sample for task in tasks for sample in test[task].samples]
    known = [sample for task in tasks if task != "Disease Diagnosis" for sample in train[task].samples]
    assert same_sample(modality["train"], asked) == 9256
    assert same_sample(known, modality["test"]) == 5251
    assert same_sample(modality["test"], asked) == 3509

    # Every record is on both axes, so a test record that is not in the other axis's test is in its train.
    in_train = {}
    for name in ("CT", "Fundus", "MRI", "OCT", "Ultrasound"):
        here = [sample for sample in modality["test"] if sample.modality == name]
        in_train[name] = f"{100 * (1 - same_sample(asked, here) / len(here)):.1f}"
    assert in_train == {"CT": "80.7", "Fundus": "79.1", "MRI": "80.5", "OCT": "79.4", "Ultrasound": "79.9"}
    filtered = read_questions(real_data / "med_r1/eval_vqa_prompts").samples
    assert (len(filtered), same_sample(modality["test"], filtered)) == (17721, 3503)
