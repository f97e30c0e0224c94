"""Entries of plain rq-scheduler become entries of beat, or stay where they are."""

from __future__ import annotations

import json
import pickle
import time
import typing as t
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import crontab as crontab_library
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from rq_scheduler import Scheduler

from flask_taskqueue import Task, keys
from flask_taskqueue.appstate import AppState
from flask_taskqueue.beat import listing, writing
from flask_taskqueue.beat.entries import Entry, entry_id, read_entry
from flask_taskqueue.beat.foreign import translated
from flask_taskqueue.beat.importing import Found, Terms, import_entries
from flask_taskqueue.beat.records import Record
from flask_taskqueue.beat.schedules import At, crontab, every
from flask_taskqueue.errors import BrokerUnavailable

from .entries_in_redis import LOCK
from .plain_schedulers import SET, WARNINGS, JSONJob, everything, fire_due
from .running import InProcess
from .servers import free_port

Client = t.Any

LATER = datetime(2040, 1, 1, 12, 30)  # rq-scheduler takes it for UTC
LATER_UTC = LATER.replace(tzinfo=UTC)
TOKYO = ZoneInfo("Asia/Tokyo")

pytestmark = WARNINGS


class Racing(Task[..., t.Any]):
    """Does something while a call of it is made."""

    meanwhile: t.Callable[[], object] | None = None

    def apply_async(self, *args: t.Any, **options: t.Any) -> t.Any:
        if Racing.meanwhile is not None:
            Racing.meanwhile()
        return super().apply_async(*args, **options)


class Site(InProcess):
    """An app with tasks, beside entries made with plain rq-scheduler."""

    def __init__(self, url: str, client: redis.Redis, **config: object) -> None:
        accept = {"TASKQUEUE_ACCEPT_CONTENT": "json"}
        super().__init__("shop", url, client, **accept | config)
        self.raw: Client = client
        self.tq.task(name="shop.clean")(_clean)
        self.tq.task(name="shop.race", base=Racing)(lambda: None)
        self.json = Scheduler("low", connection=client, job_class=JSONJob)
        self.pickled = Scheduler("low", connection=client)

    @property
    def state(self) -> AppState:
        return self.tq.state_of(self.app)

    def run(self, zone: tzinfo = UTC, **terms: bool) -> list[Found]:
        return list(import_entries(self.state, Terms(zone, **terms)))

    def one(self, zone: tzinfo = UTC, **terms: bool) -> Record:
        """Import the only entry there is; what is in Redis then."""
        (found,) = self.run(zone, **terms)
        assert found.refused == ""
        assert found.entry is not None
        record = listing.record(self.state, found.entry.name)
        assert record is not None
        assert record.problem == ""
        assert record.entry == found.entry
        assert record.next == found.next
        return record

    def refused(self, **terms: bool) -> str:
        """Refuse the only entry there is, and leave everything as it is; why."""
        before = self.everything()
        (found,) = self.run(**terms)
        assert found.entry is None
        assert self.everything() == before
        return found.refused

    def everything(self) -> dict[bytes, bytes]:
        """All that is stored."""
        return everything(self.raw)

    def set(self, id: str, field: str, value: object) -> None:
        self.raw.hset(f"rq:job:{id}", field, value)

    def tick(self) -> list[str]:
        """Fire what is due, as a beat does; the ids of the jobs made."""
        return fire_due(self.state, self.client)

    def members(self) -> set[str]:
        """Ids in rq-scheduler's set."""
        return {member.decode() for member in self.raw.zrange(SET, 0, -1)}


def _clean(shelf: int = 0, *, deep: bool = False) -> None:
    """What the entries call."""


@pytest.fixture
def site(redis_url: str, client: redis.Redis) -> Site:
    return Site(redis_url, client)


@pytest.fixture
def trusting(redis_url: str, client: redis.Redis) -> Site:
    """One that takes pickles."""
    return Site(redis_url, client, TASKQUEUE_ACCEPT_CONTENT="json,pickle")


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The host's zone is Tokyo's."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize("kind", ["json", "pickled"])
def test_an_interval_keeps_its_next_time_and_its_options(trusting: Site, kind: str):
    scheduler: Scheduler = getattr(trusting, kind)
    job = scheduler.schedule(
        LATER,
        "shop.clean",
        [7],
        {"deep": True},
        interval=90,
        timeout="5m",
        result_ttl=60,
        ttl=30,
        id="nightly",
        queue_name="mail",
    )
    trusting.set(job.id, "enqueue_at_front", 1)
    record = trusting.one()
    assert record.next == LATER_UTC
    assert (record.source, record.queue, record.count) == ("run", "mail", 0)
    assert record.entry == Entry(
        name="nightly",
        task="shop.clean",
        schedule=every(90),
        args=(7,),
        kwargs={"deep": True},
        options={
            "queue": "mail",
            "time_limit": 300.0,
            "result_ttl": 60,
            "expires": 30.0,
            "priority": 1,
        },
    )
    assert trusting.members() == {record.id}
    assert not trusting.raw.exists("rq:job:nightly")
    assert trusting.raw.hget(f"rq:job:{record.id}", "tq_entry") == b"nightly"


def test_what_rq_does_by_default_is_left_to_the_app(site: Site):
    site.json.schedule(LATER, "shop.clean", interval=90, timeout=180)
    entry = site.one().entry
    assert entry is not None
    assert entry.options == {"queue": "low"}


def test_no_time_limit_stays_none(site: Site):
    site.json.schedule(LATER, "shop.clean", interval=90, timeout=-1)
    entry = site.one().entry
    assert entry is not None
    assert entry.options == {"queue": "low", "time_limit": None}


def test_pickles_are_not_decoded_unless_they_are_accepted(site: Site):
    site.pickled.schedule(LATER, "shop.clean", interval=90)
    reason = site.refused()
    assert "TASKQUEUE_ACCEPT_CONTENT" in reason
    assert "'pickle'" in reason


def test_a_pickled_meta_is_not_decoded_either(site: Site):
    job = site.json.schedule(LATER, "shop.clean", interval=90)
    site.set(job.id, "meta", pickle.dumps({"interval": 5}))
    assert "TASKQUEUE_ACCEPT_CONTENT" in site.refused()


@pytest.mark.usefixtures("in_tokyo")
def test_cron_texts_are_in_the_zone_that_is_named(site: Site):
    site.json.cron("30 9 * * mon-fri", "shop.clean")
    (dry,) = site.run(TOKYO, dry_run=True)
    assert dry.notes == ()
    record = site.one(TOKYO)
    assert record.entry is not None
    schedule = record.entry.schedule
    assert schedule == crontab.from_string("30 9 * * mon-fri", tz="Asia/Tokyo")
    assert record.next == schedule.next_run(datetime.now(UTC))
    assert (record.next.hour, record.next.minute) == (0, 30)


@pytest.mark.usefixtures("in_tokyo")
def test_a_zone_that_cannot_be_the_host_s_is_told(site: Site):
    site.json.cron("30 9 * * *", "shop.clean")
    (found,) = site.run(UTC)
    (note,) = found.notes
    assert "00:30:00 UTC, which is none of its times in UTC" in note
    assert found.next is not None
    assert (found.next.hour, found.next.minute) == (9, 30)


def test_a_missed_cron_time_is_fired(site: Site):
    job = site.json.cron("0 0 1 1 *", "shop.clean")
    missed = datetime(2026, 1, 1, tzinfo=UTC)
    site.raw.zadd(SET, {job.id: missed.timestamp()})
    record = site.one()
    assert record.next == missed
    (fired,) = site.tick()
    assert fired.startswith(f"{record.id}-")
    (row,) = listing.firings(site.state, record.name)
    assert row.due == datetime(datetime.now(UTC).year, 1, 1, tzinfo=UTC)


def test_a_one_off_fires_once_also_when_it_is_overdue(site: Site):
    site.json.enqueue_at(datetime(2020, 1, 1), "shop.clean", 7)
    site.json.enqueue_in(timedelta(hours=1), "shop.clean", deep=True)
    overdue, coming = site.run()
    for found, args, kwargs in ((overdue, (7,), {}), (coming, (), {"deep": True})):
        assert found.entry is not None
        assert found.next is not None
        assert found.entry.schedule == At(found.next)
        assert (found.entry.args, found.entry.kwargs) == (args, kwargs)
    assert overdue.next == datetime(2020, 1, 1, tzinfo=UTC)
    (job_id,) = site.tick()
    assert site.tick() == []
    assert site.raw.lrange("rq:queue:low", 0, -1) == [job_id.encode()]
    assert overdue.entry is not None
    record = listing.record(site.state, overdue.entry.name)
    assert record is not None
    assert (record.ended, record.count, record.next) == (True, 1, None)


def test_an_overdue_interval_fires_and_goes_on_in_its_rhythm(site: Site):
    begun = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=3600 * 5 + 120)
    site.json.schedule(
        begun.replace(tzinfo=None), "shop.clean", [7], interval=3600, id="hourly"
    )
    record = site.one()
    assert record.next == begun
    (job_id,) = site.tick()
    fired = listing.firings(site.state, "hourly")
    assert [(f.job_id, f.due) for f in fired] == [(job_id, begun + timedelta(hours=5))]
    after = listing.record(site.state, "hourly")
    assert after is not None
    assert after.next == begun + timedelta(hours=6)
    site.run_all()
    assert site.raw.hget(f"rq:job:{job_id}", "tq_task") == b"shop.clean"


def test_names_are_the_ids_that_people_chose(site: Site):
    chosen = site.json.enqueue_at(LATER, "shop.clean", job_id="by_hand-1")
    made = site.json.enqueue_at(LATER, "shop.clean")
    names = {found.id: found.entry and found.entry.name for found in site.run()}
    assert names == {
        chosen.id: "by_hand-1",
        made.id: f"shop.clean {made.id[:8]}",
    }


def test_values_of_its_meta_that_have_no_place_are_told(site: Site):
    meta = {"owner": "ann", "cause": 1}
    site.json.schedule(LATER, "shop.clean", interval=90, meta=meta)
    (found,) = site.run()
    assert found.notes == ("left out of its meta: cause, owner",)


@pytest.mark.parametrize("status", ["queued", "started", "finished"])
def test_a_job_it_has_enqueued_stays(site: Site, status: str):
    job = site.json.schedule(LATER, "shop.clean", interval=90)
    site.set(job.id, "status", status)
    fields = site.raw.hgetall(f"rq:job:{job.id}")
    record = site.one()
    assert site.members() == {record.id}
    assert site.raw.hgetall(f"rq:job:{job.id}") == fields


def _wrong_type(site: Site, id: str) -> None:
    site.raw.delete(f"rq:job:{id}")
    site.raw.set(f"rq:job:{id}", "text")


def _call(site: Site, id: str, *call: t.Any) -> None:
    site.set(id, "data", zlib.compress(json.dumps(call).encode()))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(
            lambda site, id: site.set(id, "meta", '{"interval": 9, "repeat": 3}'),
            "it ends after 3 more times, which an entry cannot",
            id="repeat",
        ),
        pytest.param(
            lambda site, id: site.set(id, "success_callback_name", "shop.told"),
            "it has a callback of RQ's: give the task a hook, or a link",
            id="callback",
        ),
        pytest.param(
            lambda site, id: site.set(id, "dependency_ids", '["a"]'),
            "it depends on another job, which an entry cannot",
            id="dependency",
        ),
        pytest.param(
            lambda site, id: _call(site, id, "shop.clean", "an object", [], {}),
            "it calls a method of an object: only functions can be tasks",
            id="method",
        ),
        pytest.param(
            lambda site, id: _call(site, id, "shop.clear", None, [], {}),
            "no task 'shop.clear' is registered here: decorate",
            id="unknown task",
        ),
        pytest.param(
            lambda site, id: _call(site, id, "shop.clean", None, [1, 2], {}),
            "too many positional arguments",
            id="signature",
        ),
        pytest.param(
            lambda site, id: site.set(id, "origin", "a b"), "queue", id="queue"
        ),
        pytest.param(
            lambda site, id: site.set(id, "timeout", "soon"), "timeout", id="timeout"
        ),
        pytest.param(
            lambda site, id: site.set(id, "meta", '{"interval": "often"}'),
            "expected an interval in seconds",
            id="interval",
        ),
        pytest.param(
            lambda site, id: site.set(id, "meta", '{"cron_string": "0 0 L * *"}'),
            "expected cron field 'day_of_month'",
            id="cron",
        ),
        pytest.param(
            lambda site, id: site.set(id, "meta", '{"cron_string": "0 0 31 2 *"}'),
            "a date that exists",
            id="no such date",
        ),
        pytest.param(
            lambda site, id: site.set(id, "meta", "[]"),
            "its meta is no dict",
            id="meta",
        ),
        pytest.param(
            lambda site, id: site.set(id, "meta", '"' + "x" * 2**20 + '"'),
            "its meta has more than 1048576 bytes",
            id="large meta",
        ),
        pytest.param(
            lambda site, id: site.set(id, "data", b"\xff"), "0x80", id="no call"
        ),
        pytest.param(
            lambda site, id: site.set(id, "data", zlib.compress(b"[" * 2**21)),
            "at most 1048576 bytes",
            id="large call",
        ),
        pytest.param(
            lambda site, id: site.raw.zadd(SET, {id: float("inf")}),
            "expected seconds since 1970, got inf",
            id="never due",
        ),
        pytest.param(
            lambda site, id: site.raw.delete(f"rq:job:{id}"),
            "its job is gone: it expired, or was deleted",
            id="gone",
        ),
        pytest.param(_wrong_type, "its job is gone", id="wrong type"),
    ],
)
def test_what_cannot_be_kept_stays_where_it_is(
    site: Site, change: t.Callable[[Site, str], object], reason: str
):
    job = site.json.schedule(LATER, "shop.clean", interval=90)
    change(site, job.id)
    assert reason in site.refused()


def test_values_that_are_no_json_stay_where_they_are(trusting: Site):
    trusting.pickled.schedule(LATER, "shop.clean", [{1, 2}], interval=90)
    assert "argument 0 to be JSON" in trusting.refused()


def test_a_name_that_the_code_declares_is_left_to_it(
    redis_url: str, client: redis.Redis
):
    schedule = {"nightly": {"task": "shop.clean", "schedule": 30}}
    site = Site(redis_url, client, TASKQUEUE_BEAT_SCHEDULE=schedule)
    site.tq.periodic(60, "hourly")(site.tq.tasks["shop.clean"])
    for name in ("nightly", "hourly"):
        site.json.enqueue_at(LATER, "shop.clean", job_id=name)
        assert f"the code declares an entry {name!r}" in site.refused()
        site.json.cancel(name)


def test_an_entry_is_not_overwritten(site: Site):
    parts = {"task": "shop.clean", "schedule": 30}
    mine = read_entry("nightly", parts, UTC)
    writing.put_entry(site.state, site.client, mine, "run")
    site.json.enqueue_at(LATER, "shop.clean", job_id="nightly")
    assert "there is an entry 'nightly' already" in site.refused()


def test_one_that_fires_while_it_is_imported_stays_where_it_is(site: Site):
    job = site.json.schedule(LATER, "shop.race", interval=90)
    Racing.meanwhile = lambda: site.raw.zincrby(SET, 90, job.id)
    try:
        (found,) = site.run()
    finally:
        Racing.meanwhile = None
    assert found.refused == "it fired, or was changed, at this moment: try again"
    assert site.raw.zscore(SET, job.id) == LATER_UTC.timestamp() + 90
    assert listing.records(site.state) == []
    assert site.one().next == LATER_UTC + timedelta(seconds=90)


def test_a_name_that_is_taken_meanwhile_stays_that_of_the_other(
    site: Site, monkeypatch: pytest.MonkeyPatch
):
    read = writing.read_times
    mine = Entry(name="nightly", task="shop.clean", schedule=every(30))

    def then_add(client: redis.Redis, id: str) -> writing.Times:
        times = read(client, id)
        monkeypatch.setattr(writing, "read_times", read)
        writing.put_entry(site.state, site.client, mine, "run")
        return times

    monkeypatch.setattr(writing, "read_times", then_add)
    job = site.json.enqueue_at(LATER, "shop.clean", job_id="nightly")
    (found,) = site.run()
    assert "was changed, at this moment" in found.refused
    assert [record.entry for record in listing.records(site.state)] == [mine]
    assert site.raw.zscore(SET, job.id) == LATER_UTC.timestamp()


def test_a_plain_rqscheduler_waits_as_soon_as_one_is_imported(site: Site):
    site.json.schedule(LATER, "shop.clean", interval=90)
    assert site.run(dry_run=True)
    assert not site.raw.exists(LOCK)
    site.run()
    assert site.raw.get(LOCK) == b"flask-taskqueue"


def test_one_that_is_cancelled_meanwhile_is_no_entry(site: Site):
    job = site.json.schedule(LATER, "shop.race", interval=90)
    Racing.meanwhile = lambda: site.json.cancel(job)
    try:
        (found,) = site.run()
    finally:
        Racing.meanwhile = None
    assert "it fired, or was changed" in found.refused
    assert site.members() == set()
    assert listing.records(site.state) == []


def test_a_task_that_refuses_to_be_called_is_told(site: Site):
    def refuse() -> None:
        raise RuntimeError("not today")

    site.json.schedule(LATER, "shop.race", interval=90)
    Racing.meanwhile = refuse
    try:
        assert site.refused() == "RuntimeError: not today"
    finally:
        Racing.meanwhile = None


def test_a_large_set_is_imported_as_a_whole(site: Site, redis_url: str):
    other = InProcess("other", redis_url, site.client)
    other.tq.task(name="shop.clean")(_clean)
    for app in (site, other):
        with app.app.app_context():
            app.tq.schedules.add("own", "shop.clean", 30)
    first = site.json.schedule(LATER, "shop.clean", [0], interval=90, id="n0")
    fields = site.raw.hgetall(f"rq:job:{first.id}")
    ids = [f"n{n}" for n in range(400)]
    with site.raw.pipeline() as pipe:
        for n, id in enumerate(ids):
            pipe.hset(f"rq:job:{id}", mapping=fields)
            pipe.zadd(SET, {id: LATER_UTC.timestamp() + n})
        pipe.execute()
    found = site.run()
    assert sorted(row.id for row in found) == sorted(ids)
    assert all(row.refused == "" for row in found)
    made = {entry_id("shop", id) for id in ids}
    own = {entry_id("shop", "own"), entry_id("other", "own")}
    assert site.members() == made | own
    assert len(listing.records(site.state)) == 401
    assert site.run() == []


def test_a_dry_run_changes_nothing(site: Site):
    site.json.schedule(LATER, "shop.clean", interval=90, id="nightly")
    site.json.schedule(LATER, "shop.clear", interval=90)
    before = site.everything()
    dry = site.run(dry_run=True)
    assert site.everything() == before
    assert dry == site.run()
    assert listing.record(site.state, "nightly") is not None


def test_the_unsigned_are_signed_only_when_that_is_wanted(
    redis_url: str, client: redis.Redis
):
    site = Site(redis_url, client, TASKQUEUE_SIGN=True, SECRET_KEY="k")
    site.json.schedule(LATER, "shop.clean", interval=90)
    assert "--unsigned" in site.refused()
    record = site.one(unsigned=True)
    assert site.raw.hexists(keys.entry(record.id), "sig")


def test_redis_away_is_told(client: redis.Redis):
    site = Site(f"redis://127.0.0.1:{free_port()}", client)
    with pytest.raises(BrokerUnavailable):
        site.run()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 9 * * mon-fri", "0 9 * * mon-fri"),
        ("5/15 * ? JAN sun", "5-59/15 * * jan sun"),
        ("*/5,1 0-6/2 * * *", "*/5,1 0-6/2 * * *"),
        ("1,*,3 * * * *", "* * * * *"),
        ("0 0 * * sat-sun", "0 0 * * sat-7"),
        ("0 0 * * 7", "0 0 * * 7"),
        ("@daily", "@daily"),
        ("0 9 * * * *", "0 9 * * *"),
        ("0 0 9 * * * *", "0 0 9 * * *"),
        ("*/10 0 9 * * * ?", "*/10 0 9 * * *"),
    ],
)
def test_a_cron_text_is_translated(text: str, expected: str):
    assert translated(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "0 9 * *",
        "0 9 * * * 2030",
        "0 0 9 * * * 2030-2040",
        "0 9 L * *",
        "0 9 z2 * *",
        "0 9 * * L5",
        "0 9 * * fri-",
        "0 0 0 0 0 0 0 0",
        "@reboot",
    ],
)
def test_a_cron_text_without_a_counterpart_is_refused(text: str):
    with pytest.raises(ValueError, match="expected|year"):
        crontab.from_string(translated(text))


def _column(low: int, high: int, *names: str) -> st.SearchStrategy[str]:
    """A field as the ``crontab`` library takes it."""
    value = st.integers(low, high).map(str) | st.sampled_from(names or (str(low),))
    spans = st.tuples(st.integers(low, high), st.integers(low, high)).map(sorted)
    span = spans.map(lambda pair: f"{pair[0]}-{pair[1]}")
    step = st.integers(1, 4).map(lambda n: f"/{n}")
    stepped = st.tuples(st.sampled_from(["*", str(low), f"{low}-{high}"]), step)
    piece = value | span | stepped.map("".join)
    return st.just("*") | st.lists(piece, min_size=1, max_size=3).map(",".join)


FIVE = st.tuples(
    _column(0, 59),
    _column(0, 23),
    _column(1, 31) | st.just("?"),
    _column(1, 12, "jan", "Dec"),
    _column(0, 6, "sun", "SAT", "7") | st.just("fri-sun"),
).map(" ".join)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(FIVE, st.integers(0, 6 * 365 * 86_400))
def test_a_translated_cron_text_has_the_same_times(text: str, seconds: int):
    theirs = crontab_library.CronTab(text)
    ours = crontab.from_string(translated(text))
    start = wanted = datetime(2024, 1, 1) + timedelta(seconds=seconds)
    for _ in range(4):
        wanted = theirs.next(wanted, default_utc=True, return_datetime=True)
        if wanted is None:  # a 29th of February, and its year 2099
            return
        assert ours.next_run(start.replace(tzinfo=UTC)) == wanted.replace(tzinfo=UTC)
        start = wanted
