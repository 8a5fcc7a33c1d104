"""Rows for TRL: option orders, control images, caching."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from transformers import TrainerControl, TrainerState, TrainingArguments

from medr1.data.phantom import phantom
from medr1.errors import ConfigError
from medr1.prompts import PROMPTS
from medr1.train.dataset import EpochOfRows, TrainingRows, check_trainable, reordered
from medr1.types import Sample
from medr1.variants import VARIANTS
from medr1.variants.controls import BLANK_LEVEL


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return [phantom("train", index).sample for index in range(8)]


def rows_of(samples: list[Sample], **changes: object) -> TrainingRows:
    return TrainingRows(samples, PROMPTS["bare"], seed=3, **changes)  # type: ignore[arg-type]


def pixels(image: Image.Image) -> bytes:
    return image.tobytes()


def test_a_reordered_question_keeps_its_answer(samples: list[Sample]) -> None:
    positions = Counter()
    for draw in range(400):
        turned = reordered(samples[0], np.random.default_rng(draw))
        assert sorted(turned.options) == sorted(samples[0].options)
        assert turned.options[turned.answer_index] == samples[0].options[samples[0].answer_index]
        positions[turned.answer_index] += 1
    expected = 400 / len(samples[0].options)
    assert all(abs(count - expected) < 4 * expected**0.5 for count in positions.values())


def test_option_order_changes_with_the_epoch_and_is_repeatable(samples: list[Sample]) -> None:
    rows = rows_of(samples)
    first = [rows.row(i)["options"] for i in range(8)]
    assert first == [rows.row(i)["options"] for i in range(8)]
    rows.epoch = 1
    second = [rows.row(i)["options"] for i in range(8)]
    assert first != second
    other = rows_of(samples)
    other.epoch = 1
    assert [other.row(i)["options"] for i in range(8)] == second
    as_they_are = rows_of(samples, shuffle_options=False)
    assert [tuple(as_they_are.row(i)["options"]) for i in range(8)] == [sample.options for sample in samples]


def test_option_orders_differ_between_questions_and_seeds(samples: list[Sample]) -> None:
    four = next(sample for sample in samples if len(sample.options) == 4)
    rows = rows_of([four] * 12)
    orders = [rows.row(i)["options"] for i in range(12)]
    assert len({tuple(order) for order in orders}) > 4
    other = TrainingRows([four] * 12, PROMPTS["bare"], seed=4)
    assert [other.row(i)["options"] for i in range(12)] != orders


def test_every_order_comes_up(samples: list[Sample]) -> None:
    four = next(sample for sample in samples if len(sample.options) == 4)
    assert len({reordered(four, np.random.default_rng(draw)).options for draw in range(400)}) == 24


def test_without_a_right_option_the_order_stays(samples: list[Sample]) -> None:
    open_question = replace(samples[0], answer_index=None)
    assert reordered(open_question, np.random.default_rng(0)) == open_question


def test_further_columns_are_those_of_the_question_as_it_is_shown(samples: list[Sample]) -> None:
    rows = rows_of(samples, extra=lambda sample: {"shown": sample.options})
    assert all(list(rows.row(i)["shown"]) == list(rows.row(i)["options"]) for i in range(8))


def test_the_callback_tells_the_epoch(samples: list[Sample]) -> None:
    rows = rows_of(samples)
    for epoch, whole in ((None, 0), (0.0, 0), (1.0, 1), (2.999, 2)):
        state = TrainerState(epoch=epoch)
        EpochOfRows(rows).on_epoch_begin(TrainingArguments(use_cpu=True), state, TrainerControl())
        assert rows.epoch == whole


def test_the_oldest_rows_leave_the_cache(samples: list[Sample]) -> None:
    rows = rows_of(samples, cache_size=2)
    zero, one, two = (rows.row(i) for i in range(3))
    assert rows.row(1) is one
    assert rows.row(2) is two
    again = rows.row(0)
    assert again is not zero
    assert again["options"] == zero["options"]


def test_prompt_and_reward_columns_agree(samples: list[Sample]) -> None:
    row = rows_of(samples).row(2)
    text = row["prompt"][0]["content"][-1]["text"]
    assert [part["type"] for part in row["prompt"][0]["content"]] == ["image", "text"]
    listed = [f"{letter}) {option}" for letter, option in zip("ABCD", row["options"], strict=False)]
    assert text.splitlines()[1:] == listed
    assert row["options"][row["answer_index"]] == samples[2].options[samples[2].answer_index]


def test_copies_of_a_prompt_share_one_picture(samples: list[Sample]) -> None:
    dataset = rows_of(samples).dataset()
    first, second = dataset.__getitems__([4, 4])
    assert first["images"][0] is second["images"][0]
    first["prompt"] = "changed by a trainer"
    assert dataset[4]["prompt"] == second["prompt"]
    assert len(dataset) == 8
    assert next(iter(dataset))["id"] == samples[0].id


def test_blank_images_are_grey_and_of_the_same_size(samples: list[Sample]) -> None:
    image = rows_of(samples, images="blank").row(0)["images"][0]
    assert image.size == (84, 84)
    assert image.getcolors() == [(84 * 84, (BLANK_LEVEL,) * 3)]


def test_shuffled_images_are_those_of_the_variant_and_none_stays(samples: list[Sample]) -> None:
    real = [pixels(rows_of(samples).row(i)["images"][0]) for i in range(8)]
    shuffled = [pixels(rows_of(samples, images="shuffled").row(i)["images"][0]) for i in range(8)]
    variant = VARIANTS["shuffled"]
    assert shuffled == [pixels(p) for one in variant.prepare(samples, 3) for p in variant.pictures(one, 3)]
    assert all(own != shown for own, shown in zip(real, shuffled, strict=True))
    other = TrainingRows(samples, PROMPTS["bare"], seed=4, images="shuffled")
    assert [pixels(other.row(i)["images"][0]) for i in range(8)] != shuffled


def test_a_question_is_never_shown_its_own_picture_even_where_others_ask_about_it(samples: list[Sample]) -> None:
    twice = [replace(sample, group=f"picture {index // 4}") for index, sample in enumerate(samples)]
    rows = TrainingRows(twice, PROMPTS["bare"], seed=3, images="shuffled")
    for index in range(8):
        shown = pixels(rows.row(index)["images"][0])
        own = [pixels(rows_of(samples).row(other)["images"][0]) for other in range(8) if other // 4 == index // 4]
        assert shown not in own
    with pytest.raises(ConfigError, match="no other sample has as many pictures"):
        TrainingRows(twice[:4], PROMPTS["bare"], seed=3, images="shuffled")


def test_every_image_of_a_question_is_shown(samples: list[Sample]) -> None:
    two = replace(samples[0], images=(*samples[0].images, *samples[1].images))
    row = TrainingRows([two], PROMPTS["bare"], seed=3).row(0)
    assert [pixels(image) for image in row["images"]] == [
        pixels(rows_of(samples).row(i)["images"][0]) for i in range(2)
    ]
    assert [part["type"] for part in row["prompt"][0]["content"]] == ["image", "image", "text"]


def test_nothing_to_train_on(samples: list[Sample]) -> None:
    with pytest.raises(ConfigError, match="empty"):
        check_trainable([])
    with pytest.raises(ConfigError, match="no right option"):
        check_trainable([*samples, replace(samples[0], answer_index=None)])
