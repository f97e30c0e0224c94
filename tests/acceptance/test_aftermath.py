"""Hooks and signals of jobs whose processes are killed, in real workers."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from flask_taskqueue import AsyncResult
from flask_taskqueue.errors import (
    TaskRevokedError,
    TimeLimitExceeded,
    WorkerLostError,
)

from ..processes import AppFolder
from ..servers import eventually
from .live import calling

AFTERMATH = "tq:aftermath:default"


@pytest.fixture
def killed(tmp_path: Path, redis_url: str) -> Iterator[AppFolder]:
    """A folder with ``tests/apps/killed.py`` on the shared server."""
    folder = AppFolder(tmp_path, redis_url, "killed")
    yield folder
    folder.close()


@pytest.fixture
def tasks(killed: AppFolder) -> Iterator[t.Any]:
    with calling(killed) as tasks:
        yield tasks


def told(folder: AppFolder, task: str) -> list[str]:
    """What was noted about a task, the start of its runs excepted."""
    path = folder.folder / "ledger"
    lines = path.read_text().splitlines() if path.exists() else []
    words = [line.partition(" ")[::2] for line in lines]
    return [what for about, what in words if about == task and "runs" not in what]


def wait_told(folder: AppFolder, task: str, *expected: str) -> None:
    eventually(lambda: len(told(folder, task)) >= len(expected), message=f"{task} told")
    assert told(folder, task) == list(expected)


def runs(folder: AppFolder, result: AsyncResult[t.Any]) -> None:
    eventually(lambda: result.state == "STARTED", message="it runs")
    path = folder.folder / "ledger"
    eventually(lambda: path.exists() and "hold runs" in path.read_text())


def failed_by(error: str) -> tuple[str, ...]:
    return (f"on_failure {error} killed", f"FAILURE {error}", "after_return FAILURE 0")


@pytest.mark.parametrize("way", ["limit", "terminate", "child"])
def test_a_killed_job_is_told_by_the_next_child(
    killed: AppFolder, tasks: t.Any, client: redis.Redis, way: str
):
    worker = killed.worker("-c", "1")
    task, error, expected = {
        "limit": ("hold", TimeLimitExceeded, failed_by("TimeLimitExceeded")),
        "terminate": (
            "hold",
            TaskRevokedError,
            ("REVOKED TaskRevokedError", "after_return REVOKED 0"),
        ),
        "child": ("die", WorkerLostError, failed_by("WorkerLostError")),
    }[way]
    limit = 0.3 if way == "limit" else None
    result = getattr(tasks, task).apply_async(time_limit=limit)
    neighbours = [tasks.add.delay(n, n) for n in range(5)]
    if way == "terminate":
        runs(killed, result)
        result.revoke(terminate=True)
    with pytest.raises(error):
        result.get(timeout=20)
    wait_told(killed, task, *expected)
    assert [one.get(timeout=10) for one in neighbours] == [0, 2, 4, 6, 8]
    for one in neighbours:
        assert client.hget(f"rq:job:{one.id}", "tq_recoveries") is None
    eventually(lambda: not client.keys("tq:aftermath*"), message="nothing is left")
    assert worker.stop() == 0
    assert told(killed, task) == list(expected)


def test_an_idle_worker_tells_what_a_lost_one_ran(
    killed: AppFolder, tasks: t.Any, client: redis.Redis
):
    lost = killed.worker("-c", "1")
    result = tasks.hold.delay()
    runs(killed, result)
    killed.worker("-c", "1")
    lost.kill()
    (member,) = client.zrange("rq:wip:default", 0, -1)
    client.zadd("rq:wip:default", {member: 0})  # its lease is over
    with pytest.raises(WorkerLostError, match="its worker is gone"):
        result.get(timeout=20)
    wait_told(killed, "hold", *failed_by("WorkerLostError"))


def test_the_next_worker_tells_what_could_not_be_given_back(
    killed: AppFolder, tasks: t.Any
):
    worker = killed.worker("-c", "1", "--shutdown-timeout", "0")
    result = tasks.hold.delay()
    runs(killed, result)
    worker.stop()
    with pytest.raises(WorkerLostError, match="the worker was stopped"):
        result.get(timeout=10)
    assert told(killed, "hold") == []
    following = killed.worker("-c", "1", "--burst", ready=False)
    assert following.process.wait(30) == 0
    assert told(killed, "hold") == list(failed_by("WorkerLostError"))


def test_a_hook_that_kills_its_process_is_given_up(
    killed: AppFolder, tasks: t.Any, client: redis.Redis
):
    worker = killed.worker("-c", "1")
    result = tasks.poison.delay()
    with pytest.raises(WorkerLostError):
        result.get(timeout=20)
    for times in (1, 2, 3):
        wait_told(killed, "poison", *["on_failure"] * times)
        worker.await_line(f"Child {times + 1} of the worker died")
        (member,) = client.zrange(AFTERMATH, 0, -1)
        client.zadd(AFTERMATH, {member: 0})  # nobody else got it for long enough
    worker.await_line(f"Job {result.id} of queue default given up on its hooks")
    assert tasks.add.delay(1, 1).get(timeout=10) == 2
    assert not client.keys("tq:aftermath*")
    assert worker.stop() == 0
    assert told(killed, "poison") == ["on_failure"] * 3
