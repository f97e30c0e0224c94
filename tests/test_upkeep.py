"""What a supervisor's round finds, and says of it."""

from __future__ import annotations

import socket
import time

import pytest
import redis
from rq import Queue, Worker

from flask_taskqueue.worker.board import Board
from flask_taskqueue.worker.line import Place
from flask_taskqueue.worker.pools import Seat
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


def test_jobs_of_a_slot_that_ended_are_counted(client: redis.Redis, redis_url: str):
    site = InProcess(__name__, redis_url, client)
    with site.app.app_context():
        upkeep = Upkeep(site.tq.state, client, "w", ("default",))
    board = Board()
    link, other = socket.socketpair()
    with link, other:
        place = Place(worker="w", label="1", queues=(), board=board, channel=other)
        seat = Seat(place, link)
        upkeep.renew([seat])
        board.count(True, 0.5)
        assert upkeep.has_news([seat])
        board.count(False, 0.25)
        seat.close()
        for _ in range(2):
            upkeep.renew([])
    record = client.hgetall("rq:worker:w")
    assert record[b"successful_job_count"] == b"1"
    assert record[b"failed_job_count"] == b"1"
    assert not upkeep.has_news([])
