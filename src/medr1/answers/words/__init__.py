"""Word lists that a physician can read and correct: tab-separated tables, one fact a line, no code."""

import csv
from importlib.resources import files


def word_rows(name: str, package: str = __name__) -> list[dict[str, str]]:
    """The lines of a package's `NAME.tsv` by the columns of its first line; lines that begin with # are remarks."""
    lines = (files(package) / f"{name}.tsv").read_text("utf-8").splitlines()
    return list(csv.DictReader((line for line in lines if not line.startswith("#")), delimiter="\t", strict=True))


def words_of(name: str, **wanted: str) -> list[str]:
    """The column `words` of the rows that have these values in the others, longest first."""
    found = [row["words"] for row in word_rows(name) if all(row[column] == value for column, value in wanted.items())]
    return sorted(found, key=len, reverse=True)
