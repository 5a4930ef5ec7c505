"""Tasks spread over processes that end with their parent."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple


class _Worker(NamedTuple):
    process: SpawnProcess
    connection: Any  # a Connection, or a PipeConnection on Windows


def run_tasks(
    make_job: Callable[..., Callable[[Any], Any]], arguments: tuple[Any, ...], tasks: Sequence[Any], workers: int
) -> Iterator[Any]:
    """The results of make_job(*arguments)(task) for all tasks, in the order in which they are done.

    Each process makes its own job, once. With fewer than two workers or tasks all is done in this process.

    Raises:
        RuntimeError: if a worker dies.
        Exception: whatever a task raises; the other workers are stopped.

    """
    workers = min(workers, len(tasks))
    if workers < 2:
        job = make_job(*arguments)
        for task in tasks:
            yield job(task)
        return
    waiting = iter(tasks)
    pool = [_start(make_job, arguments) for _ in range(workers)]
    try:
        busy = {worker.connection: worker for worker in pool}
        for worker in pool:
            worker.connection.send(next(waiting))
        while busy:
            for connection in wait(list(busy)):
                yield _receive(busy[connection])
                task = next(waiting, None)
                if task is None:
                    del busy[connection]
                else:
                    connection.send(task)  # type: ignore[union-attr]
    finally:
        for worker in pool:
            worker.process.terminate()
            worker.process.join()
            worker.connection.close()


def _start(make_job: Callable[..., Callable[[Any], Any]], arguments: tuple[Any, ...]) -> _Worker:
    # Spawned: a forked copy would inherit the locks of the threads that run here (the progress display, torch's).
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, make_job, arguments), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _receive(worker: _Worker) -> Any:
    try:
        done, result = worker.connection.recv()
    except (EOFError, ConnectionError):
        worker.process.join(timeout=5)
        raise RuntimeError(
            f"a worker process ended abruptly (exit status {worker.process.exitcode}), perhaps for lack of memory; "
            "run the same command again, with fewer workers, to continue"
        ) from None
    if not done:
        raise result
    return result


def _serve(connection: Connection, make_job: Callable[..., Callable[[Any], Any]], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which then stops its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    job: Callable[[Any], Any] | None = None
    while True:
        task = connection.recv()
        try:
            job = job or make_job(*arguments)
            result = (True, job(task))
        except Exception as error:  # noqa: BLE001  (raised again in the parent)
            result = (False, error)
        connection.send(result)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
