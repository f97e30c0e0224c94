"""How late a beat fires, many entries too, and what it costs when idle."""

from __future__ import annotations

import contextlib
import json
import sys
import time
import typing as t
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from ..bench import Bench
from ..contenders import OURS, our_app
from ..contenders.interface import How
from ..measuring import Row
from ..processes import Worker
from .footprint import SETTLING
from .latency import both, pair

ENTRIES, SECONDS = 10, 30
"""Entries of a second each, and for how long they are watched."""

DUE_AT_ONCE, TIMES = 1_000, 6
"""Entries due in the same second, and how often."""


@contextlib.contextmanager
def running(
    bench: Bench, count: int, schedule: float | str, **environment: str
) -> Iterator[Worker]:
    """A beat whose app declares so many entries."""
    entries = {
        name: {
            "task": "benchmarks.tasks.add",
            "schedule": schedule,
            "args": [number, 1],
        }
        for number, name in enumerate(names(count))
    }
    declared = {"FLASK_TASKQUEUE_BEAT_SCHEDULE": json.dumps(entries)}
    command = [sys.executable, "-m", "flask", "--app", our_app().__name__, "beat"]
    environment |= declared
    with bench.process(*command, "-l", "warning", **environment) as beat:
        yield beat


def names(count: int) -> list[str]:
    """Of the entries."""
    return [f"entry{number}" for number in range(count)]


def _histories(count: int) -> list[list[t.Any]]:
    """The last 100 firings of each entry, oldest first."""
    from flask_taskqueue.beat import listing

    ours = our_app()
    with ours.Ours().opened():
        state = ours.tq.state
        return [listing.firings(state, name, 100)[::-1] for name in names(count)]


def lateness(bench: Bench) -> list[Row]:
    """From the due time to the job, and to its start."""
    detail = f"{ENTRIES} entries, each due every second, for {SECONDS} s"
    rows = [
        *pair(bench, "beat-enqueued", "enqueued after the due time", detail),
        *pair(bench, "beat-started", "started after the due time", detail),
    ]
    return bench.alternate(rows, {OURS: lambda: _lateness(bench)}, 1)


def _lateness(bench: Bench) -> tuple[float, ...]:
    bench.clean()
    client = bench.server.client
    with (
        bench.worker(our_app().Ours(), How()) as worker,
        running(bench, ENTRIES, 1.0),
    ):
        worker.until(lambda: client.zcard("rq:finished:default") >= 2 * ENTRIES, 0.1)
        time.sleep(SECONDS)
    rows = [each[-SECONDS:] for each in _histories(ENTRIES)]
    for each in rows:
        steps = {b.due - a.due for a, b in zip(each, each[1:], strict=False)}
        assert steps == {timedelta(seconds=1)}, f"a due time is missing: {steps}"
    flat = [row for each in rows for row in each]
    enqueued = _late(bench, flat, "enqueued_at")
    return *both(enqueued), *both(_late(bench, flat, "started_at"))


def _late(bench: Bench, rows: Sequence[t.Any], field: str) -> list[float]:
    """Seconds from the due time of each to what a field of its job says."""
    pipeline = bench.server.client.pipeline(transaction=False)
    for row in rows:
        pipeline.hget(f"rq:job:{row.job_id}", field)
    late = [
        (datetime.fromisoformat(at.decode()) - row.due).total_seconds()
        for row, at in zip(rows, pipeline.execute(), strict=True)
    ]
    assert min(late) >= 0, f"a job was early by {-min(late):.6f} s, by {field}"
    return late


def burst(bench: Bench) -> list[Row]:
    """Many due in the same second: until the last is fired."""
    row = Row(
        name="beat-burst",
        title=f"{DUE_AT_ONCE:,} entries due at once, until all are fired",
        unit="s",
        conditions=bench.conditions(),
        more=False,
    )
    bench.clean()
    client, wanted = bench.server.client, DUE_AT_ONCE * TIMES
    with running(bench, DUE_AT_ONCE, "*/10 * * * * *") as beat:
        beat.until(lambda: client.llen("rq:queue:default") >= wanted, 0.1)
    fired: dict[datetime, list[datetime]] = {}
    for each in _histories(DUE_AT_ONCE):
        for firing in each:
            fired.setdefault(firing.due, []).append(firing.at)
    # At the first time some may not have been written yet.
    full = {due: at for due, at in fired.items() if len(at) == DUE_AT_ONCE}
    assert len(full) >= TIMES - 1
    row.values[OURS] = [(max(at) - due).total_seconds() for due, at in full.items()]
    return [row]


def idle(bench: Bench) -> list[Row]:
    """Commands a second of one beat, and of one more that stands by."""
    row = Row(
        name="beat-idle",
        title="an idle beat",
        unit="commands/s",
        conditions=f"{bench.conditions()}, {SECONDS} s, commands in scripts count",
        more=False,
    )
    bench.clean()
    with running(bench, ENTRIES, 3600):
        one = _commands(bench)
        with running(bench, ENTRIES, 3600):
            two = _commands(bench)
    row.values = {OURS: [one], f"{OURS}, stands by": [two - one]}
    return [row]


def _commands(bench: Bench) -> float:
    # Looking for other schedulers is among what is done at a start only.
    time.sleep(SETTLING + 5)
    before = bench.server.commands()
    time.sleep(SECONDS)
    return (bench.server.commands() - before) / SECONDS
