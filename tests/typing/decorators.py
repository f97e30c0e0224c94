"""What a type checker knows of tasks. Nothing here runs: mypy reads it, and every
``type: ignore`` is an error that must be found."""

from __future__ import annotations

import typing as t

from flask import Flask

from flask_taskqueue import AsyncResult, Task, TaskQueue, current_task, shared_task

tq = TaskQueue(Flask(__name__), url="redis://localhost", max_retries=5)


@tq.task
def add(x: int, y: int = 1, *, scale: float = 1.0) -> float:
    return (x + y) * scale


@tq.task(queue="mail", max_retries=None)
def mail(to: str) -> None: ...


@tq.task()
def empty() -> list[str]:
    return []


@shared_task
def clean(days: int) -> bool:
    return days > 0


@shared_task(name="lib.sweep", priority=1)
def sweep(days: int) -> bool:
    return days > 0


t.assert_type(add(1, 2), float)
t.assert_type(add.delay(1, 2), AsyncResult[float])
t.assert_type(add.delay(x=1, scale=0.5).get(timeout=1), float)
t.assert_type(add.apply_async((1, 2)), AsyncResult[float])
t.assert_type(add.apply((1, 2)), AsyncResult[float])
t.assert_type(add.delay_many([(1, 2), (3, 4)]), list[AsyncResult[float]])
t.assert_type(add.AsyncResult("id"), AsyncResult[float])
t.assert_type(mail.delay("you").get(), None)
t.assert_type(empty.delay().get(), list[str])
t.assert_type(clean.delay(3).get(), bool)
t.assert_type(sweep.delay(days=3).get(), bool)
by_position: Task[[str], None] = mail
other: Task[[int], None] = mail  # type: ignore[assignment]

add.delay("1")  # type: ignore[arg-type]
add.delay()  # type: ignore[call-arg]
add.delay(1, 2, 3)  # type: ignore[call-arg]
add.delay(1, z=2)  # type: ignore[call-arg]
add("1")  # type: ignore[arg-type]
mail.delay(to=7)  # type: ignore[arg-type]
clean.delay("3")  # type: ignore[arg-type]
sweep.delay("3")  # type: ignore[arg-type]


@tq.task
async def fetch(url: str) -> bytes:
    return url.encode()


@tq.task(soft_time_limit=5)
async def fetch_soon(url: str) -> bytes:
    return url.encode()


@tq.task(bind=True)
async def fetch_bound(self: Task[..., t.Any], url: str) -> bytes:
    return url.encode()


@shared_task
async def fetch_shared(url: str) -> bytes:
    return url.encode()


t.assert_type(fetch.delay("/").get(), bytes)
t.assert_type(fetch_soon.delay("/").get(), bytes)
t.assert_type(fetch_bound.delay("/").get(), bytes)
t.assert_type(fetch_shared.delay("/").get(), bytes)
fetch.delay(1)  # type: ignore[arg-type]
fetch_bound.delay(1)  # type: ignore[arg-type]


@tq.task(bind=True, max_retries=5)
def bound(self: Task[[int], str], n: int) -> str:
    t.assert_type(self.request.retries, int)
    t.assert_type(self.request.id, str | None)
    return str(n)


@shared_task(bind=True)
def bound_shared(self: Task[..., t.Any], n: int) -> str:
    return str(n)


by_number: Task[[int], str] = bound
t.assert_type(bound.delay(1).get(), str)
t.assert_type(bound(1), str)
t.assert_type(bound_shared.delay(n=1).get(), str)
bound.delay()  # type: ignore[call-arg]
bound.delay("1")  # type: ignore[arg-type]
bound.delay(bound, 1)  # type: ignore[call-arg, arg-type]
bound_shared.delay("1")  # type: ignore[arg-type]


@tq.task(bind=True)
def retried(self: Task[..., t.Any], n: int) -> int:
    if n == 1:
        raise self.retry(exc=ValueError(), countdown=3, max_retries=3)
    try:
        return int(n)
    except ValueError as error:
        # Without NoReturn a missing return would be found here.
        self.retry(exc=error)


def never() -> t.NoReturn:
    current_task.retry()


def said(self: Task[[int], str]) -> None:
    again = self.retry(throw=False, queue="other", priority=1)
    t.assert_type(again.countdown, float | None)
    self.progress(1, 2, "half")
    self.update_state(state="UPLOADING", meta={"at": 1})
    self.progress("1", 2)  # type: ignore[arg-type]
    self.update_state(state=1)  # type: ignore[arg-type]


def wrong_retries(self: Task[[int], str]) -> None:
    self.retry(countdown="3", throw=False)  # type: ignore[call-overload]
    self.retry(eta=3.5, throw=False)  # type: ignore[call-overload]
    self.retry(queue=1, throw=False)  # type: ignore[call-overload]
    self.retry(link="x", throw=False)  # type: ignore[call-overload]
    self.retry(max_retries="3", throw=False)  # type: ignore[call-overload]


class Report(Task[[int], str]):
    queue = "reports"
    max_retries = 7
    default_retry_delay = 2.5

    def run(self, n: int) -> str:
        return str(n)


report = tq.register_task(Report())
t.assert_type(report.delay(1).get(), str)
t.assert_type(Report()(1), str)
t.assert_type(add.max_retries, int | None)
report.delay("1")  # type: ignore[arg-type]
tq.register_task(Report)  # type: ignore[arg-type]


class Mailer(Task[[str], None]):
    def __init__(self, host: str) -> None:
        self.host = host

    def run(self, to: str) -> None: ...


t.assert_type(Mailer("mx").delay("you").get(), None)
t.assert_type(Mailer("mx").host, str)
Mailer()  # type: ignore[call-arg]


@tq.task(base=Report)
def based(text: str) -> int:
    return len(text)


t.assert_type(based.delay("x").get(), int)


tq.task(queue=1)  # type: ignore[call-overload]
tq.task(max_retries="3")  # type: ignore[call-overload]
tq.task(retires=3)  # type: ignore[call-overload]
tq.task(on_worker_lost="retry")  # type: ignore[call-overload]
tq.task(autoretry_for=(1,))  # type: ignore[arg-type]
tq.task(countdown=3)  # type: ignore[call-overload]
shared_task(bind="yes")  # type: ignore[call-overload]
shared_task(time_limit="1")  # type: ignore[call-overload]
