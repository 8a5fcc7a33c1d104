"""What is said of sets of questions: `audit.json`, `stats.json` and `harden.json`.

Shares and accuracies are 0..1. A share here counts a set that is there as a whole, so it has no interval.
"""

from typing import Annotated, Literal

from medr1.results import ABSENT, Record

Part = Literal["train", "test"]


class Shared(Record):
    """Test questions that have something in common with train."""

    records: int
    share: float


class PicturesCompared(Record):
    """What the comparison of two sets of pictures rests on."""

    basis: Literal["content", "names", "content and names"] | None
    """`content` where every picture of both sets is there, `names` where all of one are not; None for none shown."""
    found_by: dict[str, int]
    """Test questions with a picture of train, by the surest basis."""
    other_pixels: int
    """Test questions whose picture has name and folders of a training picture with other pixels: another size, or
    another picture."""


class PictureCounts(Record):
    """Pictures of a set."""

    distinct: int
    hashed: int
    missing: int


class NearRate(Record):
    """Test images with a training image so near, and how many unrelated images would have one."""

    threshold: int
    rate: float
    expected_rate: float


class NearDuplicates(Record):
    """The rates at the threshold that counts, and at all."""

    rate: float
    expected_rate: float
    threshold: int
    unrelated: str
    """What pairs the expected rate was taken from."""
    n_test_images: int
    n_train_images: int
    by_threshold: list[NearRate]


class SliceNeighbours(Record):
    """Distinct test images with a training slice of their series so near, of those with a slice number."""

    images: int
    share: float


class BlindAccuracies(Record):
    """Of the rules that see no image; None where no question was asked of them."""

    majority_letter: float | None
    majority_letter_of_train: float | None
    format_rule: float | None
    longest_option: float | None
    text_prior: float | None
    linear_text: float | None


class CurvePoint(Record):
    """The text prior fitted on n questions: mean and deviation over draws of them."""

    n: int
    accuracy: float
    std: float


class AuditedPart(Record):
    """The test questions of one modality, task or source."""

    n: int
    image_leakage: Shared
    question_repeats: Shared
    chance: float | None
    blind: BlindAccuracies


class GoldTexts(Record):
    """How few texts are ever right."""

    distinct: int
    distinct_distractors: int
    distractors_never_right: float
    top: dict[str, int]


class OneSided(Record):
    """Options that are asked together, and how often the commonest of their answers is right."""

    options: list[str]
    n: int
    answer: str
    share: float


class OptionFaults(Record):
    """Questions that cannot be answered fairly, by fault."""

    duplicate_options: int
    """Two options are the same text."""
    folded_duplicates: int
    """Two options differ in case or punctuation only."""
    ambiguous_gold: int
    """The right option is among such twins, so that two letters are right."""
    conflicting_answers: int
    """Another record asks the same of the same image and gives another text as right."""
    several_true: int
    """An option is another record's right answer to the same question about the same image."""
    options_that_refer: int
    """An option speaks of others ("Both A and B"), so that their order is kept everywhere."""


class Giveaways(Record):
    """How right options are written, beside wrong ones, and how far the format rule gets with that."""

    coverage: float
    """Share of questions in which the rule picks one option."""
    hit_rate: float
    """How often that one is right."""
    gold_lower_case: float
    distractor_lower_case: float
    gold_full_stop: float
    distractor_full_stop: float
    gold_mean_length: float
    distractor_mean_length: float


class OptionChecks(Record):
    """What the options of a set give away, and what is wrong with them."""

    gold_letters: dict[str, int]
    gold_texts: GoldTexts
    one_sided: list[OneSided]
    faults: OptionFaults
    format_giveaways: Giveaways


class Audited(Record):
    """`audit.json`: what test shares with train, and how far one gets without looking at an image."""

    train: str
    test: str
    n_train: int
    n_test: int
    n_choice: int
    """Test questions with one right option, which blind rules answer."""
    n_train_choice: int
    groups_of_several_images: int
    image_leakage: Shared
    question_repeats: Shared
    stem_repeats: Shared
    image_question_repeats: Shared
    record_repeats: Shared
    group_leakage: Shared
    images_compared: PicturesCompared
    shared_images: int
    same_samples: int
    images: dict[Part, PictureCounts]
    near_duplicates: NearDuplicates | None
    slice_neighbours: dict[str, SliceNeighbours] | None
    """By the difference of the slice numbers."""
    chance: float
    blind: BlindAccuracies
    learning_curve: list[CurvePoint]
    by_modality: dict[str, AuditedPart]
    by_task: dict[str, AuditedPart]
    by_source: dict[str, AuditedPart]
    options: dict[Part, OptionChecks]
    verdicts: tuple[str, ...]
    """A line each, the gravest first."""


class Counts(Record):
    """Samples, their kinds, and the hash of the set."""

    n: int
    num_groups: int
    by_modality: dict[str, int]
    by_task: dict[str, int]
    by_num_options: dict[str, int]
    by_source: dict[str, int]
    by_answer_type: dict[str, int]
    data_hash: str


class Spread(Record):
    """Of counts or lengths."""

    min: float
    q25: float
    median: float
    q75: float
    max: float
    mean: float


class PictureStats(Record):
    """Pictures of a set and their sizes in pixels."""

    distinct: int
    missing: int
    per_question: Spread | None
    width: Spread | None
    height: Spread | None
    commonest_sizes: dict[str, int]


class TextStats(Record):
    """Texts and their lengths in characters."""

    distinct: int
    length: Spread | None


class OptionStats(TextStats):
    """Options, and what is right among them."""

    gold_letters: dict[str, int]
    gold_texts: GoldTexts
    faults: OptionFaults


class Described(Counts):
    """`stats.json`."""

    images: PictureStats
    questions: TextStats
    options: OptionStats


class KeptOf(Record):
    """Questions of one source, and those of them that were kept."""

    n: int
    kept: int


class Controlled(Record):
    """The original questions that no blind rule answers."""

    n: int
    left_out_by: tuple[str, ...]


class Hardened(Record):
    """`harden.json`: how many questions were kept, as what, and why the others fell out."""

    n: int
    kept: int
    kept_share: float
    left_out: dict[str, int]
    blocks_by_size: dict[str, int]
    chance: float | None
    by_source: dict[str, KeptOf]
    data_hash: str
    controlled: Annotated[Controlled | None, ABSENT] = None
    blind: Annotated[dict[str, dict[str, float | None]] | None, ABSENT] = None
    """Accuracies of chance and of every blind rule: on the originals, on the hardened questions, and on those with the
    rules fitted on hardened ones. With training data only."""
