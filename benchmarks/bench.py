"""What measures work with: the server, the ledger, workers, and rounds."""

from __future__ import annotations

import contextlib
import gc
import time
import typing as t
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import contenders
from .contenders.interface import Contender, How
from .ledger import Ledger
from .measuring import Row
from .processes import Refused, Worker
from .serving import PLACEMENTS, Server

WARNING = "WARNING"


@dataclass(kw_only=True)
class Bench:
    """One run of the benchmarks.

    :param folder: For logs and other files, removed afterwards.
    :param rounds: Of each measure; contenders take turns within one.
    :param scale: Factor for the number of jobs.
    :param placement: A key of :data:`benchmarks.serving.PLACEMENTS`.
    """

    folder: Path
    server: Server
    ledger: Ledger
    rounds: int
    scale: float
    placement: str
    _started: int = 0

    def size(self, full: int) -> int:
        """A number of jobs, scaled; 20 at least."""
        return max(20, int(full * self.scale))

    @property
    def few(self) -> int:
        """Rounds of what takes long for each, however few the jobs."""
        return max(1, self.rounds // 2)

    def clean(self) -> None:
        """Begin anew: an empty server, no run counted, no garbage left."""
        self.server.client.flushall()
        self.ledger.reset()
        gc.collect()

    def conditions(
        self,
        log: str = WARNING,
        *,
        append_only: bool = False,
        placement: str | None = None,
    ) -> str:
        """The words for a row."""
        kept = "on" if append_only else "off"
        where = PLACEMENTS[placement or self.placement]
        return f"{where}, log level {log}, append-only file {kept}"

    def alternate(
        self,
        rows: Row | Sequence[Row],
        lanes: Mapping[str, Callable[[], float | Sequence[float]]],
        rounds: int | None = None,
    ) -> list[Row]:
        """Run all lanes in turn, several times.

        :param rows: What a lane measures, in the order it returns it.
        :param lanes: A contender's name -> a round of it. One whose worker refuses
            is noted and left out.
        :param rounds: Fewer than usual.
        :return: The rows, filled.
        """
        rows = [rows] if isinstance(rows, Row) else list(rows)
        able = dict(lanes)
        for _ in range(min(rounds or self.rounds, self.rounds)):
            for name in list(able):
                try:
                    found = able[name]()
                except Refused as refusal:
                    del able[name]
                    rows[0].notes.append(f"{name} skipped: {refusal}")
                    continue
                numbers = [found] if isinstance(found, float) else found
                for row, number in zip(rows, numbers, strict=True):
                    row.values.setdefault(name, []).append(number)
        return rows

    def present(self, row: Row, names: Sequence[str]) -> dict[str, Contender]:
        """Those of the contenders that are installed; the others are noted."""
        found = {}
        for name in names:
            why = contenders.missing(name)
            if why:
                row.notes.append(f"{name} skipped: {why}")
            else:
                found[name] = contenders.load(name)
        return found

    @contextlib.contextmanager
    def worker(
        self, contender: Contender, how: How, **environment: str
    ) -> Iterator[Worker]:
        """A worker, killed afterwards."""
        variables = {**contender.environment, **environment}
        with self.process(*contender.command(how), **variables) as worker:
            yield worker

    @contextlib.contextmanager
    def process(self, *command: str, **environment: str) -> Iterator[Worker]:
        """Any process, killed afterwards."""
        self._started += 1
        log = self.folder / f"{self._started}.log"
        with Worker(command, log, environment) as worker:
            yield worker

    def pace(
        self, worker: Worker, first: int, count: int, stored: Callable[[], bool]
    ) -> float:
        """Jobs a second, from the first seen run to the last result stored.

        Nothing is asked of the server before all have run.

        :param first: Number of the first job.
        :param stored: Whether the results of all are stored.
        """
        ran = self.ledger.ran
        seen = worker.until(lambda: ran(first, count), 0.001)
        began = time.perf_counter()
        worker.until(lambda: ran(first, count) == count, 0.002)
        worker.until(stored, 0.001)
        return (count - seen) / (time.perf_counter() - began)

    def check(
        self, contender: Contender, handles: Sequence[t.Any], first: int = 0
    ) -> None:
        """Each job ran once, and each result is right.

        :param handles: Of ``add(first, 1)`` and on.
        """
        assert self.ledger.ran_once(first, len(handles)), "a job ran twice"
        for number, handle in enumerate(handles, first):
            found = contender.value(handle)
            assert found == number + 1, f"add({number}, 1) gave {found!r}"
