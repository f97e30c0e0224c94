"""What rq-scheduler shows of an entry of beat, which nobody takes for a job."""

from __future__ import annotations

import time
import typing as t
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
import redis
from rq import Queue
from rq.exceptions import DeserializationError
from rq.job import Job
from rq.serializers import JSONSerializer
from rq_scheduler import Scheduler

from flask_taskqueue import control, counts, inspector, listing, serializer
from flask_taskqueue.appstate import AppState
from flask_taskqueue.beat import scripts
from flask_taskqueue.broker import scripts as broker_scripts
from flask_taskqueue.broker.wire import Claim, NewJob
from flask_taskqueue.errors import JobNotFound, TaskQueueError
from flask_taskqueue.places import PLACES

from .plain_schedulers import WARNINGS, everything
from .running import WORKER, InProcess

Client = t.Any

APP = "shop"
ENTRY = "beat-nightly-12345678"
KEY = f"rq:job:{ENTRY}"
DUE = datetime(2026, 3, 4, 5, 6, 7, 250_000, tzinfo=UTC)

pytestmark = WARNINGS


def put(client: redis.Redis, due: float = DUE.timestamp()) -> None:
    """Write an entry that is due then."""
    data = serializer.dump_call("tasks.clean", [7], {"deep": True}, "json", 1000)
    mirror = NewJob(
        id=ENTRY,
        queue="default",
        fields={"data": serializer.compress(data), "description": "tasks.clean"},
    )
    code = scripts.put(
        client,
        APP,
        ENTRY,
        {"name": "nightly", "app": APP, "fingerprint": "f", "rhythm": "r"},
        mirror,
        first=f"{due:.6f}",
        last_due="",
        enabled=True,
    )
    assert code == scripts.CREATED


@pytest.fixture
def site(redis_url: str, client: redis.Redis) -> Iterator[InProcess]:
    """An app, beside an entry of beat."""
    put(client)
    site = InProcess(__name__, redis_url, client)
    site.tq.task(name="work")(print)
    with site.app.app_context():
        yield site


@pytest.fixture
def state(site: InProcess) -> AppState:
    return site.tq.state


def test_rq_scheduler_lists_an_entry_with_its_time(client: Client):
    put(client)
    scheduler = Scheduler(connection=client)
    ((job, due),) = scheduler.get_jobs(with_times=True)
    assert (job.id, due) == (ENTRY, DUE.replace(tzinfo=None))
    assert (job.origin, job.description) == ("default", "tasks.clean")
    assert job.get_status() == "scheduled"
    assert scheduler.count() == 1
    assert scheduler.count(until=DUE) == 0
    assert ENTRY in scheduler
    assert job in scheduler
    assert client.ttl(KEY) == -1


def test_rq_reads_the_call_of_an_entry(client: redis.Redis):
    put(client)
    job = Job.fetch(ENTRY, connection=client, serializer=JSONSerializer)
    assert (job.func_name, job.args, job.kwargs) == ("tasks.clean", [7], {"deep": True})


def test_rq_scheduler_cancels_an_entry(client: Client):
    put(client)
    scheduler = Scheduler(connection=client)
    scheduler.cancel(next(scheduler.get_jobs()))
    assert ENTRY not in scheduler
    look = scripts.lead(client, APP, "beat", lease=4, most=10)
    assert (look.due, look.cancelled) == ((), (ENTRY,))


def test_rq_scheduler_keeps_out_while_a_beat_leads(client: Client):
    put(client)
    scripts.lead(client, APP, "beat", lease=4, most=10)
    assert not Scheduler(connection=client).acquire_lock()


def test_rq_scheduler_without_a_lock_changes_nothing(client: Client):
    put(client)
    before = everything(client)
    with pytest.raises(DeserializationError):
        Scheduler(connection=client).enqueue_jobs()
    assert everything(client) == before


def test_it_is_no_job_to_whoever_asks(state: AppState, client: Client):
    before = everything(client)
    assert not inspector.snapshot(state, ENTRY).stored.exists
    assert not inspector.whole(state, ENTRY).exists
    assert inspector.snapshot(state, ENTRY).state == "UNKNOWN"
    for change in (control.revoke, control.requeue):
        with pytest.raises(JobNotFound):
            change(state, ENTRY)
    assert broker_scripts.revoke(client, ENTRY, terminate=True) == broker_scripts.NO_JOB
    assert broker_scripts.forget(client, ENTRY) == 0
    assert everything(client) == before


def test_no_job_takes_its_id(site: InProcess, client: Client):
    task = site.tq.state.tasks["work"]
    # Whatever somebody made of its status.
    for status in ("scheduled", "finished"):
        client.hset(KEY, "status", status)
        before = everything(client)
        with pytest.raises(TaskQueueError, match="not a job"):
            task.apply_async(task_id=ENTRY)
        assert everything(client) == before


def rq_enqueues_it(client: Client) -> None:
    job = Job.fetch(ENTRY, connection=client, serializer=JSONSerializer)
    Queue("default", connection=client, serializer=JSONSerializer).enqueue_job(job)
    assert client.lrange("rq:queue:default", 0, -1) == [ENTRY.encode()]


def in_ready(client: Client) -> None:
    client.hset(KEY, "status", "queued")
    client.rpush("tq:ready:default", ENTRY)


def in_scheduled(client: Client) -> None:
    client.zadd("rq:scheduled:default", {ENTRY: time.time() - 1})


def in_failed(client: Client) -> None:
    client.hset(KEY, "status", "failed")
    client.zadd("rq:failed:default", {ENTRY: time.time() + 1000})


def claim(state: AppState, client: Client) -> object:
    wanted = Claim(WORKER, f"{WORKER}.", 1, 10, ("default",))
    return broker_scripts.claim(client, wanted)


def promote(state: AppState, client: Client) -> object:
    return broker_scripts.promote(client, ["default"], most=100)


def purge(state: AppState, client: Client) -> object:
    return control.purge(state, "default", scheduled=True)


def requeue_failed(state: AppState, client: Client) -> object:
    return control.requeue_failed(state, "default")


def list_jobs(state: AppState, client: Client) -> object:
    return listing.jobs(state, places=PLACES).jobs


def sweep(state: AppState, client: Client) -> object:
    return broker_scripts.sweep(client, gap=6, lease=10, most=500).recovered


@pytest.mark.parametrize(
    ("place", "act", "answer"),
    [
        pytest.param(rq_enqueues_it, claim, broker_scripts.Next(), id="claimed"),
        pytest.param(in_ready, claim, broker_scripts.Next(), id="claimed when ready"),
        pytest.param(in_scheduled, promote, None, id="promoted"),
        pytest.param(in_scheduled, sweep, (), id="promoted by a sweep"),
        pytest.param(rq_enqueues_it, purge, 0, id="purged"),
        pytest.param(in_ready, purge, 0, id="purged when ready"),
        pytest.param(in_scheduled, purge, 0, id="purged when scheduled"),
        pytest.param(in_failed, requeue_failed, 0, id="requeued"),
        pytest.param(rq_enqueues_it, list_jobs, (), id="listed"),
        pytest.param(in_scheduled, list_jobs, (), id="listed as scheduled"),
        pytest.param(in_failed, list_jobs, (), id="listed as failed"),
    ],
)
def test_it_is_no_job_where_jobs_wait(
    state: AppState,
    client: Client,
    place: Callable[[Client], None],
    act: Callable[[AppState, Client], object],
    answer: object,
):
    place(client)
    before = client.hgetall(KEY)
    assert act(state, client) == answer
    assert client.hgetall(KEY) == before
    assert client.ttl(KEY) == -1
    assert not client.exists(f"rq:results:{ENTRY}", "rq:wip:default")
    if act is not list_jobs:
        assert counts.queues(state).queues[0].waiting == 0
