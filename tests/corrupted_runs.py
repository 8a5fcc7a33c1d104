"""Small data and its corruption, for tests that end it; importable in forks without PyTorch."""

from pathlib import Path

from medr1.data.phantom import phantom
from medr1.data.settings import CorruptSettings
from medr1.records import write_samples
from medr1.variants.corruptions.write import Corrupted, write_corrupted

PICTURES = 6
"""Three samples in two severities."""


def make_data(folder: Path) -> Path:
    """Three phantoms."""
    write_samples(folder, [phantom("test", index, side=56).sample for index in range(3)])
    return folder


def corrupted(data: Path, out: Path, *, processes: int = 1, severities: tuple[int, ...] = (1, 5)) -> Corrupted:
    """Corrupt them in one way."""
    return write_corrupted(
        CorruptSettings(data=data, out=out, corruptions=("jpeg",), severities=severities, processes=processes)
    )
