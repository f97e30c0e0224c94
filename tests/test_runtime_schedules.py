"""``tq.schedules``: entries that are made, changed and triggered at run time."""

from __future__ import annotations

import math
import threading
import time
import typing as t
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import redis
from flask import Flask
from rq_scheduler import Scheduler

from flask_taskqueue import JobInfo, Task, TaskQueue, crontab, every, signals
from flask_taskqueue.beat import scripts, writing
from flask_taskqueue.beat.entries import Entry, entry_id
from flask_taskqueue.beat.epoch import epoch_text
from flask_taskqueue.beat.records import Record
from flask_taskqueue.beat.schedules import At
from flask_taskqueue.errors import (
    BrokerUnavailable,
    EntryNotFound,
    TaskQueueError,
)

from .entries_in_redis import LOCK
from .plain_schedulers import SET
from .running import InProcess
from .servers import Server, eventually
from .shop import NOWHERE

Client = t.Any
HOUR = timedelta(hours=1)


class Site(InProcess):
    """An app with a task ``add``."""

    def __init__(self, url: str, client: redis.Redis, **config: object) -> None:
        super().__init__(__name__, url, client, **config)
        self.add = self.tq.task(name="add")(self._add)

    def _add(self, x: int = 0, y: int = 0) -> int:
        return x + y

    def now(self) -> datetime:
        """The server's time."""
        client: Client = self.client
        seconds, microseconds = client.time()
        return datetime.fromtimestamp(seconds, UTC) + timedelta(
            microseconds=microseconds
        )

    def set(self, name: str, **fields: str | None) -> None:
        """Change fields of an entry's record."""
        key = f"tq:entry:{entry_id(self.app.name, name)}"
        for field, value in fields.items():
            if value is None:
                self.client.hdel(key, field)
            else:
                self.client.hset(key, field, value)

    def set_due(self, name: str, due: datetime) -> None:
        """Let an entry be due at another time."""
        id, text = entry_id(self.app.name, name), epoch_text(due)
        for key in (SET, f"tq:due:{self.app.name}"):
            self.client.zadd(key, {id: float(text)})
        self.set(name, due=text)


@pytest.fixture
def site(redis_url: str, client: redis.Redis) -> Iterator[Site]:
    site = Site(redis_url, client)
    with site.app.app_context():
        yield site


def next_of(record: Record) -> datetime:
    assert record.next is not None
    return record.next


def test_an_added_entry_is_in_redis_and_in_rq_schedulers_set(
    site: Site, client: Client
):
    before = site.now()
    record = site.tq.schedules.add(
        "mine", site.add, 30, (1,), {"y": 2}, options={"queue": "slow"},
        overlap="skip", misfire="all", grace=timedelta(minutes=1),
    )  # fmt: skip
    assert record.entry == Entry(
        name="mine", task="add", schedule=every(30), args=(1,), kwargs={"y": 2},
        options={"queue": "slow"}, overlap="skip", misfire="all", grace=60.0,
    )  # fmt: skip
    assert (record.name, record.source, record.queue) == ("mine", "run", "slow")
    assert (record.paused, record.count, record.last_job) == (False, 0, None)
    assert before < next_of(record) - timedelta(seconds=30) <= site.now()
    assert client.zscore(SET, record.id) == next_of(record).timestamp()
    scheduler = Scheduler(connection=client)
    assert record.id in scheduler
    assert scheduler.count() == 1


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        pytest.param(crontab(0, 0), datetime(2100, 1, 1, tzinfo=UTC), id="crontab"),
        pytest.param("0 12 * * *", datetime(2100, 1, 1, 12, tzinfo=UTC), id="text"),
        pytest.param(
            crontab(0, 0, tz="Asia/Shanghai"),
            datetime(2099, 12, 31, 16, tzinfo=UTC),
            id="zone",
        ),
        pytest.param(
            datetime(2100, 1, 1),
            datetime(2100, 1, 1, tzinfo=UTC),
            id="once",
        ),
        pytest.param(
            timedelta(hours=1), datetime(2099, 12, 31, 13, tzinfo=UTC), id="interval"
        ),
    ],
)
def test_it_is_first_due_after_the_servers_time(
    clock_server: Server, schedule: t.Any, expected: datetime
):
    ahead = datetime(2099, 12, 31, 12, tzinfo=UTC).timestamp() - time.time()
    clock_server.set_clock(ahead)
    with clock_server.client() as client:
        site = Site(clock_server.url, client)
        with site.app.app_context():
            found = next_of(site.tq.schedules.add("a", "add", schedule))
    assert timedelta() <= found - expected < timedelta(seconds=10)


def test_a_schedule_is_in_the_apps_zone_unless_something_names_another(
    redis_url: str, client: redis.Redis
):
    site = Site(redis_url, client, TASKQUEUE_TIMEZONE="Asia/Tokyo")
    with site.app.app_context():
        schedules = site.tq.schedules
        mine = schedules.add("a", "add", "0 9 * * *")
        other = schedules.add("b", "add", "0 9 * * *", tz="Europe/Paris")
    assert next_of(mine).astimezone(ZoneInfo("Asia/Tokyo")).hour == 9
    assert next_of(other).astimezone(ZoneInfo("Europe/Paris")).hour == 9


@pytest.mark.parametrize(
    ("parts", "error", "text"),
    [
        pytest.param({"task": "ad"}, ValueError, "did you mean 'add'", id="task"),
        pytest.param({"args": (1, 2, 3)}, TypeError, "too many", id="args"),
        pytest.param({"args": "Erics"}, TypeError, r"\('Erics',\)", id="text-args"),
        pytest.param({"args": (object(),)}, TypeError, "argument 0", id="encoding"),
        pytest.param({"tz": "Mars/Phobos"}, ValueError, "a time zone", id="zone"),
        pytest.param({"schedule": "never"}, ValueError, "cron text", id="schedule"),
        pytest.param({"options": {"eta": 1}}, ValueError, "'eta'", id="option"),
        pytest.param(
            {"schedule": datetime(2020, 1, 1, tzinfo=UTC)}, ValueError,
            "'a' to be due in the future, got once at 2020-01-01", id="past",
        ),
    ],
)  # fmt: skip
def test_what_cannot_fire_is_not_added(
    site: Site, client: Client, parts: dict[str, t.Any], error: type[Exception],
    text: str,
):  # fmt: skip
    given = {"name": "a", "task": "add", "schedule": 1, **parts}
    with pytest.raises(error, match=text):
        site.tq.schedules.add(**given)
    assert client.keys() == []


def test_a_name_that_exists_is_replaced_only_if_asked(site: Site):
    schedules = site.tq.schedules
    schedules.add("a", "add", 3600, (1,))
    with pytest.raises(ValueError, match=r"'a' already: .*update.* replace=True"):
        schedules.add("a", "add", 7200)
    record = schedules.add("a", "add", 7200, replace=True)
    assert record.entry == Entry(name="a", task="add", schedule=every(7200))
    assert schedules.list() == [record]


def test_the_same_again_changes_nothing(site: Site, client: Client):
    schedules = site.tq.schedules
    first = schedules.add("a", "add", 3600, (1,))
    told = client.pubsub()
    told.subscribe("tq:entries")
    told.get_message(timeout=5)
    assert schedules.add("a", "add", 3600, [1], replace=True) == first
    schedules.add("b", "add", 1)
    while (message := told.get_message(timeout=5)) is None:
        pass
    assert told.get_message(timeout=0) is None
    told.close()
    assert message["data"] == site.app.name.encode()


def test_an_update_of_other_parts_keeps_the_next_time(site: Site):
    schedules = site.tq.schedules
    first = schedules.add("a", "add", 3600, (1,), options={"queue": "slow"})
    site.set_due("a", next_of(first) - HOUR / 2)
    record = schedules.update("a", args=(2,), kwargs={"y": 1}, misfire="skip")
    assert record.entry == Entry(
        name="a", task="add", schedule=every(3600), args=(2,), kwargs={"y": 1},
        options={"queue": "slow"}, misfire="skip",
    )  # fmt: skip
    assert record.next == next_of(first) - HOUR / 2
    assert record.fingerprint != first.fingerprint


def test_an_update_of_the_schedule_sets_the_next_time(site: Site):
    schedules = site.tq.schedules
    schedules.add("a", "add", 3600)
    record = schedules.update("a", schedule=60)
    rest = next_of(record) - site.now()
    assert timedelta(seconds=50) < rest <= timedelta(seconds=60)


@pytest.mark.parametrize(
    ("changes", "zone", "text"),
    [
        ({"schedule": "5 6 * * *"}, "Europe/Paris", "5 6 * * *"),
        ({"schedule": crontab(5, 6, tz="UTC")}, "UTC", "5 6 * * *"),
        ({"schedule": "5 6 * * *", "tz": "Asia/Seoul"}, "Asia/Seoul", "5 6 * * *"),
        ({"tz": "Asia/Seoul"}, "Asia/Seoul", "30 0 9 1 * mon"),
        ({"tz": None}, "Asia/Tokyo", "30 0 9 1 * mon"),
        ({"args": (1,)}, "Europe/Paris", "30 0 9 1 * mon"),
    ],
    ids=["schedule", "its-own-zone", "both", "zone", "no-zone", "neither"],
)
def test_an_update_keeps_the_zone_unless_it_names_another(
    redis_url: str, client: redis.Redis, changes: t.Any, zone: str, text: str
):
    site = Site(redis_url, client, TASKQUEUE_TIMEZONE="Asia/Tokyo")
    mine = crontab.from_string("30 0 9 1 * mon", tz="Europe/Paris", day_or=True)
    with site.app.app_context():
        site.tq.schedules.add("a", "add", mine)
        record = site.tq.schedules.update("a", **changes)
    assert record.entry is not None
    expected = crontab.from_string(text, zone, day_or=text.startswith("30"))
    assert record.entry.schedule == expected


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"task": "ad"}, ValueError, "did you mean 'add'"),
        ({"args": (1, 2, 3)}, TypeError, "too many"),
        ({"nmae": "b"}, TypeError, "unknown part 'nmae'"),
        ({"schedule": datetime(2020, 1, 1, tzinfo=UTC)}, ValueError, "the future"),
    ],
    ids=["task", "args", "part", "past"],
)
def test_a_wrong_update_changes_nothing(
    site: Site, changes: t.Any, error: type[Exception], text: str
):
    before = site.tq.schedules.add("a", "add", 3600)
    with pytest.raises(error, match=text):
        site.tq.schedules.update("a", **changes)
    assert site.tq.schedules.get("a") == before


def test_a_one_off_that_is_due_may_still_be_changed(site: Site):
    schedules = site.tq.schedules
    soon = site.now() + timedelta(milliseconds=300)
    assert schedules.add("a", "add", soon).next == soon
    eventually(lambda: site.now() > soon)
    record = schedules.update("a", args=(1,))
    assert record.next == soon
    assert record.entry is not None
    assert record.entry.args == (1,)


def test_a_paused_entry_is_not_due_until_it_is_resumed(site: Site, client: Client):
    schedules = site.tq.schedules
    first = schedules.add("a", "add", crontab())
    assert schedules.pause("a") is True
    assert schedules.pause("a") is False
    record = schedules.get("a")
    assert (record.paused, record.next, client.zcard(SET)) == (True, None, 0)
    assert schedules.update("a", schedule=5).next is None
    schedules.update("a", schedule=crontab())
    assert schedules.resume("a") is True
    assert schedules.resume("a") is False
    record = schedules.get("a")
    assert (record.paused, next_of(record) >= next_of(first)) == (False, True)


@pytest.mark.parametrize("late", [-0.5, 0.25, 7.25], ids=["early", "one", "many"])
def test_an_interval_goes_on_in_its_rhythm(site: Site, late: float):
    schedules = site.tq.schedules
    schedules.add("a", "add", HOUR)
    due = site.now().replace(microsecond=123456) - late * HOUR
    site.set_due("a", due)
    schedules.pause("a")
    schedules.resume("a")
    found = next_of(schedules.get("a"))
    steps = (found - due) / HOUR
    assert steps == math.floor(late) + 1
    assert site.now() < found <= site.now() + HOUR


def test_what_was_due_while_the_clock_was_ahead_is_not_due_again(site: Site):
    schedules = site.tq.schedules
    ahead = site.now() + 30 * 24 * HOUR
    for name, schedule in (("cron", crontab()), ("interval", every(60))):
        schedules.add(name, "add", schedule)
        site.set(name, last_due=epoch_text(ahead))
        assert ahead < next_of(schedules.update(name, schedule=120)), name
        schedules.update(name, schedule=schedule)
        schedules.pause(name)
        schedules.resume(name)
        assert ahead < next_of(schedules.get(name)), name


def test_a_disabled_entry_is_kept_and_never_due(site: Site, client: Client):
    schedules = site.tq.schedules
    record = schedules.add("a", "add", 60, enabled=False)
    assert record.next is None
    schedules.pause("a")
    schedules.resume("a")
    assert client.zcard(SET) == 0
    assert schedules.update("a", enabled=True).next is not None


def test_resuming_puts_back_what_rq_scheduler_cancelled(site: Site, client: Client):
    schedules = site.tq.schedules
    record = schedules.add("a", "add", 60)
    Scheduler(connection=client).cancel(record.id)
    assert schedules.get("a").next is None
    assert schedules.resume("a") is True
    assert schedules.get("a").next == record.next


def test_a_removed_entry_leaves_nothing(site: Site, client: Client):
    schedules = site.tq.schedules
    schedules.add("a", "add", 60)
    job = schedules.trigger("a")
    schedules.remove("a")
    assert schedules.list() == []
    left = {key.decode() for key in client.keys()}
    assert left == {f"rq:job:{job.id}", "rq:queue:default", "rq:queues", LOCK}


@pytest.mark.parametrize(
    "method", ["get", "update", "pause", "resume", "remove", "trigger"]
)
def test_an_unknown_entry_is_not_found(site: Site, client: Client, method: str):
    with pytest.raises(EntryNotFound, match="there is no entry 'a'") as raised:
        getattr(site.tq.schedules, method)("a")
    assert isinstance(raised.value, (LookupError, TaskQueueError))
    assert client.keys() == []


def test_a_trigger_enqueues_the_job_now_and_leaves_the_times(site: Site):
    schedules = site.tq.schedules
    before = schedules.add("a", "add", 3600, (1,), {"y": 2})
    schedules.pause("a")
    result = schedules.trigger("a")
    assert result.id.startswith(f"{before.id}-t")
    assert result.created is True
    site.run_all()
    assert result.get() == 3
    record = schedules.get("a")
    assert (record.paused, record.count, record.last_job) == (True, 1, result.id)
    schedules.resume("a")
    assert schedules.get("a").next == before.next


def test_triggers_within_a_millisecond_are_jobs_of_their_own(
    site: Site, monkeypatch: pytest.MonkeyPatch
):
    schedules = site.tq.schedules
    schedules.add("a", "add", 3600)
    times = writing.read_times(site.client, "x")
    monkeypatch.setattr(writing, "read_times", lambda client, id: times)
    assert len({schedules.trigger("a").id for _ in range(3)}) == 3


def test_a_trigger_repeated_after_a_lost_reply_makes_one_job(
    site: Site, client: Client, monkeypatch: pytest.MonkeyPatch
):
    schedules, real = site.tq.schedules, scripts.trigger
    schedules.add("a", "add", 3600)

    def twice(*args: t.Any) -> int:
        real(*args)
        return real(*args)

    monkeypatch.setattr(scripts, "trigger", twice)
    result = schedules.trigger("a")
    assert client.lrange("rq:queue:default", 0, -1) == [result.id.encode()]
    assert schedules.get("a").count == 1


def test_what_travels_with_a_call_travels_with_a_trigger_only(site: Site):
    schedules = site.tq.schedules
    headers = {"X-Request-ID": "abc", "Authorization": "secret"}
    with site.app.test_request_context("/", headers=headers):
        record = schedules.add("a", "add", 3600)
        result = schedules.trigger("a")
    client: Client = site.client
    assert not client.hexists(f"rq:job:{record.id}", "tq_carried")
    carried = client.hget(f"rq:job:{result.id}", "tq_carried")
    assert b"abc" in carried
    assert b"secret" not in carried


def test_a_trigger_is_told_as_enqueued_and_as_a_child(site: Site):
    told: list[JobInfo] = []

    def note(sender: Flask, job: JobInfo) -> None:
        told.append(job)

    made = []

    @site.tq.task(name="parent")
    def parent() -> None:
        made.append(site.tq.schedules.trigger("a").id)

    site.tq.schedules.add("a", "add", 3600)
    result = parent.delay()
    with signals.job_enqueued.connected_to(note, site.app):
        site.run_all()
    assert [(job.id, job.task) for job in told] == [(made[0], "add")]
    assert [child.id for child in result.children] == made


def test_an_apply_async_of_the_tasks_own_makes_the_job(site: Site):
    class Report(Task[[], None]):
        name = "report"

        def run(self) -> None: ...

        def apply_async(self, *args: t.Any, **options: t.Any) -> t.Any:
            return super().apply_async(*args, **options, headers={"by": "report"})

    site.tq.register_task(Report())
    site.tq.schedules.add("a", "report", 3600)
    result = site.tq.schedules.trigger("a")
    told: t.Any = site.client.hget(f"rq:job:{result.id}", "tq_headers")
    assert told == b'{"by":"report"}'


def test_a_task_whose_code_is_elsewhere_is_triggered_in_its_queue(
    redis_url: str, site: Site
):
    site.tq.schedules.add("a", "add", 3600, (1,), options={"queue": "slow"})
    elsewhere = TaskQueue(url=redis_url)
    app = Flask(site.app.name)
    elsewhere.init_app(app)
    with app.app_context():
        result = elsewhere.schedules.trigger("a")
        elsewhere.schedules.pause("a")
        elsewhere.schedules.resume("a")
        with pytest.raises(ValueError, match="'add'"):
            elsewhere.schedules.update("a", args=(2,))
        elsewhere.state.broker.close()
    assert (result.queue, site.tq.AsyncResult(result.id).args) == ("slow", [1])


def declare(site: Site, code: int = scripts.CREATED) -> None:
    """Write an entry ``a`` as a beat does that found it in the code."""
    state, client = site.tq.state_of(site.app), site.client
    entry = Entry(name="a", task="add", schedule=every(3600))
    assert writing.put_entry(state, client, entry, "code") == code


@pytest.mark.parametrize(
    "change",
    [
        lambda schedules: schedules.add("a", "add", 1),
        lambda schedules: schedules.add("a", "add", 1, replace=True),
        lambda schedules: schedules.update("a", schedule=1),
        lambda schedules: schedules.remove("a"),
    ],
    ids=["add", "replace", "update", "remove"],
)
def test_an_entry_of_the_code_is_changed_there(
    site: Site, change: t.Callable[[t.Any], object]
):
    declare(site)
    before = site.tq.schedules.get("a")
    with pytest.raises(ValueError, match="'a' stands in the code: .*pause"):
        change(site.tq.schedules)
    assert site.tq.schedules.get("a") == before
    assert before.source == "code"


def test_an_entry_of_the_code_is_paused_resumed_and_triggered(site: Site):
    declare(site)
    schedules = site.tq.schedules
    before = schedules.get("a").next
    schedules.pause("a")
    assert schedules.get("a").next is None
    schedules.resume("a")
    assert schedules.get("a").next == before
    assert schedules.trigger("a").exists()


@pytest.mark.parametrize(
    ("late", "is_due"),
    [(timedelta(seconds=10), True), (timedelta(seconds=61), False)],
    ids=["within its grace", "older"],
)
def test_a_one_off_of_the_code_that_is_past_is_due_within_its_grace_else_over(
    site: Site, late: timedelta, is_due: bool
):
    instant = site.now() - late
    entry = Entry(name="a", task="add", schedule=At(instant))
    for code in (scripts.CREATED, scripts.SAME):
        assert writing.put_entry(site.tq.state, site.client, entry, "code") == code
        record = site.tq.schedules.get("a")
        assert record.next == (instant if is_due else None)
        assert (record.ended, record.cancelled) == (not is_due, False)


def test_a_one_off_that_passed_while_it_was_paused_is_over(site: Site, client: Client):
    schedules = site.tq.schedules
    soon = site.now() + timedelta(milliseconds=300)
    id = schedules.add("a", "add", soon).id
    schedules.pause("a")
    eventually(lambda: site.now() > soon)
    assert schedules.resume("a") is True
    assert schedules.resume("a") is False
    record = schedules.get("a")
    assert (record.next, record.ended, record.paused) == (None, True, False)
    assert client.ttl(f"tq:entry:{id}") > 0


def test_of_those_that_add_the_same_at_once_one_does(site: Site):
    begin = threading.Barrier(8)

    def add() -> None:
        with site.app.app_context():
            begin.wait(timeout=10)
            site.tq.schedules.add("a", "add", 3600)

    with ThreadPoolExecutor(8) as pool:
        errors = [call.exception() for call in [pool.submit(add) for _ in range(8)]]
    assert errors.count(None) == 1
    assert {type(error) for error in errors if error} == {ValueError}


def meanwhile(
    site: Site, monkeypatch: pytest.MonkeyPatch, calls: list[t.Callable[[], object]]
) -> None:
    """Make the calls, one each time after an entry's times were read."""
    read = writing.read_times

    def then(client: redis.Redis, id: str) -> writing.Times:
        times = read(client, id)
        if calls:
            calls.pop(0)()
        return times

    monkeypatch.setattr(writing, "read_times", then)


def test_two_updates_at_once_lose_none(site: Site, monkeypatch: pytest.MonkeyPatch):
    schedules = site.tq.schedules
    schedules.add("a", "add", 3600)
    meanwhile(site, monkeypatch, [lambda: schedules.update("a", args=(7,))])
    entry = schedules.update("a", schedule=60).entry
    assert entry is not None
    assert (entry.args, entry.schedule) == ((7,), every(60))


def test_an_update_does_not_put_back_what_was_removed(
    site: Site, monkeypatch: pytest.MonkeyPatch
):
    schedules = site.tq.schedules
    schedules.add("a", "add", 3600)
    meanwhile(site, monkeypatch, [lambda: schedules.remove("a")])
    with pytest.raises(EntryNotFound):
        schedules.update("a", schedule=60)
    assert schedules.list() == []


def test_an_update_of_what_changes_all_the_time_is_given_up(
    site: Site, monkeypatch: pytest.MonkeyPatch
):
    schedules = site.tq.schedules
    schedules.add("a", "add", 3600)
    calls = [lambda n=n: site.set("a", fingerprint=f"{n}") for n in range(99)]
    meanwhile(site, monkeypatch, calls)
    with pytest.raises(TaskQueueError, match="'a' was not changed: .* try again"):
        schedules.update("a", args=(1,))


def test_what_was_drafted_from_another_definition_is_not_written(site: Site):
    schedules, state = site.tq.schedules, site.tq.state
    first = schedules.add("a", "add", 3600)
    changed = schedules.update("a", args=(7,))
    assert first.entry is not None
    draft = writing.draft(state, first.entry, "run")
    given = (state, site.client, first.entry, draft, first.fingerprint)
    assert writing.put_draft(*given) == scripts.STALE
    schedules.remove("a")
    assert writing.put_draft(*given) == scripts.STALE
    assert schedules.list() == []
    assert changed.fingerprint != first.fingerprint


def test_an_entry_made_at_run_time_may_be_written_again_when_it_is_due(site: Site):
    """As a beat does that signs it anew."""
    soon = site.now() + timedelta(milliseconds=300)
    record = site.tq.schedules.add("a", "add", soon)
    eventually(lambda: site.now() > soon)
    assert record.entry is not None
    state, client = site.tq.state, site.client
    assert writing.put_entry(state, client, record.entry, "run") == scripts.SAME
    assert site.tq.schedules.get("a") == record


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"SECRET_KEY": "one"}, {"SECRET_KEY": "two", "SECRET_KEY_FALLBACKS": ["one"]}),
        ({"TASKQUEUE_SIGN": False}, {}),
        ({}, {"TASKQUEUE_SIGN": False}),
    ],
    ids=["rotated", "signed from now on", "no more signed"],
)
def test_an_entry_of_the_code_gets_the_signature_of_the_app_that_writes_it(
    redis_url: str, client: Client, before: t.Any, after: t.Any
):
    signed = {"TASKQUEUE_SIGN": True, "SECRET_KEY": "k"}
    declare(Site(redis_url, client, **{**signed, **before}))
    site = Site(redis_url, client, **{**signed, **after})
    declare(site, scripts.SAME)
    config = {**signed, **after, "SECRET_KEY_FALLBACKS": []}
    site = Site(redis_url, client, **config)
    with site.app.app_context():
        record = site.tq.schedules.get("a")
    assert (record.problem, record.entry is None) == ("", False)
    id = entry_id(site.app.name, "a")
    assert client.hexists(f"tq:entry:{id}", "sig") is config["TASKQUEUE_SIGN"]


def test_a_damaged_entry_of_the_code_is_repaired(site: Site):
    declare(site)
    before = site.tq.schedules.get("a")
    site.set("a", definition="{", call="x")
    assert site.tq.schedules.get("a").entry is None
    declare(site, scripts.SAME)
    assert site.tq.schedules.get("a") == before


def test_entries_are_listed_by_name_and_are_those_of_the_app(
    redis_url: str, site: Site
):
    for name in ("b", "a", "c"):
        site.tq.schedules.add(name, "add", 60)
    other = Flask("other")
    other.config["TASKQUEUE_URL"] = redis_url
    site.tq.init_app(other)
    with other.app_context():
        assert site.tq.schedules.list() == []
        site.tq.schedules.add("a", "add", 10)
        site.tq.schedules.remove("a")
        site.tq.state.broker.close()
    names = [record.name for record in site.tq.schedules.list()]
    assert names == ["a", "b", "c"]


def test_what_fires_while_it_is_changed_is_read_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
):
    """Not from a time it has fired for: that would be due twice."""
    schedules = site.tq.schedules
    schedules.add("a", "add", 60)
    read, fired = writing.read_times, [site.now() + HOUR, site.now() + 2 * HOUR]

    def then_fire(client: redis.Redis, id: str) -> writing.Times:
        times = read(client, id)
        if fired:
            site.set("a", last_due=epoch_text(fired.pop(0)))
        return times

    last = fired[-1]
    monkeypatch.setattr(writing, "read_times", then_fire)
    assert next_of(schedules.update("a", schedule=30)) == last + timedelta(seconds=30)


def test_a_change_of_what_fires_all_the_time_is_given_up(
    site: Site, monkeypatch: pytest.MonkeyPatch
):
    schedules = site.tq.schedules
    before = schedules.add("a", "add", 60)
    read, at = writing.read_times, site.now()

    def then_fire(client: redis.Redis, id: str) -> writing.Times:
        nonlocal at
        times, at = read(client, id), at + HOUR
        site.set("a", last_due=epoch_text(at))
        return times

    monkeypatch.setattr(writing, "read_times", then_fire)
    with pytest.raises(TaskQueueError, match="'a' was not written: .* try again"):
        schedules.update("a", schedule=30)
    assert schedules.get("a").fingerprint == before.fingerprint


def test_a_record_that_cannot_be_read_can_be_removed_or_made_anew(site: Site):
    schedules = site.tq.schedules
    for name in "ab":
        schedules.add(name, "add", 60)
        site.set(name, definition="{")
        for method in (schedules.update, schedules.resume, schedules.trigger):
            with pytest.raises(TaskQueueError, match=f"'{name}' cannot be read"):
                method(name)
    schedules.remove("a")
    assert schedules.add("b", "add", 30, replace=True).entry is not None


def test_a_key_that_holds_something_else_is_told(site: Site, client: Client):
    schedules = site.tq.schedules
    client.set(f"rq:job:{entry_id(site.app.name, 'a')}", "x")
    with pytest.raises(TaskQueueError, match="a key of the entry 'a' holds something"):
        schedules.add("a", "add", 60)
    assert schedules.list() == []


def test_times_in_a_record_that_cannot_be_read_are_ignored(site: Site):
    schedules = site.tq.schedules
    schedules.add("a", "add", 60)
    site.set("a", last_due="soon", due="later")
    found = writing.read_times(site.client, entry_id(site.app.name, "a"))
    assert (found.due, found.start) == (None, found.now)


def test_signed_entries_can_be_changed_by_the_app_alone(
    redis_url: str, client: redis.Redis
):
    site = Site(redis_url, client, TASKQUEUE_SIGN=True, SECRET_KEY="k")
    with site.app.app_context():
        schedules = site.tq.schedules
        schedules.add("a", "add", 60, (1,))
        result = schedules.trigger("a")
        site.run_all()
        assert result.get() == 1
        site.set("a", queue="other")
        with pytest.raises(TaskQueueError, match="altered"):
            schedules.trigger("a")


@pytest.mark.parametrize("eager", [False, True])
def test_without_redis_every_change_fails_within_two_seconds(eager: bool):
    app = Flask(__name__)
    tq = TaskQueue(app, url=NOWHERE, eager=eager)
    tq.task(name="add")(lambda: 1)
    schedules = tq.schedules
    with app.app_context():
        for call in (
            lambda: schedules.add("a", "add", 60),
            lambda: schedules.pause("a"),
            lambda: schedules.trigger("a"),
            lambda: schedules.list(),
        ):
            started = time.monotonic()
            with pytest.raises(BrokerUnavailable):
                call()
            assert time.monotonic() - started < 2


def test_it_needs_an_app_context():
    schedules = TaskQueue(Flask(__name__)).schedules
    with pytest.raises(RuntimeError, match="app context"):
        schedules.list()


def test_what_rq_scheduler_shows_for_an_entry_is_no_job(site: Site):
    record = site.tq.schedules.add("a", "add", 60)
    assert site.client.exists(f"rq:job:{record.id}")
    assert not site.tq.AsyncResult(record.id).exists()
