"""What is measured: one module for each kind, and the list of all."""

from __future__ import annotations

import functools
from collections.abc import Callable

from ..bench import Bench
from ..measuring import Row
from . import (
    backlog,
    beat,
    beat_memory,
    due,
    endpoint,
    enqueueing,
    footprint,
    imports,
    latency,
    recovery,
    streams,
    working,
)  # fmt: skip

Measure = Callable[[Bench], list[Row]]

USUAL: dict[str, Measure] = {
    "enqueue": enqueueing.one_by_one,
    "enqueue-many": enqueueing.bulk,
    **{
        case.name: functools.partial(working.measure, case=case)
        for case in working.CASES
    },
    "round-trip": latency.round_trip,
    "waking": latency.waking,
    "due": due.measure,
    "backlog": backlog.measure,
    "process-memory": footprint.process_memory,
    "redis-memory": footprint.redis_memory,
    "idle": footprint.idle,
    "import": imports.measure,
    "endpoint": endpoint.measure,
    "given-back": recovery.given_back,
    "child-death": recovery.child_death,
    "group-death": recovery.group_death,
}
"""In the order they are run."""

BY_NAME: dict[str, Measure] = {
    "streams": streams.measure,
    "beat-late": beat.lateness,
    "beat-burst": beat.burst,
    "beat-idle": beat.idle,
    "beat-memory": beat_memory.measure,
}
"""Run only when asked for: they have no peers, or take long."""
