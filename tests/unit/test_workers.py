"""Worker processes: results in order, errors as they were raised, and nobody left behind."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from medr1.errors import DataError, MedR1Error
from medr1.workers import Workers


def slow_first(number: int) -> int:
    """The square; the first task takes longest."""
    if number == 0:
        time.sleep(0.3)
    return number**2


def big(number: int) -> bytes:
    return bytes(300_000) + bytes([number])


def pid() -> int:
    return os.getpid()


class OddError(Exception):
    """An error that cannot be read back: its constructor takes more than its words."""

    def __init__(self, words: str, more: int) -> None:
        super().__init__(words)


def fail(kind: str) -> None:
    if kind == "odd":
        raise OddError("odd words", 1)
    raise DataError("the image is bad; mend it")


def interrupt_itself() -> str:
    os.kill(os.getpid(), signal.SIGINT)
    return "done"


def fall() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sleep(folder: str) -> None:
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(3600)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_results_come_in_the_order_of_the_tasks(chunk: int) -> None:
    with Workers(2) as workers:
        assert list(workers.map(slow_first, zip(range(20)), chunk=chunk)) == [n**2 for n in range(20)]
        assert list(workers.map(slow_first, zip(range(5)), chunk=chunk)) == [n**2 for n in range(5)]
        assert list(workers.map(slow_first, [])) == []


def test_what_does_not_fit_into_a_pipe() -> None:
    with Workers(2) as workers:
        assert [result[-1] for result in workers.map(big, zip(range(12)))] == list(range(12))


def test_several_work_at_once() -> None:
    with Workers(3) as workers:
        assert len(set(workers.map(pid, [()] * 30))) == 3


def test_tasks_are_read_as_they_are_needed() -> None:
    read = 0

    def tasks() -> Iterator[tuple[int]]:
        nonlocal read
        for number in range(100):
            read += 1
            yield (number + 1,)

    with Workers(2) as workers:
        results = workers.map(slow_first, tasks(), ahead=3)
        assert next(results) == 1
        assert read <= 2 * 3 + 1
        assert sum(1 for _ in results) == 99


def test_an_error_is_the_one_that_was_raised_with_its_place() -> None:
    with pytest.raises(DataError, match="the image is bad; mend it") as caught, Workers(2) as workers:
        list(workers.map(fail, [("plain",)]))
    assert "in fail" in "".join(caught.value.__notes__)
    with pytest.raises(RuntimeError, match="OddError: odd words"), Workers(2) as workers:
        list(workers.map(fail, [("odd",)]))


def test_ctrl_c_is_left_to_the_parent() -> None:
    with Workers(1) as workers:
        assert list(workers.map(interrupt_itself, [()])) == ["done"]


def test_a_worker_that_was_killed_is_one_sentence() -> None:
    with pytest.raises(MedR1Error, match="ended from outside"), Workers(2) as workers:
        list(workers.map(fall, [()] * 8))
    assert multiprocessing.active_children() == []


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGUSR1 raises `KeyboardInterrupt`: the runner of the tests may ignore Ctrl-C."""
    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.usefixtures("interruptible")
def test_who_leaves_early_ends_what_runs(tmp_path: Path) -> None:
    def interrupt() -> None:
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGUSR1)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt), Workers(2) as workers:
        list(workers.map(sleep, [(str(tmp_path),)] * 6))
    assert len(list(tmp_path.iterdir())) == 2, "what was queued was dropped"
    assert not any(is_alive(int(path.name)) for path in tmp_path.iterdir())
