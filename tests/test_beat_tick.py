"""An entry fires once for each due time, on a real server."""

from __future__ import annotations

import time
import typing as t
from dataclasses import replace

import pytest
import redis

from flask_taskqueue.beat import scripts
from flask_taskqueue.beat.scripts import Tick
from flask_taskqueue.broker import scripts as broker_scripts

from .entries_in_redis import (
    APP,
    ENTRY,
    LATER,
    LATER_STILL,
    PAST,
    Client,
    cancelled,
    changed,
    definition,
    everything,
    look,
    moved,
    new,
    over,
    paused,
    paused_and_put_back,
    put,
    record,
    rows,
    score,
    tick,
    trigger,
    waiting,
)
from .plain_schedulers import SET
from .servers import Server


def test_tick_fires_once_and_sets_the_next_time(client: Client):
    put(client)
    job_id = f"{ENTRY}-{PAST}"
    assert tick(client) == scripts.FIRED
    assert waiting(client) == [job_id]
    assert client.hget(f"rq:job:{job_id}", "status") == b"queued"
    assert score(client) == float(LATER)
    found = record(client)
    assert abs(float(found.pop("last_at")) - time.time()) < 60
    state = {"due": LATER, "last_due": PAST, "count": "1"}
    state |= {"last_job": job_id, "last_fired": job_id}
    assert found == {**definition(), "call": "[]", **state}
    assert rows(client) == [[PAST, job_id, "fired"]]


def test_tick_repeated_after_a_lost_reply_fires_nothing(client: Client):
    put(client)
    tick(client)
    before = everything(client)
    assert tick(client) == scripts.REFUSED
    assert everything(client) == before


@pytest.mark.parametrize(
    ("change", "given", "code"),
    [
        pytest.param(changed, {}, scripts.REFUSED, id="changed"),
        pytest.param(paused, {}, scripts.REFUSED, id="paused"),
        pytest.param(paused_and_put_back, {}, scripts.REFUSED, id="paused, put back"),
        pytest.param(
            lambda client: scripts.remove(client, APP, ENTRY), {}, scripts.REFUSED,
            id="removed",
        ),
        pytest.param(moved, {}, scripts.REFUSED, id="time set by somebody"),
        pytest.param(over, {}, scripts.REFUSED, id="over"),
        pytest.param(cancelled, {}, scripts.CANCELLED, id="cancelled"),
        pytest.param(
            lambda client: client.set("rq:queue:q", "x"), {}, scripts.NOT_A_JOB,
            id="queue of another type",
        ),
        pytest.param(None, {"due": LATER}, scripts.FUTURE, id="due later"),
    ],
)  # fmt: skip
def test_tick_fires_nothing(
    client: Client,
    change: t.Callable[[Client], object] | None,
    given: dict[str, str],
    code: int,
):
    put(client)
    if change is not None:
        change(client)
    before = client.zscore(SET, ENTRY)
    assert tick(client, **given) == code
    assert not client.exists(f"rq:job:{ENTRY}-{given.get('due', PAST)}")
    # The index agrees with the set again.
    assert score(client) == before
    assert rows(client) == []
    assert "count" not in record(client)
    assert record(client).get("cancelled") == ("1" if change is cancelled else None)


def test_tick_does_not_move_on_from_a_time_in_the_future(client: Client):
    put(client, first=LATER)
    given = {"expected": LATER, "due": "", "next": LATER_STILL}
    assert tick(client, **given) == scripts.FUTURE
    assert score(client) == float(LATER)


def test_tick_without_a_due_time_only_moves_on(client: Client):
    put(client)
    assert tick(client, due="") == scripts.MOVED_ON
    assert score(client) == float(LATER)
    assert waiting(client) == rows(client) == []


def test_tick_moves_on_where_a_job_of_that_due_time_exists(client: Client):
    put(client)
    job = new(f"{ENTRY}-{PAST}")
    broker_scripts.enqueue(client, job, "n")
    assert tick(client) == scripts.MOVED_ON
    assert score(client) == float(LATER)
    assert waiting(client) == [job.id]
    assert rows(client) == []


def test_tick_moves_on_where_that_due_time_had_been_fired(client: Client):
    put(client)
    tick(client)
    client.zadd(SET, {ENTRY: PAST})
    # Its job ended, and was forgotten since.
    assert tick(client, job=new("other")) == scripts.MOVED_ON
    assert not client.exists("rq:job:other")


def test_tick_without_a_next_time_ends_the_entry(client: Client):
    put(client)
    assert tick(client, next="") == scripts.FIRED
    assert score(client) is None
    assert record(client)["ended"] == "1"
    assert client.exists(f"rq:job:{ENTRY}")
    assert look(client).cancelled == ()


@pytest.mark.parametrize(
    ("status", "skip", "code"),
    [
        ("queued", True, scripts.OVERLAPPED),
        ("started", True, scripts.OVERLAPPED),
        ("scheduled", True, scripts.OVERLAPPED),
        ("deferred", True, scripts.OVERLAPPED),
        ("finished", True, scripts.FIRED),
        ("failed", True, scripts.FIRED),
        ("stopped", True, scripts.FIRED),
        ("canceled", True, scripts.FIRED),
        ("gone", True, scripts.FIRED),
        ("no hash", True, scripts.FIRED),
        ("started", False, scripts.FIRED),
    ],
)
def test_tick_skips_while_the_last_job_has_not_ended(
    client: Client, status: str, skip: bool, code: int
):
    put(client)
    assert tick(client, next=PAST, job=new("last")) == scripts.FIRED
    if status in ("gone", "no hash"):
        client.delete("rq:job:last")
        if status == "no hash":
            client.set("rq:job:last", "x")
    else:
        client.hset("rq:job:last", "status", status)
    now = f"{time.time():.6f}"
    assert tick(client, due=now, skip_overlap=skip, job=new("now")) == code
    fired = code == scripts.FIRED
    job = "now" if fired else "-"
    assert rows(client)[0] == [now, job, "fired" if fired else "skipped"]
    assert score(client) == float(LATER)
    assert bool(client.exists("rq:job:now")) is fired
    found = record(client)
    assert found["last_due"] == now
    assert found["count"] == ("2" if fired else "1")
    assert found["last_job"] == ("now" if fired else "last")


@pytest.mark.parametrize("running", ["last", "triggered"])
def test_tick_skips_while_the_last_fired_or_triggered_job_has_not_ended(
    client: Client, running: str
):
    put(client)
    tick(client, next=PAST, job=new("last"))
    trigger(client, new("triggered"))
    for job in ("last", "triggered"):
        status = "started" if job == running else "finished"
        client.hset(f"rq:job:{job}", "status", status)
    due = f"{time.time():.6f}"
    given = {"due": due, "next": due, "skip_overlap": True, "job": new("now")}
    assert tick(client, **given) == scripts.OVERLAPPED
    client.hset(f"rq:job:{running}", "status", "finished")
    given |= {"expected": due, "due": f"{time.time():.6f}"}
    assert tick(client, **given) == scripts.FIRED


def test_tick_keeps_the_last_hundred_rows(client: Client):
    put(client)
    client.rpush(
        f"tq:firings:{ENTRY}", *[f"1.0 {time.time()} {n} fired" for n in range(100)]
    )
    tick(client)
    found = rows(client)
    assert len(found) == 100
    assert [found[0][0], found[-1][1]] == [PAST, "98"]


def test_tick_counts_on_whatever_was_written_there(client: Client):
    put(client)
    client.hset(f"tq:entry:{ENTRY}", mapping={"count": "many", "last_due": "then"})
    assert tick(client) == scripts.FIRED
    assert record(client)["count"] == "1"


def steps(times: t.Sequence[str], last: str = LATER) -> list[Tick]:
    """Ticks for due times of an entry, each expecting what the one before sets."""
    following = [*times[1:], last]
    return [
        Tick(
            id=ENTRY,
            fingerprint="f1",
            expected=due,
            due=due,
            next=after,
            skip_overlap=False,
            job=new(f"job-{due}"),
        )
        for due, after in zip(times, following, strict=True)
    ]


def test_tick_many_fires_in_order_and_loads_the_script(client: Client):
    times = [f"{float(PAST) - 10 + n:.6f}" for n in range(3)]
    put(client, first=times[0])
    client.script_flush()
    assert scripts.tick_many(client, APP, steps(times)) == [scripts.FIRED] * 3
    assert waiting(client) == [f"job-{due}" for due in times]
    assert scripts.tick_many(client, APP, []) == []


def test_tick_many_fires_although_scripts_are_forgotten_again_and_again(
    server: Server, client: Client
):
    class Forgotten(redis.Redis):
        def pipeline(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
            self.script_flush()
            return super().pipeline(*args, **kwargs)

    times = [f"{float(PAST) - 10 + n:.6f}" for n in range(2)]
    put(client, first=times[0])
    with Forgotten(unix_socket_path=str(server.socket)) as forgotten:
        assert scripts.tick_many(forgotten, APP, steps(times)) == [scripts.FIRED] * 2
        assert len(rows(client)) == 2


def test_tick_many_refuses_what_follows_a_refused_one(client: Client):
    times = [f"{float(PAST) - 10 + n:.6f}" for n in range(3)]
    put(client, first=times[0])
    ticks = steps(times)
    ticks[0] = replace(ticks[0], fingerprint="f0")
    assert scripts.tick_many(client, APP, ticks) == [scripts.REFUSED] * 3
    assert waiting(client) == []


def test_tick_many_fires_each_due_time_of_two_beats_once(client: Client):
    times = [f"{float(PAST) - 10 + n:.6f}" for n in range(3)]
    put(client, first=times[0])
    ticks = steps(times)
    codes = [scripts.tick_many(client, APP, [one, one])[1] for one in ticks]
    assert codes == [scripts.REFUSED] * 3
    assert len(waiting(client)) == 3
    assert record(client)["count"] == "3"
