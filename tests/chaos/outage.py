"""Workers under load whose server goes away and comes back."""

from __future__ import annotations

import itertools
import time
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..servers import eventually
from .producer import Call, Producer
from .stage import Stage

RATE = 100
"""Jobs a second."""

SIZE = 2
"""Children of each of the two workers."""


class Outage:
    """An outage of the server, under a steady load.

    :param stage: Of its own.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._workers = [stage.worker("-c", str(SIZE)) for _ in range(2)]
        self._pids = {pid for worker in self._workers for pid in worker.children}
        self._producer: Producer | None = None
        self.back_at = 0.0
        self.codes: list[int] = []

    @classmethod
    @contextmanager
    def prepared(cls, path: Path) -> Iterator[Outage]:
        """One with its load, which lasts as long as this context."""
        path.mkdir()
        with Stage(path) as stage:
            outage = cls(stage)
            calls = (Call("work", n, seconds=0.02) for n in itertools.count())
            with stage.producer(calls, RATE) as outage._producer:
                yield outage

    def begin(self) -> None:
        """Stop the server, once every child has work."""
        eventually(lambda: self._began_after(0.0).keys() >= self._pids)
        self._stage.server.stop()

    def end(self) -> None:
        """Start it on the same data."""
        self._stage.server.start()
        self.back_at = time.monotonic()

    def finish(self) -> list[Call]:
        """Wait until each child went on and all is done; what was enqueued."""
        producer = t.cast(Producer, self._producer)
        eventually(lambda: self._began_after(self.back_at).keys() >= self._pids, 20)
        producer.stop()
        self._stage.audit.await_end(20)
        children = {pid for worker in self._workers for pid in worker.children}
        assert children == self._pids
        self.codes = [worker.stop() for worker in self._workers]
        unsure = self._stage.audit.stored(producer.refused)
        there = [call for call in producer.refused if unsure[call.id].status]
        return [*producer.accepted, *there]

    def _began_after(self, moment: float) -> dict[int, float]:
        """When each process began its first job after a moment."""
        runs = [run for run in self._stage.ledger.runs() if run.began > moment]
        return {run.pid: run.began for run in reversed(runs)}

    @property
    def seconds_until_all_went_on(self) -> float:
        """From its end to the first job of the last child."""
        return max(self._began_after(self.back_at).values()) - self.back_at

    def assert_nothing_lost(self, calls: t.Sequence[Call]) -> None:
        """Each job ran once."""
        self._stage.assert_each_once(calls)
        assert {run.job for run in self._stage.ledger.runs()} == {c.id for c in calls}
        assert self._stage.audit.leaks() == []
