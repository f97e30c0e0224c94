"""Milliseconds: from a call to its result, and from an end to who waits for it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime

from ..bench import Bench
from ..contenders import CELERY, HUEY, OURS, our_app
from ..contenders.interface import Contender, How
from ..measuring import Row, quantile

WARMING = 20
"""Round trips before those that count."""


def pair(bench: Bench, name: str, title: str, detail: str) -> list[Row]:
    """Two rows, of the median and of the 99th percentile."""
    return [
        Row(
            name=f"{name}-{part}",
            title=f"{title}, {part}",
            unit="ms",
            conditions=f"{bench.conditions()}, {detail}",
            more=False,
        )
        for part in ("p50", "p99")
    ]


def both(seconds: Sequence[float]) -> tuple[float, float]:
    """Values for :func:`pair`."""
    return quantile(seconds, 0.5) * 1000, quantile(seconds, 0.99) * 1000


def round_trip(bench: Bench) -> list[Row]:
    """From ``delay`` to what ``get`` returns, one after the other."""
    detail = "3 queues (Huey: 1, asked every ms)"
    rows = pair(bench, "round-trip", "round trip to an idle worker", detail)
    present = bench.present(rows[0], (OURS, CELERY, HUEY))
    lanes = {name: lambda it=it: _trips(bench, it) for name, it in present.items()}
    with bench.server.placed(bench.placement):
        return bench.alternate(rows, lanes)


def _trips(bench: Bench, contender: Contender) -> tuple[float, float]:
    bench.clean()
    count = WARMING + bench.size(500)
    took = []
    with contender.opened(), bench.worker(contender, How(queues=3)):
        for number in range(count):
            began = time.perf_counter()
            found = contender.wait(contender.call(number))
            took.append(time.perf_counter() - began)
            assert found == number + 1, f"add({number}, 1) gave {found!r}"
    assert bench.ledger.ran_once(0, count), "a job ran twice"
    return both(took[WARMING:])


def waking(bench: Bench) -> list[Row]:
    """From the end of a job to ``get``'s return."""
    rows = pair(bench, "waking", "from a job's end to get's return", "20 ms jobs")
    with bench.server.placed(bench.placement):
        return bench.alternate(rows, {OURS: lambda: _wakings(bench)})


def _wakings(bench: Bench) -> tuple[float, float]:
    ours = our_app()

    bench.clean()
    contender = ours.Ours()
    late = []
    with contender.opened(), bench.worker(contender, How()):
        for number in range(bench.size(100)):
            handle = ours.mark.delay(number, 0.02)
            assert handle.get(timeout=10) == number
            returned = time.time()
            # By the server's clock, which is this host's.
            ended = bench.server.client.hget(f"rq:job:{handle.id}", "ended_at")
            late.append(returned - datetime.fromisoformat(ended.decode()).timestamp())
    return both(late)
