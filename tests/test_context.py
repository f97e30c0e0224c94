"""What a job sees of where it was enqueued, and what it leaves behind: nothing."""

from __future__ import annotations

import contextvars
import logging
import typing as t
from collections.abc import Iterator

import pytest
import redis
from flask import Flask, appcontext_pushed, current_app, g, has_request_context
from flask.globals import app_ctx

from flask_taskqueue import AsyncResult, Task, current_task
from flask_taskqueue.errors import ConfigError, Retry

from .running import InProcess

outside: contextvars.ContextVar[str] = contextvars.ContextVar(
    "outside", default="unset"
)


class Site(InProcess):
    """An app whose tasks note what they see, and a worker's code to run them."""

    def __init__(self, url: str, client: redis.Redis, **config: object) -> None:
        super().__init__(__name__, url, client, **config)
        self.torn_down: list[tuple[str, BaseException | None]] = []
        self.contexts: list[int] = []
        task = self.tq.task
        self.look = task(name="look")(self._look)
        self.fail = task(name="fail")(_fail)
        self.again = task(name="again", bind=True)(_again)
        self.leave = task(name="leave")(self._leave)

        @self.app.teardown_appcontext
        def teardown(error: BaseException | None) -> None:
            if current_task:
                self.torn_down.append((str(current_task.name), error))

    def _look(self) -> dict[str, object]:
        self.contexts.append(id(app_ctx._get_current_object()))  # type: ignore[attr-defined]
        return {
            "app": current_app.name,
            "is-this-app": current_app._get_current_object() is self.app,  # type: ignore[attr-defined]
            "g": sorted(g),
            "outside": outside.get(),
            "request": has_request_context(),
            "carried": dict(current_task.request.carried),
            "headers": dict(current_task.request.headers),
        }

    def _leave(self) -> None:
        g.left = "behind"
        outside.set("left behind")


def _fail(message: str) -> t.NoReturn:
    raise ValueError(message)


def _again(self: Task[[], None]) -> None:
    if self.request.retries == 0:
        raise self.retry(exc=ValueError("first"), countdown=0)


SEEN: dict[str, object] = {
    "app": __name__,
    "is-this-app": True,
    "g": [],
    "outside": "unset",
    "request": False,
    "carried": {},
    "headers": {},
}


@pytest.fixture(params=["worker", "eager"])
def site(
    request: pytest.FixtureRequest, redis_url: str, client: redis.Redis
) -> Iterator[Site]:
    """Run by a worker's code, and in the caller: both must be the same."""
    eager = request.param == "eager"
    site = Site(
        redis_url, client, TASKQUEUE_EAGER=eager, TASKQUEUE_EAGER_PROPAGATES=False
    )
    with site.app.app_context():
        yield site


def test_a_job_sees_nothing_of_its_surroundings(site: Site):
    token = outside.set("of the caller")
    g.mine = 1
    result = site.look.delay()
    site.run_all()
    assert result.get(timeout=1) == SEEN
    assert (outside.get(), g.mine) == ("of the caller", 1)
    outside.reset(token)


def test_a_job_sees_nothing_of_the_job_before(site: Site):
    first, left, last = site.look.delay(), site.leave.delay(), site.look.delay()
    site.run_all()
    assert first.get(timeout=1) == last.get(timeout=1) == SEEN
    assert left.state == "SUCCESS"
    assert outside.get() == "unset"
    assert "left" not in g
    assert not current_task


def test_every_job_has_an_app_context_of_its_own(site: Site):
    here = id(app_ctx._get_current_object())  # type: ignore[attr-defined]
    kept = []

    @site.tq.task(name="keep")
    def keep() -> None:
        kept.append(app_ctx._get_current_object())  # type: ignore[attr-defined]

    for _ in range(3):
        keep.delay()
    site.run_all()
    assert len({id(context) for context in kept} | {here}) == 4


def test_teardown_runs_after_each_job_with_its_exception(site: Site):
    site.look.delay()
    site.fail.delay("no")
    site.look.delay()
    site.run_all()
    names = [name for name, _ in site.torn_down]
    assert names == ["look", "fail", "look"]
    errors = [error for _, error in site.torn_down]
    assert errors[0] is errors[2] is None
    assert isinstance(errors[1], ValueError)
    assert str(errors[1]) == "no"


def test_teardown_gets_the_retry_of_an_attempt_that_is_retried(site: Site):
    result = site.again.delay()
    site.run_all()
    assert result.get(timeout=1) is None
    (_, first), (_, second) = site.torn_down
    assert isinstance(first, Retry)
    assert isinstance(first.exc, ValueError)
    assert second is None


@pytest.mark.parametrize("task", ["look", "fail"])
def test_an_error_in_teardown_is_logged_and_changes_nothing(
    redis_url, client, caplog: pytest.LogCaptureFixture, task: str
):
    site = Site(redis_url, client)
    broken = []

    @site.app.teardown_appcontext
    def teardown(error: BaseException | None) -> None:
        if current_task:
            broken.append(error)
            raise RuntimeError("the teardown is broken")

    with site.app.app_context():
        result: AsyncResult[t.Any] = (
            site.look.delay() if task == "look" else site.fail.delay("no")
        )
        after = site.look.delay()
        site.run_all()
        assert len(broken) == 2
        assert result.state == ("SUCCESS" if task == "look" else "FAILURE")
        assert after.get(timeout=1) == SEEN
    logged = [r for r in caplog.records if "Teardown" in r.getMessage()]
    assert [record.levelno for record in logged] == [logging.ERROR] * 2
    assert result.id in logged[0].getMessage()
    assert logged[0].exc_info is not None
    assert "the teardown is broken" in str(logged[0].exc_info[1])


def test_an_exception_while_the_context_is_pushed_fails_the_job(site: Site):
    def broken(sender: Flask, **extra: object) -> None:
        if current_task:
            raise LookupError("no context for you")

    with appcontext_pushed.connected_to(broken, site.app):
        result = site.look.delay()
        site.run_all()
    after = site.look.delay()
    site.run_all()
    assert repr(result.result) == "LookupError('no context for you')"
    assert after.get(timeout=1) == SEEN


def test_teardown_gets_the_interrupt_that_ends_an_eager_job(redis_url, client):
    site = Site(redis_url, client, TASKQUEUE_EAGER=True)

    @site.tq.task(name="interrupted")
    def interrupted() -> None:
        raise KeyboardInterrupt

    with site.app.app_context(), pytest.raises(KeyboardInterrupt):
        interrupted.delay()
    (torn_down,) = site.torn_down
    assert isinstance(torn_down[1], KeyboardInterrupt)


def test_headers_of_the_request_travel(site: Site):
    given = {"X-Request-ID": "r-1", "X-Other": "o", "Authorization": "Bearer x"}
    with site.app.test_request_context(headers=given):
        result = site.look.delay()
    site.run_all()
    assert result.get(timeout=1) == {**SEEN, "carried": {"X-Request-ID": "r-1"}}


def test_the_headers_that_travel_can_be_chosen(redis_url, client):
    site = Site(redis_url, client, TASKQUEUE_CARRY_HEADERS="X-A, x-b")
    with site.app.test_request_context(headers={"x-a": "1", "X-B": "ž", "X-C": "3"}):
        result = site.look.delay()
        site.run_all()
        found = t.cast("dict[str, dict[str, str]]", result.get(timeout=1))
    assert found["carried"] == {"X-A": "1", "x-b": "ž"}


def test_no_header_travels_if_none_is_listed(redis_url, client):
    site = Site(redis_url, client, TASKQUEUE_CARRY_HEADERS=[])
    with site.app.test_request_context(headers={"X-Request-ID": "1"}):
        result = site.look.delay()
        site.run_all()
        assert result.get(timeout=1) == SEEN


@pytest.mark.parametrize(
    "name", ["Cookie", "authorization", "Proxy-Authorization", "proxy_authorization"]
)
def test_credentials_cannot_be_made_to_travel(redis_url, client, name: str):
    with pytest.raises(ConfigError, match="TASKQUEUE_CARRY_HEADERS"):
        Site(redis_url, client, TASKQUEUE_CARRY_HEADERS=[name])


def test_headers_of_a_call_are_its_own(site: Site):
    result = site.look.apply_async(headers={"owner": "carol", "n": [1]})
    site.run_all()
    assert result.get(timeout=1) == {
        **SEEN,
        "headers": {"owner": "carol", "n": [1]},
    }


def test_the_whole_tree_of_jobs_has_the_headers_of_the_request(site: Site):
    """So that one request id is in the log of all it led to."""

    @site.tq.task(name="relay")
    def relay(depth: int) -> str:
        return (relay.delay(depth - 1) if depth else site.look.delay()).id

    with site.app.test_request_context(headers={"X-Request-ID": "r-1"}):
        result = relay.delay(1)
    site.run_all()
    below = AsyncResult(AsyncResult(result.get(timeout=1)).get(timeout=1))
    assert below.get(timeout=1) == {**SEEN, "carried": {"X-Request-ID": "r-1"}}


def test_a_request_inside_a_task_has_its_own_headers(site: Site):
    @site.tq.task(name="relay")
    def relay() -> str:
        with site.app.test_request_context(headers={"X-Request-ID": "r-2"}):
            return site.look.delay().id

    with site.app.test_request_context(headers={"X-Request-ID": "r-1"}):
        result = relay.delay()
    site.run_all()
    below = AsyncResult(result.get(timeout=1))
    assert below.get(timeout=1) == {**SEEN, "carried": {"X-Request-ID": "r-2"}}


def test_nothing_else_is_stored_of_a_request(redis_url, client):
    site = Site(redis_url, client)
    with site.app.test_request_context(
        "/path?query=q",
        method="POST",
        data="body-of-it",
        headers={"Cookie": "crumb=1", "Authorization": "Bearer tok", "X-Other": "oth"},
    ):
        job = site.look.delay()
    hash_ = b"".join(k + v for k, v in client.hgetall(f"rq:job:{job.id}").items())
    for secret in (b"path", b"query", b"body-of", b"crumb", b"Bearer", b"oth"):
        assert secret not in hash_
