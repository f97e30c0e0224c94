"""Loads the scripts and calls them: one function a transition.

Every script is one atomic step. Where a call may be repeated after a lost reply,
its docstring says so.
"""

from __future__ import annotations

import hashlib
import typing as t
from dataclasses import dataclass
from functools import cache
from importlib import resources

from redis import Redis
from redis.exceptions import NoScriptError

from .. import keys
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

Client = t.Any  # redis.Redis: its stubs type every reply as an awaitable, too


@dataclass(frozen=True, slots=True)
class Script:
    """Source of one script, with its SHA1."""

    source: str
    sha: str


@cache
def load(name: str) -> Script:
    """Read a script, with the table of keys and the parts it includes.

    :param name: File name in ``lua/`` without its suffix.
    """
    folder = resources.files(__package__) / "lua"
    lines = (folder / f"{name}.lua").read_text("utf-8").split("\n")
    shebang, include = lines[0], lines[1].removeprefix("-- include: ").split()
    table = ", ".join(
        f"{key} = '{value}'" for key, value in (keys.PREFIXES | keys.NAMES).items()
    )
    parts = [shebang, f"local K = {{{table}}}"]
    parts += [(folder / "lib" / f"{part}.lua").read_text("utf-8") for part in include]
    source = "\n".join([*parts, *lines[2:]])
    return Script(source, hashlib.sha1(source.encode()).hexdigest())  # noqa: S324


def call(client: Redis, name: str, argv: t.Iterable[Argument]) -> t.Any:
    """Run a script by its SHA1; send its source where the server forgot it."""
    script = load(name)
    arguments = tuple(argv)
    untyped: Client = client
    try:
        return untyped.evalsha(script.sha, 0, *arguments)
    except NoScriptError:
        return untyped.eval(script.source, 0, *arguments)


def _next(job: t.Any, again: int, notes: t.Any, execution: str) -> Next:
    claimed = None
    if job:
        job_id, queue, flat = job
        lease = Lease(text(queue), text(job_id), execution)
        claimed = Claimed(lease, dict(zip(flat[::2], flat[1::2], strict=True)))
    seen = tuple(Note(*(text(part) for part in note)) for note in notes)
    return Next(claimed, again == 1, again == 2, seen)


def _recovered(rows: t.Any) -> tuple[Recovered, ...]:
    return tuple(Recovered(*(text(part) for part in row)) for row in rows)


def _due(milliseconds: int) -> float | None:
    return None if milliseconds < 0 else milliseconds / 1000


STORED, STORED_BEFORE, REVOKED_MEANWHILE, REFUSED = 1, 2, 3, 0
"""Codes of ``finish`` and ``retry``."""

ENDED_INSTEAD = 2
"""A code of ``release``."""

WRITTEN, WRITTEN_BEFORE, EXISTS, NOT_A_JOB = 1, 2, 0, -1
"""Codes of ``enqueue``."""

REVOKED, MARKED, ENDED_BEFORE, NO_JOB = 1, 2, 3, 0
"""Codes of ``revoke``; ``NOT_A_JOB``, too."""


def enqueue(client: Redis, job: NewJob, nonce: str) -> int:
    """Write a job. May be repeated with the same nonce."""
    return int(call(client, "enqueue", [nonce, *job.argv()]))


def enqueue_many(client: Redis, jobs: t.Sequence[tuple[NewJob, str]]) -> list[int]:
    """Write jobs, each with its nonce, in one round trip. May be repeated."""
    script = load("enqueue")
    for _ in range(2):
        pipeline: Client = client.pipeline(transaction=False)
        for job, nonce in jobs:
            pipeline.evalsha(script.sha, 0, nonce, *job.argv())
        try:
            return [int(code) for code in pipeline.execute()]
        except NoScriptError:
            untyped: Client = client
            untyped.script_load(script.source)
    raise NoScriptError("the server does not keep scripts")


def claim(client: Redis, wanted: Claim, *, again: bool = False) -> Next:
    """Take the next job.

    :param again: This call repeats one whose reply was lost: a job it claimed
        then is returned.
    """
    job, more, notes = call(client, "claim", wanted.argv(again))
    return _next(job, more, notes, wanted.execution)


def finish(
    client: Redis,
    ended: t.Sequence[Ended],
    wanted: Claim | None,
    *,
    again: bool = False,
) -> tuple[list[int], Next]:
    """Store how executions ended and take the next job. May be repeated."""
    argv: list[Argument] = [len(ended)]
    for end in ended:
        argv += end.argv()
    argv += [0] if wanted is None else [1, *wanted.argv(again)]
    codes, job, more, notes = call(client, "finish", argv)
    execution = "" if wanted is None else wanted.execution
    return list(codes), _next(job, more, notes, execution)


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
    recovered, lapse, due, ready, parked, paused, suspended, kept_out = reply
    return Swept(
        _recovered(recovered),
        _due(lapse),
        _due(due),
        tuple(map(text, ready)),
        tuple(map(text, parked)),
        frozenset(map(text, paused)),
        bool(suspended),
        {text(queue): text(scheduler) for queue, scheduler in kept_out},
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


def read(client: Redis, job_ids: t.Sequence[str]) -> list[Read]:
    """Read jobs as they are at one moment, their arguments excepted.

    :return: For each; the fields are empty where there is no job.
    """
    rows = call(client, "read", counted(list(job_ids)))
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
    """Take expired members out of registries, at most once a minute.

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
