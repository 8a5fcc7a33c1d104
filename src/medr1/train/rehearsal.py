"""A rehearsal: the trainer is made once on a tiny network, so that what TRL refuses is refused before weights are read.

TRL and transformers look at most settings when a trainer, an optimizer or a schedule is made. They are made here as the
run will make them, but for what costs, lasts or is seen outside: no weights, no device, no vLLM, no tracker, no hub.
The tiny network has every module of the checkpoint's under its name, and is a few numbers wide.
"""

import copy
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate.state import AcceleratorState, PartialState
from datasets import Dataset
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText
from trl import GRPOTrainer, SFTTrainer, get_peft_config

from medr1.errors import ConfigError, MedR1Error
from medr1.rewards import trl_reward
from medr1.train.arguments import FOREIGN_ERRORS, DataArguments, GRPOArguments, ModelArguments

HEAD_SIZE = 16
NARROW_TEXT = {
    "hidden_size": HEAD_SIZE,
    "intermediate_size": 8,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": HEAD_SIZE,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]},
}
NARROW_VISION = {
    "embed_dim": HEAD_SIZE,  # Qwen2-VL's name for the width
    "hidden_size": HEAD_SIZE,
    "out_hidden_size": HEAD_SIZE,
    "intermediate_size": 8,
    "mlp_ratio": 1,
    "num_heads": 1,
}
WITHOUT: dict[str, object] = {
    "report_to": [],
    "push_to_hub": False,
    "log_completions": False,
    "log_completions_hub_repo": None,
    "enable_jit_checkpoint": False,
    "use_vllm": False,
    "disable_tqdm": True,
    # The reference model is read from the checkpoint; `check_reference` has looked at both.
    "beta": 0.0,
    "sync_ref_model": False,
    # As supervised training sets them.
    "max_length": None,
    "remove_unused_columns": False,
}
"""Settings that a rehearsal has other than the run, where they exist."""
STEPS = 1000
"""Of the schedule, where the run does not say."""


class _StaysHere:
    """For trainers: their model is not moved to a device."""

    def _move_model_to_device(self, model: nn.Module, device: Any) -> None:
        """Nothing is computed with it."""


class _RehearsedGRPO(_StaysHere, GRPOTrainer):
    pass


class _RehearsedSFT(_StaysHere, SFTTrainer):
    pass


def rehearse(
    script: DataArguments,
    config: Any,
    model: ModelArguments,
    folder: Path,
    processor: Any,
    rows: Dataset,
    evaluation_rows: Dataset | None,
) -> None:
    """Make trainer, optimizer and schedule once, and forget them.

    Random numbers are drawn; the caller seeds afterwards.

    Args:
        script, config, model: the arguments of the run.
        folder: the checkpoint, of which the configuration is read.
        processor: of the checkpoint.
        rows, evaluation_rows: data of the run.

    Raises:
        ConfigError: settings that TRL, transformers, peft or a package of an optimizer refuses.
    """
    if config.deepspeed_plugin is not None:
        return  # it changes how every network of this process is made
    network = narrow_network(folder)
    common: dict[str, Any] = {
        "model": network,
        "train_dataset": rows,
        "eval_dataset": evaluation_rows,
        # A template of another checkpoint adds tokens to the processor, which the run has to do itself.
        "processing_class": copy.deepcopy(processor) if getattr(config, "chat_template_path", None) else processor,
    }
    with tempfile.TemporaryDirectory() as output, _silence():
        arguments = _rehearsed(config, output)
        processes = dict(PartialState._shared_state)
        try:
            common["peft_config"] = get_peft_config(model)
            trainer: Any
            if isinstance(script, GRPOArguments):
                rewards: Any = [trl_reward(name) for name in script.reward_funcs]
                trainer = _RehearsedGRPO(args=arguments, reward_funcs=rewards, **common)
            else:
                trainer = _RehearsedSFT(args=arguments, **common)
            trainer.create_optimizer_and_scheduler(config.max_steps if config.max_steps > 0 else STEPS)
            trainer.get_train_dataloader()
        except MedR1Error:
            raise
        except FOREIGN_ERRORS as error:
            raise ConfigError(f"training cannot start with these settings: {str(error) or repr(error)}") from error
        finally:
            # The run's own accelerator starts anew; one under FSDP notes it where the processes are described.
            AcceleratorState._reset_state()
            PartialState._shared_state.clear()
            PartialState._shared_state.update(processes)


def narrow_network(folder: Path) -> Any:
    """The network of a checkpoint with all its layers, random and a few numbers wide."""
    config: Any = AutoConfig.from_pretrained(folder)
    for part, narrow in ((config.text_config, NARROW_TEXT), (config.vision_config, NARROW_VISION)):
        for name, value in narrow.items():
            if hasattr(part, name):
                setattr(part, name, value)
    return AutoModelForImageTextToText.from_config(config)


def _rehearsed(config: Any, output: str) -> Any:
    """The settings for a trainer that leaves nothing behind, in them either."""
    changed = copy.copy(config)
    for name, value in vars(config).items():
        if isinstance(value, (dict, list)):
            setattr(changed, name, copy.deepcopy(value))
    changed.output_dir = output
    for name, value in WITHOUT.items():
        if hasattr(config, name):
            setattr(changed, name, value)
    return changed


@contextmanager
def _silence() -> Iterator[None]:
    """Inside, nothing is warned of: the run will say it again."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
