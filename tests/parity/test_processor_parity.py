"""The tiny checkpoint is an ordinary one: stock classes open it, and our patches are those of its own processor."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

from medr1.data.phantom import QUESTIONS, phantom
from medr1.errors import ModelError
from medr1.models.loading import load_model, load_processor, model_type, save_checkpoint
from medr1.models.pixels import patchify
from medr1.models.shared.pack import encode_prompts, left_padded
from medr1.models.tiny import WARM_START
from medr1.models.tiny.build import FAMILIES
from medr1.models.tiny.tokenizer import TAGS, train_tokenizer


@pytest.mark.parametrize(("height", "width"), [(84, 84), (56, 112), (28, 28)])
def test_patches_equal_the_processor(height: int, width: int) -> None:
    processor = load_processor(WARM_START).image_processor
    images = np.random.default_rng(height).integers(0, 256, (3, height, width, 3), dtype=np.uint8)
    stock = processor(images=[Image.fromarray(image) for image in images], return_tensors="pt")
    patches, grids = patchify(images, processor)
    assert torch.equal(grids, stock["image_grid_thw"])
    torch.testing.assert_close(patches, stock["pixel_values"], rtol=0, atol=1e-6)


def test_patches_pass_gradients() -> None:
    processor = load_processor(WARM_START).image_processor
    image = torch.full((1, 28, 28, 3), 100.0, requires_grad=True)
    patches, _ = patchify(image, processor)
    patches.sum().backward()
    assert image.grad is not None
    # A still image is copied into both frames of a patch, so each pixel counts twice.
    expected = 2 * processor.rescale_factor / torch.tensor(processor.image_std)
    torch.testing.assert_close(image.grad[0, 5, 7], expected.float(), rtol=1e-5, atol=0)


def test_stock_classes_open_the_warm_start() -> None:
    model = AutoModelForImageTextToText.from_pretrained(WARM_START)
    assert model.config.model_type == model_type(WARM_START) == "qwen2_5_vl"
    assert 1e6 < sum(p.numel() for p in model.parameters()) < 4e6
    tokenizer = AutoTokenizer.from_pretrained(WARM_START)
    assert tokenizer("<think>finding cyst</think><answer>B</answer>")["input_ids"].__len__() == 7
    assert type(AutoImageProcessor.from_pretrained(WARM_START)).__name__.startswith("Qwen2VLImageProcessor")
    settings = json.loads((WARM_START / "processor_config.json").read_text())
    assert settings["processor_class"] == "Qwen2_5_VLProcessor"
    assert settings["video_processor"]["video_processor_type"] == "Qwen2VLVideoProcessor"
    assert sum(file.stat().st_size for file in WARM_START.iterdir()) < 10e6


@pytest.mark.parametrize(
    ("family", "video", "mean"),
    [
        ("qwen2_vl", "Qwen2VLVideoProcessor", 0.481),
        ("qwen2_5_vl", "Qwen2VLVideoProcessor", 0.481),
        ("qwen3_vl", "Qwen3VLVideoProcessor", 0.5),
    ],
)
def test_a_checkpoint_names_the_stock_classes_of_its_family(
    checkpoints: dict[str, Path], family: str, video: str, mean: float
) -> None:
    settings = json.loads((checkpoints[family] / "processor_config.json").read_text())
    assert settings["processor_class"] == PROCESSOR_MAPPING_NAMES[family]
    assert settings["video_processor"]["video_processor_type"] == video
    for part in ("image_processor", "video_processor"):
        assert settings[part]["image_mean"][0] == pytest.approx(mean, abs=1e-3)
    assert settings["image_processor"]["patch_size"] == settings["video_processor"]["patch_size"]
    config = json.loads((checkpoints[family] / "config.json").read_text())
    assert config["vision_config"]["patch_size"] == settings["image_processor"]["patch_size"]


def test_every_option_is_one_token() -> None:
    tokenizer = load_processor(WARM_START).tokenizer
    for kind in QUESTIONS.values():
        for word in kind.pool:
            assert len(tokenizer(f" {word}")["input_ids"]) == 1, word
    for tag in TAGS:
        assert len(tokenizer(tag)["input_ids"]) == 1
        assert tag in tokenizer.decode(tokenizer(tag)["input_ids"], skip_special_tokens=True)


def test_the_tokenizer_is_made_the_same_every_time() -> None:
    shipped = load_processor(WARM_START).tokenizer
    trained = train_tokenizer()
    assert trained.get_vocab() == shipped.get_vocab()
    text = "Which finding is present?\nA) cyst\nB) 42 % — ünïcode\x00"
    assert trained(text)["input_ids"] == shipped(text)["input_ids"]


def test_save_and_load_changes_nothing(tmp_path: Path, checkpoints: dict[str, Path]) -> None:
    for family, folder in checkpoints.items():
        processor, model = load_processor(folder), load_model(folder, dtype="float32")
        save_checkpoint(model, processor, tmp_path / family)
        again, reloaded = load_processor(tmp_path / family), load_model(tmp_path / family, dtype="float32")
        sample = phantom("train", 0)
        text = processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": sample.sample.question}]}],
            tokenize=False,
            add_generation_prompt=True,
        )
        image = [Image.fromarray(sample.image)]
        one = processor(text=[text], images=image, return_tensors="pt")
        two = again(text=[text], images=image, return_tensors="pt")
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)
        with torch.no_grad():
            assert torch.equal(model(**one).logits, reloaded(**two).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_of_a_batch_equal_prompts_alone(checkpoints: dict[str, Path], family: str) -> None:
    """Left padding, several images and text-only prompts: the logits of each prompt are those it has alone."""
    folder = checkpoints[family]
    processor, model = load_processor(folder), load_model(folder, dtype="float32")
    pictures = [Image.fromarray(phantom("train", i, side=56 + 28 * (i % 2)).image) for i in range(3)]
    images = [[pictures[0]], [pictures[1], pictures[2]], []]
    texts = [
        processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}] * len(own) + [{"type": "text", "text": "A) cyst" * n}]}],
            tokenize=False,
            add_generation_prompt=True,
        )
        for n, own in enumerate(images, start=1)
    ]
    prompts = encode_prompts(processor, model, texts, images)
    with torch.no_grad():
        together = model(**left_padded(prompts, processor.tokenizer.pad_token_id)).logits[:, -1]
        for row, (text, own) in enumerate(zip(texts, images, strict=True)):
            stock = processor(text=[text], images=own or None, return_tensors="pt")
            assert torch.equal(prompts[row].input_ids_L, stock["input_ids"][0])
            assert torch.equal(prompts[row].mm_token_type_ids_L, stock["mm_token_type_ids"][0])
            positions, _ = model.model.get_rope_index(
                stock["input_ids"],
                mm_token_type_ids=stock["mm_token_type_ids"],
                image_grid_thw=stock.get("image_grid_thw"),
            )
            assert torch.equal(prompts[row].position_ids_AL, positions[:, 0])
            torch.testing.assert_close(together[row], model(**stock).logits[0, -1], rtol=1e-4, atol=1e-4)


def test_no_checkpoint() -> None:
    with pytest.raises(ModelError, match="no folder"):
        model_type("nowhere-at-all")
