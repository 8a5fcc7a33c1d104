"""A real Qwen-VL of about a million parameters, for tests, lessons and laptops.

`tokenizer` trains its vocabulary, `build` makes the processor and the network, `circuits` sets the starting weights
that make it trainable within minutes. The warm start that the package ships was made by `medr1 models tiny --train`.
"""

from pathlib import Path

WARM_START = Path(__file__).resolve().parent.parent / "warm_start"
"""Folder of the shipped checkpoint: knows the answer format and half of the way, see `docs/log.md`."""
