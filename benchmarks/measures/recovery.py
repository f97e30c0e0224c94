"""How soon a job runs elsewhere when something is in its way."""

from __future__ import annotations

import functools
import os
import signal
import time
import typing as t

from ..bench import Bench
from ..contenders import OURS, our_app
from ..contenders.interface import How
from ..measuring import Row
from ..processes import Worker, family

A_TIME = 1e9
"""What the task ``doomed`` notes is a pid below this, a time above."""

NEIGHBOURS = 400
"""Short jobs before and behind a long one."""

LONG = 0.3
"""Seconds of the long one."""


def _row(bench: Bench, name: str, title: str, unit: str) -> Row:
    conditions = f"{bench.conditions()}, worst of each round"
    return Row(name=name, title=title, unit=unit, conditions=conditions, more=False)


def given_back(bench: Bench) -> list[Row]:
    """From the start of a long job to the starts of those behind it, elsewhere."""
    title = "jobs behind a long one start at another worker"
    row = _row(bench, "given-back", title, "ms")
    with bench.server.placed(bench.placement):
        return bench.alternate(row, {OURS: lambda: _behind(bench)})


def _behind(bench: Bench) -> float:
    ours = our_app()
    bench.clean()
    contender, ledger = ours.Ours(), bench.ledger
    worst, wave = 0.0, 2 * NEIGHBOURS + 1
    with (
        contender.opened(),
        bench.worker(contender, How()) as one,
        bench.worker(contender, How()) as other,
    ):
        ready(bench, one, other)
        for first in range(0, 10 * wave, wave):
            long = first + NEIGHBOURS
            numbers = range(first, first + wave)
            calls = [(n, LONG * (n == long)) for n in numbers]
            handles = ours.mark.delay_many(calls)
            one.until(functools.partial(_all_ran, bench, numbers))
            # While it sleeps one of the two would be missing from the next wave.
            handles[NEIGHBOURS].get(timeout=10)
            behind = (ledger.noted(n) for n in range(long + 1, long + 33))
            worst = max(worst, max(behind) - ledger.noted(long))
    assert ledger.ran_once(0, 10 * wave), "a job ran twice"
    return worst * 1000


def _all_ran(bench: Bench, numbers: range) -> bool:
    return bench.ledger.ran(numbers.start, len(numbers)) == len(numbers)


def ready(bench: Bench, *workers: Worker) -> None:
    """Wait until that many workers say that they are there."""
    known = bench.server.client.scard
    workers[0].until(lambda: known("rq:workers") == len(workers))


def child_death(bench: Bench) -> list[Row]:
    """From SIGKILL to the only child to the job's next start in a new one."""
    row = _row(bench, "child-death", "a killed child's job runs again", "ms")
    with bench.server.placed(bench.placement):
        return bench.alternate(row, {OURS: lambda: _killed_children(bench)})


def _killed_children(bench: Bench) -> float:
    ours = our_app()
    bench.clean()
    contender = ours.Ours()
    took = []
    with contender.opened(), bench.worker(contender, How()) as worker:
        for number in range(10):
            handle = ours.doomed.delay(number)
            pid = running(bench, worker, number)
            killed = time.time()
            os.kill(pid, signal.SIGKILL)
            took.append(again(bench, worker, number) - killed)
            assert handle.get(timeout=10) == number
    return max(took) * 1000


def running(bench: Bench, worker: Worker, number: int) -> int:
    """Wait until ``doomed`` runs; the pid of its process."""
    return int(worker.until(lambda: bench.ledger.noted(number), 0.001))


def again(bench: Bench, worker: Worker, number: int) -> float:
    """Wait until ``doomed`` runs again; when that began."""
    ledger = bench.ledger
    worker.until(lambda: ledger.noted(number) > A_TIME)
    assert ledger.runs[number] == 2, f"it ran {ledger.runs[number]} times"
    return ledger.noted(number)


def group_death(bench: Bench) -> list[Row]:
    """From SIGKILL to a worker's process group to the job's start at another."""
    row = _row(bench, "group-death", "a killed worker's job runs elsewhere", "s")
    with bench.server.placed(bench.placement):
        return bench.alternate(row, {OURS: lambda: _killed_group(bench)}, bench.few)


def _killed_group(bench: Bench) -> float:
    ours = our_app()
    bench.clean()
    contender: t.Any = ours.Ours()
    with (
        contender.opened(),
        bench.worker(contender, How()) as one,
        bench.worker(contender, How()) as other,
    ):
        ready(bench, one, other)
        handle = ours.doomed.delay(0)
        pid = running(bench, one, 0)
        victim, heir = (one, other) if pid in family(one.pid) else (other, one)
        killed = time.time()
        victim.kill()
        took = again(bench, heir, 0) - killed
        assert handle.get(timeout=10) == 0
    return took
