"""Rows as TRL trains on them, and those of Med-R1's own `save_to_disk` folders.

A row is `{"prompt", "images" (or "image"), "solution"}`; the prompt is a text or a list of chat messages, of which the
user's last one counts, and `problem` may stand for it. Options are found where the question has them in Med-R1's or
MedVLM-R1's form and the solution is one of their letters; any other row is an open question.
"""

import re
from pathlib import Path
from typing import Any

from medr1.data.problems import parse_inline_problem, parse_lines_problem
from medr1.data.record_files import JSON_SUFFIXES, ROW_SUFFIXES, Record
from medr1.data.source import Source, gold_index, text
from medr1.data.typed import data_name, image_refs, other_fields, split_of_file, typed_sample
from medr1.errors import DataError
from medr1.types import Sample

USED = {"prompt", "problem", "image", "images", "solution", "thinking"}
IMAGE_MARKS = re.compile(r"<image>|<\|vision_start\|>|<\|image_pad\|>|<\|vision_end\|>")


def _sniff(record: Record) -> bool:
    asks = "prompt" in record or "problem" in record
    return asks and "solution" in record and ("images" in record or "image" in record)


def _parse(record: Record, file: Path) -> Sample:
    problem = IMAGE_MARKS.sub("", _question(record)).strip()
    solution = text(record, "solution")
    question, options, index = _choice(problem, solution)
    answer = re.sub(r"</?answer>", "", solution, flags=re.IGNORECASE).strip()
    return typed_sample(
        source=data_name(file),
        images=image_refs(record, "images" if record.get("images") else "image"),
        question=question,
        options=options,
        answers=[answer],
        answer_index=index,
        rationale=text(record, "thinking") if record.get("thinking") else None,
        extra=split_of_file(file) | other_fields(record, USED),
    )


def _choice(problem: str, solution: str) -> tuple[str, tuple[str, ...], int | None]:
    for parse in (parse_lines_problem, parse_inline_problem):
        try:
            question, options = parse(problem)
        except DataError:
            continue
        return question, options, gold_index(solution, len(options))
    return problem, (), None


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


SOURCE = Source(
    name="trl",
    description="TRL rows, and Med-R1's saved ones: prompt (text or messages) or problem, image or images, solution",
    suffixes=(*ROW_SUFFIXES, *JSON_SUFFIXES),
    sniff=_sniff,
    parse=_parse,
    keeps_repeats=True,
    note="medr1 data download OWNER/NAME",
)
