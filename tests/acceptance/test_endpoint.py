"""The endpoint behind real servers, with real workers."""

from __future__ import annotations

import json
import types
import typing as t
from pathlib import Path

import pytest
import redis

from ..processes import AppFolder
from ..servers import eventually
from .live import calling
from .serving import Served, gunicorn

SERVERS = {
    "sync": gunicorn(),
    "gthread": gunicorn("-k", "gthread", "--threads", "4"),
    "gevent": gunicorn("-k", "gevent"),
    "flask": ("-m", "flask", "--app", "jobs", "run", "--port", "{port}"),
}


@pytest.fixture
def tasks(jobs: AppFolder) -> t.Iterator[types.ModuleType]:
    """The tasks of ``tests/apps/jobs.py``, to be called from here."""
    with calling(jobs) as tasks:
        yield tasks


def channels(client: redis.Redis) -> list[int]:
    """Number of channels of each connection that listens to jobs."""
    return [
        int(row["sub"]) for row in client.client_list() if row["cmd"] == "subscribe"
    ]


@pytest.mark.parametrize("kind", ["gthread", "gevent"])
def test_100_streams_and_waits_share_one_connection(
    jobs: AppFolder, tasks: t.Any, client: redis.Redis, kind: str
):
    command = (
        (*SERVERS[kind], "--threads", "110") if kind == "gthread" else SERVERS[kind]
    )
    with Served(jobs, command, FLASK_TASKQUEUE_MAX_STREAMS="100") as web:
        results = [tasks.add.delay(number, 1) for number in range(100)]
        before = {row["id"] for row in client.client_list()}
        streams = [web.ask(f"/tasks/{result.id}/events") for result in results[:50]]
        waits = [web.ask(f"/tasks/{result.id}?wait=20") for result in results[50:]]
        eventually(lambda: channels(client) == [100], 20)
        for stream in streams:
            assert "PENDING" in stream.event() + stream.event()
        # One that listens; one that reads, which plain answers need as well.
        assert len({row["id"] for row in client.client_list()} - before) == 2
        assert web.ask(f"/tasks/{results[0].id}/events").head.status == 503
        jobs.worker("-c", "2")
        ends = [stream.rest().rpartition("data: ")[2] for stream in streams]
        ends += [wait.rest() for wait in waits]
        assert [json.loads(end)["result"] for end in ends] == list(range(1, 101))
        # Their places are free again.
        assert web.ask(f"/tasks/{results[0].id}/events").head.status == 200


def test_a_full_quota_of_streams_leaves_plain_pages_answering(jobs, tasks, client):
    command = gunicorn("-k", "gthread", "--threads", "6")
    with Served(jobs, command, FLASK_TASKQUEUE_MAX_STREAMS="4") as web:
        path = f"/tasks/{tasks.add.delay(1, 2).id}"
        streams = [web.ask(f"{path}/events") for _ in range(4)]
        for stream in streams:
            assert "PENDING" in stream.event() + stream.event()
        for _ in range(5):
            assert json.loads(web.ask(path).rest())["state"] == "PENDING"
        refused = web.ask(f"{path}/events").head
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        # It does not wait: it would take the last thread.
        assert json.loads(web.ask(f"{path}?wait=20").rest())["state"] == "PENDING"
        # Who hangs up gives its place back when there is something to tell.
        for stream in streams:
            stream.close()
        jobs.worker("-c", "1")
        eventually(lambda: web.ask(f"{path}/events").head.status == 200)


@pytest.mark.parametrize("kind", SERVERS)
def test_a_server_passes_events_on_as_they_come(
    jobs: AppFolder, tasks: t.Any, tmp_path: Path, kind: str
):
    gate = tmp_path / "gate"
    result = tasks.hold.delay(str(gate))
    with Served(jobs, SERVERS[kind]) as web:
        stream = web.ask(f"/tasks/{result.id}/events")
        assert "retry: 1000" in stream.event()
        assert "PENDING" in stream.event()
        jobs.worker("-c", "1")
        assert "STARTED" in stream.event()
        eventually(gate.exists)
        gate.unlink()
        assert "SUCCESS" in stream.event()
        assert (
            json.loads(stream.event().rpartition("data: ")[2])["result"] == "released"
        )
        assert stream.rest() == ""


@pytest.mark.parametrize("kind", SERVERS)
def test_a_server_waits(
    jobs: AppFolder, tasks: t.Any, client: redis.Redis, tmp_path: Path, kind: str
):
    gate = tmp_path / "gate"
    result = tasks.hold.delay(str(gate))
    with Served(jobs, SERVERS[kind]) as web:
        answer = web.ask(f"/tasks/{result.id}?wait=20")
        eventually(lambda: channels(client) == [1])
        jobs.worker("-c", "1")
        eventually(gate.exists)
        gate.unlink()
        assert (answer.head.status, answer.head.reason) == (200, "OK")
        assert json.loads(answer.rest())["result"] == "released"
        tag = answer.head.headers["ETag"]
        again = web.ask(f"/tasks/{result.id}?wait=20", **{"If-None-Match": tag})
        assert (again.head.status, again.rest()) == (304, "")
