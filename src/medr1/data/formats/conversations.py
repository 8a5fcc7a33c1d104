"""Questions and answers as turns of a conversation, or as the prompt and solution that TRL trains on.

TRL, and Med-R1's own `save_to_disk` folders: `{"prompt", "images" (or "image"), "solution"}`; the prompt is a text or a
list of chat messages, of which the user's last one counts, and `problem` may stand for it.

LLaVA and ShareGPT: `{"image" (or "images"), "conversations": [{"from": "human", "value": "<image>\\nWhich?\\nA. CT\\n
B. MRI"}, {"from": "gpt", "value": "B"}]}`, or `messages` of `role` and `content`. The first question and answer are the
sample, later rounds stay in `extra`.

PubMedVision (HuatuoGPT-Vision, arXiv:2406.19280), 1.3 million open questions about figures of papers, is such a file
with `modality` and `body_part`. The captions behind its questions (`PubMedVision_Original_Caption.json`) have no
conversations and are not fetched.

A question is a choice where its text has options and the answer names one of them; it is open where it has none. Words
behind the options that say how to answer are kept in `extra`, since the prompt says that in its own words.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from medr1.data.formats.problems import choice_in_text
from medr1.data.names import modality_of
from medr1.data.options import absent, given_options, without_places
from medr1.data.record_files import JSON_SUFFIXES, ROW_SUFFIXES, Record
from medr1.data.source import Download, Facts, Source, text
from medr1.data.typed import data_name, image_refs, other_fields, split_of_file, typed_sample
from medr1.errors import DataError
from medr1.types import AnswerType, ImageRef, Sample

INSTRUCTION, SYSTEM, LATER = "instruction", "system", "later_rounds"
"""Keys of `Sample.extra`: what is said behind the options, before the first question, and after the first answer."""
ASKING, ANSWERING = ("human", "user"), ("gpt", "assistant")


def asked_in_text(
    problem: str,
    answer: str,
    images: tuple[ImageRef, ...],
    *,
    extra: Mapping[str, str],
    answer_type: AnswerType | None = None,
    **facts: Unpack[Facts],
) -> Sample:
    """The sample of a question whose options, if it has any, lie in its text."""
    problem = without_places(problem, len(images))
    answer = re.sub(r"</?answer>", "", answer, flags=re.IGNORECASE).strip()
    found = choice_in_text(problem, answer)
    if found is None:
        if re.fullmatch(r"[A-Za-z]", answer):
            raise DataError(f"the answer {answer!r} is a letter, but the question has no options; add them")
        return typed_sample(
            images=images, question=problem, answers=[answer], answer_type=answer_type, extra=extra, **facts
        )
    question, options, index, behind = found
    return typed_sample(
        images=images,
        question=question,
        options=given_options(options),
        answers=[answer],
        answer_index=index,
        extra={**extra, INSTRUCTION: behind} if behind else extra,
        **facts,
    )


# --- TRL ------------------------------------------------------------------------------------------------------------


def _is_trl(record: Record) -> bool:
    asks = "prompt" in record or "problem" in record
    return asks and "solution" in record and ("images" in record or "image" in record)


def _trl(record: Record, file: Path) -> Sample:
    used = {"prompt", "problem", "image", "images", "solution", "thinking"}
    return asked_in_text(
        _question(record),
        text(record, "solution"),
        _pictures(record),
        source=data_name(file),
        rationale=text(record, "thinking") if record.get("thinking") else None,
        extra=split_of_file(file) | other_fields(record, used),
    )


def _pictures(record: Record) -> tuple[ImageRef, ...]:
    return image_refs(record, "images" if record.get("images") else "image")


def _question(record: Record) -> str:
    prompt = record["prompt"] if "prompt" in record else record.get("problem")
    if not isinstance(prompt, list):
        return text({"prompt": prompt}, "prompt")
    asked = [turn.get("content") for turn in prompt if isinstance(turn, dict) and turn.get("role") == "user"]
    if not asked:
        raise DataError("prompt has no message of the role 'user'; add it")
    return text({"prompt": _joined(asked[-1])}, "prompt")


def _joined(content: Any) -> Any:
    """The text of a message whose content is a text or a list of parts."""
    if not isinstance(content, list):
        return content
    texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
    return "\n".join(part for part in texts if isinstance(part, str))


# --- LLaVA, ShareGPT, PubMedVision ----------------------------------------------------------------------------------


def _is_llava(record: Record) -> bool:
    return (
        any(isinstance(record.get(name), list) for name in ("conversations", "messages")) and "question" not in record
    )


def _is_pubmedvision(record: Record) -> bool:
    return isinstance(record.get("conversations"), list) and {"image", "body_part", "modality"} <= record.keys()


def _llava(record: Record, file: Path) -> Sample:
    return _conversation(record, source=data_name(file), extra=split_of_file(file))


def _pubmedvision(record: Record, file: Path) -> Sample:
    del file  # its name tells nothing
    kept = {"modality": str(record["modality"])} if record.get("modality") else {}
    return _conversation(record, source="PubMedVision", extra=kept, answer_type="text")


def _conversation(
    record: Record, *, source: str, extra: dict[str, str], answer_type: AnswerType | None = None
) -> Sample:
    name = "conversations" if isinstance(record.get("conversations"), list) else "messages"
    turns = [_turn(turn) for turn in record.get(name) or ()]
    before = [said for who, said in turns[:1] if who == "system"]
    rounds = turns[len(before) :]
    if [who in kind for (who, _), kind in zip(rounds, (ASKING, ANSWERING), strict=False)] != [True, True]:
        raise DataError(f"{name} do not start with a question of 'human' and an answer of 'gpt'; mend the record")
    system = {SYSTEM: str(before[0])} if before and not absent(before[0]) else {}
    later = {LATER: json.dumps(record[name][len(before) + 2 :])} if len(rounds) > 2 else {}
    modality = record.get("modality")
    return asked_in_text(
        text({"the question": rounds[0][1]}, "the question"),
        text({"the answer": rounds[1][1]}, "the answer"),
        _pictures(record),
        source=source,
        modality=modality_of(modality) if isinstance(modality, str) else "unknown",
        answer_type=answer_type,
        extra=extra | system | later | other_fields(record, {"image", "images", name}),
    )


def _turn(turn: Any) -> tuple[Any, Any]:
    """Who speaks, and what."""
    if not isinstance(turn, dict):
        return None, None
    return turn.get("from", turn.get("role")), _joined(turn.get("value", turn.get("content")))


TRL = Source(
    name="trl",
    description="TRL rows, and Med-R1's saved ones: prompt (text or messages) or problem, image or images, solution",
    suffixes=(*ROW_SUFFIXES, *JSON_SUFFIXES),
    sniff=_is_trl,
    parse=_trl,
    keeps_repeats=True,
    note="medr1 data download OWNER/NAME",
)
LLAVA = Source(
    name="llava",
    description="LLaVA and ShareGPT rows: image, conversations (or messages) with options in the text",
    suffixes=(*JSON_SUFFIXES, *ROW_SUFFIXES),
    sniff=_is_llava,
    parse=_llava,
    keeps_repeats=True,
    note="medr1 data download OWNER/NAME",
)
PUBMEDVISION = Source(
    name="pubmedvision",
    description="PubMedVision rows: image list, conversations of human and gpt, modality, body_part",
    suffixes=JSON_SUFFIXES,
    sniff=_is_pubmedvision,
    parse=_pubmedvision,
    keeps_repeats=True,
    download=Download(
        repo="FreedomIntelligence/PubMedVision",
        files=("PubMedVision_*_VQA.json", "images_*.zip"),
        archives={"images_*.zip": "images"},
        flat=True,
    ),
    note="57 GB of images in 20 archives",
)
