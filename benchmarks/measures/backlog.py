"""A queue in which a million jobs wait, beside an empty one."""

from __future__ import annotations

import itertools
import typing as t

from ..bench import Bench
from ..contenders import OURS, our_app
from ..contenders.interface import How
from ..measuring import Row, timed
from ..serving import Server

BEHIND = f"{OURS}, behind many"
"""Where the jobs wait."""

CHUNK = 10_000
"""Jobs of one call while the queue is filled."""

APART = 1_500_000
"""Number of the first job of the server that is empty otherwise."""


class Backlog:
    """One server where jobs wait, and one that holds only those of a lane.

    :param waiting: Jobs on the first.
    """

    def __init__(self, bench: Bench, full: Server, waiting: int) -> None:
        self.bench = bench
        self.full = full
        self.app: t.Any = our_app()
        self.contender: t.Any = self.app.Ours()
        self._enqueued = 0
        self._apart = itertools.count(APART, bench.size(CHUNK))
        with self._at(full):
            while self._enqueued < waiting:
                many = min(CHUNK, waiting - self._enqueued)
                self.contender.call_many(self._numbers(many))

    def _at(self, server: Server) -> t.Any:
        return self.contender.opened(TASKQUEUE_URL=server.url)

    def _numbers(self, count: int) -> range:
        self._enqueued += count
        return range(self._enqueued - count, self._enqueued)

    def enqueue_behind(self) -> float:
        """Calls a second where the jobs wait."""
        numbers = self._numbers(self.bench.size(5_000))
        with self._at(self.full):
            return timed(self.contender.call, numbers.start, len(numbers))

    def enqueue_alone(self) -> float:
        """Calls a second where nothing waits."""
        server = self.bench.server
        server.client.flushall()
        with self._at(server):
            return timed(self.contender.call, APART, self.bench.size(5_000))

    def work_behind(self) -> float:
        """Jobs a second of a worker where more wait than it does."""
        ledger, count = self.bench.ledger, self.bench.size(CHUNK)
        first = ledger.ran(0, self._enqueued)
        url = {"FLASK_TASKQUEUE_URL": self.full.url}
        with self.bench.worker(self.contender, How(), **url) as worker:
            pace = self.bench.pace(worker, first, count, lambda: True)
            worker.stop()
        return pace

    def work_alone(self) -> float:
        """Jobs a second of a worker that ends with an empty queue."""
        server, count = self.bench.server, self.bench.size(CHUNK)
        first = next(self._apart)
        server.client.flushall()
        with self._at(server):
            handles = self.contender.call_many(range(first, first + count))
            with self.bench.worker(self.contender, How()) as worker:
                pace = self.bench.pace(worker, first, count, lambda: True)
                worker.stop()
            self.bench.check(self.contender, handles, first)
        return pace

    def check(self) -> None:
        """What has run has run once, and the rest still waits."""
        ran = self.bench.ledger.ran(0, self._enqueued)
        assert self.bench.ledger.ran_once(0, ran), "a job ran twice, or out of order"
        assert self.contender.stored(self.full.client, ()) == ran
        assert self.contender.waiting(self.full.client) == self._enqueued - ran


def measure(bench: Bench) -> list[Row]:
    """Rates of enqueueing and of a worker, there and here in turn."""
    waiting = bench.size(1_000_000)
    with Server(bench.folder / "full", tcp=bench.server.tcp) as full:
        bench.clean()
        backlog = Backlog(bench, full, waiting)
        enqueue = {BEHIND: backlog.enqueue_behind, OURS: backlog.enqueue_alone}
        work = {BEHIND: backlog.work_behind, OURS: backlog.work_alone}
        rows = [
            *bench.alternate(_row(bench, "enqueue", waiting), enqueue),
            *bench.alternate(_row(bench, "worker", waiting), work),
        ]
        backlog.check()
    return rows


def _row(bench: Bench, what: str, waiting: int) -> Row:
    return Row(
        name=f"backlog-{what}",
        title=f"{what} where {waiting:,} jobs wait, and where none does",
        unit="jobs/s",
        conditions=bench.conditions(),
    )
