"""What jobs noted outside Redis, and what of it the blows to their processes excuse."""

from __future__ import annotations

import math
import time
import typing as t
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from flask_taskqueue.worker.asking import LEASE

CHILD_BACK = 2.0
"""Seconds within which the job of a dead child is promised to run again."""

WORKER_BACK = LEASE + 2.5
"""Seconds within which the jobs of a worker that was lost run on another one: 15 are
promised."""

SLACK = 1.0
"""Seconds between the end of a run and its outcome in Redis, with much to spare."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a job, as its process noted it.

    :param group: Process group: the pid of its supervisor.
    :param began: By the host's monotonic clock, as are all instants here.
    :param ended: Infinite where it did not.
    """

    job: str
    retries: int
    pid: int
    group: int
    began: float
    ended: float = math.inf


class Ledger:
    """The file that ``tests/apps/chaotic.py`` writes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def runs(self) -> list[Run]:
        """In the order they began."""
        open_: dict[tuple[str, int], dict[str, t.Any]] = {}
        rows: list[dict[str, t.Any]] = []
        text = self.path.read_text() if self.path.exists() else ""
        for line in text.splitlines():
            what, job, retries, pid, group, at = line.split()
            if what == "end":
                open_.pop((job, int(pid)))["ended"] = float(at)
                continue
            row = {"job": job, "retries": int(retries), "pid": int(pid)}
            rows.append(row | {"group": int(group), "began": float(at)})
            open_[job, int(pid)] = rows[-1]
        return [Run(**row) for row in rows]

    def running(self) -> list[Run]:
        """Those that have not ended, of processes that may be dead by now."""
        return [run for run in self.runs() if run.ended == math.inf]

    def of(self, job: str) -> list[Run]:
        """Runs of one job."""
        return [run for run in self.runs() if run.job == job]


@dataclass(slots=True)
class Blow:
    """A SIGKILL, or a SIGSTOP, that some processes of a worker got.

    :param group: Of the processes.
    :param most: Jobs whose outcome it may cost.
    :param promise: Seconds within which their jobs run elsewhere.
    :param pid: Of the one that got it; ``None`` is the supervisor, or all of them.
    :param until: When they were continued.
    """

    what: str
    group: int
    most: int
    promise: float
    pid: int | None = None
    at: float = field(default_factory=time.monotonic)
    until: float = 0.0

    def hits(self, run: Run) -> bool:
        """Whether the outcome of a run may have been lost by it."""
        return (
            run.group == self.group
            and self.pid in (None, run.pid)
            and run.ended >= self.at - SLACK
            and run.began <= max(self.at, self.until) + SLACK
        )


@dataclass(frozen=True, slots=True)
class Trouble:
    """A time in which Redis answered nobody."""

    at: float
    until: float

    def within(self, begin: float, end: float) -> float:
        """Seconds of it in a span of time."""
        return max(0.0, min(end, self.until) - max(begin, self.at))


@dataclass(frozen=True, slots=True)
class Recovery:
    """A job that ran again because of a blow.

    :param seconds: From the blow to its next start, trouble not counted.
    """

    job: str
    blow: Blow
    seconds: float


class History:
    """What ran, and what excuses that something ran twice."""

    def __init__(
        self,
        runs: Iterable[Run],
        blows: Sequence[Blow] = (),
        troubles: Sequence[Trouble] = (),
    ) -> None:
        self.blows = blows
        self._troubles = troubles
        self._attempts: dict[tuple[str, int], list[Run]] = defaultdict(list)
        for run in runs:
            self._attempts[run.job, run.retries].append(run)

    @property
    def jobs(self) -> set[str]:
        """Ids of what ran."""
        return {job for job, _ in self._attempts}

    @property
    def extra(self) -> int:
        """How many runs were more than one of an attempt."""
        return sum(len(runs) - 1 for runs in self._attempts.values())

    @property
    def excused(self) -> int:
        """How many there may have been."""
        return sum(blow.most for blow in self.blows)

    def problems(self) -> list[str]:
        """Runs that nothing excuses, and those that came too late."""
        found = [
            f"{job} ran {len(runs)} times, hit once at most: {runs}"
            for (job, _), runs in self._attempts.items()
            if len([run for run in runs if not self._blows_to(run)]) > 1
        ]
        if self.extra > self.excused:
            found.append(f"{self.extra} extra runs, {self.excused} excused")
        return found + [
            f"{one.job} ran {one.seconds:.2f} s after {one.blow}"
            for one in self.recoveries()
            if one.seconds > one.blow.promise
        ]

    def recoveries(self) -> list[Recovery]:
        """How long each job that was lost took to run again."""
        return [
            Recovery(run.job, blow, self._seconds(blow.at, following.began))
            for runs in self._attempts.values()
            for run, following in pairwise(runs)
            for blow in self._blows_to(run, following.began)[-1:]
        ]

    def _blows_to(self, run: Run, before: float = math.inf) -> list[Blow]:
        return [blow for blow in self.blows if blow.hits(run) and blow.at < before]

    def _seconds(self, begin: float, end: float) -> float:
        lost = sum(trouble.within(begin, end) for trouble in self._troubles)
        return end - begin - lost

    def slowest(self) -> dict[str, float]:
        """The longest recovery for each kind of blow."""
        found: dict[str, float] = {}
        for one in self.recoveries():
            what = one.blow.what
            found[what] = max(found.get(what, 0.0), one.seconds)
        return found
