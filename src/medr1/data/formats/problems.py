"""Questions and options in one text: the two ways of the seed systems, which are written too, and those of others.

The two are read by one sequential rule: the question ends at the first marker of A, option A ends at the first marker
of B after that, and so on; the last option is the rest. Option texts contain `(MRI)`, commas and letters, so no pattern
over single letters is right, while this rule writes every published record back exactly.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache

from medr1.answers.wording import word_rows
from medr1.data.options import gold_index
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
    if len(options) == len(LETTERS) and marker(0).replace("A", "AA").lstrip() in options[-1]:
        raise DataError(f"the problem {problem[:80]!r} has more than {len(LETTERS)} options; leave some out")
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


# --- Other ways -----------------------------------------------------------------------------------------------------

_LINE = re.compile(r"[ \t]*[(\[（【]?([A-Z])[ \t]?[).:\]、．。：）】][ \t]*(\S.*?)[ \t]*")
_WITHIN = r"(?:^|(?<=[\s,;]))[(\[]?{}[).:\]][ \t]*"


def choice_in_text(problem: str, answer: str) -> tuple[str, tuple[str, ...], int, str] | None:
    """Question, options, position of the right one and what is said behind the options; None for an open question.

    Options are read in the forms of the seed systems, as lines that begin with "A.", "(A)" and the like, or, where the
    answer is one of them, all in one line ("A. CT B. MRI"). `DataError` for options that the answer does not name, and
    for words behind them that are no instruction, since they may belong to the last option.
    """
    listed = _in_lines(problem)
    if listed is None:
        try:
            question, options = parse_inline_problem(problem)
            listed = question, options, ""
        except DataError:
            return _within(problem, answer)
    question, options, behind = listed
    if is_instruction(options[-1]) and not behind:
        raise DataError(f"the last option is {options[-1][:80]!r}; write what it asks for before the options")
    if behind and not is_instruction(behind):
        raise DataError(f"behind the options is {behind[:80]!r}; write it before them, or into the last one")
    return question, options, gold_index(answer, options), behind


def _in_lines(problem: str) -> tuple[str, tuple[str, ...], str] | None:
    """The last list of lines "A. …", "B. …" of a text; lines between two of them belong to the upper one."""
    lines = problem.strip().split("\n")
    found = [_LINE.fullmatch(line.rstrip("\r")) for line in lines]
    starts = [number for number, match in enumerate(found) if match and match[1] == "A"]
    if not starts or starts[-1] == 0:
        return None
    options: list[str] = []
    behind: list[str] = []
    for line, match in zip(lines[starts[-1] :], found[starts[-1] :], strict=True):
        if match and len(options) < len(LETTERS) and match[1] == LETTERS[len(options)]:
            options += ["\n".join([options.pop(), *behind]).strip()] if options else []
            options.append(match[2])
            behind = []
        else:
            behind.append(line)
    question = "\n".join(lines[: starts[-1]]).strip()
    return (question, tuple(options), "\n".join(behind).strip()) if len(options) > 1 and question else None


def _within(problem: str, answer: str) -> tuple[str, tuple[str, ...], int, str] | None:
    """The same of options in one line, where the answer is one of them."""
    pieces, rest = [], problem.strip()
    for letter in LETTERS:
        found = re.search(_WITHIN.format(letter), rest)
        if found is None:
            break
        pieces.append(rest[: found.start()].strip(" ,;\n\r\t"))
        rest = rest[found.end() :]
    question, *options = [*pieces, rest.strip()]
    if len(options) < 2 or not question.strip() or not all(options) or is_instruction(options[-1]):
        return None
    try:
        return question.strip(), tuple(options), gold_index(answer, options), ""
    except DataError:
        return None


def is_instruction(words: str) -> bool:
    """Whether a text says how to answer, in the words of `words/instructions.tsv`."""
    folded = " ".join(words.casefold().split())
    return any(known in folded for known in _instructions())


@cache
def _instructions() -> tuple[str, ...]:
    return tuple(row["words"] for row in word_rows("instructions", "medr1.data"))
