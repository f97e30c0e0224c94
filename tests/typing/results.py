"""What a type checker knows of calls and results. Nothing here runs: mypy reads it,
and every ``type: ignore`` is an error that must be found."""

from __future__ import annotations

import typing as t
from datetime import UTC, datetime, timedelta

from flask import Response

from flask_taskqueue import AsyncResult, Task, TaskQueue
from flask_taskqueue.signature import Signature

tq = TaskQueue()


@tq.task
def add(x: int, y: int) -> int:
    return x + y


now = datetime.now(UTC)
add.apply_async((1, 2), countdown=1.5)
add.apply_async([1, 2], countdown=timedelta(seconds=1), expires=now)
add.apply_async(args=(1,), kwargs={"y": 2}, eta=now, queue="q", routing_key="a.b")
add.apply_async((1, 2), task_id="x", priority=1, headers={"owner": 7})
add.apply_async((1, 2), time_limit=None, soft_time_limit=1, ignore_result=True)
add.apply_async((1, 2), max_retries=None, retry_backoff=True, retry_jitter=False)
add.apply_async((1, 2), link=add.s(3), link_error=[add.si(1, 1)], result_ttl=60)
add.apply((1, 2), throw=True, headers={})
add.delay_many([(1, 2)], queue="q")

add.apply_async((1, 2), countdown="1")  # type: ignore[arg-type]
add.apply_async((1, 2), eta=5)  # type: ignore[arg-type]
add.apply_async((1, 2), queue=1)  # type: ignore[arg-type]
add.apply_async((1, 2), priority="high")  # type: ignore[arg-type]
add.apply_async((1, 2), max_retries=1.5)  # type: ignore[arg-type]
add.apply_async((1, 2), retry_jitter="no")  # type: ignore[arg-type]
add.apply_async((1, 2), link="add")  # type: ignore[arg-type]
add.apply_async((1, 2), link=[add])  # type: ignore[list-item]
add.apply_async((1, 2), link_error=add)  # type: ignore[arg-type]
add.apply_async((1, 2), headers=[])  # type: ignore[arg-type]
add.apply_async((1, 2), count_down=1)  # type: ignore[call-arg]
add.apply_async((1, 2), throw=True)  # type: ignore[call-arg]
add.apply_async({1, 2})  # type: ignore[arg-type]
add.apply((1, 2), expires="soon")  # type: ignore[arg-type]
add.delay_many([1])  # type: ignore[list-item]
add.delay_many([(1, 2)], eta="x")  # type: ignore[arg-type]
tq.send_task(1)  # type: ignore[arg-type]
tq.send_task("a", queue=1)  # type: ignore[arg-type]


t.assert_type(add.s(1), Signature)
t.assert_type(add.si(1), Signature)
t.assert_type(add.signature((1,), {"y": 2}, queue="q"), Signature)
t.assert_type(tq.signature("a.b", (1,), countdown=1), Signature)
t.assert_type(add.s(1).set(queue="q").link(add.s(2)), Signature)
add.signature((1,), queue=2)  # type: ignore[arg-type]
add.s(1).link("x")  # type: ignore[arg-type]


result = add.delay(1, 2)
t.assert_type(result.get(), int)
t.assert_type(result.id, str)
t.assert_type(result.task_id, str)
t.assert_type(result.state, str)
t.assert_type(result.status, str)
t.assert_type(result.ready(), bool)
t.assert_type(result.successful(), bool)
t.assert_type(result.failed(), bool)
t.assert_type(result.exists(), bool)
t.assert_type(result.created, bool)
t.assert_type(result.traceback, str | None)
t.assert_type(result.retries, int)
t.assert_type(result.name, str | None)
t.assert_type(result.args, list[t.Any] | None)
t.assert_type(result.kwargs, dict[str, t.Any] | None)
t.assert_type(result.queue, str | None)
t.assert_type(result.worker, str | None)
t.assert_type(result.date_done, datetime | None)
t.assert_type(result.runtime, float | None)
t.assert_type(result.children, list[AsyncResult[t.Any]])
t.assert_type(result.parent, AsyncResult[t.Any] | None)
t.assert_type(result.errors, list[Exception])
t.assert_type(tq.AsyncResult("id"), AsyncResult[t.Any])
t.assert_type(tq.send_task("a.b"), AsyncResult[t.Any])
t.assert_type(tq.accepted(result), Response)
t.assert_type(tq.tasks["a.b"], Task[..., t.Any])

of_anything: AsyncResult[object] = result
of_text: AsyncResult[str] = result  # type: ignore[assignment]
result.get(timeout="1")  # type: ignore[arg-type]
result.get(1, True, False, None)  # type: ignore[call-arg]
tq.tasks["a.b"] = add  # type: ignore[index]
