"""Random numbers by name: a seed and what is drawn, the same in every process, batch and order.

What is drawn once for a whole command follows its seed alone and needs no name.
"""

import hashlib
import random

import numpy as np


def stream_bytes(*name: object) -> bytes:
    """The 32 bytes from which a stream begins, for what takes a seed of its own kind."""
    return hashlib.sha256("/".join(map(str, name)).encode()).digest()


def stream(*name: object) -> np.random.Generator:
    """The numbers of that name.

    >>> stream(0, "pgd", "id").random() == stream(0, "pgd", "id").random() != stream(1, "pgd", "id").random()
    True
    """
    return np.random.Generator(np.random.Philox(key=int.from_bytes(stream_bytes(*name)[:16], "little")))


def choices(*name: object) -> random.Random:
    """The same for choices among samples, options and wordings: Python's own, whose stored results must not move."""
    return random.Random(":".join(map(str, name)))


def numbered(*name: int) -> np.random.Generator:
    """A stream whose name is whole numbers, such as seed, epoch and row: NumPy's own, as stored trainings have it."""
    return np.random.default_rng(name)
