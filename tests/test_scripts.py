"""Each change of a job's state, as the scripts make it on a real server."""

from __future__ import annotations

import json
import time
import typing as t
from datetime import UTC, datetime
from importlib import resources

import pytest
from redis.exceptions import OutOfMemoryError
from rq import Queue
from rq.job import Job
from rq.registry import FailedJobRegistry
from rq.serializers import JSONSerializer
from rq.utils import str_to_date, utcformat

from flask_taskqueue import broker
from flask_taskqueue.broker import scripts
from flask_taskqueue.broker.wire import Claim, Claimed, Ended, Lease, NewJob, Next

from .servers import Server, eventually

Client = t.Any

WORKER = "w.1.abc"
DAY = 86_400


def new(job_id: str = "a", queue: str = "q", **given: t.Any) -> NewJob:
    """A job as a producer writes it; ``given`` are fields unless NewJob has them."""
    own = {name: given.pop(name) for name in ("front", "due", "expires") & given.keys()}
    fields = {
        "data": b"[]",
        "tq_task": "t.x",
        "result_ttl": 100,
        "failure_ttl": 200,
    }
    return NewJob(id=job_id, queue=queue, fields={**fields, **given}, **own)


def put(client: Client, job_id: str = "a", queue: str = "q", **given: t.Any) -> None:
    """Enqueue a job."""
    nonce = f"nonce of {job_id}"
    assert scripts.enqueue(client, new(job_id, queue, **given), nonce) == 1


def ask(
    client: Client,
    number: int = 1,
    *queues: str,
    slot: str = "1",
    worker: str = WORKER,
    again: bool = False,
) -> Next:
    """Claim with the execution id of a slot's call."""
    wanted = Claim(worker, f"{worker}.{slot}.", number, 10.0, queues or ("q",))
    return scripts.claim(client, wanted, again=again)


def take(client: Client, *args: t.Any, **kwargs: t.Any) -> Lease:
    """Claim a job that is there; its lease."""
    claimed = ask(client, *args, **kwargs).job
    assert claimed is not None
    return claimed.lease


def running(
    client: Client, job_id: str = "a", queue: str = "q", **given: t.Any
) -> Lease:
    """Enqueue a job and claim it."""
    put(client, job_id, queue, **given)
    lease = take(client, 1, queue, slot=job_id)
    assert lease.id == job_id
    return lease


def end(client: Client, lease: Lease, status: str = "finished", **given: t.Any) -> int:
    """Store an end; its code."""
    ended = Ended(lease=lease, status=status, fields={}, entry={}, **given)
    codes, _ = scripts.finish(client, [ended], None)
    return codes[0]


def field(client: Client, name: str, job_id: str = "a") -> str | None:
    """A field of a job's hash."""
    value = client.hget(f"rq:job:{job_id}", name)
    return None if value is None else value.decode()


def waiting(client: Client, queue: str = "q") -> list[str]:
    """Ids in a queue, first the next."""
    return [job_id.decode() for job_id in client.lrange(f"rq:queue:{queue}", 0, -1)]


def results(client: Client, job_id: str = "a") -> list[dict[bytes, bytes]]:
    """Entries of a job's result stream."""
    return [entry for _, entry in client.xrange(f"rq:results:{job_id}")]


def error(client: Client, job_id: str = "a") -> tuple[str, str]:
    """Type and message of a job's stored error."""
    stored = json.loads(field(client, "tq_error", job_id) or "{}")
    return stored["type"], stored["message"]


def sweep(client: Client, **given: t.Any) -> t.Any:
    """A sweep with a worker's numbers."""
    return scripts.sweep(client, **{"gap": 6.0, "lease": 10.0, "most": 500, **given})


def in_time(client: Client) -> None:
    """Somebody swept just now."""
    sweep(client)


def member(lease: Lease) -> str:
    return f"{lease.id}:{lease.execution}"


def expire(client: Client, *leases: Lease, ago: float = 1.0) -> None:
    """Let leases have ended, in the order given."""
    for number, lease in enumerate(leases):
        score = time.time() + DAY - ago + number / 1000
        client.zadd(f"rq:wip:{lease.queue}", {member(lease): score})


def lease_left(client: Client, lease: Lease) -> float:
    """Seconds a lease has left."""
    return (
        float(client.zscore(f"rq:wip:{lease.queue}", member(lease))) - DAY - time.time()
    )


def test_enqueue_writes_a_hash_that_rq_reads_and_adds_to_the_end(client: Client):
    before = datetime.now(UTC)
    put(client, "a")
    put(client, "b")
    assert waiting(client) == ["a", "b"]
    job = Job.fetch("a", connection=client, serializer=JSONSerializer)
    assert job.get_status() == "queued"
    assert job.origin == "q"
    assert before <= job.created_at <= datetime.now(UTC)
    assert job.enqueued_at == job.created_at
    assert client.smembers("rq:queues") == {b"rq:queue:q"}


def test_enqueue_at_the_front(client: Client):
    put(client, "a")
    put(client, "b", front=True)
    assert waiting(client) == ["b", "a"]


def test_enqueue_repeated_with_its_nonce_writes_once(client: Client):
    put(client)
    assert scripts.enqueue(client, new(), "nonce of a") == scripts.WRITTEN_BEFORE
    assert waiting(client) == ["a"]


@pytest.mark.parametrize("state", ["queued", "scheduled", "started"])
def test_enqueue_leaves_a_job_that_has_not_ended(client: Client, state: str):
    put(client, **({"due": "+60"} if state == "scheduled" else {}))
    if state == "started":
        take(client)
    before = client.hgetall("rq:job:a")
    assert before[b"status"] == state.encode()
    assert scripts.enqueue(client, new(data=b"other"), "n2") == scripts.EXISTS
    assert client.hgetall("rq:job:a") == before


@pytest.mark.parametrize("status", ["finished", "failed", "stopped", "canceled"])
def test_enqueue_replaces_a_job_that_ended(client: Client, status: str):
    put(client, tq_headers="old")
    if status == "canceled":
        scripts.revoke(client, "a", terminate=False)
    else:
        end(client, take(client), status)
    assert scripts.enqueue(client, new(), "n2") == scripts.WRITTEN
    assert field(client, "tq_headers") is None
    assert results(client) == []
    assert client.ttl("rq:job:a") == -1
    for registry in ("finished", "failed", "canceled"):
        assert client.zcard(f"rq:{registry}:q") == 0
    assert take(client, 2).id == "a"


def test_enqueue_refuses_a_key_of_another_type(client: Client):
    client.set("rq:job:a", "mine")
    assert scripts.enqueue(client, new(), "n") == scripts.NOT_A_JOB
    assert client.get("rq:job:a") == b"mine"
    assert waiting(client) == []


def test_enqueue_with_a_due_time_goes_to_rqs_scheduled_set(client: Client):
    due = time.time() + 60.125
    put(client, due=f"{due:.6f}")
    assert waiting(client) == []
    assert client.zscore("rq:scheduled:q", "a") == pytest.approx(due, abs=1e-5)
    assert client.smembers("rq:queues") == {b"rq:queue:q"}
    assert field(client, "status") == "scheduled"
    assert float(field(client, "tq_eta") or 0) == pytest.approx(due, abs=1e-5)


def test_enqueue_with_a_due_time_in_the_past_waits_in_the_queue(client: Client):
    put(client, due="1.5")
    assert waiting(client) == ["a"]
    assert field(client, "tq_eta") == "1.500000"


def test_enqueue_publishes_only_a_new_earliest_due_time(client: Client):
    with client.pubsub() as subscription:
        subscription.subscribe("tq:wake")
        eventually(lambda: subscription.get_message(timeout=1))
        put(client, "a", due="+50")
        put(client, "b", due="+60")
        put(client, "c", due="+40")
        heard = [subscription.get_message(timeout=1)["data"] for _ in range(2)]
        assert heard == [b"q", b"q"]
        client.publish("tq:wake", "end")
        assert subscription.get_message(timeout=1)["data"] == b"end"


def test_enqueue_many_returns_a_code_for_each(client: Client):
    put(client, "b")
    jobs = [(new(job_id), f"n {job_id}") for job_id in ("a", "b", "c")]
    assert scripts.enqueue_many(client, jobs) == [1, 0, 1]
    assert scripts.enqueue_many(client, jobs) == [2, 0, 2]


def test_claim_takes_queues_in_order_and_jobs_first_in_first_out(client: Client):
    for job_id, queue in (("a", "low"), ("b", "low"), ("c", "high"), ("d", "high")):
        put(client, job_id, queue)
    order = [take(client, n, "high", "low").id for n in range(4)]
    assert order == ["c", "d", "a", "b"]
    assert ask(client, 5, "high", "low") == Next()


def test_claim_writes_who_runs_what_until_when(client: Client):
    lease = running(client)
    assert lease == Lease("q", "a", f"{WORKER}.a.1")
    assert field(client, "status") == "started"
    assert field(client, "worker_name") == WORKER
    assert field(client, "tq_execution") == lease.execution
    assert 9 < lease_left(client, lease) <= 10


def test_claim_takes_what_a_waiter_moved_first(client: Client):
    put(client, "a")
    put(client, "b")
    client.lmove("rq:queue:q", "tq:ready:q", "LEFT", "RIGHT")
    assert [take(client, 1).id, take(client, 2).id] == ["a", "b"]


def test_claim_leaves_paused_queues_alone(client: Client):
    put(client, "a", "one")
    put(client, "b", "two")
    client.sadd("tq:paused", "one")
    assert take(client, 1, "one", "two").id == "b"
    assert ask(client, 2, "one", "two") == Next(held_back=True)
    assert waiting(client, "one") == ["a"]
    client.srem("tq:paused", "one")
    assert take(client, 3, "one", "two").id == "a"


def test_claim_takes_nothing_while_rq_is_suspended(client: Client):
    put(client)
    client.set("rq:suspended", 1)
    assert ask(client) == Next(held_back=True)
    assert waiting(client) == ["a"]


def test_claim_drops_an_id_that_is_there_twice(client: Client):
    put(client)
    client.rpush("rq:queue:q", "a")
    lease = take(client, 1)
    assert ask(client, 2) == Next()
    assert lease_left(client, lease) > 9
    client.rpush("rq:queue:q", "a")
    end(client, lease)
    assert ask(client, 3) == Next()
    assert field(client, "status") == "finished"


def test_claim_drops_an_id_whose_execution_still_holds_a_lease(client: Client):
    # RQ's own requeue writes the status without a look at who runs it.
    lease = running(client)
    client.hset("rq:job:a", "status", "queued")
    client.rpush("rq:queue:q", "a")
    assert ask(client, 2, slot="2") == Next()
    assert lease_left(client, lease) > 9


def test_claim_drops_a_hundred_dead_ids_a_call_and_says_again(client: Client):
    client.rpush("rq:queue:q", *(f"gone{n}" for n in range(250)))
    put(client)
    assert ask(client, 1) == Next(again=True)
    assert len(waiting(client)) == 151
    assert ask(client, 2) == Next(again=True)
    assert take(client, 3).id == "a"


def test_claim_ends_a_job_that_has_expired(client: Client):
    put(client, expires=f"{time.time() - 1:.6f}")
    put(client, "b", expires="+60")
    answer = ask(client)
    assert isinstance(answer.job, Claimed)
    assert answer.job.lease.id == "b"
    assert [(note.kind, note.id) for note in answer.notes] == [("expired", "a")]
    assert field(client, "status") == "canceled"
    assert error(client) == ("TaskRevokedError", "expired")
    assert [entry[b"type"] for entry in results(client)] == [b"3"]


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        ("a string", "the job is not stored as a hash"),
        ({"status": "eaten"}, "the job has an unknown status"),
        ({"data": "x"}, "the job has no status"),
    ],
    ids=["string", "status", "no-status"],
)
def test_claim_sets_aside_what_is_no_job(client: Client, stored: t.Any, reason: str):
    if isinstance(stored, str):
        client.set("rq:job:a", stored)
    else:
        client.hset("rq:job:a", mapping=stored)
    client.rpush("rq:queue:q", "a")
    put(client, "b")
    answer = ask(client)
    assert answer.job is not None
    assert answer.job.lease.id == "b"
    (note,) = answer.notes
    assert (note.kind, note.id, note.reason) == ("quarantined", "a", reason)
    assert client.zscore("rq:failed:q", "a") > time.time()
    if isinstance(stored, dict):
        assert error(client) == ("DecodeError", reason)
        assert client.ttl("rq:job:a") > 0


@pytest.mark.parametrize(
    "job_id", [b"\xff\xfe", b"a\0b", b"with space", b"x" * 1001], ids=repr
)
def test_claim_sets_aside_an_id_that_nobody_can_name(client: Client, job_id: bytes):
    client.hset(b"rq:job:" + job_id, mapping={"status": "queued", "data": "[]"})
    client.rpush("rq:queue:q", job_id)
    answer = ask(client)
    assert answer.job is None
    assert [note.kind for note in answer.notes] == ["quarantined"]
    assert client.hget(b"rq:job:" + job_id, "status") == b"failed"


def test_claim_takes_a_queue_key_of_another_type_for_an_empty_queue(client: Client):
    client.set("rq:queue:bad", "x")
    put(client)
    assert take(client, 1, "bad", "q").id == "a"


def test_claim_gives_a_requeued_job_full_counts(client: Client):
    lease = running(client)
    for number in range(3):
        scripts.retry(client, lease, due="", error=b"{}")
        lease = take(client, 2 + number)
    client.hset("rq:job:a", mapping={"tq_recoveries": 2, "tq_revoked": "revoke"})
    end(client, lease, "failed")
    assert field(client, "tq_retries") == "3"
    queue = Queue("q", connection=client, serializer=JSONSerializer)
    registry = FailedJobRegistry(queue=queue, serializer=JSONSerializer)
    registry.requeue("a")
    assert field(client, "ended_at") == ""
    take(client, 9)
    for name in ("tq_retries", "tq_recoveries", "tq_revoked", "tq_error", "tq_ended"):
        assert field(client, name) is None, name
    assert client.ttl("rq:job:a") == -1


def test_a_job_requeued_as_it_was_has_a_second_life_and_a_second_result(
    client: Client,
):
    end(client, running(client), "failed")
    client.hset("rq:job:a", "status", "queued")
    client.rpush("rq:queue:q", "a")
    lease = take(client, 2)
    assert field(client, "ended_at") == ""
    end(client, lease)
    assert [entry[b"type"] for entry in results(client)] == [b"2", b"1"]


def test_claim_repeated_returns_the_job_the_lost_reply_named(client: Client):
    put(client, "a")
    put(client, "b")
    first, again = ask(client, 1).job, ask(client, 1, again=True).job
    assert first is not None
    assert again is not None
    assert again.lease == first.lease
    assert again.fields.items() >= first.fields.items()
    assert waiting(client) == ["b"]


def test_claim_repeated_takes_a_job_where_the_first_had_not_come_through(
    client: Client,
):
    put(client)
    assert take(client, 1, again=True).id == "a"


def test_finish_stores_one_end_and_claims_in_the_same_call(client: Client):
    lease = running(client)
    put(client, "b")
    wanted = Claim(WORKER, "w.", 2, 10.0, ("q",))
    ended = Ended(
        lease=lease,
        status="finished",
        fields={"tq_runtime": "0.5"},
        entry={"return_value": "x"},
    )
    codes, following = scripts.finish(client, [ended], wanted)
    assert codes == [scripts.STORED]
    assert following.job is not None
    assert following.job.lease == Lease("q", "b", "w.2")
    assert field(client, "status") == "finished"
    assert field(client, "tq_runtime") == "0.5"
    assert results(client) == [{b"type": b"1", b"return_value": b"x"}]
    assert client.zrange("rq:wip:q", 0, -1) == [b"b:w.2"]


def test_finish_repeated_after_a_lost_reply_changes_nothing(client: Client):
    lease = running(client)
    put(client, "b")
    wanted = Claim(WORKER, "w.", 2, 10.0, ("q",))
    ended = Ended(lease=lease, status="finished", fields={}, entry={})
    _, first = scripts.finish(client, [ended], wanted)
    codes, second = scripts.finish(client, [ended], wanted, again=True)
    assert codes == [scripts.STORED_BEFORE]
    assert first.job is not None
    assert second.job is not None
    assert second.job.lease == first.job.lease
    assert second.job.fields[b"data"] == first.job.fields[b"data"]
    assert len(results(client)) == 1


def test_finish_by_another_execution_is_refused(client: Client):
    lease = running(client)
    in_time(client)
    expire(client, lease)
    sweep(client)
    other = take(client, 2, worker="other")
    assert end(client, lease, "failed") == scripts.REFUSED
    assert field(client, "status") == "started"
    assert end(client, other) == scripts.STORED
    assert end(client, lease, "failed") == scripts.REFUSED
    assert field(client, "status") == "finished"
    assert len(results(client)) == 1


@pytest.mark.parametrize(
    ("status", "registry", "kind", "ttl"),
    [
        ("finished", "finished", b"1", 100),
        ("failed", "failed", b"2", 200),
        ("stopped", "failed", b"3", 200),
    ],
)
def test_finish_keeps_the_end_as_long_as_the_job_says(
    client: Client, status: str, registry: str, kind: bytes, ttl: int
):
    end(client, running(client), status)
    assert [entry[b"type"] for entry in results(client)] == [kind]
    assert client.ttl("rq:job:a") == client.ttl("rq:results:a") == ttl
    score = client.zscore(f"rq:{registry}:q", "a")
    assert score == pytest.approx(time.time() + ttl, abs=2)


@pytest.mark.parametrize(
    ("stored", "ttl"),
    [
        ("0", 60), ("59.9", 60), ("-1", -1), ("", 500), ("soon", 500), ("nan", 500),
        ("inf", 3_000_000_000), ("1e300", 3_000_000_000),
    ],
)  # fmt: skip
def test_finish_bears_any_result_ttl(client: Client, stored: str, ttl: int):
    end(client, running(client, result_ttl=stored))
    assert client.ttl("rq:job:a") == ttl
    assert client.ttl("rq:results:a") == ttl


@pytest.mark.parametrize("how", ["finished", "revoked"])
def test_what_is_kept_for_ever_is(client: Client, how: str):
    put(client, result_ttl=-1)
    if how == "revoked":
        client.expire("rq:job:a", 50)
        scripts.revoke(client, "a", terminate=False)
    else:
        scripts.retry(client, take(client), due="", error=b"{}", entry={"type": 4})
        assert client.ttl("rq:results:a") == pytest.approx(365 * DAY, abs=5)
        end(client, take(client, 2))
    assert client.ttl("rq:job:a") == client.ttl("rq:results:a") == -1
    registry = "canceled" if how == "revoked" else "finished"
    assert client.zscore(f"rq:{registry}:q", "a") == float("inf")


def test_finish_enqueues_links_once(client: Client):
    lease = running(client)
    links = [new("next"), new("later", due="+60")]
    assert end(client, lease, links=links) == 1
    assert end(client, lease, links=links) == 2
    assert waiting(client) == ["next"]
    assert client.zscore("rq:scheduled:q", "later") > time.time()


def test_finish_replaces_a_results_key_of_another_type(client: Client):
    lease = running(client)
    client.set("rq:results:a", "x")
    assert end(client, lease) == scripts.STORED
    assert len(results(client)) == 1


def test_finish_of_a_job_overwritten_meanwhile_is_told_by_the_registry(client: Client):
    lease = running(client)
    client.set("rq:job:a", "mine")
    assert end(client, lease, "failed") == scripts.STORED
    assert client.get("rq:job:a") == b"mine"
    assert client.zcard("rq:wip:q") == 0
    assert client.zscore("rq:failed:q", "a") > time.time()


def test_every_end_takes_two_expired_members_out_of_its_registry(client: Client):
    old = {f"old{n}": 1.0 + n for n in range(5)}
    client.zadd("rq:finished:q", {**old, "for ever": "+inf", "RQ for ever": -1})
    end(client, running(client))
    left = client.zrange("rq:finished:q", 0, -1)
    assert left == [b"RQ for ever", b"old2", b"old3", b"old4", b"a", b"for ever"]


def test_retry_schedules_the_next_attempt_and_keeps_the_error(client: Client):
    lease = running(client)
    due = f"{time.time() + 30:.6f}"
    assert scripts.retry(client, lease, due=due, error=b"{1}") == (1, 1)
    assert field(client, "status") == "scheduled"
    assert client.zscore("rq:scheduled:q", "a") == pytest.approx(float(due), abs=1e-5)
    assert field(client, "tq_error") == field(client, "tq_error_0") == "{1}"
    assert client.zcard("rq:wip:q") == 0
    assert results(client) == []


def test_retry_at_once_goes_to_the_end_or_the_front(client: Client):
    first, second = running(client, "a"), running(client, "b")
    put(client, "c")
    scripts.retry(client, first, due="", error=b"{}")
    scripts.retry(client, second, due="", error=b"{}", front=True)
    assert waiting(client) == ["b", "c", "a"]


def test_retry_in_another_queue_with_other_fields(client: Client):
    lease = running(client)
    scripts.retry(client, lease, due="", error=b"{}", queue="z", fields={"data": "new"})
    assert waiting(client, "z") == ["a"]
    assert (field(client, "origin"), field(client, "data")) == ("z", "new")


def test_retry_without_an_error_counts_no_attempt(client: Client):
    lease = running(client)
    assert scripts.retry(client, lease, due="", error=b"") == (1, 0)
    assert field(client, "tq_error_0") is None


def test_retry_repeated_says_so_until_somebody_claims(client: Client):
    lease = running(client)
    scripts.retry(client, lease, due="", error=b"{}")
    assert scripts.retry(client, lease, due="", error=b"{}") == (2, 1)
    assert waiting(client) == ["a"]
    take(client, 2)
    assert scripts.retry(client, lease, due="", error=b"{}") == (0, 0)
    assert field(client, "status") == "started"


def test_retry_of_a_job_revoked_meanwhile_ends_it(client: Client):
    lease = running(client)
    assert scripts.revoke(client, "a", terminate=False) == scripts.MARKED
    code, _ = scripts.retry(client, lease, due="", error=b"{1}")
    assert code == scripts.REVOKED_MEANWHILE
    assert field(client, "status") == "canceled"
    assert error(client) == ("TaskRevokedError", "revoked")
    assert field(client, "tq_error_0") == "{1}"
    assert waiting(client) == []
    assert [entry[b"type"] for entry in results(client)] == [b"3"]


def test_retry_keeps_the_errors_of_the_last_hundred_attempts(client: Client):
    lease = running(client)
    for number in range(120):
        error = json.dumps(number).encode()
        assert scripts.retry(client, lease, due="", error=error) == (1, number + 1)
        lease = take(client, number + 2)
    names = {name.decode() for name in client.hkeys("rq:job:a")}
    kept = {int(n.rpartition("_")[2]) for n in names if n.startswith("tq_error_")}
    assert kept == set(range(20, 120))
    assert field(client, "tq_error") == "119"


@pytest.mark.parametrize("stored", [None, "x"], ids=["deleted", "string"])
def test_retry_of_a_job_that_is_none_any_more_drops_it(
    client: Client, stored: str | None
):
    lease = running(client)
    client.delete("rq:job:a")
    if stored:
        client.set("rq:job:a", stored)
    assert scripts.retry(client, lease, due="", error=b"{}") == (0, 0)
    assert client.zcard("rq:wip:q") == 0
    assert waiting(client) == []


def renew(client: Client, *held: Lease, **given: t.Any) -> t.Any:
    """A renewal with a worker's numbers."""
    facts: dict[str, t.Any] = {
        "lease": 10.0, "record_ttl": 90, "record": {"state": "busy"},
        "counters": (0, 0, 0.0), "queues": ("q",), **given,
    }  # fmt: skip
    return scripts.renew(client, WORKER, held=held, **facts)


def test_renew_extends_and_revives_and_names_what_is_lost(client: Client):
    kept, expired, lost = (running(client, job_id) for job_id in "abc")
    expire(client, expired, ago=100)
    end(client, lost)
    client.zadd("rq:wip:q", {member(kept): time.time() + DAY + 1})
    answer = renew(client, kept, expired, lost)
    assert answer.lost == {lost.execution}
    assert (answer.stop, answer.unknown) == (frozenset(), ())
    for lease in (kept, expired):
        assert 9 < lease_left(client, lease) <= 10
    assert client.zcard("rq:wip:q") == 2
    assert client.exists("rq:execution:c:" + lost.execution) == 0


def test_renew_reports_what_is_to_be_stopped(client: Client):
    one, two = running(client, "a"), running(client, "b")
    scripts.revoke(client, "a", terminate=True)
    scripts.revoke(client, "b", terminate=False)
    assert renew(client, one, two).stop == {one.execution}


def test_renew_reports_leases_the_worker_did_not_name(client: Client):
    mine, forgotten = running(client, "a"), running(client, "b")
    put(client, "c")
    take(client, 1, worker=WORKER + "d")
    assert renew(client, mine).unknown == (forgotten,)


def test_renew_writes_what_rq_shows(client: Client):
    lease = running(client)
    renew(client, lease, counters=(2, 1, 0.5))
    renew(client, lease, counters=(1, 0, 0.25))
    record = client.hgetall(f"rq:worker:{WORKER}")
    assert record[b"state"] == b"busy"
    assert abs(str_to_date(record[b"last_heartbeat"]).timestamp() - time.time()) < 5
    assert record[b"successful_job_count"] == b"3"
    assert record[b"failed_job_count"] == b"1"
    assert float(record[b"total_working_time"]) == 0.75
    assert 85 < client.ttl(f"rq:worker:{WORKER}") <= 90
    key = f"rq:worker:{WORKER}".encode()
    assert client.smembers("rq:workers") == client.smembers("rq:workers:q") == {key}
    job = Job.fetch("a", connection=client, serializer=JSONSerializer)
    (execution,) = job.get_executions()
    assert execution.id == lease.execution
    assert 55 < client.ttl(f"rq:execution:{member(lease)}") <= 60
    assert 55 < client.ttl("rq:executions:a") <= 60
    end(client, lease)
    assert client.keys("rq:execution*") == []


@pytest.mark.parametrize("stored", [None, "x"], ids=["deleted", "string"])
def test_renew_makes_no_hash_of_a_job_that_is_none_any_more(
    client: Client, stored: str | None
):
    lease, other = running(client), running(client, "b")
    client.delete("rq:job:a")
    if stored:
        client.set("rq:job:a", stored)
    assert renew(client, lease, other).lost == frozenset()
    assert client.type("rq:job:a") == (b"string" if stored else b"none")
    assert lease_left(client, other) > 9


def test_release_puts_jobs_back_in_front_in_order(client: Client):
    held = [running(client, job_id) for job_id in "abc"]
    put(client, "d")
    assert scripts.release(client, held, started=False) == [1, 1, 1]
    assert waiting(client) == ["a", "b", "c", "d"]
    assert scripts.release(client, held, started=False) == [0, 0, 0]
    assert waiting(client) == ["a", "b", "c", "d"]
    assert field(client, "status") == "queued"
    assert field(client, "tq_recoveries") is None
    assert field(client, "tq_retries") is None


def test_release_ends_what_may_not_run_twice_or_was_revoked(client: Client):
    once = running(client, "a", tq_on_lost="fail")
    unstarted = running(client, "b", tq_on_lost="fail")
    revoked = running(client, "c")
    scripts.revoke(client, "c", terminate=False)
    assert scripts.release(client, [unstarted], started=False) == [1]
    assert scripts.release(client, [once, revoked], started=True) == [2, 2]
    assert waiting(client) == ["b"]
    assert error(client, "a") == ("WorkerLostError", "the worker was stopped")
    assert field(client, "status", "c") == "canceled"


def test_abandon_charges_only_what_ran(client: Client):
    ran = running(client, "a")
    put(client, "b")
    put(client, "c")
    take(client, 2, slot="a")
    other = take(client, 1, slot="other")
    found = scripts.abandon(
        client, f"{WORKER}.a.", ran=ran.execution, reason="signal 9", queues=("q",)
    )
    assert {(job.id, job.what) for job in found} == {("a", "requeued"), ("b", "given")}
    assert field(client, "tq_recoveries", "a") == "1"
    assert field(client, "tq_recoveries", "b") is None
    assert lease_left(client, other) > 9
    again = scripts.abandon(
        client, f"{WORKER}.a.", ran=ran.execution, reason="signal 9", queues=("q",)
    )
    assert again == ()


def test_abandon_ends_a_job_that_was_revoked_before_it_started(client: Client):
    running(client)
    scripts.revoke(client, "a", terminate=False)
    (job,) = scripts.abandon(client, f"{WORKER}.a.", ran="", reason="", queues=("q",))
    assert job.what == "revoked"
    assert field(client, "status") == "canceled"


def test_abandon_finds_a_job_whose_id_has_a_colon(client: Client):
    put(client, "scheduler:job")
    ran = take(client).execution
    (job,) = scripts.abandon(client, WORKER, ran=ran, reason="x", queues=("q",))
    assert (job.id, job.what) == ("scheduler:job", "requeued")


def test_sweep_gives_expired_leases_to_others_in_order(client: Client):
    held = [running(client, job_id) for job_id in "ab"]
    alive = running(client, "c")
    put(client, "d")
    in_time(client)
    expire(client, *reversed(held))
    swept = sweep(client)
    assert {(job.id, job.what) for job in swept.recovered} == {
        ("a", "requeued"), ("b", "requeued"),
    }  # fmt: skip
    assert waiting(client) == ["a", "b", "d"]
    assert field(client, "tq_recoveries") == "1"
    assert lease_left(client, alive) > 9
    assert sweep(client).recovered == ()


def lose(client: Client, times: int, **given: t.Any) -> None:
    """Lose a job's worker a number of times."""
    put(client, **given)
    in_time(client)
    for number in range(times):
        expire(client, take(client, number))
        (job,) = sweep(client).recovered
        assert job.what == "requeued"


def test_sweep_ends_a_job_over_its_cap_of_recoveries(client: Client):
    lose(client, 3)
    lease = take(client, 9)
    expire(client, lease)
    (job,) = sweep(client).recovered
    assert job.what == "failed"
    kind, message = error(client)
    assert kind == "WorkerLostError"
    assert "4 times, max_recoveries is 3" in message
    assert [entry[b"type"] for entry in results(client)] == [b"2"]
    assert end(client, lease) == scripts.REFUSED


def test_sweep_keeps_to_the_jobs_own_cap(client: Client):
    put(client, tq_max_recoveries=0)
    in_time(client)
    expire(client, take(client))
    assert [job.what for job in sweep(client).recovered] == ["failed"]


def test_sweep_forgets_recoveries_older_than_72_hours(client: Client):
    lose(client, 3)
    client.hset("rq:job:a", "tq_recovered_at", time.time() - 72 * 3600 - 1)
    expire(client, take(client, 9))
    assert [job.what for job in sweep(client).recovered] == ["requeued"]
    assert field(client, "tq_recoveries") == "1"


def test_sweep_ends_what_may_not_run_twice(client: Client):
    put(client, tq_on_lost="fail")
    in_time(client)
    expire(client, take(client))
    assert [job.what for job in sweep(client).recovered] == ["failed"]
    assert error(client) == (
        "WorkerLostError", "worker lost while the job ran: its worker is gone",
    )  # fmt: skip


def test_sweep_ends_what_was_revoked_while_it_ran(client: Client):
    lease = running(client)
    scripts.revoke(client, "a", terminate=False)
    in_time(client)
    expire(client, lease)
    assert [job.what for job in sweep(client).recovered] == ["revoked"]
    assert field(client, "status") == "canceled"


@pytest.mark.parametrize("gap", [None, -60.0, 7.0], ids=["first", "clock", "late"])
def test_sweep_after_a_gap_takes_nothing_and_extends_by_a_lease(
    client: Client, gap: float | None
):
    lease = running(client)
    expire(client, lease, ago=30)
    if gap is not None:
        client.set("tq:swept", time.time() - gap)
    assert sweep(client).recovered == ()
    assert 9 < lease_left(client, lease) <= 10
    assert sweep(client).recovered == ()
    expire(client, lease)
    assert len(sweep(client).recovered) == 1


def test_sweep_after_a_gap_does_not_extend_what_is_known_to_be_new(client: Client):
    lease, other = running(client), running(client, "b", "z")
    for one in (lease, other):
        expire(client, one, ago=-5)
    sweep(client, empty=("q",))
    assert 4 < lease_left(client, lease) <= 5
    assert lease_left(client, other) > 9


def test_sweep_after_the_clock_was_set_extends_what_is_known_to_be_new(client: Client):
    lease = running(client)
    expire(client, lease, ago=3600)
    assert sweep(client, empty=("q",)).recovered == ()
    assert 9 < lease_left(client, lease) <= 10


def test_sweep_leaves_leases_of_plain_rq_workers_alone(client: Client):
    put(client)
    take(client)
    client.zadd("rq:wip:q", {"foreign:0123": 5, "a:stale": 5, "no colon": 5})
    client.hset("rq:job:foreign", mapping={"status": "started"})
    in_time(client)
    assert sweep(client).recovered == ()
    assert client.zscore("rq:wip:q", "foreign:0123") == 5
    assert client.zscore("rq:wip:q", "a:stale") == 5


def test_sweep_says_what_else_there_is(client: Client):
    put(client, "a")
    client.lmove("rq:queue:q", "tq:ready:q", "LEFT", "RIGHT")
    put(client, "b", due="+5")
    client.sadd("tq:paused", "z")
    client.set("rq:suspended", 1)
    swept = sweep(client)
    assert swept.ready == ("q",)
    assert swept.paused == {"z"}
    assert swept.suspended
    assert 4 < (swept.next_due or 0) <= 5.001


def test_sweep_says_when_the_next_lease_ends(client: Client):
    assert sweep(client).next_lapse is None
    one, two = running(client), running(client, "b", "z")
    client.zadd("rq:wip:q", {"foreign:0123": time.time() + 3})
    expire(client, one, ago=-3)
    expire(client, two, ago=-5)
    assert 2.5 < sweep(client).next_lapse <= 3.001
    end(client, one)
    assert 4.5 < sweep(client).next_lapse <= 5.001


def test_sweep_bears_keys_of_another_type(client: Client):
    put(client)
    client.set("rq:wip:bad", "x")
    client.set("rq:scheduled:bad", "x")
    client.sadd("rq:queues", "rq:queue:bad", "no queue")
    lease = take(client)
    in_time(client)
    expire(client, lease)
    assert len(sweep(client).recovered) == 1


@pytest.mark.parametrize("how", ["sweep", "abandon", "release"])
def test_a_job_somebody_ended_under_its_worker_is_not_started_again(
    client: Client, how: str
):
    lease = running(client)
    client.hset("rq:job:a", "status", "canceled")  # RQ's cancel writes no more
    if how == "sweep":
        in_time(client)
        expire(client, lease)
        assert [job.what for job in sweep(client).recovered] == ["gone"]
    elif how == "abandon":
        ran, queues = lease.execution, ("q",)
        scripts.abandon(client, WORKER, ran=ran, reason="x", queues=queues)
    else:
        assert scripts.release(client, [lease], started=True) == [2]
    assert waiting(client) == []
    assert field(client, "status") == "canceled"


def set_due(client: Client, **dues: float) -> None:
    """Say when scheduled jobs are due, in seconds from now."""
    now = time.time()
    client.zadd("rq:scheduled:q", {job_id: now + s for job_id, s in dues.items()})


def test_promote_moves_what_is_due_in_order_of_due_time(client: Client):
    for job_id in "abcd":
        put(client, job_id, due="+60")
    set_due(client, a=-1, b=-3, c=-2, d=30)
    next_due = scripts.promote(client, ("q",), most=500)
    assert waiting(client) == ["b", "c", "a"]
    assert 29 < (next_due or 0) <= 30.001
    assert field(client, "status") == "queued"
    assert field(client, "status", "d") == "scheduled"


def test_promote_is_never_early(client: Client):
    due = time.time() + 0.2
    put(client, due=f"{due:.6f}")

    def promoted() -> bool:
        scripts.promote(client, ("q",), most=500)
        return waiting(client) != []

    eventually(promoted)
    enqueued = str_to_date(client.hget("rq:job:a", "enqueued_at"))
    assert enqueued.timestamp() >= due - 1e-6


def test_promote_moves_so_many_at_once(client: Client):
    for number in range(7):
        put(client, str(number), due="+60")
    set_due(client, **{str(n): n - 10 for n in range(7)})
    assert scripts.promote(client, ("q",), most=5) == 0
    assert waiting(client) == list("01234")
    assert scripts.promote(client, ("q",), most=5) is None
    assert waiting(client) == list("0123456")


@pytest.mark.parametrize("name", ["enqueue_at_front", "enqueue_at_front_on_retry"])
def test_promote_honours_the_front(client: Client, name: str):
    put(client, "a")
    put(client, "b", due="+60", **{name: 1})
    set_due(client, b=-1)
    scripts.promote(client, ("q",), most=500)
    assert waiting(client) == ["b", "a"]


def test_promote_keeps_a_due_id_without_a_hash_for_60_seconds(client: Client):
    # Plain RQ writes the set before the hash.
    put(client, "c", due="+60")
    set_due(client, a=-59, b=-61, c=-1)
    assert scripts.promote(client, ("q",), most=500) == 1.0
    assert client.zrange("rq:scheduled:q", 0, -1) == [b"a"]
    assert waiting(client) == ["c"]
    client.hset("rq:job:a", mapping={"status": "scheduled"})
    scripts.promote(client, ("q",), most=500)
    assert waiting(client) == ["c", "a"]


def test_promote_does_not_spin_behind_ids_without_hashes(client: Client):
    put(client, "z", due="+60")
    set_due(client, a=-3, b=-2, z=-1)
    assert scripts.promote(client, ("q",), most=2) == 1.0


def test_promote_drops_what_is_not_scheduled_any_more(client: Client):
    end(client, running(client))
    client.set("rq:job:b", "x")
    set_due(client, a=-1, b=-1)
    assert scripts.promote(client, ("q",), most=500) is None
    assert waiting(client) == []
    assert client.zscore("rq:failed:q", "b") > time.time()


@pytest.mark.parametrize("state", ["queued", "scheduled", "parked", "retry"])
def test_revoke_ends_a_job_that_waits(client: Client, state: str):
    if state == "parked":
        scripts.park(client, running(client), "t.x")
    elif state == "retry":
        scripts.retry(client, running(client), due="+60", error=b"{}")
    else:
        put(client, **({"due": "+60"} if state == "scheduled" else {}))
    assert scripts.revoke(client, "a", terminate=False) == scripts.REVOKED
    assert field(client, "status") == "canceled"
    assert error(client) == ("TaskRevokedError", "revoked")
    assert [entry[b"type"] for entry in results(client)] == [b"3"]
    assert client.zscore("rq:canceled:q", "a") > time.time()
    for key in ("rq:scheduled:q", "rq:deferred:q", "tq:parked:t.x"):
        assert client.zcard(key) == 0
    assert scripts.revoke(client, "a", terminate=True) == scripts.ENDED_BEFORE
    assert ask(client, 9) == Next()
    assert field(client, "status") == "canceled"


@pytest.mark.parametrize("terminate", [False, True])
def test_revoke_marks_a_job_that_runs(client: Client, terminate: bool):
    lease = running(client)
    with client.pubsub() as commands:
        commands.subscribe(f"rq:pubsub:{WORKER}")
        eventually(lambda: commands.get_message(timeout=1))
        assert scripts.revoke(client, "a", terminate=terminate) == scripts.MARKED
        client.publish(f"rq:pubsub:{WORKER}", "end")
        said = commands.get_message(timeout=1)["data"]
    stop = {"command": "stop-job", "job_id": "a"}
    assert (json.loads(said) == stop) if terminate else (said == b"end")
    assert field(client, "status") == "started"
    assert end(client, lease) == scripts.STORED
    assert field(client, "status") == "finished"


def test_revoke_without_terminate_does_not_take_back_one_with(client: Client):
    lease = running(client)
    scripts.revoke(client, "a", terminate=True)
    scripts.revoke(client, "a", terminate=False)
    assert renew(client, lease).stop == {lease.execution}


def test_revoke_says_what_it_cannot(client: Client):
    assert scripts.revoke(client, "a", terminate=False) == scripts.NO_JOB
    client.set("rq:job:a", "x")
    assert scripts.revoke(client, "a", terminate=False) == scripts.NOT_A_JOB


def test_revoke_holds_for_a_job_that_was_parked_after_it(client: Client):
    lease = running(client)
    scripts.revoke(client, "a", terminate=False)
    scripts.park(client, lease, "t.x")
    scripts.unpark(client, "t.x", most=10, queues=("q",))
    answer = ask(client, 2)
    assert answer.job is None
    assert [(note.kind, note.id) for note in answer.notes] == [("revoked", "a")]
    assert field(client, "status") == "canceled"


def test_park_sets_aside_and_unpark_puts_back_where_it_is_served(client: Client):
    one, two = running(client, "a"), running(client, "b", "z")
    for lease in (one, two):
        assert scripts.park(client, lease, "t.x")
        assert not scripts.park(client, lease, "t.x")
    assert field(client, "status") == "deferred"
    assert client.zcard("rq:deferred:q") == 1
    assert sweep(client).parked == ("t.x",)
    assert scripts.unpark(client, "t.x", most=10, queues=("q",)) == 1
    # Where no waiter of a worker that does not know the task sees it.
    assert client.lrange("tq:ready:q", 0, -1) == [b"a"]
    assert waiting(client) == []
    assert take(client, 2).id == "a"
    assert client.zcard("rq:deferred:q") == 0
    assert scripts.unpark(client, "t.x", most=10, queues=("q",)) == 0
    assert sweep(client).parked == ("t.x",)
    assert scripts.unpark(client, "t.x", most=10, queues=("z",)) == 1
    assert sweep(client).parked == ()
    assert client.keys("tq:parked*") == []


def test_unpark_forgets_what_is_not_parked_any_more(client: Client):
    client.zadd("tq:parked:t.x", {"gone": 1})
    client.sadd("tq:parked", "t.x")
    assert scripts.unpark(client, "t.x", most=10, queues=("q",)) == 0
    assert client.keys("tq:parked*") == []


def test_park_of_a_job_that_is_none_any_more_drops_it(client: Client):
    lease = running(client)
    client.delete("rq:job:a")
    assert not scripts.park(client, lease, "t.x")
    assert client.keys("rq:wip*") == client.keys("rq:job:*") == []


@pytest.mark.parametrize("status", ["finished", "failed", "canceled"])
def test_forget_leaves_a_hash_for_60_seconds_and_no_result(client: Client, status: str):
    if status == "canceled":
        put(client)
        scripts.revoke(client, "a", terminate=False)
    else:
        end(client, running(client), status)
    assert scripts.forget(client, "a") == 1
    assert results(client) == []
    assert client.keys(f"rq:{status}:q") == []
    assert 55 < client.ttl("rq:job:a") <= 60
    assert scripts.forget(client, "a") == 0
    assert scripts.revoke(client, "a", terminate=False) == scripts.NO_JOB


def test_forget_lets_a_job_run_and_end_unseen(client: Client):
    put(client)
    assert scripts.forget(client, "a") == 1
    lease = take(client)
    assert end(client, lease) == scripts.STORED
    assert client.ttl("rq:job:a") == client.ttl("rq:results:a") == 60


def test_forget_lets_a_job_that_runs_end_unseen(client: Client):
    lease = running(client)
    assert scripts.forget(client, "a") == 1
    told = {"worker": WORKER, "kind": 1, "seconds": "0.1", "began": "1", "ended": "2"}
    assert end(client, lease, **told) == scripts.STORED
    assert client.ttl("rq:job:a") == client.ttl("rq:results:a") == 60


def test_forget_says_what_it_cannot(client: Client):
    assert scripts.forget(client, "a") == 0
    client.set("rq:job:a", "x")
    assert scripts.forget(client, "a") == scripts.NOT_A_JOB


def test_progress_is_written_only_under_the_lease(client: Client):
    lease = running(client)
    assert scripts.progress(client, lease, {"tq_state": "HALF"})
    assert field(client, "tq_state") == "HALF"
    end(client, lease)
    assert not scripts.progress(client, lease, {"tq_state": "MORE"})
    assert field(client, "tq_state") == "HALF"
    assert client.ttl("rq:job:a") > 0


def test_progress_does_not_outlive_its_execution(client: Client):
    for lease in (running(client, "a"), running(client, "b")):
        scripts.progress(client, lease, {"tq_state": "HALF", "tq_info": "1"})
        if lease.id == "a":
            scripts.retry(client, lease, due="", error=b"{}")
        else:
            scripts.release(client, [lease], started=False)
        assert field(client, "tq_state", lease.id) is None
        assert field(client, "tq_info", lease.id) is None


def test_prune_takes_out_what_expired_once_a_minute(client: Client):
    put(client)
    for registry in ("finished", "failed", "canceled"):
        client.zadd(f"rq:{registry}:q", {"old": 1, "kept": time.time() + 60})
    client.sadd("rq:workers", "rq:worker:gone", "rq:worker:here")
    client.sadd("rq:workers:q", "rq:worker:gone", "rq:worker:here")
    client.hset("rq:worker:here", "state", "idle")
    client.zadd("tq:parked:t.x", {"gone": 1})
    client.sadd("tq:parked", "t.x")
    assert scripts.prune(client, most=100) == (3 + 2 + 1, ())
    for registry in ("finished", "failed", "canceled"):
        assert client.zrange(f"rq:{registry}:q", 0, -1) == [b"kept"]
    assert client.smembers("rq:workers") == {b"rq:worker:here"}
    assert client.smembers("rq:workers:q") == {b"rq:worker:here"}
    assert client.keys("tq:parked*") == []
    assert scripts.prune(client, most=100) == (-1, ())
    assert 55 < client.ttl("tq:pruned") <= 60


def test_prune_goes_on_soon_where_one_call_was_not_enough(client: Client):
    put(client)
    client.zadd("rq:finished:q", {f"old-{number}": 1 for number in range(15)})
    assert scripts.prune(client, most=10) == (10, ())
    eventually(lambda: scripts.prune(client, most=10) == (5, ()))
    assert 55 < client.ttl("tq:pruned") <= 60


def defer(client: Client, count: int, parent: str = "a", **fields: t.Any) -> list[str]:
    """Jobs that wait for a parent, as RQ writes them."""
    ids = [f"d{n}" for n in range(count)]
    for job_id in ids:
        mapping = {"status": "deferred", "origin": "q", "data": "[]", **fields}
        client.hset(f"rq:job:{job_id}", mapping=mapping)
        client.sadd(f"rq:job:{parent}:dependents", job_id)
        client.sadd(f"rq:job::{job_id}:dependencies", parent)
        client.zadd("rq:deferred:q", {job_id: time.time()})
    return ids


def test_dependents_start_when_their_parent_ends_many_in_steps(client: Client):
    lease = running(client)
    ids = defer(client, 350)
    end(client, lease)
    first = len(waiting(client))
    assert 100 <= first < 350
    assert client.hlen("tq:followups") == 1

    def rest() -> bool:
        sweep(client)
        return client.exists("tq:followups") == 0

    eventually(rest)
    assert sorted(waiting(client)) == sorted(ids)
    assert client.zcard("rq:deferred:q") == 0
    assert client.exists("rq:job:a:dependents") == 0


def test_dependents_that_may_not_start_are_looked_at_once(client: Client):
    lease = running(client)
    defer(client, 350)
    end(client, lease, "failed")

    def done() -> bool:
        sweep(client)
        return client.exists("tq:followups") == 0

    eventually(done)
    assert waiting(client) == []
    assert client.zcard("rq:deferred:q") == 350


@pytest.mark.parametrize(
    ("status", "allowed", "starts"),
    [
        ("finished", "", True),
        ("failed", "", False),
        ("failed", "1", True),
        ("stopped", "1", False),
    ],
)
def test_dependents_follow_rqs_rules(
    client: Client, status: str, allowed: str, starts: bool
):
    lease = running(client)
    defer(client, 1, allow_dependency_failures=allowed)
    end(client, lease, status)
    assert (waiting(client) == ["d0"]) is starts


def test_dependents_wait_for_every_parent(client: Client):
    one, two = running(client, "a"), running(client, "b")
    defer(client, 1)
    client.sadd("rq:job:b:dependents", "d0")
    client.sadd("rq:job::d0:dependencies", "b")
    end(client, one)
    assert waiting(client) == []
    end(client, two)
    assert waiting(client) == ["d0"]


def test_what_is_known_of_relations_goes_with_the_job(client: Client):
    lease = running(client)
    defer(client, 1)
    end(client, lease, "failed")
    assert client.ttl("rq:job:a:dependents") == client.ttl("rq:job:a") == 200
    child = running(client, "d0x")
    client.sadd("rq:job::d0x:dependencies", "a")
    end(client, child)
    assert client.ttl("rq:job::d0x:dependencies") == 100


# Why a key may have no TTL when every job has ended.
STAYS = {
    b"rq:queues": "RQ's set of queues",
    b"rq:workers": "RQ's set of workers: emptied by prune",
    b"rq:workers:q": "the same",
    b"rq:finished:q": "registries: emptied by ends and by prune",
    b"rq:failed:q": "the same",
    b"rq:canceled:q": "the same",
    b"tq:swept": "one key, for ever",
}


def test_nothing_without_an_owner_is_left_when_all_jobs_have_ended(client: Client):
    end(client, running(client, "ok"))
    end(client, running(client, "bad"), "failed")
    end(client, running(client, "stopped"), "stopped")
    put(client, "expired", expires="1")
    assert [note.kind for note in ask(client).notes] == ["expired"]
    put(client, "late", due="+60")
    scripts.revoke(client, "late", terminate=False)
    lease = running(client, "retried")
    renew(client, lease)
    scripts.retry(client, lease, due="+60", error=b"{}", entry={"type": 4})
    set_due(client, retried=-1)
    scripts.promote(client, ("q",), most=500)
    end(client, take(client, 2))
    lease = running(client, "parked")
    scripts.park(client, lease, "t.x")
    scripts.unpark(client, "t.x", most=10, queues=("q",))
    end(client, take(client, 3), links=[new("link")])
    lease = take(client, 4)
    in_time(client)
    expire(client, lease)
    sweep(client)
    lease = take(client, 5)
    scripts.release(client, [lease], started=True)
    lease = take(client, 6)
    renew(client, lease)
    scripts.abandon(client, WORKER, ran=lease.execution, reason="x", queues=("q",))
    end(client, take(client, 7))
    put(client, "forgotten")
    scripts.forget(client, "forgotten")
    end(client, take(client, 8))
    lease = running(client, "parent")
    defer(client, 2)
    client.rename("rq:job:a:dependents", "rq:job:parent:dependents")
    end(client, lease)
    for number in (9, 10):
        end(client, take(client, number))
    scripts.prune(client, most=100)
    assert waiting(client) == []
    left = {key for key in client.scan_iter() if client.ttl(key) == -1}
    assert left <= STAYS.keys()


def test_every_end_adds_one_entry(client: Client):
    put(client, "revoked")
    scripts.revoke(client, "revoked", terminate=False)
    lease = running(client, "twice")
    scripts.retry(client, lease, due="", error=b"{}")
    end(client, take(client, 2))
    put(client, "lost", tq_on_lost="fail")
    lease = take(client, 3)
    in_time(client)
    expire(client, lease)
    sweep(client)
    end(client, lease)
    for job_id in ("revoked", "twice", "lost"):
        assert len(results(client, job_id)) == 1, job_id


@pytest.mark.parametrize(
    "instant",
    [
        0.0, 0.5, 951_782_400.0, 951_868_799.75, 1_709_164_800.25, 1_735_689_599.5,
        1_767_225_600.0, 2_147_483_648.125, 4_107_542_400.0, 253_402_300_799.0,
    ],
    ids=lambda instant: datetime.fromtimestamp(instant, UTC).isoformat(),
)  # fmt: skip
def test_stamps_are_rqs(client: Client, instant: float):
    clock = (resources.files(broker) / "lua" / "lib" / "clock.lua").read_text()
    stamp = client.eval(f"{clock}\nreturn stamp(tonumber(ARGV[1]))", 0, instant)
    assert stamp.decode() == utcformat(datetime.fromtimestamp(instant, UTC))


def test_scripts_come_back_after_a_flush_of_scripts(client: Client):
    put(client)
    client.script_flush()
    lease = take(client)
    client.script_flush()
    assert scripts.enqueue_many(client, [(new("b"), "n"), (new("c"), "m")]) == [1, 1]
    client.script_flush()
    assert end(client, lease) == scripts.STORED


def test_a_full_server_lets_jobs_drain_and_takes_no_new_ones(own_server: Server):
    client: Client = own_server.client()
    with client:
        ok, again, back, lost = (running(client, job_id) for job_id in "abcd")
        put(client, "later", due="+60")
        put(client, "waiting")
        in_time(client)
        set_due(client, later=-1)
        expire(client, lost)
        client.config_set("maxmemory", 1)
        with pytest.raises(OutOfMemoryError):
            scripts.enqueue(client, new("x"), "n")
        assert end(client, ok) == scripts.STORED
        assert scripts.retry(client, again, due="", error=b"{}") == (1, 1)
        assert renew(client, back).lost == frozenset()
        assert scripts.release(client, [back], started=True) == [1]
        assert [job.id for job in sweep(client).recovered] == ["d"]
        assert scripts.progress(client, take(client, 2), {"tq_state": "X"})
        assert waiting(client)[-2:] == ["b", "later"]
