"""Entries of beat: what is read of a dict, and what is refused and how."""

from __future__ import annotations

import typing as t
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_taskqueue import Task, TaskQueue
from flask_taskqueue.beat.entries import (
    PARTS,
    Entry,
    check_against,
    entry_id,
    firing_id,
    read_entry,
)
from flask_taskqueue.beat.schedules import crontab, every
from flask_taskqueue.option_values import TASK_ID

PARIS = ZoneInfo("Europe/Paris")
TOKYO = ZoneInfo("Asia/Tokyo")
LEAST = {"task": "mail.send", "schedule": 30}


def entry(**parts: object) -> Entry:
    return read_entry("x", {**LEAST, **parts}, UTC)


@pytest.fixture
def tq() -> TaskQueue:
    return TaskQueue(Flask(__name__), url="redis://nowhere")


@pytest.fixture
def add(tq: TaskQueue) -> Task[..., t.Any]:
    return tq.task(name="sums.add")(_add)


def _add(x: int, y: int = 0) -> int:
    return x + y


def test_an_entry_of_a_name_and_a_schedule_has_the_defaults():
    assert entry() == Entry(
        name="x", task="mail.send", schedule=every(30).within(UTC), args=(), kwargs={},
        options={}, enabled=True, overlap="allow", misfire="once", grace=60.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("part", "given", "kept"),
    [
        pytest.param("args", [1, "a"], (1, "a"), id="args-list"),
        pytest.param("args", None, (), id="args-none"),
        pytest.param("kwargs", {"a": 1}, {"a": 1}, id="kwargs"),
        pytest.param("kwargs", None, {}, id="kwargs-none"),
        pytest.param("options", None, {}, id="options-none"),
        pytest.param("options", {"queue": "q"}, {"queue": "q"}, id="options"),
        pytest.param(
            "options",
            {"expires": timedelta(minutes=1), "result_ttl": timedelta(days=1)},
            {"expires": 60.0, "result_ttl": 86_400.0},
            id="options-durations",
        ),
        pytest.param("enabled", False, False, id="enabled"),
        pytest.param("overlap", "skip", "skip", id="overlap"),
        pytest.param("misfire", "all", "all", id="misfire"),
        pytest.param("grace", 1, 1.0, id="grace-least"),
        pytest.param("grace", timedelta(minutes=2), 120.0, id="grace-duration"),
    ],
)
def test_a_part_is_kept_in_one_form(part: str, given: object, kept: object):
    assert getattr(entry(**{part: given}), part) == kept


@pytest.mark.parametrize("value", [False, None])
def test_relative_may_say_no(value: object):
    assert entry(relative=value) == entry()


def test_what_an_entry_holds_is_its_own():
    args, kwargs, options = [1], {"a": 1}, {"queue": "q"}
    made = entry(args=args, kwargs=kwargs, options=options)
    args.append(2)
    kwargs.clear()
    options.clear()
    assert (made.args, made.kwargs, made.options) == ((1,), {"a": 1}, {"queue": "q"})


def test_a_task_may_stand_for_its_name(add: Task[..., t.Any]):
    assert entry(task=add).task == "sums.add"


@pytest.mark.parametrize(
    ("schedule", "tz", "zone"),
    [
        pytest.param(crontab(hour=4, tz="Asia/Tokyo"), "Europe/Paris", TOKYO, id="own"),
        pytest.param(crontab(hour=4), "Europe/Paris", PARIS, id="entry-text"),
        pytest.param(crontab(hour=4), PARIS, PARIS, id="entry-zone"),
        pytest.param("0 4 * * *", "Europe/Paris", PARIS, id="entry-cron-text"),
        pytest.param(crontab(hour=4), None, ZoneInfo("Asia/Kabul"), id="given"),
    ],
)
def test_the_nearest_zone_wins(schedule: object, tz: object, zone: ZoneInfo):
    parts = {"task": "a", "schedule": schedule, "tz": tz}
    made = read_entry("x", parts, ZoneInfo("Asia/Kabul"))
    after = datetime(2026, 7, 1, tzinfo=UTC)
    expected = crontab(hour=4).within(zone).next_run(after)
    assert made.schedule.next_run(after) == expected


def test_links_are_kept_as_signatures(add: Task[..., t.Any]):
    made = entry(options={"link": add.s(1), "link_error": [add.si(2), add.si(3)]})
    assert made.options == {
        "link": (add.s(1),),
        "link_error": (add.si(2), add.si(3)),
    }


@pytest.mark.parametrize(
    ("parts", "kind", "said"),
    [
        pytest.param(
            {"args": ("Erics")},
            TypeError,
            "expected 'args' of entry 'x' to be a list or tuple, got 'Erics':"
            " write ('Erics',) or ['Erics']",
            id="args-text",
        ),
        pytest.param({"args": 5}, TypeError, "write (5,) or [5]", id="args-number"),
        pytest.param({"args": {"a": 1}}, TypeError, "are 'kwargs'", id="args-dict"),
        pytest.param({"args": "x" * 9000}, TypeError, "xxx...xxx", id="args-long"),
        pytest.param({"kwargs": [1]}, TypeError, "'kwargs' of entry 'x'", id="kwargs"),
        pytest.param(
            {"kwargs": {1: 2}}, TypeError, "a dict with text as keys", id="kwargs-key"
        ),
        pytest.param(
            {"options": "queue"}, TypeError, "'options' of entry 'x'", id="options"
        ),
        pytest.param(
            {"options": {"queu": "a"}},
            TypeError,
            "'options' of entry 'x' has an unknown option 'queu'; known are"
            " default_retry_delay, expires, failure_ttl, headers, ignore_result, link,"
            " link_error, max_retries, priority, queue, result_ttl, retry_backoff,"
            " retry_backoff_max, retry_jitter, routing_key, serializer,"
            " soft_time_limit, time_limit (did you mean 'queue'?)",
            id="option-unknown",
        ),
        pytest.param(
            {"options": {"priority": "high"}},
            TypeError,
            "'options' of entry 'x': expected 'priority' to be an integer, got 'high'",
            id="option-value",
        ),
        pytest.param(
            {"options": {"task_id": "a"}},
            ValueError,
            "'options' of entry 'x' cannot have 'task_id': each firing has an id",
            id="task-id",
        ),
        pytest.param(
            {"options": {"eta": datetime(2026, 1, 1, tzinfo=UTC)}},
            ValueError,
            "cannot have 'eta': an entry's time is its 'schedule'",
            id="eta",
        ),
        pytest.param(
            {"options": {"countdown": 5}},
            ValueError,
            "cannot have 'countdown': an entry's time is its 'schedule'",
            id="countdown",
        ),
        pytest.param(
            {"options": {"link": "sums.add"}},
            TypeError,
            "'options' of entry 'x': expected links to be signatures",
            id="link",
        ),
        pytest.param(
            {"tz": "Europe/Pariss"}, ValueError, "Europe/Paris'", id="zone-near"
        ),
        pytest.param({"tz": "Mars"}, ValueError, "'tz' of entry 'x'", id="zone"),
        pytest.param(
            {"schedule": "61 * * * *"},
            ValueError,
            "'schedule' of entry 'x': ",
            id="schedule",
        ),
        pytest.param(
            {"schedule": object()},
            TypeError,
            "'schedule' of entry 'x': ",
            id="schedule-type",
        ),
        pytest.param(
            {"schedule": None}, ValueError, "entry 'x' to have 'schedule'", id="no-time"
        ),
        pytest.param(
            {"task": None}, ValueError, "entry 'x' to have 'task'", id="no-task"
        ),
        pytest.param({"task": ""}, TypeError, "'task' of entry 'x'", id="task-empty"),
        pytest.param({"task": 5}, TypeError, "'task' of entry 'x'", id="task-number"),
        pytest.param({"task": _add}, TypeError, "with @tq.task", id="task-function"),
        pytest.param(
            {"task": " a "}, ValueError, "'task' of entry 'x'", id="task-spaces"
        ),
        pytest.param({"enabled": 1}, TypeError, "'enabled' of entry 'x'", id="enabled"),
        pytest.param(
            {"overlap": "never"},
            ValueError,
            "expected 'overlap' of entry 'x' to be 'allow' or 'skip', got 'never'",
            id="overlap",
        ),
        pytest.param(
            {"misfire": ["once"]}, ValueError, "'misfire' of entry 'x'", id="misfire"
        ),
        pytest.param({"grace": 0}, ValueError, "'grace' of entry 'x'", id="grace"),
        pytest.param(
            {"grace": float("nan")}, ValueError, "'grace' of entry 'x'", id="grace-nan"
        ),
        pytest.param({"grace": 1e30}, ValueError, "'grace' of", id="grace-huge"),
        pytest.param({"grace": True}, TypeError, "'grace' of", id="grace-flag"),
        pytest.param({"grace": "60"}, TypeError, "'grace' of", id="grace-text"),
        pytest.param(
            {"relative": True},
            ValueError,
            "expected 'relative' of entry 'x' to be False, got True: the times of an"
            " interval are not rounded to it",
            id="relative",
        ),
        pytest.param(
            {"arg": (1,)},
            TypeError,
            f"entry 'x' has an unknown part 'arg'; known are {', '.join(PARTS)}"
            " (did you mean 'args'?)",
            id="part",
        ),
        pytest.param({5: 1}, TypeError, "unknown part 5", id="part-number"),
    ],
)
def test_an_entry_is_refused(
    parts: dict[t.Any, t.Any], kind: type[Exception], said: str
):
    with pytest.raises((TypeError, ValueError)) as caught:
        read_entry("x", {**LEAST, **parts}, UTC)
    assert type(caught.value) is kind
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param("", TypeError, id="empty"),
        pytest.param(5, TypeError, id="number"),
        pytest.param("a" * 256, ValueError, id="long"),
        pytest.param("\ud800", ValueError, id="surrogate"),
    ],
)
def test_a_name_is_refused(name: t.Any, kind: type[Exception]):
    with pytest.raises(kind, match="an entry's name"):
        read_entry(name, LEAST, UTC)


@pytest.mark.parametrize("parts", [None, [("task", "a")], "task"])
def test_parts_must_be_a_dict(parts: t.Any):
    with pytest.raises(TypeError, match="expected entry 'x' to be a dict"):
        read_entry("x", parts, UTC)


def test_an_unknown_task_is_told_with_the_nearest(tq: TaskQueue, add: Task[..., t.Any]):
    check_against(entry(task="sums.add", args=(1,)), tq.tasks)
    for unknown in ("sums.ad", "add"):
        with pytest.raises(
            ValueError,
            match=rf"'task' of entry 'x' .* got '{unknown}' .did you mean 'sums.add'",
        ):
            check_against(entry(task=unknown), tq.tasks)
    with pytest.raises(ValueError, match=r"got 'zzz'; is its module imported"):
        check_against(entry(task="zzz"), tq.tasks)


@pytest.mark.parametrize(
    "call",
    [
        pytest.param({}, id="too-few"),
        pytest.param({"args": (1, 2, 3)}, id="too-many"),
        pytest.param({"args": (1,), "kwargs": {"z": 1}}, id="unknown-name"),
    ],
)
def test_arguments_that_do_not_fit_are_told_with_entry_and_task(
    tq: TaskQueue, add: Task[..., t.Any], call: dict[str, t.Any]
):
    with pytest.raises(TypeError, match=r"entry 'x' to fit its task: .*sums\.add"):
        check_against(entry(task=add, **call), tq.tasks)


@pytest.mark.parametrize(
    ("name", "beginning"),
    [
        pytest.param("nightly", "beat-nightly-", id="plain"),
        pytest.param("clean up: every night!", "beat-clean-up-every-night-", id="text"),
        pytest.param("夜", "beat-", id="no-slug"),
        pytest.param("x" * 100, f"beat-{'x' * 60}-", id="long"),
    ],
)
def test_an_id_begins_readably(name: str, beginning: str):
    made = entry_id("shop", name)
    assert made.startswith(beginning)
    assert len(made) == len(beginning) + 16


def test_an_id_is_of_app_and_name():
    ids = {
        entry_id(app, name)
        for app, name in [("a", "b c"), ("a", "b-c"), ("a b", "c"), ("b", "b-c")]
    }
    assert len(ids) == 4
    # What is stored under an id must be found by later versions.
    assert entry_id("shop", "nightly") == "beat-nightly-457a5e53c85a8758"


@given(app=st.text(), name=st.text(), seconds=st.integers(0, 2**33))
@settings(derandomize=True, deadline=None)
def test_ids_can_be_those_of_jobs(app: str, name: str, seconds: int):
    made = entry_id(app, name)
    due = datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=1999)
    assert TASK_ID.fullmatch(made)
    assert TASK_ID.fullmatch(firing_id(made, due))
    assert firing_id(made, due) == f"{made}-{seconds * 1000 + 1}"


def test_a_firing_has_one_id_in_every_zone():
    due = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert firing_id("e", due) == "e-1774747800000"
    other = due.astimezone(timezone(timedelta(hours=5)))
    assert firing_id("e", other) == firing_id("e", due)
