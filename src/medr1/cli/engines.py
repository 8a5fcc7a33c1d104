"""The engines that commands can start, and the options that choose and set them.

A command that generates takes these options and a `typer.Context`, and calls `start_engine(EngineOptions(…), context)`.
The values are those of its own parameters: only these are converted by every version of typer, unlike `Context.params`.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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

    @property
    def chosen(self) -> str | None:
        """The device that was asked for; None where the engine chooses."""
        return None if self is Device.AUTO else self.value


class Dtype(StrEnum):
    """Numbers that the model computes in."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


DialectName = Literal["vllm", "openai"]
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
    DialectName,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointOptions:
    """How an endpoint is asked, whatever it is asked for."""

    dialect: DialectName
    concurrency: int
    requests_per_minute: float | None
    timeout: float
    max_retries: int
    cache: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Which engine to start, and how it is asked."""

    model: str
    engine: EngineName
    batch_size: int | None
    device: Device
    dtype: Dtype
    base_url: str | None
    endpoint: EndpointOptions


ENDPOINT_OPTIONS = tuple(field.name for field in fields(EndpointOptions))
OPTIONS_OF = {
    EngineName.TRANSFORMERS: ("device", "dtype"),
    EngineName.VLLM: ("device", "dtype"),
    EngineName.ENDPOINT: ("base_url", *ENDPOINT_OPTIONS),
}
"""Options that not every engine heeds."""


def start_engine(options: EngineOptions, context: typer.Context) -> "Engine":
    """The engine that the options of the running command choose, ready to generate.

    Raises `ModelError` for what is no checkpoint, `ConfigError` for options that do not go together and `EngineError`
    for an endpoint that does not answer and for vLLM that is not installed.
    """
    _refuse_options_of_others(options.engine, context)
    match options.engine:
        case EngineName.TRANSFORMERS:
            return _transformers(options)
        case EngineName.VLLM:
            return _vllm(options)
        case EngineName.ENDPOINT:
            if options.base_url is None:
                raise ConfigError("--engine endpoint needs an address; add --base-url http://127.0.0.1:8000/v1")
            return start_endpoint(options.base_url, options.model, options.endpoint)


def start_endpoint(base_url: str, model: str, options: EndpointOptions) -> "EndpointEngine":
    """The model at an endpoint, asked as the options say.

    Raises `EngineError` where it does not answer and `ConfigError` for an address that is none.
    """
    from medr1.rollout.cache import ResponseCache
    from medr1.rollout.endpoint import EndpointEngine

    cache = None if options.cache is None else ResponseCache(options.cache)
    engine = EndpointEngine(base_url=base_url, model=model, **{**asdict(options), "cache": cache})
    engine.check()
    return engine


def given_flags(context: typer.Context, names: Iterable[str]) -> list[str]:
    """The flags of those options that stand on the command line."""
    sources = {name: context.get_parameter_source(name) for name in names}
    return [
        f"--{name.replace('_', '-')}" for name, source in sources.items() if source and source.name == "COMMANDLINE"
    ]


def batch_size_of(options: EngineOptions) -> int:
    """Prompts that are generated together: as many as asked for, else what suits the engine."""
    match options.engine:
        case EngineName.TRANSFORMERS:
            usual = 8
        case EngineName.VLLM:  # it fills its batches itself, from all that it has been asked
            usual = 256
        case EngineName.ENDPOINT:  # it idles at the end of every batch, where its last answers come in
            usual = 8 * options.endpoint.concurrency
    return options.batch_size or usual


def _transformers(options: EngineOptions) -> "Engine":
    from medr1.rollout.transformers import TransformersEngine

    return TransformersEngine(
        options.model,
        device=options.device.chosen,
        dtype=options.dtype.value,
        batch_size=batch_size_of(options),
    )


def _vllm(options: EngineOptions) -> "Engine":
    from medr1.rollout.vllm import VllmEngine

    return VllmEngine(options.model, device=options.device.chosen, dtype=options.dtype.value)


def _refuse_options_of_others(chosen: EngineName, context: typer.Context) -> None:
    """Raise `ConfigError` where an option was given that the chosen engine does not heed."""
    for engine, names in OPTIONS_OF.items():
        for flag in given_flags(context, (name for name in names if name not in OPTIONS_OF[chosen])):
            raise ConfigError(f"--engine {chosen} has no {flag}; leave it out, or choose --engine {engine}")
