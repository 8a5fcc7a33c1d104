"""Vision-language models: loading checkpoints, packing groups that share a prompt, and the tiny model."""
