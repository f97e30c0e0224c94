"""The server's clock is set while jobs run: leases, which it counts, mean the same."""

from __future__ import annotations

import time
import typing as t
from pathlib import Path

from ..servers import Server, eventually
from .ledger import WORKER_BACK
from .producer import Call
from .stage import Stage

HOUR = 3600.0
DAY = 86_400
"""Seconds by which a lease ends later in RQ's set than it does."""


def await_sweeps(client: t.Any, count: int) -> None:
    """Wait until leases were looked at so many times."""
    for _ in range(count):
        before = client.get("tq:swept")
        eventually(
            lambda before=before: client.get("tq:swept") != before, message="a sweep"
        )


def lease_left(client: t.Any) -> float:
    """Seconds until the only lease ends."""
    ((_, score),) = client.zrange("rq:wip:default", 0, -1, withscores=True)
    seconds, _ = client.time()
    return float(score) - DAY - seconds


def test_a_clock_that_is_set_runs_nothing_twice_and_loses_nothing(
    tmp_path: Path, clock_server: Server, say: t.Callable[[str], None]
):
    with Stage(tmp_path, server=clock_server) as stage:
        held, call = stage.held("default"), Call("hold", 0)
        held.touch()
        stage.make([call])
        holder = stage.worker("-c", "1")
        eventually(stage.ledger.runs)
        heir = stage.worker("-c", "1")
        for ahead in (HOUR, 0.0):
            clock_server.set_clock(ahead)
            await_sweeps(stage.client, 2)
            assert len(stage.ledger.runs()) == 1
        eventually(lambda: lease_left(stage.client) < 11, message="it is renewed")
        killed_at = time.monotonic()
        holder.kill()
        eventually(lambda: len(stage.ledger.runs()) == 2, 3 * WORKER_BACK)
        seconds = stage.ledger.runs()[-1].began - killed_at
        say(f"after the clock was set a killed worker's job ran after {seconds:.1f} s")
        assert seconds < WORKER_BACK
        held.unlink()
        stage.audit.await_end(10)
        assert stage.audit.problems([call]) == []
        assert heir.stop() == 0
