"""Functions of a plain ``rq`` producer, beside an app with a task of its own."""

from __future__ import annotations

import asyncio
import time
import typing as t
from pathlib import Path

from flask import Flask, current_app
from rq import Retry, get_current_job

from flask_taskqueue import Task, TaskQueue, current_task

tq = TaskQueue()


def create_app(**config: object) -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config.update(config)
    tq.init_app(app)
    return app


def note(path: str, line: str) -> None:
    with open(path, "a") as ledger:
        ledger.write(line + "\n")


def lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


@tq.task
def add(x: int, y: int) -> int:
    return x + y


@tq.task
def fail(message: str) -> None:
    raise ValueError(message)


@tq.task(bind=True, max_retries=1, default_retry_delay=0)
def flaky(self: Task[[str], None], path: str) -> None:
    note(path, f"retries {self.request.retries}")
    raise self.retry(exc=ValueError("always"))


@tq.task
def as_task(x: int) -> list[object]:
    return [x, current_task.name, current_task.request.queue]


@tq.task
def echo(value: t.Any) -> t.Any:
    return value


@tq.task
def large(size: int) -> str:
    return "x" * size


@tq.task
def held(path: str) -> str:
    return hold(path)


def double(x: t.Any) -> t.Any:
    return x + x


def app_name() -> str:
    return current_app.name


def fail_until(path: str, times: int) -> str:
    """Fail as often as told, noting each run."""
    note(path, "run")
    if len(lines(path)) <= times:
        raise ValueError(f"run {len(lines(path))}")
    return f"after {len(lines(path))}"


def ask_again(path: str, times: int, most: int) -> t.Any:
    """Return RQ's Retry as often as told."""
    note(path, "run")
    if len(lines(path)) <= times:
        return Retry(max=most)
    return f"after {len(lines(path))}"


def keep_meta() -> str:
    job = get_current_job()
    assert job is not None
    job.meta["seen"] = [job.id, list(job.args)]
    job.save_meta()
    return str(job.id)


def last_too_long(path: str) -> None:
    note(path, "start")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        time.sleep(0.01)


def hold(path: str) -> str:
    """Run until a file of this name is gone."""
    while Path(path).exists():
        time.sleep(0.005)
    return "released"


async def double_later(x: t.Any) -> t.Any:
    await asyncio.sleep(0)
    return x * 2


def succeed_with(path: str, value: t.Any) -> t.Any:
    note(path, "run")
    return value


def on_success(job: t.Any, connection: t.Any, result: t.Any) -> None:
    connection.ping()
    note(job.args[0], f"success {job.id} {result!r}")


def on_failure(
    job: t.Any, connection: t.Any, kind: t.Any, error: t.Any, trace: t.Any
) -> None:
    connection.ping()
    note(job.args[0], f"failure {kind.__name__} {error} {trace is not None}")


def on_stopped(job: t.Any, connection: t.Any) -> None:
    connection.ping()
    note(job.args[0], f"stopped {job.id}")


def refuse(job: t.Any, connection: t.Any, *rest: t.Any) -> None:
    raise RuntimeError("the callback refuses")


def linger(job: t.Any, connection: t.Any, *rest: t.Any) -> None:
    last_too_long(job.args[0])


class Shop:
    """Methods are jobs, too."""

    def __init__(self, name: str) -> None:
        self.name = name

    def open(self, hour: int) -> str:
        return f"{self.name} at {hour}"

    @staticmethod
    def close(hour: int) -> str:
        return f"closed at {hour}"
