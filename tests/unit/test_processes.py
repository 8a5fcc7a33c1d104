"""Signals end a block, and then the process; a child ends with its parent."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from medr1 import processes
from medr1.processes import PARENT, SENTENCE, Stopped, child_environment, obey_parent, stoppable

LIMIT = 60
"""Seconds after which a program that should have ended fails its test."""


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A program in an interpreter of its own, where Ctrl-C is not ignored, as it is below `nohup`."""
    start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    command = [sys.executable, "-c", start + program]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, env=os.environ | environment)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_the_block_and_the_process_ends(number: signal.Signals, code: int) -> None:
    done = run(
        f"""
import os, time
from medr1.processes import stoppable
with stoppable():
    try:
        os.kill(os.getpid(), {int(number)})
        time.sleep(3600)
    finally:
        print("cleaned up")
"""
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, "cleaned up\n", f"medr1: {SENTENCE}\n")


def test_a_signal_that_did_not_wake_the_main_thread_is_repeated() -> None:
    """Noted by the kernel just before a wait begins, a signal is heard when the wait ends: here in an hour."""
    done = run(
        """
import os, threading, time
from medr1 import processes
processes.GRACE_SECONDS = 3600
with processes.stoppable() as stop:
    threading.Timer(0.2, lambda: os.write(stop._writing, bytes([signal.SIGINT]))).start()
    try:
        time.sleep(3600)
    finally:
        print("cleaned up")
"""
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "cleaned up\n", f"medr1: {SENTENCE}\n")


SWALLOWING = """
while True:
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(3600)
    except BaseException:
        pass
"""
IN_DEL = """
class Deaf:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
Deaf()
time.sleep(3600)
"""
WAITING_FOR_A_THREAD = """
threading.Thread(target=time.sleep, args=(3600,)).start()
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(3600)
"""


@pytest.mark.parametrize("stuck", [SWALLOWING, IN_DEL, WAITING_FOR_A_THREAD], ids=["swallows", "__del__", "thread"])
def test_what_does_not_end_by_itself_is_ended(stuck: str) -> None:
    body = "".join(f"    {line}\n" for line in stuck.strip().splitlines())
    done = run(
        f"""
import os, signal, threading, time
from medr1 import processes
processes.GRACE_SECONDS = 0.2
with processes.stoppable():
{body}
"""
    )
    assert (done.returncode, done.stderr) == (143, f"medr1: {SENTENCE}\n")


def test_a_second_signal_does_not_disturb_the_cleaning_up() -> None:
    done = run(
        """
import os, time
from medr1.processes import stoppable
with stoppable():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(3600)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.05)
        print("cleaned up")
"""
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "cleaned up\n", f"medr1: {SENTENCE}\n")


@pytest.mark.parametrize("error", ["RuntimeError", "DataError"])
def test_what_fails_by_the_stop_is_the_stop(error: str) -> None:
    done = run(
        f"""
from medr1.errors import DataError
ERROR = {error}
"""
        """
import os, signal, time
from medr1.cli.failures import run_command
def command():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(3600)
    except BaseException:
        raise ERROR("a worker has gone") from None
run_command(command)
"""
    )
    assert (done.returncode, done.stderr) == (143, f"medr1: {SENTENCE}\n")


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    done = run(
        """
import os, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
from medr1.processes import stoppable
with stoppable():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.05)
print("done")
"""
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_forked_child_neither_speaks_nor_stops_its_parent() -> None:
    done = run(
        """
import os, time
from medr1 import processes
processes.GRACE_SECONDS = 0.1
with processes.stoppable():
    child = os.fork()
    if child == 0:
        time.sleep(3600)
    time.sleep(0.1)
    os.kill(child, signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    time.sleep(0.5)
print(os.waitstatus_to_exitcode(status))
"""
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "143\n", "")


def test_afterwards_signals_are_answered_as_before() -> None:
    before = [signal.getsignal(number) for number in processes.SIGNALS]
    hook = sys.unraisablehook
    with stoppable() as outer, stoppable() as inner:
        assert inner is outer
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in processes.SIGNALS] == before
    assert signal.set_wakeup_fd(-1) == -1
    assert sys.unraisablehook is hook


def test_a_stop_ends_silently_where_nobody_catches_it() -> None:
    assert issubclass(Stopped, SystemExit)
    assert Stopped(signal.SIGTERM).code == 143


# --- Parents ------------------------------------------------------------------------------------------------------

CHILD = """
import os, sys, time
from medr1 import processes
if sys.argv[1] == "thread":
    processes._kernel_watches = lambda: False
    processes.POLL_SECONDS = 0.05
processes.obey_parent()
print(os.getpid(), processes.PARENT in os.environ, flush=True)
time.sleep(3600)
"""
PARENT_PROGRAM = """
import os, subprocess, sys
from medr1.processes import child_environment
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]], env=child_environment())
child.wait()
"""


def has_ended(pid: int, wait: Callable[[], object]) -> bool:
    """Whether a process ends, looked at until the limit."""
    for _ in range(20 * LIMIT):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        wait()
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("way", ["kernel", "thread"])
def test_a_child_ends_with_its_parent(way: str) -> None:
    import time

    command = [sys.executable, "-c", PARENT_PROGRAM, CHILD, way]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid, inherited = parent.stdout.readline().split()
        assert inherited == "False", "its own children have another parent"
        parent.kill()
        parent.wait()
        assert has_ended(int(pid), lambda: time.sleep(0.05))


def test_a_child_whose_parent_is_gone_does_not_start() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    done = run("from medr1.processes import obey_parent; obey_parent(); print('started')", **{PARENT: str(gone.pid)})
    assert (done.returncode, done.stdout) == (1, "")


def test_a_command_without_such_a_parent_lives_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert child_environment()[PARENT] == str(os.getpid())
    monkeypatch.delenv(PARENT, raising=False)
    obey_parent()
    monkeypatch.setenv(PARENT, "nonsense")
    obey_parent()
    assert PARENT not in os.environ
