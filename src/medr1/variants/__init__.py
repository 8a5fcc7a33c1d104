"""Everything that can be done to a question, each under one name: medr1 eval --variants, corrupt, training images.

blank, noise, no_image, low_resolution, shuffled, other_modality, swapped, rotated1 …, none_of_the_above
                     controls.py: the evidence taken away, options moved or replaced
jpeg/3 …             corruptions/: what befalls pictures of a modality, with its severity
degraded:noise, degraded:corruption
                     corruptions/: pictures as robust training shows them
thinking:empty …     thinking.py: another thinking in the model's mouth, the answer generated anew
"""

from collections.abc import Iterable, Sequence

from medr1.errors import ConfigError
from medr1.types import Prediction, Sample
from medr1.variants.controls import CONTROLS, ROTATIONS
from medr1.variants.corruptions import CORRUPTIONS, SEVERITIES, corruption_variants
from medr1.variants.thinking import THINKING
from medr1.variants.variant import Variant

VARIANTS: dict[str, Variant] = {variant.name: variant for variant in (*CONTROLS, *corruption_variants(), *THINKING)}
ALL_ROTATIONS = "rotated"
"""Stands for those of `ROTATIONS` that the samples have options for."""


def check_draws(names: Iterable[str], num_draws: int) -> None:
    """Raise `ConfigError` where a variant is made of one answer to every question, and several are drawn."""
    if num_draws > 1 and (of_answers := [name for name in names if name in VARIANTS and VARIANTS[name].reads_answers]):
        raise ConfigError(
            f"{of_answers[0]} is made of one answer to every question, and {num_draws} are drawn; draw one, or leave "
            "out the thinking"
        )


def prepare_all(
    names: Iterable[str], samples: Sequence[Sample], seed: int, answers: Sequence[Prediction] = ()
) -> dict[str, list[Sample]]:
    """The prepared samples of every variant, by name."""
    return {name: VARIANTS[name].prepare(samples, seed, answers) for name in names}


def variant_names(names: Sequence[str], samples: Sequence[Sample]) -> list[str]:
    """The names, each once, with `rotated` replaced by every rotation that some sample has options for.

    Raises `ConfigError` for a name that is none.
    """
    most_options = max((len(sample.options) for sample in samples), default=0)
    rotations = [name for name, shift in ROTATIONS.items() if shift < most_options]
    found = list(dict.fromkeys(n for name in names for n in (rotations if name == ALL_ROTATIONS else [name])))
    if unknown := [name for name in found if name not in VARIANTS]:
        listed = [name for name in VARIANTS if "/" not in name and name not in ROTATIONS]
        raise ConfigError(
            f"there is no variant {unknown[0]!r}; choose one of {', '.join([*listed, ALL_ROTATIONS])}, or a corruption "
            f"with its severity ({SEVERITIES[0]} to {SEVERITIES[-1]}) as in jpeg/3: {', '.join(CORRUPTIONS)}"
        )
    return found
