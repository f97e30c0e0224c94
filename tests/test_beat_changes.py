"""Entries are paused, resumed and triggered, on a real server."""

from __future__ import annotations

import pytest

from flask_taskqueue.beat import scripts

from .entries_in_redis import (
    APP,
    ENTRY,
    LATER,
    LATER_STILL,
    PAST,
    Client,
    cancelled,
    look,
    moved,
    new,
    put,
    record,
    rows,
    score,
    tick,
    trigger,
    waiting,
)
from .plain_schedulers import SET


def test_pause_and_resume(client: Client):
    put(client, first=LATER)
    assert scripts.pause(client, APP, ENTRY) == scripts.DONE
    assert scripts.pause(client, APP, ENTRY) == scripts.DONE_BEFORE
    assert score(client) is None
    assert record(client)["due"] == LATER
    assert scripts.resume(client, APP, ENTRY, LATER_STILL) == scripts.DONE
    assert scripts.resume(client, APP, ENTRY, LATER) == scripts.DONE_BEFORE
    assert score(client) == float(LATER_STILL)
    assert "paused" not in record(client)


def test_pause_keeps_a_time_that_somebody_set(client: Client):
    put(client)
    moved(client)
    scripts.pause(client, APP, ENTRY)
    assert record(client)["due"] == LATER


def test_resume_gives_back_what_was_cancelled(client: Client):
    put(client)
    client.zrem(SET, ENTRY)
    # Whether somebody saw that or not.
    assert scripts.resume(client, APP, ENTRY, LATER) == scripts.DONE
    client.zrem(SET, ENTRY)
    client.zadd(f"tq:due:{APP}", {ENTRY: PAST})
    look(client)
    assert scripts.resume(client, APP, ENTRY, LATER) == scripts.DONE
    assert score(client) == float(LATER)
    assert "cancelled" not in record(client)


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("seen", [True, False], ids=["seen", "not seen"])
def test_resume_without_a_time_it_is_over_unless_it_is_disabled(
    client: Client, enabled: bool, seen: bool
):
    put(client, source="run")
    cancelled(client)
    code = scripts.DONE_BEFORE
    if seen:
        look(client)
        code = scripts.DONE
    assert scripts.resume(client, APP, ENTRY, "", enabled=enabled) == code
    again = scripts.resume(client, APP, ENTRY, "", enabled=enabled)
    assert again == scripts.DONE_BEFORE
    assert score(client) is None
    found = record(client)
    assert "cancelled" not in found
    assert found.get("ended") == ("1" if enabled else None)
    assert (client.ttl(f"tq:entry:{ENTRY}") > 0) is enabled


def test_resume_keeps_what_was_over_and_has_a_time_again(client: Client):
    put(client, source="run")
    tick(client, next="")
    assert scripts.resume(client, APP, ENTRY, LATER) == scripts.DONE
    assert client.smembers(f"tq:entries:{APP}") == {ENTRY.encode()}
    assert client.ttl(f"tq:entry:{ENTRY}") == -1


def test_resume_puts_it_back_into_the_index(client: Client):
    put(client, first=LATER)
    client.delete(f"tq:due:{APP}")
    assert scripts.resume(client, APP, ENTRY, LATER_STILL) == scripts.DONE_BEFORE
    assert score(client) == float(LATER)


def test_reindex_puts_back_what_the_index_lost_or_has_at_another_time(client: Client):
    index = f"tq:due:{APP}"
    for name in ("lost", "wrong", "right", "paused", "cancelled", "gone", "text"):
        put(client, name, first=LATER)
    scripts.pause(client, APP, "paused")
    client.zadd(SET, {"paused": LATER})
    client.zrem(SET, "cancelled")
    client.zrem(index, "lost", "cancelled", "gone", "text")
    client.zadd(index, {"wrong": PAST})
    client.delete("tq:entry:gone", "tq:entry:text")
    client.set("tq:entry:text", "x")
    ids = [id.decode() for id in client.smembers(f"tq:entries:{APP}")]
    assert scripts.reindex(client, APP, ids) == 2
    expected = {id: float(LATER) for id in (b"lost", b"wrong", b"right")}
    assert dict(client.zrange(index, 0, -1, withscores=True)) == expected
    assert scripts.reindex(client, APP, ids) == scripts.reindex(client, APP, []) == 0


def test_resume_leaves_a_one_off_over_unless_it_has_a_time(client: Client):
    put(client)
    tick(client, next="")
    scripts.pause(client, APP, ENTRY)
    assert scripts.resume(client, APP, ENTRY, "") == scripts.DONE
    assert score(client) is None
    assert record(client)["ended"] == "1"
    assert scripts.resume(client, APP, ENTRY, LATER) == scripts.DONE
    assert score(client) == float(LATER)
    assert "ended" not in record(client)


def test_trigger_enqueues_now_and_keeps_the_next_time(client: Client):
    put(client, first=LATER)
    job = new(f"{ENTRY}-t1")
    assert trigger(client, job) == scripts.DONE
    # Again after a lost reply; then somebody else in the same millisecond.
    assert trigger(client, job) == scripts.DONE
    assert trigger(client, job, "other") == scripts.DONE_BEFORE
    assert waiting(client) == [job.id]
    assert score(client) == float(LATER)
    found = record(client)
    assert (found["count"], found["last_job"]) == ("1", job.id)
    assert "last_due" not in found
    assert [row[1:] for row in rows(client)] == [[job.id, "triggered"]]


def test_trigger_works_while_the_entry_is_paused(client: Client):
    put(client)
    scripts.pause(client, APP, ENTRY)
    assert trigger(client, new("now")) == scripts.DONE
    assert waiting(client) == ["now"]
    assert score(client) is None


@pytest.mark.parametrize("key", ["rq:job:x", "rq:queue:q"])
def test_trigger_leaves_a_key_of_another_type(client: Client, key: str):
    put(client)
    client.set(key, "mine")
    assert trigger(client, new("x")) == scripts.NOT_A_JOB
    assert client.get(key) == b"mine"
    assert "count" not in record(client)
