"""Webhooks and repeats of plain ``rq`` jobs in a real worker."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import redis
from rq import Queue, Repeat
from rq.serializers import JSONSerializer

from ..processes import AppFolder
from ..servers import eventually
from ..test_webhooks import Endpoint


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    yield endpoint
    endpoint.close()


@pytest.fixture
def folder(tmp_path: Path, redis_url: str) -> Iterator[AppFolder]:
    folder = AppFolder(
        tmp_path, redis_url, "rqjobs", FLASK_TASKQUEUE_IMPORTABLE="rqjobs.#"
    )
    yield folder
    folder.close()


@pytest.fixture
def queue(client: redis.Redis) -> Queue:
    return Queue(connection=client, serializer=JSONSerializer)


def is_gone(request: BaseHTTPRequestHandler) -> bool:
    """Whether who asked has closed the connection, within a moment."""
    request.connection.settimeout(0.1)
    try:
        return request.connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def drip(request: BaseHTTPRequestHandler) -> None:
    """Answer a little at a time: no wait on the socket is long, all together are."""
    request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
    while not is_gone(request):
        request.wfile.write(b"x")


def test_nobody_waits_behind_a_webhook_and_it_is_given_up(
    folder: AppFolder, queue: Queue, endpoint: Endpoint, client: redis.Redis
):
    waits = []

    def look(request: BaseHTTPRequestHandler) -> None:
        second = queue.enqueue("rqjobs.double", 2)
        waits.append(second)
        with suppress(ConnectionError):
            drip(request)
        waits.append(second.get_status(refresh=True).value)

    endpoint.look = look
    worker = folder.worker("-c", "1")
    job = queue.enqueue(
        "rqjobs.double", 1, webhooks=[endpoint.hook("finished", timeout=1)]
    )
    eventually(lambda: waits, message="the webhook is sent")
    assert job.get_status(refresh=True).value == "finished"
    assert client.zcard("rq:wip:default") == 0
    second = t.cast(t.Any, waits[0])
    eventually(lambda: second.get_status(refresh=True).value == "finished")
    eventually(lambda: len(waits) == 2)
    assert f"for job {job.id}" in worker.output
    assert "Failed to send webhook" in worker.output
    assert worker.stop() == 0


def test_a_job_repeats(folder: AppFolder, queue: Queue, tmp_path: Path):
    ledger = tmp_path / "ran"
    folder.worker("-c", "2")
    job = queue.enqueue(
        "rqjobs.succeed_with", str(ledger), 5, repeat=Repeat(2, interval=[1, 0])
    )
    eventually(lambda: len(job.results()) == 3, message="it ran three times")
    assert ledger.read_text() == "run\n" * 3
    job.refresh()
    assert (job.get_status().value, job.repeats_left) == ("finished", 0)
    third, second, _ = job.results()
    # RQ counts the intervals from the end.
    assert (third.execution_ended_at - second.execution_ended_at).total_seconds() >= 1
