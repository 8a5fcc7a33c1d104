"""What a model is asked, and the target that answers it.

The words stand in `prompts.yaml`; each template names the answer format that it asks for.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal, TypedDict

import yaml

from medr1.answers import AnswerFormat
from medr1.answers.tags import TAG
from medr1.answers.without_options import gold_text
from medr1.errors import ConfigError, DataError
from medr1.types import LETTERS, RECORD_FIELDS, AnswerType, Sample

OptionsStyle = Literal["lines", "inline"]
"""How options follow the question: each on a line as in MedVLM-R1, or in one sentence as in Med-R1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTemplate:
    """A user text with the place `{Question}` for question and options, and how it goes into a conversation.

    Ours also have the place `{Answer}` for what is asked for, which depends on the type of the answer.
    """

    name: str
    text: str
    answer_format: AnswerFormat
    options_style: OptionsStyle
    protocol: str
    """Name in `medr1.answers.PROTOCOLS` of the rule with which its authors score the answers."""
    source: str
    """Where the wording comes from."""
    system: str | None = None
    """System turn; None leaves the chat template's own default."""
    image_first: bool = True
    as_recorded: bool = False
    """Whether the options stand as `written_style` finds them, and only else in `options_style`: so do prompts whose
    authors put the `problem` of a record in place of `{Question}`, whoever wrote the record."""
    any_answer: bool = False
    """Whether questions of every answer type can be asked with it; the published ones ask for a letter."""


def _load() -> tuple[dict[str, PromptTemplate], dict[AnswerType, str]]:
    """The templates by name, and what each answer type is asked for with."""
    words = yaml.safe_load((files("medr1.prompts") / "prompts.yaml").read_text("utf-8"))
    templates = {name: PromptTemplate(name=name, **facts) for name, facts in words["prompts"].items()}
    return templates, words["asked_for"]


PROMPTS, _ASKED_FOR = _load()

Part = Mapping[str, Any]
"""Of a chat message: a text, or the place of a picture."""


class Message(TypedDict):
    """A turn of a chat, in the form that processors of transformers and chat endpoints share."""

    role: str
    content: str | Sequence[Part]


RECORD = "record"
"""Key of a part of a message: begin and end of what the record says in its text."""


def question_text(sample: Sample, options_style: OptionsStyle) -> str:
    r"""Question and options as one text: what stands in place of `{Question}`. Letters without an option are left out.

    >>> sample = Sample(id="1", images=(), question="Which?", options=("CT", "MRI"), answer_index=1)
    >>> question_text(sample, "lines"), question_text(sample, "inline")
    ('Which?\nA) CT\nB) MRI', 'Which? A)CT, B)MRI')
    """
    lettered = [(letter, option) for letter, option in zip(LETTERS, sample.options, strict=False) if option]
    if not lettered:
        return sample.question
    if options_style == "lines":
        return sample.question + "".join(f"\n{letter}) {option}" for letter, option in lettered)
    return sample.question + " " + ", ".join(f"{letter}){option}" for letter, option in lettered)


def written_style(sample: Sample) -> OptionsStyle | None:
    """How the record of a published system lists the options of its `problem`; None for a question from elsewhere.

    MedVLM-R1 writes lists of images and options in lines, Med-R1 one image and options in one sentence.
    """
    if "problem" not in json.loads(sample.extra.get(RECORD_FIELDS, "[]")):
        return None
    return "lines" if isinstance(json.loads(sample.extra.get("image", "null")), list) else "inline"


def render(template: PromptTemplate, sample: Sample) -> str:
    """The user text for one sample, without image placeholders."""
    return "".join(_parts(template, sample))


def record_span(template: PromptTemplate, sample: Sample) -> tuple[int, int]:
    """Begin and end, in the user text, of what the record says: everything else are the words of the template."""
    before, asked, _ = _parts(template, sample)
    return len(before), len(before) + len(asked)


def _parts(template: PromptTemplate, sample: Sample) -> tuple[str, str, str]:
    """The words of a template before question and options, these, and its words behind them."""
    listed = sample.options and sample.answer_type in ("choice", "yes_no")
    # Not str.format: a template may hold other braces, such as a JSON example.
    words = template.text.replace("{Answer}", _ASKED_FOR["choice" if listed else sample.answer_type])
    before, _, after = words.partition("{Question}")
    style = (written_style(sample) if template.as_recorded else None) or template.options_style
    return before, question_text(sample, style), after


def messages(template: PromptTemplate, sample: Sample) -> list[Message]:
    """Chat messages in the form that processors of transformers take; every content is a list of parts."""
    images = [{"type": "image"} for _ in sample.images]
    return chat(render(template, sample), images, system=template.system, image_first=template.image_first)


def chat(
    text: str,
    images: Sequence[Part],
    *,
    system: str | None,
    image_first: bool,
    record: tuple[int, int] | None = None,
) -> list[Message]:
    """Chat messages of one question, in the form that processors of transformers and chat endpoints share.

    Args:
        images: a part of the content for each picture.
        record: begin and end of what the record says in the text, for our own processors; endpoints know no such field.
    """
    written: list[Part] = [{"type": "text", "text": text} | ({RECORD: record} if record else {})]
    user: Message = {"role": "user", "content": [*images, *written] if image_first else [*written, *images]}
    if system is None:
        return [user]
    return [{"role": "system", "content": [{"type": "text", "text": system}]}, user]


def target(template: PromptTemplate, sample: Sample, rationale: str | None = None) -> str:
    """The completion that supervised training teaches: exactly what evaluation asks for.

    The rationale defaults to the sample's own and may already stand in think tags.

    Raises:
        DataError: the sample has no right answer, or the rationale has tags in its middle.
        ConfigError: the template asks for thinking and there is none to teach.
    """
    gold = gold_text(sample) if template.any_answer else sample.gold
    if gold is None:
        other = "" if template.any_answer else ", or choose a prompt for every type of answer such as 'think'"
        raise DataError(
            f"sample {sample.id} has no right option to teach: keep only samples with an answer_index{other}"
        )
    if template.answer_format == "letter":
        return gold
    answer = f"<answer>{gold}</answer>"
    if template.answer_format == "nothink":
        return answer
    return f"<think>{_thinking(template, sample, rationale)}</think>{answer}"


def _thinking(template: PromptTemplate, sample: Sample, rationale: str | None) -> str:
    """The rationale without the tags around it, fit to stand between ours."""
    text = (rationale or sample.rationale or "").strip()
    wrapped = re.fullmatch(r"<think>(.*)</think>", text, re.DOTALL)
    text = (wrapped[1] if wrapped else text).strip()
    if text in ("", "None"):  # "None" is what a missing column turns into elsewhere; Med-R1's SFT taught that word
        raise ConfigError(
            f"prompt {template.name!r} asks for thinking but sample {sample.id} has no rationale: "
            "make rationales with `medr1 distill`, or choose a prompt without thinking such as 'nothink'"
        )
    if TAG.search(text):
        raise DataError(
            f"sample {sample.id}: its rationale contains think or answer tags, which would end the thinking early: "
            "remove them from the rationale"
        )
    return text
