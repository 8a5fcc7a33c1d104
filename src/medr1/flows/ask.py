"""One question about one or more pictures, and what the same model says without looking. Nothing is written."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from medr1.answers.default import answer_text
from medr1.answers.tags import answer_start
from medr1.data.images import BURNED_IN, UNFIT, embed_images, picture_file
from medr1.data.options import without_labels
from medr1.engines.engine import (
    AnswerPlace,
    OptionScorer,
    SamplingParams,
    Show,
    StreamingEngine,
    about_pictures,
    note_control_text,
    request_for,
)
from medr1.errors import DataError, EngineError, MedR1Error
from medr1.eval.measures import protocol_for
from medr1.eval.receipts import receipts_of
from medr1.flows.engines import option_scorer, start_endpoint, trained_prompt
from medr1.flows.settings import AskSettings
from medr1.models.tiny import WARM_START
from medr1.prompts import PROMPTS
from medr1.results.answered import Asked, Reply
from medr1.stats import option_logits, option_probabilities
from medr1.types import Completion, ParsedAnswer, Receipt, Sample
from medr1.variants import VARIANTS
from medr1.variants.thinking import thinking_span
from medr1.variants.variant import AS_IT_IS, Variant

NOTICE = "For research. This is no medical device, and no answer of it is medical advice."
TOY = (
    "No --model was named, so medr1's own toy answers: a million weights that have seen drawn phantoms only. What it "
    "says of a real picture means nothing."
)
Tell = Callable[[str], None]
"""Called with each sentence that the user should know before the answer."""


def start_asked(settings: AskSettings) -> StreamingEngine:
    """The engine that is asked.

    Raises `ModelError` for what is no checkpoint, and `EngineError` for a server that does not answer.
    """
    if settings.endpoint is not None:
        assert settings.model is not None, "Settings of an endpoint without a name are refused"
        return start_endpoint(settings.endpoint, settings.model, settings)
    from medr1.engines.transformers import TransformersEngine

    return TransformersEngine(settings.model or WARM_START, device=settings.chosen_device, dtype=settings.dtype)


def ask(
    settings: AskSettings,
    *,
    show: Show = lambda piece: None,
    tell: Tell = lambda sentence: None,
    engine: StreamingEngine | None = None,
) -> Asked:
    """The answer of a model, beside what it says of grey pictures.

    Args:
        settings: what is asked, and whom.
        show: gets the answer piece by piece, while it is drawn; not that without looking.
        tell: gets what the user should know before it comes.
        engine: one that has been started already (`start_asked`), where several questions are asked.

    Raises:
        DataError: a picture cannot be read, or the model does not take it or the text.
        ModelError: there is no such checkpoint.
        EngineError: the server does not answer.
    """
    sample = sample_of(settings)
    warnings = list(_warnings(settings, sample))
    prompt, said = (settings.prompt, "") if settings.prompt else trained_prompt(_checkpoint(settings))
    if not sample.options and not PROMPTS[prompt].any_answer:
        warnings.append(f"The prompt {prompt!r} asks for a letter, and there are no options; --prompt think does not.")
    for sentence in (*warnings, *filter(None, [said])):
        tell(sentence)
    engine = engine or start_asked(settings)
    note_control_text([sample], engine.describe())
    scorer = option_scorer(engine) if sample.options and settings.endpoint is None else None
    asker = _Asker(engine, scorer, settings, prompt)
    reply, receipts = asker.put(sample, AS_IT_IS, show)
    blank = None
    if settings.blank:
        variant = VARIANTS["blank"]
        try:
            blank, _ = asker.put(variant.prepare([sample], settings.seed)[0], variant, lambda piece: None)
        except MedR1Error as error:
            warnings.append(f"What it says without looking is not known: {error}.")
            tell(warnings[-1])
    return Asked(
        question=sample.question,
        options=sample.options,
        prompt=prompt,
        protocol=settings.protocol,
        engine=dict(engine.describe()),
        images=receipts,
        reply=reply,
        blank=blank,
        warnings=tuple(warnings),
        notice=NOTICE,
    )


def _checkpoint(settings: AskSettings) -> str | None:
    """What is loaded here; None for a model behind an endpoint."""
    return None if settings.endpoint is not None else settings.model or str(WARM_START)


def sample_of(settings: AskSettings) -> Sample:
    """The question as a record, its pictures inside without what their headers said. Raises `DataError`."""
    images = tuple(map(picture_file, settings.images))
    kind = "choice" if settings.options else "text"
    options = without_labels(settings.options)
    sample = Sample(id="ask", images=images, question=settings.question, options=options, answer_type=kind)
    return embed_images(sample, Path())


def _warnings(settings: AskSettings, sample: Sample) -> Iterator[str]:
    if settings.model is None:
        yield TOY
    if BURNED_IN in sample.extra:
        yield "A picture has text burned in, says its header: look for names before you show it to anyone."
    if UNFIT in sample.extra:
        yield f"{sample.extra[UNFIT]}, which no image processor of Qwen-VL takes."


@dataclass(frozen=True, slots=True)
class _Asker:
    """All that turns a question into a reply."""

    engine: StreamingEngine
    scorer: OptionScorer | None
    settings: AskSettings
    prompt: str

    def put(self, sample: Sample, variant: Variant, show: Show) -> tuple[Reply, tuple[Receipt, ...]]:
        """Ask the question with the pictures of a variant; receipts say which the engine got."""
        template, asked = PROMPTS[self.prompt], self.settings
        request = request_for(template, sample, variant.pictures(sample, asked.seed), key=f"ask:{sample.variant}")
        params = SamplingParams(max_new_tokens=asked.max_new_tokens, temperature=asked.temperature, seed=asked.seed)
        completion = self.engine.stream(request, params, show)
        if completion.finish_reason == "error":
            raise _failure(sample, completion)
        parsed = self.read(completion.text, sample)
        start = answer_start(completion.text, template.answer_format)
        logprobs = None
        if self.scorer is not None and start is not None:
            options = len(sample.options)
            place = AnswerPlace(request=request, completion=completion, start=start, num_options=options)
            logprobs = self.scorer.option_logprobs([place])[0]
        thinking = thinking_span(completion.text)
        reply = Reply(
            answer=parsed.letter,
            parse_status=str(parsed.status),
            thinking=None if thinking is None else completion.text[slice(*thinking)],
            completion=completion.text,
            num_tokens=completion.num_tokens,
            finished=completion.finish_reason == "stop",
            option_logprobs=logprobs,
            probabilities=None if logprobs is None else tuple(option_probabilities(option_logits([logprobs]))[0]),
        )
        return reply, receipts_of(request.images, completion.image_tokens)

    def read(self, completion: str, sample: Sample) -> ParsedAnswer:
        """The letter that was chosen, or the words of an answer to an open question."""
        if sample.options:
            return protocol_for(self.settings.protocol, self.prompt)(completion, sample)
        said, status = answer_text(completion, "letter")  # without tags, what stands behind the thinking
        return ParsedAnswer(said or None, status)


def _failure(sample: Sample, completion: Completion) -> MedR1Error:
    if completion.failure == "picture":
        return DataError(about_pictures(sample, completion.text))
    return (EngineError if completion.failure == "engine" else DataError)(completion.text)
