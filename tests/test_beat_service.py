"""A beat in the test's own process: what it fires, says, survives and gives up."""

from __future__ import annotations

import gc
import logging
import statistics
import time
import typing as t
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
import redis
from rq.scheduler import RQScheduler
from rq_scheduler import Scheduler

from flask_taskqueue import Task, keys, signals
from flask_taskqueue.appstate import AppState
from flask_taskqueue.beat import listing, strays, troubles, writing
from flask_taskqueue.beat.entries import Entry, entry_id, firing_id, read_entry
from flask_taskqueue.beat.records import Record
from flask_taskqueue.beat.service import Beat
from flask_taskqueue.jobinfo import JobInfo
from flask_taskqueue.worker.embedded_beat import BeatThread

from .running import InProcess
from .servers import Server, eventually

Client = t.Any

LOGGER = "flask_taskqueue.beat"


class Fussy(Task[..., t.Any]):
    """Refuses to be called while it is told to."""

    refuses: t.ClassVar[Exception | None] = None

    def apply_async(self, *args: t.Any, **options: t.Any) -> t.Any:
        if Fussy.refuses is not None:
            raise Fussy.refuses
        return super().apply_async(*args, **options)


class Site(InProcess):
    """An app with two tasks, and the beats that were started for it."""

    def __init__(self, url: str, client: redis.Redis, **config: object) -> None:
        super().__init__(__name__, url, client, **config)
        self.beats: list[BeatThread] = []
        self.raw: Client = client
        self.tq.task(name="work")(lambda *args: None)
        self.tq.task(name="fussy", base=Fussy)(lambda *args: None)

    @property
    def state(self) -> AppState:
        return self.tq.state_of(self.app)

    def id(self, name: str) -> str:
        return entry_id(self.app.name, name)

    def start(self, *entries: Entry, name: str = "beat") -> BeatThread:
        """Start a beat whose code declares these, and wait until they are written."""
        beat = BeatThread(self.state, name, entries)
        self.beats.append(beat)
        for entry in entries:
            key = keys.entry(self.id(entry.name))
            eventually(lambda key=key: self.raw.exists(key))
        eventually(lambda: self.leader is not None)
        return beat

    def stop(self, beat: BeatThread) -> None:
        beat.stop()
        assert eventually(beat.death, 5) == "exit status 0"

    @property
    def leader(self) -> bytes | None:
        return t.cast("bytes | None", self.raw.get(f"tq:lead:{self.app.name}"))

    def due(self, name: str) -> float | None:
        score = self.raw.zscore(keys.NAMES["scheduler_set"], self.id(name))
        return t.cast("float | None", score)

    def make_due(self, *names: str, ago: float = 0.0) -> float:
        """Let entries be due now, as rq-scheduler's API would; the instant."""
        at = round(time.time() - ago, 3)
        scores = {self.id(name): at for name in names}
        with self.raw.pipeline() as pipe:
            pipe.zadd(keys.NAMES["scheduler_set"], scores)
            pipe.zadd(f"tq:due:{self.app.name}", scores)
            pipe.publish(keys.NAMES["entries_changed"], self.app.name)
            pipe.execute()
        return at

    def wake(self) -> None:
        """Let the beats look at once."""
        self.raw.publish(keys.NAMES["entries_changed"], self.app.name)

    def waiting(self) -> list[str]:
        """Ids in the queue."""
        return [job.decode() for job in self.raw.lrange("rq:queue:default", 0, -1)]

    def fired(self, name: str) -> list[listing.Fired]:
        """Firings of an entry, oldest first."""
        return listing.firings(self.state, name, 100)[::-1]


@pytest.fixture
def site(
    redis_url: str, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> Iterator[Site]:
    caplog.set_level(logging.INFO, "flask_taskqueue")
    Fussy.refuses = None
    site = Site(redis_url, client)
    yield site
    for beat in site.beats:
        beat.stop()
    for beat in site.beats:
        eventually(beat.death)


def entry(
    name: str, schedule: t.Any = 3600, task: str = "work", **parts: t.Any
) -> t.Any:
    return read_entry(name, {"task": task, "schedule": schedule, **parts}, UTC)


def said(
    caplog: pytest.LogCaptureFixture, text: str, level: int = logging.INFO
) -> list[logging.LogRecord]:
    """Lines of beat that hold a text, of one level."""
    return [
        record
        for record in caplog.records
        if record.name.startswith(LOGGER)
        and record.levelno == level
        and text in record.getMessage()
    ]


def test_a_due_entry_is_fired_logged_and_told(
    site: Site, caplog: pytest.LogCaptureFixture
):
    enqueued: list[JobInfo] = []
    looks: list[tuple[str, tuple[str, ...]]] = []

    def hear_job(app: object, job: JobInfo) -> None:
        enqueued.append(job)

    def hear_look(app: object, beat: str, jobs: tuple[str, ...]) -> None:
        looks.append((beat, jobs))

    with ExitStack() as stack:
        stack.enter_context(signals.job_enqueued.connected_to(hear_job, site.app))
        stack.enter_context(signals.beat_tick.connected_to(hear_look, site.app))
        site.start(entry("each", args=[1]))
        due = site.make_due("each")
        eventually(lambda: [jobs for _, jobs in looks if jobs])
    (row,) = site.fired("each")
    job_id = firing_id(site.id("each"), datetime.fromtimestamp(due, UTC))
    assert (row.job_id, row.what, row.state) == (job_id, "fired", "PENDING")
    assert site.waiting() == [job_id]
    assert [(job.id, job.task, job.queue) for job in enqueued] == [
        (job_id, "work", "default")
    ]
    assert {name for name, _ in looks} == {"beat"}
    assert [jobs for _, jobs in looks if jobs] == [(job_id,)]
    assert () in [jobs for _, jobs in looks]
    (line,) = said(caplog, "Scheduler: Sending due task each (work)")
    assert t.cast(t.Any, line).job_id == job_id
    assert (t.cast(t.Any, line).task, t.cast(t.Any, line).queue) == ("work", "default")
    assert site.due("each") == pytest.approx(due + 3600)


def test_each_due_time_is_fired_once_and_soon(site: Site):
    site.start(entry("quick", 0.1), entry("slow", 60))
    eventually(lambda: len(site.fired("quick")) >= 30)
    rows = site.fired("quick")
    steps = [b.due - a.due for a, b in zip(rows, rows[1:], strict=False)]
    assert set(steps) == {timedelta(seconds=0.1)}
    late = [(row.at - row.due).total_seconds() for row in rows]
    assert min(late) >= 0
    assert statistics.median(late) < 0.05
    assert len(site.waiting()) == len(set(site.waiting())) >= len(rows)


def test_a_sleeping_beat_is_woken_by_a_change(site: Site):
    site.start(entry("hourly"))
    waits = []
    for _ in range(5):
        before = len(site.waiting())
        began = time.monotonic()
        site.make_due("hourly")
        eventually(lambda before=before: len(site.waiting()) > before)
        waits.append(time.monotonic() - began)
    # It sleeps for up to 1.3 s at a time.
    assert statistics.median(waits) < 0.3


@pytest.mark.parametrize("how", ["call", "record"])
def test_an_entry_that_cannot_be_fired_stops_no_other(
    site: Site,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
):
    monkeypatch.setattr(troubles, "REST", 0.05)
    site.start(entry("bad", task="fussy"), entry("good"))
    if how == "call":
        Fussy.refuses = RuntimeError("not today")
    else:
        fields = {"definition": "{", "fingerprint": "other"}
        site.raw.hset(keys.entry(site.id("bad")), mapping=fields)
    due = site.make_due("bad")
    # Long enough for it to be tried again and again.
    until, count = time.monotonic() + 0.5, 0
    while time.monotonic() < until:
        site.make_due("good")
        count += 1
        eventually(lambda count=count: len(site.fired("good")) == count)
    (error,) = said(caplog, "bad cannot be fired", logging.ERROR)
    assert bool(error.exc_info) == (how == "call")
    assert site.due("bad") == due
    assert site.fired("bad") == []


def test_an_entry_that_can_be_fired_again_is_fired_late(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(troubles, "REST", 0.05)
    site.start(entry("moody", task="fussy"))
    Fussy.refuses = RuntimeError("not today")
    due = site.make_due("moody")
    eventually(
        lambda: said(caplog, "moody cannot be fired: RuntimeError", logging.ERROR)
    )
    Fussy.refuses = None
    (row,) = eventually(lambda: site.fired("moody"))
    assert row.due.timestamp() == due
    assert site.due("moody") == pytest.approx(due + 3600)


def test_an_entry_at_rest_is_left_alone(site: Site, caplog: pytest.LogCaptureFixture):
    """Neither tried again and again, nor looked at in a loop without a pause."""
    looks: list[float] = []

    def hear(app: object, **facts: object) -> None:
        looks.append(time.monotonic())

    site.start(entry("bad", task="fussy"))
    Fussy.refuses = RuntimeError("not today")
    site.make_due("bad")
    eventually(lambda: said(caplog, "bad cannot be fired", logging.ERROR))
    with signals.beat_tick.connected_to(hear, site.app):
        eventually(lambda: len(looks) >= 2)
    assert looks[1] - looks[0] > 0.5


def test_a_cancelled_entry_is_told_once(site: Site, caplog: pytest.LogCaptureFixture):
    site.start(entry("gone"), entry("there"))
    due = site.make_due("gone", ago=-0.3)
    Scheduler("default", connection=site.client).cancel(site.id("gone"))
    eventually(lambda: said(caplog, "'flask beat resume gone'", logging.WARNING))
    assert time.time() >= due
    site.make_due("there")
    eventually(lambda: site.fired("there"))
    assert len(said(caplog, "gone", logging.WARNING)) == 1
    assert site.fired("gone") == []


def test_misfires_that_are_given_up_are_counted(
    site: Site, caplog: pytest.LogCaptureFixture
):
    site.start(entry("minutely", 60))
    site.make_due("minutely", ago=600)
    rows = eventually(
        lambda: len(site.fired("minutely")) >= 2 and site.fired("minutely")
    )
    (line,) = said(caplog, "minutely missed", logging.WARNING)
    assert f"missed {11 - len(rows)} due times" in line.getMessage()


def test_a_firing_is_skipped_while_the_last_job_has_not_ended(
    site: Site, caplog: pytest.LogCaptureFixture
):
    site.start(entry("slow", overlap="skip"))
    site.make_due("slow")
    eventually(lambda: len(site.fired("slow")) == 1)
    site.make_due("slow")
    eventually(lambda: said(caplog, "Scheduler: Skipping slow (work)"))
    assert [row.what for row in site.fired("slow")] == ["fired", "skipped"]
    assert len(site.waiting()) == 1


def test_receivers_that_raise_change_nothing(
    site: Site, caplog: pytest.LogCaptureFixture
):
    def spoil(app: object, **facts: object) -> None:
        raise ValueError("spoiled")

    with ExitStack() as stack:
        for signal in (signals.beat_tick, signals.job_enqueued):
            stack.enter_context(signal.connected_to(spoil, site.app))
        site.start(entry("each"))
        for count in (1, 2):
            site.make_due("each")
            eventually(lambda count=count: len(site.fired("each")) == count)
        eventually(lambda: "A receiver of job-enqueued raised" in caplog.text)
    assert "A receiver of beat-tick raised" in caplog.text


def plain_scheduler(site: Site) -> None:
    Scheduler("default", connection=site.client).register_birth()


def plain_entry(site: Site) -> None:
    scheduler = Scheduler("default", connection=site.client)
    scheduler.schedule(datetime.now(UTC), "math.sqrt", args=[4], interval=60)


def plain_lock(site: Site) -> None:
    assert Scheduler("default", connection=site.client).acquire_lock()


def plain_worker(site: Site) -> None:
    RQScheduler(["default"], connection=site.client).register_birth()


@pytest.mark.parametrize(
    ("stray", "text", "processes"),
    [
        pytest.param(plain_scheduler, "flask beat import", 1, id="rqscheduler"),
        pytest.param(plain_entry, "flask beat import", 0, id="entries"),
        pytest.param(plain_lock, "flask beat import", 1, id="lock"),
        pytest.param(plain_worker, "A plain rq worker runs its", 1, id="worker"),
    ],
)
@pytest.mark.parametrize("first", [True, False], ids=["before", "later"])
def test_plain_schedulers_are_warned_about_once(
    site: Site,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    stray: Callable[[Site], None],
    text: str,
    processes: int,
    first: bool,
):
    for name in ("PASS_EVERY", "STEP_EVERY", "SAMPLE_EVERY"):
        monkeypatch.setattr(strays, name, 0.0)
    if first:
        stray(site)
    site.start(entry("ours"))
    if not first:
        if stray is plain_lock:
            site.raw.delete("rq:scheduler_lock")  # it ran out
        stray(site)
        site.wake()
    eventually(lambda: said(caplog, text, logging.WARNING))
    for count in (1, 2):
        site.make_due("ours")
        eventually(lambda count=count: len(site.fired("ours")) == count)
    assert len(said(caplog, "lain rq", logging.WARNING)) == processes
    assert len(said(caplog, text, logging.WARNING)) == 1


def test_a_plain_scheduler_and_its_entries_are_warned_about_each(
    site: Site, caplog: pytest.LogCaptureFixture
):
    plain_entry(site)
    plain_scheduler(site)
    site.start(entry("ours"))
    eventually(lambda: said(caplog, "A plain rqscheduler runs", logging.WARNING))
    eventually(lambda: said(caplog, "1 of the first 2 entries", logging.WARNING))
    assert len(said(caplog, "or says why it cannot", logging.WARNING)) == 2


def test_a_beat_without_entries_does_not_warn(
    site: Site, caplog: pytest.LogCaptureFixture
):
    plain_scheduler(site)
    looks: list[str] = []

    def hear(app: object, beat: str, **facts: object) -> None:
        looks.append(beat)

    with signals.beat_tick.connected_to(hear, site.app):
        site.start()
        eventually(lambda: len(looks) >= 2)
    assert said(caplog, "", logging.WARNING) == []
    writing.put_entry(site.state, site.client, entry("ours"), "run")
    eventually(lambda: said(caplog, "A plain rqscheduler runs", logging.WARNING))


def test_a_plain_scheduler_that_ended_is_not_warned_about(
    site: Site, caplog: pytest.LogCaptureFixture
):
    scheduler = Scheduler("default", connection=site.client)
    scheduler.register_birth()
    scheduler.register_death()
    site.start(entry("ours"))
    site.make_due("ours")
    eventually(lambda: site.fired("ours"))
    assert said(caplog, "", logging.WARNING) == []


def test_many_keys_are_searched_in_steps(site: Site, caplog: pytest.LogCaptureFixture):
    site.raw.mset({f"other:{number}": "" for number in range(9_000)})
    plain_scheduler(site)
    site.start(entry("ours"))
    # Not one step every 2 s, of which it takes 18.
    eventually(lambda: said(caplog, "flask beat import", logging.WARNING), 1.5)


def test_what_left_the_code_is_removed_and_what_was_added_at_run_time_stays(
    site: Site, caplog: pytest.LogCaptureFixture
):
    writing.put_entry(site.state, site.client, entry("added"), "run")
    site.stop(site.start(entry("kept", 60), entry("left")))
    kept = site.due("kept")
    site.start(entry("kept", 60), entry("new"))
    eventually(lambda: site.due("left") is None)
    names = [record.name for record in listing.records(site.state)]
    assert names == ["added", "kept", "new"]
    assert site.due("kept") == kept
    assert len(said(caplog, "left is gone from the code")) == 1


def test_entries_come_back_after_everything_is_gone(
    site: Site, caplog: pytest.LogCaptureFixture
):
    site.start(entry("each", 60))
    site.raw.flushall()
    eventually(lambda: site.due("each"))
    site.make_due("each")
    eventually(lambda: site.fired("each"))
    assert len(said(caplog, "gone from Redis", logging.WARNING)) == 1


def test_entries_come_back_where_somebody_added_one_first(site: Site):
    site.start(entry("each", 60))
    site.raw.flushall()
    writing.put_entry(site.state, site.client, entry("added"), "run")
    eventually(lambda: site.due("each"))
    assert site.due("added")


def test_entries_come_back_where_the_first_try_failed(
    own_server: Server, caplog: pytest.LogCaptureFixture
):
    with own_server.client() as client:
        site = Site(own_server.url, client)
        beat = site.start(entry("each", 60), entry("other", 60))
        with site.raw.pipeline() as pipe:
            pipe.flushall()
            pipe.config_set("maxmemory", 1)
            pipe.execute()
        site.wake()
        eventually(lambda: "No connection to" in caplog.text)
        assert site.due("each") is None
        site.raw.config_set("maxmemory", 0)
        eventually(lambda: site.due("each") and site.due("other"))
        site.stop(beat)


def test_entries_come_back_that_are_lost_while_they_are_written(site: Site):
    lost: list[bool] = []

    class Losing(Task[..., t.Any]):
        def apply_async(self, *args: t.Any, **options: t.Any) -> t.Any:
            if not lost:
                lost.append(site.raw.flushall())
            return super().apply_async(*args, **options)

    site.tq.task(name="lose", base=Losing)(lambda: None)
    site.start(entry("before"), entry("lost", task="lose"))
    eventually(lambda: site.due("before") and site.due("lost"))
    assert lost


def test_entries_that_somebody_removed_stay_away(
    site: Site, caplog: pytest.LogCaptureFixture
):
    """As a newer release without entries does, while the old one still leads."""
    site.start(entry("old", 60))
    newer = Beat(site.state, "newer", [], on_ready=lambda: newer.request_stop())
    newer.run()
    writing.put_entry(site.state, site.client, entry("other"), "run")
    site.make_due("other")
    eventually(lambda: site.fired("other"))
    assert [record.name for record in listing.records(site.state)] == ["other"]
    assert said(caplog, "gone from Redis", logging.WARNING) == []


@pytest.mark.parametrize("kind", [RuntimeError, ConnectionError])
def test_an_entry_that_cannot_be_written_keeps_no_other_back(
    site: Site, caplog: pytest.LogCaptureFixture, kind: type[Exception]
):
    Fussy.refuses = kind("not today")
    beat = BeatThread(site.state, "beat", [entry("bad", task="fussy"), entry("good")])
    site.beats.append(beat)
    eventually(lambda: site.due("good"))
    (line,) = said(caplog, "bad cannot be written", logging.ERROR)
    assert "not today" in str(line.exc_text or line.exc_info)
    assert "No connection to" not in caplog.text


def test_a_one_off_that_was_over_when_first_seen_is_warned_of_once(
    site: Site, caplog: pytest.LogCaptureFixture
):
    declared = entry("past", datetime(2020, 1, 1, tzinfo=UTC)), entry("each")
    for _ in range(2):
        site.stop(site.start(*declared))
    (line,) = said(caplog, "past lies in the past", logging.WARNING)
    assert "2020-01-01T00:00:00+00:00" in line.getMessage()


def test_a_one_off_that_fired_is_not_warned_of(
    site: Site, caplog: pytest.LogCaptureFixture
):
    once = datetime.now(UTC) + timedelta(seconds=0.2)
    beat = site.start(entry("once", once))
    eventually(lambda: site.fired("once"))
    site.stop(beat)
    site.start(entry("once", once, args=[1]), entry("new"))
    assert said(caplog, "", logging.WARNING) == []


def test_entries_of_run_time_are_signed_anew_where_the_key_was_changed(
    redis_url: str, client: redis.Redis
):
    def site(*secrets: str) -> Site:
        first, *others = secrets
        config = {"SECRET_KEY": first, "SECRET_KEY_FALLBACKS": others}
        return Site(redis_url, client, TASKQUEUE_SIGN=True, **config)

    old, both, new = site("old"), site("new", "old"), site("new")
    old.tq.task(name="elsewhere", queue="far")(lambda: None)
    for name, task in (("known", "work"), ("unknown", "elsewhere"), ("forged", "work")):
        added = entry(name, task=task)
        writing.put_entry(old.state, client, added, "run")
    old.raw.hset(keys.entry(old.id("forged")), "queue", "other")
    paused = old.id("known")
    due = old.due("unknown")
    with old.app.app_context():
        old.tq.schedules.pause("known")
    assert {record.entry for record in listing.records(new.state)} == {None}
    before = {record.name: record for record in listing.records(old.state)}

    both.stop(both.start(entry("declared")))
    after = {record.name: record for record in listing.records(new.state)}
    assert after.pop("declared").source == "code"
    assert after == before
    assert after["unknown"].queue == "far"
    assert after["forged"].entry is None
    assert both.due("unknown") == due
    assert client.zscore(keys.NAMES["scheduler_set"], paused) is None


def test_a_beat_that_stops_lets_another_lead_at_once(site: Site):
    first = site.start(entry("each"), name="first")
    assert site.leader == b"first"
    site.start(entry("each"), name="second")
    began = time.monotonic()
    site.stop(first)
    eventually(lambda: site.leader == b"second", 2)
    # Its lease would have held it up for 4 s, its own rest for 2.
    assert time.monotonic() - began < 1.5


def test_the_lease_of_a_dead_beat_is_waited_for_and_no_longer(site: Site):
    site.raw.set(f"tq:lead:{site.app.name}", "dead", px=800)
    beat = BeatThread(site.state, "beat", [entry("each")])
    site.beats.append(beat)
    began = time.monotonic()
    eventually(lambda: site.leader == b"beat")
    assert 0.5 < time.monotonic() - began < 1.5


def test_only_the_one_that_leads_fires(site: Site, caplog: pytest.LogCaptureFixture):
    for name in ("first", "second", "third"):
        site.start(entry("quick", 0.1), name=name)
    eventually(lambda: len(site.fired("quick")) >= 10)
    assert len(said(caplog, " leads")) == 1
    assert len(said(caplog, " stands by")) == 2
    rows = site.fired("quick")
    assert len({row.due for row in rows}) == len(rows)


def test_a_thousand_entries_of_one_second_go_through_in_about_that(site: Site):
    names = [f"entry {number}" for number in range(1000)]
    for name in names:
        writing.put_entry(site.state, site.client, entry(name), "run")
    site.start()
    began = time.monotonic()
    site.make_due(*names)
    eventually(lambda: len(site.waiting()) == 1000)
    # About 0.7 s where nothing else runs.
    assert time.monotonic() - began < 5


def test_records_of_entries_that_are_gone_are_not_kept(site: Site):
    site.start()
    for turn in range(3):
        names = [f"{turn} {number}" for number in range(20)]
        for name in names:
            writing.put_entry(site.state, site.client, entry(name), "run")
        site.make_due(*names)
        eventually(lambda turn=turn: len(site.waiting()) == 20 * (turn + 1))
        with site.app.app_context():
            for name in names:
                site.tq.schedules.remove(name)

    def kept() -> list[str]:
        names = [o.name for o in gc.get_objects() if isinstance(o, Record)]
        # Not those of other tests, which may still be somewhere.
        return [name for name in names if name[:2] in ("0 ", "1 ", "2 ")]

    gc.collect()
    eventually(lambda: not kept())


def test_lost_connections_are_made_anew(site: Site):
    site.start(entry("each"))
    for count in (1, 2, 3):
        for kind in ("normal", "pubsub"):
            site.raw.client_kill_filter(_type=kind, skipme=True)
        site.make_due("each")
        eventually(lambda count=count: len(site.fired("each")) == count)


def test_a_full_server_is_waited_for(
    own_server: Server, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "flask_taskqueue")
    with own_server.client() as client:
        site = Site(own_server.url, client)
        site.start(entry("each"))
        site.raw.config_set("maxmemory", 1)
        due = site.raw.zscore(keys.NAMES["scheduler_set"], site.id("each"))
        # Its time comes while nothing can be stored.
        site.raw.config_set("maxmemory", 0)
        with site.raw.pipeline() as pipe:
            due = round(time.time(), 3)
            for key in (keys.NAMES["scheduler_set"], f"tq:due:{site.app.name}"):
                pipe.zadd(key, {site.id("each"): due})
            pipe.config_set("maxmemory", 1)
            pipe.publish(keys.NAMES["entries_changed"], site.app.name)
            pipe.execute()
        eventually(lambda: "No connection to" in caplog.text)
        connected = "total_connections_received"
        tries = site.raw.info("stats")[connected] + 6  # two each
        eventually(lambda: site.raw.info("stats")[connected] >= tries)
        assert caplog.text.count("No connection to") == 1
        assert caplog.text.count("Connected to") == 1
        assert site.due("each") == due
        site.raw.config_set("maxmemory", 0)
        (row,) = eventually(lambda: site.fired("each"))
        assert row.due.timestamp() == due
        eventually(lambda: caplog.text.count("Connected to") == 2)
        site.stop(site.beats[0])


def test_a_beat_that_was_stopped_before_it_ran_ends(site: Site):
    beat = Beat(site.state, "beat", [entry("each")])
    beat.request_stop()
    beat.run()
    beat.request_stop()  # of one that has ended: nothing
    assert site.leader is None


def test_one_whose_starter_ended_stops(site: Site):
    beat = Beat(site.state, "beat", [entry("each")], orphaned=lambda: True)
    beat.run()
    assert site.leader is None


def test_ready_is_told_once_when_entries_are_written(site: Site):
    seen: list[Sequence[str]] = []

    def note() -> None:
        seen.append([record.name for record in listing.records(site.state)])
        beat.request_stop()

    beat = Beat(site.state, "beat", [entry("each")], on_ready=note)
    beat.run()
    assert seen == [["each"]]
