"""Records of entries: what is written of an entry is what is read, and only that."""

from __future__ import annotations

import json
import pickle
import typing as t
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_taskqueue import Task, keys
from flask_taskqueue.appstate import AppState
from flask_taskqueue.beat import listing, records
from flask_taskqueue.beat.entries import Entry, entry_id, firing_id, read_entry
from flask_taskqueue.beat.epoch import epoch_text
from flask_taskqueue.beat.listing import Fired
from flask_taskqueue.beat.records import DEFINITION, Reading, Record
from flask_taskqueue.beat.schedules import crontab
from flask_taskqueue.broker.wire import raw
from flask_taskqueue.errors import BrokerUnavailable, PayloadTooLarge
from flask_taskqueue.named import NamedTask
from flask_taskqueue.signing import Signer

from .hostile import Trap, values
from .running import InProcess
from .servers import free_port

Client = t.Any
Fields = dict[bytes, bytes]

SHOP = "shop"
SIGNER = Signer(["first secret"])
LIMIT = 100_000
SIGNED_FIELDS = (
    "name", "app", "source", "task", "queue", "definition", "call", "content",
    "fingerprint", "rhythm", "sig",
)  # fmt: skip
DUE = datetime(2026, 3, 29, 1, 30, 0, 250, tzinfo=UTC)


class Site(InProcess):
    """An app with a task and a task to link."""

    def __init__(self, url: str, client: redis.Redis, **config: object) -> None:
        super().__init__(__name__, url, client, **config)
        self.add: Task[..., t.Any] = self.tq.task(name="sums.add")(_add)

    def write(self, entry: Entry, **state: object) -> str:
        """Put an entry into Redis, due at :data:`DUE` unless ``due`` is ``None``."""
        app_state = self.tq.state_of(self.app)
        fields = records.dump(
            entry, self.app.name, "code", "default", "json", app_state.signer, LIMIT
        )
        id = entry_id(self.app.name, entry.name)
        due = state.pop("due", DUE)
        client: Client = self.client
        client.hset(keys.entry(id), mapping=t.cast(t.Any, {**fields, **state}))
        client.sadd(keys.entries(self.app.name), id)
        if isinstance(due, datetime):
            client.zadd(keys.NAMES["scheduler_set"], {id: epoch_text(due)})
        return id


def _add(x: int, y: int = 0) -> int:
    return x + y


@pytest.fixture
def site(redis_url: str, client: redis.Redis) -> Iterator[Site]:
    site = Site(redis_url, client)
    with site.app.app_context():
        yield site


@pytest.fixture
def state(site: Site) -> AppState:
    return site.tq.state


def entry(name: str = "nightly", **parts: object) -> Entry:
    given = {"task": "sums.add", "schedule": crontab(hour=4), "args": (1,), **parts}
    return read_entry(name, given, ZoneInfo("Europe/Paris"))


def dump(
    made: Entry,
    source: str = "code",
    queue: str = "default",
    content: str = "json",
    signer: Signer | None = None,
) -> Fields:
    return raw(records.dump(made, SHOP, source, queue, content, signer, LIMIT))


def targets(name: str) -> t.Any:
    return NamedTask(name, t.cast(t.Any, None))


def load(
    fields: Mapping[bytes, bytes],
    id: str = "",
    score: float | None = None,
    accept: tuple[str, ...] = ("json",),
    signer: Signer | None = None,
    limit: int = LIMIT,
) -> Record:
    id = id or entry_id(SHOP, fields[b"name"].decode())
    reading = Reading(accept, signer, limit, targets)
    return records.load(id, fields, score, reading)


# What is written is what is read.


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(entry(), id="cron"),
        pytest.param(entry(schedule=0.5), id="interval"),
        pytest.param(entry(schedule=DUE), id="one-off"),
        pytest.param(
            entry(schedule=crontab(minute="*/5", tz="Asia/Kabul")), id="own-zone"
        ),
        pytest.param(
            entry(
                "夜 \N{ZERO WIDTH SPACE}",
                task="élan.vital",
                args=[1, "ä", None, Decimal("1.10"), DUE, {"a": [1.5, True]}],
                kwargs={"z": 1, "a": b"\xff"},
                enabled=False,
                overlap="skip",
                misfire="all",
                grace=timedelta(minutes=2),
            ),
            id="everything",
        ),
        pytest.param(
            entry(
                options={
                    "queue": "mail",
                    "priority": 5,
                    "headers": {"b": {"c": 1}, "a": None},
                    "expires": timedelta(minutes=1),
                    "result_ttl": timedelta(days=1),
                    "max_retries": None,
                    "retry_backoff": True,
                    "time_limit": 2.5,
                    "serializer": "json",
                }
            ),
            id="options",
        ),
        pytest.param(
            entry(
                options={
                    "expires": DUE.astimezone(timezone(timedelta(hours=5, minutes=30)))
                }
            ),
            id="expires-at",
        ),
    ],
)
@pytest.mark.parametrize("signer", [None, SIGNER], ids=["plain", "signed"])
def test_an_entry_is_read_as_it_was_written(made: Entry, signer: Signer | None):
    found = load(dump(made, "run", "mail", signer=signer), signer=signer)
    assert (found.problem, found.entry) == ("", made)
    assert (found.name, found.source, found.queue) == (made.name, "run", "mail")


def test_a_datetime_without_a_zone_stays_one():
    made = entry(options={"expires": DUE.replace(tzinfo=None)})
    assert load(dump(made)).entry == made


def test_links_are_read_as_signatures(site: Site):
    add, owner = site.add, t.cast(t.Any, site.tq)
    inner = add.s(3).set(countdown=timedelta(seconds=5)).link(add.si(4, y=5))
    elsewhere = site.tq.signature("far.away", (DUE,), queue="far", eta=DUE)
    made = entry(options={"link": [inner, elsewhere], "link_error": add.si(9)})
    fields = dump(made)

    def find(name: str) -> t.Any:
        return add if name == add.name else NamedTask(name, owner)

    id = entry_id(SHOP, made.name)
    found = records.load(id, fields, None, Reading(("json",), None, LIMIT, find))
    assert (found.problem, found.entry is None) == ("", False)
    assert found.entry is not None
    first, second = found.entry.options["link"]
    (third,) = found.entry.options["link_error"]
    assert first == add.s(3).set(countdown=5.0, link=(add.si(4, y=5),))
    assert (first.target, third) == (add, add.si(9))
    assert second == elsewhere


def test_pickled_arguments_come_back_as_they_were():
    made = entry(args=[(1, {2, 3})])
    fields = dump(made, content="pickle", signer=SIGNER)
    found = load(fields, accept=("json", "pickle"), signer=SIGNER)
    assert found.entry is not None
    assert found.entry.args == ((1, {2, 3}),)


def test_what_became_of_an_entry_is_read(site: Site, state: AppState):
    at = DUE + timedelta(seconds=1.5)
    seen: dict[str, t.Any] = {
        "paused": "1", "count": 12, "last_due": epoch_text(DUE),
        "last_at": epoch_text(at), "last_job": "beat-x-1",
    }  # fmt: skip
    site.write(entry(), **seen)
    found = listing.record(state, "nightly")
    assert found is not None
    assert (found.next, found.last_due, found.last_at) == (DUE, DUE, at)
    assert (found.count, found.last_job, found.paused) == (12, "beat-x-1", True)
    assert (found.ended, found.cancelled) == (False, False)


def test_an_entry_that_never_fired_has_no_times():
    found = load(dump(entry()))
    assert found == Record(
        id=found.id, name="nightly", entry=entry(), source="code", queue="default",
        fingerprint=found.fingerprint, rhythm=found.rhythm,
    )  # fmt: skip
    assert load({**dump(entry()), b"ended": b"1", b"cancelled": b"1"}) != found


# Fingerprint and rhythm.


def _mark(fields: Fields) -> tuple[bytes, bytes]:
    return fields[b"fingerprint"], fields[b"rhythm"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(
            {"kwargs": {"a": 1, "b": {"c": 1, "d": 2}}},
            {"kwargs": {"b": {"d": 2, "c": 1}, "a": 1}},
            id="kwargs",
        ),
        pytest.param(
            {"options": {"priority": 1, "headers": {"a": 1, "b": 2}}},
            {"options": {"headers": {"b": 2, "a": 1}, "priority": 1}},
            id="options",
        ),
        pytest.param({"args": [1]}, {"args": (1,)}, id="list-or-tuple"),
        pytest.param({}, {"options": {}, "kwargs": None, "grace": 60}, id="defaults"),
        pytest.param(
            {"options": {"expires": 60}},
            {"options": {"expires": timedelta(minutes=1)}},
            id="durations",
        ),
    ],
)
def test_the_same_entry_has_the_same_fingerprint(
    one: dict[str, object], other: dict[str, object]
):
    assert _mark(dump(entry(**one))) == _mark(dump(entry(**other)))


@pytest.mark.parametrize(
    ("change", "same_rhythm"),
    [
        pytest.param({"name": "daily"}, True, id="name"),
        pytest.param({"task": "sums.sub"}, True, id="task"),
        pytest.param({"args": (2,)}, True, id="args"),
        pytest.param({"kwargs": {"a": 1}}, True, id="kwargs"),
        pytest.param({"options": {"queue": "a"}}, True, id="options"),
        pytest.param({"enabled": False}, True, id="enabled"),
        pytest.param({"overlap": "skip"}, True, id="overlap"),
        pytest.param({"misfire": "all"}, True, id="misfire"),
        pytest.param({"grace": 61}, True, id="grace"),
        pytest.param({"tz": "Asia/Tokyo"}, False, id="zone"),
        pytest.param({"schedule": crontab(hour=5)}, False, id="schedule"),
    ],
)
def test_another_entry_has_another_fingerprint(
    change: dict[str, t.Any], same_rhythm: bool
):
    one, other = _mark(dump(entry())), _mark(dump(entry(**change)))
    assert one[0] != other[0]
    assert (one[1] == other[1]) is same_rhythm


@pytest.mark.parametrize(
    "change", [{"source": "run"}, {"queue": "mail"}, {"content": "msgpack"}]
)
def test_source_queue_and_content_belong_to_the_fingerprint(change: dict[str, str]):
    assert dump(entry())[b"fingerprint"] != dump(entry(), **change)[b"fingerprint"]  # type: ignore[arg-type]


def test_fingerprints_stay_over_versions():
    # Otherwise each deploy of a new version would write all entries anew.
    fields = dump(entry())
    assert _mark(fields) == (
        b"73d9157b3ddd5c1192c96fb2055d301d",
        b"26a9c86b86b64a2908eef2a6531c437d",
    )


# What cannot be written.


def test_arguments_that_cannot_be_encoded_are_told():
    with pytest.raises(TypeError, match="argument 0 to be JSON"):
        dump(entry(args=(object(),)))
    with pytest.raises(TypeError, match=r"\['headers'\]\['a'\] to be JSON"):
        dump(entry(options={"headers": {"a": object()}}))


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param({"args": ("x" * LIMIT,)}, id="args"),
        pytest.param({"options": {"headers": {"a": "x" * LIMIT}}}, id="options"),
    ],
)
def test_too_large_an_entry_is_refused(parts: dict[str, object]):
    with pytest.raises(PayloadTooLarge, match="TASKQUEUE_MAX_ARGS_BYTES"):
        dump(entry(**parts))


# What cannot be read.


@pytest.mark.parametrize("field", SIGNED_FIELDS)
def test_an_altered_record_is_refused(field: str):
    fields = dump(entry(), signer=SIGNER)
    assert load(fields, signer=SIGNER).entry == entry()
    id = entry_id(SHOP, "nightly")
    altered = {**fields, field.encode(): fields[field.encode()] + b" "}
    found = load(altered, id, signer=SIGNER)
    assert (found.entry, "altered data" in found.problem) == (None, True)


def test_an_unsigned_record_is_refused():
    found = load(dump(entry()), signer=SIGNER)
    assert (found.entry, "unsigned data" in found.problem) == (None, True)
    assert found.name == "nightly"


def test_a_record_counts_under_its_own_id_only():
    fields = dump(entry(), signer=SIGNER)
    other = entry_id(SHOP, "daily")
    assert "altered" in load(fields, other, signer=SIGNER).problem
    assert load(fields, other).problem == (
        f"the record is that of {entry_id(SHOP, 'nightly')}"
    )


def test_content_that_is_not_accepted_is_not_decoded(tmp_path: Path):
    trap = tmp_path / "trap"
    fields = dump(entry()) | {
        b"content": b"pickle",
        b"call": pickle.dumps(("sums.add", None, (Trap(str(trap)),), {})),
    }
    found = load(fields, accept=("json", "msgpack"))
    assert found.entry is None
    assert "TASKQUEUE_ACCEPT_CONTENT (json, msgpack)" in found.problem
    assert not trap.exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({b"call": b""}, "0 bytes to be json", id="call"),
        pytest.param({b"call": b'["b", null, [], {}]'}, "another task", id="task"),
        pytest.param({b"source": b"?"}, "source '?' is unknown", id="source"),
        pytest.param({b"queue": b"a b"}, "expected a queue name", id="queue"),
        pytest.param({b"count": b"-1"}, "'count' is not a count", id="count"),
        pytest.param({b"last_due": b"nan"}, "'last_due' is not an instant", id="due"),
        pytest.param({b"last_at": b"x"}, "'last_at' is not an instant", id="at"),
        pytest.param({b"last_job": b"a b"}, "'last_job' is not the id", id="job"),
        pytest.param({b"definition": b"[]"}, "", id="definition-list"),
        pytest.param({b"definition": b"{}"}, "lacks 'schedule'", id="definition"),
    ],
)
def test_a_damaged_record_says_what_is_wrong(change: Fields, said: str):
    found = load({**dump(entry()), **change})
    assert found.entry is None
    assert said in found.problem
    assert found.problem


@pytest.mark.parametrize("field", DEFINITION)
def test_a_record_without_a_field_says_so(field: str):
    fields = dump(entry())
    del fields[field.encode()]
    found = load(fields, entry_id(SHOP, "nightly"))
    assert (found.entry, found.problem) == (None, f"the record lacks {field!r}")


@pytest.mark.parametrize("score", [float("inf"), float("-inf"), float("nan"), 1e300])
def test_a_due_time_beyond_all_years_is_a_problem(score: float):
    found = load(dump(entry()), score=score)
    assert (found.entry, found.next) == (None, None)
    assert found.problem == "the record's field 'due' is not an instant"


def test_too_large_a_record_is_not_decoded():
    fields = dump(entry(args=("x" * 1000,), options={"headers": {"a": "x" * 2000}}))
    assert load(fields).entry is not None
    for limit in (500, 1500):
        assert "TASKQUEUE_MAX_ARGS_BYTES" in load(fields, limit=limit).problem


STATE = (
    "due",
    "paused",
    "ended",
    "cancelled",
    "count",
    "last_due",
    "last_at",
    "last_job",
)
FIELDS = (*SIGNED_FIELDS, *STATE)


def check(found: Record) -> None:
    """It can be shown, and does not fire unless it is sound."""
    assert (found.entry is None) == bool(found.problem)
    assert len(found.problem) < 1000
    json.dumps([found.id, found.name, found.problem, found.queue]).encode()
    f"{found.name} {found.source} {found.problem} {found.fingerprint}".encode()


def test_bytes_of_every_kind_in_every_field(tmp_path: Path):
    trap = tmp_path / "trap"
    sound = dump(entry(options={"headers": {"a": 1}}))
    id = entry_id(SHOP, "nightly")
    for field in FIELDS:
        for value in values(str(trap)).values():
            check(load({**sound, field.encode(): value}, id))
    assert not trap.exists()


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "schedule",
                    "every",
                    "cron",
                    "day_or",
                    "zone",
                    "at",
                    "options",
                    "link",
                    "task",
                    "args",
                    "kwargs",
                    "immutable",
                    "headers",
                    "grace",
                    "__type__",
                    "__value__",
                ]
            )  # fmt: skip
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(data=st.data())
@settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
def test_a_record_of_any_bytes_is_read_or_says_why_not(data: st.DataObject):
    fields = dump(entry())
    definition = json.loads(fields[b"definition"])
    if data.draw(st.booleans(), label="within the definition"):
        definition[data.draw(st.sampled_from(sorted(definition)))] = data.draw(_JSON)
        fields[b"definition"] = json.dumps(definition).encode()
    bits = (
        st.binary(max_size=40)
        | st.sampled_from(sorted(values().values()))
        | _JSON.map(lambda value: json.dumps(value).encode())
    )
    changed = st.dictionaries(st.sampled_from(FIELDS), bits, max_size=3)
    for name, value in data.draw(changed, label="fields").items():
        fields[name.encode()] = value
    check(load(fields, entry_id(SHOP, "nightly"), data.draw(st.none() | st.floats())))


def _link(**changes: object) -> dict[str, object]:
    sound = {"task": "a", "args": [], "kwargs": {}, "options": {}, "immutable": False}
    return {**sound, **changes}


def _nested(depth: int) -> str:
    """Links of links, more than Python's own encoder can write."""
    head, tail = json.dumps(_link(options={"link": ["@"]})).split('"@"')
    return head * depth + json.dumps(_link()) + tail * depth


@pytest.mark.parametrize(
    "link",
    [
        pytest.param(5, id="number"),
        pytest.param([], id="list"),
        pytest.param({}, id="empty"),
        pytest.param(_link(task=5), id="task"),
        pytest.param(_link(task="\ud800"), id="surrogate"),
        pytest.param(_link(options={"nope": 1}), id="option"),
        pytest.param(_link(options={"link": {"a": 1}}), id="inner"),
        pytest.param(_link(kwargs=[1]), id="kwargs"),
        # Some are too deep for the decoder, some (3.12) only for what comes after it.
        *(
            pytest.param(_nested(depth), id=f"nested-{depth}")
            for depth in (100, 300, 330, 400, 1000, 3000, 8000)
        ),
    ],
)
def test_hostile_links_are_no_more_than_a_problem(link: object):
    fields = dump(entry(options={"headers": {"@": 1}}))
    text = link if isinstance(link, str) else json.dumps(link)
    sound = fields[b"definition"]
    fields[b"definition"] = sound.replace(
        b'"headers":{"@":1}', b'"link":[%b]' % text.encode()
    )
    assert fields[b"definition"] != sound
    check(load(fields, limit=10**7))


# Listings.


def test_an_apps_entries_are_listed_by_name(
    site: Site, state: AppState, client: Client
):
    assert listing.records(state) == []
    site.write(entry("!b"))
    site.write(entry("a"), due=None, paused="1")
    other = Site(state.url, client)
    other.app.name = "another"
    with other.app.app_context():
        other.write(entry("c"))
    # Removed between the two reads, or a leftover.
    client.sadd(keys.entries(site.app.name), "beat-gone-00000000")
    found = listing.records(state)
    assert [(r.name, r.next, r.paused) for r in found] == [
        ("!b", DUE, False),
        ("a", None, True),
    ]
    assert [r.entry for r in found] == [entry("!b"), entry("a")]
    assert listing.record(state, "a") == found[1]
    assert listing.record(state, "c") is None
    assert listing.record(state, "\ud800") is None


def test_damaged_entries_are_listed_with_the_sound_ones(
    site: Site, state: AppState, client: Client
):
    site.write(entry("sound"))
    client.hset(keys.entry(site.write(entry("damaged"))), "call", "?")
    odd = "beat-odd-00000000"
    client.set(keys.entry(odd), "text")
    client.sadd(keys.entries(site.app.name), odd, b"\xff")
    client.hset(keys.entry(r"\xff"), "name", b"\xfe")
    found = listing.records(state)
    assert {r.name: bool(r.problem) for r in found} == {
        "sound": False, "damaged": True, odd: True, r"\xfe": True,
    }  # fmt: skip


def test_more_entries_than_one_round_trip_reads(
    site: Site, state: AppState, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(listing, "BATCH", 2)
    names = [f"n{number}" for number in range(5)]
    for name in names:
        site.write(entry(name))
    assert [record.name for record in listing.records(state)] == names


def test_links_of_listed_entries_find_their_tasks(site: Site, state: AppState):
    far = site.tq.signature("far.away")
    site.write(entry(options={"link": [site.add.s(1), far]}))
    found = listing.record(state, "nightly")
    assert found is not None
    assert found.entry is not None
    near, other = found.entry.options["link"]
    assert near.target is site.add
    job = other.delay()
    assert (job.state, job.name) == ("PENDING", "far.away")


def test_signed_records_are_checked_when_listed(redis_url: str, client: redis.Redis):
    site = Site(redis_url, client, TASKQUEUE_SIGN=True, SECRET_KEY="k")
    with site.app.app_context():
        id = site.write(entry())
        state = site.tq.state
        assert [record.problem for record in listing.records(state)] == [""]
        client.hset(keys.entry(id), "queue", "other")
        (found,) = listing.records(state)
        assert (found.entry, "altered" in found.problem) == (None, True)


def test_an_entrys_firings_are_listed_newest_first(
    site: Site, state: AppState, client: Client
):
    id = site.write(entry())
    key = keys.firings(id)
    due = [DUE + timedelta(seconds=n) for n in range(4)]
    at = [each + timedelta(microseconds=1500) for each in due]
    jobs = [firing_id(id, each) for each in due]
    site.add.apply_async((1,), task_id=jobs[0])
    site.run_all()
    site.add.apply_async((1,), task_id=jobs[2])
    rows = [
        f"{epoch_text(due[0])} {epoch_text(at[0])} {jobs[0]} fired",
        f"{epoch_text(due[1])} {epoch_text(at[1])} - skipped",
        f"{epoch_text(due[2])} {epoch_text(at[2])} {jobs[2]} triggered",
        f"{epoch_text(due[3])} {epoch_text(at[3])} {jobs[3]} fired",
    ]
    for row in rows:
        client.lpush(key, row)
    expected = [
        Fired(due=due[3], at=at[3], job_id=jobs[3], what="fired", state=None),
        Fired(due=due[2], at=at[2], job_id=jobs[2], what="triggered", state="PENDING"),
        Fired(due=due[1], at=at[1], job_id=None, what="skipped", state=None),
        Fired(due=due[0], at=at[0], job_id=jobs[0], what="fired", state="SUCCESS"),
    ]
    assert listing.firings(state, "nightly") == expected
    assert listing.firings(state, "nightly", most=2) == expected[:2]
    assert listing.firings(state, "daily") == []


def test_damaged_firings_are_left_out(site: Site, state: AppState, client: Client):
    id = site.write(entry())
    sound = f"{epoch_text(DUE)} {epoch_text(DUE)} - skipped"
    odd = [*values().values(), b"1.0 nan x fired", b"1.0 1.0 a/b fired", b"1e9 1 - x"]
    odd += [b"9" * 29 + b" 1 - fired", b". . - fired", sound.encode() + b"\n"]
    client.rpush(keys.firings(id), *odd, sound)
    found = listing.firings(state, "nightly", most=10_000)
    assert [fired.what for fired in found] == ["skipped"]


def test_firings_of_jobs_that_nobody_can_read(
    site: Site, state: AppState, client: Client
):
    id = site.write(entry())
    for number, fields in enumerate(({"status": b"\xff"}, {"status": b"queued"})):
        job_id = f"{id}-{number}"
        client.hset(keys.job(job_id), mapping={**fields, "tq_retries": b"\xff"})
        client.lpush(keys.firings(id), f"1.000000 1.000000 {job_id} fired")
    client.set(keys.job(f"{id}-2"), "text")
    client.lpush(keys.firings(id), f"1.000000 1.000000 {id}-2 fired")
    found = listing.firings(state, "nightly")
    assert [fired.state for fired in found] == [None, None, None]
    client.delete(keys.firings(id))
    client.set(keys.firings(id), "text")
    assert listing.firings(state, "nightly") == []


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(listing.records, id="records"),
        pytest.param(lambda state: listing.record(state, "a"), id="record"),
        pytest.param(lambda state: listing.firings(state, "a"), id="firings"),
    ],
)
def test_a_server_that_is_away_is_told(
    client: redis.Redis, read: Callable[[AppState], object]
):
    site = Site(f"redis://127.0.0.1:{free_port()}/0", client)
    with site.app.app_context(), pytest.raises(BrokerUnavailable):
        read(site.tq.state)
