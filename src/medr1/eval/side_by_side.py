"""Several runs on the questions that all of them answered: pairwise tests as one family, ranks with ties, gains.

The first run is the reference. Runs whose accuracies do not mean the same (read by another protocol, other data,
another image back end) are refused unless the caller says that this is what to compare across.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from pydantic import JsonValue

from medr1.diagnosis import void
from medr1.errors import ConfigError, DataError
from medr1.eval.compare import compare, decompose, split_gain
from medr1.eval.measures import accuracy_of, group_of, is_right
from medr1.eval.pairs import originals
from medr1.eval.receipts import receipt_verdicts
from medr1.eval.runner import line_of, read_predictions
from medr1.eval.scoring import MIN_GROUPS, answers_of
from medr1.records import check_finished, read_json, read_record, short_hash
from medr1.results import Scored
from medr1.results.compared import (
    BlindTwin,
    Compared,
    ComparedPart,
    Comparison,
    Disputed,
    NamedPair,
    RankedRun,
    RunScore,
    TestedDifference,
    TwinLead,
)
from medr1.runs import Run
from medr1.stats import chance, holm, rank_ranges
from medr1.types import Prediction

FILE = "compare.json"
COMPARABLE: dict[str, tuple[str, ...]] = {
    "protocol": ("protocol",),
    "data": ("data_hash",),
    "backend": ("engine", "image_backend"),
}
"""What runs must share, and where the arguments of their manifests say it."""

AXES: dict[str, Callable[[Prediction], str]] = {
    "modality": lambda p: p.modality,
    "task": lambda p: p.task,
    "source": lambda p: p.source,
    "num_options": lambda p: str(len(p.options)),
}
"""Ways to part the questions, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvaluation:
    """A stored evaluation."""

    name: str
    """What tells it from the others: the end of its path."""
    arguments: Mapping[str, JsonValue]
    """Those of its manifest."""
    predictions: Sequence[Prediction]


def compare_runs(
    folders: Sequence[Path],
    *,
    out: Path | None = None,
    blind_twin: Path | None = None,
    across: Sequence[str] = (),
    axes: Sequence[str] = ("modality", "task"),
    overwrite: bool = False,
) -> Compared:
    """Compare the runs in these folders (see `side_by_side`); with `out`, write the result into its `compare.json`.

    Called again, that changes nothing; other runs or other answers in them are refused unless `overwrite`.
    """
    opened = open_runs([*folders, *([blind_twin] if blind_twin else [])])
    runs, twin = opened[: len(folders)], opened[-1] if blind_twin else None

    def compared() -> Compared:
        return side_by_side(runs, blind_twin=twin, across=across, axes=axes)

    if out is None:
        return compared()
    asked = {"across": sorted(across), "by": list(axes)}
    with Run(
        out,
        command="compare",
        arguments={"runs": list(folders), "blind_twin": blind_twin, **asked},
        identity={
            "runs": [run.name for run in runs],
            "blind_twin": twin.name if twin else None,
            **asked,
            "answers": {run.name: _content(run) for run in opened},
        },
        seed=None,
        owns=(FILE,),
        overwrite=overwrite,
    ) as folder:
        if folder.done and folder.has(FILE):
            return read_record(out / FILE, Compared)
        result = compared()
        folder.start()
        folder.write_json(FILE, result)
        folder.reach("done")
    return result


def _content(run: StoredEvaluation) -> str:
    return short_hash([run.arguments, [line_of(prediction) for prediction in run.predictions]])


def open_runs(folders: Sequence[Path]) -> list[StoredEvaluation]:
    """The runs in these folders.

    Raises `DataError` for what is no run or not finished, `ConfigError` for a folder named twice.
    """
    names = _short_names(folders)
    runs = []
    for name, folder in zip(names, folders, strict=True):
        check_finished(folder)
        predictions = read_predictions(folder)
        if not predictions:
            raise DataError(f"{folder} holds no predictions.jsonl with answers; name a folder that `medr1 eval` wrote")
        arguments = read_json(folder / "manifest.json").get("arguments", {})
        runs.append(StoredEvaluation(name=name, arguments=arguments, predictions=predictions))
    return runs


def side_by_side(
    runs: Sequence[StoredEvaluation],
    *,
    blind_twin: StoredEvaluation | None = None,
    across: Collection[str] = (),
    axes: Sequence[str] = ("modality", "task"),
) -> Compared:
    """What `compare.json` holds: the runs, their pairs, the parts of the questions, and those on which they differ.

    Holm's adjustment is over all pairs of runs, over the runs against the blind twin, and over all parts of one axis.
    Raises `ConfigError` where runs differ in what `across` does not name, `DataError` where they share no question.
    """
    everyone = [*runs, *([blind_twin] if blind_twin else [])]
    _check_names(across, COMPARABLE, "--across")
    _check_names(axes, AXES, "--by")
    _check_comparable(everyone, across)
    answers = dict(zip((run.name for run in everyone), _common(everyone), strict=True))
    twin = answers.pop(blind_twin.name) if blind_twin else None
    base, *others = answers
    pairs = _pairs(answers)
    scores = {name: _summary(given) for name, given in answers.items()}
    ranks = rank_ranges(
        {name: score.accuracy.value for name, score in scores.items()},
        {(pair.base, pair.other): pair.p_holm for pair in pairs},
    )
    return Compared(
        n=pairs[0].n if pairs else len(originals(answers[base])),
        left_out={run.name: len(originals(run.predictions)) - len(originals(answers[base])) for run in runs},
        differing_arguments=_differing(everyone),
        runs={name: score.extended(RankedRun, rank=ranks[name]) for name, score in scores.items()},
        pairs=pairs,
        blind_twin=_against_twin(answers, twin, blind_twin.name) if blind_twin and twin else None,
        gain={name: split_gain(answers[base], answers[name], twin) for name in others},
        steps={name: decompose(answers[base], answers[name]) for name in others},
        by={axis: _by(answers, AXES[axis]) for axis in axes},
        flipped=_disputed(answers),
    )


def _short_names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    if len(set(parts)) < len(parts):
        raise ConfigError("one run is named twice; name different folders")
    length = next(k for k in range(1, max(map(len, parts)) + 1) if len({p[-k:] for p in parts}) == len(parts))
    return ["/".join(p[-length:]) for p in parts]


def _check_names(names: Collection[str], known: Collection[str], option: str) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"{option} does not know {unknown[0]!r}; choose among {', '.join(known)}")


def _check_comparable(runs: Sequence[StoredEvaluation], across: Collection[str]) -> None:
    for name, path in COMPARABLE.items():
        values = [_argument(run, path) for run in runs]
        if name not in across and any(value != values[0] for value in values):
            told = "; ".join(f"{run.name}: {value}" for run, value in zip(runs, values, strict=True))
            raise ConfigError(f"the runs differ in {name} ({told}); add --across {name} to compare them all the same")


def _argument(run: StoredEvaluation, path: Sequence[str]) -> JsonValue:
    value: JsonValue = dict(run.arguments)
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _common(runs: Sequence[StoredEvaluation]) -> list[list[Prediction]]:
    """Every run's predictions for the questions (and draws) whose original images all runs answered, in one order."""
    keys = [{(p.id, p.draw): (p.options, p.gold) for p in originals(run.predictions)} for run in runs]
    shared = set.intersection(*map(set, keys))
    if not shared:
        raise DataError("the runs have no question in common; compare runs on the same data")
    for run, asked in zip(runs, keys, strict=True):
        changed = next((key for key in sorted(shared) if asked[key] != keys[0][key]), None)
        if changed is not None:
            raise DataError(
                f"question {changed[0]} has other options or another right one in {run.name} than in {runs[0].name}; "
                "evaluate both on the same data"
            )
    return [
        sorted((p for p in run.predictions if (p.id, p.draw) in shared), key=lambda p: (p.id, p.draw)) for run in runs
    ]


def _scored(predictions: Sequence[Prediction]) -> Scored:
    return Scored(n=len(predictions), accuracy=accuracy_of(predictions))


def _summary(predictions: Sequence[Prediction]) -> RunScore:
    asked = originals(predictions)
    variants = sorted({p.variant for p in predictions} - {""})
    return _scored(asked).extended(
        RunScore,
        void=void(answers_of(asked), receipts=receipt_verdicts(asked)),
        unreadable=sum(p.answer is None for p in asked) / len(asked),
        prompt=", ".join(sorted({p.prompt_style for p in asked})),
        chance=chance(asked),
        controls={variant: _scored([p for p in predictions if p.variant == variant]) for variant in variants},
    )


def _adjusted(found: Sequence[Comparison]) -> list[float]:
    return holm([one.p for one in found])


def _pairs(answers: Mapping[str, Sequence[Prediction]]) -> list[NamedPair]:
    """`compare` of every pair; `base` and `other` are names here, the accuracies stand with the runs."""
    names = list(combinations(answers, 2))
    found = [compare(answers[first], answers[second]) for first, second in names]
    return [
        one.extended(NamedPair, base=first, other=second, p_holm=p)
        for one, (first, second), p in zip(found, names, _adjusted(found), strict=True)
    ]


def _against_twin(answers: Mapping[str, Sequence[Prediction]], twin: Sequence[Prediction], name: str) -> BlindTwin:
    found = [compare(twin, given) for given in answers.values()]
    leads = [
        TwinLead(difference=one.difference, p=one.p, p_holm=p) for one, p in zip(found, _adjusted(found), strict=True)
    ]
    return _summary(twin).extended(BlindTwin, name=name, runs=dict(zip(answers, leads, strict=True)))


def _by(answers: Mapping[str, Sequence[Prediction]], part_of: Callable[[Prediction], str]) -> dict[str, ComparedPart]:
    """The runs on every part of the questions; small parts are counted only."""
    base, *others = answers
    asked = originals(answers[base])
    parts = {
        part: {name: [p for p in originals(given) if part_of(p) == part] for name, given in answers.items()}
        for part in sorted(set(map(part_of, asked)))
    }
    sizes = {part: len({group_of(p) for p in inside[base]}) for part, inside in parts.items()}
    large = [part for part in parts if sizes[part] >= MIN_GROUPS]
    names = [(part, name) for part in large for name in others]
    found = [compare(parts[part][base], parts[part][name]) for part, name in names]
    tested = {
        names_of: one.difference.extended(TestedDifference, p=one.p, p_holm=p)
        for names_of, one, p in zip(names, found, _adjusted(found), strict=True)
    }
    return {
        part: ComparedPart(
            n=len(inside[base]),
            n_groups=sizes[part],
            runs={name: _scored(given) for name, given in inside.items()} if part in large else {},
            differences={name: tested[part, name] for name in others if part in large},
        )
        for part, inside in parts.items()
    }


def _disputed(answers: Mapping[str, Sequence[Prediction]]) -> list[Disputed]:
    """The questions that some runs got right and others not, with every run's answer."""
    rows = zip(*map(originals, answers.values()), strict=True)
    return [
        Disputed(
            id=given[0].id,
            draw=given[0].draw,
            modality=given[0].modality,
            task=given[0].task,
            gold=given[0].gold,
            answers={name: p.answer for name, p in zip(answers, given, strict=True)},
        )
        for given in rows
        if len({is_right(p) for p in given}) > 1
    ]


def _differing(runs: Sequence[StoredEvaluation]) -> dict[str, dict[str, JsonValue]]:
    """Arguments of the manifests in which the runs are not all alike; how fast they ran makes no difference."""
    names = dict.fromkeys(name for run in runs for name in run.arguments if name != "settings")
    found = {name: {run.name: run.arguments.get(name) for run in runs} for name in names}
    return {name: values for name, values in found.items() if len({repr(v) for v in values.values()}) > 1}
