"""Queues with their counts, and jobs page by page."""

from __future__ import annotations

import time
import typing as t
from collections.abc import Iterator

import pytest
import redis

from flask_taskqueue import control, counts, listing
from flask_taskqueue.appstate import AppState
from flask_taskqueue.errors import BrokerUnavailable
from flask_taskqueue.listing import Page
from flask_taskqueue.places import PLACES

from .running import InProcess, claim
from .servers import free_port

Client = t.Any


class Site(InProcess):
    """An app with a task that does as it is told."""

    def __init__(self, url: str, client: redis.Redis, **config: object) -> None:
        config = {"TASKQUEUE_QUEUES": ["default", "mail"], **config}
        super().__init__(__name__, url, client, **config)
        self.work = self.tq.task(name="work", max_retries=0)(_work)


def _work(fails: bool = False) -> int:
    if fails:
        raise ValueError("no \x1b[31m")
    return 1


@pytest.fixture
def site(redis_url: str, client: redis.Redis) -> Iterator[Site]:
    site = Site(redis_url, client)
    with site.app.app_context():
        yield site


@pytest.fixture
def state(site: Site) -> AppState:
    return site.tq.state


@pytest.fixture
def everywhere(site: Site, client: Client) -> dict[str, str]:
    """A job in each place; ids by place."""
    failed, finished, revoked = (site.work.delay(n == 0) for n in range(3))
    revoked.revoke()
    site.run_all()
    running = site.work.delay()
    assert claim(client) is not None
    deferred = site.work.delay()
    client.lrem("rq:queue:default", 0, deferred.id)
    client.hset(f"rq:job:{deferred.id}", "status", "deferred")
    client.zadd("rq:deferred:default", {deferred.id: time.time()})
    return {
        "running": running.id,
        "waiting": site.work.delay().id,
        "scheduled": site.work.apply_async(countdown=1000).id,
        "deferred": deferred.id,
        "failed": failed.id,
        "finished": finished.id,
        "revoked": revoked.id,
    }


def ids(page: Page) -> list[str]:
    return [job.id for job in page.jobs]


def test_a_queue_is_counted_by_place(
    state: AppState, everywhere: dict[str, str], client: Client
):
    # Neither of these is anything any more.
    client.zadd("rq:finished:default", {"expired": time.time() - 1})
    client.sadd("rq:workers:default", "rq:worker:dead", "rq:worker:alive")
    client.hset("rq:worker:alive", "state", "idle")
    control.pause(state, "mail")
    default, mail = counts.queues(state).queues
    assert default == counts.QueueCounts(
        name="default", workers=1, paused=False, **dict.fromkeys(PLACES, 1)
    )
    assert mail == counts.QueueCounts(
        name="mail", workers=0, paused=True, **dict.fromkeys(PLACES, 0)
    )


def test_queues_in_redis_follow_those_configured(site: Site, state: AppState):
    site.work.apply_async(queue="zoo")
    site.work.apply_async(queue="extra")
    control.pause(state, "later")
    names = [queue.name for queue in counts.queues(state).queues]
    assert names == ["default", "mail", "extra", "later", "zoo"]


def test_suspending_all_queues_is_seen(state: AppState, client: Client):
    assert not counts.queues(state).suspended
    client.set("rq:suspended", "1")
    assert counts.queues(state).suspended


def test_a_key_of_another_type_counts_nothing(state: AppState, client: Client):
    client.set("rq:queue:default", "text")
    client.set("rq:wip:default", "text")
    client.set("rq:workers:default", "text")
    default = counts.queues(state).queues[0]
    assert (default.waiting, default.running, default.workers) == (0, 0, 0)
    assert listing.jobs(state).jobs == ()


@pytest.mark.parametrize("place", PLACES)
def test_jobs_are_listed_by_place(
    state: AppState, everywhere: dict[str, str], place: str
):
    assert ids(listing.jobs(state, places=[place])) == [everywhere[place]]


def test_without_a_place_all_are_listed_in_order(
    state: AppState, everywhere: dict[str, str]
):
    page = listing.jobs(state)
    assert ids(page) == [everywhere[place] for place in PLACES]
    assert [job.place for job in page.jobs] == list(PLACES)
    assert page.next is None


def test_a_listed_job_says_what_is_known(state: AppState, everywhere: dict[str, str]):
    (failed,) = listing.jobs(state, places=["failed"]).jobs
    assert failed.error == ("ValueError", "no \x1b[31m")
    assert (failed.task, failed.queue, failed.state) == ("work", "default", "FAILURE")
    assert failed.enqueued_at is not None
    assert failed.ended_at is not None
    assert failed.ended_at > failed.enqueued_at
    (running,) = listing.jobs(state, places=["running"]).jobs
    assert (running.state, running.worker) == ("STARTED", "host.4711.abc")


def test_pages_go_on_where_the_last_ended(site: Site, state: AppState):
    expected = [result.id for result in site.work.delay_many([()] * 7)]
    expected += [site.work.apply_async(queue="mail").id for _ in range(3)]
    found: list[str] = []
    offset: int | None = 0
    while offset is not None:
        page = listing.jobs(state, offset=offset, limit=4)
        assert len(page.jobs) <= 4
        found += ids(page)
        offset = page.next
    assert found == expected


def test_one_queue_is_listed_alone(site: Site, state: AppState):
    site.work.delay()
    mail = site.work.apply_async(queue="mail")
    assert ids(listing.jobs(state, queue="mail")) == [mail.id]
    assert listing.jobs(state, queue="nowhere") == Page(jobs=(), next=None)


def test_those_that_ended_come_newest_first(
    site: Site, state: AppState, client: Client
):
    results = [site.work.delay() for _ in range(3)]
    site.run_all()
    expected = [result.id for result in reversed(results)]
    assert ids(listing.jobs(state, places=["finished"])) == expected


def test_entries_that_are_only_stale_are_left_out(
    site: Site, state: AppState, client: Client
):
    revoked, kept = site.work.delay(), site.work.delay()
    revoked.revoke()
    client.rpush("rq:queue:default", "nobody", "text")
    client.set("rq:job:text", "something else")
    assert ids(listing.jobs(state, places=["waiting"])) == [kept.id]


def test_what_cannot_be_read_of_a_job_is_left_out(
    site: Site, state: AppState, client: Client
):
    result = site.work.delay()
    fields = {"enqueued_at": "long ago", "tq_retries": "many", "tq_task": b"\xff"}
    client.hset(f"rq:job:{result.id}", mapping=fields)
    client.rpush("rq:queue:default", b"raw \xff")
    client.hset(b"rq:job:raw \xff", mapping={"status": "queued", "origin": "default"})
    bad, raw = listing.jobs(state, places=["waiting"]).jobs
    assert (bad.task, bad.enqueued_at, bad.retries) == (None, None, None)
    assert raw.id == "raw \udcff"


def test_a_double_is_listed_once(site: Site, state: AppState):
    result = site.work.delay()
    for _ in range(3):
        result.revoke()
        control.requeue(state, result.id)
    assert ids(listing.jobs(state)) == [result.id]
    assert listing.jobs(state, limit=1).next == 1
    assert listing.jobs(state, offset=4).next is None


def test_jobs_of_a_state_are_found_wherever_they_can_be(
    site: Site, state: AppState, everywhere: dict[str, str], client: Client
):
    terminated = site.work.delay(True)
    site.run_all()
    client.hset(f"rq:job:{terminated.id}", "status", "stopped")
    client.hset(f"rq:job:{everywhere['running']}", "tq_state", "Half-way")
    ignored = site.work.delay()
    site.run_all()
    more = {"tq_state": "SKIPPED", "tq_ignored": "1"}
    client.hset(f"rq:job:{ignored.id}", mapping=more)

    def found(in_state: str, **options: t.Any) -> set[str]:
        return set(ids(listing.jobs(state, in_state=in_state, **options)))

    waits = {everywhere[place] for place in ("scheduled", "deferred")}
    assert found("PENDING") == found("pending") == waits
    assert found("PENDING", places=["scheduled"]) == {everywhere["scheduled"]}
    assert found("PENDING", places=["failed"]) == set()
    assert found("FAILURE") == {everywhere["failed"]}
    assert found("REVOKED") == {everywhere["revoked"], terminated.id}
    assert found("STARTED") == set()
    assert found("half-way") == {everywhere["running"]}
    assert found("Skipped") == {ignored.id}
    assert ignored.id not in found("SUCCESS")
    assert found("UNKNOWN") == set()


def test_a_state_is_looked_for_in_so_many_entries_and_no_more(
    site: Site, state: AppState, client: Client, monkeypatch: pytest.MonkeyPatch
):
    site.work.delay_many([()] * 5)
    retried = [site.work.delay() for _ in range(2)]
    for result in retried:
        client.hset(f"rq:job:{result.id}", "tq_retries", "1")
    monkeypatch.setattr(listing, "LOOK_MOST", 6)
    monkeypatch.setattr(listing, "MOST", 4)
    first = listing.jobs(state, in_state="RETRY")
    assert (ids(first), first.next) == ([retried[0].id], 6)
    second = listing.jobs(state, in_state="RETRY", offset=6)
    assert (ids(second), second.next) == ([retried[1].id], None)
    one = listing.jobs(state, in_state="RETRY", offset=1, limit=1)
    assert (ids(one), one.next) == ([retried[0].id], 6)


def test_what_holds_a_job_that_waits_is_told(
    site: Site, state: AppState, client: Client
):
    def reasons() -> list[str | None]:
        return [job.held for job in listing.jobs(state).jobs]

    site.work.delay()
    assert reasons() == ["no worker serves its queue"]
    client.sadd("rq:workers:default", "rq:worker:alive")
    client.hset("rq:worker:alive", "state", "idle")
    assert reasons() == [None]
    control.pause(state, "default")
    assert reasons() == ["its queue is paused"]
    client.set("rq:suspended", "1")
    assert reasons() == ["all queues are suspended"]


def test_a_parked_job_is_told_from_one_that_waits_for_another(
    site: Site, state: AppState, everywhere: dict[str, str]
):
    parked = site.tq.send_task("later")
    site.run_all()
    jobs = listing.jobs(state, places=["deferred"]).jobs
    assert {job.id: job.held for job in jobs} == {
        everywhere["deferred"]: "waits for another job",
        parked.id: "no worker knows this task",
    }


def test_a_page_of_a_long_queue_asks_for_no_more_than_it_shows(
    site: Site, state: AppState, client: Client
):
    site.work.delay_many([()] * 2000)
    client.config_resetstat()
    page = listing.jobs(
        state, queue="default", places=["waiting"], offset=1000, limit=3
    )
    assert len(page.jobs) == 3
    calls = client.info("commandstats")
    assert calls["cmdstat_hmget"]["calls"] == 3
    assert "cmdstat_keys" not in calls


@pytest.mark.parametrize("read", [counts.queues, listing.jobs])
def test_redis_away_is_told(read: t.Callable[[AppState], object], client: redis.Redis):
    site = Site(f"redis://127.0.0.1:{free_port()}", client)
    with site.app.app_context(), pytest.raises(BrokerUnavailable):
        read(site.tq.state)
