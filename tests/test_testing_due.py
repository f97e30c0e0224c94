"""``drain()`` with a time runs all that is due by then, however close together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import redis

from flask_taskqueue.testing import drain

from .running import InProcess

TRIES = 100


def test_a_job_that_becomes_due_while_others_are_looked_at(
    client: redis.Redis, redis_url: str
):
    site, ran = InProcess(__name__, redis_url, client), []

    @site.tq.task(name="note")
    def note(number: int) -> None:
        ran.append(number)

    with site.app.app_context():
        for number in range(TRIES):
            note.apply_async((number,), countdown=60)
            # So much later that it becomes due at about the end of the first one.
            note.apply_async((number,), countdown=60 + number / 10_000)
            drain(site.app, "default", now=datetime.now(UTC) + timedelta(minutes=2))
            assert ran == [number, number]
            ran.clear()
