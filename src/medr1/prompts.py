"""What a model is asked, and the target that answers it: each template names the answer format that it asks for.

The templates of the published systems are verbatim, white space included (MedVLM-R1: arXiv 2502.19634; Med-R1:
arXiv 2503.13939). Both systems train and evaluate with different texts; nothing here evens that out.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from medr1.answers import AnswerFormat
from medr1.answers.tags import TAG
from medr1.answers.without_options import gold_text
from medr1.errors import ConfigError, DataError
from medr1.types import LETTERS, AnswerType, Sample

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
    any_answer: bool = False
    """Whether questions of every answer type can be asked with it; the published ones ask for a letter."""


_MEDVLM_STEPS = (
    "\n{indent}{Question} "
    "\n{indent}Your task: "
    "\n{indent}1. Think through the question step by step, enclose your reasoning process in <think>...</think> tags. "
    "\n{indent}2. Then provide the correct single-letter choice (A, B, C, D,...) inside <answer>...</answer> tags."
    "\n{indent}3. No extra information or text outside of these tags."
    "\n{indent}"
)
_MEDVLM_SYSTEM = (
    " A conversation between User and Assistant. The user asks a multiple choice question, and the Assistant should"
    "\n    1. Think through the question step by step, enclose your reasoning process in <think>...</think> tags. "
    "\n    2. Then provide the correct single-letter choice (A, B, C, D,...) inside <answer>...</answer> tags."
    "\n    3. No extra information or text outside of these tags.."
)
_DEEPSEEK_SYSTEM = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The assistant "
    "first thinks about the reasoning process in the mind and then provides the user with the answer. The reasoning "
    "process and answer are enclosed within <think> </think> and <answer> </answer> tags, respectively, i.e., "
    "<think> reasoning process here </think><answer> answer here </answer>"
)
_OURS = "medr1"
_LETTER = "the letter of the right option"
_ASKED_FOR: dict[AnswerType, str] = {
    "choice": _LETTER,
    "yes_no": "yes or no",
    "multi": "everything that applies, separated by semicolons",
    "number": "the number in digits, without a unit",
    "text": "the answer in as few words as possible",
}

_TEMPLATES = (
    PromptTemplate(
        name="think",
        text=(
            "{Question}\n\nLook at the image and think step by step inside <think>...</think>. "
            "Then write {Answer}, and nothing else, inside <answer>...</answer>."
        ),
        answer_format="think",
        options_style="lines",
        protocol="default",
        source=_OURS,
        any_answer=True,
    ),
    PromptTemplate(
        name="nothink",
        text=("{Question}\n\nLook at the image and write {Answer}, and nothing else, inside <answer>...</answer>."),
        answer_format="nothink",
        options_style="lines",
        protocol="default",
        source=_OURS,
        any_answer=True,
    ),
    PromptTemplate(
        name="bare",
        text="{Question}",
        answer_format="think",
        options_style="lines",
        protocol="default",
        source=f"{_OURS}, for models trained to the format",
        any_answer=True,
    ),
    PromptTemplate(
        name="bare-nothink",
        text="{Question}",
        answer_format="nothink",
        options_style="lines",
        protocol="default",
        source=f"{_OURS}, for models trained to the format",
        any_answer=True,
    ),
    PromptTemplate(
        name="medvlm-r1/train",
        text=_MEDVLM_STEPS.replace("{indent}", " " * 8),
        answer_format="think",
        options_style="lines",
        protocol="medvlm-r1/complex",
        source="MedVLM-R1, GRPO training",
    ),
    PromptTemplate(
        name="medvlm-r1/complex",
        text=_MEDVLM_STEPS.replace("{indent}", " " * 4),
        answer_format="think",
        options_style="lines",
        protocol="medvlm-r1/complex",
        source="MedVLM-R1, evaluation",
    ),
    PromptTemplate(
        name="medvlm-r1/simple",
        text="\n    {Question} \n    Your task: provide the correct single-letter choice (A, B, C, D,...).\n    ",
        answer_format="letter",
        options_style="lines",
        protocol="medvlm-r1/simple",
        source="MedVLM-R1, evaluation of base and SFT models",
    ),
    PromptTemplate(
        name="medvlm-r1/sft",
        text="{Question}",
        answer_format="think",
        options_style="lines",
        protocol="medvlm-r1/complex",
        source="MedVLM-R1, SFT conversion in the evaluator, never called there",
        system=_MEDVLM_SYSTEM,
    ),
    PromptTemplate(
        name="med-r1/train-think",
        text=(
            "{Question} Your task: 1. Think through the question step by step, enclose your reasoning process in "
            "<think>...</think> tags. 2. Then provide the correct single-letter choice (A, B, C, D,...) inside "
            "<answer>...</answer> tags. 3. No extra information or text outside of these tags."
        ),
        answer_format="think",
        options_style="inline",
        protocol="med-r1/think",
        source="Med-R1, GRPO training",
    ),
    PromptTemplate(
        name="med-r1/train-nothink",
        text=(
            "{Question} Your task: 1. Provide the correct single-letter choice (A, B, C, D,...) inside "
            "<answer>...</answer> tags. 2. No extra information or text outside of this tag."
        ),
        answer_format="nothink",
        options_style="inline",
        protocol="med-r1/nothink",
        source="Med-R1, GRPO training without thinking",
    ),
    PromptTemplate(
        name="med-r1/think",
        text=(
            "{Question} Think through the question step by step in <think>...</think> tags. Then provide the correct "
            "single-letter choice (A, B, C, D,...) inside <answer>...</answer> tags."
        ),
        answer_format="think",
        options_style="inline",
        protocol="med-r1/think",
        source="Med-R1, evaluation",
    ),
    PromptTemplate(
        name="med-r1/nothink",
        text="{Question} Provide the correct single-letter choice (A, B, C, D,...) inside <answer>...</answer> tags.",
        answer_format="nothink",
        options_style="inline",
        protocol="med-r1/nothink",
        source="Med-R1, evaluation without thinking",
    ),
    PromptTemplate(
        name="med-r1/zeroshot",
        text="{Question} Provide the correct single-letter choice (A, B, C, D,...).",
        answer_format="letter",
        options_style="inline",
        protocol="med-r1/zeroshot",
        source="Med-R1, zero-shot evaluation of Qwen2-VL",
    ),
    PromptTemplate(
        name="med-r1/readme",
        text=(
            "{Question} First output the thinking process in <think> </think> and final choice (A, B, C, D ...) in "
            "<answer> </answer> tags."
        ),
        answer_format="think",
        options_style="inline",
        protocol="med-r1/think",
        source="Med-R1, README and model card",
    ),
    PromptTemplate(
        name="med-r1/sft",
        text="{Question}",
        answer_format="nothink",
        options_style="inline",
        protocol="med-r1/nothink",
        source="Med-R1, SFT",
        system=(
            "Your task: Provide the correct single-letter choice (A, B, C, D,...) inside <answer>...</answer> tags."
        ),
        image_first=False,
    ),
    PromptTemplate(
        name="med-r1/system",
        text="{Question}",
        answer_format="think",
        options_style="inline",
        protocol="med-r1/think",
        source="Med-R1 and MedVLM-R1, the DeepSeek-R1 system prompt, unused with images",
        system=_DEEPSEEK_SYSTEM,
    ),
)

PROMPTS: dict[str, PromptTemplate] = {template.name: template for template in _TEMPLATES}


def question_text(sample: Sample, options_style: OptionsStyle) -> str:
    r"""Question and options as one text: what stands in place of `{Question}`.

    >>> sample = Sample(id="1", images=(), question="Which?", options=("CT", "MRI"), answer_index=1)
    >>> question_text(sample, "lines"), question_text(sample, "inline")
    ('Which?\nA) CT\nB) MRI', 'Which? A)CT, B)MRI')
    """
    lettered = list(zip(LETTERS, sample.options, strict=False))
    if not lettered:
        return sample.question
    if options_style == "lines":
        return sample.question + "".join(f"\n{letter}) {option}" for letter, option in lettered)
    return sample.question + " " + ", ".join(f"{letter}){option}" for letter, option in lettered)


def render(template: PromptTemplate, sample: Sample) -> str:
    """The user text for one sample, without image placeholders."""
    listed = sample.options and sample.answer_type in ("choice", "yes_no")
    text = template.text.replace("{Answer}", _LETTER if listed else _ASKED_FOR[sample.answer_type])
    # Not str.format: a template may hold other braces, such as a JSON example.
    return text.replace("{Question}", question_text(sample, template.options_style))


def messages(template: PromptTemplate, sample: Sample) -> list[dict[str, Any]]:
    """Chat messages in the form that processors of transformers take; every content is a list of parts."""
    images = [{"type": "image"} for _ in sample.images]
    return chat(render(template, sample), images, system=template.system, image_first=template.image_first)


def chat(
    text: str, images: Sequence[Mapping[str, Any]], *, system: str | None, image_first: bool
) -> list[dict[str, Any]]:
    """Chat messages of one question, in the form that processors of transformers and chat endpoints share.

    Args:
        images: a part of the content for each picture.
    """
    written: list[Mapping[str, Any]] = [{"type": "text", "text": text}]
    user = {"role": "user", "content": [*images, *written] if image_first else [*written, *images]}
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
