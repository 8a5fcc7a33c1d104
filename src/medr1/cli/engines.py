"""The engines that commands can start, and the options that choose and set them.

A command that generates takes these options and a `typer.Context`, and calls `start_engine(context)`.
"""

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from medr1.errors import ConfigError

if TYPE_CHECKING:
    from medr1.rollout.endpoint import EndpointEngine
    from medr1.rollout.engine import Engine


class EngineName(StrEnum):
    """What generates."""

    TRANSFORMERS = "transformers"
    VLLM = "vllm"
    ENDPOINT = "endpoint"


class Device(StrEnum):
    """Where the model runs."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Dtype(StrEnum):
    """Numbers that the model computes in."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


EngineOption = Annotated[EngineName, typer.Option(help="What generates.")]
BatchSizeOption = Annotated[
    int | None,
    typer.Option(min=1, help="Prompts generated together: 8, vLLM 256, an endpoint 8 times --concurrency."),
]
DeviceOption = Annotated[Device, typer.Option(help="Where the model runs.")]
DtypeOption = Annotated[Dtype, typer.Option(help="Numbers that it computes in.")]
BaseUrlOption = Annotated[
    str | None,
    typer.Option(help="Endpoint: address up to /v1. Its key, if any, is read from the variable MEDR1_API_KEY."),
]
DialectOption = Annotated[
    Literal["vllm", "openai"],
    typer.Option(help="Endpoint: sampling fields that it takes; openai has no top_k, min_p and repetition_penalty."),
]
ConcurrencyOption = Annotated[int, typer.Option(min=1, help="Endpoint: requests under way at a time.")]
RequestsPerMinuteOption = Annotated[
    float | None, typer.Option(min=0.001, help="Endpoint: most requests that are started in a minute.")
]
TimeoutOption = Annotated[float, typer.Option(min=0.001, help="Endpoint: seconds for one try.")]
MaxRetriesOption = Annotated[
    int, typer.Option(min=0, help="Endpoint: further tries after time-outs, HTTP 429 and 5xx and broken replies.")
]
CacheOption = Annotated[
    Path | None,
    typer.Option(help="Endpoint: folder that keeps completions, so that no request is paid twice, in whatever run."),
]

ENDPOINT_OPTIONS = ("dialect", "concurrency", "requests_per_minute", "timeout", "max_retries", "cache")
"""Options of how an endpoint is asked, whatever it is asked for."""
OPTIONS_OF = {
    EngineName.TRANSFORMERS: ("device", "dtype"),
    EngineName.VLLM: ("device", "dtype"),
    EngineName.ENDPOINT: ("base_url", *ENDPOINT_OPTIONS),
}
"""Options that not every engine heeds."""


def start_engine(context: typer.Context) -> "Engine":
    """The engine that the options of the running command choose, ready to generate.

    Raises `ModelError` for what is no checkpoint, `ConfigError` for options that do not go together and `EngineError`
    for an endpoint that does not answer and for vLLM that is not installed.
    """
    options = context.params
    _refuse_options_of_others(context)
    match options["engine"]:
        case EngineName.TRANSFORMERS:
            return _transformers(options)
        case EngineName.VLLM:
            return _vllm(options)
        case EngineName.ENDPOINT:
            if options["base_url"] is None:
                raise ConfigError("--engine endpoint needs an address; add --base-url http://127.0.0.1:8000/v1")
            return start_endpoint(options["base_url"], options["model"], options)
        case name:
            raise AssertionError(f"no engine {name}")


def start_endpoint(base_url: str, model: str, options: dict[str, Any]) -> "EndpointEngine":
    """The model at an endpoint, asked as `ENDPOINT_OPTIONS` say.

    Raises `EngineError` where it does not answer and `ConfigError` for an address that is none.
    """
    from medr1.rollout.cache import ResponseCache
    from medr1.rollout.endpoint import EndpointEngine

    settings: dict[str, Any] = {name: options[name] for name in ENDPOINT_OPTIONS}
    settings["cache"] = None if options["cache"] is None else ResponseCache(options["cache"])
    engine = EndpointEngine(base_url=base_url, model=model, **settings)
    engine.check()
    return engine


def given_flags(context: typer.Context, names: Iterable[str]) -> list[str]:
    """The flags of those options that stand on the command line."""
    sources = {name: context.get_parameter_source(name) for name in names}
    return [
        f"--{name.replace('_', '-')}" for name, source in sources.items() if source and source.name == "COMMANDLINE"
    ]


def batch_size_of(context: typer.Context) -> int:
    """Prompts that are generated together: as many as asked for, else what suits the engine."""
    options = context.params
    match options["engine"]:
        case EngineName.TRANSFORMERS:
            usual = 8
        case EngineName.VLLM:  # it fills its batches itself, from all that it has been asked
            usual = 256
        case EngineName.ENDPOINT:  # it idles at the end of every batch, where its last answers come in
            usual = 8 * options["concurrency"]
        case name:
            raise AssertionError(f"no engine {name}")
    return options["batch_size"] or usual


def _transformers(options: dict[str, Any]) -> "Engine":
    from medr1.rollout.transformers import TransformersEngine

    return TransformersEngine(
        options["model"],
        device=_device(options),
        dtype=options["dtype"].value,
        batch_size=options["batch_size"] or 8,
    )


def _vllm(options: dict[str, Any]) -> "Engine":
    from medr1.rollout.vllm import VllmEngine

    return VllmEngine(options["model"], device=_device(options), dtype=options["dtype"].value)


def _device(options: dict[str, Any]) -> str | None:
    """The device that was asked for; None where the engine chooses."""
    return None if options["device"] is Device.AUTO else options["device"].value


def _refuse_options_of_others(context: typer.Context) -> None:
    """Raise `ConfigError` where an option was given that the chosen engine does not heed."""
    chosen = context.params["engine"]
    for engine, names in OPTIONS_OF.items():
        for flag in given_flags(context, (name for name in names if name not in OPTIONS_OF[chosen])):
            raise ConfigError(f"--engine {chosen} has no {flag}; leave it out, or choose --engine {engine}")
