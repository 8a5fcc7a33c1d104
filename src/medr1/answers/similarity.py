"""The option most similar to a text, by `difflib` as several kits use it."""

from collections.abc import Sequence
from difflib import SequenceMatcher


def most_similar(candidates: Sequence[str], text: str) -> int | None:
    """Position of the candidate with the highest `SequenceMatcher(None, candidate, text).ratio()`.

    The first of equal ones; None where no candidate shares a character. Where it errs: the longest option attracts
    whatever is no answer (refusals, prose), and in texts of 200 characters or more difflib ignores every character
    that makes up more than 1 % of them.
    """
    matcher: SequenceMatcher[str] = SequenceMatcher(None, "", text)
    best, best_ratio = None, 0.0
    for position, candidate in enumerate(candidates):
        matcher.set_seq1(candidate)
        # The two bounds are never below the ratio and much cheaper: only what may win is computed.
        if matcher.real_quick_ratio() > best_ratio and matcher.quick_ratio() > best_ratio:
            ratio = matcher.ratio()
            if ratio > best_ratio:
                best, best_ratio = position, ratio
    return best
