"""What people change: revoke, requeue, purge, pause, resume."""

from __future__ import annotations

import itertools
import threading
import time
import typing as t
from collections.abc import Iterator

import pytest
import redis
from rq import Queue, Retry
from rq.job import Job
from rq.registry import CanceledJobRegistry, FailedJobRegistry
from rq.serializers import JSONSerializer

from flask_taskqueue import AsyncResult, control, keys, signals
from flask_taskqueue.appstate import AppState
from flask_taskqueue.broker import scripts
from flask_taskqueue.broker.held import Subscription
from flask_taskqueue.errors import (
    BrokerUnavailable,
    JobNotFound,
    TaskQueueError,
    TaskRevokedError,
)

from .running import InProcess, claim, run, run_all
from .servers import Server, eventually

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


def between_steps(monkeypatch: pytest.MonkeyPatch, act: t.Callable[[], object]) -> None:
    """Let something happen after each step of a long change."""
    call = scripts.call

    def and_then(client: redis.Redis, name: str, argv: t.Iterable[t.Any]) -> t.Any:
        reply = call(client, name, argv)
        if name in ("purge", "requeue_failed"):
            act()
        return reply

    monkeypatch.setattr(scripts, "call", and_then)


def test_a_job_that_fails_again_meanwhile_hides_none_and_is_requeued_once(
    site: Site, state: AppState, monkeypatch: pytest.MonkeyPatch
):
    # What goes sooner stands in front of what has not been looked at.
    options: t.Any = {"failure_ttl": 600, "max_retries": 0}
    brief = [site.work.apply_async((n,), **options) for n in range(4)]
    site.run_all()
    results = brief + site.failed(*range(4))
    monkeypatch.setattr(control, "STEP", 2)
    begun = {result.id: result.date_done for result in results}
    between_steps(monkeypatch, site.run_all)
    assert control.requeue_failed(state, "default") == len(results)
    for result in results:
        assert result.state == "FAILURE"
        assert result.date_done != begun[result.id]


def test_requeuing_goes_on_where_the_last_job_that_stayed_is_gone(
    site: Site, state: AppState, client: Client, monkeypatch: pytest.MonkeyPatch
):
    results = site.failed(*range(6))
    kept = results[1]
    client.hset(keys.job(kept.id), "status", "stopped")
    monkeypatch.setattr(control, "STEP", 2)
    between_steps(monkeypatch, kept.forget)
    assert control.requeue_failed(state, "default") == 5


def test_failed_jobs_of_several_queues_are_requeued_together(
    site: Site, state: AppState, client: redis.Redis
):
    site.failed(1)
    other = site.work.apply_async((2,), queue="other", max_retries=0)
    run_all(state, client, ["other"])
    assert other.state == "FAILURE"
    assert control.requeue_failed(state, "default", "other") == 2


def test_what_was_done_is_told_when_redis_goes_away_half_way(
    own_server: Server, monkeypatch: pytest.MonkeyPatch
):
    with own_server.client() as client:
        site = Site(own_server.url, client)
        with site.app.app_context():
            site.work.delay_many([(n,) for n in range(5)])
            monkeypatch.setattr(control, "STEP", 2)
            between_steps(monkeypatch, own_server.kill)
            with pytest.raises(BrokerUnavailable, match=r"after 2 jobs$"):
                control.purge(site.tq.state, "default")
            with pytest.raises(BrokerUnavailable) as caught:
                control.purge(site.tq.state, "default")
            assert "after" not in str(caught.value)


@pytest.mark.parametrize(
    ("retry", "left"), [(2, b"2"), (0, None)], ids=["retries", "none"]
)
def test_a_plain_job_that_is_requeued_has_its_attempts_again(
    site: Site, state: AppState, client: Client, retry: int, left: bytes | None
):
    queue = Queue("default", connection=client, serializer=JSONSerializer)
    asked = Retry(max=retry) if retry else None
    job = queue.enqueue("work", 7, retry=asked)
    key = keys.job(job.id)
    for _ in range(2):
        site.run_all()
        assert client.hget(key, "status") == b"failed"
        assert client.hget(key, "retries_left") == (b"0" if retry else None)
        control.requeue(state, job.id)
        # Once more before it ran: nothing is added twice.
        control.revoke(state, job.id)
        control.requeue(state, job.id)
        assert client.hget(key, "retries_left") == left
        assert client.hget(key, "tq_retries") is None


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


def test_a_purge_of_deferred_jobs_takes_parked_ones(
    site: Site, state: AppState, client: Client
):
    parent = site.work.apply_async((1,), countdown=1000)
    job = Job.fetch(parent.id, connection=client, serializer=JSONSerializer)
    queue = Queue("default", connection=client, serializer=JSONSerializer)
    child = queue.enqueue("somewhere.else", depends_on=job)
    unknown = site.tq.send_task("later")
    site.run_all()
    assert client.smembers("tq:parked") == {b"later"}
    assert control.purge(state, "default", scheduled=False) == 0
    assert control.purge(state, "default", deferred=True) == 2
    assert (parent.state, unknown.state) == ("PENDING", "REVOKED")
    assert child.get_status(refresh=True) == "canceled"
    assert not client.exists("rq:deferred:default", "tq:parked:later")


@pytest.mark.parametrize("place", ["waiting", "scheduled", "deferred"])
def test_what_comes_while_a_purge_runs_stays(
    site: Site, state: AppState, client: Client, monkeypatch, place: str
):
    site.fails = False
    come: list[AsyncResult[int]] = []

    def enqueue(number: int) -> AsyncResult[int]:
        # Some come at the end, some in front of what has not been looked at.
        if place == "scheduled":
            return site.work.apply_async((number,), countdown=1000 - number)
        if place == "deferred":
            result: AsyncResult[int] = site.tq.send_task("later", (number,))
            site.run_all()
            return result
        return site.work.apply_async((number,), priority=number % 2)

    waited = [enqueue(n) for n in range(5)]
    control.pause(state, "default") if place != "deferred" else None
    monkeypatch.setattr(control, "STEP", 2)
    numbers = iter(range(6, 12))
    between_steps(
        monkeypatch, lambda: come.extend(map(enqueue, itertools.islice(numbers, 2)))
    )
    asked = {place: True} if place != "waiting" else {}
    assert control.purge(state, "default", **asked) == 5
    assert {result.state for result in waited} == {"REVOKED"}
    assert len(come) == 6
    assert {result.state for result in come} == {"PENDING"}
    if place == "waiting":
        control.resume(state, "default")
        site.run_all()
        assert {result.state for result in come} == {"SUCCESS"}


def test_what_workers_take_from_a_purge_makes_no_room_for_newer_jobs(
    site: Site, state: AppState, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
):
    site.fails = False
    waited = [site.work.delay(n) for n in range(6)]
    come: list[AsyncResult[int]] = []

    def act() -> None:
        claimed = claim(client)
        if claimed is not None:
            run(state, client, claimed)
        come.append(site.work.delay(9))

    monkeypatch.setattr(control, "STEP", 2)
    between_steps(monkeypatch, act)
    purged = control.purge(state, "default")
    states = [result.state for result in waited]
    assert states.count("REVOKED") == purged < len(waited)
    assert "PENDING" not in states
    assert "REVOKED" not in {result.state for result in come}
    monkeypatch.undo()
    order = [job.lease.id for job in iter(lambda: claim(client), None)]
    assert order == [result.id for result in come][-len(order) :]


def test_a_time_stamp_that_is_none_keeps_nothing_from_a_purge(
    site: Site, state: AppState, client: Client
):
    for at in ("long ago", "9999-01-01T00:00:00.000000Z", ""):
        client.hset(keys.job(site.work.delay(1).id), "enqueued_at", at)
    assert control.purge(state, "default") == 3


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
