"""How one execution ends, and what a plain call inside it is; in both modes."""

from __future__ import annotations

import asyncio
import logging
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from flask import Flask, appcontext_pushed
from flask.sessions import SecureCookieSessionInterface
from rq import Queue
from rq import Retry as RQRetry
from rq.serializers import JSONSerializer

from flask_taskqueue import AsyncResult, Task, current_task
from flask_taskqueue.errors import Ignore, MaxRetriesExceededError, Reject, Retry
from flask_taskqueue.signals import job_failed, job_retried
from flask_taskqueue.testing import drain

from .running import InProcess

Seen = list[t.Any]


class Site(InProcess):
    """An app that notes the exceptions its teardown functions get."""

    def __init__(self, url: str, client: redis.Redis, **config: object) -> None:
        super().__init__(__name__, url, client, **config)
        self.torn_down: list[BaseException | None] = []
        self.app.teardown_appcontext(self._note)

    def _note(self, error: BaseException | None) -> None:
        if current_task:
            self.torn_down.append(error)

    def bound(self, **options: t.Any) -> t.Callable[[t.Any], t.Any]:
        """A decorator for tasks that are retried at once."""
        given: t.Any = {"bind": True, "default_retry_delay": 0, **options}
        return self.tq.task(**given)


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


def test_a_retry_of_a_task_called_inside_counts_as_the_jobs_own(site: Site):
    runs = []

    @site.bound(max_retries=9)
    def inner(self: Task[[], None]) -> None:
        self.retry()

    @site.bound(max_retries=2)
    def outer(self: Task[[], None]) -> None:
        runs.append(self.request.retries)
        inner()

    result = outer.delay()
    site.run_all()
    assert runs == [0, 1, 2]
    assert result.state == "FAILURE"
    assert isinstance(result.result, MaxRetriesExceededError)
    assert result.id in str(result.result)
    assert "the task can be retried" in (result.traceback or "")


@pytest.mark.parametrize("cause", [ValueError("mine"), None], ids=repr)
def test_a_retry_raised_by_hand_is_limited(site: Site, cause: Exception | None):
    @site.bound(max_retries=1, autoretry_for=(Exception,))
    def again(self: Task[[], None]) -> None:
        raise Retry(exc=cause, countdown=0)

    result = again.delay()
    site.run_all()
    assert (result.state, result.retries) == ("FAILURE", 1)
    expected = MaxRetriesExceededError if cause is None else ValueError
    assert isinstance(result.result, expected)


def test_the_limit_a_retry_names_holds_for_that_execution(site: Site):
    @site.bound(max_retries=0)
    def again(self: Task[[], int]) -> int:
        if self.request.retries < 2:
            self.retry(max_retries=2)
        return self.request.retries

    result = again.delay()
    site.run_all()
    assert result.get(timeout=1) == 2


def test_retry_takes_from_the_retries_of_a_plain_rq_job(
    redis_url: str, client: redis.Redis
):
    site = Site(redis_url, client)
    runs = []

    @site.bound(name="plain.again")
    def again(self: Task[[], None]) -> None:
        runs.append(self.request.retries)
        self.retry(countdown=0)

    queue = Queue(connection=client, serializer=JSONSerializer)
    job = queue.enqueue("plain.again", retry=RQRetry(max=2))
    drain(site.app, "default", most=9)
    with site.app.app_context():
        assert AsyncResult(job.id).state == "FAILURE"
    assert runs == [0, 1, 2]


@pytest.mark.parametrize(
    "error", [Retry(countdown=0), Ignore(), Reject("no", requeue=True)], ids=repr
)
def test_teardown_gets_what_left_the_function(site: Site, error: Exception):
    """Not ``None``, with which some commit what is half done."""
    raised = []

    @site.tq.task
    def leave() -> None:
        if not raised:
            raised.append(error)
            raise error

    leave.delay()
    site.run_all()
    assert site.torn_down[0] is error


def test_carriers_get_what_left_the_function(site: Site):
    seen: Seen = []

    @contextmanager
    def around(value: object) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            seen.append(error)
            raise

    site.tq.carrier("v", capture=lambda: 1, restore=around)
    error = Ignore()

    @site.tq.task
    def leave() -> None:
        raise error

    leave.delay()
    site.run_all()
    assert seen == [error]


@contextmanager
def _exits(value: object) -> Iterator[None]:
    yield
    raise SystemExit(3)


def test_an_exit_when_leaving_is_logged_and_changes_nothing(
    site: Site, caplog: pytest.LogCaptureFixture
):
    left = []

    @contextmanager
    def outer(value: object) -> Iterator[None]:
        yield
        left.append(value)

    site.tq.carrier("outer", capture=lambda: 1, restore=outer)
    site.tq.carrier("exits", capture=lambda: 2, restore=_exits)

    @site.app.teardown_appcontext
    def teardown(error: BaseException | None) -> None:
        if current_task:
            raise SystemExit(4)

    result = site.tq.task(name="one")(lambda: "done").delay()
    site.run_all()
    assert result.get(timeout=1) == "done"
    assert left == [1]
    errors = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert [r.getMessage().split()[0] for r in errors] == ["Leaving", "Teardown"]


def test_an_interrupt_when_leaving_an_eager_job_is_the_callers(
    redis_url: str, client: redis.Redis
):
    site = Site(redis_url, client, TASKQUEUE_EAGER=True)
    left = []

    @contextmanager
    def outer(value: object) -> Iterator[None]:
        yield
        left.append(value)

    @contextmanager
    def interrupted(value: object) -> Iterator[None]:
        yield
        raise KeyboardInterrupt

    site.tq.carrier("outer", capture=lambda: 1, restore=outer)
    site.tq.carrier("inner", capture=lambda: 2, restore=interrupted)
    task = site.tq.task(name="one")(lambda: "done")
    with site.app.app_context(), pytest.raises(KeyboardInterrupt):
        task.delay()
    assert (left, len(site.torn_down)) == ([1], 1)


def test_a_plain_call_of_the_running_task_is_none_of_the_job(site: Site):
    @site.bound()
    def dive(self: Task[[int], t.Any], depth: int) -> Seen:
        mine = [self.request.called_directly, self.request.id is None]
        if not depth:
            return [mine]
        below = dive(depth - 1)
        # The job is its own again.
        return [mine, *below, [self.request.called_directly, self.request.id is None]]

    result = dive.delay(2)
    site.run_all()
    job, plain = [False, False], [True, True]
    assert result.get(timeout=1) == [job, plain, plain, plain, job]
    assert dive(0) == [plain]


def test_a_plain_call_of_the_running_task_cannot_change_the_job(site: Site):
    runs = []

    @site.bound(max_retries=1)
    def dive(self: Task[[int], t.Any], depth: int) -> None:
        runs.append(depth)
        if depth == 1:
            self.retry((99,))
        dive(1)

    result = dive.delay(2)
    site.run_all()
    assert runs == [2, 1, 2, 1]
    assert isinstance(result.result, MaxRetriesExceededError)


def test_a_plain_call_of_a_running_coroutine_is_none_of_the_job(site: Site):
    @site.bound()
    async def dive(self: Task[[int], t.Any], depth: int) -> Seen:
        await asyncio.sleep(0)
        mine = self.request.called_directly
        if not depth:
            return [mine]
        beside = asyncio.create_task(dive(0))
        below = await dive(depth - 1)
        await asyncio.sleep(0)
        return [mine, *below, *await beside, self.request.called_directly]

    result = dive.delay(1)
    site.run_all()
    assert result.get(timeout=1) == [False, True, True, False]


def test_what_a_plain_call_enqueues_is_the_jobs_child(site: Site):
    @site.tq.task
    def dive(depth: int) -> str:
        return leaf.delay().id if not depth else dive(depth - 1)

    @site.tq.task
    def leaf() -> bool:
        return leaf.request.called_directly

    result = dive.delay(1)
    site.run_all()
    (child,) = result.children
    assert (child.id, child.parent) == (result.get(timeout=1), result)
    assert child.get(timeout=1) is False


def test_a_class_may_call_its_function_again_for_the_same_job(site: Site):
    class Stubborn(Task[[], t.Any]):
        name = "stubborn"

        def __call__(self) -> t.Any:
            try:
                return super().__call__()
            except LookupError:
                return [super().__call__(), self.run()]

        def run(self) -> t.Any:
            seen.append(self.request.called_directly)
            if len(seen) == 1:
                raise LookupError
            return self.request.id

    seen: Seen = []
    result = site.tq.register_task(Stubborn()).delay()
    site.run_all()
    assert result.get(timeout=1) == [result.id, result.id]
    assert seen == [False, False, False]


class _Flaky(SecureCookieSessionInterface):
    """Where the store of sessions is away at first."""

    def __init__(self, fails: int) -> None:
        self.fails = fails

    def open_session(self, app: Flask, request: t.Any) -> t.Any:
        self.fails -= 1
        if self.fails >= 0:
            raise OSError("no store")
        return super().open_session(app, request)


@pytest.mark.parametrize(("fails", "state"), [(2, "SUCCESS"), (4, "FAILURE")])
def test_a_context_that_cannot_be_made_is_retried_as_the_task_says(
    site: Site, fails: int, state: str
):
    site.app.session_interface = _Flaky(fails)
    told: Seen = []
    within: t.Any = {"request_context": True, "autoretry_for": (OSError,)}
    task = site.bound(**within)(lambda self: self.request.retries)

    def note(sender: Flask, job: t.Any) -> None:
        told.append(job.state)

    with job_retried.connected_to(note), job_failed.connected_to(note):
        result = task.delay()
        site.run_all()
    assert (result.state, result.retries) == (state, min(fails, 3))
    assert told == ["RETRY"] * min(fails, 3) + ["FAILURE"] * (state == "FAILURE")
    assert [repr(e) for e in result.errors] == ["OSError('no store')"] * fails


def test_a_context_that_cannot_be_made_fails_other_tasks_at_once(site: Site):
    def broken(sender: Flask, **extra: object) -> None:
        if current_task:
            raise OSError("no context")

    task = site.bound(autoretry_for=(LookupError,))(lambda self: 1)
    with appcontext_pushed.connected_to(broken, site.app):
        result = task.delay()
        site.run_all()
    assert (result.state, result.retries) == ("FAILURE", 0)


def test_another_apps_job_has_no_parent_here(
    site: Site, redis_url: str, client: redis.Redis
):
    other = InProcess("other", redis_url, client)
    other.app.config.update(TASKQUEUE_EAGER=site.app.config["TASKQUEUE_EAGER"])
    leaf = other.tq.task(name="leaf")(lambda: [current_task.request.root_id])

    @site.tq.task(name="root")
    def root() -> str:
        with other.app.app_context():
            return leaf.apply_async(queue="other").id

    result = root.delay()
    site.run_all()
    below = result.get(timeout=1)
    assert result.children == []
    with other.app.app_context():
        drain(other.app, "other")
        assert AsyncResult(below).parent is None
        assert AsyncResult(below).get(timeout=1) == [below]
