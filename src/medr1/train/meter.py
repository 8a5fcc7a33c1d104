"""Measures seconds and peak memory of the phases of a run, on the device that it uses."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch

INTERVAL = 0.002
"""Seconds between two looks at the process's memory: a peak that is shorter is smaller than what surrounds it."""


def available_memory(device: torch.device) -> int | None:
    """Bytes that are free on a device; None where it cannot be asked."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available if device.type == "cpu" else None


class MemoryPeak:
    """Bytes in use and their peak: of the allocator on CUDA, of the whole process elsewhere.

    The process's memory is sampled by a thread, because its peak cannot be set back (`ru_maxrss` only grows).
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._process = psutil.Process()
        self._peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def now(self) -> int:
        """Bytes in use."""
        if self.device.type == "cuda":
            return torch.cuda.memory_allocated(self.device)
        return self._process.memory_info().rss

    def take(self) -> int:
        """Peak since the last call."""
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            return peak
        peak, self._peak = max(self._peak, self.now()), 0
        return peak

    def _watch(self) -> None:
        while not self._stop.wait(INTERVAL):
            self._peak = max(self._peak, self.now())

    def __enter__(self) -> "MemoryPeak":
        if self.device.type != "cuda":
            self._thread.start()
        self.take()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()


class Meter:
    """Peak bytes, seconds and calls of named phases; what an inner phase takes does not count for the outer one."""

    def __init__(self, memory: MemoryPeak) -> None:
        self.memory = memory
        self.peaks: dict[str, int] = {}
        self.seconds: dict[str, list[float]] = {}
        self._phases: list[str] = []
        self._spent: list[float] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Everything inside counts as `name`."""
        self._switch()
        self._phases.append(name)
        self._spent.append(0.0)
        start = self.clock()
        try:
            yield
        finally:
            elapsed = self.clock() - start
            self._switch()
            self._phases.pop()
            inside = self._spent.pop()
            self.seconds.setdefault(name, []).append(elapsed - inside)
            if self._spent:
                self._spent[-1] += elapsed

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function as a phase."""

        def measured(*args: Any, **kwargs: Any) -> Any:
            with self.phase(name):
                return function(*args, **kwargs)

        return measured

    def _switch(self) -> None:
        peak = self.memory.take()
        if self._phases:
            self.peaks[self._phases[-1]] = max(self.peaks.get(self._phases[-1], 0), peak)

    def clock(self) -> float:
        """Seconds, after everything that the device was asked for."""
        if self.memory.device.type == "cuda":
            torch.cuda.synchronize(self.memory.device)
        return time.perf_counter()
