"""What a device can do, how long it took, and what took the time."""

import gc
import statistics
import time
from collections.abc import Callable

import torch
from grpo import peak_resident
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

BUSY = 0.7
"""Share of the time that the device works, below which calls are what takes the time."""
KERNELS = {
    "attention": ("attention", "flash", "fmha"),
    "matmul": ("gemm", "nvjet", "cutlass", "xmma", "::mm", "::addmm", "::bmm"),
}
"""Words in the names of kernels, the first that match."""
REST = "memory traffic"
"""What other kernels do."""


class Clock:
    """Timing of a device, and the time that may be spent."""

    def __init__(self, device: str, minutes: float) -> None:
        self.cuda, self.end = device == "cuda", time.perf_counter() + 60 * minutes

    def now(self) -> float:
        """Seconds, after the device has caught up."""
        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def seconds(self, run: Callable[[], object], rounds: int = 1) -> float:
        """Median seconds of a call."""
        taken = []
        for _ in range(rounds):
            started = self.now()
            run()
            taken.append(self.now() - started)
        return statistics.median(taken)

    def share(self, parts: float) -> float:
        """The moment at which one of `parts` equal parts of the time left is over."""
        now = time.perf_counter()
        return now + (self.end - now) / parts


def matmul_rate(clock: Clock, device: str, dtype: str) -> float:
    """FLOP/s of a large square matrix product."""
    size, calls = (8192, 10) if clock.cuda else (1024, 2)
    left, right = (torch.randn(size, size, device=device, dtype=getattr(torch, dtype)) for _ in range(2))
    out = left @ right
    return calls * 2 * size**3 / clock.seconds(lambda: [torch.mm(left, right, out=out) for _ in range(calls)], rounds=5)


def copy_bandwidth(clock: Clock, device: str) -> float:
    """Bytes read and written per second by a large copy."""
    size, calls = (2**30, 10) if clock.cuda else (2**26, 2)
    source, target = (torch.zeros(size, dtype=torch.uint8, device=device) for _ in range(2))
    return calls * 2 * size / clock.seconds(lambda: [target.copy_(source) for _ in range(calls)], rounds=5)


class Memory:
    """Peak bytes since it was made, beyond what was held then; on a CPU, where no peak can be reset, of the process."""

    def __init__(self, device: str) -> None:
        self.cuda = device == "cuda"
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()

    def peak(self) -> int:
        """See the class."""
        return torch.cuda.max_memory_allocated() - self.before if self.cuda else peak_resident()


def device_seconds(run: Callable[[], object], device: str) -> dict[str, float]:
    """Seconds that every kernel (on a CPU: every operation) took, longest first."""
    cuda = device == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as profiler:
        run()
        if cuda:
            torch.cuda.synchronize()
    kind = DeviceType.CUDA if cuda else DeviceType.CPU
    events = [e for e in profiler.key_averages() if e.device_type == kind and not e.is_user_annotation]
    taken = {e.key: (e.self_device_time_total if cuda else e.self_cpu_time_total) / 1e6 for e in events}
    return dict(sorted(taken.items(), key=lambda item: -item[1]))


def limit(kernels: dict[str, float], seconds: float) -> str:
    """What takes the time of something that took `seconds` without the profiler."""
    total = sum(kernels.values())
    if not total:
        return "what is not known: the profiler saw no kernel"
    if total < BUSY * seconds:
        return f"calls: the device works {total / seconds:.0%} of the time"
    parts = dict.fromkeys((*KERNELS, REST), 0.0)
    for name, taken in kernels.items():
        matching = [part for part, words in KERNELS.items() if any(word in name.lower() for word in words)]
        parts[(matching or [REST])[0]] += taken
    shares = sorted(parts.items(), key=lambda item: -item[1])
    return ", ".join(f"{part} {taken / total:.0%}" for part, taken in shares) + " of device time"
