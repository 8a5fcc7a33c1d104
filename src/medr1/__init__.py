"""Train, evaluate and stress-test vision-language models that reason about medical images."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medr1.results.answered import Asked

__version__ = "0.1.0"
__all__ = ["ask"]


def ask(images: str | Path | Sequence[str | Path], question: str, **settings: Any) -> "Asked":
    """Ask a model one question about one picture or several; nothing is written.

    Args:
        images: a file, or files.
        question: in words.
        settings: options, model, endpoint and the other fields of `medr1.flows.settings.AskSettings`.

    Raises:
        MedR1Error: a setting, a picture or a model cannot be used; the message says why.
    """
    # By name: every layer imports this package, and that flow imports nearly all of them.
    flow = import_module("medr1.flows.ask")
    files = (images,) if isinstance(images, str | Path) else tuple(images)
    return flow.ask(flow.AskSettings(images=files, question=question, **settings))
