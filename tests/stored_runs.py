"""Predictions, and evaluations of scripted models on disk, for what reads them."""

import random
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from evaluated import evaluate
from medr1.data.images import png_bytes
from medr1.engines.engine import Request, SamplingParams
from medr1.engines.scripted import ScriptedEngine
from medr1.types import ImageRef, ParseStatus, Prediction, Sample


def questions(count: int, *, per_image: int = 1) -> list[Sample]:
    """Questions with two or four options, right ones in turn, `per_image` of them about every image."""
    return [
        Sample(
            id=f"q{i}",
            images=(ImageRef(data=png_bytes(Image.new("RGB", (4, 4), (i // per_image % 256, 0, 0)))),),
            question="Which?",
            options=("a", "b", "c", "d")[: 4 if i % 3 else 2],
            answer_index=i % 2,
            modality=("CT", "MRI")[i // 2 % 2],
            task=("Disease Diagnosis", "Lesion Grading")[i % 2],
            source="drawn",
            group=f"g{i // per_image}",
        )
        for i in range(count)
    ]


def store(
    folder: Path,
    samples: Sequence[Sample],
    *,
    right: float,
    blank: float = 0.3,
    unreadable: float = 0.0,
    num_draws: int = 1,
    **options,
) -> Path:
    """Evaluate a model that is right, right on blank images, and unreadable so often; returns the folder."""
    gold = {sample.id: sample.gold for sample in samples}

    def say(request: Request, draw: int) -> str:
        question, _, variant = request.key.partition(":")
        chance = random.Random(f"{request.key}:{draw}:{right}")
        if chance.random() < unreadable:
            return "I cannot say."
        hit = chance.random() < (blank if variant else right)
        wrong = "B" if gold[question] == "A" else "A"
        return f"<think>x</think><answer>{gold[question] if hit else wrong}</answer>"

    params = SamplingParams(num_draws=num_draws, temperature=0.0 if num_draws == 1 else 1.0)
    settings = {"out": folder, "params": params, "batch_size": 64, "seed": 0, "variants": ("blank",)} | options
    evaluate(samples, ScriptedEngine(say), **settings)
    return folder


def drawn(answers: dict[str, str], gold: str = "A") -> list[Prediction]:
    """One letter a draw for every question; `-` is unreadable, a blank a draw that failed."""
    return [
        Prediction(
            id=name,
            variant="",
            draw=draw,
            group="",
            modality="CT",
            task="other",
            source="s",
            options=("x", "y"),
            gold=gold,
            prompt_style="think",
            completion="",
            answer=None if letter == "-" else letter,
            parse_status=ParseStatus.MISSING_TAG if letter == "-" else ParseStatus.OK,
            num_tokens=1,
        )
        for name, letters in answers.items()
        for draw, letter in enumerate(letters)
        if letter != " "
    ]
