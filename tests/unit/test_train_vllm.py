"""What training hands to a vLLM server; the engine in the same process is tested in `tests/vllm_engine`."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trl.generation.vllm_generation as backend
from trl.generation.vllm_generation import VLLMGeneration

from medr1.engines.transformers import image_token_ids
from medr1.errors import EngineError
from medr1.models.loading import load_processor
from medr1.train.vllm import ImageGeneration


class Client:
    """Notes what it is asked for."""

    base_url = "http://127.0.0.1:8000"

    def __init__(self, asked: list[str]) -> None:
        self.asked = asked
        self.session = SimpleNamespace(post=self.post)

    def post(self, url: str) -> Any:
        self.asked.append(url)
        return SimpleNamespace(raise_for_status=lambda: None)


@pytest.fixture
def asked() -> list[Any]:
    return []


@pytest.fixture
def generation(checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch, asked: list[Any]) -> ImageGeneration:
    """A backend whose parent only notes its calls."""

    def generate(self: Any, prompts: Any, *_: Any) -> tuple:
        asked.append(prompts)
        return (prompts,)

    monkeypatch.setattr(backend, "DistributedBackend", lambda accelerator: None)
    monkeypatch.setattr(VLLMGeneration, "_init_vllm", lambda self: None)
    monkeypatch.setattr(VLLMGeneration, "sync_weights", lambda self: asked.append("weights"))
    monkeypatch.setattr(VLLMGeneration, "generate", generate)
    made = ImageGeneration(
        model=None,  # type: ignore[arg-type]
        accelerator=SimpleNamespace(is_main_process=True, device=SimpleNamespace(type="cuda")),  # type: ignore[arg-type]
        processing_class=load_processor(checkpoints["qwen2_vl"]),
        mode="server",
        generation_kwargs={"seed": 3, "logit_bias": {"5": 2.0}},
    )
    made.vllm_client = Client(asked)  # type: ignore[assignment]
    return made


def test_a_server_is_told_which_tokens_not_to_sample(generation: ImageGeneration) -> None:
    images = image_token_ids(generation.processing_class.tokenizer)
    assert generation.generation_kwargs == {"seed": 3, "logit_bias": {5: 2.0} | dict.fromkeys(images, -100.0)}
    json.dumps(generation.generation_kwargs, allow_nan=False)


def test_a_server_takes_expanded_prompts(generation: ImageGeneration, asked: list[Any]) -> None:
    image = generation.processing_class.image_token_id
    prompts = [[1, image, image, 2]]
    assert generation.generate(prompts, None, 1)[0] == prompts
    assert asked == [prompts]


def test_a_server_forgets_encoded_images_after_an_update(generation: ImageGeneration, asked: list[Any]) -> None:
    generation.sync_weights()
    assert asked == ["weights", "http://127.0.0.1:8000/reset_encoder_cache"]


def test_what_vllm_reads_otherwise_is_refused(generation: ImageGeneration, asked: list[Any]) -> None:
    generation.mode = "colocate"
    image = generation.processing_class.image_token_id
    assert generation.generate([[1, image, 2]], None, 1)[0] == [[1, image, 2]]
    with pytest.raises(EngineError, match="as 3 tokens that training has as 4"):
        generation.generate([[1, image, image, 2]], None, 1)
    assert asked == [[[1, image, 2]]] * 2, "one placeholder per image"
