"""Pixels to the patches that Qwen-VL takes, equal to the checkpoint's own image processor.

Axes: N images, H height, W width.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor


def patchify(images_NHW3: np.ndarray | Tensor, image_processor: Any) -> tuple[Tensor, Tensor]:
    """Patches and grids of images of one size that need no resizing.

    Args:
        images_NHW3: 8-bit RGB, or floats in [0, 255] through which gradients flow; both sides are multiples of
            patch × merge and the area is within the processor's bounds.
        image_processor: gives patch, merge and temporal size, mean and standard deviation.

    Returns:
        `pixel_values` (N · patches, 3 · temporal · patch²) and `image_grid_thw` (N, 3).
    """
    images = torch.as_tensor(images_NHW3).float()
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
