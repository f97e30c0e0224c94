"""Sends the signals of jobs that are enqueued or revoked, where that is done."""

from __future__ import annotations

from datetime import UTC, datetime

from redis import Redis
from redis.exceptions import ResponseError

from . import keys, signals, states
from .appstate import AppState
from .broker import scripts
from .broker.trouble import is_unavailable
from .broker.wire import NewJob
from .errors import BrokerUnavailable, DecodeError, TaskRevokedError
from .job import StoredJob
from .jobinfo import JobInfo

_TOLD = (
    "origin", "description", "tq_task", "tq_headers", "tq_carried", "created_at",
)  # fmt: skip
"""Fields of a hash that a :class:`.jobinfo.JobInfo` is made of."""


def enqueued(state: AppState, new: NewJob) -> None:
    """Send ``job_enqueued`` for a job that was accepted."""
    if signals.job_enqueued.receivers:
        stored, now = StoredJob.of_new(new), datetime.now(UTC)
        job = JobInfo.of(stored, states.PENDING, created_at=now)
        signals.send(signals.job_enqueued, state.app, job=job)


def revoked(state: AppState, job_id: str) -> None:
    """Send ``job_revoked`` for a waiting job that was revoked here."""
    if not signals.job_revoked.receivers:
        return
    try:
        with state.broker.errors():
            stored = read(state.broker.monitor, job_id)
    except (BrokerUnavailable, DecodeError):
        # It is revoked all the same: tell what is known.
        stored = StoredJob(job_id, {})
    error = TaskRevokedError("revoked")
    job = JobInfo.of(stored, states.REVOKED, exception=error)
    signals.send(signals.job_revoked, state.app, job=job)


def read(client: Redis, job_id: str, queue: str = "") -> StoredJob:
    """What receivers are told of a job; nothing where its key is no hash.

    :param queue: Where it was; ``""`` is the queue it names itself.
    """
    untyped: scripts.Client = client
    try:
        values = untyped.hmget(keys.job(job_id), _TOLD)
    except ResponseError as error:
        if is_unavailable(error):
            raise
        values = ()
    found = zip(_TOLD, values, strict=False)
    fields = {name.encode(): value for name, value in found if value is not None}
    return StoredJob(job_id, fields, queue)
