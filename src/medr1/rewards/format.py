"""Exactly the blocks that the prompt asked for, and nothing beside them."""

from collections.abc import Sequence

from medr1.answers.tags import TAG
from medr1.types import Sample, Score


def think_format(completion: str, sample: Sample) -> Score:
    """1 for one think block, then one answer block, both with text in them, and nothing else but white space.

    >>> sample = Sample(id="1", images=(), question="Which?", options=("CT", "MRI"), answer_index=1)
    >>> [think_format(text, sample).value for text in ("<think>r</think> <answer>B</answer>", "<answer>B</answer>")]
    [1.0, 0.0]
    """
    return format_score(consists_of_blocks(completion, ("think", "answer")))


def nothink_format(completion: str, sample: Sample) -> Score:
    """1 for one answer block with text in it and nothing else but white space."""
    return format_score(consists_of_blocks(completion, ("answer",)))


def format_score(holds: bool) -> Score:
    """All or nothing."""
    return Score(value=float(holds), breakdown={"format": float(holds)})


def consists_of_blocks(completion: str, names: Sequence[str]) -> bool:
    """Whether the text is these blocks in this order, none of them empty, and no other think or answer tag."""
    tags = list(TAG.finditer(completion))
    wanted = [tag for name in names for tag in (f"<{name}>", f"</{name}>")]
    if [tag[0] for tag in tags] != wanted:
        return False
    # The text before, between and behind the tags: inside a block at odd places, outside at even ones.
    edges = [0, *(edge for tag in tags for edge in tag.span()), len(completion)]
    pieces = [completion[start:end].strip() for start, end in zip(edges[::2], edges[1::2], strict=True)]
    return all(
        _shows_something(piece) if place % 2 else not piece  # outside, what cannot be seen is too much as well
        for place, piece in enumerate(pieces)
    )


def _shows_something(text: str) -> bool:
    """Whether a character can be seen: zero-width and control characters alone leave a block empty."""
    return any(character.isprintable() and not character.isspace() for character in text)
