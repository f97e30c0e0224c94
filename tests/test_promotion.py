"""Who moves due jobs: our workers or RQ's own scheduler, and never both.

RQ's is its real class, taken through its loop step by step.
"""

from __future__ import annotations

import time
import typing as t
from datetime import timedelta

import pytest
import rq.scheduler
from rq import Queue
from rq.scheduler import RQScheduler
from rq.serializers import JSONSerializer

from flask_taskqueue.broker import scripts
from flask_taskqueue.broker.wire import Claim, Ended, Mixed, NewJob, Swept

from .servers import Server

Client = t.Any

LOCK = "rq:scheduler-lock:q"
OURS = b"flask-taskqueue"


def put(client: Client, job_id: str, due: float, queue: str = "q") -> None:
    """A scheduled job of ours; ``due`` is in seconds from now, past ones too."""
    new = NewJob(id=job_id, queue=queue, fields={"data": b"[]"}, due="+600")
    assert scripts.enqueue(client, new, job_id) == scripts.WRITTEN
    whole, micro = client.time()
    client.zadd(f"rq:scheduled:{queue}", {job_id: whole + micro / 1e6 + due})


def sweep(client: Client, *queues: str) -> Swept:
    """What a worker of these queues does every 2 s."""
    return scripts.sweep(client, gap=6, lease=10, most=500, queues=queues or ("q",))


def promote(client: Client) -> None:
    """What a worker does when a job is due."""
    scripts.promote(client, ("q",), most=500)


def waiting(client: Client, queue: str = "q") -> list[str]:
    return [job_id.decode() for job_id in client.lrange(f"rq:queue:{queue}", 0, -1)]


def run_next(client: Client) -> str:
    """Take the next job and end it; its id."""
    job = scripts.claim(client, Claim("w", "w.1.", time.time_ns(), 10, ("q",))).job
    assert job is not None
    ended = Ended(lease=job.lease, status="finished", fields={}, entry={})
    assert scripts.finish(client, [ended], None)[0] == [scripts.STORED]
    return job.lease.id


class Scheduler(RQScheduler):
    """RQ's, in the steps of its ``work()``."""

    def begin(self) -> None:
        """What it does once: the worker acquires locks, the scheduler registers."""
        self.acquire_locks()
        self.register_birth()

    def turn(self) -> None:
        """What it does every second."""
        self.heartbeat()
        self.enqueue_scheduled_jobs()

    @property
    def has(self) -> set[str]:
        return set(self.acquired_locks)


class OldScheduler(Scheduler):
    """One that does not look whether it still has its locks: rq 2.10."""

    def heartbeat(self) -> None:
        with self.connection.pipeline() as pipeline:
            pipeline.hset(self.key, "last_heartbeat", f"{time.time()}")
            pipeline.expire(self.key, 61)
            for name in self._acquired_locks:
                pipeline.expire(self.get_locking_key(name), 61)
            pipeline.execute()


class OldestScheduler(Scheduler):
    """One without a record, whose pid is in the lock: rq 1 and the first rq 2."""

    def begin(self) -> None:
        self.connection.set(LOCK, "4711", nx=True, ex=61)
        self._acquired_locks = {"q"}

    def heartbeat(self) -> None:
        self.connection.expire(LOCK, 61)


def scheduler(client: Client, kind: type[Scheduler] = Scheduler) -> Scheduler:
    """One that has the lock and has made its first turn."""
    made = kind(["q"], client)
    made._connection = client  # or it connects by itself, which nobody closes
    made.begin()
    made.turn()
    assert client.get(LOCK) is not None
    return made


@pytest.mark.parametrize("jobs", [0, 1])
def test_a_workers_queues_are_locked_with_and_without_jobs(client: Client, jobs: int):
    if jobs:
        put(client, "far", 31_536_000)
    for _ in range(2):
        assert sweep(client, "q", "r").kept_out == {}
        for queue in "qr":
            assert client.get(f"rq:scheduler-lock:{queue}") == OURS
            # An idle worker sweeps once a minute, and once it may come late.
            assert 120 < client.ttl(f"rq:scheduler-lock:{queue}") <= 150
    late = Scheduler(["q", "r"], client)
    late._connection = client
    assert late.acquire_locks() == set()


def test_a_queue_of_nobodys_here_is_left_to_rqs_scheduler(client: Client):
    theirs = scheduler(client)
    put(client, "a", -1)
    put(client, "b", -1, "nobodys")
    assert sweep(client, "other").kept_out == {}
    theirs.heartbeat()
    assert theirs.has == {"q"}
    assert waiting(client) == []
    # Where there is no scheduler nobody else would move it.
    assert waiting(client, "nobodys") == ["b"]
    assert client.get("rq:scheduler-lock:nobodys") is None


def test_rqs_scheduler_is_kept_out_and_lets_go_at_its_next_turn(client: Client):
    theirs = scheduler(client)
    put(client, "a", -1)
    for _ in range(2):
        assert sweep(client).kept_out == {"q": theirs.name}
        promote(client)
        assert waiting(client) == []
    theirs.turn()
    assert theirs.has == set()
    assert waiting(client) == []
    promote(client)
    assert waiting(client) == ["a"]
    assert client.get(LOCK) == OURS
    assert sweep(client).kept_out == {}
    theirs.turn()
    theirs.stop()
    assert client.get(LOCK) == OURS
    assert waiting(client) == ["a"]


def test_promote_leaves_a_queue_of_rqs_scheduler_to_sweep(client: Client):
    theirs = scheduler(client)
    put(client, "a", -1)
    assert scripts.promote(client, ("q",), most=500) is None
    theirs.heartbeat()
    assert theirs.has == {"q"}
    assert waiting(client) == []


def test_a_job_that_rqs_scheduler_has_read_is_not_run_twice(
    client: Client, monkeypatch: pytest.MonkeyPatch
):
    """We come between its reading and its writing, and again until it is through."""
    theirs = scheduler(client)
    put(client, "a", -1)
    fetch = rq.scheduler.Job.fetch_many

    def fetch_slowly(*args: t.Any, **kwargs: t.Any) -> t.Any:
        jobs = fetch(*args, **kwargs)
        for _ in range(3):
            sweep(client)
            promote(client)
        assert waiting(client) == []
        return jobs

    monkeypatch.setattr(rq.scheduler.Job, "fetch_many", fetch_slowly)
    theirs.enqueue_scheduled_jobs()
    assert run_next(client) == "a"
    theirs.turn()
    put(client, "b", -1)
    sweep(client)
    assert run_next(client) == "b"
    assert waiting(client) == []


def test_an_orderly_stop_ends_the_wait(client: Client):
    theirs = scheduler(client)
    put(client, "a", -1)
    sweep(client)
    theirs.stop()
    promote(client)
    assert waiting(client) == ["a"]


def test_a_scheduler_that_was_killed_is_waited_for_as_long_as_its_lock_lasts(
    clock_server: Server,
):
    with clock_server.client() as client:
        scheduler(client)
        put(client, "a", -1)
        for passed in (0, 30, 58):
            clock_server.set_clock(passed)
            sweep(client)
            promote(client)
            assert waiting(client) == []
        clock_server.set_clock(63)
        promote(client)
        assert waiting(client) == ["a"]


def test_a_pass_without_a_record_is_waited_for_10_seconds(clock_server: Server):
    # A worker with --burst, before it registers.
    with clock_server.client() as client:
        client.set(LOCK, "theirs", ex=61)
        put(client, "a", -1)
        for passed in (0, 9):
            clock_server.set_clock(passed)
            assert sweep(client).kept_out == {"q": "theirs"}
            assert waiting(client) == []
        clock_server.set_clock(11)
        sweep(client)
        assert waiting(client) == ["a"]


def test_a_burst_that_registers_late_is_waited_for(client: Client):
    # Its one pass begins without a look at the lock.
    theirs = Scheduler(["q"], client)
    theirs._connection = client
    theirs.acquire_locks()
    put(client, "a", -1)
    sweep(client)
    theirs.register_birth()
    promote(client)
    assert waiting(client) == []
    theirs.enqueue_scheduled_jobs()
    theirs.stop()
    promote(client)
    assert waiting(client) == ["a"]


@pytest.mark.parametrize("kind", [OldScheduler, OldestScheduler])
def test_a_scheduler_that_does_not_look_keeps_the_queue_while_it_lives(
    clock_server: Server, kind: type[Scheduler]
):
    with clock_server.client() as client:
        theirs = scheduler(client, kind)
        name = "4711" if kind is OldestScheduler else theirs.name
        for passed in range(0, 40, 2):
            clock_server.set_clock(passed)
            put(client, str(passed), -1)
            assert sweep(client).kept_out == {"q": name}
            promote(client)
            theirs.heartbeat()
            sweep(client)
            promote(client)
            assert waiting(client) == []
            assert client.zcard("rq:scheduled:q") == 1
            client.delete("rq:scheduled:q")  # as its pass would
        # It is killed.
        put(client, "last", -1)
        for passed in range(40, 110, 5):
            clock_server.set_clock(passed)
            sweep(client)
        assert waiting(client) == ["last"]
        assert client.get(LOCK) == OURS


@pytest.mark.parametrize("kind", [Scheduler, OldestScheduler])
def test_a_clock_set_back_makes_nobody_wait_longer(
    clock_server: Server, kind: type[Scheduler]
):
    with clock_server.client() as client:
        scheduler(client, kind)
        put(client, "a", -7200)
        sweep(client)
        clock_server.set_clock(-3600)
        for passed in (0, 1, 30, 62, 64):
            clock_server.set_clock(-3600 + passed)
            sweep(client)
        assert waiting(client) == ["a"]


@pytest.mark.parametrize("key", [LOCK, "rq:scheduler:theirs"])
def test_a_key_of_another_type_stops_nobody(clock_server: Server, key: str):
    with clock_server.client() as client:
        client.set(LOCK, "theirs")
        client.delete(key)
        client.rpush(key, "x")
        put(client, "a", -1)
        sweep(client)
        clock_server.set_clock(11)
        sweep(client)
        assert waiting(client) == ["a"]


def test_plain_enqueue_at_is_cut_to_whole_seconds_and_never_early(client: Client):
    queue = Queue("q", connection=client, serializer=JSONSerializer)
    job = queue.enqueue_in(timedelta(seconds=1.999), "plain.f")
    due = client.zscore("rq:scheduled:q", job.id)
    assert due == int(due)
    promote(client)
    assert waiting(client) == []
    client.zadd("rq:scheduled:q", {job.id: due - 2})
    promote(client)
    assert waiting(client) == [job.id]
    assert job.get_status(refresh=True).value == "queued"


def worker(client: Client, name: str, *queues: str, **fields: str) -> None:
    """A worker's record, as RQ's tools see it."""
    client.hset(f"rq:worker:{name}", mapping={"birth": "x", **fields})
    for queue in queues:
        client.sadd("rq:queues", f"rq:queue:{queue}")
        client.sadd(f"rq:workers:{queue}", f"rq:worker:{name}")


def test_plain_workers_beside_ours_are_seen(client: Client):
    worker(client, "ours", "q", "r", tq_version="1")
    for name in ("p1", "p2"):
        worker(client, name, "q", "theirs")
    out, (found,) = scripts.prune(client, most=10)
    assert (out, found.queue, found.count) == (0, "q", 2)
    assert found.worker in ("p1", "p2")
    assert isinstance(found, Mixed)


def test_urgent_jobs_that_are_due_together_keep_their_order(client: Client):
    client.rpush("rq:queue:q", "before")
    for number, name in enumerate("abcd"):
        put(client, name, number - 10)
        if name in "bd":
            client.hset(f"rq:job:{name}", "enqueue_at_front", "1")
    promote(client)
    assert waiting(client) == ["b", "d", "before", "a", "c"]
