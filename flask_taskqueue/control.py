"""Changes that people ask for: revoke, requeue, purge, pause, resume."""

from __future__ import annotations

import typing as t
from secrets import token_hex

from . import announcing, keys
from .appstate import AppState
from .broker import scripts
from .errors import JobNotFound, TaskQueueError
from .inspector import local_fields

STEP = 100
"""Jobs changed by one script: some 5 ms of the server's time."""

KEEP_PURGED = 600
"""Seconds at most that a purged job can still be asked for."""

Revoked = t.Literal["revoked", "running", "ended"]


def revoke(state: AppState, job_id: str, *, terminate: bool = False) -> Revoked:
    """See that a job does not run.

    :param terminate: If it runs, stop it within a second; else it ends, and its
        result counts.
    :return: ``revoked``: it ended; ``running``: it runs, and is marked; ``ended``: it
        had ended before.
    :raises JobNotFound: No job has this id.
    :raises BrokerUnavailable: Redis did not answer within 2 s.
    """
    _refuse_local(state, job_id)
    with state.broker.errors():
        code = scripts.revoke(state.broker.producer, job_id, terminate=terminate)
    _check(job_id, code)
    if code == scripts.REVOKED:
        announcing.revoked(state, job_id)
        return "revoked"
    return "running" if code == scripts.MARKED else "ended"


def requeue(state: AppState, job_id: str) -> bool:
    """Let a job that ended run again, with full counts, at the end of its queue.

    :return: ``False`` where it has not ended.
    :raises JobNotFound: No job has this id.
    :raises BrokerUnavailable: Redis did not answer within 2 s.
    """
    _refuse_local(state, job_id)
    with state.broker.errors():
        code = int(
            scripts.call(state.broker.producer, "requeue", [job_id, token_hex(8)])
        )
    _check(job_id, code)
    return code == 1


def requeue_failed(state: AppState, queue: str) -> int:
    """Let a queue's failed jobs run again, in steps; how many.

    Those that somebody terminated stay, and so do those that fail meanwhile.

    :raises BrokerUnavailable: Redis did not answer within 2 s.
    """
    client: scripts.Client = state.broker.producer
    seen = kept = requeued = 0
    with state.broker.errors():
        most = client.zcard(keys.PREFIXES["failed"] + queue)
        while seen < most:
            argv = [queue, token_hex(8), kept, min(STEP, most - seen)]
            looked, stay, done = scripts.call(client, "requeue_failed", argv)
            if not looked:
                break
            seen, kept, requeued = seen + looked, kept + stay, requeued + done
    return requeued


def purge(state: AppState, queue: str, *, scheduled: bool = False) -> int:
    """Revoke the jobs that wait in a queue, in steps; how many.

    They answer ``REVOKED`` for ten minutes at most, then they are gone. What is
    enqueued meanwhile stays. ``job_revoked`` is not sent: there may be a million of
    them.

    :param scheduled: Those that wait for their time, too.
    :raises BrokerUnavailable: Redis did not answer within 2 s.
    """
    client: scripts.Client = state.broker.producer
    with state.broker.errors():
        revoked = _purge(
            client,
            queue,
            "queued",
            client.llen(keys.ready(queue)) + client.llen(keys.queue(queue)),
        )
        if scheduled:
            most = client.zcard(keys.PREFIXES["scheduled"] + queue)
            revoked += _purge(client, queue, "scheduled", most)
    return revoked


def _purge(client: scripts.Client, queue: str, status: str, most: int) -> int:
    taken = revoked = 0
    while taken < most:
        step = min(STEP, most - taken)
        argv: list[str | int] = [queue, status, step, KEEP_PURGED]
        out, ended = scripts.call(client, "purge", argv)
        if not out:
            break
        taken, revoked = taken + out, revoked + ended
    return revoked


def pause(state: AppState, queue: str) -> bool:
    """Let workers take no more jobs from a queue; whether that is new.

    What runs goes on. It lasts until :func:`resume`, over restarts of everything.

    :raises BrokerUnavailable: Redis did not answer within 2 s.
    """
    with state.broker.errors():
        return bool(scripts.call(state.broker.producer, "pause", [queue]))


def resume(state: AppState, queue: str) -> bool:
    """Let workers take jobs from a queue again; whether that is new.

    Idle workers begin within 2 s: they look when they sweep.

    :raises BrokerUnavailable: Redis did not answer within 2 s.
    """
    with state.broker.errors():
        return bool(scripts.call(state.broker.producer, "resume", [queue]))


def _refuse_local(state: AppState, job_id: str) -> None:
    """A job that ran in the caller, and an id no job can have, are not in Redis."""
    if local_fields(state, job_id) is not None:
        raise JobNotFound(f"there is no job {job_id!r} in Redis")


def _check(job_id: str, code: int) -> None:
    if code == scripts.NO_JOB:
        raise JobNotFound(f"there is no job {job_id!r}")
    if code == scripts.NOT_A_JOB:
        raise TaskQueueError(f"the key of job {job_id!r} holds something else")
