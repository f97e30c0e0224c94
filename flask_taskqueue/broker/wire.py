"""What goes into the scripts and comes back from them, as Python sees it."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field
from itertools import chain

Argument = str | bytes | int | float

COLUMNS = (
    "data", "description", "timeout", "result_ttl", "failure_ttl", "tq_task",
    "tq_content", "tq_options",
)  # fmt: skip
"""The first fields of every job a task makes. ``enqueue.lua`` knows their names: only
their values are sent."""

_COUNT = len(COLUMNS)


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


@dataclass(slots=True, kw_only=True)
class NewJob:
    """A job to be written.

    :param due: When it may start: ``""`` now, ``"+SECONDS"``, or epoch seconds.
    :param expires: The same for when it may no longer start; ``""`` is never.
    :param fields: Hash fields, ``status`` and times excepted: the script's.
    :param nonce: Tells a call that is repeated from another one with the same id;
        ``""`` where the id was made for this call.
    """

    id: str
    queue: str
    fields: dict[str, Argument]
    front: bool = False
    due: str = ""
    expires: str = ""
    nonce: str = ""

    def argv(self) -> list[Argument]:
        """The job as ``lib/queueing.lua`` reads it."""
        head: list[Argument] = [self.id, self.queue, int(self.front)]
        return [*head, self.due, self.expires, *pairs(self.fields)]

    def row(self, nonce: str) -> list[Argument]:
        """The job as ``enqueue.lua`` reads it."""
        if self.front or self.due or self.expires:
            return [nonce, 0, *self.argv()]
        names, values = tuple(self.fields), self.fields.values()
        if names == COLUMNS:
            return [nonce, _COUNT, self.id, self.queue, *values, 0]
        if names[:_COUNT] != COLUMNS:
            return [nonce, 0, *self.argv()]
        columns, more = list(values)[:_COUNT], list(self.fields.items())[_COUNT:]
        return [nonce, _COUNT, self.id, self.queue, *columns, *pairs(dict(more))]


@dataclass(frozen=True, slots=True)
class Claim:
    """A call for the next jobs.

    :param prefix: Beginning of the ids of the executions it makes; a number follows.
    :param first: The first of these numbers; as many as ``most`` belong to this call.
    :param lease: Seconds until somebody else may take them, unless renewed.
    :param ahead: None of them is about to run, not even the first.
    """

    worker: str
    prefix: str
    first: int
    lease: float
    queues: tuple[str, ...]
    most: int = 1
    ahead: bool = False

    @property
    def last(self) -> int:
        """The last of these numbers."""
        return self.first + self.most - 1

    def argv(self, again: bool) -> list[Argument]:
        """The claim as ``lib/claiming.lua`` reads it."""
        return [
            self.worker, self.prefix, self.first, self.most, int(self.ahead),
            self.lease, int(again), len(self.queues), *self.queues,
        ]  # fmt: skip


class Lease(t.NamedTuple):
    """The right to run a job: queue, job and execution ids."""

    queue: str
    id: str
    execution: str


def number_of(lease: Lease) -> int:
    """Number of a lease's execution among those of its slot; -1 where it is of no
    slot of ours."""
    number = lease.execution.rpartition(".")[2]
    return int(number) if number.isdecimal() else -1


_NOTHING: t.Mapping[str, Argument] = {}


class Ended(t.NamedTuple):
    """How an execution ended a job. Without a worker nothing more is said of the
    execution.

    :param status: RQ's: ``finished``, ``failed`` or ``stopped``.
    :param worker: Name of the worker.
    :param kind: RQ's type of the result: 1 finished, 2 failed, 3 stopped, 5 a returned
        retry too many.
    :param seconds: How long the function ran.
    :param began: Epoch seconds.
    :param ended: Epoch seconds.
    :param fields: More fields for the job's hash.
    :param entry: More fields for its result stream's entry.
    :param links: Jobs to enqueue with it.
    """

    lease: Lease
    status: str
    worker: str = ""
    kind: Argument = ""
    seconds: str = ""
    began: str = ""
    ended: str = ""
    fields: t.Mapping[str, Argument] = _NOTHING
    entry: t.Mapping[str, Argument] = _NOTHING
    links: t.Sequence[NewJob] = ()

    def argv(self) -> list[Argument]:
        """The end as ``lib/storing.lua`` reads it."""
        queue, job_id, execution = self.lease
        entry, fields, links = self.entry, self.fields, self.links
        out: list[Argument] = [
            job_id, queue, execution, *self[1:7],
            2 * len(entry), *chain.from_iterable(entry.items()),
        ]  # fmt: skip
        if not (fields or links):
            out.append(0)
            return out
        out += [1, *pairs(fields), len(links)]
        for link in links:
            out += link.argv()
        return out


class Claimed(t.NamedTuple):
    """A job this worker may run.

    :param pairs: Fields and values of its hash in turn, undecoded: nothing in it is to
        be trusted.
    """

    lease: Lease
    pairs: t.Sequence[bytes]

    @classmethod
    def of_row(cls, row: t.Sequence[t.Any]) -> Claimed:
        """A job as ``lib/claiming.lua`` answers."""
        job_id, queue, execution, pairs = row
        return cls(Lease(text(queue), text(job_id), execution.decode()), pairs)

    @property
    def fields(self) -> dict[bytes, bytes]:
        """Its hash, read anew each time: in a batch when it is this one's turn."""
        fields = dict(zip(self.pairs[::2], self.pairs[1::2], strict=True))
        # As they are since it was claimed.
        fields[b"status"] = b"started"
        fields[b"origin"] = self.lease.queue.encode()
        fields[b"tq_execution"] = self.lease.execution.encode()
        return fields


@dataclass(frozen=True, slots=True)
class Note:
    """Something a claim met on its way.

    :param kind: ``expired``, ``revoked``, ``quarantined``; ``aftermath``: a killed
        job's hooks are this slot's to call, ``reason`` is the killed execution; or
        ``given up``: slots began with them too often.
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

    jobs: tuple[Claimed, ...] = ()
    again: bool = False
    held_back: bool = False
    notes: tuple[Note, ...] = ()

    @property
    def job(self) -> Claimed | None:
        """The first, which is the only one of a claim for one."""
        return self.jobs[0] if self.jobs else None


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
    :param aftermath: Queues with killed jobs whose hooks somebody may call now.
    """

    recovered: tuple[Recovered, ...] = ()
    next_lapse: float | None = None
    next_due: float | None = None
    ready: tuple[str, ...] = ()
    parked: tuple[str, ...] = ()
    paused: frozenset[str] = frozenset()
    suspended: bool = False
    kept_out: t.Mapping[str, str] = field(default_factory=dict)
    aftermath: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Mixed:
    """A queue with plain rq workers beside ours.

    :param worker: The name of one.
    :param count: How many there are.
    """

    queue: str
    worker: str
    count: int
