"""Entries that go on after the server's clock was set back."""

from __future__ import annotations

import logging
import typing as t
from datetime import UTC, datetime, timedelta

import pytest
import redis

from flask_taskqueue import keys
from flask_taskqueue.beat import scripts, writing
from flask_taskqueue.beat.entries import entry_id, read_entry
from flask_taskqueue.beat.epoch import epoch_text, from_epoch
from flask_taskqueue.beat.records import Record
from flask_taskqueue.beat.setbacks import CORRECTED, LEAST, Setbacks, next_by_clock

from .running import InProcess

HOUR = timedelta(hours=1)
INSTANT = datetime(2026, 1, 12, 9, 30, tzinfo=UTC)
A_BIT = timedelta(milliseconds=1)


class Site(InProcess):
    """An app with entries that fired for times to come."""

    def __init__(self, url: str, client: redis.Redis) -> None:
        super().__init__(__name__, url, client)
        self.raw: t.Any = client
        self.tq.task(name="work")(lambda: None)
        self.state = self.tq.state_of(self.app)
        self.now = self.server_time()
        self.setbacks = Setbacks(self.state, client)

    def server_time(self) -> datetime:
        whole, micro = self.raw.time()
        return datetime.fromtimestamp(whole, UTC) + timedelta(microseconds=micro)

    def put(self, name: str, schedule: object, ahead: timedelta) -> Record:
        """Write an entry that was due a while after now."""
        parts = {"task": "work", "schedule": schedule}
        entry = read_entry(name, parts, UTC)
        assert writing.put_entry(self.state, self.client, entry, "run") == 1
        fired = self.now + ahead
        following = entry.schedule.next_run(fired)
        assert following is not None
        id, score = self.id(name), epoch_text(following)
        self.raw.hset(keys.entry(id), mapping={"last_due": epoch_text(fired)})
        self.raw.zadd(keys.NAMES["scheduler_set"], {id: score})
        self.raw.zadd(f"tq:due:{self.app.name}", {id: score})
        return self.record(name)

    def id(self, name: str) -> str:
        return entry_id(self.app.name, name)

    def record(self, name: str) -> Record:
        with self.app.app_context():
            return self.tq.schedules.get(name)

    def set_back(self, record: Record, **given: str) -> int:
        assert record.last_due is not None
        known = {
            "fingerprint": record.fingerprint,
            "last_due": epoch_text(record.last_due),
            "next": epoch_text(self.now + HOUR),
        }
        app = self.app.name
        return scripts.set_back(self.client, app, record.id, **{**known, **given})


@pytest.fixture
def site(redis_url: str, client: redis.Redis, caplog: pytest.LogCaptureFixture) -> Site:
    caplog.set_level(logging.INFO, "flask_taskqueue.beat")
    return Site(redis_url, client)


@pytest.mark.parametrize(
    ("schedule", "ahead", "following"),
    [
        pytest.param(60, LEAST + A_BIT, "09:31", id="an interval"),
        pytest.param(60, LEAST, None, id="an interval, hardly"),
        pytest.param("0 10 * * *", CORRECTED, None, id="a time of day"),
        pytest.param("0 10 * * *", CORRECTED + A_BIT, "10:00", id="a wrong clock"),
        pytest.param(INSTANT + 99 * HOUR, 98 * HOUR, None, id="an instant"),
    ],
)
def test_what_is_due_next_by_a_clock_set_back(
    schedule: object, ahead: timedelta, following: str | None
):
    entry = read_entry("e", {"task": "t", "schedule": schedule}, UTC)
    record = Record(id="e", name="e", entry=entry, last_due=INSTANT + ahead)
    found = next_by_clock(record, INSTANT)
    assert (None if found is None else f"{found:%H:%M}") == following


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param({"last_due": None}, id="it never fired"),
        pytest.param({"ended": True}, id="it is over"),
        pytest.param({"entry": None}, id="it cannot be read"),
    ],
)
def test_what_keeps_its_next_time(parts: dict[str, t.Any]):
    entry = read_entry("e", {"task": "t", "schedule": 60}, UTC)
    known = {"entry": entry, "last_due": INSTANT + HOUR, **parts}
    assert next_by_clock(Record(id="e", name="e", **known), INSTANT) is None


def test_entries_go_on_and_a_warning_names_them(
    site: Site, caplog: pytest.LogCaptureFixture
):
    site.put("ten", 600, HOUR)
    site.put("wrong", "0 10 * * *", 30 * HOUR)
    kept = [site.put("daily", "0 10 * * *", HOUR), site.put("right", 600, -HOUR)]
    site.setbacks.follow_clock(site.now, leads=True)
    ten, wrong = site.record("ten"), site.record("wrong")
    assert (ten.next, ten.last_due) == (site.now + timedelta(minutes=10), None)
    assert wrong.next is not None
    assert site.now < wrong.next <= site.now + timedelta(days=1)
    assert [site.record("daily"), site.record("right")] == kept
    (line,) = caplog.messages
    assert "was set back" in line
    assert "(2)" in line
    assert "ten" in line
    assert "daily" not in line


def test_entries_are_looked_at_when_one_begins_to_lead_and_at_each_setback(site: Site):
    def moves(by: timedelta, *, leads: bool = True) -> bool:
        before = site.put("ten", 600, HOUR).next
        site.setbacks.follow_clock(site.server_time() + by, leads=leads)
        after = site.record("ten").next
        with site.app.app_context():
            site.tq.schedules.remove("ten")
        return before != after

    assert not moves(timedelta(0), leads=False)
    assert moves(timedelta(0))
    assert not moves(timedelta(0))
    assert not moves(-LEAST / 2)
    assert moves(-2 * LEAST)
    assert not moves(-2 * LEAST)
    # Forward, and back to where it was.
    assert not moves(timedelta(seconds=30))
    assert moves(-2 * LEAST)
    # Another one led.
    assert not moves(-2 * LEAST, leads=False)
    assert moves(-2 * LEAST)


def test_a_record_that_nobody_can_read_stops_no_other(site: Site):
    broken, text = site.put("broken", 600, HOUR), site.put("text", 600, HOUR)
    site.put("ten", 600, HOUR)
    site.raw.hset(keys.entry(broken.id), "definition", "{")
    site.raw.hset(keys.entry(text.id), "last_due", "soon")
    site.raw.sadd(keys.entries(site.app.name), "other")
    site.raw.lpush(keys.entry("other"), "x")
    site.setbacks.follow_clock(site.now, leads=True)
    assert site.record("ten").last_due is None


def test_set_back_may_be_repeated(site: Site):
    record = site.put("ten", 600, HOUR)
    assert site.set_back(record) == scripts.DONE
    assert site.record("ten").next == site.now + HOUR
    assert site.set_back(record, next=epoch_text(site.now)) == scripts.NO_ENTRY
    assert site.record("ten").next == site.now + HOUR


@pytest.mark.parametrize("changed", ["fingerprint", "fired since", "over", "removed"])
def test_set_back_is_refused_where_the_entry_changed(site: Site, changed: str):
    record = site.put("ten", 600, HOUR)
    given = {}
    if changed == "fingerprint":
        given["fingerprint"] = "another"
    elif changed == "fired since":
        given["last_due"] = epoch_text(site.now + HOUR - A_BIT)
    elif changed == "over":
        site.raw.hset(keys.entry(record.id), "ended", "1")
    else:
        site.raw.delete(keys.entry(record.id))
    before = site.raw.hgetall(keys.entry(record.id))
    assert site.set_back(record, **given) == scripts.NO_ENTRY
    assert site.raw.hgetall(keys.entry(record.id)) == before


def test_set_back_is_refused_where_the_clock_was_not(site: Site):
    record = site.put("ten", 600, timedelta(seconds=-1))
    assert site.set_back(record) == scripts.NO_ENTRY
    assert site.record("ten") == record


def test_set_back_leaves_a_key_of_another_type(site: Site):
    record = site.put("ten", 600, HOUR)
    site.raw.delete(keys.entry(record.id))
    site.raw.lpush(keys.entry(record.id), "x")
    assert site.set_back(record) == scripts.NOT_A_JOB


def test_a_paused_entry_goes_on_when_it_is_resumed(site: Site):
    site.put("ten", 600, HOUR)
    with site.app.app_context():
        site.tq.schedules.pause("ten")
        site.setbacks.follow_clock(site.now, leads=True)
        assert site.record("ten").next is None
        site.tq.schedules.resume("ten")
    assert site.record("ten").next == site.now + timedelta(minutes=10)


def test_a_setback_is_told_to_all_beats(site: Site):
    record = site.put("ten", 600, HOUR)
    with site.raw.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe(keys.NAMES["entries_changed"])
        heard.get_message(timeout=5)
        site.set_back(record)
        assert heard.get_message(timeout=5)["data"] == site.app.name.encode()


def test_one_that_begins_to_lead_puts_back_what_the_index_lost(
    site: Site, caplog: pytest.LogCaptureFixture
):
    index = f"tq:due:{site.app.name}"
    record = site.put("ten", 600, -HOUR)
    score = site.raw.zscore(index, record.id)
    site.raw.delete(index)
    site.setbacks.follow_clock(site.now, leads=False)
    assert not site.raw.exists(index)
    site.setbacks.follow_clock(site.now, leads=True)
    assert site.raw.zscore(index, record.id) == score
    (line,) = caplog.messages
    assert index in line
    assert "(1)" in line


def test_the_index_has_the_same_time(site: Site):
    record = site.put("ten", 600, HOUR)
    site.setbacks.follow_clock(site.now, leads=True)
    score = site.raw.zscore(f"tq:due:{site.app.name}", record.id)
    assert from_epoch(score) == site.record("ten").next
