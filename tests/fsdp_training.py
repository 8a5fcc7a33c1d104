"""`medr1 train grpo` or `sft` under FSDP2 on CPUs: one process of it, started by `torch.distributed.run` with `--fsdp`.

accelerate asks for FSDP only where the processes are those of an accelerator (`AcceleratorState.__init__`, 1.15), and
trains plain DDP on CPUs without a word. Called a group of GPUs it goes its own way of FSDP2, on CPUs over gloo. What
was trained is printed as proof, one line of JSON by the main process.
"""

import json
import sys
from typing import Any

from accelerate import PartialState
from accelerate.utils import DistributedType, gather_object
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback
from trl import GRPOConfig, SFTConfig

from medr1.engines.decode import can_fuse
from medr1.train.arguments import DataArguments, GRPOArguments, ModelArguments, parse
from medr1.train.run import prepare_grpo, train_sft


class Witness(TrainerCallback):
    """Notes after every step what the weights are, and how many tokens the longest completion of each process had."""

    def __init__(self) -> None:
        self.whole: list[str] = []
        """Weights of which this process had more than its half."""
        self.fusable = False
        self.longest: list[list[int]] = []
        self.trainer: Any = None

    def on_step_end(self, *arguments: Any, model: Any = None, **kwargs: Any) -> None:
        """Called by the trainer with the model that it trains."""
        for name, weight in model.named_parameters():
            # Rows are dealt out; an odd number of them leaves one process one more.
            if not isinstance(weight, DTensor) or len(weight.to_local()) > (len(weight) + 1) // 2:
                self.whole.append(name)
        if self.trainer is None:  # nothing is drawn
            return
        self.fusable |= can_fuse(model)
        draws = self.trainer._batches["train"].draws
        self.longest.append(gather_object([max(len(draw.token_ids) for group in draws for draw in group)]))


def main(kind: str, *words: str) -> None:
    classes = {"grpo": (GRPOArguments, GRPOConfig, ModelArguments), "sft": (DataArguments, SFTConfig, ModelArguments)}
    script, config, model = parse(kind, classes[kind], words)
    assert config.device.type == "cpu"  # asked for, the device starts the process group
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    witness = Witness()
    if kind == "sft":
        train_sft(script, config, model, callbacks=[witness])
    else:
        setup, witness.trainer = prepare_grpo(script, config, model, callbacks=[witness])
        assert witness.trainer.accelerator.is_fsdp2
        with setup.opened() as run:
            setup.fit(witness.trainer, run)
    if config.process_index == 0:
        proof = {"whole": witness.whole, "fusable": witness.fusable, "longest": witness.longest}
        print(json.dumps(proof), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
