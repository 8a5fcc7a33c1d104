"""Controls: what is shown really is blank, swapped or gone, and the same for the same seed."""

import io
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from medr1.data.images import open_image, png_bytes
from medr1.errors import ConfigError
from medr1.types import ImageRef, Modality, Sample, Task
from medr1.variants import VARIANTS, variant_names
from medr1.variants.controls import BLANK_LEVEL, CONTROLS, ROTATIONS, SHOWN_ANSWER

ANATOMY = ("Liver", "Spleen", "Kidney")


def image_ref(number: int, size: tuple[int, int] = (6, 4)) -> ImageRef:
    return ImageRef(data=png_bytes(Image.new("RGB", size, (number, 2 * number, 3 * number))))


def question(
    number: int,
    gold: int,
    *,
    options: Sequence[str] = ANATOMY,
    text: str = "Which organ?",
    modality: Modality = "CT",
    task: Task = "unknown",
    group: str | None = None,
) -> Sample:
    return Sample(
        id=f"q{number}",
        images=(image_ref(number),),
        question=text,
        options=tuple(options),
        answer_index=gold,
        modality=modality,
        task=task,
        group=f"image{number}" if group is None else group,
    )


@pytest.fixture
def samples() -> list[Sample]:
    modalities: tuple[Modality, ...] = ("CT", "MRI")
    return [question(number, number % 3, modality=modalities[number // 3 % 2]) for number in range(30)]


def pixels(sample: Sample) -> list[np.ndarray]:
    return [np.asarray(open_image(ref)) for ref in sample.images]


IMAGE_CONTROLS = [control.name for control in CONTROLS if control.name not in (*ROTATIONS, "none_of_the_above")]


@pytest.mark.parametrize("name", IMAGE_CONTROLS)
def test_every_control_keeps_question_answer_and_identity(name: str, samples: list[Sample]) -> None:
    prepared = VARIANTS[name].prepare(samples, seed=0)
    assert len(prepared) == len(samples)
    for original, changed in zip(samples, prepared, strict=True):
        changed = VARIANTS[name].materialise(changed, seed=0)
        assert changed.variant == name
        for field in ("id", "question", "options", "answer_index", "modality", "group"):
            assert getattr(changed, field) == getattr(original, field)
        if name != "low_resolution":  # of these plain images nothing is lost
            assert changed.images != original.images


@pytest.mark.parametrize("name", IMAGE_CONTROLS)
def test_every_control_is_fixed_by_its_seed_alone(name: str, samples: list[Sample]) -> None:
    def images(of: list[Sample], seed: int) -> dict[str, tuple[ImageRef, ...]]:
        control = VARIANTS[name]
        return {s.id: control.materialise(s, seed).images for s in control.prepare(of, seed)}

    assert images(samples, 1) == images(samples, 1)
    if name in ("noise", "shuffled", "other_modality", "swapped"):
        assert images(samples, 1) != images(samples, 2)
    if name != "shuffled":
        assert images(samples[::-1], 1) == images(samples, 1)


def test_blank_is_mid_grey_of_the_same_size() -> None:
    sample = Sample(id="1", images=(image_ref(5, (7, 3)), image_ref(6, (2, 9))), question="?", answer_index=0)
    blank = VARIANTS["blank"].materialise(VARIANTS["blank"].prepare([sample], 0)[0], 0)
    assert [p.shape for p in pixels(blank)] == [(3, 7, 3), (9, 2, 3)]
    assert all((p == BLANK_LEVEL).all() for p in pixels(blank))
    assert BLANK_LEVEL == 127


def test_noise_has_the_same_size_and_no_trace_of_the_image(samples: list[Sample]) -> None:
    sample = Sample(id="1", images=(image_ref(5, (80, 60)),), question="?", answer_index=0)
    (noise,) = pixels(VARIANTS["noise"].materialise(VARIANTS["noise"].prepare([sample], 0)[0], 0))
    assert noise.shape == (60, 80, 3)
    assert noise.mean() == pytest.approx(127.5, abs=3)
    assert np.unique(noise).size == 256


def test_no_image_has_none(samples: list[Sample]) -> None:
    assert all(sample.images == () for sample in VARIANTS["no_image"].prepare(samples, 0))


def test_nothing_is_drawn_before_its_turn() -> None:
    broken = Sample(id="1", images=(ImageRef(path="missing.png"),), question="?", options=("a", "b"), answer_index=0)
    for control in CONTROLS:
        control.prepare([broken], 0)


def test_swapped_shows_an_image_with_another_answer(samples: list[Sample]) -> None:
    owner = {sample.images: sample for sample in samples}
    for sample in VARIANTS["swapped"].prepare(samples, seed=3):
        partner = owner[sample.images]
        assert partner.answer_index is not None
        assert partner.options[partner.answer_index] == sample.extra[SHOWN_ANSWER]
        assert sample.answer_index is not None
        assert sample.options[sample.answer_index] != sample.extra[SHOWN_ANSWER]


def test_swapped_compares_the_text_of_the_answer_not_its_letter() -> None:
    # Same answer behind different letters, once with other capitals: no partner. Other answer, same letter: a partner.
    first = question(1, 0, options=("Liver", "Spleen"))
    same = question(2, 1, options=("Spleen", "liver."))
    other = question(3, 0, options=("Spleen", "Liver"))
    assert VARIANTS["swapped"].prepare([first, same], 0) == []
    swapped = {s.id: s for s in VARIANTS["swapped"].prepare([first, same, other], 0)}
    assert swapped["q1"].images == swapped["q2"].images == other.images
    assert swapped["q3"].extra[SHOWN_ANSWER].casefold().startswith("liver")


@pytest.mark.parametrize(
    "stranger",
    [
        question(2, 1, text="Which lesion?"),
        question(2, 1, modality="MRI"),
        question(2, 1, task="Lesion Grading"),
        question(2, 1, group="image1"),
        question(2, 0),
    ],
    ids=["other question", "other modality", "other task", "same image", "same answer"],
)
def test_swapped_leaves_out_what_has_no_partner(stranger: Sample) -> None:
    assert VARIANTS["swapped"].prepare([question(1, 0), stranger], 0) == []


def test_swapped_prefers_partners_whose_answer_is_an_option() -> None:
    sample = question(0, 0, options=("Liver", "Spleen"))
    elsewhere = [question(number, 0, options=("Heart", "Lung")) for number in range(1, 20)]
    elsewhere += [question(number, 0, options=("Heart", "Liver")) for number in range(20, 40)]
    offered = question(40, 0, options=("Spleen", "Lung"))
    for seed in range(20):
        swapped = VARIANTS["swapped"].prepare([sample, *elsewhere, offered], seed)
        assert swapped[0].extra[SHOWN_ANSWER] == "Spleen"
    assert VARIANTS["swapped"].prepare([sample, *elsewhere], 0)[0].extra[SHOWN_ANSWER] == "Heart"


def test_swapped_prefers_partners_that_rule_the_answer_out() -> None:
    sample = question(0, 0, options=("Liver", "Spleen"))
    elsewhere = [question(number, 0, options=("Hepatic tissue", "Lung")) for number in range(1, 40)]
    excluding = question(40, 0, options=("Heart", "Liver"))
    for seed in range(20):
        assert VARIANTS["swapped"].prepare([sample, *elsewhere, excluding], seed)[0].images == excluding.images


def test_questions_for_the_modality_are_swapped_across_modalities() -> None:
    def modality_question(number: int, answer: str, modality: Modality) -> Sample:
        return question(number, 0, options=(answer, "PET"), modality=modality, task="Modality Recognition")

    ct, same = modality_question(1, "CT", "CT"), modality_question(2, "Computed tomography", "CT")
    mri = modality_question(3, "MRI", "MRI")
    assert VARIANTS["swapped"].prepare([ct, same], 0) == []
    swapped = {s.id: s for s in VARIANTS["swapped"].prepare([ct, same, mri], 0)}
    assert swapped["q1"].images == swapped["q2"].images == mri.images
    assert swapped["q3"].extra[SHOWN_ANSWER] in ("CT", "Computed tomography")


def test_shuffled_never_shows_the_same_image_again() -> None:
    samples = [question(number, 0, group=f"image{number // 3}") for number in range(12)]
    groups = {sample.images: sample.group for sample in samples}
    for sample in VARIANTS["shuffled"].prepare(samples, 0):
        assert groups[sample.images] != sample.group
    assert VARIANTS["shuffled"].prepare(samples[:3], 0) == []


def test_low_resolution_keeps_the_size_and_the_means_of_squares_only() -> None:
    pixels_in = np.zeros((16, 24, 3), dtype=np.uint8)
    pixels_in[:8, :8] = 255 * (np.indices((8, 8)).sum(0) % 2)[..., None]  # a chessboard: its mean is 127.5
    pixels_in[8:, 16:] = 200
    image = Image.fromarray(pixels_in)
    sample = Sample(id="1", images=(ImageRef(data=png_bytes(image)),), question="?", options=("a", "b"), answer_index=0)
    (low,) = pixels(VARIANTS["low_resolution"].materialise(VARIANTS["low_resolution"].prepare([sample], 0)[0], 0))
    squares = np.array([[[128] * 3, [0] * 3, [0] * 3], [[0] * 3, [0] * 3, [200] * 3]], dtype=np.uint8)
    expected = np.asarray(Image.fromarray(squares).resize((24, 16), Image.Resampling.BICUBIC))
    assert np.array_equal(low, expected)
    tiny = Sample(id="1", images=(image_ref(5, (3, 40)),), question="?", options=("a", "b"), answer_index=0)
    (low,) = pixels(VARIANTS["low_resolution"].materialise(tiny, 0))
    assert low.shape == (40, 3, 3)


def test_other_modality_shows_an_image_of_another_known_modality(samples: list[Sample]) -> None:
    unknown = [question(100, 0, modality="unknown"), question(101, 0, modality="other")]
    owner = {sample.images: sample for sample in samples}
    moved = VARIANTS["other_modality"].prepare([*samples, *unknown], seed=2)
    assert [sample.id for sample in moved] == [sample.id for sample in samples]
    for sample in moved:
        assert owner[sample.images].modality != sample.modality
    assert len({sample.images for sample in moved}) > 10
    assert VARIANTS["other_modality"].prepare([s for s in samples if s.modality == "CT"], 0) == []


def test_rotations_move_options_and_gold_together() -> None:
    sample = question(1, 2, options=("a", "b", "c"))
    (once,) = VARIANTS["rotated1"].prepare([sample], 0)
    (twice,) = VARIANTS["rotated2"].prepare([sample], 0)
    assert (once.options, once.gold) == (("b", "c", "a"), "B")
    assert (twice.options, twice.gold) == (("c", "a", "b"), "A")
    assert once.images == sample.images
    (first,) = VARIANTS["rotated1"].prepare([question(1, 0, options=("a", "b", "c"))], 0)
    assert (first.options, first.gold) == (("b", "c", "a"), "C"), "the first option goes to the end"
    assert VARIANTS["rotated3"].prepare([sample], 0) == []


def test_rotated_stands_for_the_rotations_that_there_are() -> None:
    samples = [question(1, 0, options=("a", "b")), question(2, 0, options=("a", "b", "c", "d"))]
    names = variant_names(["blank", "rotated", "rotated1", "blank"], samples)
    assert names == ["blank", "rotated1", "rotated2", "rotated3"]
    assert variant_names(["rotated"], []) == []


def test_only_variants_without_the_evidence_say_so() -> None:
    without = {name for name, variant in VARIANTS.items() if variant.removes_evidence}
    assert without == {"blank", "noise", "no_image", "shuffled", "other_modality", "swapped"}


def test_none_of_the_above_takes_the_place_of_the_right_option() -> None:
    (changed,) = VARIANTS["none_of_the_above"].prepare([question(1, 1, options=("a", "b", "c"))], 0)
    assert (changed.options, changed.gold) == (("a", "None of the above", "c"), "B")


def test_an_unknown_name_is_refused_with_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"no variant 'black'; choose one of blank, .*rotated, or a corruption with"):
        variant_names(["blank", "black"], [])
    with pytest.raises(ConfigError, match=r"no variant 'jpeg'.*\(1 to 5\) as in jpeg/3: gaussian_noise, "):
        variant_names(["jpeg"], [])


def test_png_is_lossless() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png_bytes(image)))), np.asarray(image))
