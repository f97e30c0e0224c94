"""Changes that people ask for: of jobs, of queues, and of workers."""

from __future__ import annotations

import sys
import typing as t
from collections.abc import Iterable, Iterator
from secrets import token_hex

from . import announcing, commands, keys
from .appstate import AppState
from .broker import scripts
from .errors import BrokerUnavailable, JobNotFound, TaskQueueError
from .inspector import local_fields

STEP = 100
"""Jobs changed by one script: some 5 ms of the server's time."""

KEEP_PURGED = 600
"""Seconds at most that a purged job can still be asked for."""

Revoked = t.Literal["revoked", "running", "ended"]


def revoke(
    state: AppState, job_id: str, *, terminate: bool = False, created: bytes = b""
) -> Revoked:
    """See that a job does not run.

    :param terminate: If it runs, stop it within a second; else it ends, and its
        result counts.
    :param created: Field ``created_at`` of the job meant: another one that has taken
        its id since is left alone.
    :return: ``revoked``: it ended; ``running``: it runs, and is marked; ``ended``: it
        had ended before.
    :raises JobNotFound: No job has this id.
    :raises BrokerUnavailable: Redis did not answer within 2 s.
    """
    _refuse_local(state, job_id)
    with state.broker.errors():
        code = scripts.revoke(
            state.broker.producer, job_id, terminate=terminate, created=created
        )
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


def requeue_failed(state: AppState, *queues: str) -> int:
    """Let the failed jobs of queues run again, in steps; how many.

    Those that somebody terminated stay, and so do those that fail meanwhile.

    :raises BrokerUnavailable: Redis did not answer within 2 s.
    """
    client: scripts.Client = state.broker.producer
    return _total(state, (done for name in queues for done in _requeued(client, name)))


def _requeued(client: scripts.Client, queue: str) -> Iterator[int]:
    begun = last = ""
    looked = STEP
    while looked == STEP:
        argv: list[str | int] = [queue, token_hex(8), begun, last, STEP]
        reply = scripts.call(client, "requeue_failed", argv)
        begun, last, looked, done = reply
        yield done


def purge(
    state: AppState, queue: str, *, scheduled: bool = False, deferred: bool = False
) -> int:
    """Revoke the jobs that wait in a queue, in steps; how many.

    They answer ``REVOKED`` for ten minutes at most, then they are gone. What is
    enqueued meanwhile stays. ``job_revoked`` is not sent: there may be a million of
    them.

    :param scheduled: Those that wait for their time, or for a retry, too.
    :param deferred: Those that wait for another job, or for a worker that knows their
        task, too.
    :raises BrokerUnavailable: Redis did not answer within 2 s.
    """
    places = ["ready", "queue"]
    places += ["scheduled"] * scheduled + ["deferred"] * deferred
    return _total(state, _purged(state.broker.producer, queue, places))


def _purged(client: scripts.Client, queue: str, places: Iterable[str]) -> Iterator[int]:
    begun = ""
    for place in places:
        # What comes meanwhile is added to those that are ready.
        left = client.llen(keys.ready(queue)) if place == "ready" else sys.maxsize
        last = ""
        while left > 0:
            step = min(STEP, left)
            argv: list[str | int] = [queue, place, begun, last, step, KEEP_PURGED]
            begun, last, looked, done = scripts.call(client, "purge", argv)
            left = left - step if looked == step else 0
            yield done


def _total(state: AppState, steps: Iterator[int]) -> int:
    """The sum of what steps did, told also where Redis goes away half-way."""
    total = 0
    try:
        with state.broker.errors():
            for done in steps:
                total += done
    except BrokerUnavailable as error:
        if total:
            raise BrokerUnavailable(f"{error}, after {total} jobs") from error.__cause__
        raise
    return total


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


def stop_worker(state: AppState, name: str) -> bool:
    """Tell a worker to stop as at TERM: what runs may end. Whether it heard.

    :param name: Its whole name.
    :raises BrokerUnavailable: Redis did not answer within 2 s.
    """
    return _tell(state, name, commands.SHUTDOWN)


def quiet_worker(state: AppState, name: str) -> bool:
    """Tell a worker to take no more jobs, and to stay. Whether it heard.

    What runs goes on. Only a reload or a new worker takes jobs again.

    :param name: Its whole name.
    :raises BrokerUnavailable: Redis did not answer within 2 s.
    """
    return _tell(state, name, commands.QUIET)


def _tell(state: AppState, worker: str, kind: str) -> bool:
    client: scripts.Client = state.broker.producer
    with state.broker.errors():
        heard = client.publish(keys.commands(worker), commands.Command(kind).dumps())
    return bool(heard)


def _refuse_local(state: AppState, job_id: str) -> None:
    """A job that ran in the caller, and an id no job can have, are not in Redis."""
    if local_fields(state, job_id) is not None:
        _check(job_id, scripts.NO_JOB)


def _check(job_id: str, code: int) -> None:
    if code == scripts.NO_JOB:
        raise JobNotFound(f"there is no job {job_id!r}")
    if code == scripts.NOT_A_JOB:
        raise TaskQueueError(
            f"the key of job {job_id!r} holds something that is no job"
        )
