"""Trains the tiny model's tokenizer: Qwen2's byte-level BPE on the phantoms' own sentences.

Every option text, key word and letter becomes one token, so that looking up an option is one step of attention.
"""

import json
from collections.abc import Iterator

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from medr1.data.phantom import QUESTIONS
from medr1.types import LETTERS

SPECIAL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
"""Qwen2-VL's, in its order."""

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
"""Ordinary added tokens: special ones would vanish when completions are decoded, and every reward with them."""

CAPTION_REQUEST = "Describe the image."

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def corpus() -> Iterator[str]:
    """Sentences in the proportions that give every word of the phantoms a token of its own."""
    for kind in QUESTIONS.values():
        for option in kind.pool:
            for wording in kind.wordings:
                lines = "\n".join(f"{letter}) {option}" for letter in LETTERS[:4])
                yield from [f"{wording}\n{lines}"] * 25
            yield from [f"<think>{kind.key} {option}</think><answer>A</answer>"] * 25
            yield from [f"{kind.key} {option} {kind.key} {option}"] * 40
    yield from ["system\nYou are a helpful assistant.", "user\n", "assistant\n", CAPTION_REQUEST] * 500


def train_tokenizer(vocab_size: int = 640) -> Qwen2Tokenizer:
    """Tokenizer with at most `vocab_size` byte-pair tokens, the special tokens and the four tags."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.NFC()
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    trained.train_from_iterator(corpus(), trainer)
    model = json.loads(trained.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=[tuple(pair) for pair in model["merges"]],  # type: ignore[arg-type]
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL_TOKENS),
        model_max_length=1024,
    )
    tokenizer.add_tokens(list(TAGS))
    tokenizer.padding_side = "left"
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
