"""The app that chaos tests run: its jobs note outside Redis when they run."""

from __future__ import annotations

import os
import signal
import time
import typing as t
from contextlib import contextmanager
from pathlib import Path

from flask import Flask

from flask_taskqueue import TaskQueue, current_task

LEDGER = Path(__file__).with_name("ledger")

MANY = 1000
"""Recoveries: chance may kill the processes of one job again and again."""

SOON = 0.3
"""Seconds until a job that was put off may run."""

LATE = 60.0
"""Seconds until one that is revoked at once might have run."""

tq = TaskQueue()


def create_app(**config: object) -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config.update(config)
    tq.init_app(app)
    return app


def note(what: str) -> None:
    """Append a line in one write, so that lines of two processes never mix."""
    job = current_task.request
    # The clock of the host: all its processes read the same.
    at = time.monotonic()
    line = f"{what} {job.id} {job.retries} {os.getpid()} {os.getpgrp()} {at:.6f}\n"
    ledger = os.open(LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(ledger, line.encode())
    finally:
        os.close(ledger)


@contextmanager
def noted() -> t.Iterator[None]:
    """Note the start and the end of this run."""
    note("start")
    try:
        yield
    finally:
        note("end")


@tq.task(max_recoveries=MANY)
def work(number: int, seconds: float = 0.0) -> int:
    with noted():
        time.sleep(seconds)
        return number * number


@tq.task(max_recoveries=MANY)
def shaky(number: int) -> int:
    """Fail the first attempt."""
    with noted():
        if not current_task.request.retries:
            current_task.retry(countdown=SOON)
        return number * number


@tq.task(max_recoveries=MANY)
def broken(number: int) -> None:
    with noted():
        raise ValueError(f"{number} is broken")


@tq.task(max_recoveries=MANY)
def hold(name: str) -> int:
    """Run while a file of this name is there; the pid of this process."""
    with noted():
        while LEDGER.with_name(f"held-{name}").exists():
            time.sleep(0.005)
        return os.getpid()


@tq.task
def poison(number: int) -> None:
    """Kill the process that runs it."""
    note("start")
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()
