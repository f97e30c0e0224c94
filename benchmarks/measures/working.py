"""Jobs a second of a worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..bench import Bench
from ..contenders import (
    CELERY,
    DRAMATIQ,
    HUEY,
    ONE,
    OURS,
    RQ_SIMPLE,
    RQ_WORKER,
    THREADS,
)  # fmt: skip
from ..contenders.interface import Contender, How
from ..measuring import Row


@dataclass(frozen=True, kw_only=True)
class Case:
    """Who works how, and where."""

    name: str
    title: str
    who: Sequence[str]
    how: How = How()
    placement: str | None = None
    append_only: bool = False


PEERS = (OURS, ONE, HUEY, CELERY, DRAMATIQ, RQ_SIMPLE, RQ_WORKER)
CASES = (
    Case(name="worker", title="worker, 1 process", who=PEERS),
    Case(
        name="worker-one-cpu",
        title="worker, 1 process, all on one CPU",
        who=(OURS, ONE, HUEY),
        placement="one",
    ),
    Case(
        name="worker-info",
        title="worker, 1 process, a log line per job",
        who=(OURS, ONE, HUEY),
        how=How(log="info"),
    ),
    Case(
        name="worker-append-only",
        title="worker, 1 process, append-only file on",
        who=(OURS, ONE, HUEY),
        append_only=True,
    ),
    Case(
        name="worker-two",
        title="worker, 2 processes",
        who=(OURS, HUEY, CELERY),
        how=How(slots=2),
    ),
    Case(
        name="worker-threads",
        title="worker, 8 threads in a process",
        who=(THREADS, DRAMATIQ),
        how=How(slots=8),
    ),
)


def measure(bench: Bench, case: Case) -> list[Row]:
    """One case, all its contenders in turn."""
    row = Row(
        name=case.name,
        title=case.title,
        unit="jobs/s",
        conditions=bench.conditions(
            case.how.log.upper(),
            append_only=case.append_only,
            placement=case.placement,
        ),
    )
    lanes = {
        name: lambda it=it: rate(bench, it, case.how)
        for name, it in bench.present(row, case.who).items()
    }
    server = bench.server
    with (
        server.placed(case.placement or bench.placement),
        server.append_only(case.append_only),
    ):
        return bench.alternate(row, lanes)


def rate(bench: Bench, contender: Contender, how: How) -> float:
    """Enqueue, let a worker do it, check."""
    bench.clean()
    count = bench.size(contender.jobs * how.slots)
    with contender.opened():
        handles = contender.call_many(range(count))
        with bench.worker(contender, how) as worker:
            stored = contender.stored
            pace = bench.pace(
                worker, 0, count, lambda: stored(bench.server.client, handles) == count
            )
        bench.check(contender, handles)
    return pace
