"""What a worker and a finished job take when nothing is to be done."""

from __future__ import annotations

import time

from ..bench import Bench
from ..contenders import CELERY, DRAMATIQ, HUEY, OURS, RQ_SIMPLE, RQ_WORKER
from ..contenders.interface import Contender, How
from ..measuring import Row
from ..processes import family, pss_mib

SETTLING = 3.0
"""Seconds after which nothing is left of what is done at a start."""


def _row(bench: Bench, name: str, title: str, unit: str, detail: str) -> Row:
    conditions = f"{bench.conditions()}, {detail}"
    return Row(name=name, title=title, unit=unit, conditions=conditions, more=False)


def process_memory(bench: Bench) -> list[Row]:
    """The main process and one child, after some jobs."""
    title = "memory of an idle worker, main process and child"
    detail = "PSS after 1,000 jobs"
    row = _row(bench, "process-memory", title, "MiB", detail)
    present = bench.present(row, (OURS, CELERY, HUEY))
    lanes = {name: lambda it=it: _memory(bench, it) for name, it in present.items()}
    return bench.alternate(row, lanes, bench.few)


def _memory(bench: Bench, contender: Contender) -> float:
    bench.clean()
    with contender.opened():
        handles = contender.call_many(range(1000))
        with bench.worker(contender, How()) as worker:
            client = bench.server.client
            worker.until(lambda: contender.stored(client, handles) == len(handles))
            used = sum(pss_mib(pid) for pid in family(worker.pid))
        bench.check(contender, handles)
    return used


def redis_memory(bench: Bench) -> list[Row]:
    """The server's memory for each job that has ended with a small result."""
    title = "memory in Redis of a finished job"
    row = _row(bench, "redis-memory", title, "KB", "1 KB is 1,000 bytes")
    present = bench.present(row, (OURS, RQ_SIMPLE))
    lanes = {name: lambda it=it: _kept(bench, it) for name, it in present.items()}
    return bench.alternate(row, lanes, 1)


def _kept(bench: Bench, contender: Contender) -> float:
    """Between two counts of jobs, so that what the worker itself takes cancels out."""
    bench.clean()
    first, count = 100, 100 + bench.size(5_000)
    client = bench.server.client
    with contender.opened(), bench.worker(contender, How()) as worker:
        handles = contender.call_many(range(first))
        worker.until(lambda: contender.stored(client, handles) == first)
        before = bench.server.used_memory()
        handles += contender.call_many(range(first, count))
        worker.until(lambda: contender.stored(client, handles) == count)
        kept = bench.server.used_memory() - before
        bench.check(contender, handles)
    return kept / (count - first) / 1000


def idle(bench: Bench) -> list[Row]:
    """Commands a second of a worker without work."""
    seconds = max(5.0, 15 * min(bench.scale, 1))
    detail = f"3 queues, {seconds:g} s, commands in scripts count"
    row = _row(bench, "idle", "an idle worker with one process", "commands/s", detail)
    present = bench.present(row, (OURS, CELERY, HUEY, DRAMATIQ, RQ_WORKER))
    lanes = {
        name: lambda it=it: _commands(bench, it, seconds)
        for name, it in present.items()
    }
    return bench.alternate(row, lanes, 1)


def _commands(bench: Bench, contender: Contender, seconds: float) -> float:
    bench.clean()
    client = bench.server.client
    with contender.opened(), bench.worker(contender, How(queues=3)) as worker:
        handles = [contender.call(0)]
        worker.until(lambda: contender.stored(client, handles) == 1)
        time.sleep(SETTLING)
        before = bench.server.commands()
        time.sleep(seconds)
        return (bench.server.commands() - before) / seconds
