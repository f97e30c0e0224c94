"""Hooks and receivers that note what they are told in a file beside this one."""

from __future__ import annotations

import os
import signal
import time
import typing as t
from pathlib import Path

from flask import Flask, current_app

from flask_taskqueue import Task, TaskQueue, signals

LEDGER = Path(__file__).with_name("ledger")
JOB_SIGNALS = ("enqueued", "started", "succeeded", "retried", "failed", "revoked")
WORKER_SIGNALS = ("worker_ready", "worker_process_init", "worker_shutdown")

tq = TaskQueue()
receivers: list[t.Any] = []  # signals keep weak references


def note(*words: object) -> None:
    """Append a line to the ledger, in one write."""
    with LEDGER.open("a") as ledger:
        ledger.write(" ".join(map(str, [os.getpid(), *words])) + "\n")


def create_app(**config: object) -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config.update(config)
    tq.init_app(app)
    for name in JOB_SIGNALS:
        listen(app, f"job_{name}")
    for name in WORKER_SIGNALS:
        listen(app, name)
    app.teardown_appcontext(lambda error: note(type(error).__name__, "teardown"))
    return app


def listen(app: Flask, name: str) -> None:
    """Note a signal, and raise in another receiver of it."""

    def receive(app: Flask, *, job: t.Any = None, worker: str = "") -> None:
        if job is None:
            note(worker, name, bool(current_app))
        else:
            note(job.task, name, job.state, current_app.name)

    def fail(app: Flask, **facts: object) -> None:
        raise RuntimeError(f"receiver of {name}")

    for receiver in (fail, receive):
        receivers.append(receiver)
        getattr(signals, name).connect(receiver, sender=app)


class Noting(Task[..., t.Any]):
    """Notes its hooks."""

    def before_start(self, *args: t.Any) -> None:
        note(self.name, "before_start")

    def on_success(self, *args: t.Any) -> None:
        note(self.name, "on_success")

    def on_retry(self, *args: t.Any) -> None:
        note(self.name, "on_retry")

    def on_failure(self, *args: t.Any) -> None:
        note(self.name, "on_failure")

    def after_return(self, status: str, *args: t.Any) -> None:
        note(self.name, "after_return", status)
        raise RuntimeError("after_return")


@tq.task(base=Noting, name="add")
def add(x: int, y: int) -> int:
    return x + y


@tq.task(base=Noting, name="flaky", bind=True)
def flaky(self: Task[..., t.Any]) -> int:
    if self.request.retries == 0:
        self.retry(countdown=0)
    return self.request.retries


@tq.task(base=Noting, name="fail")
def fail() -> None:
    raise ValueError("no")


class Patient(Noting):
    """Begins with something that takes too long."""

    name = "patient"
    soft_time_limit = 0.2

    def before_start(self, *args: t.Any) -> None:
        time.sleep(60)

    def run(self) -> None: ...


patient = tq.register_task(Patient())


class Endless(Noting):
    """Ends with something that takes too long."""

    name = "endless"

    def on_success(self, *args: t.Any) -> None:
        time.sleep(60)

    def run(self) -> None: ...


class Mortal(Noting):
    """Takes its process along after its first run."""

    name = "mortal"

    def on_success(self, *args: t.Any) -> None:
        note(self.name, "on_success")
        if not self.request.recoveries:
            os.kill(os.getpid(), signal.SIGKILL)

    def run(self) -> str:
        return f"recovered {self.request.recoveries}"


endless, mortal = tq.register_task(Endless()), tq.register_task(Mortal())


@tq.task(name="slow")
def slow() -> str:
    time.sleep(0.1)
    return "ran"
