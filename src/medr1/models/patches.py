"""The embedding of image patches as the matrix product that it is.

The Qwen-VL vision towers embed a patch by a convolution whose kernel covers the whole patch. That is one product of the
flattened patches with the flattened kernels, and several times as fast as a general convolution, above all backward.
"""

from torch import Tensor, nn
from torch.nn.functional import linear


class PatchProduct(nn.Conv3d):
    """A convolution over inputs (N, C, T, H, W) of exactly its kernel's size: output (N, E, 1, 1, 1)."""

    def forward(self, input: Tensor) -> Tensor:
        """See the class."""
        assert input.shape[2:] == self.weight.shape[2:], "a patch is as large as the kernel"
        return linear(input.flatten(1), self.weight.flatten(1), self.bias)[..., None, None, None]


def multiply_patches(model: nn.Module) -> None:
    """Let the patch embeddings of a model be products; parameters and their names stay."""
    for module in model.modules():
        if type(module) is nn.Conv3d and module.stride == module.kernel_size:
            module.__class__ = PatchProduct
