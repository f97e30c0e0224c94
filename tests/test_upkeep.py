"""What a supervisor's round finds, and says of it."""

from __future__ import annotations

import time

import pytest
import redis

from flask_taskqueue.worker.upkeep import Upkeep

from .running import InProcess, claim


def test_a_job_that_failed_with_its_worker_is_an_error_in_the_log(
    client: redis.Redis, redis_url: str, caplog: pytest.LogCaptureFixture
):
    site = InProcess(__name__, redis_url, client)

    @site.tq.task(name="pay", on_worker_lost="fail")
    def pay() -> None: ...

    with site.app.app_context():
        result = pay.delay()
        state = site.tq.state
    upkeep = Upkeep(state, client, "w", ("default",))
    claimed = claim(client)
    assert claimed is not None
    upkeep.sweep()
    member = f"{result.id}:{claimed.lease.execution}"
    client.zadd("rq:wip:default", {member: time.time() + 86_400 - 1})
    upkeep.sweep()
    (record,) = caplog.records
    assert (record.levelname, record.message) == (
        "ERROR",
        f"Task pay[{result.id}] failed: WorkerLostError("
        "'worker lost while the job ran: its worker is gone')",
    )
    assert (record.job_id, record.task, record.queue) == (result.id, "pay", "default")
