"""Entries are written and removed in one step, on a real server."""

from __future__ import annotations

import typing as t

import pytest

from flask_taskqueue.beat import scripts
from flask_taskqueue.broker import scripts as broker_scripts

from .entries_in_redis import (
    APP,
    ENTRY,
    LATER,
    LATER_STILL,
    LOCK,
    PAST,
    Client,
    definition,
    everything,
    look,
    new,
    put,
    record,
    score,
    tick,
    waiting,
)
from .plain_schedulers import SET


def test_put_writes_record_time_and_what_rq_scheduler_shows(client: Client):
    assert put(client, first=LATER) == scripts.CREATED
    assert record(client) == {**definition(), "call": "[]", "due": LATER}
    assert score(client) == float(LATER)
    assert client.smembers(f"tq:entries:{APP}") == {ENTRY.encode()}
    shown = client.hgetall(f"rq:job:{ENTRY}")
    assert shown.pop(b"created_at").endswith(b"Z")
    assert shown == {
        b"data": b"[]", b"tq_task": b"t.x", b"result_ttl": b"100",
        b"failure_ttl": b"200", b"origin": b"q", b"status": b"scheduled",
        b"tq_entry": b"nightly",
    }  # fmt: skip
    assert client.ttl(f"rq:job:{ENTRY}") == -1
    assert waiting(client) == []


def test_put_the_same_writes_nothing(client: Client):
    put(client, first=LATER)
    before = everything(client)
    assert put(client, first=LATER_STILL) == scripts.SAME
    assert everything(client) == before


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({"fingerprint": "f2"}, LATER, id="other arguments"),
        pytest.param({"fingerprint": "f2", "rhythm": "r2"}, LATER_STILL, id="rhythm"),
    ],
)
def test_put_a_change_keeps_the_next_time_unless_the_rhythm_changed(
    client: Client, given: dict[str, str], expected: str
):
    put(client, first=LATER, sig="old")
    client.hset(f"rq:job:{ENTRY}", mapping={"old": "1", "created_at": "then"})
    assert put(client, first=LATER_STILL, **given) == scripts.CHANGED
    assert score(client) == float(expected)
    assert record(client)["fingerprint"] == "f2"
    assert "sig" not in record(client)
    shown = client.hgetall(f"rq:job:{ENTRY}")
    assert b"old" not in shown
    assert shown[b"created_at"] == b"then"


def test_put_leaves_a_paused_entry_paused(client: Client):
    put(client, first=LATER)
    scripts.pause(client, APP, ENTRY)
    assert put(client) == scripts.SAME
    assert put(client, fingerprint="f2", rhythm="r2") == scripts.CHANGED
    assert score(client) is None
    assert record(client)["paused"] == "1"


def test_put_disabled_takes_the_next_time_and_enabled_gives_one(client: Client):
    put(client, first=LATER)
    assert put(client, enabled=False, fingerprint="f2") == scripts.CHANGED
    assert score(client) is None
    assert put(client, enabled=False, fingerprint="f2") == scripts.SAME
    assert put(client, first=LATER_STILL) == scripts.CHANGED
    assert score(client) == float(LATER_STILL)
    assert "cancelled" not in record(client)


def test_put_leaves_a_one_off_that_fired_over(client: Client):
    put(client)
    assert tick(client, next="") == scripts.FIRED
    assert put(client, last_due=PAST) == scripts.SAME
    assert put(client, last_due=PAST, fingerprint="f2") == scripts.CHANGED
    assert score(client) is None
    given = {"fingerprint": "f3", "rhythm": "r3", "first": LATER}
    assert put(client, last_due=PAST, **given) == scripts.CHANGED
    assert score(client) == float(LATER)
    assert "ended" not in record(client)


def test_put_gives_back_what_was_cancelled(client: Client):
    put(client)
    client.zrem(SET, ENTRY)
    assert look(client).cancelled == (ENTRY,)
    assert put(client, first=LATER) == scripts.CHANGED
    assert score(client) == float(LATER)
    assert "cancelled" not in record(client)


@pytest.mark.parametrize(
    ("stored", "given"),
    [
        pytest.param({"sig": "old"}, {"sig": "new"}, id="another signature"),
        pytest.param({"sig": ""}, {"sig": "new"}, id="an empty signature"),
        pytest.param({"count": "1"}, {"sig": "new"}, id="signed from now on"),
        pytest.param({"sig": "old"}, {}, id="no more signed"),
        pytest.param({"definition": "{"}, {}, id="a damaged definition"),
        pytest.param({"call": ""}, {"sig": "new"}, id="a damaged call"),
    ],
)
def test_put_the_same_in_other_bytes_writes_them(
    client: Client, stored: dict[str, str], given: dict[str, str]
):
    put(client, first=LATER)
    client.hset(f"tq:entry:{ENTRY}", mapping=stored)
    assert put(client, first=LATER_STILL, **given) == scripts.SAME
    found = record(client)
    found.pop("count", None)
    assert found == {**definition(**given), "call": "[]", "due": LATER}
    assert score(client) == float(LATER)


@pytest.mark.parametrize("enabled", [True, False])
def test_put_what_has_no_next_time_is_over_unless_it_is_disabled(
    client: Client, enabled: bool
):
    assert put(client, first="", enabled=enabled) == scripts.CREATED
    assert record(client).get("ended") == ("1" if enabled else None)
    assert put(client, first="", enabled=enabled) == scripts.SAME
    assert look(client).cancelled == ()
    assert put(client, first=LATER, rhythm="r2", fingerprint="f2") == scripts.CHANGED
    assert score(client) == float(LATER)
    assert "ended" not in record(client)


def test_put_what_is_paused_is_not_over(client: Client):
    put(client)
    scripts.pause(client, APP, ENTRY)
    put(client, first="", rhythm="r2", fingerprint="f2")
    assert "ended" not in record(client)


def test_put_what_was_cancelled_and_has_no_next_time_is_over(client: Client):
    put(client, source="run")
    client.zrem(SET, ENTRY)
    look(client)
    assert put(client, first="", source="run") == scripts.SAME
    found = record(client)
    assert (found["ended"], "cancelled" in found) == ("1", False)
    assert client.ttl(f"tq:entry:{ENTRY}") > 0


def test_put_is_refused_where_another_definition_was_read(client: Client):
    assert put(client, known="f1") == scripts.STALE
    assert client.keys() == []
    put(client)
    before = everything(client)
    assert put(client, known="f0", fingerprint="f2") == scripts.STALE
    assert put(client, known=scripts.NEW, nonce="n") == scripts.STALE
    assert everything(client) == before
    for code in (scripts.CHANGED, scripts.SAME):
        # Again after a lost reply.
        assert put(client, known="f1", fingerprint="f2") == code


def test_put_a_new_one_is_repeated_by_its_nonce(client: Client):
    assert put(client, known=scripts.NEW, nonce="n") == scripts.CREATED
    before = everything(client)
    assert put(client, known=scripts.NEW, nonce="n") == scripts.SAME
    assert put(client, known=scripts.NEW, nonce="m") == scripts.STALE
    assert everything(client) == before


@pytest.mark.parametrize("other", [{"name": "daily"}, {"app": "bar"}])
def test_put_leaves_an_entry_of_another_name_that_has_its_id(
    client: Client, other: dict[str, str]
):
    put(client)
    client.hset(f"tq:entry:{ENTRY}", mapping=other)
    before = everything(client)
    assert put(client, fingerprint="f2") == scripts.NOT_A_JOB
    assert everything(client) == before


@pytest.mark.parametrize(
    ("stored", "given", "held"),
    [
        pytest.param(None, {}, True, id="free"),
        pytest.param("flask-taskqueue", {}, True, id="ours"),
        pytest.param("1700000000.5", {}, False, id="a running rqscheduler's"),
        pytest.param(None, {"enabled": False}, False, id="no next time"),
        pytest.param(None, {"first": ""}, False, id="over"),
    ],
)
def test_put_keeps_a_plain_rqscheduler_from_the_entry(
    client: Client, stored: str | None, given: dict[str, t.Any], held: bool
):
    if stored is not None:
        client.set(LOCK, stored, ex=5)
    put(client, **given)
    assert (client.get(LOCK) == b"flask-taskqueue") is held
    assert (client.ttl(LOCK) > 500) is held


@pytest.mark.parametrize(
    "lost", [f"rq:job:{ENTRY}", f"tq:due:{APP}", f"tq:entries:{APP}"]
)
def test_put_the_same_restores_what_was_lost(client: Client, lost: str):
    put(client, first=LATER)
    client.delete(lost)
    assert put(client, first=LATER_STILL) == scripts.SAME
    assert client.exists(lost)
    assert score(client) == float(LATER)


def test_put_is_refused_when_it_fired_since_it_was_read(client: Client):
    put(client)
    tick(client)
    before = everything(client)
    assert put(client, fingerprint="f2", rhythm="r2") == scripts.STALE
    assert everything(client) == before
    given = {"fingerprint": "f2", "first": LATER_STILL}
    assert put(client, last_due=PAST, **given) == scripts.CHANGED


@pytest.mark.parametrize(
    ("fields", "stays"),
    [
        pytest.param({"status": "scheduled"}, False, id="never fired"),
        pytest.param({"status": "created"}, False, id="of rq-scheduler 0.13"),
        pytest.param({"data": "x"}, False, id="without a status"),
        pytest.param({}, False, id="without a hash"),
        pytest.param({"status": "queued"}, True, id="its job waits"),
        pytest.param({"status": "finished"}, True, id="its job ended"),
    ],
)
def test_put_replaces_an_entry_of_rq_scheduler(
    client: Client, fields: dict[str, str], stays: bool
):
    client.zadd(SET, {"old": float(PAST)})
    if fields:
        client.hset("rq:job:old", mapping=fields)
    for code in (scripts.CREATED, scripts.SAME):
        # Again after a lost reply.
        assert put(client, first=LATER, replaces="old", replaced_due=PAST) == code
        assert client.zrange(SET, 0, -1) == [ENTRY.encode()]
        assert bool(client.exists("rq:job:old")) is stays


def fired(client: Client) -> None:
    client.zadd(SET, {"old": LATER})


@pytest.mark.parametrize(
    ("prepare", "code"),
    [
        pytest.param(lambda client: None, scripts.STALE, id="gone"),
        pytest.param(fired, scripts.STALE, id="fired since it was read"),
        pytest.param(lambda client: put(client, "old"), scripts.STALE, id="ours"),
        pytest.param(
            lambda client: client.set("rq:job:old", "x"), scripts.NOT_A_JOB, id="no job"
        ),
    ],
)
def test_put_replaces_nothing_else(
    client: Client, prepare: t.Callable[[Client], object], code: int
):
    prepare(client)
    before = everything(client)
    assert put(client, replaces="old", replaced_due=PAST) == code
    assert everything(client) == before


def test_remove_leaves_nothing_but_the_jobs(client: Client):
    put(client)
    tick(client)
    assert scripts.remove(client, APP, ENTRY)
    assert not scripts.remove(client, APP, ENTRY)
    job_id = f"{ENTRY}-{PAST}"
    left = {"rq:queues", "rq:queue:q", f"rq:job:{job_id}", LOCK}
    assert {key.decode() for key in client.keys()} == left


def test_remove_spares_a_job_of_the_same_id(client: Client):
    broker_scripts.enqueue(client, new(ENTRY), "n")
    assert not scripts.remove(client, APP, ENTRY)
    assert client.exists(f"rq:job:{ENTRY}")


@pytest.mark.parametrize("kind", ["string", "job"])
def test_put_leaves_what_is_not_its_own_to_be_shown(client: Client, kind: str):
    if kind == "string":
        client.set(f"rq:job:{ENTRY}", "mine")
    else:
        broker_scripts.enqueue(client, new(ENTRY), "n")
    before = everything(client)
    assert put(client) == scripts.NOT_A_JOB
    assert everything(client) == before


def test_a_one_off_made_at_run_time_does_not_stay_for_ever(client: Client):
    put(client, first=PAST, source="run")
    assert tick(client, next="") == scripts.FIRED
    own = [f"tq:entry:{ENTRY}", f"tq:firings:{ENTRY}", f"rq:job:{ENTRY}"]
    assert all(0 < client.ttl(key) <= 604800 for key in own)
    assert not client.exists(f"tq:entries:{APP}", f"tq:due:{APP}")
    assert put(client, first=LATER, last_due=PAST, source="run") == scripts.SAME
    assert all(0 < client.ttl(key) for key in own), "it is over all the same"
    again = put(client, first=LATER, last_due=PAST, source="run", rhythm="r2")
    assert again == scripts.CHANGED
    assert [client.ttl(key) for key in own] == [-1] * 3
    assert score(client) == float(LATER)


def test_a_one_off_of_the_code_stays_until_it_leaves_the_code(client: Client):
    put(client, first=PAST)
    assert tick(client, next="") == scripts.FIRED
    assert client.ttl(f"tq:entry:{ENTRY}") == -1
    assert client.smembers(f"tq:entries:{APP}") == {ENTRY.encode()}
