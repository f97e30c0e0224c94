"""What a running task says of itself while Redis does not hear it."""

from __future__ import annotations

import logging
import socket
import typing as t

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from flask_taskqueue.broker.wire import Lease
from flask_taskqueue.worker.reporter import JobReporter

from .running import InProcess, claim

LOST = "what it says of itself is lost"


@pytest.fixture
def deaf() -> t.Iterator[socket.socket]:
    """Takes connections, into its backlog, and never answers."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(64)
        deaf.setblocking(False)
        yield deaf


def tried(deaf: socket.socket) -> int:
    """How many connections were made since the last look."""
    count = 0
    while True:
        try:
            deaf.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def test_words_after_a_lost_one_cost_no_further_try(
    redis_url: str, deaf: socket.socket, caplog: pytest.LogCaptureFixture
):
    site = InProcess(__name__, redis_url, redis.Redis())
    port = deaf.getsockname()[1]
    client = redis.Redis(port=port, socket_timeout=0.05, retry=Retry(NoBackoff(), 0))
    troubles: list[BaseException] = []
    with site.app.app_context():
        state = site.tq.state
    lease = Lease("default", "a", "w.1.1")
    reporter = JobReporter(client, state, lease, troubles.append)
    for _ in range(100):
        reporter.report("PROGRESS", b"{}")
    assert tried(deaf) == len(troubles) == 1
    assert [LOST in record.message for record in caplog.records] == [True]
    # It may be the last that the task says.
    reporter.report("ALMOST", b"{}")
    assert tried(deaf) == 1
    assert len(caplog.records) == 1


def test_a_lost_lease_is_told_once(
    client: redis.Redis, redis_url: str, caplog: pytest.LogCaptureFixture
):
    site = InProcess(__name__, redis_url, client)

    @site.tq.task
    def add(x: int, y: int) -> int:
        return x + y

    with site.app.app_context():
        add.delay(1, 2)
        state = site.tq.state
    claimed = claim(client)
    assert claimed is not None
    reporter = JobReporter(client, state, claimed.lease, [].append)
    client.zrem("rq:wip:default", f"{claimed.lease.id}:{claimed.lease.execution}")
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            reporter.report(f"STEP {number}", b"{}")
    assert [record.message for record in caplog.records] == [
        f"Job {claimed.lease.id} lost its lease and still runs"
    ]
