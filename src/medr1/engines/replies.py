"""What servers answer: a chat completion of OpenAI's form, as vLLM, SGLang, LMDeploy, TGI, Ollama and others write it.

They differ in the names of finish reasons, in whether a text comes in parts, in the fields that hold the thinking, and
in whether an error is an HTTP status.
"""

import json
import re
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from medr1.answers.tags import outside_thinking, tags_of
from medr1.answers.wording import word_rows
from medr1.engines.engine import Show
from medr1.errors import EngineError
from medr1.types import Completion

RETRIED_STATUSES = frozenset({408, 409, 425, 429, *range(500, 600)})

OUTCOMES = {row["words"]: row["outcome"] for row in word_rows("finish_reasons", "medr1.engines")}
"""What each finish reason means."""
SENTENCES = {
    "filtered": "the server's content filter stopped it",
    "tool": "the model called a tool instead of answering",
    "gave_up": "the server gave up",
    None: "medr1 does not know this end",
}
"""What a finish reason says that is none of an answer."""
_TOKEN = re.compile(r"<[^<>]+>")

SHORTEST_PART, SHORTEST_PART_OF_ANSWER = 4, 16
"""Characters of a key from which on a part of it is masked: in what a server says, and in what a model says."""


class ReplyError(EngineError):
    """A reply that brought no answer; `delay` is the server's wish for the next try, in seconds."""

    def __init__(self, reason: str, *, retry: bool = True, delay: float | None = None) -> None:
        super().__init__(reason)
        self.retry, self.delay = retry, delay


class _Part(BaseModel):
    """A part of a text; servers name the field after the type of the part."""

    type: str = "text"
    text: "_Text" = None
    thinking: "_Text" = None
    reasoning: "_Text" = None
    summary: "_Text" = None
    content: "_Text" = None
    refusal: "_Text" = None


_Text = str | _Part | list[str | _Part] | None


class _Message(BaseModel):
    content: _Text = None
    refusal: _Text = None
    """What OpenAI's models say instead of an answer."""
    reasoning_content: _Text = None
    reasoning: _Text = None
    thinking: _Text = None
    reasoning_details: _Text = None
    """The thinking: servers have one of these, or the same in several."""
    tool_calls: object = None


class _Error(BaseModel):
    message: object = ""
    type: object = None
    code: object = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: object = None
    error: _Error | str | None = None


class _Reply(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: object = None


class _Refusal(BaseModel):
    """A reply that is an error although its HTTP status is none."""

    error: _Error | str | None = None
    detail: str | None = None
    message: str | None = None
    type: object = None
    code: object = None


def completion_from(body: bytes, prefix: str = "") -> Completion:
    """The completion in the body of a reply, `prefix` before it; thinking that stands apart is its `<think>` part.

    Raises `ReplyError` for what is none.
    """
    choice, num_tokens = _parsed(body)
    if choice.error is not None:
        raise _as_error(choice.error)
    message = choice.message
    text = message.content if message.content not in (None, [], "") else message.refusal or message.content
    thinking = next(
        (
            said
            for field in (message.reasoning_content, message.reasoning, message.thinking, message.reasoning_details)
            if (said := _joined(field, "thinking") or _joined(field, "text")).strip()
        ),
        _joined(text, "thinking"),
    )
    end = _end_of(choice, has_text=text is not None or bool(thinking))
    whole = _with_thinking(prefix, thinking.strip(), _joined(text, "text"), end)
    return Completion(text=whole, num_tokens=num_tokens, finish_reason=end)


class _PieceChoice(BaseModel):
    delta: _Message = _Message()
    finish_reason: object = None


class _Piece(BaseModel):
    choices: list[_PieceChoice] = []
    usage: object = None
    error: object = None


class Pieces:
    """A reply that comes in pieces (server-sent events): what is shown of it meanwhile, and the reply that it was.

    Args:
        show: gets the text piece by piece, thinking that stands apart in its tags.
        prefix: what the completion began with.
    """

    def __init__(self, show: Show, prefix: str = "") -> None:
        self._show, self._prefix = show, prefix
        self._said: dict[str, list[str]] = {"text": [], "thinking": []}
        self._told: dict[str, object] = {}
        self._end: object = None
        self._ended = False

    @property
    def shown(self) -> bool:
        """Whether anything was shown yet."""
        return any(self._said.values())

    def take(self, line: str) -> None:
        """One line of the stream. Raises `ReplyError` for what is no piece of a completion."""
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:") or data in ("", "[DONE]"):
            self._ended |= data == "[DONE]"
            return
        try:
            piece = _Piece.model_validate_json(data)
        except ValidationError:
            raise ReplyError(f"the server sent what is no piece of a completion ({data[:80]})") from None
        self._told |= {name: told for name in ("usage", "error") if (told := getattr(piece, name)) is not None}
        for choice in piece.choices[:1]:
            self._end = choice.finish_reason if choice.finish_reason is not None else self._end
            delta = choice.delta
            parts = (delta.reasoning_content, delta.reasoning, delta.thinking, delta.reasoning_details)
            thinking = next(
                (said for part in parts if (said := _joined(part, "thinking") or _joined(part, "text"))), ""
            )
            self._add("thinking", thinking or _joined(delta.content, "thinking"))
            self._add("text", _joined(delta.content, "text") or _joined(delta.refusal, "text"))

    def _add(self, kind: str, said: str) -> None:
        if not said:
            return
        opens = self._prefix if not self.shown else ""
        if kind == "thinking" and not self._said["thinking"]:
            opens += "<think>"
        if kind == "text" and self._said["thinking"] and not self._said["text"]:
            opens += "</think>\n"
        self._said[kind].append(said)
        self._show(opens + said)

    def whole(self) -> bytes:
        """The reply as a server sends it that does not stream. Raises `ReplyError` where its end never came."""
        if not self._ended and self._end is None and "error" not in self._told:
            raise ReplyError("the reply broke off before its end", retry=not self.shown)
        said = {kind: "".join(parts) for kind, parts in self._said.items()}
        message = {"content": said["text"] or None, "reasoning_content": said["thinking"] or None}
        choices = [] if "error" in self._told else [{"message": message, "finish_reason": self._end}]
        return json.dumps({"choices": choices, **self._told}).encode()


def _parsed(body: bytes) -> tuple[_Choice, int]:
    """The first choice of a reply and how many tokens it has; 0 where the server does not tell."""
    try:
        reply = _Reply.model_validate_json(body)
    except ValidationError as error:
        wrong = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, wrong["loc"])) or "body"
        raise _refusal(body) or ReplyError(f"the reply is no chat completion ({where}: {wrong['msg']})") from None
    num_tokens = reply.usage.get("completion_tokens") if isinstance(reply.usage, dict) else None
    return reply.choices[0], num_tokens if isinstance(num_tokens, int) and num_tokens > 0 else 0


def _refusal(body: bytes) -> ReplyError | None:
    """The error that a reply without choices is, where it says one."""
    try:
        said = _Refusal.model_validate_json(body)
    except ValidationError:
        return None
    if said.error is not None:
        return _as_error(said.error)
    words = said.detail or said.message
    return _as_error(_Error(message=words, type=said.type, code=said.code)) if words else None


def _as_error(error: _Error | str) -> ReplyError:
    if isinstance(error, str):
        error = _Error(message=error)
    kind = " ".join(str(part) for part in (error.code, error.type) if part is not None)
    words = " ".join(str(error.message).split()) or "no cause given"
    status = int(str(error.code)) if str(error.code).isdecimal() else 0
    is_final = status not in RETRIED_STATUSES if 400 <= status < 600 else "invalid" in kind.lower()
    return ReplyError(f"the server answered with an error{f' ({kind})' if kind else ''}: {words}", retry=not is_final)


def _end_of(choice: _Choice, *, has_text: bool) -> Literal["stop", "length"]:
    """How the answer ended. Raises `ReplyError` where it is none."""
    told = choice.finish_reason
    told = told.get("type") if isinstance(told, dict) else told
    reason = str(told or "").strip().lower().rpartition(".")[2].removeprefix("finish_reason_")
    outcome = "whole" if not reason or _TOKEN.fullmatch(reason) else OUTCOMES.get(reason)
    if outcome == "cut":  # without text where the server keeps the thinking apart and it did not end
        return "length"
    if outcome == "whole" and has_text:
        return "stop"
    if outcome == "whole" and choice.message.tool_calls:
        outcome = "tool"
    why = f": {SENTENCES[outcome]}" if outcome in SENTENCES else ""
    what = "an unfinished text" if has_text else "no text"
    raise ReplyError(f"the reply has {what} (finish reason {told!r}){why}", retry=outcome == "gave_up")


def _joined(text: _Text, kind: Literal["text", "thinking"]) -> str:
    """What the parts of that kind say, one after the other; a plain string is text."""
    if isinstance(text, list):
        return "".join(_joined(part, kind) for part in text)
    if isinstance(text, _Part):
        is_thinking = text.thinking is not None or "thinking" in text.type or "reasoning" in text.type
        if is_thinking is (kind == "text"):
            return ""
        fields = (text.thinking, text.reasoning, text.text, text.summary, text.content, text.refusal)
        return next((said for field in fields if (said := _joined(field, "text"))), "")
    return text or "" if kind == "text" else ""


def _with_thinking(prefix: str, thinking: str, text: str, end: Literal["stop", "length"]) -> str:
    """One text as a model without a reasoning parser writes it: the thinking in its tags, then the answer."""
    if not thinking or tags_of(text, "think"):
        return prefix + text
    # Tags inside the thinking would end it early.
    thinking = re.sub(r"<\s*(/?)\s*think\s*>", r"[\1think]", thinking, flags=re.IGNORECASE)
    is_open = bool(prefix) and outside_thinking(prefix) is None
    begun = prefix + thinking if is_open else f"{prefix}<think>{thinking}"
    return begun if end == "length" and not text else f"{begun}</think>\n{text}"


def masked(text: str, key: str | None, shortest: int = SHORTEST_PART) -> str:
    """The text without the key, nor any part of it of at least that many characters.

    >>> masked("Incorrect API key provided: sk-ab1***wxyz.", "sk-ab1cdefghijklmwxyz")
    'Incorrect API key provided: …***….'
    """
    if not key or len(key) < shortest:
        return text
    kept, start = [], 0
    while start < len(text):
        end = start + shortest
        if end > len(text) or text[start:end] not in key:
            kept.append(text[start])
            start += 1
            continue
        while end < len(text) and text[start : end + 1] in key:
            end += 1
        kept.append("…")
        start = end
    return "".join(kept)
