"""What a checkpoint of ours remembers: the prompt that it was trained with, in a small file beside its weights.

A model that was taught one format is unreadable under another prompt, and its accuracy there says nothing.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from medr1.answers import AnswerFormat
from medr1.errors import ConfigError, DataError, ModelError
from medr1.prompts import PROMPTS, PromptTemplate
from medr1.records import read_json, short_hash, write_json

FILE = "medr1.json"
DEFAULT_PROMPT = "think"
"""What a checkpoint is asked with that remembers nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """`medr1.json` of a checkpoint."""

    prompt: str
    """Name in `PROMPTS`."""
    answer_format: AnswerFormat
    prompt_text: str
    """Hash of all that the template says, to know a prompt again whose words have changed."""


_MEMORY = TypeAdapter(Memory)


def remember(folder: Path, template: PromptTemplate) -> None:
    """Write down what a checkpoint was trained with, beside its weights."""
    memory = Memory(prompt=template.name, answer_format=template.answer_format, prompt_text=_words(template))
    write_json(folder / FILE, asdict(memory))


def recall(folder: Path) -> Memory | None:
    """What the checkpoint in a folder remembers; None of one that others trained. `ModelError` for a damaged file."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return _MEMORY.validate_python(read_json(path))
    except (DataError, ValidationError) as error:
        raise ModelError(f"{path} is damaged; copy the checkpoint again, or remove it and name --prompt") from error


def remembered_prompt(*folders: Path) -> tuple[str, str]:
    """The prompt that a checkpoint is to be asked with, and one sentence that says why.

    Args:
        folders: of the checkpoint; of an adapter, that of its base behind its own.

    Raises:
        ConfigError: it was trained with a prompt that this version does not know.
    """
    memory = next((found for folder in folders if (found := recall(folder)) is not None), None)
    if memory is None:
        return DEFAULT_PROMPT, f"the checkpoint remembers no prompt, so it is asked with {DEFAULT_PROMPT!r}"
    template = PROMPTS.get(memory.prompt)
    if template is None:
        raise ConfigError(
            f"{folders[0]} was trained with the prompt {memory.prompt!r}, which this version does not know; "
            f"name one with --prompt ({', '.join(PROMPTS)})"
        )
    said = f"asked with {memory.prompt!r}, the prompt that the checkpoint was trained with"
    if memory.prompt_text != _words(template):
        return memory.prompt, f"{said}; its words have changed since then"
    return memory.prompt, said


def _words(template: PromptTemplate) -> str:
    """Hash of what decides how a question is asked and answered."""
    said = asdict(template)
    return short_hash({name: value for name, value in said.items() if name not in ("name", "source", "protocol")})
