"""Worker processes that end with the work, with the process that started them, and at once where it fails."""

import itertools
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from typing import Any, Self, TypeVar, cast

from medr1.errors import MedR1Error
from medr1.processes import end_with

T = TypeVar("T")

WORKER_LOST = (
    "a worker process was ended from outside, most often for want of memory; ask for fewer --processes and repeat the "
    "command"
)


class Workers:
    """Worker processes, a context in which they work: at its end, however it comes, they end at once.

    Each has a pipe of its own and one order at a time, so that killing one leaves nothing half said to the others.

    Args:
        processes: how many; None takes one a core.
    """

    def __init__(self, processes: int | None = None) -> None:
        self.processes = processes or os.cpu_count() or 1
        self._idle: list[Connection] = []
        self._busy: dict[Connection, int] = {}
        """Connections of workers with an order, and its number."""
        self._started: list[multiprocessing.Process] = []
        self._numbers = itertools.count()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._started:
            process.kill()
        for process in self._started:
            process.join()
        for connection in (*self._idle, *self._busy):
            connection.close()

    def map(
        self, function: Callable[..., T], tasks: Iterable[tuple[Any, ...]], *, chunk: int = 1, ahead: int = 4
    ) -> Iterator[T]:
        """The results of `function(*task)` in the order of the tasks, which are read as they are needed.

        Args:
            function: and its arguments and results travel by pickle.
            tasks: arguments of each call.
            chunk: tasks in an order.
            ahead: orders that each process may be ahead of what has been asked for.

        Raises:
            MedR1Error: a worker was ended from outside. What a call raises is raised here.
        """
        self._start()
        orders, numbers = self._chunks(tasks, chunk), deque[int]()
        results: dict[int, list[T]] = {}
        while True:
            while self._idle and len(numbers) < ahead * self.processes and (order := next(orders, None)):
                numbers.append(self._give(function, order))
            if not numbers:
                return
            self._collect(results, wait=numbers[0] not in results)
            if numbers[0] in results:
                yield from results.pop(numbers.popleft())

    @staticmethod
    def _chunks(tasks: Iterable[tuple[Any, ...]], chunk: int) -> Iterator[list[tuple[Any, ...]]]:
        tasks = iter(tasks)
        while some := list(itertools.islice(tasks, chunk)):
            yield some

    def _start(self) -> None:
        while len(self._started) < self.processes:
            ours, theirs = cast(tuple[Connection, Connection], multiprocessing.Pipe())
            worker = multiprocessing.Process(target=_work, args=(theirs, os.getpid()), daemon=True)
            worker.start()
            theirs.close()
            self._started.append(worker)
            self._idle.append(ours)

    def _give(self, function: Callable[..., Any], order: list[tuple[Any, ...]]) -> int:
        connection, number = self._idle.pop(), next(self._numbers)
        self._busy[connection] = number
        try:
            connection.send((function, order))
        except OSError as error:
            raise MedR1Error(WORKER_LOST) from error
        return number

    def _collect(self, results: dict[int, Any], *, wait: bool) -> None:
        """Take what workers have done, after waiting for it where nothing else can be done."""
        for connection in multiprocessing.connection.wait(list(self._busy), None if wait else 0):
            assert isinstance(connection, Connection)
            try:
                succeeded, value = connection.recv()
            except (EOFError, OSError) as error:
                raise MedR1Error(WORKER_LOST) from error
            number = self._busy.pop(connection)
            self._idle.append(connection)
            if not succeeded:
                raise value
            results[number] = value


def _work(connection: Connection, parent: int) -> None:
    """What a worker does. Ctrl-C reaches the whole group of processes, and the parent decides for all."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with(parent)
    while True:
        function, tasks = connection.recv()
        try:
            answer = True, [function(*task) for task in tasks]
        except Exception as error:  # noqa: BLE001 - raised again by the parent
            answer = False, _portable(error)
        connection.send(answer)


def _portable(error: Exception) -> Exception:
    """The error, or one with its words where it cannot travel, with the place where it was raised."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - whatever the error's own class makes of it
        return RuntimeError(f"{type(error).__name__}: {error}")
