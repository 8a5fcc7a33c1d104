"""Train, evaluate and stress-test vision-language models that reason about medical images."""

__version__ = "0.1.0"
