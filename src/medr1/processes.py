"""Ends: a command that is told to stop stops, and no child process outlives the one that started it.

A signal (Ctrl-C, SIGTERM) leaves the running code as `Stopped`. Where that takes too long, because the code is inside
of a library or waits for a thread, a watching thread ends the process: what a run has published is whole at any moment,
so nothing is lost.

Children are told whose they are: workers by `medr1.workers`, commands by `child_environment`. On Linux the kernel ends
them with their parent, elsewhere a thread looks after it.

This is the first module that a command imports, and it imports little: before it, Ctrl-C ends in a traceback.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""What asks a command to stop."""
GRACE_SECONDS = 2.0
"""Between the signal and the end by force."""
NUDGE_SECONDS = 0.1
"""Between two reminders of a signal that the main thread has not answered."""
POLL_SECONDS = 0.5
"""Between two looks at the parent, where the kernel does not watch it."""
PARENT = "MEDR1_PARENT"
"""Environment variable with the process that a command must not outlive."""
SENTENCE = "stopped; the same command goes on where it stopped"
PR_SET_PDEATHSIG = 1
"""Of `prctl` in linux/prctl.h."""


class Stopped(SystemExit):
    """A signal asks the process to end. Libraries let a `SystemExit` pass where they catch what fails."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


class Stop:
    """Whether the process has been asked to stop, and the thread that sees to it."""

    def __init__(self) -> None:
        self.number: int | None = None
        """The signal that asked."""
        self._ending = threading.Lock()
        """Taken by whoever says the sentence: it is said once."""
        self._owner = os.getpid()
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        # Those that are ignored, as under `nohup`, stay so; None is not Python's.
        self._before = {n: handler for n, handler in handlers.items() if handler not in (None, signal.SIG_IGN)}
        self._hook_before = sys.unraisablehook
        self._wakeup_before = self._reading = self._writing = -1

    def arm(self) -> None:
        """Answer signals from now on."""
        for number in self._before:
            signal.signal(number, self._raise)
        sys.unraisablehook = self._unraisable
        if os.name == "posix":  # elsewhere signals cannot write into a pipe
            self._reading, self._writing = os.pipe()
            os.set_blocking(self._writing, False)
            self._wakeup_before = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
            threading.Thread(target=self._watch, daemon=True).start()

    def disarm(self) -> None:
        """Leave signals to whoever answered them before."""
        for number, before in self._before.items():
            signal.signal(number, before)
        sys.unraisablehook = self._hook_before
        if self._writing >= 0:
            signal.set_wakeup_fd(self._wakeup_before)
            os.close(self._writing)

    def end(self) -> None:
        """Say how the command goes on, and end: taking an interpreter down that holds PyTorch can take seconds."""
        assert self.number is not None
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        self._end(self.number)

    def _end(self, number: int) -> NoReturn:
        self._ending.acquire()  # for good: whoever comes second must not end the process before the first has spoken
        with suppress(OSError):
            os.write(2, f"medr1: {SENTENCE}\n".encode())
        os._exit(128 + number)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:  # a child that was forked a moment ago
            os._exit(128 + number)
        if self.number is None:  # a second signal must not disturb the cleaning up
            self.number = number
            raise Stopped(number)

    def _unraisable(self, caught: "sys.UnraisableHookArgs") -> None:
        """In `__del__` and the like nothing can be raised: the watching thread will end the process."""
        if not isinstance(caught.exc_value, Stopped):
            self._hook_before(caught)

    def _watch(self) -> None:
        """End the process some seconds after a signal, which writes its number to the pipe whatever Python is doing."""
        while written := os.read(self._reading, 1):
            if written[0] in SIGNALS:
                latest = time.monotonic() + GRACE_SECONDS
                while time.monotonic() < latest:
                    time.sleep(NUDGE_SECONDS)
                    if self.number is None:
                        # A signal that comes just before the main thread begins to wait does not wake it.
                        signal.pthread_kill(threading.main_thread().ident, written[0])  # type: ignore[arg-type]
                self._end(written[0])
        os.close(self._reading)


_armed: Stop | None = None
"""What answers signals in this process."""


def _forget() -> None:
    """A forked child must not write into the pipe of its parent."""
    if _armed is not None:
        signal.set_wakeup_fd(-1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@contextmanager
def stoppable() -> Iterator[Stop]:
    """The whole work of a command. Signals leave the block as `Stopped`, and with the block the process ends.

    Only the main thread can answer signals; elsewhere, and inside of another such block, nothing changes.
    """
    global _armed
    if threading.current_thread() is not threading.main_thread() or _armed is not None:
        yield _armed or Stop()
        return
    stop = _armed = Stop()
    try:
        stop.arm()
        yield stop
    finally:
        if stop.number is None:
            stop.disarm()
            _armed = None
        else:
            stop.end()


def end_with(parent: int) -> None:
    """End this process as soon as the process `parent` has ended, which started it or had it started."""
    if os.name != "posix":  # neither signals nor parents are the same there
        return
    starter = os.getppid()
    if not _kernel_watches():
        threading.Thread(target=_watch_parent, args=(parent, starter), daemon=True).start()
    if _is_gone(parent, starter):  # before the kernel was asked to watch
        os._exit(1)


def _kernel_watches() -> bool:
    """Ask the kernel to kill this process when the one that started it ends; False where it cannot."""
    if sys.platform != "linux":
        return False
    import ctypes

    try:
        return ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0
    except (AttributeError, OSError):
        return False


def _watch_parent(parent: int, starter: int) -> None:
    while not _is_gone(parent, starter):
        time.sleep(POLL_SECONDS)
    os._exit(1)


def _is_gone(parent: int, starter: int) -> bool:
    """Whether the parent has ended, or what started this process for it (a fork server ends with its parent)."""
    if os.getppid() != starter:
        return True
    try:
        os.kill(parent, 0)
    except ProcessLookupError:
        return True
    except OSError:  # it is there, and somebody else's
        return False
    return False


def child_environment() -> dict[str, str]:
    """Environment for a `medr1` command that must end with this process."""
    return os.environ | {PARENT: str(os.getpid())}


def obey_parent() -> None:
    """End with the process that `child_environment` named. Called by every command; most have no such parent."""
    parent = os.environ.pop(PARENT, "")  # this process's own children have another parent
    if parent.isdecimal():
        end_with(int(parent))
