"""What the commands are asked for that evaluate, and that work on evaluations."""

from pathlib import Path
from typing import Annotated, Self

from annotated_types import Ge
from pydantic import field_validator, model_validator

from medr1.engines.engine import SamplingParams
from medr1.engines.settings import AskedSettings, EndpointSettings, EngineSettings
from medr1.errors import ConfigError
from medr1.settings import POSITIONAL, Positional, RunSettings, Settings, Several, known


class EvalSettings(RunSettings, AskedSettings, EngineSettings):
    """An evaluation: which checkpoint, on which questions, asked how."""

    model: Positional[str]
    """Checkpoint: a folder, a name of `medr1 models list`, or a hub name. Endpoint: its name for the model."""
    data: Path
    """Samples: a folder that `medr1 data` wrote, or a parquet file."""
    out: Path
    """Folder for predictions.jsonl, results.json and manifest.json."""
    variants: Several[str] = ("blank", "swapped")
    """What else is done to the questions, comma-separated, or an empty text: blank, noise, no_image, low_resolution,
    shuffled, other_modality, swapped, rotated (every rotation of the options), none_of_the_above; a corruption with its
    severity, as jpeg/3; degraded:noise, degraded:corruption; thinking:own, :truncated, :empty, :swapped,
    :contradicting."""
    option_logprobs: bool = False
    """Keep the log-probabilities of the option letters."""
    train_data: Path | None = None
    """Training samples that the text prior is fitted on."""
    max_new_tokens: Annotated[int, Ge(1)] = 256
    """Limit of a completion."""
    temperature: Annotated[float, Ge(0)] = 0.0
    """0 is greedy decoding."""
    num_draws: Annotated[int, Ge(1)] = 1
    """Completions per prompt; all of them count."""
    limit: Annotated[int, Ge(1)] | None = None
    """Evaluate so many samples, drawn at random."""
    seed: int = 0
    """Seed of the drawn samples, the variants and sampling."""

    @field_validator("variants")
    @classmethod
    def _variants(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        from medr1.variants import variant_names  # it reads images, and --help need not wait for that

        variant_names(names, ())
        return names

    @model_validator(mode="after")
    def _one_draw(self) -> Self:
        from medr1.variants import check_draws

        check_draws(self.variants, self.num_draws)
        return self

    @model_validator(mode="after")
    def _scores_options(self) -> Self:
        if self.option_logprobs and self.engine != "transformers":
            raise ConfigError(f"--engine {self.engine} does not tell --option-logprobs; choose --engine transformers")
        return self

    @property
    def params(self) -> SamplingParams:
        """How completions are drawn."""
        return SamplingParams(
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            num_draws=self.num_draws,
            seed=self.seed,
        )


class ReasoningSettings(EngineSettings):
    """What the thinking of an evaluation is worth: which one, and which interventions."""

    run: Positional[Path]
    """Folder of an evaluation with thinking, as `medr1 eval` wrote it."""
    out: Path | None = None
    """Folder for reasoning.json; that of the run by default."""
    interventions: Several[str] = ()
    """Answer anew after changed thinking, comma-separated: own, truncated, empty, swapped, contradicting."""
    data: Path | None = None
    """Samples of the run: for interventions, and for what the records say."""
    model: str | None = None
    """Interventions: the checkpoint of the run; what its manifest says by default."""
    limit: Annotated[int, Ge(1)] | None = None
    """Interventions: so many samples, drawn at random."""
    seed: int = 0
    """Interventions: seed of the drawn samples and changes."""
    overwrite: bool = False
    """Start anew: reasoning.json and the answers after changed thinking."""

    @field_validator("interventions")
    @classmethod
    def _interventions(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        from medr1.variants.thinking import CHANGES

        return tuple(known("intervention", name, CHANGES) for name in names)

    @model_validator(mode="after")
    def _images(self) -> Self:
        if self.interventions and self.data is None:
            raise ConfigError(
                "--interventions need the images of the questions; add --data with what the run was made on"
            )
        return self


class RescoreSettings(RunSettings, EndpointSettings):
    """Which stored completions are scored again, and by which judge."""

    predictions: Positional[Path]
    """A run folder or predictions.jsonl of `medr1 eval`; a result JSON of MedVLM-R1, Med-R1 or AdvMed-R1; or what
    VLMEvalKit (xlsx, tsv, csv, json), lmms-eval (jsonl samples) or MedEvalKit (results.json) wrote."""
    out: Path
    """Folder for rescore.json and judgements.jsonl."""
    data: Path | None = None
    """Questions that were asked, where the predictions do not hold them: a folder that `medr1 data` wrote, or a file of
    any source, in the order of the predictions."""
    train_data: Path | None = None
    """Training samples that the text prior is fitted on."""
    limit: Annotated[int, Ge(1)] | None = None
    """Score so many questions, drawn at random."""
    seed: int = 0
    """Seed of the drawn questions."""
    overwrite: bool = False
    """Start anew where the folder holds another rescoring; verdicts go, too."""
    judge_endpoint: str | None = None
    """Let a language model judge every answer, too: address of its chat endpoint up to /v1. Its key, if any, is read
    from the variable MEDR1_API_KEY."""
    judge_model: str | None = None
    """Its name at that endpoint."""

    @model_validator(mode="after")
    def _judge(self) -> Self:
        if (self.judge_endpoint is None) != (self.judge_model is None):
            raise ConfigError("a judge needs both --judge-endpoint and --judge-model; add the other one")
        if self.judge_endpoint is None and (asked := self.changed & EndpointSettings.model_fields.keys()):
            raise ConfigError(
                f"--{min(asked).replace('_', '-')} is for a judge; leave it out, or add --judge-endpoint and "
                "--judge-model"
            )
        return self


class CompareSettings(Settings):
    """Which evaluations are compared, and in what they may differ."""

    runs: Annotated[tuple[Path, ...], POSITIONAL]
    """Folders that `medr1 eval` wrote; the first is the reference."""
    out: Path | None = None
    """Folder for compare.json, which also lists what flipped."""
    blind_twin: Path | None = None
    """Evaluation of a model trained on blank images, shown as a column."""
    across: Several[str] = ()
    """What the runs may differ in, comma-separated: protocol, data, backend."""
    by: Several[str] = ("modality", "task")
    """Parts to compare as well, comma-separated: modality, task, source, num_options."""
    overwrite: bool = False
    """Start anew where the folder holds a run."""

    @model_validator(mode="after")
    def _several(self) -> Self:
        if len(self.runs) < 2:
            alone = "".join(map(str, self.runs))
            raise ConfigError(f"one run ({alone}) has nothing to be compared with; name at least two")
        return self


class RobustnessSettings(Settings):
    """Which evaluation of corrupted data stands against which of the clean."""

    clean: Positional[Path]
    """Evaluation of the clean data: a folder that `medr1 eval` wrote."""
    corrupted: Positional[Path]
    """Evaluation of its corrupted copies, by the same model."""
    out: Path | None = None
    """Folder for corruptions.json."""
    overwrite: bool = False
    """Start anew where the folder holds a run."""


class VerifySettings(Settings):
    """Which stored numbers are computed again."""

    run: Positional[Path]
    """Folder that `medr1 eval` or `medr1 rescore` wrote, or samples of studies that `medr1 data convert` wrote."""
    data: Path | None = None
    """The evaluated samples; by default where the manifest says, if there. Of studies: the folder of their files."""
    train_data: Path | None = None
    """Samples that the text prior was fitted on."""
    predictions: Path | None = None
    """The completions that `medr1 rescore` scored; by default where the manifest says."""
