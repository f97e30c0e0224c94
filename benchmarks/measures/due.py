"""How late jobs with a due time start, when there are many."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ..bench import Bench
from ..contenders import OURS, our_app
from ..contenders.interface import How
from ..measuring import Row
from .latency import both, pair

SPREAD = 10.0
"""Seconds over which they are due."""


def measure(bench: Bench) -> list[Row]:
    """Late by how much; early is an error."""
    count = bench.size(10_000)
    detail = f"{count:,} due over {SPREAD:g} s"
    rows = pair(bench, "due", "start after the due time", detail)
    with bench.server.placed(bench.placement):
        return bench.alternate(rows, {OURS: lambda: _late(bench, count)}, bench.few)


def _late(bench: Bench, count: int) -> tuple[float, float]:
    ours = our_app()
    bench.clean()
    contender = ours.Ours()
    with contender.opened(), bench.worker(contender, How()) as worker:
        # Whole milliseconds, as they are kept; and time to enqueue them all.
        first = datetime.now(UTC).replace(microsecond=0)
        first += timedelta(seconds=2 + count / 2000)
        dues = [
            first + timedelta(milliseconds=int(1000 * SPREAD * n / count))
            for n in range(count)
        ]
        for number, due in enumerate(dues):
            ours.mark.apply_async((number,), eta=due)
        assert datetime.now(UTC) < first, "enqueueing took too long"
        worker.until(lambda: bench.ledger.ran(0, count) == count, 0.05)
    assert bench.ledger.ran_once(0, count), "a job ran twice"
    late = [bench.ledger.noted(n) - due.timestamp() for n, due in enumerate(dues)]
    assert min(late) >= 0, f"a job started {-min(late):.6f} s early"
    return both(late)
