"""Workers, a beat and a producer under load, and when each goes on after trouble."""

from __future__ import annotations

import itertools
import time
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager

from ..processes import Worker
from ..servers import eventually
from .books import Books, declaring
from .producer import Call, Producer
from .stage import LONG, Stage

SPARE = 1 if LONG else 3
"""How many times as long as promised all may take: other tests may be running."""

WITHIN = 5.0 * SPARE
"""Seconds within which workers and beats are promised to go on."""

TOLD_WITHIN = 2.0 * SPARE
"""Seconds within which a call is promised to return, or to raise."""

RATE, BATCH = 200, 20
"""Jobs a second, so many at a time: every other time they take nothing, and children
claim ahead."""

ENTRY = "tick"
SCHEDULE = {ENTRY: {"task": "chaotic.work", "schedule": 0.2, "args": [0]}}
TICKS = "ticks"
"""The queue of what the beat enqueues, which nobody serves."""


class WentOn(t.NamedTuple):
    """Seconds until each did."""

    children: float
    beat: float
    producer: float

    def __str__(self) -> str:
        return (
            f"the last child went on after {self.children:.2f} s, the beat after"
            f" {self.beat:.2f} s, the producer after {self.producer:.2f} s"
        )


class Load:
    """What a stage's processes do while its server is in trouble.

    :param stage: Its workers and its beat are started here.
    :param workers: How many, of two children each.
    """

    def __init__(self, stage: Stage, workers: int = 1) -> None:
        self.stage = stage
        entry = SCHEDULE[ENTRY] | {"options": {"queue": TICKS}}
        stage.folder.env |= declaring(**{ENTRY: entry})
        self.workers = [stage.worker("-c", "2") for _ in range(workers)]
        self.beat: Worker = stage.folder.beat()
        self._pids = self._children()
        self._numbers = itertools.count()
        self._books = Books(stage.client, "chaotic")
        self._said: list[int] = []

    @property
    def _processes(self) -> list[Worker]:
        return [*self.workers, self.beat]

    def _children(self) -> set[int]:
        return {pid for worker in self.workers for pid in worker.children}

    @contextmanager
    def running(self) -> Iterator[Producer]:
        """Under a steady load, once each child has had work and the beat has fired."""
        began = time.monotonic()
        self._said = [len(process.output) for process in self._processes]
        calls = (Call("work", n, seconds=n // BATCH % 2 * 0.005) for n in self._numbers)
        with self.stage.producer(calls, RATE, BATCH) as producer:
            eventually(lambda: self._began_after(began).keys() >= self._pids, 15)
            eventually(lambda: self._books.rows(ENTRY))
            yield producer

    def _began_after(self, moment: float) -> dict[int, float]:
        """When each process began its first job after a moment."""
        runs = [run for run in self.stage.ledger.runs() if run.began > moment]
        return {run.pid: run.began for run in reversed(runs)}

    def measure(self, producer: Producer, over: float) -> WentOn:
        """Wait until all have gone on.

        :param over: When the trouble was, by the monotonic clock.
        """
        accepted = len(producer.accepted)
        eventually(lambda: len(producer.accepted) > accepted, 20)
        enqueued = time.monotonic()
        eventually(lambda: self._began_after(over).keys() >= self._pids, 20)
        fired = eventually(lambda: self._fired_after(over), 20)
        children = max(self._began_after(over).values())
        return WentOn(children - over, fired - over, enqueued - over)

    def _fired_after(self, moment: float) -> float | None:
        """When the beat fired first after a moment, by the monotonic clock."""
        ahead = time.time() - time.monotonic()
        fired = (row.at / 1_000_000 - ahead for row in self._books.rows(ENTRY))
        return next((at for at in fired if at > moment), None)

    def end(self, producer: Producer) -> list[Call]:
        """Until all is done; what was enqueued."""
        producer.stop()
        self.stage.audit.await_end(20)
        unsure = self.stage.audit.stored(producer.refused)
        there = [call for call in producer.refused if unsure[call.id].status]
        return [*producer.accepted, *there]

    def assert_unharmed(self) -> None:
        """Since the load began no process has ended, and none was surprised."""
        assert self._children() == self._pids
        for process, said in zip(self._processes, self._said, strict=True):
            output = process.output[said:]
            assert process.process.poll() is None, output
            assert "Traceback" not in output, output
