"""What options bound a worker's jobs and children, and whose limit a job has."""

from __future__ import annotations

import json
import typing as t

import click
import pytest
import redis

from flask_taskqueue.cli.bounds import Bounds, bounds_of
from flask_taskqueue.config import load_config
from flask_taskqueue.job import StoredJob
from flask_taskqueue.options import TaskOptions
from flask_taskqueue.terms import NO_LIMITS, Limits
from flask_taskqueue.worker.wear import Lifetime

from .running import InProcess

NAMES = (
    "time_limit", "soft_time_limit", "max_tasks_per_child", "max_memory_per_child"
)  # fmt: skip


def bounds(
    redis_url: str, client: redis.Redis, pool: str, given: t.Any, **config: t.Any
) -> Bounds:
    site = InProcess(__name__, redis_url, client, **config)
    return bounds_of(
        site.tq.state_of(site.app), pool, dict.fromkeys(NAMES, None) | given
    )


def test_options_that_are_not_given_bound_nothing(redis_url: str, client: redis.Redis):
    found = bounds(redis_url, client, "solo", {}, TASKQUEUE_SOFT_TIME_LIMIT=5)
    assert found == (Lifetime(), NO_LIMITS)
    assert found.lifetime.begin() is None


def test_options_that_are_given_come_back(redis_url: str, client: redis.Redis):
    given = dict(zip(NAMES, (2.5, 2.0, 3, 0.5), strict=True))
    found = bounds(redis_url, client, "threads", given)
    assert found == (Lifetime(3, 0.5), Limits(2.5, 2.0))


@pytest.mark.parametrize(
    ("pool", "given", "config", "message"),
    [
        pytest.param(
            "solo", {"time_limit": 5.0}, {},
            "cannot stop a running job, so it cannot keep --time-limit",
            id="solo-hard-limit",
        ),
        pytest.param(
            "solo", {"max_tasks_per_child": 5}, {}, "--max-tasks-per-child",
            id="solo-tasks",
        ),
        pytest.param(
            "solo", {"max_memory_per_child": 5.0}, {}, "--max-memory-per-child",
            id="solo-memory",
        ),
        pytest.param(
            "prefork", {"time_limit": 5.0, "soft_time_limit": 6.0}, {},
            r"at most the hard one \(5 s\), got 6 s", id="soft-over-hard",
        ),
        pytest.param(
            "prefork", {"time_limit": 5.0}, {"TASKQUEUE_SOFT_TIME_LIMIT": 6},
            "got 6 s", id="the-apps-soft-over-hard",
        ),
        pytest.param(
            "gevent", {"soft_time_limit": 6.0}, {"TASKQUEUE_TIME_LIMIT": 5},
            "got 6 s", id="soft-over-the-apps-hard",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused(
    redis_url: str,
    client: redis.Redis,
    pool: str,
    given: dict[str, t.Any],
    config: dict[str, t.Any],
    message: str,
):
    with pytest.raises(click.UsageError, match=message):
        bounds(redis_url, client, pool, given, **config)


def stored_options(
    task: t.Any, call: t.Any = None, app: float | None = None
) -> dict[bytes, bytes]:
    """A job's fields, as options of a task, a call and an app make them."""
    config = load_config({"TASKQUEUE_TIME_LIMIT": app}, {})
    options = TaskOptions.of_task(**task).completed(config)
    if call is not None:
        options = options.called(**call)
    return {b"tq_task": b"jobs.add", b"tq_options": options.stored()}


@pytest.mark.parametrize(
    ("fields", "alone", "given_five"),
    [
        pytest.param(stored_options({}), None, 5, id="nobody"),
        pytest.param(stored_options({}, app=9), 9, 5, id="app"),
        pytest.param(stored_options({"time_limit": 7}, app=9), 7, 7, id="task"),
        pytest.param(
            stored_options({"time_limit": None}, app=9), None, None, id="task-none"
        ),
        pytest.param(
            stored_options({"time_limit": None}), None, None, id="task-none-app-none"
        ),
        pytest.param(
            stored_options({"time_limit": 7}, {"time_limit": 8}), 8, 8, id="call"
        ),
        pytest.param(
            stored_options({}, {"time_limit": None}, app=9), None, None, id="call-none"
        ),
        pytest.param(stored_options({}, {"queue": "q"}, app=9), 9, 5, id="call-other"),
        pytest.param({b"timeout": b"4"}, 64, 64, id="plain-rq"),
        pytest.param({b"timeout": b"-1"}, None, None, id="plain-rq-none"),
    ],
)
def test_a_workers_limit_goes_before_the_apps_only(
    fields: dict[bytes, bytes], alone: float | None, given_five: float | None
):
    assert StoredJob("id", fields, "q").limits.time_limit == alone
    limits = Limits(time_limit=5.0)
    assert StoredJob("id", fields, "q", limits).limits.time_limit == given_five


def test_options_completed_again_stay_the_apps():
    config = load_config({"TASKQUEUE_SOFT_TIME_LIMIT": 3}, {})
    options = TaskOptions.of_task().completed(config).completed(config)
    assert json.loads(options.stored()) == {"retry": {}, "app_soft_time_limit": 3}
