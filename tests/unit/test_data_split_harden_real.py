"""Splits and hardening of the published questions: what they must hold on the real data."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from medr1.data import read_source
from medr1.data.blind import blind_hits
from medr1.data.groups import group_questions, image_names
from medr1.data.harden import Hardened, harden_questions
from medr1.data.questions import QuestionSet, question_set
from medr1.data.splits import assign, axis_parts, overlaps, published_parts
from medr1.types import Sample

pytestmark = pytest.mark.slow

PARTIAL = {"MR (Mag-netic": "MR_train_partial", "Disease Diagnosis": "Disease_Diagnosis_train_partial"}
POINTS = 0.03


def questions(path: Path) -> QuestionSet:
    return question_set(path.name, read_source(path, "med-r1"))


def train_file(test: Path) -> Path:
    """The train file of a test file, or what is known of it."""
    partial = next((name for start, name in PARTIAL.items() if test.name.startswith(start)), None)
    if partial is not None:
        return test.parents[3] / "recovered_partial" / f"{partial}.json.gz"
    return test.parents[1] / "train" / test.name.replace("_test", "_train")


def assert_fair(hard: list[Sample], fitted: dict[str, list[Sample]], name: str) -> None:
    chance = sum(1 / len(s.options) for s in hard) / len(hard)
    for train in fitted.values():
        scores = blind_hits(train, hard)
        for rule in ("text_prior", "format_rule", "longest_option", "linear_text"):
            assert abs(scores[rule].mean() - chance) <= POINTS, (name, rule)


@pytest.fixture(scope="module")
def hardened(real_data: Path) -> dict[str, tuple[QuestionSet, Hardened]]:
    files = sorted((real_data / "med_r1" / "splits").glob("*/test/*.json.gz"))
    assert len(files) == 13
    read = {str(file): questions(file) for file in files}
    return {name: (asked, harden_questions(asked)) for name, asked in read.items()}


def test_no_blind_rule_beats_chance_on_the_hardened_splits(hardened: dict[str, tuple[QuestionSet, Hardened]]):
    for name, (_, hard) in hardened.items():
        train = questions(train_file(Path(name)))
        fitted = {"original": train.samples, "hardened": list(harden_questions(train).samples.values())}
        assert_fair(list(hard.samples.values()), fitted, Path(name).name)


def test_most_questions_are_kept_and_the_others_have_a_reason(hardened: dict[str, tuple[QuestionSet, Hardened]]):
    for axis in ("modality", "question_type"):
        of = [pair for name, pair in hardened.items() if Path(name).parents[1].name == axis]
        assert sum(len(h.samples) for _, h in of) >= 0.7 * sum(len(q.samples) for q, _ in of)
    assert all(len(h.samples) + len(h.left_out) == len(q.samples) for q, h in hardened.values())


def test_blocks_hold_different_images_and_no_known_truth(hardened: dict[str, tuple[QuestionSet, Hardened]]):
    for asked, hard in hardened.values():
        truths: dict[str, set[str]] = {}
        for sample in hard.samples.values():
            assert sample.answer_index is not None
            truths.setdefault(image_names(sample)[0], set()).add(sample.options[sample.answer_index])
        for sample in hard.samples.values():
            assert len(truths[image_names(sample)[0]] & set(sample.options)) == 1
        assert len(asked.samples) >= len(hard.samples)


@pytest.fixture(scope="module")
def pool(real_data: Path) -> QuestionSet:
    return questions(real_data / "med_r1" / "splits")


def test_new_split_overlaps_nowhere_on_any_axis(pool: QuestionSet):
    grouping = group_questions(pool)
    assigned = assign(pool.samples, grouping.group_of, test_share=0.2, seed=0)
    for by in ("none", "modality", "task", "source"):
        parts = axis_parts(pool.samples, assigned, by)
        assert overlaps(pool, parts, grouping) == {"path": 0, "file": None, "pixels": None, "group": 0}
        for name, members in parts.items():
            whole = len(members) + len(parts.get(name.replace("/train", "/test"), ())) if "/train" in name else 0
            if whole >= 200:
                assert 0.78 <= len(members) / whole <= 0.82, name
    assert max(Counter(grouping.group_of.values()).values()) <= 100


def test_a_split_of_a_part_of_the_data_needs_no_images_in_common(pool: QuestionSet):
    """The group that a split writes keeps later splits from dividing what it joined."""
    samples = [s for s in pool.samples if s.source == "Mura"]
    first = group_questions(question_set("x", samples))
    regrouped = [replace(s, group=first.group_of[s.id, s.variant], extra={}, images=s.images) for s in samples]
    assert group_questions(question_set("x", regrouped)).group_of == first.group_of


def test_published_splits_have_the_published_sizes(pool: QuestionSet, real_data: Path):
    parts = published_parts(pool.samples)
    sizes = {name: len(members) for name, members in parts.items()}
    assert sizes["modality/MRI/test"] == 6370
    assert sizes["modality/CT/test"] == 3241
    # With the one record of `unknown_train`, which shows a CT slice.
    assert sizes["modality/CT/train"] == 12_567 + 1
    assert sizes["question_type/Modality_Recognition/test"] == 2392
    assert sizes["question_type/Lesion_Grading/train"] == 1662
    assert sum(n for name, n in sizes.items() if name.startswith("modality/") and name.endswith("/test")) == 17_662
    ct = {name: parts[name] for name in ("modality/CT/train", "modality/CT/test")}
    assert overlaps(pool, ct, None)["path"] == 435
    medvlm = list(read_source(real_data / "medvlm_r1" / "MRI_CT_XRAY_300each_dataset.json"))
    sizes = {name: len(members) for name, members in published_parts(medvlm).items()}
    assert sizes == {f"modality/{name}/test": 300 for name in ("CT", "MRI", "X-Ray")}
