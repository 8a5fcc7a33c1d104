"""Differentiable preprocessing against the stock processors, on the patch grid and off it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from medr1.data.images import unfit
from medr1.models.loading import load_processor
from medr1.models.pixels import grid_image, grid_size, patchify, preprocess, resize_to_grid, unpatchify
from medr1.models.tiny.build import FAMILIES


@pytest.fixture(params=list(FAMILIES))
def processor(request: pytest.FixtureRequest, checkpoints: dict[str, Path]) -> Any:
    """The image processor of a family: two patch sizes, two normalisations."""
    return load_processor(checkpoints[request.param]).image_processor


def unit(processor: Any) -> int:
    """Side in pixels of what becomes one image token."""
    return processor.patch_size * processor.merge_size


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth with some noise: what a resize is usually given."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(2, height // 8), max(2, width // 8), 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return np.clip(smooth + rng.integers(-20, 21, smooth.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("rows", "columns"), [(3, 3), (2, 4)])
def test_equal_to_the_processor_on_the_grid(rows: int, columns: int, processor: Any) -> None:
    image = picture(rows * unit(processor), columns * unit(processor))
    stock = processor(images=[Image.fromarray(image)], return_tensors="pt")
    for dtype in (torch.float32, torch.float64):
        patches, grid = preprocess(torch.tensor(image[None]).to(dtype), processor)
        assert patches.dtype == dtype
        assert torch.equal(grid, stock["image_grid_thw"])
        torch.testing.assert_close(patches.float(), stock["pixel_values"], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(100, 90), (70, 120), (40, 33)])
def test_within_one_level_of_the_processor_off_the_grid(height: int, width: int, processor: Any) -> None:
    image = picture(height, width)
    resized = resize_to_grid(torch.tensor(image[None]).double(), processor)[0].numpy()
    stock = grid_image(Image.fromarray(image), processor)
    assert resized.shape == stock.shape == (*grid_size(height, width, processor), 3)
    assert np.abs(resized - stock).max() <= 1
    assert (resized != stock).mean() < 0.01


def test_the_grid_image_is_what_the_processor_cuts(processor: Any) -> None:
    image = Image.fromarray(picture(100, 90))
    on_grid = grid_image(image, processor)
    assert np.array_equal(grid_image(Image.fromarray(on_grid), processor), on_grid)
    stock = processor(images=[image], return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(patchify(on_grid[None], processor)[0], stock, rtol=0, atol=1e-6)


def test_unpatchify_is_the_inverse(processor: Any) -> None:
    height, width = 2 * unit(processor), 3 * unit(processor)
    images = torch.tensor(np.stack([picture(height, width, seed) for seed in range(2)])).double()
    back = unpatchify(patchify(images, processor)[0], processor, height, width)
    torch.testing.assert_close(back, images, rtol=0, atol=1e-9)


def test_gradients_pass_the_resize(processor: Any) -> None:
    """The resize keeps constants, so the gradient of the sum says how often each pixel counts."""
    side = unit(processor)
    image = torch.full((1, side * 3 // 2, side * 3 // 2, 3), 100.0, dtype=torch.float64, requires_grad=True)
    resized = resize_to_grid(image, processor)
    assert resized.shape == (1, 2 * side, 2 * side, 3)
    resized.sum().backward()
    assert image.grad is not None
    assert float(image.grad.sum()) == pytest.approx(4 * side * side * 3, rel=1e-9)
    assert bool((image.grad != 0).all())


@pytest.mark.parametrize("width", [1, 3, 199, 200, 201, 600, 601, 5000])
@pytest.mark.parametrize("height", [1, 3, 25])
def test_pictures_that_a_processor_refuses_are_those_that_conversion_names(width: int, height: int, processor: Any):
    try:
        processor(images=[Image.new("RGB", (width, height))], return_tensors="pt")
        is_taken = True
    except ValueError:
        is_taken = False
    assert (unfit((width, height)) is None) == is_taken
