"""What predictions amount to: right or not, by question, and under every published way to read them."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from medr1.answers import GUESSING, PROTOCOLS, Protocol, applies, is_refusal, parse_answer
from medr1.prompts import PROMPTS
from medr1.results.answered import ReadingSpread
from medr1.results.evaluated import ProtocolScore
from medr1.stats import guess, proportion
from medr1.types import Estimate, Failure, ParseStatus, Prediction, Sample
from medr1.variants.variant import group_of as group_of

Key = tuple[str, str]
"""Identity of a question as asked: id and variant."""


Question = tuple[str, int]
"""Identity of a question over its variants: id and draw."""


def key_of(record: Sample | Prediction | Failure) -> Key:
    """Identity of a question as asked, the same for a sample and its predictions and failures."""
    return record.id, record.variant


def question_of(prediction: Prediction) -> Question:
    """What a prediction shares with those of the question's variants."""
    return prediction.id, prediction.draw


def is_right(prediction: Prediction) -> bool:
    """Whether the answer is the gold letter; unreadable answers are not."""
    return prediction.answer is not None and prediction.answer == prediction.gold


def draws_of(predictions: Iterable[Prediction]) -> list[list[Prediction]]:
    """The draws of each question, in order of draw; questions in the order they come."""
    questions: dict[Key, list[Prediction]] = defaultdict(list)
    for prediction in predictions:
        questions[key_of(prediction)].append(prediction)
    return [sorted(draws, key=lambda p: p.draw) for draws in questions.values()]


def accuracy_of(predictions: Sequence[Prediction]) -> Estimate:
    """Share of right answers; questions about one image are taken together."""
    return proportion([is_right(p) for p in predictions], [group_of(p) for p in predictions])


def parse_counts(predictions: Iterable[Prediction]) -> dict[str, int]:
    """How many completions were read how, by status."""
    return dict(sorted(Counter(p.parse_status for p in predictions).items()))


Progress = Callable[[int, int], None]
"""Called with the number of protocols done and of all."""


def protocol_for(name: str, prompt_style: str) -> Protocol:
    """The protocol of that name; the default one reads what the prompt asked for.

    Of a prompt that is not ours nobody knows what it asked for: there, an answer without tags is one too.
    """
    if name != "default":
        return PROTOCOLS[name]
    answer_format = PROMPTS[prompt_style].answer_format if prompt_style in PROMPTS else "letter"
    return partial(parse_answer, answer_format=answer_format)


def score_protocols(
    predictions: Sequence[Prediction], by_key: Mapping[Key, Sample], progress: Progress = lambda done, total: None
) -> dict[str, ProtocolScore]:
    """The scores under every protocol that is made for some of the questions, by its name.

    `unreadable`, `refused` and `refused_but_read` are shares of the completions: not read by this protocol; not read
    and a refusal; a refusal (by our own reading) that this protocol reads as an option. `with_guesses` is the accuracy
    to expect where the kit guesses instead of giving up.
    """
    refused = [_refuses(p, by_key[key_of(p)]) for p in predictions]
    scored = {}
    for done, name in enumerate(PROTOCOLS, start=1):
        chosen = [(p, by_key[key_of(p)], r) for p, r in zip(predictions, refused, strict=True)]
        chosen = [row for row in chosen if applies(name, row[1])]
        if chosen:
            scored[name] = _score(name, chosen)
        progress(done, len(PROTOCOLS))
    return scored


def spread(protocols: Mapping[str, ProtocolScore]) -> ReadingSpread:
    """The protocols that give the same completions the least and the most, and how far they are apart."""
    # Those for yes and no may have fewer questions: the others are about the same ones.
    most = max(scores.n or 0 for scores in protocols.values())
    accuracies = {name: scores.accuracy.value for name, scores in protocols.items() if scores.n == most}
    lowest, highest = min(accuracies, key=accuracies.__getitem__), max(accuracies, key=accuracies.__getitem__)
    return ReadingSpread(lowest=lowest, highest=highest, difference=accuracies[highest] - accuracies[lowest])


def _score(name: str, rows: Sequence[tuple[Prediction, Sample, bool]]) -> ProtocolScore:
    read = [protocol_for(name, p.prompt_style)(p.completion, sample) for p, sample, _ in rows]
    hits = [parsed.letter == p.gold for parsed, (p, _, _) in zip(read, rows, strict=True)]
    is_read = [parsed.status is ParseStatus.OK for parsed in read]
    refused = [refuses for _, _, refuses in rows]
    guessed = sum(guess(s.options) for parsed, (_, s, _) in zip(read, rows, strict=True) if parsed.letter is None)
    return ProtocolScore(
        n=len(rows),
        accuracy=proportion(hits, [group_of(p) for p, _, _ in rows]),
        unreadable=is_read.count(False) / len(rows),
        refused=sum(r and not ok for r, ok in zip(refused, is_read, strict=True)) / len(rows),
        refused_but_read=sum(r and ok for r, ok in zip(refused, is_read, strict=True)) / len(rows),
        with_guesses=(sum(hits) + guessed) / len(rows) if name in GUESSING else None,
    )


def _refuses(prediction: Prediction, sample: Sample) -> bool:
    """Whether it refuses; what names an option is no refusal, whatever words that option has."""
    read = protocol_for("default", prediction.prompt_style)(prediction.completion, sample)
    return read.status is not ParseStatus.OK and is_refusal(prediction.completion)
