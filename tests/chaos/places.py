"""Jobs and the places they are in: what the model of the scripts keeps in memory.

Only what is told apart from outside is here: where each job is, what counts it has,
and in which order a queue's entries lie. Times are ranks: of two, the later is larger.
"""

from __future__ import annotations

import itertools
import typing as t
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from flask_taskqueue.broker.wire import Lease

QUEUE, SCHEDULED, WIP, PARKED = "queue", "scheduled", "wip", "deferred"
FINISHED, FAILED, CANCELED, NOWHERE = "finished", "failed", "canceled", "nowhere"
REGISTRIES = (FINISHED, FAILED, CANCELED)
STATUS = {QUEUE: "queued", SCHEDULED: "scheduled", WIP: "started", PARKED: "deferred"}

RESULT_TTL, FAILURE_TTL = 10_000, 20_000
PURGED_TTL, FORGOTTEN_TTL = 600, 60


@dataclass(slots=True)
class Known:
    """One job whose hash exists.

    :param queue: Where it belongs.
    :param plain: A plain ``rq`` producer's.
    :param execution: Its last one.
    :param begun: Its function is known to have been called by that one.
    :param mark: What a revoke left on it while it ran.
    :param had_ended: It ended and was requeued: its counts go when it starts.
    :param entries: Fewest and most entries that its result stream may have: that of a
        purged job goes within seconds.
    """

    id: str
    queue: str
    place: str
    status: str
    nonce: str
    front: bool = False
    plain: bool = False
    fails_when_lost: bool = False
    cap: int = 3
    execution: str = ""
    begun: bool = False
    retries: int = 0
    recoveries: int = 0
    mark: str = ""
    had_ended: bool = False
    expired: bool = False
    forgotten: bool = False
    ttl: int = 0
    entries: tuple[int, int] = (0, 0)


@dataclass(slots=True)
class Places:
    """All that the scripts know.

    :ivar lists: Entries of ``ready`` and ``queue`` by queue; stale ones, too.
    :ivar wip: Leases by when they end.
    :ivar lapsed: Those that have ended.
    :ivar due: Jobs whose time came, in order.
    :ivar hooks_left: Jobs that ended while nobody could call their hooks.
    :ivar over: Ids in registries whose jobs are gone, by registry and queue.
    """

    jobs: dict[str, Known] = field(default_factory=dict)
    lists: dict[tuple[str, str], list[str]] = field(
        default_factory=lambda: defaultdict(list)
    )
    wip: dict[Lease, int] = field(default_factory=dict)
    lapsed: dict[Lease, int] = field(default_factory=dict)
    due: list[str] = field(default_factory=list)
    hooks_left: set[Lease] = field(default_factory=set)
    over: dict[tuple[str, str], list[str]] = field(
        default_factory=lambda: defaultdict(list)
    )
    queues: set[str] = field(default_factory=set)
    paused: set[str] = field(default_factory=set)
    suspended: bool = False
    _source: list[str] = field(default_factory=list)
    _ranks: t.Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def at(self, *places: str) -> list[Known]:
        """Jobs in some places."""
        return [job for job in self.jobs.values() if job.place in places]

    def leases(self, *, queue: str = "", prefix: str = "") -> list[Lease]:
        """Leases in the order in which they end."""
        ends = self.lapsed | self.wip
        found = [
            lease
            for lease in ends
            if queue in ("", lease.queue) and lease.execution.startswith(prefix)
        ]
        first = {lease: lease in self.wip for lease in found}
        return sorted(found, key=lambda x: (first[x], ends[x], f"{x.id}:{x.execution}"))

    def enqueue(
        self, job_id: str, queue: str, nonce: str, *, later: bool, **about: t.Any
    ) -> int:
        known = self.jobs.get(job_id)
        if known is not None and known.nonce == nonce:
            return 2
        if not self._make_room(job_id):
            return 0
        place = SCHEDULED if later else QUEUE
        job = Known(job_id, queue, place, STATUS[place], nonce, **about)
        self.jobs[job_id] = job
        self.queues.add(queue)
        if not later:
            self._push(job)
        return 1

    def _make_room(self, job_id: str) -> bool:
        job = self.jobs.get(job_id)
        if job is None:
            return True
        if not self._has_ended(job):
            return False
        self._leave_registries(job)
        del self.jobs[job_id]
        return True

    def _has_ended(self, job: Known) -> bool:
        return job.place in (*REGISTRIES, NOWHERE)

    def _leave_registries(self, job: Known) -> None:
        for registry in REGISTRIES:
            over = self.over[registry, job.queue]
            while job.id in over:
                over.remove(job.id)

    def _push(self, job: Known, *, front: bool | None = None, to: str = QUEUE) -> None:
        entries = self.lists[to, job.queue]
        if job.front if front is None else front:
            entries.insert(0, job.id)
        else:
            entries.append(job.id)

    def _end(self, job: Known, registry: str, status: str = "") -> None:
        self._end_all([(job, registry, status)])

    def _end_all(self, ends: Sequence[tuple[Known, str, str]]) -> None:
        for end in ends:
            self._write_end(*end)
        for job, registry, _ in ends:
            # Each takes two out that are over.
            del self.over[registry, job.queue][:2]

    def _write_end(self, job: Known, registry: str, status: str) -> None:
        job.place, job.status = registry, status or registry
        job.had_ended = True
        job.ttl = FAILURE_TTL if registry == FAILED else RESULT_TTL
        if job.forgotten:
            job.ttl = FORGOTTEN_TTL
        job.entries = job.entries[0] + 1, job.entries[1] + 1
        over = self.over[registry, job.queue]
        if job.id in over:
            over.remove(job.id)

    def _wait(self, job: Known, *, front: bool | None = None, to: str = QUEUE) -> None:
        job.place, job.status = QUEUE, STATUS[QUEUE]
        self._push(job, front=front, to=to)

    def holds(self, lease: Lease) -> bool:
        """Whether this execution may still end its job."""
        return lease in self.wip or lease in self.lapsed

    def _take(self, lease: Lease) -> Known | None:
        held = self.holds(lease)
        self.wip.pop(lease, None)
        self.lapsed.pop(lease, None)
        return self.jobs[lease.id] if held else None

    def outlive(self, job: Known) -> None:
        """The lifetime of a job that ended is over."""
        if job.place != NOWHERE:
            self.over[job.place, job.queue].append(job.id)
        del self.jobs[job.id]
