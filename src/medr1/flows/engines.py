"""The engine that Settings choose, ready to generate, and the prompt that its checkpoint was trained with."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from medr1.attack.settings import AttackSettings
from medr1.engines.endpoint import EndpointEngine
from medr1.engines.engine import Engine, OptionScorer
from medr1.engines.settings import EndpointSettings, EngineSettings
from medr1.errors import ConfigError
from medr1.eval.settings import EvalSettings
from medr1.models.memory import DEFAULT_PROMPT, recall, remembered_prompt
from medr1.models.zoo import locate

Asked = TypeVar("Asked", EvalSettings, AttackSettings)


def as_trained(settings: Asked, tell: Callable[[str], None] = lambda line: None) -> Asked:
    """The Settings with the prompt that the checkpoint was trained with, where they name none; `tell` is told which.

    Raises `ModelError` for what is no checkpoint, and `ConfigError` where its prompt is not known here.
    """
    if settings.prompt is not None:
        return settings
    is_endpoint = isinstance(settings, EvalSettings) and settings.engine == "endpoint"
    prompt, said = trained_prompt(None if is_endpoint else settings.model)
    tell(said)
    return settings.model_copy(update={"prompt": prompt})


def trained_prompt(model: str | None) -> tuple[str, str]:
    """The prompt that a model was trained with, and a sentence that says so.

    Args:
        model: a checkpoint; None for one behind an endpoint.
    """
    if model is None:
        prompt = DEFAULT_PROMPT
        said = f"an endpoint does not tell what its model was trained with, so it is asked with {prompt!r}"
    else:
        prompt, said = remembered_prompt(*_folders(model))
    return prompt, f"{said[0].upper()}{said[1:]} (--prompt asks with another one)."


def _folders(model: str) -> list[Path]:
    """Of a checkpoint, and of the base of an adapter that remembers nothing itself."""
    folder = locate(model)
    from medr1.models.adapters import is_adapter  # torch, which a wrong name need not wait for
    from medr1.models.loading import adapter_base

    return [folder, adapter_base(folder)] if is_adapter(folder) and recall(folder) is None else [folder]


def start_engine(settings: EngineSettings, model: str) -> Engine:
    """The engine for a model.

    Raises `ModelError` for what is no checkpoint, and `EngineError` for an endpoint that does not answer and for vLLM
    that is not installed.
    """
    match settings.engine:
        case "transformers":
            from medr1.engines.transformers import TransformersEngine

            return TransformersEngine(
                model,
                device=settings.chosen_device,
                dtype=settings.dtype,
                batch_size=settings.prompts_together,
            )
        case "vllm":
            from medr1.engines.vllm import VllmEngine

            return VllmEngine(model, device=settings.chosen_device, dtype=settings.dtype)
        case "endpoint":
            assert settings.base_url is not None, "Settings without an address are refused"
            return start_endpoint(settings.base_url, model, settings)


def start_endpoint(base_url: str, model: str, settings: EndpointSettings) -> EndpointEngine:
    """The model at an endpoint, asked as the Settings say.

    Raises `EngineError` where it does not answer and `ConfigError` for an address that is none.
    """
    from medr1.engines.cache import ResponseCache

    asked = {name: getattr(settings, name) for name in EndpointSettings.model_fields}
    cache = None if settings.cache is None else ResponseCache(settings.cache)
    engine = EndpointEngine(base_url=base_url, model=model, **{**asked, "cache": cache})
    engine.check()
    return engine


def option_scorer(engine: Engine) -> OptionScorer:
    """What tells the log-probabilities of option letters. Raises `ConfigError` for an engine that cannot."""
    from medr1.engines.transformers import TransformersEngine, TransformersOptionScorer

    if not isinstance(engine, TransformersEngine):
        raise ConfigError("this engine does not tell log-probabilities of options; choose --engine transformers")
    return TransformersOptionScorer(engine)
