"""Runs a job in its caller, without Redis, by the worker's own code."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

from . import announcing, signals, states
from .appstate import AppState
from .broker.wire import Argument, Lease, NewJob, raw
from .errors import TaskNotRegistered, TaskQueueError, TaskRevokedError
from .inspector import RESULT
from .job import StoredJob
from .request import parent_in
from .stored_error import dump_error
from .worker import callbacks
from .worker.endings import Failed, Retried, Succeeded
from .worker.execution import Executor
from .worker.limits import NoTimer
from .worker.outcome import end_of
from .worker.reporter import said

WORKER = "eager"

ERRORS_KEPT = 100
"""Failed attempts whose exceptions are kept, as in Redis (``retry.lua``)."""

RETRIES_MOST = 1_000
"""Retries of a job that may be retried for ever: nothing is waited for here, so one
that polls would never return to its caller."""


def _stamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class EagerReporter:
    """Keeps what a running task says of itself beside its other fields."""

    def __init__(
        self, state: AppState, job_id: str, fields: dict[bytes, bytes]
    ) -> None:
        self._state = state
        self._job_id = job_id
        self._fields = fields

    def report(self, state: str, info: bytes) -> None:
        """Keep a state and its JSON value."""
        self._fields.update(raw(said(self._state, self._job_id, state, info)))


def run(state: AppState, new: NewJob) -> tuple[bool, BaseException | None]:
    """Run a prepared job now, its retries and links too.

    Times to wait (countdown, eta, delays of retries) are not waited; limits are not
    kept.

    :return: ``False`` where a job with its id has not ended: nothing ran. And the
        exception it ended with, or ``None``.
    :raises TaskNotRegistered: Its task is not known here.
    :raises TaskQueueError: It is retried without an end.
    """
    known = state.eager_jobs.get(new.id)
    if known is not None and StoredJob(new.id, known).status not in states.ENDED:
        return False, None
    parent = parent_in(state)
    if parent is not None and parent.is_eager:
        parent.children.append(new.id)
    return True, _run(state, new)


def _run(state: AppState, new: NewJob) -> BaseException | None:
    name = new.fields["tq_task"]
    if name not in state.tasks:
        raise TaskNotRegistered(f"no task {name!r} is registered here")
    started = {"status": "started", "started_at": _stamp(), "worker_name": WORKER}
    fields = {**enqueued(new), **raw(started)}
    state.keep_eager(new.id, fields)
    try:
        return _run_started(state, new, fields)
    except BaseException:
        # An interrupt, which is the caller's: nobody runs it any more.
        state.eager_jobs.pop(new.id, None)
        raise


def _run_started(
    state: AppState, new: NewJob, fields: dict[bytes, bytes]
) -> BaseException | None:
    announcing.enqueued(state, new)
    if b"tq_expires" in fields and float(fields[b"tq_expires"]) <= time.time():
        return _expire(state, StoredJob(new.id, fields), fields)
    executor = Executor(state, WORKER, NoTimer(), eager=True)
    reporter = EagerReporter(state, new.id, fields)
    while True:
        stored = StoredJob(new.id, fields)
        outcome = executor.run(stored, reporter)
        if isinstance(outcome, Retried):
            _refuse_endless(stored)
            _count_retry(stored, outcome, fields)
        elif isinstance(outcome, (Succeeded, Failed)):
            break
    ended = end_of(state, stored, Lease(stored.queue, new.id, WORKER), outcome)
    more = {"status": ended.status, "ended_at": _stamp(), "tq_runtime": ended.seconds}
    fields.update(raw({**ended.fields, **more}))
    fields.update({RESULT + name: value for name, value in raw(ended.entry).items()})
    for link in ended.links:
        _run(state, link)
    return outcome.exception if isinstance(outcome, Failed) else None


def enqueued(new: NewJob) -> dict[bytes, bytes]:
    """Fields of a job as the script writes them that enqueues it."""
    at, now = _stamp(), time.time()
    fields: dict[str, Argument] = {
        **new.fields, "status": "queued", "origin": new.queue, "created_at": at,
        "enqueued_at": at,
    }  # fmt: skip
    for name, instant in (("tq_eta", new.due), ("tq_expires", new.expires)):
        if instant:
            start = now if instant.startswith("+") else 0.0
            fields[name] = f"{start + float(instant):.6f}"
    return raw(fields)


def _refuse_endless(stored: StoredJob) -> None:
    if stored.policy.max_retries is None and stored.retries >= RETRIES_MOST:
        raise TaskQueueError(
            f"{stored.task}[{stored.id}] was retried {RETRIES_MOST} times at once, and"
            " may be retried for ever: an eager job does not wait for what it retries"
            " for. Let the test change that, or give the call max_retries=…"
        )


def _count_retry(
    stored: StoredJob, outcome: Retried, fields: dict[bytes, bytes]
) -> None:
    retries = stored.retries
    fields.update(raw(outcome.fields))
    if outcome.children:
        fields[b"tq_children"] = json.dumps(outcome.children).encode()
    if outcome.queue is not None:
        fields[b"origin"] = outcome.queue.encode()
    for name in (b"tq_state", b"tq_info", b"tq_sig_info"):
        fields.pop(name, None)
    fields[b"tq_error"] = fields[f"tq_error_{retries}".encode()] = outcome.error
    fields.pop(f"tq_error_{retries - ERRORS_KEPT}".encode(), None)
    fields[b"tq_retries"] = str(retries + 1).encode()


def _expire(
    state: AppState, stored: StoredJob, fields: dict[bytes, bytes]
) -> BaseException:
    error = TaskRevokedError("expired")
    fields[b"status"] = b"canceled"
    fields[b"ended_at"] = _stamp().encode()
    fields[b"tq_error"] = dump_error(error, "")
    callbacks.announce(state, signals.job_revoked, stored, states.REVOKED, error)
    return error
