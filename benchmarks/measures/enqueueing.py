"""Jobs a second that one process enqueues."""

from __future__ import annotations

import time
import typing as t

from ..bench import Bench
from ..contenders import CELERY, DRAMATIQ, HUEY, OURS, RQ
from ..contenders.interface import Contender
from ..measuring import Row, timed

BULK = 10_000
"""Jobs of one bulk call, however small the run is."""


def one_by_one(bench: Bench) -> list[Row]:
    """One call for each job."""
    row = Row(
        name="enqueue",
        title="enqueue, one by one",
        unit="jobs/s",
        conditions=bench.conditions(),
    )
    present = bench.present(row, (OURS, HUEY, CELERY, DRAMATIQ, RQ))
    lanes = {name: lambda it=it: _calls(bench, it) for name, it in present.items()}
    with bench.server.placed(bench.placement):
        return bench.alternate(row, lanes)


def _calls(bench: Bench, contender: Contender) -> float:
    bench.clean()
    count, warming = bench.size(5_000), 20
    handles: list[t.Any] = []
    with contender.opened():
        for number in range(warming):
            handles.append(contender.call(number))
        found = timed(lambda n: handles.append(contender.call(n)), warming, count)
    assert contender.waiting(bench.server.client) == len(handles)
    return found


def bulk(bench: Bench) -> list[Row]:
    """``delay_many`` beside ``enqueue_many``."""
    row = Row(
        name="enqueue-many",
        title=f"enqueue, {BULK:,} in a call",
        unit="jobs/s",
        conditions=bench.conditions(),
    )
    present = bench.present(row, (OURS, RQ))
    lanes = {name: lambda it=it: _bulk(bench, it) for name, it in present.items()}
    with bench.server.placed(bench.placement):
        return bench.alternate(row, lanes)


def _bulk(bench: Bench, contender: Contender) -> float:
    bench.clean()
    with contender.opened():
        contender.call(0)
        began = time.perf_counter()
        contender.call_many(range(BULK))
        took = time.perf_counter() - began
    assert contender.waiting(bench.server.client) == 1 + BULK
    return BULK / took
