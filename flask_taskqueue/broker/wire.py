"""What goes into the scripts and comes back from them, as Python sees it."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

Argument = str | bytes | int | float


def counted(values: t.Sequence[Argument]) -> list[Argument]:
    """A list as the scripts read it: its length, then its values."""
    return [len(values), *values]


def pairs(fields: t.Mapping[str, Argument]) -> list[Argument]:
    """A mapping as a counted list of fields and values in turn."""
    return counted([item for pair in fields.items() for item in pair])


def raw(fields: t.Mapping[str, Argument]) -> dict[bytes, bytes]:
    """Fields as they come back from Redis."""
    return {
        name.encode(): value if isinstance(value, bytes) else str(value).encode()
        for name, value in fields.items()
    }


def text(value: bytes) -> str:
    """Bytes from Redis as text; what is no UTF-8 stays visible."""
    return value.decode("utf-8", "backslashreplace")


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

    :param kind: ``expired``, ``revoked``, ``quarantined``, or ``aftermath``: a killed
        job's callback is this slot's to run.
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

    :param what: ``requeued``, ``given`` (not charged), ``failed``, ``revoked``, or
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

    :param next_lapse: Seconds until a lease ends unless it is renewed; ``None`` where
        there is none.
    :param next_due: Seconds until the next job is due; ``None`` when none is.
    :param ready: Queues with ids that a dead waiter left.
    :param parked: Names of tasks that have parked jobs.
    :param paused: Queues nothing is taken from.
    :param suspended: Nothing is taken from any queue (``rq suspend``).
    :param kept_out: RQ's schedulers that are being kept out, by queue: nothing is
        promoted there until they have let go.
    """

    recovered: tuple[Recovered, ...] = ()
    next_lapse: float | None = None
    next_due: float | None = None
    ready: tuple[str, ...] = ()
    parked: tuple[str, ...] = ()
    paused: frozenset[str] = frozenset()
    suspended: bool = False
    kept_out: t.Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mixed:
    """A queue with plain rq workers beside ours.

    :param worker: The name of one.
    :param count: How many there are.
    """

    queue: str
    worker: str
    count: int
