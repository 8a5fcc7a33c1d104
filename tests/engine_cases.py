"""The engine's requests, and what transformers itself makes of them: its `generate` and one forward over everything."""

from collections.abc import Sequence

import torch
from torch import Tensor

from medr1.data.images import open_image
from medr1.engines.engine import Request, SamplingParams
from medr1.engines.transformers import TransformersEngine, end_token_ids, image_token_ids
from medr1.prompts import PROMPTS, render
from medr1.types import Completion, Sample


def requests_for(samples: Sequence[Sample]) -> list[Request]:
    return [
        Request(
            key=sample.id,
            text=render(PROMPTS["bare"], sample),
            images=tuple(open_image(ref) for ref in sample.images),
        )
        for sample in samples
    ]


def reference(engine: TransformersEngine, request: Request, params: SamplingParams) -> list[int]:
    """One prompt through the stock processor and the stock `generate`."""
    inputs = stock_inputs(engine, request)
    output = engine.model.generate(
        **inputs,
        max_new_tokens=params.max_new_tokens,
        do_sample=False,
        repetition_penalty=params.repetition_penalty,
        suppress_tokens=image_token_ids(engine.tokenizer),
        eos_token_id=end_token_ids(engine.model, engine.tokenizer),
        pad_token_id=engine.tokenizer.pad_token_id,
    )
    return output[0, inputs["input_ids"].shape[1] :].tolist()


def stock_inputs(engine: TransformersEngine, request: Request) -> dict[str, Tensor]:
    text, images = engine.chat_text(request), list(request.images) or None
    return engine.processor(text=[text], images=images, return_tensors="pt").to(engine.model.device)


def forced_logprobs(
    engine: TransformersEngine, request: Request, completion: Completion, params: SamplingParams
) -> Tensor:
    """Log-probabilities of a completion's tokens by one ordinary forward over prompt and completion."""
    inputs = stock_inputs(engine, request)
    tail = torch.tensor([completion.token_ids], device=engine.model.device)
    inputs["input_ids"] = torch.cat([inputs["input_ids"], tail], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(tail)], 1)
    with torch.no_grad():
        logits = engine.model(**inputs).logits[0, -tail.shape[1] - 1 : -1].float()
    logits[:, image_token_ids(engine.tokenizer)] = -torch.inf
    return (logits / params.temperature).log_softmax(-1).gather(1, tail[0][:, None])[:, 0].cpu()
