"""What a call costs Redis, and what is worked out once for many calls."""

from __future__ import annotations

import inspect
import os
import typing as t
from uuid import RFC_4122, UUID

import pytest
import redis
from flask import Flask

from flask_taskqueue import Task, TaskQueue
from flask_taskqueue.arguments import FORMS_MOST
from flask_taskqueue.broker import scripts
from flask_taskqueue.broker.wire import COLUMNS, NewJob
from flask_taskqueue.producer import BATCH, BATCH_BYTES

from .running import InProcess

Client = t.Any


@pytest.fixture
def site(redis_url: str, client: Client) -> InProcess:
    return InProcess(__name__, redis_url, client)


def keep(value: object, other: object = None) -> object:
    return value


def commands(client: Client) -> dict[str, int]:
    """Calls of each command since the statistics were reset."""
    counts = {
        name.removeprefix("cmdstat_"): row["calls"]
        for name, row in client.info("commandstats").items()
    }
    return {
        name: count
        for name, count in counts.items()
        if name not in ("info", "config|resetstat", "hello", "script|load", "eval")
    }


def waiting(client: Client, queue: str = "default") -> list[str]:
    return [job_id.decode() for job_id in client.lrange(f"rq:queue:{queue}", 0, -1)]


def test_a_call_is_one_round_trip_of_six_commands(site: InProcess, client: Client):
    task = site.tq.task(keep)
    with site.app.app_context():
        task.delay(1)
        client.config_resetstat()
        task.delay(2)
        task.delay(value=3)
    each = {"evalsha", "time", "exists", "rpush", "sadd", "hset"}
    assert commands(client) == dict.fromkeys(each, 2)


def test_a_call_in_a_request_costs_redis_no_more(site: InProcess, client: Client):
    task = site.tq.task(keep)
    with site.app.test_request_context("/", headers={"X-Request-ID": "abc"}):
        task.delay(1)
        client.config_resetstat()
        job_id = task.delay(2).id
    assert sum(commands(client).values()) == 6
    assert b"abc" in client.hget(f"rq:job:{job_id}", "tq_carried")


def test_many_calls_are_few_round_trips(site: InProcess, client: Client):
    task = site.tq.task(keep)
    with site.app.app_context():
        task.delay(0)
        client.config_resetstat()
        results = task.delay_many([(number,) for number in range(2 * BATCH + 1)])
    counts = commands(client)
    assert counts["evalsha"] == 3
    assert counts["hset"] == 2 * BATCH + 1
    # For the first of each step, and for the rest of it; the last is alone.
    assert counts["rpush"] == 5
    assert waiting(client)[1:] == [result.id for result in results]


def test_large_arguments_go_in_more_steps(redis_url: str, client: Client):
    most = 2 * BATCH_BYTES
    site = InProcess(__name__, redis_url, client, TASKQUEUE_MAX_ARGS_BYTES=most)
    task = site.tq.task(keep)
    # Compressed it takes about half: two are more than one step may write.
    large = os.urandom(BATCH_BYTES * 3 // 5).hex()
    with site.app.app_context():
        task.delay(0)
        client.config_resetstat()
        results = task.delay_many([("small",), (large,), (large,), ("small",)])
    stored = client.hstrlen(f"rq:job:{results[1].id}", "data")
    assert BATCH_BYTES / 2 < stored < BATCH_BYTES
    assert commands(client)["evalsha"] == 2
    assert waiting(client)[1:] == [result.id for result in results]


def test_one_of_many_jobs_of_the_same_id_is_made(site: InProcess, client: Client):
    task = site.tq.task(keep)
    with site.app.app_context():
        results = task.delay_many([(1,), (2,)], task_id="same")
    assert [result.created for result in results] == [True, False]
    assert waiting(client) == ["same"]


def test_forgotten_scripts_are_sent_again(site: InProcess, client: Client):
    task = site.tq.task(keep)
    with site.app.app_context():
        task.delay(1)
        client.script_flush()
        task.delay(2)
        client.script_flush()
        task.delay_many([(3,), (4,)])
    assert len(waiting(client)) == 4


def test_ids_are_random_uuids(site: InProcess):
    task = site.tq.task(keep)
    with site.app.app_context():
        ids = [task.delay(1).id for _ in range(100)]
    uuids = [UUID(text) for text in ids]
    assert [str(each) for each in uuids] == ids
    assert {(each.version, each.variant) for each in uuids} == {(4, RFC_4122)}
    assert len(set(ids)) == 100
    # Each of the other 122 bits is set in some and not in others.
    either, all_of_them = 0, -1
    for each in uuids:
        either |= each.int
        all_of_them &= each.int
    assert (either & ~all_of_them).bit_count() == 122


def test_a_form_of_call_is_held_against_the_signature_once(
    site: InProcess, client: Client, monkeypatch: pytest.MonkeyPatch
):
    bound: list[t.Any] = []
    bind = inspect.Signature.bind

    def counting(self: inspect.Signature, *args: t.Any, **kwargs: t.Any) -> t.Any:
        bound.append((args, kwargs))
        return bind(self, *args, **kwargs)

    task = site.tq.task(keep)
    monkeypatch.setattr(inspect.Signature, "bind", counting)
    with site.app.app_context():
        for number in range(3):
            task.delay(number)
            task.delay(number, other=2)
        assert bound == [((0,), {"other": 2})]
        before = len(waiting(client))
        for _ in range(2):
            with pytest.raises(TypeError, match=r"keep\(.*value"):
                task.delay(other=2)
            with pytest.raises(TypeError, match=r"keep\(.*too many"):
                task.delay(1, 2, 3)
            with pytest.raises(TypeError, match=r"keep\(.*multiple"):
                task.delay(1, value=2)
    assert len(waiting(client)) == before


def test_a_function_that_takes_any_name_has_a_bounded_memory_of_calls():
    def anything(**names: object) -> None: ...

    task: t.Any = Task.from_function(anything)
    for number in range(FORMS_MOST + 10):
        task.check_args((), {f"x{number}": 1})
    assert len(task._shape._fitting) == FORMS_MOST


def test_a_route_function_is_asked_for_each_call(redis_url: str, client: Client):
    asked: list[t.Any] = []

    def route(name: str, args: t.Any, kwargs: t.Any, options: t.Any) -> str | None:
        asked.append(args)
        return f"q{args[0]}"

    routes = [("tests.other", "other"), route]
    site = InProcess(__name__, redis_url, client, TASKQUEUE_ROUTES=routes)
    task, fixed = site.tq.task(keep), site.tq.task(queue="mine", name="own")(keep)
    with site.app.app_context():
        for number in (1, 2, 1):
            task.delay(number)
            task.apply_async((number,), priority=1)
            fixed.delay(number)
        task.apply_async((3,), queue="asked")
    assert asked == [(1,), (1,), (2,), (2,), (1,), (1,)]
    lengths = {q: client.llen(f"rq:queue:{q}") for q in ("q1", "q2", "mine", "asked")}
    assert lengths == {"q1": 4, "q2": 2, "mine": 3, "asked": 1}


def test_what_is_worked_out_once_is_so_for_each_app(redis_url: str, client: Client):
    tq = TaskQueue()
    task = tq.task(keep)
    apps = []
    for queue, ttl in (("a", 100), ("b", 200)):
        app = Flask(__name__)
        app.config.update(
            TASKQUEUE_URL=redis_url, TASKQUEUE_DEFAULT_QUEUE=queue,
            TASKQUEUE_RESULT_TTL=ttl,
        )  # fmt: skip
        tq.init_app(app)
        apps.append(app)
    for app in apps * 2:
        with app.app_context():
            task.delay(1)
            task.apply_async((1,), result_ttl=300)
            tq.state.broker.close()
    for queue, ttl in (("a", b"100"), ("b", b"200")):
        ids = waiting(client, queue)
        ttls = [client.hget(f"rq:job:{job_id}", "result_ttl") for job_id in ids]
        assert ttls == [ttl, b"300"] * 2


# The script, with jobs of all kinds in one call


def new(job_id: str, queue: str = "q", *, plain: bool = True, **own: t.Any) -> NewJob:
    """A job whose fields the script knows by name, or not."""
    fields: dict[str, t.Any] = dict.fromkeys(COLUMNS if plain else ["data"], "x")
    return NewJob(id=job_id, queue=queue, fields=fields | {"tq_more": job_id}, **own)


def enqueue_many(client: Client, *jobs: NewJob) -> list[int]:
    return scripts.enqueue_many(client, [(job, f"n {job.id}") for job in jobs])


def test_jobs_of_all_kinds_are_written_in_one_step(client: Client):
    jobs = [
        new("a"),
        new("front", front=True),
        new("later", due="+60"),
        new("b"),
        new("c", plain=False),
        new("elsewhere", "r"),
        new("d"),
        new("expiring", expires="+60"),
        new("e"),
    ]
    assert enqueue_many(client, *jobs) == [1] * 9
    assert enqueue_many(client, *jobs) == [2] * 9
    assert waiting(client, "q") == ["front", "a", "b", "c", "d", "expiring", "e"]
    assert waiting(client, "r") == ["elsewhere"]
    assert client.zrange("rq:scheduled:q", 0, -1) == [b"later"]
    assert client.smembers("rq:queues") == {b"rq:queue:q", b"rq:queue:r"}
    for job in jobs:
        stored = client.hgetall(f"rq:job:{job.id}")
        assert stored[b"origin"].decode() == job.queue
        assert stored[b"tq_more"].decode() == job.id
        assert stored[b"status"] == (b"scheduled" if job.due else b"queued")
        assert (b"enqueued_at" in stored) == (not job.due)
        assert (b"tq_expires" in stored) == bool(job.expires)


@pytest.mark.parametrize("plain", [True, False], ids=["known", "named"])
def test_jobs_in_one_step_keep_their_order(client: Client, plain: bool):
    jobs = [new(f"j{number}", plain=plain) for number in range(7)]
    assert enqueue_many(client, *jobs) == [1] * 7
    assert waiting(client, "q") == [job.id for job in jobs]


def test_what_cannot_be_written_leaves_the_others(client: Client):
    client.set("rq:queue:text", "mine")
    client.set("rq:job:text", "mine")
    jobs = [new("a"), new("text"), new("b", "text"), new("b2", "text"), new("c")]
    codes = enqueue_many(client, *jobs, new("a", plain=False))
    assert codes == [1, -1, -1, -1, 1, 2]
    assert scripts.enqueue(client, new("a"), "other") == scripts.EXISTS
    assert scripts.enqueue(client, new("b", "text"), "n") == scripts.NOT_A_JOB
    assert scripts.enqueue(client, new("text"), "n") == scripts.NOT_A_JOB
    assert waiting(client, "q") == ["a", "c"]
    assert client.get("rq:queue:text") == b"mine"
    assert not client.exists("rq:job:b", "rq:job:b2")


def test_a_job_that_ended_is_replaced_in_one_step(client: Client):
    enqueue_many(client, new("a"))
    scripts.revoke(client, "a", terminate=False)
    jobs: list[tuple[NewJob, str]] = [(new("b"), "n1"), (new("a"), "n2")]
    assert scripts.enqueue_many(client, jobs) == [1, 1]
    assert client.hget("rq:job:a", "status") == b"queued"
    assert client.zcard("rq:canceled:q") == 0


def test_a_full_server_takes_none_of_them(client: Client):
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            enqueue_many(client, new("a"), new("b"))
    finally:
        client.config_set("maxmemory", 0)
    assert client.keys() == []
