"""Tasks whose processes are killed, with hooks that note what they are told in a file
beside this one."""

from __future__ import annotations

import os
import signal
import time
import typing as t
from pathlib import Path

from flask import Flask, current_app

from flask_taskqueue import Task, TaskQueue, signals

LEDGER = Path(__file__).with_name("ledger")

tq = TaskQueue()


def note(*words: object) -> None:
    """Append a line to the ledger, in one write."""
    with LEDGER.open("a") as ledger:
        ledger.write(" ".join(map(str, words)) + "\n")


def create_app(**config: object) -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config.update(config)
    tq.init_app(app)

    def receive(app: Flask, job: t.Any) -> None:
        note(job.task, job.state, type(job.exception).__name__)

    app.extensions["receive"] = receive  # signals keep weak references
    signals.job_failed.connect(receive, sender=app)
    signals.job_revoked.connect(receive, sender=app)
    return app


class Noting(Task[..., t.Any]):
    """Notes the hooks that are called when its process cannot."""

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        note(self.name, "on_failure", type(exc).__name__, current_app.name)

    def after_return(self, status, *args):
        note(self.name, "after_return", status, self.request.retries)


@tq.task(name="hold", base=Noting, on_worker_lost="fail")
def hold() -> None:
    """Run until it is killed."""
    note("hold", "runs", os.getpid())
    time.sleep(60)


@tq.task(name="die", base=Noting, on_worker_lost="fail")
def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


class Poisonous(Noting):
    """Its hook kills processes."""

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        note(self.name, "on_failure")
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)


@tq.task(name="poison", base=Poisonous, on_worker_lost="fail")
def poison() -> None:
    die.run()


@tq.task(name="add")
def add(x: int, y: int) -> int:
    return x + y
