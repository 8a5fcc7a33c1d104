"""What a text names: whole words, not denied shortly before."""

import re
from collections.abc import Sequence

from medr1.data.shortcuts import normalise

DENIAL_REACH = 4
"""Words before a name among which a denial counts."""
DENIALS = (
    "no not nor neither never without isn aren wasn weren doesn don didn cannot exclude excludes excluded excluding "
    "unlike unlikely than instead against absent"
)
"""Words that deny what follows; normalised text writes "isn't" as "isn t".

Wider than the denials of `medr1.answers.conclusion`, which decides a reward: there only what stands right before a name
counts.
"""

_BREAK = re.compile(r"[,;:.!?\n]+")


def clauses(text: str) -> str:
    """Normalised text with a bar after its clauses: a denial ends with its clause.

    >>> clauses("Not the lung, it is the Liver.")
    'not the lung | it is the liver |'
    """
    *ended, last = map(normalise, _BREAK.split(text))
    return " ".join([*(f"{clause} |" for clause in ended if clause), last]).strip()


def denied(before: str) -> bool:
    """Whether a text of `clauses` ends with a denial: "not the", "no sign of", "rather than"."""
    clause = re.split(r"\||\bbut\b", before)[-1]
    return not set(DENIALS.split()).isdisjoint(clause.split()[-DENIAL_REACH:])


def mentioned(text: str, names: Sequence[str]) -> set[int]:
    """Positions of the normalised names that a text has as whole words and does not deny.

    Longer names go first, and what they cover does not count for shorter ones.

    >>> sorted(mentioned("I see no tumor but a cyst, not a stone", ["tumor", "no tumor", "cyst", "stone"]))
    [1, 2]
    """
    rest = clauses(text)
    found = set()
    for position in sorted(range(len(names)), key=lambda i: -len(names[i])):
        words = r"(?: \|)? ".join(map(re.escape, names[position].split()))
        matches = list(re.finditer(rf"(?<!\S){words}(?!\S)", rest)) if words else []
        if any(not denied(rest[: match.start()]) for match in matches):
            found.add(position)
        for match in matches:
            rest = rest[: match.start()] + re.sub(r"\w", "_", match[0]) + rest[match.end() :]
    return found
