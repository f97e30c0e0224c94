"""Hooks of tasks: which are called, with what, in which order, and inside what."""

from __future__ import annotations

import asyncio
import logging
import typing as t

import pytest
import redis
from flask import current_app

from flask_taskqueue import AsyncResult, Task, current_task, shared_task
from flask_taskqueue.errors import (
    Ignore,
    MaxRetriesExceededError,
    Reject,
    Retry,
    TaskNotRegistered,
)
from flask_taskqueue.hooks import Hooks

from .running import InProcess, run_all

Call = tuple[t.Any, ...]
Function = t.Callable[..., t.Any]


class Broken(Exception):
    pass


class Noting(Task[..., t.Any]):
    """Notes its hooks, and does what the test adds to one."""

    calls: t.ClassVar[list[Call]] = []
    also: t.ClassVar[dict[str, t.Callable[[t.Any], object]]] = {}

    def _note(self, name: str, *args: t.Any) -> None:
        self.calls.append((name, *args))
        self.also.get(name, lambda task: None)(self)

    def before_start(self, *args: t.Any) -> None:
        self._note("before_start", *args)

    def on_success(self, *args: t.Any) -> None:
        self._note("on_success", *args)

    def on_retry(self, *args: t.Any) -> None:
        self._note("on_retry", *args)

    def on_failure(self, *args: t.Any) -> None:
        self._note("on_failure", *args)

    def after_return(self, *args: t.Any) -> None:
        self._note("after_return", *args)


@pytest.fixture
def site(redis_url: str, client: redis.Redis) -> t.Iterator[InProcess]:
    """An app whose tasks note their hooks."""
    site = InProcess(__name__, redis_url, client)
    with site.app.app_context():
        yield site
    Noting.calls.clear()
    Noting.also.clear()


@pytest.fixture
def calls(site: InProcess) -> list[Call]:
    """What the hooks were called with, in order."""
    return Noting.calls


def names(calls: list[Call]) -> list[str]:
    return [call[0] for call in calls]


def raiser(error: BaseException) -> Function:
    """A function that raises the same each time."""

    def fail(*args: t.Any, **kwargs: t.Any) -> None:
        raise error

    return fail


def run(site: InProcess, function: Function, **options: t.Any) -> AsyncResult[t.Any]:
    """Run one job of a task that notes its hooks."""
    task = site.tq.task(base=Noting, name="noted", **options)(function)
    result = task.delay(1, y=2)
    site.run_all()
    return result


def test_a_success_calls_its_hooks_in_order(site: InProcess, calls: list[Call]):
    def add(x: int, y: int) -> int:
        calls.append(("run", x, y))
        return x + y

    result = run(site, add)
    job = (result.id, [1], {"y": 2})
    assert result.get() == 3
    assert calls == [
        ("before_start", *job),
        ("run", 1, 2),
        ("on_success", 3, *job),
        ("after_return", "SUCCESS", 3, *job, None),
    ]


def test_retries_and_the_failure_call_theirs(site: InProcess, calls: list[Call]):
    error = Broken("again")
    result = run(
        site,
        raiser(error),
        autoretry_for=(Broken,),
        max_retries=1,
        default_retry_delay=0,
    )
    job = (result.id, [1], {"y": 2})
    assert result.state == "FAILURE"
    assert [call[:-1] for call in calls if call[0] != "before_start"] == [
        ("on_retry", error, *job),
        ("on_failure", error, *job),
        ("after_return", "FAILURE", error, *job),
    ]
    einfos = [call[-1] for call in calls if call[0] != "before_start"]
    assert all("Traceback" in text and "Broken: again" in text for text in einfos)


def test_a_retry_without_a_cause_has_none(site: InProcess, calls: list[Call]):
    def again(self: t.Any, x: int, y: int) -> None:
        self.retry(countdown=0)

    result = run(site, again, bind=True, max_retries=1)
    job = (result.id, [1], {"y": 2})
    assert calls[1] == ("on_retry", None, *job, "")
    assert isinstance(calls[-1][2], MaxRetriesExceededError)


@pytest.mark.parametrize("error", [Broken("early"), SystemExit(3)], ids=repr)
def test_what_before_start_raises_is_the_execution_s(
    site: InProcess, calls: list[Call], error: BaseException
):
    Noting.also["before_start"] = raiser(error)
    result = run(site, lambda x, y: calls.append(("run",)))
    assert result.state == "FAILURE"
    assert names(calls) == ["before_start", "on_failure", "after_return"]
    assert calls[1][1] is error


def test_before_start_may_retry(site: InProcess, calls: list[Call]):
    def once(task: Task[..., t.Any]) -> None:
        if task.request.retries == 0:
            task.retry(countdown=0, exc=Broken("not yet"))

    Noting.also["before_start"] = once
    result = run(site, lambda x, y: x + y)
    assert (result.get(), result.retries) == (3, 1)
    assert names(calls) == [
        "before_start", "on_retry", "before_start", "on_success", "after_return",
    ]  # fmt: skip


def test_before_start_may_ignore(site: InProcess, calls: list[Call]):
    Noting.also["before_start"] = raiser(Ignore())
    result = run(site, lambda x, y: calls.append(("run",)))
    assert (result.state, result.result) == ("SUCCESS", None)
    assert names(calls) == ["before_start"]


def test_ignore_calls_no_other_hook(site: InProcess, calls: list[Call]):
    run(site, raiser(Ignore()))
    assert names(calls) == ["before_start"]


def test_reject_is_a_failure_and_with_requeue_nothing_yet(
    site: InProcess, calls: list[Call]
):
    def reject(x: int, y: int) -> None:
        raise Reject("no", requeue=len(calls) == 1)

    result = run(site, reject)
    assert result.state == "FAILURE"
    assert names(calls) == [
        "before_start",
        "before_start",
        "on_failure",
        "after_return",
    ]


def test_a_result_that_cannot_be_stored_is_no_success(
    site: InProcess, calls: list[Call]
):
    result = run(site, lambda x, y: object())
    assert result.state == "FAILURE"
    assert names(calls) == ["before_start", "on_failure", "after_return"]
    assert isinstance(calls[1][1], TypeError)


@pytest.mark.parametrize("error", [Broken("hook"), SystemExit(1), Retry()], ids=repr)
@pytest.mark.parametrize("hook", ["on_success", "on_retry", "on_failure"])
def test_a_hook_that_raises_changes_nothing(
    site: InProcess,
    calls: list[Call],
    caplog: pytest.LogCaptureFixture,
    hook: str,
    error: BaseException,
):
    def function(self: t.Any, x: int, y: int) -> str:
        if hook == "on_failure":
            raise Broken("the task's")
        if hook == "on_retry" and self.request.retries == 0:
            self.retry(countdown=0)
        return "fine"

    Noting.also[hook] = Noting.also["after_return"] = raiser(error)
    result = run(site, function, bind=True)
    assert names(calls)[-2:] == [
        "on_failure" if hook == "on_failure" else "on_success",
        "after_return",
    ]
    if hook == "on_failure":
        with pytest.raises(Exception, match="the task's"):
            result.get()
    else:
        assert result.get() == "fine"
    said = [r for r in caplog.records if r.name == "flask_taskqueue.worker.callbacks"]
    assert [record.getMessage() for record in said] == [
        f"Hook {hook} of job {result.id} raised",
        f"Hook after_return of job {result.id} raised",
    ]
    assert {(r.levelno, r.__dict__["job_id"]) for r in said} == {
        (logging.ERROR, result.id)
    }
    assert said[0].exc_info is not None
    assert said[0].exc_info[1] is error


def test_hooks_run_in_the_job_before_its_teardown(site: InProcess, calls: list[Call]):
    seen: list[t.Any] = []
    hooks = ("before_start", "on_success", "after_return")
    for hook in hooks:
        Noting.also[hook] = lambda task: seen.append(
            (
                task.request.id,
                current_task.request.id,
                current_app.name,
                task.AsyncResult(task.request.id).state,
            )
        )
    site.app.teardown_appcontext(lambda error: seen.append("teardown"))
    result = run(site, lambda x, y: None)
    assert seen == [(result.id, result.id, __name__, "STARTED")] * 3 + ["teardown"]


@pytest.mark.parametrize(
    ("function", "hook"),
    [
        pytest.param(lambda x, y: x, "on_success", id="success"),
        pytest.param(raiser(Broken()), "on_failure", id="failure"),
    ],
)
def test_jobs_that_hooks_enqueue_are_children(
    site: InProcess, function: Function, hook: str
):
    @site.tq.task
    def alert(hook: str) -> str:
        return hook

    hooks = ["before_start", hook, "after_return"]
    for name in hooks:
        Noting.also[name] = lambda task, name=name: alert.delay(name)  # type: ignore[misc]
    result = run(site, function)
    assert [child.get() for child in result.children] == hooks
    assert {child.parent.id for child in result.children if child.parent} == {result.id}


def test_hooks_may_say_where_the_job_is(site: InProcess):
    said: list[t.Any] = []

    def say(task: Task[..., t.Any]) -> None:
        task.update_state(state="CLEANING", meta=1)
        said.append(AsyncResult(str(task.request.id)).state)

    Noting.also["on_success"] = say
    assert (run(site, lambda x, y: x).get(), said) == (1, ["CLEANING"])


class Mixin:
    def on_success(self, *args: t.Any) -> None: ...


class Mixed(Mixin, Task[[], None]):
    def run(self) -> None: ...


class Quiet(Noting):
    on_retry = Hooks.on_retry


def test_only_hooks_that_a_class_defines_are_called():
    everything = {
        "before_start", "on_success", "on_retry", "on_failure", "after_return",
    }  # fmt: skip
    assert Task.overridden == frozenset()
    assert Mixed.overridden == {"on_success"}
    assert Noting.overridden == everything
    assert Quiet.overridden == everything - {"on_retry"}


class Report(Noting):
    """A class is a task, with options and hooks of its own."""

    queue = "reports"
    max_retries = 1
    default_retry_delay = 0

    def run(self, n: int) -> str:
        if self.request.retries == 0:
            self.retry(exc=Broken(n))
        return f"{self.request.queue} {n}"


def test_a_class_based_task_retries_and_calls_its_hooks(
    site: InProcess, calls: list[Call]
):
    result = site.tq.register_task(Report()).delay(7)
    site.run_all()
    assert result.state == "PENDING"
    run_all(site.tq.state, site.client, ["reports"])
    assert result.get() == "reports 7"
    assert names(calls) == [
        "before_start", "on_retry", "before_start", "on_success", "after_return",
    ]  # fmt: skip


class Awaited(Task[..., t.Any]):
    """Its hooks are coroutines."""

    calls: t.ClassVar[list[str]] = []

    async def before_start(self, *args: t.Any) -> None:
        await asyncio.sleep(0)
        self.calls.append(f"before {self.request.retries}")
        if self.request.retries == 0:
            self.retry(countdown=0)

    async def on_retry(self, *args: t.Any) -> None:
        await asyncio.sleep(0)
        self.calls.append("retry")

    async def after_return(self, status: str, *args: t.Any) -> None:
        await asyncio.sleep(0)
        self.calls.append(status)
        raise Broken("late")


def test_hooks_may_be_coroutines(site: InProcess, caplog: pytest.LogCaptureFixture):
    task = site.tq.task(base=Awaited, name="awaited")(lambda: 1)
    result = task.delay()
    site.run_all()
    assert result.get() == 1
    assert Awaited.calls == ["before 0", "retry", "before 1", "SUCCESS"]
    assert f"Hook after_return of job {result.id} raised" in caplog.messages


class Later(Noting):
    async def run(self, n: int) -> int:
        return n * 2


def test_a_class_based_task_may_be_a_coroutine(site: InProcess, calls: list[Call]):
    result = site.tq.register_task(Later()).delay(4)
    site.run_all()
    assert result.get() == 8
    assert calls[1][:2] == ("on_success", 8)


def test_a_shared_task_has_its_base_s_hooks(site: InProcess, calls: list[Call]):
    @shared_task(base=Noting, name="shared.double", bind=True)
    def double(self: t.Any, n: int) -> int:
        assert isinstance(self, Noting)
        return n * 2

    result = double.delay(4)
    site.run_all()
    assert result.get() == 8
    assert names(calls) == ["before_start", "on_success", "after_return"]


def test_a_base_may_wrap_the_call(site: InProcess):
    class Doubling(Task[..., t.Any]):
        def __call__(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
            return 2 * super().__call__(*args, **kwargs)

    @site.tq.task(base=Doubling)
    def add(x: int, y: int) -> int:
        return x + y

    result = add.delay(1, 2)
    site.run_all()
    assert result.get() == 6


def test_an_errback_s_hooks_get_what_it_was_called_with(
    site: InProcess, calls: list[Call]
):
    @site.tq.task(base=Noting)
    def errback(request: t.Any, exc: Exception, traceback: str, note: str) -> None: ...

    @site.tq.task
    def fail() -> None:
        raise Broken("cause")

    parent = fail.apply_async(link_error=errback.s("note"))
    site.run_all()
    request, exc, _, note = calls[0][2]
    assert (request.id, str(exc), note) == (parent.id, "cause", "note")


def test_eager_calls_run_the_same_hooks(site: InProcess, calls: list[Call]):
    site.app.config["TASKQUEUE_EAGER"] = True
    result = run(site, lambda x, y: x + y)
    assert result.get() == 3
    assert names(calls) == ["before_start", "on_success", "after_return"]


def test_an_interrupt_in_a_hook_of_an_eager_call_is_the_caller_s(site: InProcess):
    site.app.config["TASKQUEUE_EAGER"] = True
    Noting.also["on_success"] = raiser(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(site, lambda x, y: x + y)


def test_an_eager_call_by_an_unknown_name_leaves_nothing(site: InProcess):
    site.app.config["TASKQUEUE_EAGER"] = True
    with pytest.raises(TaskNotRegistered, match=r"no task 'elsewhere\.task'"):
        site.tq.send_task("elsewhere.task", task_id="unknown")
    assert AsyncResult("unknown").state == "UNKNOWN"
