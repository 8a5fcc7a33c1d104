"""Word lists that a physician can read and correct: tab-separated tables, one fact a line, no code."""

import csv
from importlib.resources import files


def word_rows(name: str) -> list[dict[str, str]]:
    """The lines of `NAME.tsv` by the columns of its first line; lines that begin with # are remarks."""
    lines = files(__package__).joinpath(f"{name}.tsv").read_text("utf-8").splitlines()
    return list(csv.DictReader((line for line in lines if not line.startswith("#")), delimiter="\t", strict=True))
