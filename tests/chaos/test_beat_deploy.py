"""Beats of an old and a new release that run together."""

from __future__ import annotations

import json
import typing as t
from itertools import pairwise

import redis

from ..processes import AppFolder
from .books import EACH, Books, assert_on_grid, declaring

EACH_SECOND = {**EACH, "schedule": "* * * * * *"}

OLD: dict[str, dict[str, t.Any]] = {
    "same": EACH_SECOND,
    "same-interval": EACH,
    "args": {**EACH, "schedule": 0.2},
    "cron": {**EACH, "schedule": "*/2 * * * * *"},
    "interval": EACH,
    "gone": EACH,
}
NEW: dict[str, dict[str, t.Any]] = {
    "same": EACH_SECOND,
    "same-interval": EACH,
    "args": {**EACH, "schedule": 0.2, "args": [3, 4]},
    "cron": EACH_SECOND,
    "interval": {**EACH, "schedule": 0.3},
    # Of a task that the old release does not know.
    "added": {"task": "jobs.later", "schedule": 0.5},
}


def args_of(client: redis.Redis, jobs: t.Iterable[str]) -> list[list[int]]:
    """Arguments of jobs."""
    raw: t.Any = client
    return [json.loads(raw.hget(f"rq:job:{job}", "data"))[2] for job in jobs]


def test_old_and_new_schedules_together_fire_each_due_time_at_most_once(
    jobs: AppFolder, books: Books, client: redis.Redis
):
    old, new = declaring(**OLD), declaring(**NEW) | {"KNOWS_LATER": "1"}
    first = jobs.beat(**old)
    books.await_firings(OLD)
    news = [jobs.beat(**new)]
    # The one that leads is an old one, and follows what the new one wrote.
    assert books.leader_pid() == first.pid
    assert books.names() == set(NEW)
    books.await_firings(NEW, 1)
    assert first.stop() == 0
    back = jobs.beat(**old)
    # The one that leads is a new one, and follows what the old one wrote.
    assert books.leader_pid() == news[0].pid
    assert books.names() == set(OLD)
    books.await_firings(OLD, 1)
    news.append(jobs.beat(**new))
    books.await_firings(NEW)
    back.kill()
    alone = books.await_firings(NEW, 2)

    for beat in news:
        assert beat.stop() == 0
    for beat in (first, back, *news):
        assert "Traceback" not in beat.output
        assert "ERROR" not in beat.output
    assert books.names() == set(NEW)
    for name in OLD | NEW:
        assert books.assert_none_twice(name)
    books.assert_each_once("same", 1)
    books.assert_each_once("same-interval", 0.5)
    books.assert_each_once("args", 0.2)
    found = args_of(client, books.enqueued()[books.id("args")])
    changes = [after for before, after in pairwise(found) if before != after]
    assert changes == [[3, 4], [1, 2], [3, 4]]
    for name, interval in {"cron": 1, "interval": 0.3, "added": 0.5}.items():
        dues = [row.due for row in books.rows(name) if row.due > alone * 1_000_000]
        assert_on_grid(dues, round(interval * 1_000_000), name)
    assert books.rows("gone") == []
