"""A rolling deploy under load: it costs no job, no attempt and no second run."""

from __future__ import annotations

import itertools
import typing as t

import pytest

from .producer import Call
from .stage import LONG, Stage

RESTARTS = 20 if LONG else 4
RATE = 200
"""Jobs a second."""


@pytest.mark.timeout(30 + 10 * RESTARTS)
def test_rolling_restarts_under_load_cost_nothing(
    stage: Stage, say: t.Callable[[str], None]
):
    workers = [stage.worker("-c", "2") for _ in range(2)]
    calls = (Call("work", n, seconds=0.003) for n in itertools.count())
    codes = []
    with stage.producer(calls, RATE) as producer:
        for _ in range(RESTARTS):
            codes.append(workers.pop(0).stop())
            workers.append(stage.worker("-c", "2"))
    stage.audit.await_end(10)
    codes += [worker.stop() for worker in workers]
    rate = len(producer.accepted) / producer.seconds
    say(f"{RESTARTS} restarts, {len(producer.accepted)} jobs at {rate:.0f}/s")
    assert producer.refused == []
    stage.assert_each_once(producer.accepted)
    assert set(codes) == {0}
    assert stage.audit.leaks() == []
