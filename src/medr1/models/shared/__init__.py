"""Groups that share a prompt, computed once: packing, attention and layers, with kernels for processors and GPUs."""
