"""A new job is somewhere or nowhere: queues under hostile keys, reused ids."""

from __future__ import annotations

import typing as t

import pytest

from flask_taskqueue.broker import scripts
from flask_taskqueue.broker.wire import Claim, Ended, NewJob

Client = t.Any


def new(job_id: str, queue: str = "q", due: str = "") -> NewJob:
    fields: dict[str, t.Any] = {"data": b"[]", "tq_task": "t.x", "result_ttl": 100}
    return NewJob(id=job_id, queue=queue, fields=fields, due=due)


def claim(client: Client, number: int, queue: str = "q") -> t.Any:
    wanted = Claim("w", "w.1.", number, 10.0, (queue,))
    found = scripts.claim(client, wanted).job
    assert found is not None
    return found


def finish(client: Client, lease: t.Any, links: t.Sequence[NewJob] = ()) -> None:
    ended = Ended(lease=lease, status="finished", fields={}, entry={}, links=links)
    assert scripts.finish(client, [ended], None)[0] == [scripts.STORED]


def test_a_queue_that_is_none_takes_no_job(client: Client):
    client.set("rq:queue:q", "text")
    assert scripts.enqueue(client, new("a"), "n") == scripts.NOT_A_JOB
    assert not client.exists("rq:job:a")


def test_a_job_given_back_to_a_queue_that_is_none_still_runs(client: Client):
    scripts.enqueue(client, new("a"), "n")
    held = claim(client, 1).lease
    client.delete("rq:queue:q")
    client.set("rq:queue:q", "text")
    assert scripts.release(client, [held], started=True) == [1]
    assert claim(client, 2).lease.id == "a"


@pytest.mark.parametrize("due", ["", "+60"], ids=["now", "later"])
def test_a_link_that_ended_is_enqueued_again(client: Client, due: str):
    for number in (1, 3):
        scripts.enqueue(client, new("parent"), f"n{number}")
        finish(client, claim(client, number).lease, [new("child", due=due)])
        client.zadd("rq:scheduled:q", {"child": 1}, xx=True)
        scripts.promote(client, ["q"], most=10)
        finish(client, claim(client, number + 1).lease)
    assert client.hget("rq:job:child", "tq_execution") == b"w.1.4"


def test_many_parked_jobs_of_another_queue_hide_none_of_ours(client: Client):
    for number in range(10):
        scripts.enqueue(client, new(f"other{number}", "other"), "n")
        scripts.park(client, claim(client, number, "other").lease, "t.x")
    scripts.enqueue(client, new("ours"), "n")
    scripts.park(client, claim(client, 99).lease, "t.x")
    moved = 0
    for _ in range(1000):
        moved += scripts.unpark(client, "t.x", most=3, queues=["q"])
    assert moved == 1
    assert claim(client, 100).lease.id == "ours"
