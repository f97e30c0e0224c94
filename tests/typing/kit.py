"""What a type checker knows of the testing kit, hooks and calls on commit. Nothing here
runs: every ``type: ignore`` is an error that must be found."""

from __future__ import annotations

import typing as t
from datetime import UTC, datetime

from flask import Flask

from flask_taskqueue import AsyncResult, JobInfo, Task, TaskQueue
from flask_taskqueue.testing import CapturedJob, captured, drain, eager, run_worker

app = Flask(__name__)
tq = TaskQueue(app)


@tq.task
def add(x: int, y: int = 1) -> int:
    return x + y


t.assert_type(add.delay_on_commit(1, y=2), AsyncResult[int])
t.assert_type(add.apply_async_on_commit((1,), countdown=1), AsyncResult[int])
add.delay_on_commit("1")  # type: ignore[arg-type]
add.apply_async_on_commit((1,), queue=1)  # type: ignore[arg-type]

with eager(app, propagates=False):
    pass
with captured(app) as jobs:
    t.assert_type(jobs, list[CapturedJob])
    t.assert_type(jobs[0].args, list[t.Any])
    t.assert_type(jobs[0].eta, datetime | None)
    t.assert_type(jobs[0].links, tuple[CapturedJob, ...])
    told: JobInfo = jobs[0]
    jobs[0].task = "other"  # type: ignore[misc]
t.assert_type(drain(app), int)
drain(app, ["mail"], datetime.now(UTC))
drain(app, "mail", propagates=True, most=10)
drain(app, now="soon")  # type: ignore[arg-type]
drain(app, None, None, True)  # type: ignore[call-arg]
run_worker(app, queues=["mail"], concurrency=2)
nothing: int = run_worker(app)  # type: ignore[assignment, func-returns-value]


class Noted(Task[[str], None]):
    def run(self, what: str) -> None: ...

    def on_success(self, retval: str) -> None:  # type: ignore[override]
        """Its other parameters are missing."""


@tq.authorize_status
def authorize(job: JobInfo) -> bool:
    return job.headers.get("owner") == 7


@tq.authorize_status  # type: ignore[type-var]
def wrong(job: JobInfo) -> str:
    return "yes"


def no_manager(value: t.Any) -> int:
    return 1


tq.carrier("n", capture=lambda: 1, restore=no_manager)  # type: ignore[arg-type]
