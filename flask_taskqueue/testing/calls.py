"""What calls of tasks do in a test: run at once, or be kept for a look."""

from __future__ import annotations

import threading
import typing as t
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from flask import Flask

from .. import eager as eager_mode
from .. import serializer, states
from ..appstate import AppState, state_of
from ..broker import scripts
from ..broker.wire import NewJob
from ..job import StoredJob
from ..jobinfo import JobInfo
from ..links import Link

_ABSENT = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedJob(JobInfo):
    """A job that :func:`captured` kept, with what its call was given.

    :param args: As the task would get them: what came as a tuple is a list.
    :param countdown: Seconds, where the call said when in seconds from now.
    :param eta: When it may start; ``None`` is now.
    :param expires: From when on it may not start any more.
    :param options: ``time_limit``, ``soft_time_limit``, ``ignore_result`` and
        ``retry`` (the policy): what the call, the task, the route and the app say.
    :param links: What would follow a success. Their ``args`` lack the result, which
        comes first.
    :param link_errors: What would follow a failure.
    """

    args: list[t.Any]
    kwargs: dict[str, t.Any]
    countdown: float | None = None
    eta: datetime | None = None
    expires: datetime | None = None
    options: Mapping[str, t.Any] = field(default_factory=dict)
    links: tuple[CapturedJob, ...] = ()
    link_errors: tuple[CapturedJob, ...] = ()


@contextmanager
def eager(app: Flask, *, propagates: bool = True) -> Iterator[None]:
    """Run what is called inside in the caller, by the worker's code, without Redis.

    :param propagates: Raise what a task raises where it was called.
    :raises RuntimeError: The app has no TaskQueue.
    """
    state = state_of(app)
    wanted = {"TASKQUEUE_EAGER": True, "TASKQUEUE_EAGER_PROPAGATES": propagates}
    before = {key: app.config.get(key, _ABSENT) for key in wanted}
    outbox, state.outbox = state.outbox, None
    app.config.update(wanted)
    try:
        yield
    finally:
        state.outbox = outbox
        for key, value in before.items():
            if value is _ABSENT:
                app.config.pop(key, None)
            else:
                app.config[key] = value


@contextmanager
def captured(app: Flask) -> Iterator[list[CapturedJob]]:
    """Keep what is enqueued inside in a list: nothing runs, Redis is not needed.

    The list grows while the block runs, and stays. A handle's fields can be read
    inside the block, its state is ``PENDING``; waiting for it is a ``ResultTimeout``
    at once. An id that was captured and is used again gives ``created=False``.
    What the test calls plainly, or by ``apply()``, does run.

    :raises RuntimeError: The app has no TaskQueue.
    """
    state = state_of(app)
    outbox = _Outbox(state)
    before, state.outbox = state.outbox, outbox
    try:
        yield outbox.jobs
    finally:
        state.outbox = before
        for job in outbox.jobs:
            state.eager_jobs.pop(job.id, None)


class _Outbox:
    """Takes the jobs of one app in the place of Redis."""

    def __init__(self, state: AppState) -> None:
        self._state = state
        self._lock = threading.Lock()
        self.jobs: list[CapturedJob] = []

    def __call__(self, new: NewJob) -> int:
        """Keep a job, unless one with its id waits already."""
        with self._lock:
            known = self._state.eager_jobs.get(new.id)
            if known is not None and StoredJob(new.id, known).status in states.WAITING:
                return scripts.EXISTS
            data = StoredJob.of_new(new).data(self._state.config.max_args_bytes)
            self.jobs.append(_captured(self._state, new, data))
            # Not by keep_eager(), which drops the oldest.
            self._state.eager_jobs[new.id] = eager_mode.enqueued(new)
        return scripts.WRITTEN


def _captured(state: AppState, new: NewJob, call: bytes) -> CapturedJob:
    stored, now = StoredJob.of_new(new), datetime.now(UTC)
    _, _, args, kwargs = serializer.load_call(
        call, stored.content_type(call), state.config.accept_content, len(call)
    )
    relative = new.due.startswith("+")
    return CapturedJob(
        id=new.id, task=stored.task, queue=new.queue, state=states.PENDING,
        headers=stored.headers, carried=stored.carried, created_at=now,
        args=args, kwargs=kwargs, countdown=float(new.due) if relative else None,
        eta=_instant(new.due, now), expires=_instant(new.expires, now),
        options=stored.options, links=_linked(state, stored, "tq_links"),
        link_errors=_linked(state, stored, "tq_errlinks"),
    )  # fmt: skip


def _linked(state: AppState, stored: StoredJob, name: str) -> tuple[CapturedJob, ...]:
    links = [Link(row) for row in stored.rows(name)]
    return tuple(_captured(state, link.job, link.call) for link in links)


def _instant(text: str, now: datetime) -> datetime | None:
    """A time as scripts are given it."""
    if not text:
        return None
    if text.startswith("+"):
        return now + timedelta(seconds=float(text))
    return datetime.fromtimestamp(float(text), UTC)
