"""Which engine generates, and how it is asked."""

from pathlib import Path
from typing import Annotated, Literal, Self

from annotated_types import Ge, Gt
from pydantic import field_validator, model_validator

from medr1.answers import PROTOCOLS
from medr1.engines.pace import PATIENCE, told_patience
from medr1.errors import ConfigError
from medr1.prompts import PROMPTS
from medr1.settings import Settings, Several, known

EngineName = Literal["transformers", "vllm", "endpoint"]


class EndpointSettings(Settings):
    """How an endpoint is asked, whatever it is asked for."""

    dialect: Literal["vllm", "openai"] = "vllm"
    """Endpoint: sampling fields that it takes; openai has no top_k, min_p and repetition_penalty."""
    omit: Several[str] = ()
    """Endpoint: sampling fields not to send, for models that refuse them: temperature,presence_penalty."""
    concurrency: Annotated[int, Ge(1)] = 8
    """Endpoint: requests under way at a time."""
    requests_per_minute: Annotated[float, Gt(0)] | None = None
    """Endpoint: most requests that are started in a minute."""
    timeout: Annotated[float, Gt(0)] = 120.0
    """Endpoint: seconds for one try."""
    max_retries: Annotated[int, Ge(0)] = 5
    """Endpoint: further tries after time-outs, HTTP 429 and 5xx and broken replies."""
    patience: Annotated[float, Gt(0)] = PATIENCE
    """Endpoint: seconds that a request waits in all between its tries."""
    cache: Path | None = None
    """Endpoint: folder that keeps completions, so that no request is paid twice."""

    def told_patience(self) -> str:
        """How long a run may wait for the server, in one sentence."""
        return told_patience(self.max_retries + 1, self.timeout, self.patience)


class AskedSettings(Settings):
    """How a question is put, and how the answer is read."""

    prompt: str | None = None
    """Prompt by name, as bare or med-r1/think (a wrong one lists all); by default the one that the checkpoint was
    trained with, else think."""
    protocol: str = "default"
    """How completions are read."""

    @field_validator("prompt")
    @classmethod
    def _prompt(cls, name: str | None) -> str | None:
        return None if name is None else known("prompt", name, PROMPTS)

    @field_validator("protocol")
    @classmethod
    def _protocol(cls, name: str) -> str:
        return known("protocol", name, PROTOCOLS)


class LocalSettings(Settings):
    """Where a model of ours runs."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Numbers that it computes in."""

    @property
    def chosen_device(self) -> str | None:
        """The device that was asked for; None where the engine chooses."""
        return None if self.device == "auto" else self.device


HEEDED = {
    "transformers": (*LocalSettings.model_fields,),
    "vllm": (*LocalSettings.model_fields,),
    "endpoint": ("base_url", *EndpointSettings.model_fields),
}
"""Settings that not every engine heeds."""


class EngineSettings(LocalSettings, EndpointSettings):
    """What generates."""

    engine: EngineName = "transformers"
    """What generates."""
    batch_size: Annotated[int, Ge(1)] | None = None
    """Prompts generated together: 8, vLLM 256, an endpoint 8 times --concurrency."""
    base_url: str | None = None
    """Endpoint: address up to /v1. Its key, if any, is read from the variable MEDR1_API_KEY."""

    @model_validator(mode="after")
    def _fits_the_engine(self) -> Self:
        for engine, names in HEEDED.items():
            for name in names:
                if name in self.changed and name not in HEEDED[self.engine]:
                    flag = f"--{name.replace('_', '-')}"
                    raise ConfigError(
                        f"--engine {self.engine} has no {flag}; leave it out, or choose --engine {engine}"
                    )
        if self.engine == "endpoint" and self.base_url is None:
            raise ConfigError("--engine endpoint needs an address; add --base-url http://127.0.0.1:8000/v1")
        return self

    @property
    def prompts_together(self) -> int:
        """Prompts that are generated together: as many as asked for, else what suits the engine."""
        usual = {
            "transformers": 8,
            "vllm": 256,  # it fills its batches itself, from all that it has been asked
            "endpoint": 8 * self.concurrency,  # it idles at the end of every batch, where its last answers come in
        }
        return self.batch_size or usual[self.engine]
