"""Short tasks that a slot claims many of at once, and what may come between them."""

from __future__ import annotations

import ctypes
import os
import signal
import time
import typing as t
from pathlib import Path

from flask import Flask

from flask_taskqueue import Task, TaskQueue, current_task

LEDGER = Path(__file__).with_name("ledger")

tq = TaskQueue()
kept: list[bytearray] = []


def create_app(**config: object) -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config.update(config)
    tq.init_app(app)
    return app


def note(what: str, number: int) -> None:
    """Append a line outside Redis in one write, so that lines never mix."""
    line = f"{what} {number} {os.getpid()} {time.time():.6f}\n"
    ledger = os.open(LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(ledger, line.encode())
    finally:
        os.close(ledger)


def is_first(name: str) -> bool:
    """Whether nobody has asked so before."""
    try:
        LEDGER.with_name(name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


@tq.task
def short(number: int) -> int:
    note("start", number)
    return number * number


@tq.task
def pure(number: int) -> int:
    return number * number


@tq.task
def hold(number: int, name: str) -> int:
    """Run while a file of this name is there."""
    note("start", number)
    path = LEDGER.with_name(name)
    while path.exists():
        time.sleep(0.002)
    note("end", number)
    return number * number


@tq.task
def hog(number: int, seconds: float) -> int:
    """Let no other Python code run in this process."""
    note("start", number)
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    note("end", number)
    return number * number


@tq.task
def die(number: int) -> int:
    """Kill the process that runs it, the first time."""
    note("start", number)
    if is_first("died"):
        os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()
    return number * number


@tq.task
def signal_group(number: int, which: int) -> int:
    """Kill or stop the worker with all its processes, the first time."""
    note("start", number)
    if is_first(f"signal-{which}"):
        os.killpg(0, which)
    return number * number


@tq.task(bind=True)
def again(self: Task[..., t.Any], number: int) -> int:
    """Be retried once, at once."""
    note("start", number)
    if self.request.retries == 0:
        raise self.retry(countdown=0)
    return number * number


@tq.task
def report(number: int) -> int:
    note("start", number)
    current_task.progress(number, 1000)
    return number * number


@tq.task
def large(number: int, mebibytes: int) -> str:
    note("start", number)
    return "x" * (mebibytes * 2**20)


@tq.task
def keep(number: int, mebibytes: int) -> int:
    """Take memory, for good."""
    note("start", number)
    kept.append(bytearray(os.urandom(2**20) * mebibytes))
    return number * number


@tq.task
def fork(number: int) -> int:
    """Fork, and let the copy go the same way."""
    note("start", number)
    os.fork()
    return number * number


class Exiting(Task[..., t.Any]):
    """Its hook ends the process, the first time."""

    def on_success(self, *args: object) -> None:
        if is_first("exited"):
            os._exit(0)


@tq.task(base=Exiting)
def exit_in_hook(number: int) -> int:
    note("start", number)
    return number * number
