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

Argument = str | bytes | int | float
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


def counted(values: t.Sequence[Argument]) -> list[Argument]:
    """A list as the scripts read it: its length, then its values."""
    return [len(values), *values]


def pairs(fields: t.Mapping[str, Argument]) -> list[Argument]:
    """A mapping as a counted list of fields and values in turn."""
    return counted([item for pair in fields.items() for item in pair])


# --- what goes in -------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job to be written.

    :param due: When it may start: ``""`` now, ``"+SECONDS"``, or epoch seconds.
    :param expires: The same for when it may no longer start; ``""`` is never.
    :param fields: Hash fields, ``status`` and times excepted: the script's.
    """

    id: str
    queue: str
    fields: dict[str, Argument]
    front: bool = False
    due: str = ""
    expires: str = ""

    def argv(self) -> list[Argument]:
        """The job as ``lib/queueing.lua`` reads it."""
        head: list[Argument] = [self.id, self.queue, int(self.front)]
        return [*head, self.due, self.expires, *pairs(self.fields)]


@dataclass(frozen=True, slots=True)
class Claim:
    """A call for the next job.

    :param execution: Id of the execution if there is one; new for each call.
    :param lease: Seconds until somebody else may take it, unless renewed.
    """

    worker: str
    execution: str
    lease: float
    queues: tuple[str, ...]

    def argv(self, again: bool) -> list[Argument]:
        """The claim as ``lib/claiming.lua`` reads it."""
        head: list[Argument] = [self.worker, self.execution, self.lease, int(again)]
        return [*head, *counted(self.queues)]


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run a job: queue, job and execution ids."""

    queue: str
    id: str
    execution: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How an execution ended a job.

    :param status: RQ's: ``finished``, ``failed`` or ``stopped``.
    :param fields: More fields for the job's hash.
    :param entry: More fields for its result stream's entry.
    :param links: Jobs to enqueue with it.
    """

    lease: Lease
    status: str
    fields: dict[str, Argument]
    entry: dict[str, Argument]
    links: t.Sequence[NewJob] = ()

    def argv(self) -> list[Argument]:
        """The end as ``finish.lua`` reads it."""
        out: list[Argument] = [self.lease.id, self.lease.queue, self.lease.execution]
        out += [self.status, *pairs(self.fields), *pairs(self.entry), len(self.links)]
        for link in self.links:
            out += link.argv()
        return out


# --- what comes back ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job this worker may run.

    :param fields: Its whole hash, undecoded: nothing in it is to be trusted.
    """

    lease: Lease
    fields: dict[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Note:
    """Something a claim met on its way.

    :param kind: ``expired`` or ``quarantined``.
    """

    kind: str
    id: str
    queue: str
    reason: str


@dataclass(frozen=True, slots=True)
class Next:
    """Answer to a claim.

    :param again: More entries may wait behind dead ones: call again.
    :param held_back: A queue is paused, or all are suspended.
    """

    job: Claimed | None = None
    again: bool = False
    held_back: bool = False
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Recovered:
    """What became of a job whose worker was lost.

    :param what: ``requeued``, ``given`` (not charged), ``failed``, ``revoked`` or
        ``gone``.
    """

    id: str
    queue: str
    what: str


@dataclass(frozen=True, slots=True)
class Renewed:
    """Where Redis and a worker disagree.

    :param lost: Executions that are somebody else's by now.
    :param stop: Executions to terminate.
    :param unknown: Leases Redis gives this worker that it did not name.
    """

    lost: frozenset[str] = frozenset()
    stop: frozenset[str] = frozenset()
    unknown: tuple[Lease, ...] = ()


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep found.

    :param next_due: Seconds until the next job is due; ``None`` when none is.
    :param ready: Queues with ids that a dead waiter left.
    :param parked: Names of tasks that have parked jobs.
    :param paused: Queues nothing is taken from.
    :param suspended: Nothing is taken from any queue (``rq suspend``).
    """

    recovered: tuple[Recovered, ...] = ()
    next_due: float | None = None
    ready: tuple[str, ...] = ()
    parked: tuple[str, ...] = ()
    paused: frozenset[str] = frozenset()
    suspended: bool = False


def text(value: bytes) -> str:
    """Bytes from Redis as text; what is no UTF-8 stays visible."""
    return value.decode("utf-8", "backslashreplace")


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


# --- transitions --------------------------------------------------------------

STORED, STORED_BEFORE, REVOKED_MEANWHILE, REFUSED = 1, 2, 3, 0
"""Codes of ``finish`` and ``retry``."""

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
    :return: For each 1 given back, 2 ended instead, 0 refused.
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


def sweep(client: Redis, *, gap: float, lease: float, most: int) -> Swept:
    """Recover, promote and look for what was left over, in all queues."""
    reply = call(client, "sweep", [gap, lease, most])
    recovered, due, ready, parked, paused, suspended = reply
    return Swept(
        _recovered(recovered),
        _due(due),
        tuple(map(text, ready)),
        tuple(map(text, parked)),
        frozenset(map(text, paused)),
        bool(suspended),
    )


def promote(client: Redis, queues: t.Sequence[str], *, most: int) -> float | None:
    """Move due jobs to their queues; seconds until the next is due, or None."""
    return _due(int(call(client, "promote", [most, *counted(list(queues))])))


def revoke(client: Redis, job_id: str, *, terminate: bool) -> int:
    """Revoke a job. May be repeated."""
    return int(call(client, "revoke", [job_id, int(terminate)]))


def park(client: Redis, lease: Lease, task: str) -> bool:
    """Set a job aside whose task is not known here."""
    argv = [lease.id, lease.queue, lease.execution, task]
    return bool(call(client, "park", argv))


def unpark(client: Redis, task: str, *, most: int, queues: t.Sequence[str]) -> int:
    """Put parked jobs of a task back into these queues; how many."""
    return int(call(client, "unpark", [task, most, *counted(list(queues))]))


def forget(client: Redis, job_id: str) -> int:
    """Make a job unknown: 1, 0 where there was none, ``NOT_A_JOB``."""
    return int(call(client, "forget", [job_id]))


def prune(client: Redis, *, most: int) -> int:
    """Take expired members out of registries, at most once a minute."""
    return int(call(client, "prune", [most]))


def progress(client: Redis, lease: Lease, fields: t.Mapping[str, Argument]) -> bool:
    """Store what a running task says of itself, unless its lease is lost."""
    argv = [lease.id, lease.queue, lease.execution, *pairs(fields)]
    return bool(call(client, "progress", argv))
