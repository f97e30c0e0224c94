"""What a supervisor's round finds, and says of it."""

from __future__ import annotations

import time

import pytest
import redis
from rq import Queue, Worker

from flask_taskqueue.worker.upkeep import SWEEP_BESIDE, Upkeep

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


def test_plain_rq_processes_are_warned_of_once_in_ten_minutes(
    client: redis.Redis, redis_url: str, caplog: pytest.LogCaptureFixture
):
    site = InProcess(__name__, redis_url, client)
    with site.app.app_context():
        state = site.tq.state
    queue = Queue("mail", connection=client)
    queue.enqueue("plain.f")
    Worker([queue], connection=client, name="plain").register_birth()
    client.set("rq:scheduler-lock:mail", "theirs")
    upkeep = Upkeep(state, client, "w", ("default", "mail"))
    upkeep.renew([])
    for _ in range(2):
        upkeep.clock.prune = 0.0
        upkeep.sweep()
        client.delete("tq:pruned")
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    worker, scheduler = (record.message for record in caplog.records)
    assert worker.startswith("1 plain rq worker(s), plain among them, take jobs from")
    assert " queue mail. " in worker
    assert scheduler.startswith(
        "RQ's own scheduler (theirs) had queue mail. It is kept"
    )


def test_a_sweep_comes_sooner_while_rqs_scheduler_has_a_queue(
    client: redis.Redis, redis_url: str
):
    site = InProcess(__name__, redis_url, client)
    with site.app.app_context():
        state = site.tq.state
    upkeep = Upkeep(state, client, "w", ("default",))
    client.set("rq:scheduler-lock:default", "theirs")
    upkeep.sweep()
    assert upkeep.clock.sweep - time.monotonic() <= SWEEP_BESIDE
    client.delete("rq:scheduler-lock:default")
    upkeep.sweep()
    assert upkeep.clock.sweep - time.monotonic() > SWEEP_BESIDE
