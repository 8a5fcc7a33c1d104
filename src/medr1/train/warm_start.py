"""Trains the tiny model's warm start: the checkpoint from which the demo's reinforcement learning begins.

Three stages, each a short supervised run on phantoms drawn for it: (1) *look-up*, text only: question, options and a
given finding -> letter; (2) *captions* with linear heads on the vision tower, which make it see lesions, while look-ups
go on; (3) a short stretch of multiple choice, stopped in the middle of learning, so that the model answers in the right
format and sometimes names the right finding. What is left to learn is what GRPO is for. `docs/log.md` tells what else
was tried.

Axes: B rows, L tokens, V vocabulary, K image tokens, H hidden size.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from medr1.data.phantom import QUESTIONS, PhantomState, bulk
from medr1.data.phantom.questions import TWO_OPTIONS_SHARE, Question, ask
from medr1.models.loading import save_checkpoint
from medr1.models.memory import remember
from medr1.models.pixels import patchify
from medr1.models.tiny.build import TinyShape, build_model, build_processor
from medr1.models.tiny.circuits import whitened_patches
from medr1.models.tiny.tokenizer import CAPTION_REQUEST, train_tokenizer
from medr1.prompts import PROMPTS, render, target
from medr1.records import write_json
from medr1.types import LETTERS, Sample

FINDINGS, SIZES = QUESTIONS["diagnosis"].pool, QUESTIONS["grading"].pool
SIDES, COUNTS = QUESTIONS["location"].pool, QUESTIONS["count"].pool
ANATOMIES = QUESTIONS["anatomy"].pool
VALUES = sorted({value for question in QUESTIONS.values() for value in question.pool})
PROMPT = PROMPTS["bare"]
MIRRORED = {"left": "right", "right": "left"}
IGNORED = -100
FIRST_IMAGE = 10_000_000
"""Number of the first phantom of the split `train` used here: far from those that reinforcement learning sees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curriculum:
    """How long and how fast each stage learns; the defaults made the shipped checkpoint."""

    seed: int = 0
    num_images: int = 44_000
    lookup_steps: int = 120
    lookup_batch: int = 96
    lookup_learning_rate: float = 2e-3
    absent_share: float = 0.15
    """Look-ups of a value that is not among the options; any letter that is offered is right."""
    caption_steps: int = 1400
    caption_batch: int = 64
    caption_learning_rate: float = 1.2e-3
    caption_lookups: int = 24
    caption_lookup_weight: float = 0.7
    choice_steps: int = 56
    choice_batch: int = 32
    choice_learning_rate: float = 4e-4
    choice_caption_weight: float = 0.3
    choice_letter_weight: float = 4.0
    warmup_steps: int = 40


class Lesson:
    """Turns phantoms into token rows for one tokenizer and image size."""

    def __init__(self, processor: Any, shape: TinyShape, *, absent_share: float) -> None:
        self.tokenizer = processor.tokenizer
        self.absent_share = absent_share
        self.num_image_tokens = (shape.image_side // 28) ** 2
        image = processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "\0"}]}],
            tokenize=False,
            add_generation_prompt=True,
        )
        expanded = image.replace("<|image_pad|>", "<|image_pad|>" * self.num_image_tokens)
        self.before, self.after = expanded.split("\0")
        self.letter_ids = torch.tensor(self.tokenizer.convert_tokens_to_ids(list(LETTERS[:4])))
        self.image_token_id = self.tokenizer.convert_tokens_to_ids("<|image_pad|>")

    def choice(self, state: PhantomState, kind: str, rng: np.random.Generator) -> tuple[str, str]:
        """Prompt and target of a multiple-choice question about an image."""
        question, answer = _question_and_answer(kind, ask(state, kind, rng))
        return self.before + question + self.after, answer

    def lookup(self, rng: np.random.Generator) -> tuple[str, str]:
        """The same without image and system turn; what was seen is drawn from the options, now and then from all words.

        Without the latter a model that sees nothing, or something else, answers with letters that were not offered.
        """
        kind = list(QUESTIONS)[rng.integers(len(QUESTIONS))]
        pool, wordings = QUESTIONS[kind].pool, QUESTIONS[kind].wordings
        size = 2 if rng.random() < TWO_OPTIONS_SHARE else 4
        options = tuple(pool[i] for i in rng.permutation(len(pool))[:size])
        asked = Question(wordings[rng.integers(len(wordings))], options, int(rng.integers(size)))
        absent = [value for value in VALUES if value not in options]
        seen = absent[rng.integers(len(absent))] if rng.random() < self.absent_share else None
        question, answer = _question_and_answer(kind, asked, seen)
        return question + self.after, answer

    def caption(self, state: PhantomState, rng: np.random.Generator) -> tuple[str, str]:
        """Prompt and target of a description: everything that is known of the image, in random order."""
        values = state.values()
        keys = [key for key, value in values.items() if value is not None]
        pairs = [f"{keys[i]} {values[keys[i]]}" for i in rng.permutation(len(keys))]
        return self.before + CAPTION_REQUEST + self.after, " ".join(pairs) + "<|im_end|>"

    def rows(self, pairs: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
        """Prompts padded on the left, targets on the right, and the number of prompt columns."""
        prompts = self.tokenizer(
            [prompt for prompt, _ in pairs], padding=True, padding_side="left", return_tensors="pt"
        )
        targets = self.tokenizer([text for _, text in pairs], padding=True, padding_side="right", return_tensors="pt")
        return {
            "input_ids": torch.cat([prompts["input_ids"], targets["input_ids"]], 1),
            "attention_mask": torch.cat([prompts["attention_mask"], targets["attention_mask"]], 1),
            "target_ids": targets["input_ids"],
            "target_mask": targets["attention_mask"].float(),
        }


def _question_and_answer(kind: str, asked: Question, seen: str | None = None) -> tuple[str, str]:
    """User text and answer, exactly as evaluation asks and expects them; `seen` is the right option by default."""
    sample = Sample(id="", images=(), question=asked.text, options=asked.options, answer_index=asked.answer_index)
    rationale = f"{QUESTIONS[kind].key} {seen or asked.options[asked.answer_index]}"
    return render(PROMPT, sample), target(PROMPT, sample, rationale) + "<|im_end|>"


def target_logits(model: Any, rows: dict[str, Tensor], image_token_id: int, features_BKH: Tensor | None) -> Tensor:
    """Logits of the target tokens, given vision features in place of the image tokens."""
    ids, mask = rows["input_ids"], rows["attention_mask"]
    embedded = model.model.language_model.embed_tokens(ids)
    is_image = ids == image_token_id
    grids = None
    if features_BKH is not None:
        embedded = embedded.masked_scatter(is_image[..., None], features_BKH)
        side = 2 * math.isqrt(features_BKH.shape[1])
        grids = torch.tensor([[1, side, side]]).repeat(len(ids), 1)
    positions, _ = model.model.get_rope_index(
        ids, mm_token_type_ids=is_image.long(), image_grid_thw=grids, attention_mask=mask
    )
    hidden = model.model.language_model(
        inputs_embeds=embedded, attention_mask=mask, position_ids=positions, use_cache=False
    ).last_hidden_state
    return model.lm_head(hidden[:, -rows["target_ids"].shape[1] - 1 : -1])


def weighted_loss(logits_BLV: Tensor, rows: dict[str, Tensor], weight_BL: Tensor) -> Tensor:
    """Mean cross-entropy of the target tokens under per-token weights."""
    loss_BL = cross_entropy(logits_BLV.transpose(1, 2), rows["target_ids"], reduction="none")
    return (loss_BL * weight_BL).sum() / weight_BL.sum()


class ReadOuts(nn.Module):
    """Linear read-outs of the vision features, thrown away after training: without them lesions stay unseen."""

    def __init__(self, hidden_size: int, num_image_tokens: int) -> None:
        super().__init__()
        self.pooled_sizes = (len(FINDINGS), len(SIZES), len(COUNTS) + 1)
        self.placed_sizes = (*self.pooled_sizes, len(SIDES), len(ANATOMIES))
        self.pooled = nn.Linear(hidden_size, sum(self.pooled_sizes))
        self.placed = nn.Linear(hidden_size * num_image_tokens, sum(self.placed_sizes))

    def loss(self, features_BKH: Tensor, states: Sequence[PhantomState]) -> Tensor:
        """Summed cross-entropy of finding, size, count (twice), side and anatomy."""
        finding = torch.tensor([FINDINGS.index(state.finding) for state in states])
        size = torch.tensor([SIZES.index(state.size) for state in states])
        count = torch.tensor([state.count for state in states])
        side = torch.tensor([IGNORED if state.side is None else SIDES.index(state.side) for state in states])
        anatomy = torch.tensor([ANATOMIES.index(state.anatomy) for state in states])
        pooled = self.pooled(features_BKH.mean(1)).split(self.pooled_sizes, 1)
        placed = self.placed(features_BKH.flatten(1)).split(self.placed_sizes, 1)
        labels = (finding, size, count, side, anatomy)
        terms = [cross_entropy(logits, label) for logits, label in zip(pooled, labels[:3], strict=True)]
        terms += [
            cross_entropy(logits, label, ignore_index=IGNORED) for logits, label in zip(placed, labels, strict=True)
        ]
        return torch.stack(terms).sum()


def mirrored(
    images: np.ndarray, states: Sequence[PhantomState], rng: np.random.Generator
) -> tuple[np.ndarray, list[PhantomState]]:
    """Half of the images flipped left to right, with their side renamed."""
    flip = rng.random(len(images)) < 0.5
    turned = np.where(flip[:, None, None, None], images[:, :, ::-1], images)
    renamed = [
        replace(state, side=MIRRORED.get(state.side, state.side)) if flipped and state.side else state
        for state, flipped in zip(states, flip, strict=True)
    ]
    return turned, renamed


class WarmStart:
    """The model in the making, its data and its random numbers."""

    def __init__(self, shape: TinyShape, curriculum: Curriculum, *, processes: int) -> None:
        self.curriculum = curriculum
        tokenizer = train_tokenizer()
        self.shape, self.processor = shape, build_processor(shape, tokenizer)
        self.model = build_model(shape, tokenizer, seed=curriculum.seed)
        self.lesson = Lesson(self.processor, shape, absent_share=curriculum.absent_share)
        self.rng = np.random.default_rng(curriculum.seed + 1)
        self.images, self.states, self.kinds = bulk(
            "train",
            curriculum.num_images,
            seed=curriculum.seed,
            side=shape.image_side,
            processes=processes,
            start=FIRST_IMAGE,
        )
        sampled, _ = patchify(self.images[:1000], self.processor.image_processor)
        chosen = torch.randperm(len(sampled), generator=torch.Generator().manual_seed(0))[:30_000]
        whitened_patches(self.model, sampled[chosen])
        torch.manual_seed(curriculum.seed)
        self.heads = ReadOuts(shape.hidden_size, self.lesson.num_image_tokens)
        self._order: list[int] = []

    def draw_images(self, count: int) -> tuple[Tensor, list[PhantomState], list[str]]:
        """Vision features, states and question kinds of the next images of an endless shuffle."""
        if len(self._order) < count:
            self._order += self.rng.permutation(len(self.images)).tolist()
        chosen, self._order = self._order[:count], self._order[count:]
        images, states = mirrored(self.images[chosen], [self.states[i] for i in chosen], self.rng)
        patches, grids = patchify(images, self.processor.image_processor)
        features = self.model.model.visual(patches, grid_thw=grids).pooler_output
        return features.view(count, self.lesson.num_image_tokens, -1), states, [self.kinds[i] for i in chosen]

    def lookup_loss(self, count: int) -> Tensor:
        """Loss of text-only look-ups: the letter in full, the rest of what follows the thinking by a tenth."""
        rows = self.lesson.rows([self.lesson.lookup(self.rng) for _ in range(count)])
        weight = 0.1 * rows["target_mask"]
        weight[:, :3] = 0  # the finding is given
        weight[torch.isin(rows["target_ids"], self.lesson.letter_ids)] = 1
        return weighted_loss(target_logits(self.model, rows, self.lesson.image_token_id, None), rows, weight)

    def caption_loss(self, features: Tensor, states: Sequence[PhantomState]) -> Tensor:
        """Loss of descriptions."""
        rows = self.lesson.rows([self.lesson.caption(state, self.rng) for state in states])
        logits = target_logits(self.model, rows, self.lesson.image_token_id, features)
        return weighted_loss(logits, rows, rows["target_mask"])

    def choice_loss(self, features: Tensor, states: Sequence[PhantomState], kinds: Sequence[str]) -> Tensor:
        """Loss of multiple-choice questions, letters counting more."""
        pairs = [self.lesson.choice(state, kind, self.rng) for state, kind in zip(states, kinds, strict=True)]
        rows = self.lesson.rows(pairs)
        letters = torch.isin(rows["target_ids"], self.lesson.letter_ids)
        weight = rows["target_mask"] * torch.where(letters, self.curriculum.choice_letter_weight, 1.0)
        return weighted_loss(target_logits(self.model, rows, self.lesson.image_token_id, features), rows, weight)

    def lookup_step(self) -> Tensor:
        """Stage 1."""
        return self.lookup_loss(self.curriculum.lookup_batch)

    def caption_step(self) -> Tensor:
        """Stage 2."""
        features, states, _ = self.draw_images(self.curriculum.caption_batch)
        seen = self.caption_loss(features, states) + self.heads.loss(features, states)
        return seen + self.curriculum.caption_lookup_weight * self.lookup_loss(self.curriculum.caption_lookups)

    def choice_step(self) -> Tensor:
        """Stage 3."""
        features, states, kinds = self.draw_images(self.curriculum.choice_batch)
        described = self.curriculum.choice_caption_weight * self.caption_loss(features, states)
        return self.choice_loss(features, states, kinds) + described

    def stage(self, name: str, loss: Callable[[], Tensor], steps: int, rate: float, *, decay: bool) -> Iterator[dict]:
        """Train for some steps with a fresh optimizer; yields a record after every step."""
        parameters = [*self.model.parameters(), *self.heads.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
        self.model.train()
        for step in range(steps):
            cosine = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / steps)) if decay else 1.0
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1, (step + 1) / self.curriculum.warmup_steps) * cosine
            value = loss()
            optimizer.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            yield {"stage": name, "step": step + 1, "steps": steps, "loss": value.item()}
        self.model.eval()

    def train(self) -> Iterator[dict]:
        """All three stages; yields a record after every step."""
        plan = self.curriculum
        yield from self.stage("look-up", self.lookup_step, plan.lookup_steps, plan.lookup_learning_rate, decay=False)
        yield from self.stage("captions", self.caption_step, plan.caption_steps, plan.caption_learning_rate, decay=True)
        yield from self.stage(
            "multiple choice", self.choice_step, plan.choice_steps, plan.choice_learning_rate, decay=False
        )

    def save(self, folder: Path) -> None:
        """Write model and processor in the ordinary checkpoint layout, with the settings that made them."""
        save_checkpoint(self.model, self.processor, folder)
        remember(folder, PROMPT)
        settings = {"shape": asdict(self.shape), "curriculum": asdict(self.curriculum)}
        write_json(folder / "made_by.json", {"command": "medr1 models tiny --train", **settings})
