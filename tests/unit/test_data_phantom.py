"""The phantoms: repeatable, truthful, visible, and without a short cut around looking."""

import io
import re
from collections import Counter, defaultdict

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage, stats

from medr1.data.phantom import NUISANCE, QUESTIONS, PhantomState, bulk, contact_sheet, draw, generate, phantom
from medr1.data.phantom.anatomy import ANATOMIES
from medr1.data.phantom.canvas import axis, canvas, capsule, ellipse, nearest, smooth_noise, vessel
from medr1.data.phantom.generate import _draw_question, _generators, render
from medr1.data.phantom.lesions import LESIONS, RADII, RADIUS_JITTER, paint_lesions
from medr1.data.phantom.nuisance import PALETTES, expose
from medr1.data.phantom.questions import ask
from medr1.data.phantom.state import COUNTS, MODALITY_WORDS, NO_SIZE, NORMAL, SIDES, draw_state
from medr1.errors import ConfigError
from medr1.types import TASKS

KINDS = tuple(QUESTIONS)


def questions(split: str, count: int, seed: int = 0):
    """Kind, state and question of the first phantoms of a split, without their pixels."""
    return [_draw_question(_generators(split, index, seed)[0], None) for index in range(count)]


def chance_of(asked) -> np.ndarray:
    return np.array([1 / len(question.options) for _, _, question in asked])


# Repeatable


def test_same_arguments_give_identical_bytes():
    first, second = phantom("train", 7, seed=3), phantom("train", 7, seed=3)
    assert first.sample == second.sample
    assert first.image.tobytes() == second.image.tobytes()
    assert first.mask.tobytes() == second.mask.tobytes()
    assert first.state == second.state


def test_png_holds_the_image_and_draw_gives_the_same_one():
    shown = phantom("validation", 5)
    decoded = np.asarray(Image.open(io.BytesIO(shown.sample.images[0].data)))
    image, state, kind = draw("validation", 5)
    assert np.array_equal(decoded, shown.image)
    assert np.array_equal(image, shown.image)
    assert state == shown.state
    assert kind == shown.sample.extra["kind"]


def test_processes_do_not_change_content_or_order():
    alone, shared = list(generate("train", 9, start=4)), list(generate("train", 9, start=4, processes=2))
    assert [p.sample for p in alone] == [p.sample for p in shared]
    assert alone[0].sample == phantom("train", 4).sample
    images, states, kinds = bulk("train", 9, start=4, processes=2)
    assert np.array_equal(images, np.stack([p.image for p in alone]))
    assert states == [p.state for p in alone]
    assert kinds == [p.sample.extra["kind"] for p in alone]


def test_splits_seeds_and_indices_share_no_image():
    drawn = [draw(split, index, seed=seed)[0].tobytes() for split in NUISANCE for seed in (0, 1) for index in range(60)]
    assert len(set(drawn)) == len(drawn)


def test_ids_and_groups_are_unique():
    samples = [p.sample for p in generate("test", 60)]
    assert len({sample.id for sample in samples}) == len({sample.group for sample in samples}) == 60


def test_side_changes_the_pixels_and_not_the_question():
    small, large = phantom("test", 11, side=56), phantom("test", 11, side=112)
    assert small.image.shape == (56, 56, 3)
    assert large.mask.shape == (112, 112)
    assert (small.sample.question, small.sample.options, small.state) == (
        large.sample.question,
        large.sample.options,
        large.state,
    )


def test_unknown_split_or_kind_is_a_clear_error():
    with pytest.raises(ConfigError, match=r"'dev'.*train, validation, test"):
        phantom("dev", 0)
    with pytest.raises(ConfigError, match=r"'sex'.*modality, anatomy"):
        draw("train", 0, kind="sex")


# Questions


def test_every_option_is_one_plain_word_and_pools_have_no_doubles():
    for spec in QUESTIONS.values():
        assert len(set(spec.pool)) == len(spec.pool) >= 4
        assert all(re.fullmatch("[A-Za-z]+", word) for word in spec.pool)
        assert 2 <= len(spec.wordings) <= 3
        assert spec.task in TASKS
    assert {spec.key for spec in QUESTIONS.values()} == set(phantom("train", 0).state.values())


@pytest.mark.parametrize("kind", KINDS)
def test_gold_is_the_value_of_the_state(kind):
    for index in range(40):
        shown = phantom("train", index, kind=kind, side=28)
        sample, spec = shown.sample, QUESTIONS[kind]
        gold = sample.options[sample.answer_index]
        assert gold == shown.state.values()[spec.key]
        assert len(sample.options) in (2, 4)
        assert len(set(sample.options)) == len(sample.options)
        assert set(sample.options) <= set(spec.pool)
        assert sample.question in spec.wordings
        assert sample.task == spec.task
        assert sample.modality == ANATOMIES[shown.state.anatomy].modality
        assert sample.rationale == f"{spec.key} {gold}"
        assert dict(sample.extra) == {"kind": kind} | {k: v for k, v in shown.state.values().items() if v}


def test_values_by_hand():
    state = PhantomState(
        modality="X-Ray",
        anatomy="hand",
        finding="cyst",
        size="large",
        count=1,
        side="left",
        centres=((-0.5, 0.0),),
    )
    words = dict(zip(("modality", "anatomy", "finding", "size", "location", "count"),
                     ("Radiograph", "hand", "cyst", "large", "left", "one"), strict=True))  # fmt: skip
    assert state.values() == words


@pytest.mark.parametrize("kind", KINDS)
def test_states_agree_with_themselves(kind):
    rng = np.random.default_rng(0)
    for _ in range(300):
        state = draw_state(rng, kind)
        assert len(state.centres) == state.count
        assert (state.finding == NORMAL) == (state.size == NO_SIZE) == (state.count == 0)
        assert (state.side is None) == (state.count != 1)
        assert max((abs(c) for centre in state.centres for c in centre), default=0) + RADII["large"] < 1
        ask(state, kind, rng)


def test_kinds_are_uniform_and_answers_are_uniform_over_their_pool():
    asked = questions("train", 6000)
    assert stats.chisquare(list(Counter(kind for kind, _, _ in asked).values())).pvalue > 1e-3
    for kind, spec in QUESTIONS.items():
        answers = Counter(state.values()[spec.key] for drawn, state, _ in asked if drawn == kind)
        assert stats.chisquare([answers[word] for word in spec.pool]).pvalue > 1e-3, kind


@pytest.mark.parametrize("total", [2, 4])
def test_gold_positions_are_uniform(total):
    asked = [question for _, _, question in questions("train", 6000) if len(question.options) == total]
    assert abs(len(asked) / 6000 - {2: 0.15, 4: 0.85}[total]) < 0.02
    positions = Counter(question.answer_index for question in asked)
    assert stats.chisquare([positions[k] for k in range(total)]).pvalue > 1e-3


def test_option_sets_do_not_tell_the_answer():
    """Within each set of options of the small pools, every option is right equally often."""
    golds = defaultdict(Counter)
    for kind, _, question in questions("train", 12000):
        if kind in ("diagnosis", "grading", "location", "count"):
            golds[kind, tuple(sorted(question.options))][question.options[question.answer_index]] += 1
    pvalues = [
        stats.chisquare([found[word] for word in options]).pvalue
        for (_, options), found in golds.items()
        if found.total() >= 40
    ]
    assert len(pvalues) > 20
    assert stats.combine_pvalues(pvalues).pvalue > 1e-3


def test_a_counter_of_words_stays_at_chance():
    """Frequencies of gold by wording and option, from 5000 questions, choose no better than a die on 2000 others."""
    offered, right = Counter(), Counter()
    for kind, _, question in questions("train", 5000):
        for position, option in enumerate(question.options):
            for feature in ((kind, option), (kind, question.text, option), (kind, position, len(question.options))):
                offered[feature] += 1
                right[feature] += position == question.answer_index
    asked = questions("test", 2000)
    hits = []
    for kind, _, question in asked:
        odds = [
            sum(
                (right[feature] + 1) / (offered[feature] + 4)
                for feature in ((kind, option), (kind, question.text, option), (kind, position, len(question.options)))
            )
            for position, option in enumerate(question.options)
        ]
        hits.append(int(np.argmax(odds)) == question.answer_index)
    chance = chance_of(asked)
    error = np.sqrt((chance * (1 - chance)).sum()) / len(asked)
    assert abs(np.mean(hits) - chance.mean()) < 3 * error


# Pictures


@pytest.mark.parametrize("split", list(NUISANCE))
def test_mask_agrees_with_count_side_and_size(split):
    for shown in generate(split, 60):
        labels, count = ndimage.label(shown.mask)
        assert count == shown.state.count
        if not count:
            continue
        coordinates = axis(84)
        expected = RADII[shown.state.size]
        found = ndimage.center_of_mass(shown.mask, labels, range(1, count + 1))
        centres = {
            (float(np.interp(x, range(84), coordinates)), float(np.interp(y, range(84), coordinates))) for y, x in found
        }
        for x, y in shown.state.centres:
            assert min(np.hypot(x - u, y - v) for u, v in centres) < 0.03
        for area in ndimage.sum(shown.mask, labels, range(1, count + 1)):
            radius = np.sqrt(area / np.pi) / 42
            assert abs(radius / expected - 1) < RADIUS_JITTER + 0.08
        if shown.state.side:
            (x, y), = centres  # fmt: skip
            assert min(SIDES, key=lambda side: np.hypot(x - SIDES[side][0], y - SIDES[side][1])) == shown.state.side


@pytest.mark.parametrize("anatomy", list(ANATOMIES))
@pytest.mark.parametrize("finding", LESIONS)
@pytest.mark.parametrize("size", list(RADII))
def test_every_lesion_is_visible_on_every_anatomy(anatomy, finding, size):
    """With and without the lesion, under the same nuisances: grey levels differ clearly there, and hardly elsewhere."""
    for number, centre in enumerate(SIDES.values()):
        modality = ANATOMIES[anatomy].modality
        healthy = ANATOMIES[anatomy].draw(canvas(84, np.random.default_rng(number)))
        ill, mask = paint_lesions(healthy, finding, size, (centre,), np.random.default_rng(number), with_mask=True)
        grey = [
            expose(picture, modality, NUISANCE["train"], canvas(84, np.random.default_rng(number))).mean(axis=2)
            for picture in (healthy, ill)
        ]
        change = np.abs(grey[1] - grey[0])
        touched = ndimage.binary_dilation(mask, iterations=2)
        assert np.sqrt((change[touched] ** 2).mean()) > 25
        lesion = grey[1][touched]
        assert np.percentile(lesion, 95) - np.percentile(lesion, 5) > 50


def test_shape_and_texture_tell_the_anatomies_apart_through_all_nuisances():
    """A linear model on a blurred thumbnail and the spectrum names 16 anatomies, which the colours cannot tell."""
    from sklearn.linear_model import LogisticRegression

    def feature(image):
        grey = image.mean(axis=2)
        grey = (grey - grey.mean()) / grey.std()
        thumbnail = ndimage.gaussian_filter(grey, 3)[::6, ::6].ravel()
        return np.concatenate([thumbnail, np.log1p(np.abs(np.fft.rfft2(grey))[:20, :20]).ravel()])

    images, states, _ = bulk("train", 700)
    features, names = np.array([feature(image) for image in images]), np.array([state.anatomy for state in states])
    model = LogisticRegression(C=0.01, max_iter=300).fit(features[:500], names[:500])
    assert model.score(features[500:], names[500:]) > 0.85


def test_tissue_leaves_room_for_brighter_and_darker_lesions():
    for name, anatomy in ANATOMIES.items():
        picture = anatomy.draw(canvas(84, np.random.default_rng(1)))
        assert picture.shape == (84, 84), name
        assert picture.dtype == np.float32, name
        assert np.isfinite(picture).all(), name
        assert np.percentile(picture, 95) < 0.9, name


def test_colour_and_grey_cross_all_modalities():
    """About 40 % of the pictures of a colour modality are grey, and about 40 % of the others are tinted."""
    rng = np.random.default_rng(0)
    for anatomy, share in (("retina", 0.6), ("blood", 0.6), ("brain", 0.4), ("hand", 0.4)):
        state = PhantomState(
            modality=ANATOMIES[anatomy].modality, anatomy=anatomy, finding=NORMAL, size=NO_SIZE, count=0, side=None
        )
        images = [render(state, NUISANCE["train"], rng, 28)[0] for _ in range(400)]
        coloured = np.mean([np.ptp(image.mean(axis=(0, 1))) > 1 for image in images])
        assert abs(coloured - share) < 0.08


def test_exposure_spans_the_range_whatever_is_shown():
    levels = defaultdict(list)
    for index in range(400):
        image, state, _ = draw("train", index, side=42)
        levels[state.modality].append(image.mean())
    overall = np.mean([np.mean(found) for found in levels.values()])
    for found in levels.values():
        assert abs(np.mean(found) - overall) < 18  # the palettes differ a little, and so do 50 draws
        assert np.std(found) > 10


def test_test_split_is_shifted():
    train, test = NUISANCE["train"], NUISANCE["test"]
    assert NUISANCE["validation"] == train
    for wide, narrow in ((test.zoom, train.zoom), (test.brightness, train.brightness), (test.contrast, train.contrast)):
        assert wide[0] < narrow[0] < narrow[1] < wide[1]
    assert test.shift > train.shift
    assert test.grain[1] > train.grain[1]
    assert set(test.tints) - set(train.tints)
    assert set(test.tints) | set(train.tints) <= set(PALETTES)


def test_contact_sheet_has_a_tile_for_each_anatomy_and_state():
    sheet = Image.open(io.BytesIO(contact_sheet(side=28)))
    assert sheet.size == (88 + 8 * 32, 16 + 16 * 32)


# Primitives


def test_shapes_cover_the_area_that_they_should():
    c = canvas(200, np.random.default_rng(0))
    pixel = (2 / 200) ** 2
    assert ellipse(c, 0.1, -0.1, 0.5, 0.3, angle=0.7).sum() * pixel == pytest.approx(np.pi * 0.15, rel=0.02)
    assert capsule(c, (-0.4, 0.0), (0.4, 0.3), 0.1).sum() * pixel == pytest.approx(
        0.2 * np.hypot(0.8, 0.3) + np.pi * 0.01, rel=0.02
    )


def test_nearest_is_the_distance_to_the_closest_centre():
    c = canvas(20, np.random.default_rng(0), shift=(0.1, 0.0), zoom=1.2)
    centres = np.array([[0.3, -0.2], [-0.5, 0.4], [0.0, 0.9]])
    slow = np.min([np.hypot(c.x - x, c.y - y) for x, y in centres], axis=0)
    assert nearest(c, centres) == pytest.approx(slow, abs=1e-6)


def test_zoom_and_shift_move_the_drawing():
    c = canvas(200, np.random.default_rng(0), shift=(0.2, -0.1), zoom=1.5)
    disc = ellipse(c, 0, 0, 0.3, 0.3)
    y, x = ndimage.center_of_mass(disc)
    assert ((x + 0.5) / 100 - 1, (y + 0.5) / 100 - 1) == pytest.approx((0.2, -0.1), abs=1e-3)
    assert disc.sum() * (2 / 200) ** 2 == pytest.approx(np.pi * 0.45**2, rel=0.02)


def test_smooth_noise_meets_its_knots():
    c = canvas(9, np.random.default_rng(4))
    noise = smooth_noise(c, 3)
    knots = np.random.default_rng(4).standard_normal((3, 3), dtype=np.float32)
    assert noise[::4, ::4] == pytest.approx(knots, abs=1e-6)
    assert noise[2, 0] == pytest.approx((knots[0, 0] + knots[1, 0]) / 2, abs=1e-6)


def test_a_vessel_starts_at_its_root_and_grows_one_way():
    line = vessel(canvas(100, np.random.default_rng(0)), (0.0, 0.0), 0.0, 0.0, 0.05)
    assert line[50, 60:80].min() > 0.8
    assert line[:, :50].max() == 0


def test_words_cover_modalities_and_counts():
    assert MODALITY_WORDS["X-Ray"] == "Radiograph"
    assert QUESTIONS["modality"].pool == tuple(MODALITY_WORDS.values())
    assert len(MODALITY_WORDS) == 8
    assert len({anatomy.draw for anatomy in ANATOMIES.values()}) == len(ANATOMIES) == 16
    assert COUNTS == ("one", "two", "three", "four")
