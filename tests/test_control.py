"""What people change: revoke, requeue, purge, pause, resume."""

from __future__ import annotations

import threading
import time
import typing as t
from collections.abc import Iterator

import pytest
import redis
from rq import Queue
from rq.job import Job
from rq.registry import CanceledJobRegistry, FailedJobRegistry
from rq.serializers import JSONSerializer

from flask_taskqueue import AsyncResult, control, keys, signals
from flask_taskqueue.appstate import AppState
from flask_taskqueue.broker import scripts
from flask_taskqueue.broker.held import Subscription
from flask_taskqueue.errors import JobNotFound, TaskQueueError, TaskRevokedError

from .running import InProcess, claim, run
from .servers import eventually

Client = t.Any


class Site(InProcess):
    """An app with a task that fails until it is told to go well."""

    def __init__(self, url: str, client: redis.Redis) -> None:
        super().__init__(__name__, url, client)
        self.fails = True
        self.work = self.tq.task(name="work", max_retries=1, default_retry_delay=0)(
            self._work
        )

    def _work(self, number: int) -> int:
        if self.fails:
            raise ValueError(f"no {number}")
        return number

    def failed(self, *numbers: int) -> list[AsyncResult[int]]:
        """Jobs that have failed."""
        results = [self.work.delay(number) for number in numbers]
        self.run_all()
        assert {result.state for result in results} == {"FAILURE"}
        return results


@pytest.fixture
def site(redis_url: str, client: redis.Redis) -> Iterator[Site]:
    site = Site(redis_url, client)
    with site.app.app_context():
        yield site


@pytest.fixture
def state(site: Site) -> AppState:
    return site.tq.state


def test_a_requeued_job_begins_anew(site: Site, state: AppState, client: Client):
    (result,) = site.failed(7)
    (waiting,) = [site.work.delay(8)]
    assert control.requeue(state, result.id) is True
    assert (result.state, result.retries, result.result) == ("PENDING", 0, None)
    assert client.ttl(keys.job(result.id)) == -1
    assert client.lrange("rq:queue:default", 0, -1) == [
        waiting.id.encode(),
        result.id.encode(),
    ]
    site.fails = False
    site.run_all()
    assert result.get() == 7
    assert 0 < client.ttl(keys.job(result.id))


def test_rq_sees_a_requeued_job_in_its_queue_only(
    site: Site, state: AppState, client: redis.Redis
):
    (result,) = site.failed(7)
    queue = Queue("default", connection=client, serializer=JSONSerializer)
    registry = FailedJobRegistry(queue=queue)
    assert registry.get_job_ids(cleanup=False) == [result.id]
    control.requeue(state, result.id)
    assert registry.get_job_ids(cleanup=False) == []
    assert queue.job_ids == [result.id]
    job = Job.fetch(result.id, connection=client, serializer=JSONSerializer)
    assert job.get_status() == "queued"
    assert (job.started_at, job.ended_at) == (None, None)


def test_a_repeated_requeue_adds_it_once(site: Site, state: AppState, client: Client):
    (result,) = site.failed(7)
    for _ in range(2):
        assert scripts.call(client, "requeue", [result.id, "nonce"]) == 1
    assert client.llen("rq:queue:default") == 1
    assert control.requeue(state, result.id) is False


def test_a_revoked_and_a_finished_job_can_be_requeued(site: Site, state: AppState):
    site.fails = False
    revoked, finished = site.work.delay(1), site.work.delay(2)
    revoked.revoke()
    site.run_all()
    assert (revoked.state, finished.state) == ("REVOKED", "SUCCESS")
    assert control.requeue(state, revoked.id)
    assert control.requeue(state, finished.id)
    site.run_all()
    assert (revoked.get(), finished.get()) == (1, 2)


def test_an_expired_job_that_is_requeued_runs(site: Site, state: AppState):
    site.fails = False
    result = site.work.apply_async((3,), expires=0.001)
    eventually(lambda: site.run_all() or result.state == "REVOKED")
    assert control.requeue(state, result.id)
    site.run_all()
    assert result.get() == 3


def test_a_requeue_is_told_to_who_watches(site: Site, state: AppState):
    (result,) = site.failed(7)
    channel = keys.changes(result.id)
    subscription = Subscription(state.broker.waiter, [channel])
    subscription.connect()
    control.requeue(state, result.id)
    assert eventually(subscription.messages) == [(channel, b"")]
    subscription.close()


def test_dependents_of_a_requeued_job_wait_on_for_it(
    site: Site, state: AppState, client: Client
):
    parent = site.work.delay(1)
    queue = Queue("default", connection=client, serializer=JSONSerializer)
    job = Job.fetch(parent.id, connection=client, serializer=JSONSerializer)
    child = queue.enqueue("somewhere.else", depends_on=job)
    site.run_all()
    assert client.ttl(job.dependents_key) > 0
    control.requeue(state, parent.id)
    assert client.ttl(job.dependents_key) == -1
    site.fails = False
    claimed = claim(client)
    assert claimed is not None
    run(state, client, claimed)
    assert child.get_status(refresh=True) == "queued"


@pytest.mark.parametrize("change", [control.requeue, control.revoke])
def test_what_is_no_job_is_told(
    change: t.Callable[[AppState, str], object], state: AppState, client: Client
):
    client.set("rq:job:text", "something else")
    with pytest.raises(JobNotFound, match="'nobody'"):
        change(state, "nobody")
    with pytest.raises(JobNotFound):
        change(state, "no bytes \udcff")
    with pytest.raises(TaskQueueError, match="'text'"):
        change(state, "text")


def test_revoke_says_where_the_job_was(site: Site, state: AppState, client: Client):
    heard = []
    site.fails = False
    waiting, running, ended = (site.work.delay(n) for n in range(3))
    assert ended.id
    with signals.job_revoked.connected_to(
        lambda sender, job: heard.append(job.id), site.app
    ):
        assert control.revoke(state, waiting.id) == "revoked"
        assert control.revoke(state, waiting.id) == "ended"
    assert heard == [waiting.id]
    claimed = claim(client)
    assert claimed is not None
    assert claimed.lease.id == running.id
    assert control.revoke(state, running.id, terminate=True) == "running"
    assert client.hget(keys.job(running.id), "tq_revoked") == b"terminate"


def test_all_failed_jobs_are_requeued_in_steps(
    site: Site, state: AppState, client: Client
):
    results = site.failed(*range(2 * control.STEP + 1))
    kept = results.pop(50)
    # Terminated: RQ keeps it among the failed.
    client.hset(keys.job(kept.id), "status", "stopped")
    client.delete(keys.job(results.pop(0).id))
    client.config_resetstat()
    assert control.requeue_failed(state, "default") == len(results)
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] <= 4
    assert {result.state for result in results} == {"PENDING"}
    assert client.zrange("rq:failed:default", 0, -1) == [kept.id.encode()]
    assert control.requeue_failed(state, "default") == 0


def test_a_purge_revokes_what_waits_and_leaves_the_rest(
    site: Site, state: AppState, client: redis.Redis
):
    site.fails = False
    running = site.work.delay(0)
    assert claim(client) is not None
    waiting = [site.work.delay(n) for n in range(3)]
    later = site.work.apply_async((9,), countdown=1000)
    other = site.work.apply_async((9,), queue="other")
    client.rpush("tq:ready:default", client.lpop("rq:queue:default"))  # type: ignore[arg-type]
    client.rpush("rq:queue:default", "nobody")
    assert control.purge(state, "default") == 3
    assert {result.state for result in waiting} == {"REVOKED"}
    with pytest.raises(TaskRevokedError):
        waiting[0].get()
    assert running.state == "STARTED"
    assert (later.state, other.state) == ("PENDING", "PENDING")
    assert claim(client) is None
    registry = CanceledJobRegistry("default", connection=client)
    found = registry.get_job_ids(cleanup=False)
    assert sorted(found) == sorted(result.id for result in waiting)
    for result in waiting:
        assert 0 < client.ttl(keys.job(result.id)) <= control.KEEP_PURGED


def test_a_purge_of_scheduled_jobs_is_asked_for(site: Site, state: AppState):
    later = site.work.apply_async((9,), countdown=1000)
    assert control.purge(state, "default") == 0
    assert control.purge(state, "default", scheduled=True) == 1
    assert later.state == "REVOKED"


def test_a_purge_goes_in_steps(site: Site, state: AppState, client: Client):
    number = 3 * control.STEP + 1
    site.work.delay_many([(n,) for n in range(number)])
    client.config_resetstat()
    assert control.purge(state, "default") == number
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == 4


def test_a_purge_takes_no_more_memory_than_the_jobs_did(
    site: Site, state: AppState, client: Client
):
    site.work.delay_many([(n,) for n in range(100)])
    (first, *_) = client.lrange("rq:queue:default", 0, 0)
    before = client.memory_usage(b"rq:job:" + first)
    control.purge(state, "default")
    assert client.memory_usage(b"rq:job:" + first) < 2 * before
    assert client.ttl(b"rq:results:" + first) <= 5


def test_a_purge_wakes_who_waits_for_a_result(site: Site, state: AppState):
    result = site.work.delay(1)
    ended = []

    def wait() -> None:
        try:
            AsyncResult(result.id, state).get(timeout=20)
        except TaskRevokedError as error:
            ended.append((error, time.monotonic()))

    thread = threading.Thread(target=wait)
    thread.start()
    client: Client = state.broker.monitor
    eventually(lambda: client.info("clients")["blocked_clients"])
    started = time.monotonic()
    control.purge(state, "default")
    thread.join(20)
    # Sooner than it looks by itself, which is every 5 s.
    assert ended[0][1] - started < 4


def test_nothing_is_taken_from_a_paused_queue(site: Site, state: AppState):
    site.fails = False
    result = site.work.delay(1)
    assert control.pause(state, "default") is True
    assert control.pause(state, "default") is False
    site.run_all()
    assert result.state == "PENDING"
    assert control.resume(state, "default") is True
    assert control.resume(state, "default") is False
    site.run_all()
    assert result.get() == 1


def test_a_full_server_can_be_paused_and_emptied(
    site: Site, state: AppState, client: Client
):
    result = site.work.delay(1)
    (failed,) = [site.work.delay(2)]
    failed.revoke()
    # The scripts are there: a full server takes none.
    control.pause(state, "other")
    control.purge(state, "other")
    control.requeue_failed(state, "other")
    client.config_set("maxmemory", 1)
    try:
        assert control.pause(state, "default")
        assert control.resume(state, "default")
        assert control.purge(state, "default") == 1
        with pytest.raises(TaskQueueError, match="OOM|maxmemory"):
            control.requeue(state, failed.id)
    finally:
        client.config_set("maxmemory", 0)
    assert result.state == "REVOKED"
