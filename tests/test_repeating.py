"""Jobs of plain ``rq`` that repeat: our worker and RQ's leave the same behind."""

from __future__ import annotations

import time
import typing as t
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from rq import Queue, Repeat, Retry
from rq.job import Job
from rq.registry import (
    FailedJobRegistry,
    FinishedJobRegistry,
    ScheduledJobRegistry,
    StartedJobRegistry,
)
from rq.serializers import JSONSerializer

from flask_taskqueue import AsyncResult
from flask_taskqueue.broker import scripts
from flask_taskqueue.job import StoredJob
from flask_taskqueue.testing import drain
from flask_taskqueue.worker import outcome
from flask_taskqueue.worker.execution import Executor
from flask_taskqueue.worker.limits import NoTimer
from flask_taskqueue.worker.reporter import JobReporter

from . import plain_workers
from .running import WORKER, InProcess, claim, run

Client = redis.Redis
REGISTRIES = (
    FinishedJobRegistry, FailedJobRegistry, ScheduledJobRegistry, StartedJobRegistry,
)  # fmt: skip


def count(path: str) -> int:
    """A plain function: how often it has run."""
    with open(path, "a") as ledger:
        ledger.write("run\n")
    return len(Path(path).read_text().splitlines())


def fail_first(path: str) -> int:
    if count(path) == 1:
        raise ValueError("the first run")
    return 0


@pytest.fixture
def site(redis_url: str, client: Client) -> InProcess:
    return InProcess(
        __name__, redis_url, client, TASKQUEUE_IMPORTABLE=[f"{__name__}.*"]
    )


@pytest.fixture
def queue(site: InProcess) -> Queue:
    return Queue(connection=site.client, serializer=JSONSerializer)


def rqs_once(site: InProcess) -> None:
    plain_workers.run_one(site.client)


def ours_once(site: InProcess) -> None:
    claimed = claim(site.client)
    assert claimed is not None
    with site.app.app_context():
        run(site.tq.state, site.client, claimed)


def seen(queue: Queue, job: Job, began: float) -> dict[str, t.Any]:
    """What RQ's API shows of a job."""
    job.refresh()
    client = queue.connection
    due = client.zscore("rq:scheduled:default", job.id)
    result_key = f"rq:results:{job.id}"
    return {
        "status": job.get_status().value,
        "position": job.get_position(),
        "repeats_left": job.repeats_left,
        "results": [result.type.name for result in job.results()],
        "values": [result.return_value for result in job.results()],
        "registries": [
            registry.__name__
            for registry in REGISTRIES
            if any(i.startswith(job.id) for i in registry(queue=queue).get_job_ids())
        ],
        "kept": client.ttl(job.key) > 0,
        # A failure's result RQ keeps for ever, where it is told of no TTL.
        "result kept": bool(job.return_value()) and client.ttl(result_key) > 0,
        "enqueued": job.enqueued_at.timestamp() >= began,
        # RQ's own due time is whole seconds of the local clock, wrong in summer.
        "due": due is not None,
    }  # fmt: skip


CASES = pytest.mark.parametrize(
    ("function", "runs", "given"),
    [
        pytest.param(count, 3, {"repeat": Repeat(2)}, id="at-once"),
        pytest.param(count, 1, {"repeat": Repeat(2, 60)}, id="later"),
        pytest.param(count, 2, {"repeat": Repeat(2, [60, 0])}, id="backwards"),
        pytest.param(count, 3, {"repeat": Repeat(2, [0])}, id="too-few-intervals"),
        pytest.param(count, 2, {"repeat": Repeat(1), "result_ttl": -1}, id="for-ever"),
        pytest.param(count, 2, {"repeat": Repeat(1), "ttl": 100}, id="ttl"),
        pytest.param(fail_first, 1, {"repeat": Repeat(1)}, id="failure"),
        pytest.param(
            fail_first, 3, {"repeat": Repeat(1), "retry": Retry(1)}, id="retry"
        ),
    ],
)


@CASES
def test_a_repeating_job_looks_to_rq_as_its_own_worker_leaves_it(
    site: InProcess,
    queue: Queue,
    tmp_path: Path,
    function: Callable[[str], int],
    runs: int,
    given: dict[str, t.Any],
):
    """After each run, until it does not wait in the queue any more."""
    shown: dict[str, list[dict[str, t.Any]]] = {}
    for name, once in (("rq", rqs_once), ("ours", ours_once)):
        job = queue.enqueue(function, str(tmp_path / name), **given)
        shown[name] = []
        while queue.job_ids:
            began = time.time()
            once(site)
            shown[name].append(seen(queue, job, began))
        site.client.flushall()
    assert shown["ours"] == shown["rq"]
    assert len(shown["ours"]) == runs


def test_it_repeats_by_the_servers_time_and_ends(
    site: InProcess, queue: Queue, tmp_path: Path
):
    job = queue.enqueue(count, str(tmp_path / "l"), repeat=Repeat(2, interval=[10, 30]))
    for interval in (30, 10):
        before = site.client.time()[0]
        ours_once(site)
        due = site.client.zscore("rq:scheduled:default", job.id)
        assert due is not None
        assert before + interval <= due <= site.client.time()[0] + interval + 1
        with site.app.app_context():
            result = AsyncResult(job.id)
            assert (result.state, result.ready()) == ("PENDING", False)
        site.client.zadd("rq:scheduled:default", {job.id: 0})
        assert scripts.promote(site.client, ["default"], most=9) is None
    ours_once(site)
    job.refresh()
    assert (job.get_status().value, job.repeats_left) == ("finished", 0)
    assert [result.return_value for result in job.results()] == [3, 2, 1]
    assert 490 < t.cast(int, site.client.ttl(job.key)) <= 500


def test_its_dependents_start_after_the_first_run(
    site: InProcess, queue: Queue, tmp_path: Path
):
    path = str(tmp_path / "l")
    job = queue.enqueue(count, path, repeat=Repeat(times=1, interval=60))
    after = queue.enqueue(count, path, depends_on=job)
    ours_once(site)
    assert after.get_status(refresh=True).value == "queued"
    assert queue.job_ids == [after.id]


def test_a_repeat_that_was_revoked_does_not_run(
    site: InProcess, queue: Queue, tmp_path: Path
):
    """While it ran, and while it waits for the next time."""
    path = str(tmp_path / "l")
    running = queue.enqueue(count, path, repeat=Repeat(times=1))
    claimed = claim(site.client)
    assert claimed is not None
    assert scripts.revoke(site.client, running.id, terminate=False) == scripts.MARKED
    with site.app.app_context():
        run(site.tq.state, site.client, claimed)
    assert running.get_status(refresh=True).value == "finished"
    assert queue.job_ids == []
    waiting = queue.enqueue(count, path, repeat=Repeat(times=1, interval=60))
    ours_once(site)
    assert scripts.revoke(site.client, waiting.id, terminate=False) == scripts.REVOKED
    assert waiting.get_status(refresh=True).value == "canceled"
    canceled = queue.enqueue(count, path, repeat=Repeat(times=1, interval=60))
    ours_once(site)
    canceled.cancel()
    site.client.zadd("rq:scheduled:default", {canceled.id: 0}, xx=True)
    scripts.promote(site.client, ["default"], most=9)
    assert claim(site.client) is None
    assert canceled.get_status(refresh=True).value == "canceled"


def test_a_repeat_stored_again_after_a_lost_reply_doubles_nothing(
    site: InProcess, queue: Queue, tmp_path: Path
):
    job = queue.enqueue(count, str(tmp_path / "l"), repeat=Repeat(times=2))
    claimed = claim(site.client)
    assert claimed is not None
    stored = StoredJob(job.id, claimed.fields, "default")
    with site.app.app_context():
        state = site.tq.state
        reporter = JobReporter(site.client, state, claimed.lease, lambda error: None)
        ended = Executor(state, WORKER, NoTimer(), site.client).run(stored, reporter)
        told = (site.client, state, stored, claimed.lease, ended, None)
        assert [outcome.store(*told)[0], outcome.store(*told, again=True)[0]] == [
            True, True,
        ]  # fmt: skip
    assert queue.job_ids == [job.id]
    job.refresh()
    assert (job.repeats_left, len(job.results())) == (1, 1)


@pytest.mark.parametrize("deleted", ["deleted", "string"])
def test_a_job_that_is_none_any_more_does_not_repeat(
    site: InProcess, queue: Queue, tmp_path: Path, deleted: str
):
    job = queue.enqueue(count, str(tmp_path / "l"), repeat=Repeat(times=2))
    claimed = claim(site.client)
    assert claimed is not None
    site.client.delete(job.key)
    if deleted == "string":
        site.client.set(job.key, "x")
    with site.app.app_context():
        run(site.tq.state, site.client, claimed)
    assert queue.job_ids == []


def test_drain_runs_all_repeats(site: InProcess, queue: Queue, tmp_path: Path):
    path = tmp_path / "l"
    queue.enqueue(count, str(path), repeat=Repeat(times=3))
    assert drain(site.app) == 4
    assert path.read_text() == "run\n" * 4
