"""Questions that cannot be answered blind, made from published ones.

`harden` rebuilds the questions of a data set as answer blocks (see `medr1.data.answer_blocks`): the options of a
question are the right answers of K - 1 other questions of its family, in one tidy spelling, and all K are asked in the
same words. The original question stays in `Sample.extra`. What cannot be asked that way falls out, with its reason.
"""

import csv
import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medr1.answers.wording import plain_words
from medr1.data.answer_blocks import BLOCK, Blocks, Item, build_blocks, common_question, families
from medr1.data.blind import blind_hits
from medr1.data.groups import group_questions, image_names
from medr1.data.questions import QuestionSet, content_of, read_questions, samples_with_images
from medr1.data.settings import HardenSettings
from medr1.data.synonyms import UNCLEAR_ANSWERS, exclusive, tidy
from medr1.doors import cell
from medr1.records import data_hash, read_record, sample_id, short_hash, write_json, write_shards
from medr1.results.audited import Controlled, Hardened, KeptOf
from medr1.runs import Run
from medr1.stats import chance
from medr1.streams import choices
from medr1.types import LETTERS, Sample

SUMMARY, SHEET = "harden.json", "sample_sheet.csv"
FILES = ("controlled", "hardened", SHEET, SUMMARY)
"""What is written beside the manifest, the first of them only with training data."""
SHEET_BLOCKS = 50
"""Blocks drawn for the sheet that a person checks."""
SHEET_COLUMNS = (
    "block", "source", "image", "question", "options", "answer", "original question", "original options",
    "original answer", "answer right?", "another option also right?",
)  # fmt: skip

NOT_CHOICE = "it has no single right option"
UNCLEAR = "its answer says nothing"
SOLVING_RULES = ("format_rule", "longest_option", "text_prior", "linear_text")
"""Blind rules whose solved questions the controlled subset leaves out; the majority letter reads no question."""

Key = tuple[str, str]
Progress = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class HardQuestions:
    """Hardened questions by the key of the original one, and why the others fell out."""

    samples: dict[Key, Sample]
    left_out: dict[Key, str]


def harden(settings: HardenSettings, progress: Progress = lambda step, done: None) -> Hardened:
    """Write `hardened/`, the sheet and `harden.json` under `settings.out`, whole or not at all; return the summary.

    With `train` also `controlled/`, the original questions that no blind rule fitted there answers, and the blind
    scores of originals and hardened questions. Called again, it changes nothing.
    """
    train = {} if settings.train is None else content_of(settings.train, with_images=False)
    with Run(
        settings.out,
        command="data harden",
        arguments=settings.dump(),
        identity={
            "options": settings.options,
            **content_of(settings.data),
            **{f"train_{name}": value for name, value in train.items()},
        },
        seed=settings.seed,
        owns=FILES,
        overwrite=settings.overwrite,
    ) as run:
        if run.done and run.has(*(FILES if train else FILES[1:])):
            return read_record(settings.out / SUMMARY, Hardened)
        questions, hardened, parts, summary = _made(settings, progress)
        with run.everything() as staged:
            for name, chosen in parts.items():
                (staged / name).mkdir()
                write_shards(staged / name, _with_images(settings.data, questions, chosen), embed_images=False)
            _write_sheet(staged / SHEET, hardened, settings.seed)
            write_json(staged / SUMMARY, summary)
        run.reach("done")
    return summary


def _made(
    settings: HardenSettings, progress: Progress
) -> tuple[QuestionSet, HardQuestions, dict[str, dict[Key, Sample]], Hardened]:
    """The questions, what they become, the samples of each part, and what `harden.json` says."""
    questions = read_questions(settings.data, progress=lambda done: progress("reading", done))
    hardened = harden_questions(questions, size=settings.options, seed=settings.seed)
    parts = {"hardened": hardened.samples}
    summary = summarise(questions, hardened)
    if settings.train is not None:
        train = read_questions(settings.train, with_images=False, progress=lambda done: progress("reading train", done))
        progress("blind rules", 0)
        parts["controlled"] = {
            (s.id, s.variant): s for s in controlled(train.samples, questions.samples, settings.seed)
        }
        summary = summary.extended(
            Hardened,
            controlled=Controlled(n=len(parts["controlled"]), left_out_by=SOLVING_RULES),
            blind=blind_scores(train, questions, hardened, size=settings.options, seed=settings.seed),
        )
    return questions, hardened, parts, summary


def harden_questions(questions: QuestionSet, *, size: int = 4, seed: int = 0) -> HardQuestions:
    """Answer blocks of at most `size` questions, made from those with one right option.

    An answer is a distractor only of questions of which it is not known to be true: it differs from all answers of the
    same image or series, is no synonym and neither more general nor more special (see `synonyms.exclusive`), and was
    never right together with the answer for one image of the data.
    """
    samples, left_out = _usable(questions.samples)
    shown = group_questions(questions, patients=False).group_of
    named = families(samples)
    truths: dict[tuple[str, tuple[str, ...]], set[str]] = defaultdict(set)
    together: dict[tuple[tuple[str, ...], tuple[tuple[str, str], ...]], set[str]] = defaultdict(set)
    for sample, (family, answer) in zip(samples, named, strict=True):
        truths[shown[sample.id, sample.variant], family].add(answer)
        together[family, tuple((sample.source, name) for name in image_names(sample))].add(answer)
    right_together = {frozenset((a, b)) for answers in together.values() for a in answers for b in answers if a < b}
    items = [
        Item(sample=s, family=family, answer=answer, truths=frozenset(truths[shown[s.id, s.variant], family]))
        for s, (family, answer) in zip(samples, named, strict=True)
    ]
    blocks = build_blocks(items, lambda a, b: exclusive(a, b) and frozenset((a, b)) not in right_together, size, seed)
    left_out |= {(s.id, s.variant): blocks.left_out[s.id] for s in samples if s.id in blocks.left_out}
    return HardQuestions(_samples_of(blocks, seed), left_out)


def _usable(samples: Sequence[Sample]) -> tuple[list[Sample], dict[Key, str]]:
    """Questions with one right option that says something, and why the others are not usable."""
    usable, left_out = [], {}
    for sample in samples:
        if sample.answer_index is None or len(sample.options) < 2:
            left_out[sample.id, sample.variant] = NOT_CHOICE
        elif plain_words(tidy(sample.options[sample.answer_index])) in UNCLEAR_ANSWERS:
            left_out[sample.id, sample.variant] = UNCLEAR
        else:
            usable.append(sample)
    return usable, left_out


def _samples_of(blocks: Blocks, seed: int) -> dict[Key, Sample]:
    hardened = {}
    for block in blocks.blocks:
        members = sorted(block, key=lambda item: item.sample.id)
        name = short_hash([item.sample.id for item in members])
        question = common_question([item.sample for item in members])
        options = [item.answer for item in members]
        choices(f"{seed} {name}").shuffle(options)
        for item in members:
            key = (item.sample.id, item.sample.variant)
            hardened[key] = hardened_sample(item.sample, name, question, options, options.index(item.answer))
    return hardened


def hardened_sample(sample: Sample, block: str, question: str, options: Sequence[str], answer_index: int) -> Sample:
    """The question of a block about the images of `sample`, whose own question is kept in `extra`."""
    assert sample.answer_index is not None, "only questions with one right option are hardened"
    original = {
        BLOCK: block,
        "original_id": sample.id,
        "original_question": sample.question,
        "original_options": json.dumps(list(sample.options)),
        "original_answer": sample.options[sample.answer_index],
    }
    return replace(
        sample,
        id=sample_id(sample.source, [sample.id], question, options),
        question=question,
        options=tuple(options),
        answer_index=answer_index,
        answer_type="choice",
        answers=(),
        rationale=None,
        extra={**sample.extra, **original},
    )


def controlled(train: Sequence[Sample], samples: Sequence[Sample], seed: int = 0) -> list[Sample]:
    """The original questions that no blind rule fitted on `train` answers for certain.

    A caveat belongs to every number on this subset: it was chosen by the rules' mistakes, so they score below chance on
    it by construction, and a blind guesser who avoids their answers scores above. It shows where shortcuts end, not
    how well a model sees; for that take the hardened questions.
    """
    asked = [s for s in samples if s.answer_index is not None and len(s.options) > 1]
    scores = blind_hits(train, asked, seed)
    return [s for i, s in enumerate(asked) if all(scores[rule][i] < 1 for rule in SOLVING_RULES)]


def blind_scores(
    train: QuestionSet, questions: QuestionSet, hardened: HardQuestions, *, size: int, seed: int
) -> dict[str, dict[str, float | None]]:
    """Accuracy (0..1) of every blind rule and chance, on the originals and on the hardened questions.

    The hardened ones twice: with the rules fitted on the original training questions, and on those hardened alike.
    """
    asked = [s for s in questions.samples if s.answer_index is not None and len(s.options) > 1]
    hard, hard_train = (list(h.samples.values()) for h in (hardened, harden_questions(train, size=size, seed=seed)))
    pairs = {
        "original": (train.samples, asked),
        "hardened": (train.samples, hard),
        "hardened_fitted_on_hardened": (hard_train, hard),
    }
    return {name: _accuracies(fit, test, seed) for name, (fit, test) in pairs.items()}


def _accuracies(train: Sequence[Sample], test: Sequence[Sample], seed: int) -> dict[str, float | None]:
    if not test:
        return {}
    scores = {name: float(values.mean()) for name, values in blind_hits(train, test, seed).items()}
    return {"chance": chance(test), **scores}


def summarise(questions: QuestionSet, hardened: HardQuestions) -> Hardened:
    """How many questions were kept, as what, and why the others fell out."""
    n, kept = len(questions.samples), list(hardened.samples.values())
    total = Counter(sample.source for sample in questions.samples)
    by_source = Counter(sample.source for sample in kept)
    blocks = Counter(len(members) for members in _blocks(hardened).values())
    return Hardened(
        n=n,
        kept=len(kept),
        kept_share=len(kept) / n,
        left_out=dict(Counter(hardened.left_out.values()).most_common()),
        blocks_by_size={str(size): count for size, count in sorted(blocks.items())},
        chance=chance(kept),
        by_source={name: KeptOf(n=total[name], kept=by_source[name]) for name in sorted(total)},
        data_hash=data_hash(kept),
    )


def _blocks(hardened: HardQuestions) -> dict[str, list[Sample]]:
    blocks: dict[str, list[Sample]] = defaultdict(list)
    for sample in hardened.samples.values():
        blocks[sample.extra[BLOCK]].append(sample)
    return blocks


def _with_images(data: Path, questions: QuestionSet, chosen: Mapping[Key, Sample]) -> Iterator[Sample]:
    for sample in samples_with_images(data, questions):
        key = (sample.id, sample.variant)
        if key in chosen:
            yield replace(chosen[key], images=sample.images)


def _write_sheet(path: Path, hardened: HardQuestions, seed: int) -> None:
    """Blocks drawn at random, one question a row, with empty columns for a person's verdict."""
    blocks = _blocks(hardened)
    drawn = random.Random(seed).sample(sorted(blocks), min(SHEET_BLOCKS, len(blocks)))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(SHEET_COLUMNS)
        for name in drawn:
            for sample in blocks[name]:
                options = " | ".join(f"{LETTERS[i]}) {text}" for i, text in enumerate(sample.options))
                original = " | ".join(json.loads(sample.extra["original_options"]))
                writer.writerow(map(cell, [
                    name, sample.source, " ".join(image_names(sample)), sample.question, options, sample.gold or "",
                    sample.extra["original_question"], original, sample.extra["original_answer"], "", "",
                ]))  # fmt: skip
