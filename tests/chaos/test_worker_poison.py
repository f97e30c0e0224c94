"""Jobs that kill the process that runs them take nobody with them."""

from __future__ import annotations

import json

from .producer import Call
from .stage import Stage

NEIGHBOURS = 200

POISONS = 5
"""More than one: some of them are claimed together with neighbours, not all."""

CAP = 3
"""Recoveries of a job, by default."""


def test_poison_jobs_end_at_their_cap_and_their_neighbours_never_notice(stage: Stage):
    neighbours = [Call("work", n) for n in range(NEIGHBOURS)]
    poisons = [Call("poison", n) for n in range(POISONS)]
    calls = list(neighbours)
    for poison in poisons:
        calls.insert((poison.number + 1) * NEIGHBOURS // (POISONS + 1), poison)
    stage.make(calls)
    worker = stage.worker("-c", "2", ready=False)
    stage.audit.await_end(30)
    stage.assert_each_once(neighbours)
    assert stage.audit.problems(poisons) == []
    for poison in poisons:
        assert len(stage.ledger.of(poison.id)) == 1 + CAP
        assert stage.audit.stored([poison])[poison.id].recoveries == 1 + CAP
        error = json.loads(stage.client.hget(f"rq:job:{poison.id}", "tq_error"))
        assert error["type"] == "WorkerLostError"
        assert "signal 9 (SIGKILL)" in error["message"]
    assert worker.stop() == 0
