"""One beat of an app leads, and learns what is due, on a real server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flask_taskqueue.beat import scripts
from flask_taskqueue.beat.scripts import Due

from .entries_in_redis import (
    APP,
    ENTRY,
    LATER,
    LOCK,
    PAST,
    Client,
    look,
    paused_and_put_back,
    put,
    record,
    score,
)
from .plain_schedulers import SET
from .servers import Server


def test_look_names_what_is_due_the_longest_first(client: Client):
    first = f"{float(PAST) - 5:.6f}"
    put(client, "a")
    put(client, "b", first=first, fingerprint="fb")
    put(client, "c", first=LATER)
    found = look(client)
    assert found.leads
    assert found.lapse == 0
    assert found.due == (Due("b", first, "fb"), Due("a", PAST, "f1"))
    assert found.known == 3
    assert not found.foreign
    assert abs(found.now - datetime.now(UTC)) < timedelta(seconds=5)
    left = float(LATER) - found.now.timestamp()
    assert found.next_due == pytest.approx(left, abs=0.01)


def test_look_says_that_more_are_due(client: Client):
    put(client, "a")
    put(client, "b")
    found = look(client, most=1)
    assert len(found.due) == 1
    assert found.next_due == 0


def test_look_knows_of_no_next_time(client: Client):
    assert look(client).next_due is None
    assert look(client).known == 0


def test_look_names_the_entries_of_its_app_only(client: Client):
    put(client)
    found = scripts.lead(client, "other", "one", lease=4, most=10)
    assert found.leads
    assert (found.due, found.known) == ((), 0)


def test_one_of_two_beats_leads_until_its_lease_ends(client: Client):
    put(client)
    assert look(client, "one").leads
    second = look(client, "two")
    assert not second.leads
    assert 3 < second.lapse <= 4
    assert (second.due, second.known) == ((), 1)
    # Each look renews it.
    client.pexpire(f"tq:lead:{APP}", 100)
    assert look(client, "one").leads
    assert client.pttl(f"tq:lead:{APP}") > 3000
    client.delete(f"tq:lead:{APP}")
    assert look(client, "two").leads
    assert not look(client, "one").leads


@pytest.mark.parametrize("stored", ["no end", "no string"])
def test_a_lead_that_would_not_end_is_taken(client: Client, stored: str):
    if stored == "no end":
        client.set(f"tq:lead:{APP}", "one")
    else:
        client.rpush(f"tq:lead:{APP}", "one")
    assert look(client, "two").leads
    assert not look(client, "one").leads


def test_a_clock_set_back_does_not_make_a_lead_last(clock_server: Server):
    with clock_server.client() as client:
        look(client, "one")
        clock_server.set_clock(-3600)
        assert client.pttl(f"tq:lead:{APP}") > 3_000_000
        assert look(client, "two").leads
        assert not look(client, "one").leads


def test_step_down_lets_another_lead_at_once(client: Client):
    put(client)
    look(client, "one")
    scripts.step_down(client, APP, "two")
    assert not look(client, "two").leads
    scripts.step_down(client, APP, "one")
    assert client.exists(LOCK)
    assert look(client, "two").leads


def test_look_holds_rq_schedulers_lock(client: Client):
    put(client)
    client.delete(LOCK)
    assert not look(client).foreign
    assert client.get(LOCK) == b"flask-taskqueue"
    assert 500 < client.ttl(LOCK) <= 600
    assert not look(client).foreign
    client.expire(LOCK, 5)
    look(client)
    assert client.ttl(LOCK) > 500


def test_look_leaves_the_lock_where_there_are_no_entries(client: Client):
    assert not look(client).foreign
    assert not client.exists(LOCK)
    client.set(LOCK, "1700000000.5", ex=70)
    assert not look(client).foreign
    assert client.get(LOCK) == b"1700000000.5"


@pytest.mark.parametrize("kind", ["string", "list"])
def test_look_takes_the_lock_of_a_plain_rqscheduler_and_says_so(
    client: Client, kind: str
):
    put(client)
    client.delete(LOCK)
    if kind == "string":
        client.set(LOCK, "1700000000.5", ex=70)
    else:
        client.rpush(LOCK, "x")
    assert look(client, "one").foreign
    assert client.get(LOCK) == b"flask-taskqueue"
    assert not look(client, "one").foreign
    client.set(LOCK, "1700000000.5", ex=70)
    assert not look(client, "two").foreign, "it does not lead"
    assert client.get(LOCK) != b"flask-taskqueue"
    assert look(client, "one").foreign


def test_look_finds_entries_that_were_cancelled_once(client: Client):
    put(client, "a")
    put(client, "b")
    client.zrem(SET, "a")
    found = look(client)
    assert found.cancelled == ("a",)
    assert [due.id for due in found.due] == ["b"]
    assert record(client, "a")["cancelled"] == "1"
    assert look(client).cancelled == ()


@pytest.mark.parametrize("state", ["paused", "ended"])
def test_look_does_not_call_cancelled_what_is_paused_or_over(
    client: Client, state: str
):
    put(client)
    client.zrem(SET, ENTRY)
    client.hset(f"tq:entry:{ENTRY}", state, "1")
    assert look(client).cancelled == ()
    assert client.zcard(f"tq:due:{APP}") == 0
    assert "cancelled" not in record(client)


def test_look_follows_a_time_that_somebody_set(client: Client):
    put(client)
    client.zadd(SET, {ENTRY: LATER})
    found = look(client)
    assert found.due == ()
    assert found.next_due is not None
    assert score(client) == float(LATER)
    earlier = f"{float(PAST) - 1:.6f}"
    client.zadd(SET, {ENTRY: earlier})
    client.zadd(f"tq:due:{APP}", {ENTRY: PAST})
    assert look(client).due == (Due(ENTRY, earlier, "f1"),)


def test_look_drops_an_entry_put_back_while_it_is_paused(client: Client):
    put(client)
    paused_and_put_back(client)
    assert look(client).due == ()
    assert client.zcard(f"tq:due:{APP}") == 0


def test_look_clears_away_what_a_lost_record_left(client: Client):
    put(client)
    client.delete(f"tq:entry:{ENTRY}")
    assert look(client).due == ()
    assert client.keys("*") == client.keys("tq:lead:*") + client.keys(LOCK)


def test_look_names_a_record_that_is_none_and_keeps_it_in_the_index(client: Client):
    put(client)
    stored = client.dump(f"tq:entry:{ENTRY}")
    client.delete(f"tq:entry:{ENTRY}")
    client.set(f"tq:entry:{ENTRY}", "x")
    assert look(client).due == (Due(ENTRY, PAST, ""),)
    client.zrem(SET, ENTRY)
    (due,) = look(client).due
    assert float(due.score) == pytest.approx(float(PAST), abs=3600)
    client.zadd(SET, {ENTRY: PAST})
    client.restore(f"tq:entry:{ENTRY}", 0, stored, replace=True)
    assert look(client).due == (Due(ENTRY, PAST, "f1"),)


@pytest.mark.parametrize("stored", ["done", "begun", None])
def test_a_look_tells_whether_the_entries_of_the_code_are_written(
    client: Client, stored: str | None
):
    if stored is not None:
        client.set(f"tq:synced:{APP}", stored)
    assert [look(client, beat).synced for beat in ("one", "two")] == [
        stored == "done"
    ] * 2
