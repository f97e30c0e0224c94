"""Tasks for tests of calls, results and retries."""

from __future__ import annotations

import asyncio
import time
import typing as t
from pathlib import Path

from flask import Flask, current_app

from flask_taskqueue import (
    AsyncResult,
    Task,
    TaskQueue,
    current_task,
    get_task_logger,
    shared_task,
)
from flask_taskqueue.errors import Ignore, Reject, SoftTimeLimitExceeded

tq = TaskQueue()
app = Flask(__name__)
app.config.from_prefixed_env()
tq.init_app(app)

logger = get_task_logger(__name__)
Self = Task[..., t.Any]


def note(path: str, line: object) -> None:
    """Append a line to a ledger outside Redis, in one write."""
    with open(path, "a") as ledger:
        ledger.write(f"{line}\n")


class Broken(Exception):
    """Travels with its arguments."""


class Unbuildable(Exception):
    """Takes other arguments than it keeps."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


@tq.task
def add(x: int, y: int) -> int:
    return x + y


@tq.task(bind=True)
def mul(self: Self, x: int, y: int) -> int:
    logger.info("args %s", list(self.request.args))
    return x * y


@tq.task
def nothing() -> None:
    print("nothing is printed", flush=True)  # noqa: T201 - seen in the output


@shared_task
def app_name() -> str:
    return current_app.name


@tq.task
def echo(value: t.Any) -> t.Any:
    return value


@tq.task(bind=True)
def clock(self: Self, *_: object) -> list[t.Any]:
    return [time.time(), self.request.eta]


@tq.task(bind=True)
def request(self: Self, *args: object, **kwargs: object) -> dict[str, t.Any]:
    """What a task knows of its job."""
    assert current_task.name == self.name
    names = (
        "id", "args", "kwargs", "retries", "queue", "hostname", "is_eager",
        "parent_id", "root_id", "headers", "carried", "expires", "called_directly",
    )  # fmt: skip
    return {name: getattr(current_task.request, name) for name in names}


class Report(Task[[int], str]):
    queue = "reports"

    def run(self, n: int) -> str:
        return f"{self.name} {n}"


report = tq.register_task(Report())


@tq.task
async def later(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return f"{current_app.name} {current_task.name}"


@tq.task(ignore_result=True)
def forgetful() -> str:
    return "nobody reads this"


@tq.task
def snooze(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


@tq.task
def hold(path: str) -> str:
    """Run from when the file is there until it is gone."""
    Path(path).touch()
    while Path(path).exists():
        time.sleep(0.005)
    return "released"


@tq.task
def fail(kind: str = "Broken", *args: t.Any) -> None:
    raise {
        "Broken": Broken,
        "Unbuildable": Unbuildable,
        "SystemExit": SystemExit,
        "KeyError": KeyError,
    }[kind](*args)


@tq.task
def fail_elsewhere() -> None:
    import elsewhere

    raise elsewhere.Strange(1, "two")


@tq.task(throws=(KeyError,))
def expected() -> None:
    raise KeyError("expected")


@tq.task
def fail_with_object() -> None:
    raise Broken(object())


@tq.task
def errback(request: t.Any, exc: Exception, traceback: str) -> list[t.Any]:
    found = [type(exc).__name__, list(exc.args), "raise" in traceback]
    return [request.id, request.task, *found]


@tq.task
def errback_by_id(job_id: str) -> list[t.Any]:
    return [job_id, AsyncResult(job_id).state]


@tq.task(bind=True)
def flaky(
    self: Self, path: str, good_at: int, with_error: bool, options: dict[str, t.Any]
) -> int:
    """Fail until it has been retried so often."""
    note(path, f"{self.request.retries} {time.time():.6f}")
    if self.request.retries >= good_at:
        return self.request.retries
    if with_error:
        raise self.retry(exc=Broken(self.request.retries), **options)
    try:
        raise Broken(self.request.retries)
    except Broken:
        self.retry(**options)


@tq.task(bind=True, default_retry_delay=0.3, max_retries=1)
def by_default(self: Self, path: str) -> None:
    note(path, time.time())
    self.retry()


@tq.task(bind=True, max_retries=1, default_retry_delay=0)
def goes_on(self: Self, path: str) -> str:
    if self.request.retries == 0:
        again = self.retry(throw=False)
        note(path, f"went on: {type(again).__name__}")
    return f"returned by {self.request.retries}"


@tq.task(bind=True)
def moves(self: Self, x: int, y: int = 0) -> list[t.Any]:
    if self.request.retries == 0:
        self.retry((x + 1,), {"y": 7}, countdown=0, queue="reports")
    return [x, y, self.request.queue, self.request.retries]


@tq.task(bind=True)
def badly(self: Self, how: str) -> None:
    if how == "arguments":
        self.retry((object(),), countdown=0)
    if how == "option":
        self.retry(link="nope")
    self.retry(countdown="soon")


@tq.task(
    autoretry_for=(Broken, KeyError),
    dont_autoretry_for=(KeyError,),
    max_retries=3,
    retry_backoff=0.02,
    retry_backoff_max=0.05,
    retry_jitter=False,
)
def automatic(kind: str) -> None:
    raise {"Broken": Broken, "KeyError": KeyError}[kind](current_task.request.retries)


@tq.task(bind=True, autoretry_for=(Exception,), default_retry_delay=0, max_retries=9)
def gives_up(self: Self, path: str) -> None:
    note(path, self.request.retries)
    self.retry(exc=Broken("enough"), countdown=0, max_retries=1)


@tq.task(bind=True)
def revoked_meanwhile(self: Self, path: str) -> str:
    Path(path).touch()
    while Path(path).exists():
        time.sleep(0.005)
    raise self.retry(countdown=0)


@tq.task
def careful(seconds: float) -> str:
    try:
        time.sleep(seconds)
    except SoftTimeLimitExceeded:
        return "cleaned up"
    return "in time"


@tq.task(soft_time_limit=0.2)
def careless() -> None:
    time.sleep(60)


@tq.task(soft_time_limit=0.2)
async def careless_coroutine() -> None:
    await asyncio.sleep(60)


@tq.task(bind=True)
def steps(self: Self, path: str, how: str) -> str:
    if how == "progress":
        self.progress(3, 10, "three")
    elif how == "default":
        self.update_state(meta=[1, 2])
    else:
        current_task.update_state(state=how, meta={"at": 1})
    Path(path).touch()
    while Path(path).exists():
        time.sleep(0.005)
    return "done"


@tq.task(bind=True)
def ignores(self: Self, state: str | None) -> None:
    if state:
        self.update_state(state=state, meta={"why": "so"})
    raise Ignore


@tq.task
def rejects(path: str, requeue: bool) -> str:
    if Path(path).exists():
        return "second time"
    Path(path).touch()
    raise Reject("not now", requeue=requeue)


@tq.task(bind=True)
def large_meta(self: Self) -> None:
    self.update_state(meta="x" * 2_000_000)


@tq.task
def parent_of_two() -> list[str]:
    return [add.delay(1, 1).id, request.apply_async(link=echo.s()).id]


@tq.task
def joins(allow_join: bool) -> int:
    return add.delay(20, 3).get(timeout=10, allow_join=allow_join)


@tq.task(soft_time_limit=0.2)
async def patient() -> str:
    """Wait until the soft limit, and say what arrived."""
    try:
        await asyncio.sleep(30)
    except SoftTimeLimitExceeded:
        await asyncio.sleep(0)
        return "caught"
    return "slept"


@tq.task(soft_time_limit=0.2)
async def impatient() -> None:
    await asyncio.gather(asyncio.sleep(30), asyncio.sleep(30))
