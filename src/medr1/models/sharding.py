"""Models whose weights are spread over processes (FSDP2, FSDP, ZeRO-3).

A forward gathers the weights of one layer after the other from all processes. So every process has to run as many
forwards as the others, or all of them wait for ever.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
from transformers.integrations import is_deepspeed_zero3_enabled

from medr1.models.shared.pack import backbone


def is_sharded(model: nn.Module) -> bool:
    """Whether a forward of the model needs the other processes."""
    if not (dist.is_available() and dist.is_initialized()):
        return False
    kinds = (FSDPModule, FullyShardedDataParallel)
    return is_deepspeed_zero3_enabled() or any(isinstance(module, kinds) for module in model.modules())


def largest_of_all(number: int, device: torch.device) -> int:
    """Largest of the numbers that the processes give; all of them have to ask."""
    largest = torch.tensor(number, device=device)
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return int(largest)


@contextmanager
def head_gathered(model: Any) -> Iterator[None]:
    """Inside, FSDP2 gathers the language head for a forward that takes its weight without calling it.

    TRL's fused head would otherwise gather a head of its own group by `full_tensor()`, whose gradient each process
    keeps for itself: never averaged, and wrong wherever no other forward has left the head gathered (TRL 1.16).

    Args:
        model: not wrapped; one without FSDP2 is left as it is.
    """
    head = model.get_output_embeddings()
    if not isinstance(head, FSDPModule):
        yield
        return
    # Behind the backbone, not before the model: FSDP2 sets up its communication when the root's forward begins.
    handle = backbone(model).register_forward_hook(lambda *_: head.unshard())
    try:
        yield
    finally:
        handle.remove()
