"""Several jobs claimed by one call and stored by one, as the scripts do it."""

from __future__ import annotations

import time
import typing as t

import pytest
from redis.exceptions import NoScriptError, ResponseError

from flask_taskqueue.broker import scripts
from flask_taskqueue.broker.exchange import Exchange
from flask_taskqueue.broker.wire import Argument, Claim, Ended, Lease, NewJob, Next
from flask_taskqueue.worker import outcome

Client = t.Any

WORKER = "w.1.abc"
PREFIX = f"{WORKER}.1."
MOST = 16
DAY = 86_400


def put(client: Client, *job_ids: str, queue: str = "q", **given: t.Any) -> None:
    """Enqueue jobs of a task."""
    own = {name: given.pop(name) for name in ("front", "due", "expires") & given.keys()}
    fields = {"data": b"[]", "tq_task": "t.x", "result_ttl": 100, "failure_ttl": 200}
    for job_id in job_ids:
        job = NewJob(id=job_id, queue=queue, fields={**fields, **given}, **own)
        assert scripts.enqueue(client, job, f"nonce of {job_id}") == scripts.WRITTEN


def put_plain(client: Client, job_id: str, queue: str = "q") -> None:
    """A job as plain rq writes it: no task is named."""
    client.hset(f"rq:job:{job_id}", mapping={"status": "queued", "data": "x"})
    client.rpush(f"rq:queue:{queue}", job_id)


def wanted(
    first: int = 1,
    most: int = MOST,
    queues: t.Sequence[str] = ("q",),
    slot: str = "1",
    *,
    ahead: bool = False,
) -> Claim:
    prefix = f"{WORKER}.{slot}."
    return Claim(WORKER, prefix, first, 10.0, tuple(queues), most, ahead)


def ids(following: Next) -> list[str]:
    return [claimed.lease.id for claimed in following.jobs]


def taken(client: Client, *args: t.Any, **kwargs: t.Any) -> list[Lease]:
    """Claim, and nothing is to be told of it; the leases."""
    following = scripts.claim(client, wanted(*args, **kwargs))
    assert following.notes == ()
    return [claimed.lease for claimed in following.jobs]


def ended(lease: Lease, status: str = "finished", **given: t.Any) -> Ended:
    fields: dict[str, Argument] = {"tq_runtime": "0.001"}
    return Ended(lease=lease, status=status, fields=fields, entry={}, **given)


def field(client: Client, name: str, job_id: str) -> str | None:
    """A field of a job's hash."""
    value = client.hget(f"rq:job:{job_id}", name)
    return None if value is None else value.decode()


def of_all(client: Client, name: str, job_ids: t.Iterable[str]) -> list[str | None]:
    return [field(client, name, job_id) for job_id in job_ids]


def waiting(client: Client, key: str = "rq:queue:q") -> list[str]:
    """Ids in a list, first the next."""
    return [job_id.decode() for job_id in client.lrange(key, 0, -1)]


def held(client: Client, queue: str = "q") -> set[str]:
    """Ids of the jobs that have a lease."""
    members = client.zrange(f"rq:wip:{queue}", 0, -1)
    return {member.decode().rpartition(":")[0] for member in members}


def lapse(client: Client, *leases: Lease) -> None:
    """Let leases have ended, and somebody sweep who has swept just now."""
    sweep(client)
    for lease in leases:
        member = f"{lease.id}:{lease.execution}"
        client.zadd(f"rq:wip:{lease.queue}", {member: time.time() + DAY - 1})


def sweep(client: Client) -> dict[str, str]:
    """What a sweep recovers, and what became of it."""
    swept = scripts.sweep(client, gap=6.0, lease=10.0, most=500)
    return {job.id: job.what for job in swept.recovered}


def test_a_claim_gets_so_many_in_order_of_the_first_queue_that_has_some(client: Client):
    put(client, *"abcd", queue="low")
    put(client, "x", "y", queue="high")
    queues = ("high", "low")
    first = taken(client, 1, 3, queues)
    assert [lease[:2] for lease in first] == [("high", "x"), ("high", "y")]
    second = taken(client, 4, 3, queues)
    assert [lease[:2] for lease in second] == [("low", "a"), ("low", "b"), ("low", "c")]
    assert waiting(client, "rq:queue:low") == ["d"]
    put(client, "z", queue="high")
    assert [lease.id for lease in taken(client, 7, 3, queues)] == ["z"]


def test_a_claim_first_gets_what_waiters_moved(client: Client):
    put(client, *"abcd")
    for _ in range(2):
        client.lmove("rq:queue:q", "tq:ready:q", "LEFT", "RIGHT")
    assert [lease.id for lease in taken(client, 1)] == ["a", "b"]
    assert [lease.id for lease in taken(client, 17)] == ["c", "d"]


def test_each_of_a_claim_has_an_execution_and_a_lease(client: Client):
    put(client, *"abc")
    first, *_ = leases = taken(client, 5)
    assert leases == [Lease("q", job_id, f"{PREFIX}{5 + n}") for n, job_id in
                      enumerate("abc")]  # fmt: skip
    assert of_all(client, "tq_execution", "abc") == [x.execution for x in leases]
    assert of_all(client, "status", "abc") == ["started"] * 3
    assert of_all(client, "worker_name", "abc") == [WORKER] * 3
    ends = dict(client.zrange("rq:wip:q", 0, -1, withscores=True))
    assert len(ends) == 3
    for end in ends.values():
        assert 9 < end - DAY - time.time() <= 10


def test_only_the_first_of_a_claim_is_written_as_started(client: Client):
    put(client, *"abc")
    taken(client)
    assert [bool(at) for at in of_all(client, "started_at", "abc")] == [
        True, False, False,
    ]  # fmt: skip


def test_one_that_is_begun_later_is_written_then(client: Client):
    put(client, *"abc")
    first, second, third = taken(client)
    before = field(client, "started_at", "a")
    assert scripts.begun(client, second, 2.5)
    assert scripts.begun(client, second, 2.5), "it may be repeated"
    started = field(client, "started_at", "b")
    assert started is not None
    assert before is not None
    assert started < before, "2.5 s ago"
    assert field(client, "started_at", "c") == ""

    scripts.release(client, [third], started=False)
    assert not scripts.begun(client, third, 1.0)
    assert field(client, "started_at", "c") == ""
    client.set("rq:job:b", "something else")
    assert not scripts.begun(client, second, 1.0)
    assert scripts.begun(client, first, 0.0)


def put_after_a_loss(client: Client, job_id: str) -> None:
    put(client, job_id, tq_recoveries=1)


def put_for_once(client: Client, job_id: str) -> None:
    put(client, job_id, tq_on_lost="fail")


@pytest.mark.parametrize("source", ["rq:queue:q", "tq:ready:q"])
@pytest.mark.parametrize(
    "put_one",
    [put_after_a_loss, put_for_once, put_plain],
    ids=["recovered", "at-most-once", "plain-rq"],
)
def test_what_is_not_to_take_others_with_it_is_claimed_alone(
    client: Client, put_one: t.Callable[[Client, str], None], source: str
):
    put(client, "a", "b")
    put_one(client, "alone")
    put(client, "c")
    put_one(client, "alone2")
    put(client, "d")
    if source != "rq:queue:q":
        client.rename("rq:queue:q", source)
    assert ids(scripts.claim(client, wanted(1))) == ["a", "b"]
    assert waiting(client, source) == ["alone", "c", "alone2", "d"]
    assert ids(scripts.claim(client, wanted(17))) == ["alone"]
    assert waiting(client, source) == ["c", "alone2", "d"]
    assert ids(scripts.claim(client, wanted(33))) == ["c"]
    assert ids(scripts.claim(client, wanted(49))) == ["alone2"]
    assert ids(scripts.claim(client, wanted(65))) == ["d"]
    assert held(client) == {"a", "b", "alone", "c", "alone2", "d"}


def test_a_job_without_a_recovery_is_not_alone(client: Client):
    put(client, "a", tq_recoveries=0)
    put(client, "b", tq_on_lost="recover")
    put(client, "c")
    assert [lease.id for lease in taken(client)] == ["a", "b", "c"]


def test_a_job_that_ended_and_was_requeued_is_alone_once_more_at_most(client: Client):
    """Its recoveries were those of its life before."""
    put(client, "a", tq_recoveries=2, tq_ended=1)
    put(client, "b")
    assert ids(scripts.claim(client, wanted(1))) == ["a"]
    assert field(client, "tq_recoveries", "a") is None


def test_what_may_not_run_is_dropped_and_the_others_keep_their_order(client: Client):
    put(client, "a")
    client.rpush("rq:queue:q", "gone", "a")
    put(client, "expired", expires=f"{time.time() - 1:.6f}")
    put(client, "b")
    put(client, "revoked")
    scripts.revoke(client, "revoked", terminate=False)
    client.rpush("rq:queue:q", "string", "b", "has space")
    client.set("rq:job:string", "no hash")
    client.hset("rq:job:has space", mapping={"status": "queued", "tq_task": "t"})
    put(client, "c")
    client.hset("rq:job:over", mapping={"status": "finished", "tq_task": "t"})
    client.rpush("rq:queue:q", "over")
    put(client, "d")

    following = scripts.claim(client, wanted())
    assert ids(following) == ["a", "b", "c", "d"]
    executions = [claimed.lease.execution for claimed in following.jobs]
    assert executions == [f"{PREFIX}{n}" for n in range(1, 5)]
    assert [(note.kind, note.id) for note in following.notes] == [
        ("expired", "expired"), ("quarantined", "string"), ("quarantined", "has space"),
    ]  # fmt: skip
    assert held(client) == {"a", "b", "c", "d"}
    assert waiting(client) == []


def test_where_the_first_ones_may_not_run_a_claim_gets_the_next(client: Client):
    client.rpush("rq:queue:q", *(f"gone{n}" for n in range(40)))
    put(client, *"abcdef")
    # 40 dead ones are ten times four.
    assert [lease.id for lease in taken(client, 1, 4)] == ["a", "b", "c", "d"]
    client.rpush("rq:queue:q", *(f"gone{n}" for n in range(200)))
    assert [lease.id for lease in taken(client, 5, 4)] == ["e", "f"]
    assert scripts.claim(client, wanted(9, 4)) == Next(again=True)


def test_a_claim_repeated_after_a_lost_reply_gets_the_same_again(client: Client):
    put(client, *"abcde")
    put_plain(client, "plain")
    first = scripts.claim(client, wanted(1, 4))
    assert ids(first) == ["a", "b", "c", "d"]
    again = scripts.claim(client, wanted(1, 4), again=True)
    assert [claimed.lease for claimed in again.jobs] == [x.lease for x in first.jobs]
    assert again.jobs[3].fields[b"tq_execution"] == f"{PREFIX}4".encode()
    assert waiting(client) == ["e", "plain"]

    # What somebody else has by now is not returned; nor is what another call claimed.
    scripts.release(client, [first.jobs[1].lease], started=False)
    other = taken(client, 5, 1)
    assert [lease.id for lease in other] == ["b"]
    again = scripts.claim(client, wanted(1, 4), again=True)
    assert ids(again) == ["a", "c", "d"]
    assert ids(scripts.claim(client, wanted(6, 1), again=True)) == ["e"]
    assert ids(scripts.claim(client, wanted(7, 4), again=True)) == ["plain"]
    assert ids(scripts.claim(client, wanted(7, 4), again=True)) == ["plain"]


def test_twelve_and_more_keep_their_order_when_the_claim_is_repeated(client: Client):
    """By number, not as text."""
    put(client, *(f"j{n:02}" for n in range(MOST)))
    first = ids(scripts.claim(client, wanted(95)))
    assert first == sorted(first)
    assert ids(scripts.claim(client, wanted(95), again=True)) == first


def test_several_ends_and_the_next_claim_are_one_call(client: Client):
    put(client, *"abcdef")
    leases = taken(client, 1, 3)
    ends = [ended(leases[0]), ended(leases[1], "failed"), ended(leases[2])]
    codes, following = scripts.finish(client, ends, wanted(4, 2))
    assert codes == [scripts.STORED] * 3
    assert ids(following) == ["d", "e"]
    assert of_all(client, "status", "abc") == ["finished", "failed", "finished"]
    for job_id, kind in zip("abc", (b"1", b"2", b"1"), strict=True):
        ((_, entry),) = client.xrange(f"rq:results:{job_id}")
        assert entry == {b"type": kind}
    assert set(client.zrange("rq:finished:q", 0, -1)) == {b"a", b"c"}
    assert client.zrange("rq:failed:q", 0, -1) == [b"b"]
    assert held(client) == {"d", "e"}
    assert 99 <= client.ttl("rq:job:a") <= 100
    assert 199 <= client.ttl("rq:job:b") <= 200

    # Its reply was lost.
    codes, again = scripts.finish(client, ends, wanted(4, 2), again=True)
    assert codes == [scripts.STORED_BEFORE] * 3
    assert ids(again) == ids(following)
    assert client.xlen("rq:results:a") == 1
    assert waiting(client) == ["f"]


def test_ends_of_several_queues_are_one_call(client: Client):
    put(client, "a", "b", queue="one")
    put(client, "c", "d", queue="two")
    one = taken(client, 1, queues=("one",))
    two = taken(client, 17, queues=("two",))
    mixed = [one[0], two[1], one[1], two[0]]
    scripts.release(client, [two[1]], started=False)
    codes, _ = scripts.finish(client, [ended(lease) for lease in mixed], None)
    assert codes == [1, 0, 1, 1]
    assert of_all(client, "status", "abcd") == [
        "finished", "finished", "finished", "queued",
    ]  # fmt: skip
    assert set(client.zrange("rq:finished:one", 0, -1)) == {b"a", b"b"}
    assert client.zrange("rq:finished:two", 0, -1) == [b"c"]


def test_a_refused_end_changes_nothing_and_does_not_touch_the_others(client: Client):
    put(client, *"abc")
    old = taken(client)
    lapse(client, old[1])
    assert sweep(client) == {"b": "given"}
    (new,) = taken(client, 1, slot="other")
    assert new.id == "b"
    link = NewJob(id="linked", queue="q", fields={"data": b"", "tq_task": "t.x"})
    refused = ended(old[1], links=[link])
    codes, _ = scripts.finish(client, [ended(old[0]), refused, ended(old[2])], None)
    assert codes == [scripts.STORED, scripts.REFUSED, scripts.STORED]
    assert of_all(client, "status", "abc") == ["finished", "started", "finished"]
    assert not client.exists("rq:results:b", "rq:job:linked")
    assert client.zrange("rq:finished:q", 0, -1) == [b"a", b"c"]
    assert scripts.finish(client, [ended(new)], None)[0] == [scripts.STORED]


def test_links_of_several_ends_are_enqueued_once(client: Client):
    put(client, *"abc")
    leases = taken(client)
    ends = []
    for lease in leases:
        fields: dict[str, Argument] = {"data": b"", "tq_task": "t.x"}
        ends.append(ended(lease, links=[NewJob(id=f"after-{lease.id}", queue="q",
                                               fields=fields)]))  # fmt: skip
    for _ in range(2):
        scripts.finish(client, ends, None)
    assert waiting(client) == ["after-a", "after-b", "after-c"]


@pytest.mark.parametrize(
    "key",
    [
        "rq:job:b",
        "rq:results:b",
        "rq:job:b:dependents",
        "rq:execution:b:" + PREFIX + "2",
        "rq:executions:b",
    ],
)
def test_a_key_of_another_type_harms_no_neighbour(client: Client, key: str):
    """Somebody overwrote what belongs to one of them."""
    put(client, *"abc")
    leases = taken(client)
    client.hset("rq:job:waits", mapping={"status": "deferred", "origin": "q"})
    client.sadd("rq:job:c:dependents", "waits")
    client.sadd("rq:job::waits:dependencies", "c")
    client.delete(key)
    client.set(key, "something else")
    fields: dict[str, Argument] = {"data": b"", "tq_task": "t.x"}
    links = [NewJob(id="linked", queue="q", fields=fields)]
    ends = [ended(leases[0]), ended(leases[1]), ended(leases[2], links=links)]
    codes, _ = scripts.finish(client, ends, None)
    assert codes == [scripts.STORED] * 3
    assert of_all(client, "status", "ac") == ["finished", "finished"]
    assert client.xlen("rq:results:a") == client.xlen("rq:results:c") == 1
    assert waiting(client) == ["waits", "linked"]
    assert held(client) == set()


@pytest.mark.parametrize("broken", ["one", "two"])
def test_where_one_cannot_be_stored_none_is_and_each_can_be_by_itself(
    client: Client, broken: str
):
    other = "two" if broken == "one" else "one"
    for queue in ("one", "two"):
        put(client, f"a-{queue}", f"b-{queue}", queue=queue)
    leases = taken(client, 1, queues=("one",)) + taken(client, 17, queues=("two",))
    client.set(f"rq:wip:{broken}", "something else")
    ends = [ended(lease) for lease in leases]
    with pytest.raises(ResponseError):
        scripts.finish(client, ends, None)
    assert held(client, other) == {f"a-{other}", f"b-{other}"}
    outcome.store_rows(client, [end.argv() for end in ends])
    assert of_all(client, "status", [f"a-{other}", f"b-{other}"]) == ["finished"] * 2
    assert of_all(client, "status", [f"a-{broken}", f"b-{broken}"]) == ["started"] * 2


def test_what_depends_on_several_of_a_batch_waits_for_the_last(client: Client):
    put(client, *"abc")
    leases = taken(client)
    client.hset("rq:job:waits", mapping={"status": "deferred", "origin": "q"})
    for parent in "abc":
        client.sadd(f"rq:job:{parent}:dependents", "waits")
        client.sadd("rq:job::waits:dependencies", parent)
    scripts.finish(client, [ended(leases[0]), ended(leases[2])], None)
    assert waiting(client) == []
    scripts.finish(client, [ended(leases[1])], None)
    assert waiting(client) == ["waits"]


def test_ends_and_a_claim_are_sent_and_answered_later(client: Client):
    put(client, *"abcd")
    exchange = Exchange.of(client)
    leases = taken(client, 1, 2)
    rows = [ended(lease).argv() for lease in leases]
    client.script_flush()
    scripts.finish_sending(exchange, rows, wanted(3, 1, ahead=True))
    with pytest.raises(NoScriptError):
        scripts.finish_received(exchange)
    assert of_all(client, "status", "abcd") == ["started"] * 2 + ["queued"] * 2

    assert scripts.finish_rows(exchange, rows[:1], None) == ([scripts.STORED], Next())
    scripts.finish_sending(exchange, rows, wanted(4, 1, ahead=True))
    codes, following = scripts.finish_received(exchange)
    assert codes == [scripts.STORED_BEFORE, scripts.STORED]
    assert ids(following) == ["c"]
    assert of_all(client, "status", "abcd") == [
        "finished", "finished", "started", "queued",
    ]  # fmt: skip
    # A reply is nobody else's.
    assert ids(scripts.claim(exchange, wanted(5))) == ["d"]
    client.connection_pool.release(exchange.connection)


def test_none_of_a_claim_made_while_others_run_is_written_as_started(client: Client):
    put(client, *"ab")
    leases = taken(client, ahead=True)
    assert of_all(client, "started_at", "ab") == ["", ""]
    assert scripts.begun(client, leases[0], 0.5)
    lapse(client, *leases)
    assert sweep(client) == {"a": "requeued", "b": "given"}


@pytest.mark.parametrize("source", ["rq:queue:q", "tq:ready:q"])
@pytest.mark.parametrize(
    "put_one",
    [put_after_a_loss, put_for_once, put_plain],
    ids=["recovered", "at-most-once", "plain-rq"],
)
def test_what_is_claimed_alone_is_not_claimed_while_others_run(
    client: Client, put_one: t.Callable[[Client, str], None], source: str
):
    """Its start would not be written, and be forgotten with its worker."""
    put(client, "a")
    put_one(client, "alone")
    put(client, "b")
    if source != "rq:queue:q":
        client.rename("rq:queue:q", source)
    assert ids(scripts.claim(client, wanted(1, ahead=True))) == ["a"]
    assert scripts.claim(client, wanted(17, ahead=True)) == Next(again=True)
    assert scripts.claim(client, wanted(33, ahead=True)) == Next(again=True)
    assert waiting(client, source) == ["alone", "b"]
    assert ids(scripts.claim(client, wanted(49))) == ["alone"]
    assert field(client, "started_at", "alone")
    assert ids(scripts.claim(client, wanted(65, ahead=True))) == ["b"]


def test_a_killed_jobs_hooks_are_for_a_slot_that_runs_nothing(client: Client):
    put(client, "killed", tq_on_lost="fail")
    (lease,) = taken(client)
    lapse(client, lease)
    assert sweep(client) == {"killed": "failed"}
    put(client, "a")
    assert scripts.claim(client, wanted(17, ahead=True)) == Next(again=True)
    following = scripts.claim(client, wanted(33))
    assert [(note.kind, note.id) for note in following.notes] == [
        ("aftermath", "killed")
    ]
    # Somebody sees to them: others may claim as before.
    assert [lease.id for lease in taken(client, 49, ahead=True)] == ["a"]


def test_what_was_not_begun_goes_back_in_front_in_order(client: Client):
    put(client, *"abcdefg")
    leases = taken(client, 1, 5)
    assert scripts.release(client, leases[2:], started=False) == [1, 1, 1]
    assert waiting(client) == ["c", "d", "e", "f", "g"]
    assert of_all(client, "status", "cde") == ["queued"] * 3
    assert of_all(client, "tq_recoveries", "cde") == [None] * 3
    assert scripts.release(client, leases[2:], started=False) == [0, 0, 0]
    assert waiting(client) == ["c", "d", "e", "f", "g"]
    assert held(client) == {"a", "b"}


def test_of_a_dead_slots_unread_claim_all_go_back_in_order(client: Client):
    """More than ten: by number, not as text."""
    names = [f"j{n}" for n in range(12)]
    put(client, *names, "last")
    taken(client, 95, 12)
    found = scripts.abandon(client, PREFIX, ran="", reason="signal 9", queues=("q",))
    assert {(job.id, job.what) for job in found} == {(n, "given") for n in names}
    assert waiting(client) == [*names, "last"]


def test_of_a_dead_slots_claim_only_what_ran_is_charged(client: Client):
    put(client, *"abcd")
    leases = taken(client)
    found = scripts.abandon(
        client, PREFIX, ran=leases[2].execution, reason="signal 9", queues=("q",)
    )
    assert {job.id: job.what for job in found} == {
        "a": "given", "b": "given", "c": "requeued", "d": "given",
    }  # fmt: skip
    assert of_all(client, "tq_recoveries", "abcd") == [None, None, "1", None]


def test_a_sweep_charges_only_what_is_written_as_started(client: Client):
    put(client, *"abcd")
    leases = taken(client)
    scripts.begun(client, leases[2], 0.5)
    lapse(client, *leases)
    assert sweep(client) == {
        "a": "requeued", "b": "given", "c": "requeued", "d": "given",
    }  # fmt: skip
    assert of_all(client, "tq_recoveries", "abcd") == ["1", None, "1", None]
    assert of_all(client, "started_at", "abcd") == [""] * 4


def test_one_that_may_not_run_twice_runs_if_it_was_not_begun(client: Client):
    """It is claimed alone, and so is begun at once: only its own loss ends it."""
    put(client, "a")
    put(client, "once", tq_on_lost="fail")
    first = taken(client, 1)
    assert [lease.id for lease in first] == ["a"]
    lapse(client, *first)
    assert sweep(client) == {"a": "requeued"}
    assert field(client, "status", "once") == "queued"


@pytest.mark.parametrize("terminate", [False, True])
def test_a_revoke_of_one_that_is_not_begun_holds_when_it_is_given_back(
    client: Client, terminate: bool
):
    put(client, *"abc")
    leases = taken(client)
    assert scripts.revoke(client, "b", terminate=terminate) == scripts.MARKED
    assert scripts.release(client, leases[1:], started=False) == [
        scripts.ENDED_INSTEAD, 1,
    ]  # fmt: skip
    assert of_all(client, "status", "abc") == ["started", "canceled", "queued"]
    assert waiting(client) == ["c"]


def test_a_revoke_of_one_that_is_begun_meanwhile_lets_it_end(client: Client):
    put(client, *"ab")
    leases = taken(client)
    scripts.revoke(client, "b", terminate=False)
    codes, _ = scripts.finish(client, [ended(lease) for lease in leases], None)
    assert codes == [scripts.STORED] * 2
    assert of_all(client, "status", "ab") == ["finished"] * 2


def test_a_revoke_of_one_that_is_lost_with_its_worker_holds(client: Client):
    put(client, *"ab")
    leases = taken(client)
    scripts.revoke(client, "b", terminate=True)
    lapse(client, *leases)
    assert sweep(client) == {"a": "requeued", "b": "revoked"}


def test_one_that_was_never_written_as_started_says_when_it_was_at_its_end(
    client: Client,
):
    put(client, *"ab")
    leases = taken(client)
    run = (WORKER, 1, "0.001", "1700000000.5", "1700000000.501")
    ends = [Ended(lease, "finished", *run) for lease in leases]
    scripts.finish(client, ends, None)
    started, stopped = (field(client, name, "b") for name in ("started_at", "ended_at"))
    assert started is not None
    assert stopped is not None
    assert "20" < started < stopped


def test_one_that_was_written_as_started_late_keeps_that_at_its_end(client: Client):
    put(client, *"ab")
    lease = taken(client)[1]
    scripts.begun(client, lease, 2.5)
    started = field(client, "started_at", "b")
    run = (WORKER, 1, "0.001", "1700000000.5", "1700000000.501")
    scripts.finish(client, [Ended(lease, "finished", *run)], None)
    assert field(client, "started_at", "b") == started
