"""Options of decorators, apps and calls: checked once, merged into one value."""

from __future__ import annotations

import dataclasses
import json
import math
import typing as t
from datetime import UTC, datetime, timedelta, timezone

import pytest

from flask_taskqueue.config import load_config
from flask_taskqueue.options import (
    UNSET,
    CallOptions,
    ChangeOptions,
    DecoratorOptions,
    TaskOptions,
)
from flask_taskqueue.retry import RetryPolicy

CONFIG = load_config({}, {})
DAY = 86400


def test_a_task_without_options_gets_the_apps_defaults():
    options = TaskOptions.of_task().completed(CONFIG)
    assert options.policy == RetryPolicy(max_retries=3, delay=180)
    assert (options.result_ttl, options.failure_ttl) == (DAY, 7 * DAY)
    assert (options.time_limit, options.soft_time_limit) == (None, None)
    assert (options.serializer, options.ignore_result) == ("json", False)
    assert (options.due, options.expires, options.priority) == ("", "", 0)
    assert UNSET not in dataclasses.astuple(options)
    assert json.loads(options.stored()) == {"retry": {}}


def test_call_comes_before_task_and_task_before_app():
    config = load_config(
        {"TASKQUEUE_MAX_RETRIES": 1, "TASKQUEUE_TIME_LIMIT": 10}, {"result_ttl": 11}
    )
    task = TaskOptions.of_task(max_retries=2, queue="task")
    assert task.max_retries == 2
    completed = task.completed(config)
    assert (completed.max_retries, completed.time_limit) == (2, 10)
    assert completed.result_ttl == 11
    called = completed.called(max_retries=3, queue="call", time_limit=None)
    assert (called.max_retries, called.queue, called.time_limit) == (3, "call", None)
    assert called.result_ttl == 11


def test_none_is_a_value_of_its_own():
    config = load_config({"TASKQUEUE_TIME_LIMIT": 10}, {})
    options = TaskOptions.of_task(max_retries=None, time_limit=None).completed(config)
    assert (options.max_retries, options.time_limit) == (None, None)
    assert options.called(max_retries=0).called(max_retries=None).max_retries is None


def test_an_option_is_never_changed_in_place():
    options = TaskOptions.of_task()
    assert options.called(queue="x") is not options
    assert options.queue is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.queue = "y"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("check", "unknown", "known"),
    [
        pytest.param(TaskOptions.of_task, "countdown", DecoratorOptions, id="task"),
        pytest.param(TaskOptions().called, "autoretry_for", CallOptions, id="call"),
        pytest.param(TaskOptions().changed, "link", ChangeOptions, id="retry"),
    ],
)
def test_an_unknown_option_is_an_error_that_lists_the_known_ones(
    check: t.Any, unknown: str, known: t.Any
):
    names = ", ".join(sorted(known.__optional_keys__))
    with pytest.raises(TypeError, match=f"got '{unknown}'; known are {names}"):
        check(**{unknown: None})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("countdown", 0, "+0.000000"),
        ("countdown", 0.25, "+0.250000"),
        ("countdown", timedelta(minutes=1), "+60.000000"),
        ("countdown", -5, "+0.000000"),
        ("countdown", None, ""),
        ("eta", None, ""),
        ("eta", datetime(1970, 1, 1, 0, 0, 1, 500), "1.000500"),
        ("eta", datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), "1.000000"),
        ("eta", datetime(1970, 1, 1, 8, tzinfo=timezone(timedelta(hours=8))), "0.0"),
        ("expires", 10, "+10.000000"),
        ("expires", timedelta(days=1), "+86400.000000"),
        ("expires", datetime(1970, 1, 1, 0, 0, 9), "9.000000"),
        ("queue", "a.b-c", "a.b-c"),
        ("routing_key", "task.mul", "task.mul"),
        ("priority", -1, -1),
        ("max_retries", 0, 0),
        ("default_retry_delay", timedelta(seconds=2), 2.0),
        ("default_retry_delay", 0, 0),
        ("retry_backoff", True, 1.0),
        ("retry_backoff", False, 0.0),
        ("retry_backoff", 3, 3),
        ("retry_backoff_max", timedelta(hours=1), 3600.0),
        ("retry_jitter", False, False),
        ("time_limit", 0.5, 0.5),
        ("soft_time_limit", None, None),
        ("result_ttl", timedelta(hours=1), 3600),
        ("failure_ttl", 0, 0),
        ("ignore_result", True, True),
        ("serializer", "msgpack", "msgpack"),
        ("task_id", "a_B-9", "a_B-9"),
        ("task_id", "x" * 255, "x" * 255),
        ("task_id", None, None),
        ("headers", {"owner": 7}, {"owner": 7}),
        ("headers", None, {}),
        ("link", None, ()),
        ("link", "sig", ("sig",)),
        ("link_error", ["a", "b"], ("a", "b")),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_calls_option_is_taken(name: str, value: t.Any, expected: t.Any):
    found = getattr(TaskOptions().called(**{name: value}), name)
    if name == "eta" and expected:
        found, expected = float(found), float(expected)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "kind", "words"),
    [
        ("countdown", "5", TypeError, "a number of seconds or a timedelta"),
        ("countdown", True, TypeError, "a number of seconds"),
        ("countdown", math.nan, ValueError, "seconds, got nan"),
        ("countdown", math.inf, ValueError, "seconds, got inf"),
        ("countdown", 10**400, ValueError, "seconds, got 1"),
        ("eta", 5, TypeError, "a datetime"),
        ("eta", "2026-01-01", TypeError, "a datetime"),
        ("expires", "soon", TypeError, "a number of seconds"),
        ("expires", math.nan, ValueError, "seconds, got nan"),
        ("queue", "", ValueError, "a queue's name"),
        ("queue", "a b", ValueError, "a queue's name"),
        ("queue", "a,b", ValueError, "a queue's name"),
        ("queue", 3, ValueError, "a queue's name"),
        ("routing_key", "", ValueError, "a non-empty string"),
        ("priority", 0.5, TypeError, "an integer"),
        ("priority", True, TypeError, "an integer"),
        ("max_retries", -1, ValueError, "an integer >= 0 or None"),
        ("max_retries", 1.5, ValueError, "an integer >= 0 or None"),
        ("default_retry_delay", -1, ValueError, "0 to 3.1536e"),
        ("default_retry_delay", None, TypeError, "a number of seconds"),
        ("retry_jitter", 1, TypeError, "True or False"),
        ("time_limit", 0, ValueError, "seconds > 0 or None"),
        ("time_limit", "3", TypeError, "a number of seconds"),
        ("soft_time_limit", -1, ValueError, "seconds > 0 or None"),
        ("soft_time_limit", math.nan, ValueError, "seconds"),
        ("result_ttl", -1, ValueError, "0 to 3.1536e"),
        ("result_ttl", 10**30, ValueError, "0 to 3.1536e"),
        ("ignore_result", None, TypeError, "True or False"),
        ("serializer", "yaml", ValueError, "'json', 'msgpack' or 'pickle'"),
        ("task_id", "", ValueError, "1 to 255 letters"),
        ("task_id", "a" * 256, ValueError, "1 to 255 letters"),
        ("task_id", "../x", ValueError, "1 to 255 letters"),
        ("task_id", "a\n", ValueError, "1 to 255 letters"),
        ("task_id", "é", ValueError, "1 to 255 letters"),
        ("task_id", 7, ValueError, "1 to 255 letters"),
        ("headers", [("a", 1)], TypeError, "a mapping"),
        ("headers", {1: 2}, TypeError, "a mapping"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_calls_option_is_refused_by_name(
    name: str, value: t.Any, kind: type[Exception], words: str
):
    with pytest.raises(kind, match=rf"expected {name!r} to be .*{words}"):
        TaskOptions().called(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("autoretry_for", KeyError, (KeyError,)),
        ("autoretry_for", [KeyError, OSError], (KeyError, OSError)),
        ("dont_autoretry_for", (KeyError,), (KeyError,)),
        ("throws", (KeyError,), (KeyError,)),
        ("request_context", True, True),
        ("on_worker_lost", "fail", "fail"),
        ("max_recoveries", 0, 0),
    ],
)
def test_a_decorators_option_is_taken(name: str, value: t.Any, expected: t.Any):
    assert getattr(TaskOptions.of_task(**{name: value}), name) == expected


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("autoretry_for", "KeyError", TypeError),
        ("autoretry_for", [KeyError()], TypeError),
        ("throws", (int,), TypeError),
        ("request_context", "yes", TypeError),
        ("on_worker_lost", "retry", ValueError),
        ("max_recoveries", None, ValueError),
        ("max_recoveries", -1, ValueError),
    ],
)
def test_a_decorators_option_is_refused_by_name(
    name: str, value: t.Any, kind: type[Exception]
):
    with pytest.raises(kind, match=f"expected '{name}' to be"):
        TaskOptions.of_task(**{name: value})


def test_eta_and_countdown_exclude_each_other():
    eta = datetime.now(UTC)
    with pytest.raises(ValueError, match="'eta' or 'countdown', got both"):
        TaskOptions().called(eta=eta, countdown=1)
    assert TaskOptions().called(eta=eta, countdown=None).due


@pytest.mark.parametrize(
    "check", [TaskOptions.of_task, TaskOptions().called, TaskOptions().changed]
)
def test_a_soft_limit_over_the_hard_one_given_with_it_is_refused(check: t.Any):
    with pytest.raises(ValueError, match=r"at most 'time_limit' \(1\), got 2"):
        check(time_limit=1, soft_time_limit=2)
    assert check(time_limit=2, soft_time_limit=2).soft_time_limit == 2


def test_a_call_may_undercut_the_soft_limit_of_its_task_or_app():
    config = load_config({"TASKQUEUE_SOFT_TIME_LIMIT": 60}, {})
    options = TaskOptions.of_task(time_limit=30).completed(config)
    called = options.called(time_limit=1)
    assert (called.time_limit, called.soft_time_limit) == (1, 60)


def test_what_a_worker_needs_is_stored_and_no_more():
    options = TaskOptions.of_task(
        max_retries=None, retry_backoff=True, time_limit=5, ignore_result=True
    )
    stored = json.loads(options.completed(CONFIG).called(queue="x").stored())
    assert RetryPolicy.from_dict(stored.pop("retry")) == RetryPolicy(
        max_retries=None, backoff=1.0
    )
    assert stored == {"time_limit": 5, "ignore_result": True}
