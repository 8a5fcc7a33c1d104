"""Pixels to the patches that Qwen-VL takes, equal to the checkpoint's own image processor, with gradients.

Every constant is read from the processor. On images that need no resizing (both sides multiples of patch × merge, the
area within the processor's bounds: the *patch grid*) the patches equal those of either back end to 1e-6. Off the grid
both back ends round to 8 bit after the horizontal and after the vertical pass of the resize; so does `resize_to_grid`,
and stays within one grey level of the one on PIL (0.15 % of the values at 384 → 392) and two of torchvision's on a CPU.
On a GPU torchvision resizes in one pass of floats, up to four levels away from both: attack images on the grid.

Axes: N images, H height, W width.
"""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize


def preprocess(images_NHW3: np.ndarray | Tensor, image_processor: Any) -> tuple[Tensor, Tensor]:
    """Patches and grids of images of one size, resized where they are not on the patch grid.

    Takes and returns what `patchify` does. Gradients flow through the resize; its rounding passes them on unchanged.
    """
    return patchify(resize_to_grid(images_NHW3, image_processor), image_processor)


def patchify(images_NHW3: np.ndarray | Tensor, image_processor: Any) -> tuple[Tensor, Tensor]:
    """Patches and grids of images of one size that need no resizing.

    Args:
        images_NHW3: 8-bit RGB, or floats in [0, 255] through which gradients flow; both sides are multiples of
            patch × merge and the area is within the processor's bounds.
        image_processor: gives patch, merge and temporal size, mean and standard deviation.

    Returns:
        `pixel_values` (N · patches, 3 · temporal · patch²) and `image_grid_thw` (N, 3).
    """
    images = _floats(images_NHW3)
    n, height, width, _ = images.shape
    patch, merge, frames = image_processor.patch_size, image_processor.merge_size, image_processor.temporal_patch_size
    assert height % (patch * merge) == 0 and width % (patch * merge) == 0, "the images are not on the patch grid"
    mean, std = torch.tensor(image_processor.image_mean), torch.tensor(image_processor.image_std)
    normed = (images * image_processor.rescale_factor - mean.to(images)) / std.to(images)
    rows, columns = height // patch, width // patch
    blocks = normed.permute(0, 3, 1, 2).reshape(n, 3, rows // merge, merge, patch, columns // merge, merge, patch)
    ordered = blocks.permute(0, 2, 5, 3, 6, 1, 4, 7)  # image, block row, block column, row, column, channel, y, x
    framed = ordered.unsqueeze(6).expand(*ordered.shape[:6], frames, patch, patch)
    return framed.reshape(n * rows * columns, -1), torch.tensor([[1, rows, columns]]).repeat(n, 1)


def unpatchify(patches: Tensor, image_processor: Any, height: int, width: int) -> Tensor:
    """The inverse of `patchify` for images of one size, as `images_NHW3` in grey levels."""
    patch, merge, frames = image_processor.patch_size, image_processor.merge_size, image_processor.temporal_patch_size
    rows, columns = height // patch, width // patch
    blocks = patches.reshape(-1, rows // merge, columns // merge, merge, merge, 3, frames, patch, patch)[
        :, ..., 0, :, :
    ]
    normed = blocks.permute(0, 1, 3, 6, 2, 4, 7, 5).reshape(-1, height, width, 3)
    mean, std = torch.tensor(image_processor.image_mean), torch.tensor(image_processor.image_std)
    return (normed * std.to(patches) + mean.to(patches)) / image_processor.rescale_factor


def grid_size(height: int, width: int, image_processor: Any) -> tuple[int, int]:
    """Height and width that the processor resizes an image to. Raises `ValueError` for one that it refuses."""
    size = image_processor.size
    return smart_resize(
        height,
        width,
        factor=image_processor.patch_size * image_processor.merge_size,
        min_pixels=size["shortest_edge"],
        max_pixels=size["longest_edge"],
    )


def image_tokens(width: int, height: int, image_processor: Any) -> int:
    """Tokens of a picture in a prompt. Raises `ValueError` for a picture that the processor refuses."""
    rows, columns = grid_size(height, width, image_processor)
    return rows * columns // (image_processor.patch_size * image_processor.merge_size) ** 2


def grid_image(image: Image.Image, image_processor: Any) -> np.ndarray:
    """The 8-bit RGB image (H, W, 3) that the stock processor makes of a file before it cuts patches.

    Passed to any engine it is not resized again, so that its pixels are the same everywhere.
    """
    height, width = grid_size(image.height, image.width, image_processor)
    stock = image_processor(images=[image], return_tensors="pt")["pixel_values"]
    return unpatchify(stock.double(), image_processor, height, width)[0].round().clamp(0, 255).byte().numpy()


def resize_to_grid(images_NHW3: np.ndarray | Tensor, image_processor: Any) -> Tensor:
    """Images of one size at the size that the processor gives them; those on the grid are returned as they are."""
    images = _floats(images_NHW3)
    height, width = grid_size(images.shape[1], images.shape[2], image_processor)
    values = images.permute(0, 3, 1, 2)
    for size in ((images.shape[1], width), (height, width)):  # uint8 after each pass, as in Pillow
        if tuple(values.shape[-2:]) != size:
            resized = interpolate(values, size=size, mode="bicubic", antialias=True, align_corners=False)
            values = round_straight_through(resized.clamp(0, 255))
    return values.permute(0, 2, 3, 1)


def round_straight_through(values: Tensor) -> Tensor:
    """The nearest whole number; gradients pass as if nothing had been rounded."""
    return values + (values.round() - values).detach()


def _floats(images: np.ndarray | Tensor) -> Tensor:
    tensor = torch.as_tensor(images)
    return tensor if tensor.is_floating_point() else tensor.float()
