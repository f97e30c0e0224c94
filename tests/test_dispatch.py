"""All ways to make a call lead through ``apply_async``, and to where calls go."""

from __future__ import annotations

import typing as t

import pytest
import redis
import sqlalchemy as sa
import sqlalchemy.orm as sa_orm

from flask_taskqueue import AsyncResult, Task

from .running import InProcess


def plain(x: t.Any, y: int) -> None: ...


class Stamped(Task[..., t.Any]):
    """Adds a header to each of its calls."""

    def apply_async(  # type: ignore[override]
        self, args: t.Any = None, kwargs: t.Any = None, **options: t.Any
    ) -> AsyncResult[t.Any]:
        return super().apply_async(args, kwargs, headers={"t": 1}, **options)


@pytest.mark.parametrize("eager", [False, True])
def test_all_ways_to_call_go_through_apply_async(
    redis_url: str, client: redis.Redis, eager: bool
):
    site = InProcess(__name__, redis_url, client, TASKQUEUE_EAGER=eager)

    @site.tq.task(base=Stamped, bind=True)
    def headers(self: t.Any, n: int = 0) -> t.Any:
        return dict(self.request.headers)

    session = sa_orm.Session(sa.create_engine("sqlite://"))
    with site.app.app_context():
        with session.begin():
            held = headers.apply_async_on_commit((1,), session=session)
            assert not held.exists()
        results = [
            headers.delay(1),
            headers.s(1).delay(),
            site.tq.send_task(headers.name, (1,)),
            held,
            headers.apply_async_on_commit((1,), session=session),
            *headers.delay_many([(1,), (2,)], queue="default"),
        ]
        if not eager:
            site.run_all()
        assert [result.get() for result in results] == [{"t": 1}] * 7


def test_handles_of_many_calls_know_which_were_accepted(
    redis_url: str, client: redis.Redis
):
    site = InProcess(__name__, redis_url, client)
    task = site.tq.task(plain)
    with site.app.app_context():
        both = task.delay_many([(1, 2), (3, 4)], task_id="one")
        assert [handle.created for handle in both] == [True, False]


def test_a_call_made_for_an_argument_is_not_held_back(
    redis_url: str, client: redis.Redis
):
    site = InProcess(__name__, redis_url, client)
    task = site.tq.task(plain)
    with site.app.app_context():
        calls = ((task.delay(1, 2).state, 2) for _ in range(2))
        assert [handle.args for handle in task.delay_many(calls)] == [
            ["PENDING", 2]
        ] * 2


def test_an_eager_failure_does_not_keep_the_others_from_running(
    redis_url: str, client: redis.Redis
):
    site = InProcess(__name__, redis_url, client, TASKQUEUE_EAGER=True)
    ran: list[int] = []

    @site.tq.task
    def divide(n: int) -> float:
        ran.append(n)
        return 1 / n

    with site.app.app_context():
        with pytest.raises(ZeroDivisionError):
            divide.delay_many([(1,), (0,), (2,)])
    assert ran == [1, 0, 2]
