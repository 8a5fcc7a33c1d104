"""Text of a record is text: no control token is live in what a record, a person or a model wrote.

A chat template writes the tokens that begin and end turns and hold the places of pictures. A tokenizer finds them by
their text, whoever wrote it, and `split_special_tokens` leaves alone what a checkpoint added without calling it special
(`<think>`, `<tool_call>`). So control text in a message is replaced by marks, private characters that no template and
no tokenizer knows; the chat template is applied; and of what comes out, the tokens that the template wrote become ids
and everything between them is encoded without any control token, marks as the text that they stand for.

A text without marks is encoded as ever, to the same ids.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError
from tokenizers import Tokenizer

from medr1.answers.tags import TAG
from medr1.prompts import RECORD, Message

ESCAPE = "\U0010f000"
"""Before a private character of this block that a text brought along: it means itself."""
FIRST_MARK = 0x10F001
"""Mark of the first control token; those of the others follow."""
SYNTAX = re.compile(r"<.*>|\[.*\]", re.DOTALL)
"""Added tokens that are control tokens although nobody calls them special; others are words of a vocabulary."""


@dataclass(frozen=True, slots=True)
class _Controls:
    """Control tokens of a tokenizer."""

    ids: Mapping[str, int]
    marks: Mapping[str, str]
    """Of each of them, its private character."""
    texts: Mapping[str, str]
    """The same the other way round."""
    anywhere: re.Pattern[str]
    """A control token, or a private character of this block."""
    plain: Tokenizer
    """The same vocabulary, merges and rules, without any control token."""
    words: Mapping[int, int]
    """Ids of added words: those of `plain`, and the tokenizer's own."""

    def encoded(self, text: str) -> list[int]:
        """Ids of what a text with marks says, without any control token."""
        return [self.words.get(one, one) for one in self.plain.encode(self.written(text)).ids]

    def literal(self, text: str, start: int, end: int) -> str:
        """The text with marks in it; tags of answers stay as they are, but for those between `start` and `end`."""

        def mark(found: re.Match[str]) -> str:
            if TAG.fullmatch(found[0]) and (found.end() <= start or found.start() >= end):
                return found[0]
            return self.marks.get(found[0]) or ESCAPE + found[0]

        return self.anywhere.sub(mark, text)

    def written(self, text: str) -> str:
        """What a text with marks says."""
        return re.sub(
            f"{ESCAPE}(.)|([{ESCAPE}-\U0010ffff])",
            lambda found: found[1] or self.texts.get(found[2], found[2]),
            text,
            flags=re.DOTALL,
        )


@lru_cache(maxsize=8)
def _controls(tokenizer: Any, size: int) -> _Controls:
    """Of a tokenizer that has `size` tokens: one that is given more has others."""
    added = {token.content: (number, token) for number, token in sorted(tokenizer.added_tokens_decoder.items())}
    ids = {text: number for text, (number, token) in added.items() if token.special or SYNTAX.fullmatch(text)}
    marks = {text: chr(FIRST_MARK + n) for n, text in enumerate(ids)}
    longest_first = [*map(re.escape, sorted(ids, key=len, reverse=True)), f"[{ESCAPE}-\U0010ffff]"]
    rules = tokenizer.backend_tokenizer
    plain = Tokenizer(rules.model)
    if rules.normalizer is not None:
        plain.normalizer = rules.normalizer
    if rules.pre_tokenizer is not None:
        plain.pre_tokenizer = rules.pre_tokenizer
    others = [(text, number, token) for text, (number, token) in added.items() if text not in ids]
    plain.add_tokens([token for _, _, token in others])
    words = {own: number for text, number, _ in others if (own := plain.token_to_id(text)) is not None}
    texts = {mark: text for text, mark in marks.items()}
    return _Controls(ids, marks, texts, re.compile("|".join(longest_first)), plain, words)


def literal(tokenizer: Any, text: str) -> str:
    """A completion, or the beginning of one, with marks for its control text; the tags of answers stay live."""
    return _controls(tokenizer, len(tokenizer)).literal(text, 0, 0)


def has_control_text(tokenizer: Any, text: str) -> bool:
    """Whether a record's text holds what the tokenizer would take for a control token."""
    return _controls(tokenizer, len(tokenizer)).literal(text, 0, len(text)) != text


def chat_text(processor: Any, messages: Sequence[Message], **settings: Any) -> str:
    """Messages after the checkpoint's chat template, with marks for the control text in them.

    Args:
        processor: of the checkpoint.
        messages: contents are texts or lists of parts. Outside of what a record says (`medr1.prompts.RECORD`) the
            words are a prompt's, in which tags such as `<think>` are the tokens that a model answers with.
        settings: further ones of `apply_chat_template`; the place for an answer is added where they do not say.
    """
    controls = _controls(processor.tokenizer, len(processor.tokenizer))
    marked = [{**message, "content": _marked(message["content"], controls)} for message in messages]
    return processor.apply_chat_template(marked, **{"tokenize": False, "add_generation_prompt": True, **settings})


def _marked(content: Any, controls: _Controls) -> Any:
    if isinstance(content, str):
        return controls.literal(content, 0, 0)
    return [
        {**part, "text": controls.literal(part["text"], *part.get(RECORD, (0, 0)))} if "text" in part else part
        for part in content
    ]


TEXT_ERRORS = (TemplateError, TypeError, ValueError)
"""What templates and tokenizers raise for a text that they refuse, such as one with half of a surrogate pair."""


def token_ids(tokenizer: Any, text: str) -> list[int]:
    """Ids of a text of `chat_text` or `literal`; of one without marks, those of the tokenizer itself."""
    controls = _controls(tokenizer, len(tokenizer))
    if max(text, default="") < ESCAPE:
        return tokenizer(text).input_ids
    return _by_parts(controls, text)


def _by_parts(controls: _Controls, text: str) -> list[int]:
    """Ids of the control tokens of a text, and of what is between them as plain text."""
    ids: list[int] = []
    begin = 0
    for found in controls.anywhere.finditer(text):
        if found[0] in controls.ids:
            ids += controls.encoded(text[begin : found.start()])
            ids.append(controls.ids[found[0]])
            begin = found.end()
    return ids + controls.encoded(text[begin:])


def decoded(tokenizer: Any, text: str) -> str:
    """What a text with marks says, for people."""
    return _controls(tokenizer, len(tokenizer)).written(text)
