"""The job of an entry: as a call of its task would make it, and enqueued by nobody."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import redis
from flask import Flask

from flask_taskqueue import Task, TaskQueue, shared_task
from flask_taskqueue.appstate import AppState
from flask_taskqueue.beat import firing
from flask_taskqueue.beat.entries import Entry
from flask_taskqueue.beat.schedules import every
from flask_taskqueue.broker.wire import NewJob
from flask_taskqueue.errors import TaskQueueError
from flask_taskqueue.job import StoredJob

from .running import InProcess
from .shop import NOWHERE

ID = "beat-x-00000000-1000"

ran: list[t.Any] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> Iterator[None]:
    ran.clear()
    yield
    assert ran == []


def work(x: int, y: int = 0) -> None:
    ran.append((x, y))


def work_bound(self: t.Any, x: int, y: int = 0) -> None:
    ran.append((x, y))


async def work_async(x: int, y: int = 0) -> None:
    ran.append((x, y))


@shared_task(name="test_firing.shared")
def work_shared(x: int, y: int = 0) -> None:
    ran.append((x, y))


class Report(Task[..., None]):
    """A task that is a class, and changes each of its calls."""

    name = "report"
    queue = "reports"

    def run(self, x: int, y: int = 0) -> None:
        ran.append((x, y))

    def apply_async(  # type: ignore[override]
        self, args: t.Any = None, kwargs: t.Any = None, **options: t.Any
    ) -> t.Any:
        return super().apply_async(args, kwargs, headers={"by": "report"}, **options)


@pytest.fixture
def app() -> Flask:
    return Flask(__name__)


@pytest.fixture
def tq(app: Flask) -> TaskQueue:
    app.config["TASKQUEUE_ROUTES"] = {"routed": "by-route"}
    tq = TaskQueue(app, url=NOWHERE)
    tq.task(name="plain")(work)
    tq.task(name="routed")(work)
    tq.task(name="bound", bind=True)(work_bound)
    tq.task(name="async")(work_async)
    tq.register_task(Report())
    return tq


@pytest.fixture
def state(app: Flask, tq: TaskQueue) -> AppState:
    return tq.state_of(app)


def entry(task: str, **parts: t.Any) -> Entry:
    given = {"args": (1,), "kwargs": {"y": 2}, **parts}
    return Entry(name="x", task=task, schedule=every(60), **given)


def stored(new: NewJob) -> StoredJob:
    return StoredJob.of_new(new)


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize(
    ("task", "queue", "headers"),
    [
        pytest.param("plain", "default", {}, id="function"),
        pytest.param("routed", "by-route", {}, id="routed"),
        pytest.param("bound", "default", {}, id="bound"),
        pytest.param("async", "default", {}, id="async"),
        pytest.param("test_firing.shared", "default", {}, id="shared"),
        pytest.param("report", "reports", {"by": "report"}, id="class"),
        pytest.param("elsewhere", "recorded", {}, id="unknown"),
    ],
)
def test_every_kind_of_task_makes_one_job_and_runs_nothing(
    state: AppState, eager: bool, task: str, queue: str, headers: dict[str, str]
):
    state.app.config["TASKQUEUE_EAGER"] = eager
    new = firing.prepare(state, entry(task), "recorded", ID)
    job = stored(new)
    assert (new.id, new.queue, job.task, job.headers) == (ID, queue, task, headers)
    assert new.fields["data"]
    assert state.eager_jobs == {}
    assert state._broker is None


@pytest.mark.parametrize("task", ["plain", "elsewhere"])
def test_options_go_to_the_job(state: AppState, task: str):
    link = state.tasks["report"]
    options = {
        "queue": "mail", "priority": 1, "expires": 10, "max_retries": 7,
        "headers": {"a": 1} , "link": (t.cast(t.Any, link).si(5),),
    }  # fmt: skip
    new = firing.prepare(state, entry(task, options=options), "recorded", ID)
    assert (new.queue, new.front, new.expires) == ("mail", True, "+10.000000")
    assert stored(new).policy.max_retries == 7
    assert stored(new).headers == {"a": 1}
    assert "tq_links" in new.fields


def test_a_task_unknown_here_and_without_a_record_goes_by_the_routes(state: AppState):
    assert firing.prepare(state, entry("elsewhere"), "", ID).queue == "default"


def test_nothing_of_the_caller_goes_along(tq: TaskQueue, state: AppState):
    request_id = {"X-Request-ID": "abc"}
    with state.app.test_request_context("/", headers=request_id):
        new = firing.prepare(state, entry("plain"), "", ID)
        here = firing.prepare_here(state, entry("plain"), "", ID)
    assert "tq_carried" not in new.fields
    assert stored(here).carried == request_id


def test_what_carriers_say_goes_along(tq: TaskQueue, state: AppState):
    tq.carrier("who", capture=lambda: "beat", restore=nullcontext)
    assert "tq_carried" in firing.prepare(state, entry("plain"), "", ID).fields


def test_a_job_made_in_a_running_job_is_not_its_child(
    redis_url: str, client: redis.Redis
):
    site = InProcess(__name__, redis_url, client)
    made = []

    @site.tq.task(name="parent")
    def parent() -> None:
        state = site.tq.state
        for make in (firing.prepare, firing.prepare_here):
            made.append(make(state, entry("elsewhere"), "", ID))

    with site.app.app_context():
        result = parent.delay()
        site.run_all()
        assert result.successful()
    assert "tq_parent" not in made[0].fields
    assert made[1].fields["tq_parent"] == result.id


class Silent(Report):
    name = "silent"

    def apply_async(self, *args: t.Any, **options: t.Any) -> t.Any:
        return None


class Twice(Report):
    name = "twice"

    def apply_async(self, *args: t.Any, **options: t.Any) -> t.Any:
        made = super().apply_async(*args, **options)
        super().apply_async(*args, **{**options, "task_id": "another"})
        return made


class Renamed(Report):
    name = "renamed"

    def apply_async(self, *args: t.Any, **options: t.Any) -> t.Any:
        return super().apply_async(*args, **{**options, "task_id": "another"})


@pytest.mark.parametrize(
    ("kind", "got"),
    [
        (Silent, "no call"),
        (Twice, rf"twice\[{ID}\], twice\[another\]"),
        (Renamed, r"renamed\[another\]"),
    ],
)
def test_an_apply_async_that_does_not_make_the_one_job_is_refused(
    tq: TaskQueue, state: AppState, kind: type[Report], got: str
):
    tq.register_task(kind())
    expected = (
        rf"'x' cannot be fired: expected apply_async of {kind.name} .*; got {got}$"
    )
    with pytest.raises(TaskQueueError, match=expected):
        firing.prepare(state, entry(kind.name), "", ID)


def test_arguments_that_do_not_fit_are_refused(state: AppState):
    with pytest.raises(TypeError, match="missing a required argument"):
        firing.prepare(state, entry("plain", args=()), "", ID)


def test_the_entry_is_as_it_was_after_an_apply_async_that_changes_its_arguments(
    tq: TaskQueue, state: AppState
):
    class Greedy(Report):
        name = "greedy"

        def apply_async(
            self, args: t.Any = None, kwargs: t.Any = None, **options: t.Any
        ) -> t.Any:
            kwargs["y"] += 1
            return super().apply_async(args, kwargs, **options)

    tq.register_task(Greedy())
    mine = entry("greedy")
    firing.prepare(state, mine, "", ID)
    assert mine == entry("greedy")


def test_each_job_is_made_in_an_app_context_of_its_own(tq: TaskQueue, state: AppState):
    torn_down = []
    state.app.teardown_appcontext(torn_down.append)
    with state.app.app_context():
        firing.prepare(state, entry("plain"), "", ID)
        assert torn_down == [None]
