"""What a type checker knows of schedules. Nothing here runs: mypy reads it, and every
``type: ignore`` is an error that must be found."""

from __future__ import annotations

import typing as t
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from flask_taskqueue import AsyncResult, Task, TaskQueue, crontab, every, shared_task
from flask_taskqueue.beat.records import Record

tq = TaskQueue()


@tq.periodic(30)
@tq.task
def below(x: int = 1) -> str:
    return str(x)


@tq.periodic(30.5, "alone", (1,), {"y": 2})
def alone(x: int, y: int) -> float:
    return x / y


@tq.periodic(timedelta(minutes=1), name="bound", options={"queue": "slow"})
@tq.task(bind=True, queue="slow")
def bound(self: Task[[int], str], n: int = 0) -> str:
    return str(n)


@tq.periodic("*/5 * * * *", tz="Europe/Paris", enabled=False, overlap="skip")
@shared_task
def clean(days: int = 3) -> bool:
    return days > 0


@tq.periodic(crontab(0, 3), tz=ZoneInfo("Europe/Paris"), misfire="all", grace=5)
async def fetch(url: str = "/") -> bytes:
    return url.encode()


@tq.periodic(every(10), grace=timedelta(minutes=5))
@tq.task
async def fetch_below(url: str = "/") -> bytes:
    return url.encode()


class Report(Task[[int], str]):
    def run(self, n: int) -> str:
        return str(n)


report = tq.periodic(datetime.now(UTC), args=(1,))(tq.register_task(Report()))

t.assert_type(below.delay(1), AsyncResult[str])
t.assert_type(below(x=1), str)
t.assert_type(alone.delay(1, y=2), AsyncResult[float])
t.assert_type(alone(1, 2), float)
t.assert_type(bound.delay(1).get(), str)
t.assert_type(clean.delay(days=3).get(), bool)
t.assert_type(fetch.delay("/").get(), bytes)
t.assert_type(fetch_below.delay("/").get(), bytes)
t.assert_type(report, Task[[int], str])
below.delay("1")  # type: ignore[arg-type]
alone.delay(1)  # type: ignore[call-arg]
bound.delay("1")  # type: ignore[arg-type]
fetch.delay(1)  # type: ignore[arg-type]
fetch_below.delay(1)  # type: ignore[arg-type]

tq.periodic(None)  # type: ignore[arg-type]
tq.periodic(1, 2)  # type: ignore[arg-type]
tq.periodic(1, overlap="no")  # type: ignore[arg-type]
tq.periodic(1, misfire="never")  # type: ignore[arg-type]
tq.periodic(1, jitter=3)  # type: ignore[call-arg]
tq.periodic(1, options={"queue": 1})  # type: ignore[arg-type]

tq.add_periodic_task(10.0, below.s(1), name="every 10", expires=10)
tq.add_periodic_task(crontab(hour=7), alone.si(1, 2), overlap="skip", queue="slow")
tq.add_periodic_task(every(1), below.s(), (1,), {}, grace=3, tz="UTC")
tq.add_periodic_task(10.0, below)  # type: ignore[arg-type]
tq.add_periodic_task(10.0, below.s(), queue=1)  # type: ignore[arg-type]
tq.add_periodic_task(10.0, below.s(), often=1)  # type: ignore[call-arg]

t.assert_type(
    crontab.from_string("0 9 * * *").next_run(datetime.now(UTC)), datetime | None
)
t.assert_type(tq.schedules.add("a", below, 30), Record)
t.assert_type(tq.schedules.add("a", "below", "@daily", replace=True), Record)
t.assert_type(tq.schedules.update("a", schedule=60, args=(1,), tz=None), Record)
t.assert_type(tq.schedules.pause("a"), bool)
t.assert_type(tq.schedules.resume("a"), bool)
t.assert_type(tq.schedules.trigger("a"), AsyncResult[t.Any])
t.assert_type(tq.schedules.get("a").next, datetime | None)
t.assert_type(tq.schedules.list(), list[Record])
tq.schedules.add("a", print, 30)  # type: ignore[arg-type]
tq.schedules.update("a", overlap="no")  # type: ignore[arg-type]
tq.schedules.update("a", jitter=3)  # type: ignore[call-arg]
