"""The app that acceptance tests run, in the test's process and in workers."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from pathlib import Path

from flask import Flask, current_app

from flask_taskqueue import Task, TaskQueue, current_task, shared_task

tq = TaskQueue()


def create_app(**config: object) -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config.update(config)
    tq.init_app(app)
    return app


def note(path: str, line: str) -> None:
    """Append a line to a ledger outside Redis, in one write."""
    with open(path, "a") as ledger:
        ledger.write(line + "\n")


@tq.task
def add(x: int, y: int) -> int:
    return x + y


@tq.task
def mul(x: int, y: int) -> int:
    return x * y


@shared_task
def app_name() -> str:
    return current_app.name


@tq.task(bind=True)
def whoami(self: Task[[], dict[str, object]], *args: object) -> dict[str, object]:
    request = self.request
    return {
        "id": request.id,
        "args": list(request.args),
        "retries": request.retries,
        "queue": request.queue,
        "task": current_task.name,
        "pid": os.getpid(),
        "hostname": request.hostname,
    }


@tq.task
def fail(message: str) -> None:
    raise ValueError(message)


@tq.task
def ledger(path: str, number: int, seconds: float = 0.0) -> int:
    """Note the start and the end of a run outside Redis."""
    note(path, f"start {number} {os.getpid()} {time.time():.6f}")
    if seconds:
        time.sleep(seconds)
    note(path, f"end {number} {os.getpid()} {time.time():.6f}")
    return number * number


@tq.task
def hold(path: str) -> str:
    """Run until a file of this name is gone."""
    note(path, str(os.getpid()))
    while Path(path).exists():
        time.sleep(0.005)
    return "released"


@tq.task(on_worker_lost="fail")
def hold_once(path: str) -> str:
    return hold(path)


@tq.task
def tell(path: str) -> None:
    """Say how far it is, and note each word, while a file ``path + ".on"`` exists."""
    for said in itertools.count(1):
        current_task.progress(said, 0)
        note(path, str(said))
        time.sleep(0.002)
        if not Path(path + ".on").exists():
            return


@tq.task
def die(number: int = signal.SIGKILL) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


@tq.task(on_worker_lost="fail")
def die_once() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


if os.environ.get("KNOWS_LATER"):

    @tq.task
    def later() -> str:
        """Known to the workers of a later release only."""
        return "known by now"


@tq.task
def run_a_program() -> int:
    """Start a program and end it the usual way; its exit status."""
    program = subprocess.Popen(["sleep", "60"])
    program.terminate()
    return program.wait(10)


@tq.task(bind=True)
def enqueue_and_retry(self: Task[[], None]) -> None:
    """Enqueue a job in each of two attempts."""
    add.delay(self.request.retries, 1)
    if self.request.retries == 0:
        raise self.retry(countdown=0)
