"""Jobs that are due later: on time, in order, once, whoever looks after them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import typing as t
from collections import Counter
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rq import Queue
from rq.serializers import JSONSerializer
from rq.utils import str_to_date

from ..processes import AppFolder
from ..servers import Server, eventually
from .live import Ledger, calling

SCHEDULED, QUEUE, WIP = "rq:scheduled:default", "rq:queue:default", "rq:wip:default"
LOCK = "rq:scheduler-lock:default"
OURS = b"flask-taskqueue"
LATE = 6.0
"""Seconds until all that is due is queued: three times what is promised."""

YEAR = 31_536_000

LATER = """
from flask import Flask
from flask_taskqueue import TaskQueue

tq = TaskQueue()


def create_app(**config):
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config.update(config)
    tq.init_app(app)
    return app


def note(path, what):
    with open(path, "a") as ledger:
        ledger.write(f"start {what} 0 0\\n")


@tq.task
def once(path, number):
    note(path, number)


@tq.task(bind=True, max_retries=1)
def again(self, path, number, countdown):
    note(path, number + self.request.retries)
    if not self.request.retries:
        raise self.retry(countdown=countdown)
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Of a ledger."""
    return str(tmp_path / "ledger")


def starts(path: str) -> Counter[int]:
    """How often each job was started."""
    return Ledger(Path(path)).read().starts()


def once_each(count: int) -> Counter[int]:
    return Counter(range(count))


def enqueue(module: t.Any, path: str, count: int) -> list[str]:
    """Jobs that are due in ten minutes; their ids."""
    calls = [(path, number) for number in range(count)]
    return [result.id for result in module.ledger.delay_many(calls, countdown=600)]


def spread(client: t.Any, ids: list[str], over: float) -> dict[str, float]:
    """Make jobs due soon, over so many seconds; their due times, in that order."""
    random.Random(len(ids)).shuffle(ids)
    first, step = time.time() + 0.5, over / len(ids)
    due = {job_id: first + step * number for number, job_id in enumerate(ids)}
    client.zadd(SCHEDULED, due)
    client.publish("tq:wake", "default")
    return due


def waiting(client: t.Any) -> list[str]:
    return [job_id.decode() for job_id in client.lrange(QUEUE, 0, -1)]


def earliness(client: t.Any, due: dict[str, float]) -> float:
    """How many seconds before its time the earliest was moved; 0 if none was."""
    pipeline = client.pipeline(transaction=False)
    for job_id in due:
        pipeline.hget(f"rq:job:{job_id}", "enqueued_at")
    moved = [str_to_date(value).timestamp() for value in pipeline.execute()]
    return max(0.0, *(d - m for d, m in zip(due.values(), moved, strict=True)))


def is_done(client: t.Any) -> bool:
    """Nothing is left that could run."""
    return client.exists(SCHEDULED, QUEUE, WIP, "tq:ready:default") == 0


def test_ten_thousand_due_at_once_are_queued_in_order_once_each(
    jobs: AppFolder, client: t.Any, path: str
):
    # Three promoters and nobody who takes a job.
    client.set("rq:suspended", 1)
    workers = [jobs.worker("-c", "1", ready=False) for _ in range(3)]
    with calling(jobs) as module:
        ids = enqueue(module, path, 10_000)
        for worker in workers:
            worker.await_line(" ready.")
        due = spread(client, ids, over=0.01)
        eventually(lambda: client.llen(QUEUE) >= len(due), 10 * LATE)
        assert time.time() - max(due.values()) < LATE
    assert waiting(client) == list(due)
    assert earliness(client, due) < 1e-5


def test_promoters_killed_at_random_lose_and_double_nothing(
    jobs: AppFolder, client: t.Any, path: str
):
    client.set("rq:suspended", 1)
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")  # noqa: T201
    chance = random.Random(seed)
    workers = [jobs.worker("-c", "1", ready=False) for _ in range(2)]
    with calling(jobs) as module:
        ids = enqueue(module, path, 6000)
        for worker in workers:
            worker.await_line(" ready.")
        due = spread(client, ids, over=3.0)
        for _ in range(5):
            moment = time.time() + chance.uniform(0.2, 0.8)
            eventually(lambda until=moment: time.time() >= until)
            workers.pop(chance.randrange(2)).kill()
            workers.append(jobs.worker("-c", "1", ready=False))
        eventually(lambda: client.llen(QUEUE) >= len(due), 10 * LATE)
    assert not client.exists(SCHEDULED)
    assert waiting(client) == list(due)
    assert earliness(client, due) < 1e-5


SCHEDULER = """
import pathlib, sys, time
from redis import Redis
from rq import scheduler

class Job(scheduler.Job):
    @classmethod
    def fetch_many(cls, ids, *args, **kwargs):
        jobs = super().fetch_many(ids, *args, **kwargs)
        print("has read", len(ids), flush=True)
        while not pathlib.Path("gate").exists():
            time.sleep(0.01)
        return jobs

scheduler.Job = Job
one = scheduler.RQScheduler(["default"], Redis.from_url(sys.argv[1]))
one.acquire_locks()
scheduler.run(one)
"""
"""RQ's scheduler without a worker. Its passes stand still until a file exists."""

PLAIN = """
import os

def note(path, number):
    with open(path, "a") as ledger:
        ledger.write(f"start {number} {os.getpid()} 0\\n")
"""


@contextmanager
def plain_rq(folder: AppFolder, kind: str) -> t.Iterator[t.Callable[[], str]]:
    """RQ's ``worker`` with its scheduler, or the ``scheduler`` alone; its output."""
    url = folder.env["FLASK_TASKQUEUE_URL"]
    rq = str(Path(sys.executable).with_name("rq"))
    worker = [rq, "worker", "--url", url, "--serializer", "json", "--with-scheduler"]
    command = {
        "worker": [*worker, "default"],
        "scheduler": [sys.executable, "-c", SCHEDULER, url],
    }[kind]
    log = folder.folder / "rq.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=folder.folder,
            env=folder.env,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        yield log.read_text
    finally:
        # The worker's scheduler is a process of its own.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def enqueue_plain(client: t.Any, path: str, count: int, seconds: int) -> None:
    """Jobs of plain rq, due over some seconds from the next full one."""
    queue = Queue("default", connection=client, serializer=JSONSerializer)
    first = datetime.now(UTC) + timedelta(seconds=1)
    for number in range(count):
        due = first + timedelta(seconds=number * seconds / count)
        queue.enqueue_at(due, "plain.note", path, number)


def test_rqs_scheduler_that_was_there_before_is_kept_out(
    tmp_path: Path, redis_url: str, client: t.Any, path: str
):
    (tmp_path / "plain.py").write_text(PLAIN)
    jobs = AppFolder(tmp_path, redis_url, FLASK_TASKQUEUE_IMPORTABLE="plain.#")
    try:
        with plain_rq(jobs, "worker") as output:
            eventually(lambda: client.keys("rq:scheduler:*"), message="it registers")
            enqueue_plain(client, path, 400, seconds=3)
            worker = jobs.worker("-c", "1")
            worker.await_line("RQ's own scheduler (")
            eventually(lambda: client.get(LOCK) == OURS, message="it lets go")
            # What RQ's worker has taken is nowhere for a moment.
            eventually(lambda: is_done(client) and starts(path).total() >= 400, 30)
        assert "taken over by another scheduler" in output()
        assert starts(path) == once_each(400)
    finally:
        jobs.close()


def test_jobs_that_rqs_scheduler_has_read_run_once(
    jobs: AppFolder, client: t.Any, path: str
):
    """A worker that starts in the middle of its pass waits for what comes of it."""
    count = 1500
    with plain_rq(jobs, "scheduler") as output, calling(jobs) as module:
        eventually(lambda: client.exists(LOCK), message="it has the lock")
        spread(client, enqueue(module, path, count), over=0.1)
        eventually(lambda: "has read" in output(), message="it is in a pass")
        jobs.worker("-c", "1").await_line("RQ's own scheduler (")
        client.delete("tq:swept")
        eventually(lambda: client.exists("tq:swept"), message="the worker's next look")
        assert client.zcard(SCHEDULED) == count
        (jobs.folder / "gate").touch()
        eventually(lambda: client.get(LOCK) == OURS, message="it lets go")
        eventually(lambda: is_done(client), 30)
    assert starts(path) == once_each(count)


def test_rqs_scheduler_that_comes_later_gets_nothing(
    tmp_path: Path, redis_url: str, client: t.Any, path: str
):
    (tmp_path / "plain.py").write_text(PLAIN)
    jobs = AppFolder(tmp_path, redis_url, FLASK_TASKQUEUE_IMPORTABLE="plain.#")
    try:
        worker = jobs.worker("-c", "1")
        assert client.get(LOCK) == OURS
        with plain_rq(jobs, "worker") as output:
            eventually(lambda: "Listening on default" in output(), message="it runs")
            enqueue_plain(client, path, 200, seconds=2)
            began = time.time()
            # What RQ's worker has taken is nowhere for a moment.
            eventually(lambda: is_done(client) and starts(path).total() >= 200, 30)
            assert time.time() - began < 1 + 2 + LATE
        assert client.get(LOCK) == OURS
        assert "Acquired scheduler lock" not in output()
        assert "RQ's own scheduler" not in worker.output
        assert starts(path) == once_each(200)
    finally:
        jobs.close()


@contextmanager
def on_clock(
    server: Server, folder: Path, source: str | None = None
) -> t.Iterator[tuple[AppFolder, t.Any, t.Any]]:
    """A folder with a worker on a server whose clock is moved, its module, a client."""
    jobs = AppFolder(folder, server.url, source=source)
    try:
        with calling(jobs) as module, server.client() as client:
            jobs.worker("-c", "1")
            yield jobs, module, client
            module.tq.state.broker.close()
    finally:
        jobs.close()


def has_swept(server: Server, client: t.Any, ahead: float) -> None:
    """Set the clock and wait until the worker has looked at what is due by then."""
    server.set_clock(ahead)

    def swept() -> bool:
        return abs(float(client.get("tq:swept") or 0) - time.time() - ahead) < 3

    # A sweep of before the change is not one of now.
    client.delete("tq:swept")
    eventually(swept, message="a sweep by the new clock")


def test_what_is_due_in_a_year_runs_once_then(
    clock_server: Server, tmp_path: Path, path: str
):
    with on_clock(clock_server, tmp_path, LATER) as (_, module, client):
        in_a_year = datetime.now(UTC) + timedelta(seconds=YEAR)
        module.again.delay(path, 0, YEAR)
        module.once.apply_async((path, 2), countdown=YEAR)
        module.once.apply_async((path, 3), eta=in_a_year)
        queue = Queue("default", connection=client, serializer=JSONSerializer)
        queue.enqueue_at(in_a_year, "jobs.once", path, 4)
        eventually(lambda: client.zcard(SCHEDULED) == 4, message="a retry waits, too")
        assert starts(path) == {0: 1}
        has_swept(clock_server, client, YEAR - 60)
        assert client.zcard(SCHEDULED) == 4
        has_swept(clock_server, client, YEAR + 5)
        eventually(lambda: is_done(client))
        clock_server.set_clock(2 * YEAR)
        module.once.apply_async((path, 5), countdown=1)
        eventually(lambda: is_done(client))
    assert starts(path) == once_each(6)


def test_a_clock_set_back_while_jobs_become_due_repeats_none(
    clock_server: Server, tmp_path: Path, path: str
):
    with on_clock(clock_server, tmp_path) as (_, module, client):
        count = 1000
        spread(client, enqueue(module, path, count), over=1.0)
        eventually(lambda: client.zcard(SCHEDULED) < count, message="the first moved")
        has_swept(clock_server, client, -30)
        left = client.zcard(SCHEDULED)
        assert 0 < left < count
        has_swept(clock_server, client, 5)
        eventually(lambda: is_done(client), 30)
    assert starts(path) == once_each(count)
