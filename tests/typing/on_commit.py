"""What a type checker knows of calls that wait for a commit. Nothing here runs."""

from __future__ import annotations

import typing as t

import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, scoped_session

from flask_taskqueue import AsyncResult, Task, TaskQueue, shared_task

tq = TaskQueue()
db = SQLAlchemy()


@tq.task
def add(x: int, y: int = 1) -> float:
    return x + y


@tq.task(bind=True)
def bound(self: Task[[int], str], n: int) -> str:
    return str(n)


@shared_task
async def fetch(url: str) -> bytes:
    return url.encode()


t.assert_type(add.delay_on_commit(1), AsyncResult[float])
t.assert_type(add.delay_on_commit(x=1, y=2).get(), float)
t.assert_type(bound.delay_on_commit(1).get(), str)
t.assert_type(fetch.delay_on_commit("/").get(), bytes)
t.assert_type(add.apply_async_on_commit((1,), countdown=3), AsyncResult[float])
add.delay_on_commit("1")  # type: ignore[arg-type]
add.delay_on_commit()  # type: ignore[call-arg]
add.delay_on_commit(1, z=2)  # type: ignore[call-arg]
bound.delay_on_commit("1")  # type: ignore[arg-type]
fetch.delay_on_commit(1)  # type: ignore[arg-type]


def sessions(
    plain: Session, scoped: scoped_session[Session], awaited: AsyncSession
) -> None:
    add.apply_async_on_commit((1,), session=plain)
    add.apply_async_on_commit((1,), session=scoped)
    add.apply_async_on_commit((1,), session=awaited)
    add.apply_async_on_commit((1,), session=db.session)
    add.apply_async_on_commit((1,), session=sa.create_engine("sqlite://"))  # type: ignore[arg-type]
    add.apply_async_on_commit((1,), countdwon=3)  # type: ignore[call-arg]
