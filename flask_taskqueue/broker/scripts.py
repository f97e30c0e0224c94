"""Calls the scripts: one function a transition.

Every script is one atomic step. Where a call may be repeated after a lost reply,
its docstring says so.
"""

from __future__ import annotations

import typing as t

from redis import Redis

from .. import keys
from .exchange import Command, Exchange
from .loading import Client as Client
from .loading import Sender, load
from .loading import call as call
from .wire import (
    Argument,
    Claim,
    Claimed,
    Ended,
    Lease,
    Mixed,
    NewJob,
    Next,
    Note,
    Recovered,
    Renewed,
    Swept,
    counted,
    pairs,
    text,
)


def _next(jobs: t.Any, again: int, notes: t.Any) -> Next:
    return Next(
        tuple(map(Claimed.of_row, jobs)),
        again == 1,
        again == 2,
        tuple(Note(*map(text, note)) for note in notes),
    )


def _recovered(rows: t.Any) -> tuple[Recovered, ...]:
    return tuple(Recovered(*(text(part) for part in row)) for row in rows)


def _due(milliseconds: int) -> float | None:
    return None if milliseconds < 0 else milliseconds / 1000


STORED, STORED_BEFORE, REVOKED_MEANWHILE, REFUSED = 1, 2, 3, 0
"""Codes of ``finish``, ``finish_repeating``, ``bury`` and ``retry``."""

ENDED_INSTEAD = 2
"""A code of ``release``."""

WRITTEN, WRITTEN_BEFORE, EXISTS, NOT_A_JOB = 1, 2, 0, -1
"""Codes of ``enqueue``."""

REVOKED, MARKED, ENDED_BEFORE, NO_JOB = 1, 2, 3, 0
"""Codes of ``revoke``; ``NOT_A_JOB``, too."""


def enqueue(client: Sender, job: NewJob, nonce: str) -> int:
    """Write a job. May be repeated with the same nonce."""
    return int(call(client, "enqueue", [1, *job.row(nonce)])[0])


def enqueue_many(client: Sender, jobs: t.Sequence[tuple[NewJob, str]]) -> list[int]:
    """Write jobs, each with its nonce, in one step. May be repeated.

    :param jobs: Some hundreds at most: the server does nothing else meanwhile.
    """
    argv: list[Argument] = [len(jobs)]
    for job, nonce in jobs:
        argv += job.row(nonce)
    return list(call(client, "enqueue", argv))


def claim(client: Sender, wanted: Claim, *, again: bool = False) -> Next:
    """Take the next jobs.

    :param again: This call repeats one whose reply was lost: what it claimed then is
        returned.
    """
    jobs, more, notes = call(client, "claim", wanted.argv(again))
    return _next(jobs, more, notes)


def finish(
    client: Sender,
    ended: t.Sequence[Ended],
    wanted: Claim | None,
    *,
    again: bool = False,
) -> tuple[list[int], Next]:
    """Store how executions ended and take the next jobs. May be repeated."""
    return finish_rows(client, [end.argv() for end in ended], wanted, again=again)


def finish_rows(
    client: Sender,
    rows: t.Sequence[t.Sequence[Argument]],
    wanted: Claim | None,
    *,
    again: bool = False,
) -> tuple[list[int], Next]:
    """As :func:`finish`, of ends that are written out already."""
    argv: list[Argument] = [len(rows)]
    for row in rows:
        argv += row
    argv += [0] if wanted is None else [1, *wanted.argv(again)]
    codes, jobs, more, notes = call(client, "finish", argv)
    return codes, _next(jobs, more, notes)


def finish_sending(
    exchange: Exchange, rows: t.Sequence[t.Sequence[Argument]], wanted: Claim
) -> None:
    """Send the call of :func:`finish_rows`; :func:`finish_received` has its answer."""
    argv: list[Argument] = [len(rows)]
    for row in rows:
        argv += row
    exchange.send(("EVALSHA", load("finish").sha, 0, *argv, 1, *wanted.argv(False)))


def finish_received(exchange: Exchange) -> tuple[list[int], Next]:
    """The answer to :func:`finish_sending`.

    :raises redis.exceptions.NoScriptError: Repeat it by :func:`finish_rows`.
    """
    codes, jobs, more, notes = exchange.receive()
    return codes, _next(jobs, more, notes)


def finish_repeating(client: Redis, ended: Ended) -> int:
    """Store the success of a job of plain rq that repeats, and let it run again. May
    be repeated."""
    return int(call(client, "finish_repeating", ended.argv()))


def bury(client: Redis, ended: Ended) -> int:
    """End a job whose process was killed for it. May be repeated."""
    return int(call(client, "bury", ended.argv()))


def retry(
    client: Redis,
    lease: Lease,
    *,
    due: str,
    error: bytes,
    front: bool = False,
    queue: str | None = None,
    fields: t.Mapping[str, Argument] | None = None,
    entry: t.Mapping[str, Argument] | None = None,
) -> tuple[int, int]:
    """Store a failed attempt and let the job run again. May be repeated.

    :param queue: Queue of the next execution; ``None`` is the same.
    :return: Code, and the number of retries now.
    """
    argv: list[Argument] = [lease.id, lease.queue, lease.execution, due, int(front)]
    argv += [queue or lease.queue, error, *pairs(fields or {}), *pairs(entry or {})]
    code, retries = call(client, "retry", argv)
    return int(code), int(retries)


def _flat(leases: t.Iterable[Lease]) -> list[Argument]:
    return counted([part for x in leases for part in (x.queue, x.id, x.execution)])


def renew(
    client: Redis,
    worker: str,
    *,
    lease: float,
    record_ttl: int,
    record: t.Mapping[str, Argument],
    counters: tuple[int, int, float],
    queues: t.Sequence[str],
    held: t.Iterable[Lease],
) -> Renewed:
    """Extend the leases a worker holds and flush its record and counters.

    :param counters: Jobs succeeded, jobs failed, seconds worked since the last
        call that was answered.
    """
    succeeded, failed, worked = counters
    argv: list[Argument] = [worker, lease, record_ttl, *pairs(record), succeeded]
    argv += [failed, f"{worked:.6f}" if worked else "0", *counted(queues), *_flat(held)]
    lost, stop, unknown = call(client, "renew", argv)
    return Renewed(
        frozenset(map(text, lost)),
        frozenset(map(text, stop)),
        tuple(Lease(*(text(part) for part in row)) for row in unknown),
    )


def release(client: Redis, held: t.Sequence[Lease], *, started: bool) -> list[int]:
    """Give jobs back without a charge. May be repeated.

    :param started: Their functions had been called: ``on_worker_lost`` counts.
    :return: For each 1 given back, :data:`ENDED_INSTEAD` (or gone), 0 refused.
    """
    return list(call(client, "release", [int(started), *_flat(held)]))


def held(client: Redis, prefix: str, queues: t.Sequence[str]) -> list[Lease]:
    """The leases whose executions' ids begin so, in no order."""
    untyped: Client = client
    found = []
    for queue in queues:
        for member in untyped.zrange(keys.PREFIXES["wip"] + queue, 0, -1):
            job_id, _, execution = text(member).rpartition(":")
            if execution.startswith(prefix):
                found.append(Lease(queue, job_id, execution))
    return found


def begun(client: Redis, lease: Lease, seconds: float) -> bool:
    """Write a job that was claimed ahead as started. May be repeated.

    :param seconds: How long ago it was.
    """
    argv = [lease.id, lease.queue, lease.execution, f"{seconds:.6f}"]
    return bool(call(client, "begun", argv))


def abandon(
    client: Redis, prefix: str, *, ran: str, reason: str, queues: t.Sequence[str]
) -> tuple[Recovered, ...]:
    """Take back what a dead child held. May be repeated.

    :param prefix: Beginning of its execution ids.
    :param ran: The execution that ran when it died, or ``""``.
    """
    return _recovered(
        call(client, "abandon", [prefix, ran, reason, *counted(list(queues))])
    )


def sweep(
    client: Redis,
    *,
    gap: float,
    lease: float,
    most: int,
    empty: t.Sequence[str] = (),
    queues: t.Sequence[str] = (),
) -> Swept:
    """Recover, promote and look for what was left over, in all queues.

    :param gap: Seconds without a sweep after which expired leases prove nothing.
    :param empty: Queues seen without leases less than ``gap`` ago.
    :param queues: The caller's, where RQ's own scheduler is kept out.
    """
    argv = [gap, lease, most, *counted(list(empty)), *counted(list(queues))]
    reply = call(client, "sweep", argv)
    recovered, lapse, due, ready, parked, paused, suspended, kept_out, killed = reply
    return Swept(
        _recovered(recovered),
        _due(lapse),
        _due(due),
        tuple(map(text, ready)),
        tuple(map(text, parked)),
        frozenset(map(text, paused)),
        bool(suspended),
        {text(queue): text(scheduler) for queue, scheduler in kept_out},
        frozenset(map(text, killed)),
    )


def promote(client: Redis, queues: t.Sequence[str], *, most: int) -> float | None:
    """Move due jobs to their queues; seconds until the next is due, or None.

    Queues that RQ's own scheduler has count as empty; :func:`sweep` sees to them.
    """
    return _due(int(call(client, "promote", [most, *counted(list(queues))])))


def revoke(client: Redis, job_id: str, *, terminate: bool, created: bytes = b"") -> int:
    """Revoke a job. May be repeated.

    :param created: Its ``created_at`` as stored; one of another is no such job.
    """
    return int(call(client, "revoke", [job_id, int(terminate), created]))


Read = tuple[dict[bytes, bytes], bytes, dict[bytes, bytes]]
"""A job's fields, the id of its last result entry, and that entry."""


def read(client: Sender, job_ids: t.Sequence[str]) -> list[Read]:
    """Read jobs as they are at one moment, their arguments excepted.

    :return: For each; the fields are empty where there is no job.
    """
    return rows_read(call(client, "read", counted(list(job_ids))))


def reading(job_ids: t.Sequence[str]) -> Command:
    """The call of :func:`read` as a command, which the server may not know."""
    return ("EVALSHA", load("read").sha, 0, *counted(list(job_ids)))


def rows_read(rows: t.Any) -> list[Read]:
    """The reply to :func:`reading`."""
    return [(_mapping(fields), last, _mapping(entry)) for fields, last, entry in rows]


def _mapping(flat: t.Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def park(client: Redis, lease: Lease, task: str) -> bool:
    """Set a job aside whose task is not known here."""
    argv = [lease.id, lease.queue, lease.execution, task]
    return bool(call(client, "park", argv))


def unpark(client: Redis, task: str, *, most: int, queues: t.Sequence[str]) -> int:
    """Put parked jobs of a task back into these queues; how many.

    They are in ``tq:ready:<queue>``: the caller wakes slots of its own for them.
    """
    return int(call(client, "unpark", [task, most, *counted(list(queues))]))


def forget(client: Redis, job_id: str) -> int:
    """Make a job unknown: 1, 0 where there was none, ``NOT_A_JOB``."""
    return int(call(client, "forget", [job_id]))


def prune(client: Redis, *, most: int) -> tuple[int, tuple[Mixed, ...]]:
    """Take expired members out of registries and groups, once a minute, and sooner
    again while there is more.

    :return: How many, -1 where it was done within the last minute; and the queues
        where plain rq workers were seen on the way.
    """
    out, mixed = call(client, "prune", [most])
    prefix = keys.PREFIXES["worker"]
    return int(out), tuple(
        Mixed(text(queue), text(worker).removeprefix(prefix), int(count))
        for queue, worker, count in mixed
    )


def progress(client: Redis, lease: Lease, fields: t.Mapping[str, Argument]) -> bool:
    """Store what a running task says of itself, unless its lease is lost."""
    argv = [lease.id, lease.queue, lease.execution, *pairs(fields)]
    return bool(call(client, "progress", argv))
