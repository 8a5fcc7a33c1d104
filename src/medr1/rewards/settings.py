"""What `medr1 rewards fuzz` is asked for."""

from pathlib import Path
from typing import Annotated

from medr1.settings import POSITIONAL, Settings


class FuzzSettings(Settings):
    """Which rewards are tried, and how."""

    rewards: Annotated[tuple[str, ...], POSITIONAL] = ()
    """Rewards by name, or file.py:function in the signature of TRL or ours. The file is run, with all that it does:
    name only files that you trust. Without any: every reward of medr1."""
    out: Path | None = None
    """Folder for fuzz.json, with whole example texts."""
    time: bool = True
    """Look for completions that take a reward too long as well."""
    strict: bool = False
    """End with exit code 1 where anything is found."""
    overwrite: bool = False
    """Start anew where the folder holds a run."""
