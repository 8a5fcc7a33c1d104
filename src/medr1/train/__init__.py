"""Training: GRPO and SFT on TRL, and the tiny model's warm start."""
