"""An app with topic queues and routes."""

from __future__ import annotations

import time
import typing as t
from pathlib import Path

from flask import Flask

from flask_taskqueue import Task, TaskQueue

tq = TaskQueue()


def by_size(
    name: str,
    args: t.Sequence[t.Any],
    kwargs: t.Mapping[str, t.Any],
    options: t.Mapping[str, t.Any],
) -> object:
    """A route function, as Celery's are: decides by the call."""
    if name == "routes.sized":
        return {"queue": "large"} if args[0] > 100 else None
    return None


def create_app(**config: object) -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config.update(
        {
            "TASKQUEUE_DEFAULT_QUEUE": "celery",
            "TASKQUEUE_QUEUES": [
                "celery",
                {"name": "foo", "routing_key": "task.#"},
                {"name": "feed_task", "routing_key": "*.feed"},
                "large",
                "mail",
            ],
            "TASKQUEUE_ROUTES": [
                by_size,
                ("routes.mul", {"queue": "feed_task", "routing_key": "mul.feed"}),
                ("routes.keyed", {"routing_key": "task.keyed"}),
                ("routes.[s-t]*", "mail"),
            ],
            **config,
        }
    )
    tq.init_app(app)
    return app


@tq.task(bind=True)
def add(self: Task[..., t.Any], *args: object) -> object:
    return self.request.queue


@tq.task(bind=True)
def mul(self: Task[..., t.Any], *args: object) -> object:
    return self.request.queue


@tq.task(bind=True)
def keyed(self: Task[..., t.Any], *args: object) -> object:
    return self.request.queue


@tq.task(bind=True)
def sized(self: Task[..., t.Any], size: int) -> object:
    return self.request.queue


@tq.task(bind=True, queue="own")
def with_queue(self: Task[..., t.Any]) -> object:
    return self.request.queue


@tq.task(bind=True, routing_key="a.feed")
def with_key(self: Task[..., t.Any]) -> object:
    return self.request.queue


@tq.task(bind=True, name="task.named")
def named(self: Task[..., t.Any]) -> object:
    return self.request.queue


@tq.task
def echo(*args: t.Any, **kwargs: t.Any) -> t.Any:
    return [list(args), kwargs]


@tq.task(serializer="msgpack")
def packed(value: t.Any) -> t.Any:
    return value


@tq.task
def note(path: str, line: str, gate: str = "") -> None:
    with open(path, "a") as ledger:
        ledger.write(line + "\n")
    while gate and Path(gate).exists():
        time.sleep(0.005)
