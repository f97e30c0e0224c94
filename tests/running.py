"""Runs what is enqueued in the test's own process, by the worker's own code."""

from __future__ import annotations

import itertools
import typing as t

import redis
from flask import Flask

from flask_taskqueue import TaskQueue
from flask_taskqueue.appstate import AppState
from flask_taskqueue.broker import scripts
from flask_taskqueue.broker.wire import Claim, Claimed
from flask_taskqueue.job import StoredJob
from flask_taskqueue.testing import drain
from flask_taskqueue.worker import outcome
from flask_taskqueue.worker.endings import Outcome
from flask_taskqueue.worker.execution import Executor
from flask_taskqueue.worker.limits import NoTimer
from flask_taskqueue.worker.reporter import JobReporter

_calls = itertools.count(1)
WORKER = "host.4711.abc"


def claim(
    client: redis.Redis, queues: t.Sequence[str] = ("default",)
) -> Claimed | None:
    """Take the next job, as a worker named :data:`WORKER`."""
    wanted = Claim(WORKER, f"{WORKER}.1.", next(_calls), 10, tuple(queues))
    return scripts.claim(client, wanted).job


def run(state: AppState, client: redis.Redis, claimed: Claimed) -> Outcome:
    """Run a claimed job and store how it ended."""
    job = StoredJob(claimed.lease.id, claimed.fields, claimed.lease.queue)
    reporter = JobReporter(client, state, claimed.lease, lambda error: None)
    ended = Executor(state, WORKER, NoTimer(), client).run(job, reporter)
    accepted, _ = outcome.store(client, state, job, claimed.lease, ended, None)
    assert accepted
    return ended


def run_all(
    state: AppState, client: redis.Redis, queues: t.Sequence[str] = ("default",)
) -> list[Outcome]:
    """Run what waits, links included; how each ended."""
    ended = []
    while (claimed := claim(client, queues)) is not None:
        ended.append(run(state, client, claimed))
    return ended


class InProcess:
    """An app with a TaskQueue in the test's process, disconnected after the test.

    :param name: Import name of the app.
    :param app: One made otherwise than by its name alone.
    :param config: Of the app.
    """

    made: t.ClassVar[list[InProcess]] = []

    def __init__(
        self,
        name: str,
        url: str,
        client: redis.Redis,
        app: Flask | None = None,
        **config: object,
    ) -> None:
        self.client = client
        self.tq = TaskQueue()
        self.app = Flask(name) if app is None else app
        self.app.config.update({"TASKQUEUE_URL": url, **config})
        self.tq.init_app(self.app)
        self.made.append(self)

    def run_all(self) -> None:
        """Run what waits in the queue ``default``."""
        drain(self.app, "default")

    @classmethod
    def disconnect_all(cls) -> None:
        """Close the connections of all that were made."""
        while cls.made:
            site = cls.made.pop()
            with site.app.app_context():
                site.tq.state.broker.close()
