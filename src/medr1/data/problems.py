"""The two ways in which the field writes a question and its options into one text.

Both are read by one sequential rule: the question ends at the first marker of A, option A ends at the first marker of B
after that, and so on; the last option is the rest. Option texts contain `(MRI)`, commas and letters, so no pattern over
single letters is right, while this rule writes every published record back exactly.
"""

from collections.abc import Callable, Sequence

from medr1.errors import DataError
from medr1.types import LETTERS

Marker = Callable[[int], str]


def _inline_marker(index: int) -> str:
    return f" {LETTERS[index]})" if index == 0 else f", {LETTERS[index]})"


def _lines_marker(index: int) -> str:
    return f"\n{LETTERS[index]}) "


def parse_inline_problem(problem: str) -> tuple[str, tuple[str, ...]]:
    """Question and options of Med-R1's form; `DataError` without a question or with fewer than two options.

    >>> parse_inline_problem("Which technique? A)CT, B)Magnetic resonance (MRI), C)X-ray")
    ('Which technique?', ('CT', 'Magnetic resonance (MRI)', 'X-ray'))
    """
    return _parse(problem, _inline_marker)


def format_inline_problem(question: str, options: Sequence[str]) -> str:
    """Inverse of `parse_inline_problem`; `DataError` for texts that would be read back differently."""
    return _format(question, options, _inline_marker)


def parse_lines_problem(problem: str) -> tuple[str, tuple[str, ...]]:
    r"""Question and options of MedVLM-R1's form; `DataError` without a question or with fewer than two options.

    >>> parse_lines_problem("Is there an abnormality?\nA) No\nB) Yes.")
    ('Is there an abnormality?', ('No', 'Yes.'))
    """
    return _parse(problem, _lines_marker)


def format_lines_problem(question: str, options: Sequence[str]) -> str:
    """Inverse of `parse_lines_problem`; `DataError` for texts that would be read back differently."""
    return _format(question, options, _lines_marker)


def _parse(problem: str, marker: Marker) -> tuple[str, tuple[str, ...]]:
    pieces: list[str] = []
    rest = problem
    for index in range(len(LETTERS)):
        piece, found, after = rest.partition(marker(index))
        if not found:
            break
        pieces.append(piece)
        rest = after
    pieces.append(rest)
    question, *options = pieces
    if len(options) < 2:
        raise DataError(f"the problem {problem[:80]!r} has no options; write them as {marker(0)!r}, {marker(1)!r}, …")
    return question, tuple(options)


def _format(question: str, options: Sequence[str], marker: Marker) -> str:
    if not 2 <= len(options) <= len(LETTERS):
        raise DataError(f"the question {question[:80]!r} has {len(options)} options; give it 2 to {len(LETTERS)}")
    problem = question + "".join(marker(index) + option for index, option in enumerate(options))
    if _parse(problem, marker) != (question, tuple(options)):
        raise DataError(
            f"the problem {problem[:80]!r} has an option marker inside a text; use a form with options apart"
        )
    return problem
