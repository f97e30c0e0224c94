"""Flask-TaskQueue."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import typing as t
from collections.abc import Iterable, Iterator, Sequence

from flask import Flask

from flask_taskqueue import TaskQueue

from .. import tasks
from .interface import Contender, How

tq = TaskQueue()
add = tq.task(tasks.add)


@tq.task
def mark(number: int, seconds: float = 0.0) -> int:
    """Note when it starts, then sleep."""
    tasks.LEDGER.note(number, time.time())
    tasks.LEDGER.runs[number] += 1
    time.sleep(seconds)
    return number


@tq.task
def doomed(number: int) -> int:
    """Note who runs it, and wait to be killed; run again, note when."""
    runs = tasks.LEDGER.runs
    runs[number] += 1
    if runs[number] > 1:
        tasks.LEDGER.note(number, time.time())
        return number
    tasks.LEDGER.note(number, os.getpid())
    time.sleep(60)
    return -1


def create_app(**config: object) -> Flask:
    """The app, set by the environment."""
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config.update(config)
    tq.init_app(app)
    return app


class Ours(Contender):
    """With its default pool; as many jobs are claimed ahead as it sees fit."""

    jobs = 20_000
    pool: t.ClassVar[str] = "prefork"

    @contextlib.contextmanager
    def opened(self, **config: object) -> Iterator[Flask]:
        """An app context.

        :param config: Of the app.
        """
        app = create_app(**config)
        with app.app_context():
            yield app
            tq.state.broker.close()

    def call(self, number: int) -> t.Any:
        return add.delay(number, 1)

    def call_many(self, numbers: Iterable[int]) -> list[t.Any]:
        return list(add.delay_many([(number, 1) for number in numbers]))

    def command(self, how: How) -> list[str]:
        options = ["-l", how.log, "-c", str(how.slots), "-Q", how.names("default")]
        command = [sys.executable, "-m", "flask", "--app", __name__, "worker"]
        return [*command, "-P", self.pool, *options]

    def waiting(self, client: t.Any) -> int:
        return int(client.llen("rq:queue:default"))

    def stored(self, client: t.Any, handles: Sequence[t.Any]) -> int:
        return int(client.zcard("rq:finished:default"))

    def value(self, handle: t.Any) -> t.Any:
        return handle.get(timeout=10)

    def wait(self, handle: t.Any) -> t.Any:
        return handle.get(timeout=10)


class OnePerCall(Ours):
    """One job for each call of the server: nothing is claimed ahead."""

    jobs = 10_000
    environment: t.ClassVar = {"FLASK_WORKER_CLAIM_AHEAD": "1"}


class Threads(Ours):
    """With the pool of threads."""

    jobs = 2_000  # for each thread
    pool = "threads"
