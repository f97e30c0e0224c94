"""Eager calls: run in the caller, by the worker's code, without Redis."""

from __future__ import annotations

import asyncio
import typing as t
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask, current_app, g, has_request_context

from flask_taskqueue import AsyncResult, Task, TaskQueue, current_task, shared_task
from flask_taskqueue.errors import (
    BadSignature,
    Ignore,
    JobNotFound,
    MaxRetriesExceededError,
    PayloadTooLarge,
    Reject,
    TaskFailed,
    TaskNotRegistered,
    TaskQueueError,
    TaskRevokedError,
)
from flask_taskqueue.worker.execution import Executor

tq = TaskQueue()
NOWHERE = "redis://127.0.0.1:1/0"
"""Nobody listens there: whatever asks Redis fails."""


@pytest.fixture
def app() -> t.Iterator[Flask]:
    app = Flask(__name__)
    app.config.update(TASKQUEUE_EAGER=True, TASKQUEUE_URL=NOWHERE)
    tq.init_app(app)
    with app.app_context():
        yield app


@pytest.fixture
def quiet(app: Flask) -> Flask:
    """An app whose eager calls do not raise what their task raises."""
    app.config["TASKQUEUE_EAGER_PROPAGATES"] = False
    return app


class Mine(Exception):
    pass


@tq.task
def add(x: int, y: int) -> int:
    return x + y


@tq.task
def fail(text: str = "no") -> None:
    raise Mine(text)


@tq.task(bind=True, max_retries=3)
def flaky(self: Task[..., t.Any], good_at: int, countdown: float = 3600) -> int:
    if self.request.retries < good_at:
        error = Mine(self.request.retries)
        self.retry(exc=error, countdown=countdown)
    return self.request.retries


@tq.task(autoretry_for=(Mine,), retry_backoff=True, max_retries=2)
def again() -> None:
    raise Mine(current_task.request.retries)


@tq.task(bind=True)
def tell(self: Task[..., t.Any]) -> dict[str, t.Any]:
    request = self.request
    names = ("id", "args", "retries", "queue", "hostname", "is_eager", "parent_id")
    return {name: getattr(request, name) for name in names} | {
        "root": request.root_id,
        "expires": request.expires,
        "eta": request.eta,
        "headers": request.headers,
    }


@tq.task
def surroundings() -> list[object]:
    return [current_app.name, has_request_context(), "user" in g]


@tq.task
def report(last: str = "end") -> str:
    seen = current_task
    seen.progress(1, 2, "half")
    handle = AsyncResult(seen.request.id)
    assert (handle.state, handle.ready()) == ("PROGRESS", False)
    assert handle.info == {"current": 1, "total": 2, "message": "half"}
    seen.update_state(state=last, meta={"at": 2})
    if last == "IGNORED":
        raise Ignore
    return handle.state


@tq.task
def nested() -> list[str]:
    return [add.delay(1, 2).id, add.apply_async((3, 4), link=add.s(1)).id]


@tq.task
async def later(x: int) -> str:
    return f"{current_app.name} {current_task.name} {x}"


@tq.task(ignore_result=True)
def forgetful() -> int:
    return 5


@tq.task
def errback(request: t.Any, exc: Exception, traceback: str) -> list[object]:
    return [request.id, repr(exc), "raise Mine" in traceback]


@tq.task
def by_id(job_id: str) -> str:
    return job_id


def test_a_call_runs_at_once_and_its_result_answers_everything(app: Flask):
    result = add.apply_async((1,), {"y": 2}, queue="q", headers={"owner": 1})
    assert (result.state, result.status) == ("SUCCESS", "SUCCESS")
    assert result.ready()
    assert result.successful()
    assert not result.failed()
    assert result.exists()
    assert result.created
    assert (result.get(timeout=0), result.result, result.info) == (3, 3, 3)
    assert (result.name, result.args, result.kwargs) == (add.name, [1], {"y": 2})
    assert (result.queue, result.worker, result.retries) == ("q", "eager", 0)
    assert (result.traceback, result.progress, result.errors) == (None, None, [])
    assert (result.children, result.parent) == ([], None)
    assert result.date_done is not None
    assert datetime.now(UTC) - result.date_done < timedelta(seconds=30)
    assert result.runtime is not None


def test_another_handle_of_the_id_answers_the_same(app: Flask):
    result = add.delay(1, 2)
    for handle in (AsyncResult(result.id), tq.AsyncResult(result.id)):
        assert handle == result
        assert handle.get() == 3


def test_an_unknown_id_is_unknown_without_redis(app: Flask):
    handle = AsyncResult(str(uuid.uuid4()))
    assert (handle.state, handle.ready(), handle.exists()) == ("UNKNOWN", True, False)
    assert (handle.args, handle.kwargs, handle.errors) == (None, None, [])
    with pytest.raises(JobNotFound):
        handle.get()
    handle.forget()
    handle.revoke()


def test_the_endpoint_answers_without_redis(app: Flask):
    browser = app.test_client()
    job = browser.get(f"/tasks/{add.delay(1, 2).id}").get_json()
    assert (job["state"], job["result"], job["task"]) == ("SUCCESS", 3, add.name)
    assert browser.get(f"/tasks/{uuid.uuid4()}").status_code == 404


def test_a_forgotten_result_is_unknown(app: Flask):
    result = add.delay(1, 2)
    result.revoke()
    assert result.get() == 3
    result.forget()
    assert result.state == "UNKNOWN"


def test_the_last_thousand_are_kept(app: Flask):
    results = add.delay_many([(n, 0) for n in range(1001)])
    assert results[0].state == "UNKNOWN"
    assert (results[1].get(), results[-1].get()) == (1, 1000)


def test_an_id_can_be_used_again(app: Flask):
    assert add.apply_async((1, 2), task_id="mine").id == "mine"
    assert add.apply_async((2, 2), task_id="mine").created
    assert AsyncResult("mine").get() == 4


def test_values_travel_as_they_do_to_a_worker(app: Flask):
    result = tell.apply_async(headers={"owner": 7}, countdown=60, expires=90)
    told = result.get()
    assert (told["id"], told["args"], told["root"]) == (result.id, [], result.id)
    assert (told["is_eager"], told["hostname"]) == (True, "eager")
    assert (told["headers"], told["parent_id"]) == ({"owner": 7}, None)
    assert told["expires"] - told["eta"] == timedelta(seconds=30)

    @tq.task
    def kinds(value: object) -> str:
        return type(value).__name__

    assert kinds.delay((1, 2)).get() == "list"
    assert kinds.delay(told["eta"]).get() == "datetime"


def test_what_cannot_be_stored_fails_as_in_a_worker(quiet: Flask):
    @tq.task
    def odd() -> object:
        return object()

    with pytest.raises(TypeError, match="expected value to be JSON"):
        odd.delay().get()
    with pytest.raises(TypeError):
        add.delay(1)  # type: ignore[call-arg]


def test_the_limit_of_results_is_kept():
    app = Flask(__name__)
    app.config.update(TASKQUEUE_EAGER="yes", TASKQUEUE_MAX_RESULT_BYTES=10)
    tq.init_app(app)

    @tq.task
    def large() -> str:
        return "x" * 20

    with app.app_context(), pytest.raises(PayloadTooLarge, match="22 bytes"):
        large.delay()


def test_a_result_that_is_ignored_is_none(app: Flask):
    assert (forgetful.delay().get(), forgetful.delay().state) == (None, "SUCCESS")


def test_a_coroutine_is_run_to_its_end(app: Flask):
    assert later.delay(1).get() == f"{__name__} {later.name} 1"


def test_nothing_of_the_caller_is_visible(app: Flask):
    g.user = "me"
    with app.test_request_context("/"):
        assert surroundings.delay().get() == [__name__, False, False]
    assert g.user == "me"
    assert not current_task


def test_teardown_runs_with_the_tasks_exception(quiet: Flask):
    seen: list[object] = []
    quiet.teardown_appcontext(seen.append)
    add.delay(1, 2)
    fail.delay("torn")
    assert [repr(error) for error in seen] == ["None", "Mine('torn')"]


def test_it_is_the_workers_own_code(app: Flask, monkeypatch: pytest.MonkeyPatch):
    ran = []
    run = Executor.run
    monkeypatch.setattr(
        Executor, "run", lambda *args: ran.append(args[1].id) or run(*args)
    )
    assert ran == [] != [add.delay(1, 2).id] == ran


def test_an_error_is_raised_in_the_caller(app: Flask):
    with pytest.raises(Mine, match="^no$"):
        fail.apply_async(task_id="failing")
    assert AsyncResult("failing").state == "FAILURE"


def test_an_error_is_kept_where_it_is_not_raised(quiet: Flask):
    result = fail.delay("kept")
    assert (result.state, result.failed(), result.ready()) == ("FAILURE", True, True)
    assert isinstance(result.result, Mine)
    assert repr(result.info) == "Mine('kept')"
    assert "raise Mine(text)" in (result.traceback or "")
    with pytest.raises(Mine, match="kept"):
        result.get()
    assert repr(result.get(propagate=False)) == "Mine('kept')"
    assert [repr(error) for error in result.errors] == ["Mine('kept')"]


def test_both_settings_are_read_at_each_call(app: Flask):
    app.config["TASKQUEUE_EAGER_PROPAGATES"] = "no"
    assert fail.delay().failed()
    app.config["TASKQUEUE_EAGER_PROPAGATES"] = "yes"
    with pytest.raises(Mine):
        fail.delay()
    app.config["TASKQUEUE_EAGER"] = False
    with pytest.raises(ConnectionError):
        fail.delay()


def test_apply_runs_here_whatever_is_configured():
    app = Flask(__name__)
    app.config["TASKQUEUE_URL"] = NOWHERE
    tq.init_app(app)
    with app.app_context():
        assert add.apply((1, 2)).get() == 3
        assert fail.apply().failed()
        with pytest.raises(Mine):
            fail.apply(throw=True)


def test_an_interrupt_is_the_callers(app: Flask):
    @tq.task
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted.delay()


def test_a_name_without_code_here_is_not_run(app: Flask):
    with pytest.raises(TaskNotRegistered, match="'elsewhere.job'"):
        tq.send_task("elsewhere.job", task_id="nowhere")
    assert AsyncResult("nowhere").state == "UNKNOWN"
    assert tq.send_task(add.name, (1, 2)).get() == 3


@pytest.mark.parametrize("good_at", [0, 1, 3])
def test_a_retry_runs_at_once(app: Flask, good_at: int):
    result = flaky.delay(good_at)
    assert (result.get(), result.retries, result.state) == (good_at, good_at, "SUCCESS")
    assert [error.args for error in result.errors] == [(n,) for n in range(good_at)]


def test_retries_run_out(quiet: Flask):
    result = flaky.delay(9)
    assert (result.state, result.retries, result.result.args) == ("FAILURE", 3, (3,))
    assert [error.args for error in result.errors] == [(0,), (1,), (2,), (3,)]


def test_automatic_retries_run_out(quiet: Flask):
    result = again.delay()
    assert (result.retries, result.result.args) == (2, (2,))
    assert again.apply_async(max_retries=0).retries == 0


def test_a_retry_without_an_exception_ends_with_its_own(quiet: Flask):
    @tq.task(bind=True, max_retries=1)
    def never(self: Task[..., t.Any]) -> None:
        self.retry()

    result = never.delay()
    assert isinstance(result.result, MaxRetriesExceededError)
    assert result.retries == 1


def test_a_retry_may_change_arguments_and_options(app: Flask):
    @tq.task(bind=True)
    def change(self: Task[..., t.Any], x: int, y: int = 0) -> list[object]:
        if not self.request.retries:
            self.progress(1, 2)
            self.retry((x + 1,), {"y": 5}, queue="other", ignore_result=False)
        state = AsyncResult(str(self.request.id)).state
        return [x, y, self.request.queue, state]

    result = change.apply_async((1,), ignore_result=True)
    assert result.get() == [2, 5, "other", "STARTED"]
    assert (result.args, result.queue) == ([2], "other")


def test_a_retry_may_be_routed_elsewhere():
    app = Flask(__name__)
    queues = ["default", {"name": "feeds", "routing_key": "*.feed"}]
    app.config.update(TASKQUEUE_EAGER=True, TASKQUEUE_QUEUES=queues)
    tq.init_app(app)

    @tq.task(bind=True)
    def move(self: Task[..., t.Any], key: str) -> str | None:
        if not self.request.retries:
            self.retry(routing_key=key)
        return self.request.queue

    with app.app_context():
        assert move.delay("a.feed").get() == "feeds"
        assert move.apply_async(("none",), queue="own").get() == "own"


@pytest.mark.parametrize("content", ["json", "msgpack", "pickle"])
def test_signed_jobs_go_the_same_way(content: str):
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY="k", TASKQUEUE_SIGN=True, TASKQUEUE_EAGER=True,
        TASKQUEUE_SERIALIZER=content, TASKQUEUE_ACCEPT_CONTENT=[content],
    )  # fmt: skip
    tq.init_app(app)

    @tq.task(bind=True)
    def alter(self: Task[..., t.Any], x: int) -> int:
        self.progress(x, 2)
        if not self.request.retries:
            self.retry((x + 1,), exc=Mine(x), time_limit=5)
        return x

    with app.app_context():
        result = alter.apply_async((1,), link=add.s(10))
        assert (result.get(), result.args) == (2, [2])
        assert [child.get() for child in result.children] == [12]
        assert [repr(error) for error in result.errors] == ["Mine(1)"]
        job = tq.state.eager_jobs[result.id]
        job[b"data"] = tq.state.eager_jobs[result.children[0].id][b"data"]
        with pytest.raises(BadSignature):
            _ = result.args


def test_progress_shows_while_it_runs(app: Flask):
    result = report.delay("ANYTHING")
    assert result.get() == "ANYTHING"
    assert (result.state, result.progress) == ("SUCCESS", {"at": 2})


def test_ignore_leaves_the_last_state(app: Flask):
    result = report.delay("IGNORED")
    assert (result.state, result.info, result.ready()) == ("IGNORED", {"at": 2}, True)
    assert not result.successful()
    assert result.get() is None


def test_ignore_calls_no_link(app: Flask):
    result = report.apply_async(("IGNORED",), link=add.si(1, 2))
    assert result.children == []


@pytest.mark.parametrize("requeue", [False, True])
def test_reject_is_a_failure(quiet: Flask, requeue: bool):
    """There is no queue to put it back into."""
    runs = []

    @tq.task(autoretry_for=(Exception,))
    def refuse() -> None:
        runs.append("run")
        raise Reject("bad", requeue=requeue)

    result = refuse.apply_async(link=add.si(1, 2), link_error=by_id.s())
    assert (result.state, result.retries, runs) == ("FAILURE", 0, ["run"])
    assert (result.result.reason, result.result.requeue) == ("bad", requeue)
    assert "Reject" in (result.traceback or "")
    assert [child.get() for child in result.children] == [result.id]
    with pytest.raises(Reject):
        refuse.apply(throw=True)


@pytest.mark.parametrize(
    "expires",
    [
        pytest.param(0, id="at-once"),
        pytest.param(datetime(2020, 1, 1), id="past"),
        pytest.param(datetime.now(UTC) - timedelta(seconds=1), id="aware"),
    ],
)
def test_an_expired_job_is_revoked(quiet: Flask, expires: t.Any):
    result = add.apply_async((1, 2), expires=expires)
    assert (result.state, result.ready()) == ("REVOKED", True)
    with pytest.raises(TaskRevokedError, match="expired"):
        result.get()
    assert add.apply_async((1, 2), expires=60).get() == 3


def test_links_run_after_it(app: Flask):
    result = add.apply_async((2, 2), link=[add.s(3), add.si(1, 1).set(queue="q")])
    first, second = result.children
    assert (result.get(), first.get(), second.get()) == (4, 7, 2)
    assert (first.parent, second.queue) == (result, "q")


def test_links_of_links_run(app: Flask):
    result = add.apply_async((1, 1), link=add.s(1).set(link=add.s(10)))
    (child,) = result.children
    (grandchild,) = child.children
    assert (child.get(), grandchild.get()) == (3, 13)


def test_errbacks_run_after_a_failure(quiet: Flask):
    result = fail.apply_async(link=add.si(1, 1), link_error=[errback.s(), by_id.s()])
    told, named = result.children
    assert told.get() == [result.id, "Mine('no')", True]
    assert named.get() == result.id


def test_calls_inside_a_task_are_its_children(app: Flask):
    result = nested.delay()
    first, second = result.children
    assert result.get() == [first.id, second.id]
    assert (first.get(), second.get(), first.parent) == (3, 7, result)
    (link,) = second.children
    assert (link.get(), link.parent) == (8, second)


def test_a_shared_task_runs_in_the_current_app(app: Flask):
    @shared_task
    def shared_name() -> str:
        return current_app.name

    assert shared_name.delay().get() == __name__


def test_get_is_allowed_inside(app: Flask):
    @tq.task
    def waiting() -> int:
        return add.delay(1, 2).get() + 1

    assert waiting.delay().get() == 4


def test_an_exception_that_cannot_be_rebuilt_is_task_failed(quiet: Flask):
    class Local(Exception):
        pass

    @tq.task
    def local() -> None:
        raise Local("here")

    with pytest.raises(TaskFailed, match="Local: here"):
        local.delay().get()


def test_an_id_whose_job_has_not_ended_runs_nothing(app: Flask):
    @tq.task(bind=True)
    def own_id(self: Task[..., t.Any]) -> list[object]:
        inside = self.apply_async(task_id=str(self.request.id))
        (many,) = self.delay_many([()], task_id=str(self.request.id))
        here = self.apply(task_id=str(self.request.id))
        return [inside.created, many.created, here.created, inside.state]

    result = own_id.apply_async(task_id="own")
    assert result.get() == [False, False, False, "STARTED"]
    assert (result.created, result.children) == (True, [])
    assert own_id.apply_async(task_id="own").created


def test_an_id_can_be_used_again_after_an_interrupt(app: Flask):
    runs = []

    @tq.task
    def cut_once() -> str:
        runs.append("run")
        if len(runs) == 1:
            raise KeyboardInterrupt
        return "done"

    with pytest.raises(KeyboardInterrupt):
        cut_once.apply_async(task_id="cut")
    assert AsyncResult("cut").state == "UNKNOWN"
    assert cut_once.apply_async(task_id="cut").get() == "done"


def test_a_retry_for_ever_ends_where_nothing_is_waited_for(quiet: Flask):
    runs = []

    @tq.task(bind=True, max_retries=None)
    def poll(self: Task[..., t.Any], until: int) -> int:
        runs.append(until)
        if self.request.retries < until:
            self.retry(countdown=60)
        return self.request.retries

    result = poll.delay(1000)
    assert result.get() == 1000
    assert len(result.errors) == 100
    kept = [name for name in tq.state.eager_jobs[result.id] if b"tq_error_" in name]
    assert len(kept) == 100
    runs.clear()
    with pytest.raises(TaskQueueError, match=r"retried 1000 times.*max_retries"):
        poll.delay(10**6)
    assert len(runs) == 1001
    assert poll.apply_async((10**6,), max_retries=2000).retries == 2000


async def _view(name: str) -> t.Any:
    """What runs in an event loop, as an async view does."""
    await asyncio.sleep(0)
    return tq.tasks[name].delay(1).get()


def test_a_coroutine_is_run_where_an_event_loop_runs(app: Flask):
    assert asyncio.run(_view(later.name)) == f"{__name__} {later.name} 1"


def test_a_coroutine_in_a_loop_raises_in_its_caller(app: Flask):
    @tq.task
    async def breaks(x: int) -> None:
        await asyncio.sleep(0)
        raise Mine(x)

    with pytest.raises(Mine, match="1"):
        asyncio.run(_view(breaks.name))
