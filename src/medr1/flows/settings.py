"""What the commands are asked for that run a whole pipeline."""

from pathlib import Path
from typing import Annotated, Any, Self

from annotated_types import Ge
from pydantic import field_validator, model_validator

from medr1.engines.settings import AskedSettings, EndpointSettings, LocalSettings
from medr1.errors import ConfigError
from medr1.settings import POSITIONAL, Positional, Repeated, RunSettings, Several
from medr1.types import LETTERS


class AskSettings(AskedSettings, LocalSettings, EndpointSettings):
    """One question about one or more pictures, and who answers it."""

    images: Annotated[tuple[Path, ...], POSITIONAL]
    """Pictures: PNG, JPEG, TIFF, BMP, GIF, WebP or DICOM files."""
    question: Positional[str]
    """What is asked, in quotation marks."""
    options: Repeated[str] = ()
    """Answers to choose from, as --options Lung Liver "Breast tissue", behind the question."""
    model: str | None = None
    """Checkpoint: a folder, a name of `medr1 models list`, or a hub name; by default medr1's own toy, whose answers
    mean nothing. With --endpoint: its name there."""
    endpoint: str | None = None
    """Ask a server: address of its chat endpoint up to /v1. Its key, if any, is read from the variable
    MEDR1_API_KEY."""
    blank: bool = True
    """Ask again with a grey picture of the same size, to see what is said without looking."""
    max_new_tokens: Annotated[int, Ge(1)] = 512
    """Limit of the answer, thinking included."""
    temperature: Annotated[float, Ge(0)] = 0.0
    """0 is greedy decoding."""
    seed: int = 0
    """Seed of what is drawn."""

    @field_validator("question")
    @classmethod
    def _asks(cls, question: str) -> str:
        return _said("the question", question)

    @field_validator("options")
    @classmethod
    def _differ(cls, options: tuple[str, ...]) -> tuple[str, ...]:
        texts = tuple(_said(f"option {place}", option) for place, option in enumerate(options, start=1))
        if len(texts) == 1:
            raise ConfigError(f"one option ({texts[0]!r}) leaves no choice; give at least two, or none")
        if len(texts) > len(LETTERS):
            raise ConfigError(f"{len(texts)} options have no letters; give at most {len(LETTERS)}")
        folded = [text.casefold() for text in texts]
        for place, text in enumerate(folded):
            if text in folded[:place]:
                first = folded.index(text) + 1
                raise ConfigError(f"options {first} and {place + 1} are both {texts[place]!r}; leave one of them out")
        return texts

    @model_validator(mode="before")
    @classmethod
    def _in_order(cls, given: Any) -> Any:
        """A file where the question belongs is told as such."""
        question = given.get("question") if isinstance(given, dict) else None
        if isinstance(question, str) and question and Path(question).is_file():
            if given.get("images"):
                raise ConfigError(
                    f'{question} is a file, and the question comes last; write: medr1 ask IMAGE "QUESTION"'
                )
            raise ConfigError(f'{question} is a picture, and a question is needed behind it: "What is this?"')
        return given

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not self.images:
            raise ConfigError(f'no picture is named; write: medr1 ask photo.png "{self.question}"')
        if self.endpoint is not None and self.model is None:
            raise ConfigError("--endpoint needs --model, the name of the model there; add it")
        strange = EndpointSettings if self.endpoint is None else LocalSettings
        if asked := self.changed & strange.model_fields.keys():
            mend = "leave it out, or add --endpoint" if self.endpoint is None else "leave it out: a server chooses it"
            raise ConfigError(f"--{min(asked).replace('_', '-')} has no effect here; {mend}")
        return self


def _said(what: str, text: str) -> str:
    """The text without outer white space. Raises `ConfigError` for what says nothing, or is no text."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{what} has characters that are no text; write it as UTF-8") from error
    if not any(character.isprintable() and not character.isspace() for character in text):
        raise ConfigError(f"{what} is empty; write some words")
    return text.strip()


class DemoSettings(RunSettings):
    """What the demo runs; the defaults are the five-minute one."""

    out: Path = Path("runs/demo")
    """Folder of the demo; called again, it goes on where it stopped."""
    seeds: Annotated[int, Ge(1)] = 1
    """Seeds of the reinforcement learning, all reported."""
    shuffled: bool = False
    """Train a further control on images shuffled between questions."""
    workers: Annotated[int, Ge(1)] | None = None
    """Trainings that run at once; by default one per two cores' worth."""
    num_train: Annotated[int, Ge(1)] = 10_800
    """Training questions, each seen once: 450 steps of 24."""
    num_test: Annotated[int, Ge(1)] = 960
    """Test questions."""
    num_colour: Annotated[int, Ge(1)] = 3000
    """Training images that the colour baseline is fitted on."""
    data_seed: int = 3
    """Seed of the phantoms. Settings were chosen with 0 to 2; nothing was chosen on the test images of this one."""
    train_arguments: Several[str] = ()
    """Further flags for every training, such as --max_steps,7."""
    overwrite: bool = False
    """Start anew where the folder holds a demo."""
