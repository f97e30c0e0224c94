"""Calls, results and retries as their callers see them, with a real worker."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
import time
import typing as t
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import redis

from flask_taskqueue import AsyncResult
from flask_taskqueue.errors import (
    JobNotFound,
    MaxRetriesExceededError,
    PayloadTooLarge,
    Reject,
    ResultTimeout,
    SoftTimeLimitExceeded,
    TaskFailed,
    TaskRevokedError,
    TimeLimitExceeded,
)

from ..processes import AppFolder, Worker
from ..servers import Server, eventually

NO_WORKER = "nobody"
"""A queue no worker serves."""

SHANGHAI = timezone(timedelta(hours=8))


class World:
    """One server, one app, one worker: shared by the tests here."""

    def __init__(self, folder: AppFolder, client: redis.Redis) -> None:
        self.folder = folder
        self.tasks: t.Any = folder.module()
        self.client = client
        # Not UTC: what takes a naive instant for local time is eight hours off.
        folder.env["TZ"] = "Asia/Shanghai"
        self.worker: Worker = folder.worker("-c", "4", "-Q", "default,reports")

    def line(self, pattern: str) -> str:
        """Wait for a line of the worker's output."""

        def found() -> str:
            match = re.search(rf".*{pattern}.*", self.worker.output, re.MULTILINE)
            return match[0] if match else ""

        return eventually(found, message=pattern)

    def burst(self, queue: str) -> Worker:
        """Run all that waits in a queue."""
        worker = self.folder.worker("-c", "1", "-Q", queue, "--burst", ready=False)
        assert worker.process.wait(30) == 0, worker.output
        return worker


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with (
        Server(tmp_path_factory.mktemp("server")) as server,
        server.client() as client,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("FLASK_TASKQUEUE_URL", server.url)
        folder = AppFolder(tmp_path_factory.mktemp("app"), server.url, app="calls")
        elsewhere = folder.folder / "elsewhere.py"
        elsewhere.write_text("class Strange(Exception):\n    pass\n")
        try:
            world = World(folder, client)
            yield world
            assert world.worker.stop() == 0, world.worker.output
        finally:
            folder.close()


@pytest.fixture(autouse=True)
def in_context(world: World) -> Iterator[None]:
    with world.tasks.app.app_context():
        yield
    assert world.worker.process.poll() is None, world.worker.output


@pytest.fixture
def tasks(world: World) -> t.Any:
    return world.tasks


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


@contextlib.contextmanager
def held(result: AsyncResult[t.Any], path: Path) -> Iterator[None]:
    """While a task waits for its file to go."""
    eventually(path.exists, message=f"{result.id} began")
    try:
        yield
    finally:
        path.unlink()


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(lambda m: m.add.delay(1, 2), 3, id="delay"),
        pytest.param(lambda m: m.add.delay(x=1, y=2), 3, id="delay-kwargs"),
        pytest.param(lambda m: m.nothing.delay(), None, id="delay-none"),
        pytest.param(lambda m: m.add.apply_async((2, 4)), 6, id="apply-tuple"),
        pytest.param(lambda m: m.add.apply_async(args=[2, 4]), 6, id="apply-list"),
        pytest.param(lambda m: m.add.apply_async((2,), {"y": 1}), 3, id="apply-both"),
        pytest.param(lambda m: m.nothing.apply_async(), None, id="apply-none"),
        pytest.param(
            lambda m: m.echo.apply_async(["911"], eta=datetime(2020, 1, 1)), "911",
            id="past-eta",
        ),
        pytest.param(lambda m: m.add.delay_many([(1, 1), (2, 2)])[1], 4, id="many"),
        pytest.param(lambda m: m.add.s(1).delay(2), 3, id="signature"),
        pytest.param(lambda m: m.tq.send_task("calls.add", (1, 2)), 3, id="send_task"),
        pytest.param(
            lambda m: m.tq.signature("calls.add", (1,)).delay(5), 6, id="named"
        ),
        pytest.param(lambda m: m.app_name.delay(), "calls", id="shared"),
        pytest.param(lambda m: m.report.delay(7), "calls.Report 7", id="class"),
        pytest.param(lambda m: m.later.delay(0.01), "calls calls.later", id="async"),
        pytest.param(lambda m: m.forgetful.delay(), None, id="ignore_result"),
        pytest.param(
            lambda m: m.add.apply_async((1, 2), ignore_result=True), None,
            id="ignore_result-of-call",
        ),
        pytest.param(lambda m: m.echo.delay("ü ☃ 𝄞"), "ü ☃ 𝄞", id="text"),
        pytest.param(
            lambda m: m.echo.apply_async((1.5,), serializer="json"), 1.5, id="content"
        ),
    ],
)  # fmt: skip
def test_a_call_runs_in_the_worker(tasks: t.Any, call: t.Any, expected: object):
    result = call(tasks)
    assert str(uuid.UUID(result.id)) == result.id == result.task_id
    assert repr(result) == f"<AsyncResult: {result.id}>"
    assert result.get(timeout=10) == expected
    assert (result.state, result.created) == ("SUCCESS", True)


def test_a_plain_call_and_apply_run_here(tasks: t.Any, world: World):
    before = world.client.info("commandstats")
    assert tasks.add(2, 2) == 4
    assert tasks.add.apply((2, 2)).get() == 4
    after = world.client.info("commandstats")
    assert "cmdstat_xread" not in after or after["cmdstat_xread"] == before.get(
        "cmdstat_xread"
    )


def test_a_task_knows_its_job(tasks: t.Any, world: World):
    result = tasks.request.apply_async(
        (1, "two"), {"three": 3}, headers={"owner": 9}, expires=60, queue="reports"
    )
    told = result.get(timeout=10)
    expires = told.pop("expires")
    assert timedelta(0) < expires - datetime.now(UTC) <= timedelta(seconds=60)
    assert told == {
        "id": result.id, "args": [1, "two"], "kwargs": {"three": 3}, "retries": 0,
        "queue": "reports", "hostname": result.worker, "is_eager": False,
        "parent_id": None, "root_id": result.id, "headers": {"owner": 9},
        "carried": {}, "called_directly": False,
    }  # fmt: skip


def test_an_eta_is_kept_and_never_early(tasks: t.Any, monkeypatch: pytest.MonkeyPatch):
    """A naive eta is UTC, whatever the zone of caller and worker."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        now = datetime.now(UTC)
        due = now + timedelta(milliseconds=700)
        naive, shanghai = due.replace(tzinfo=None), due.astimezone(SHANGHAI)
        begun = time.time()
        ways: list[tuple[dict[str, t.Any], float]] = [
            ({"eta": naive}, due.timestamp()),
            ({"eta": shanghai}, due.timestamp()),
            ({"countdown": 0.65}, begun + 0.65),
            ({"countdown": timedelta(seconds=0.6)}, begun + 0.6),
            ({"countdown": 0.2}, begun + 0.2),
            ({"countdown": 0}, begun),
        ]
        results = [tasks.clock.apply_async(**options) for options, _ in ways]
    finally:
        monkeypatch.undo()
        time.tzset()
    states = [result.state for result in results[:4]]
    if time.time() < begun + 0.5:
        assert states == ["PENDING"] * 4
    for result, (options, at) in zip(results, ways, strict=True):
        ran, eta = result.get(timeout=10)
        assert at <= ran < at + 1.5, options
        if options != {"countdown": 0}:
            assert abs(eta.timestamp() - at) < 0.5
            assert eta.tzinfo is not None


def test_what_may_not_run_any_more_is_revoked(tasks: t.Any, world: World):
    """Expired, or revoked before a worker came: decided in Redis."""
    now, queue = datetime.now(UTC), "late"
    expired = [
        tasks.add.apply_async((1, n), queue=queue, expires=expires)
        for n, expires in enumerate(
            [
                0,
                0.05,
                timedelta(seconds=0.05),
                now.replace(tzinfo=None) + timedelta(seconds=0.05),
                (now + timedelta(seconds=0.05)).astimezone(SHANGHAI),
            ]
        )
    ]
    alive = tasks.add.apply_async((1, 1), queue=queue, expires=60)
    revoked = tasks.add.apply_async((1, 2), queue=queue)
    scheduled = tasks.add.apply_async((1, 2), queue=queue, countdown=0.01)
    for result in (revoked, scheduled):
        result.revoke()
        assert (result.state, result.ready()) == ("REVOKED", True)
    eventually(lambda: time.time() > now.timestamp() + 0.1)
    worker = world.burst(queue)
    assert alive.get(timeout=0) == 2
    for result, why in [(r, "expired") for r in expired] + [(revoked, "revoked")]:
        assert (result.state, result.failed()) == ("REVOKED", False)
        assert isinstance(result.result, TaskRevokedError)
        with pytest.raises(TaskRevokedError, match=why):
            result.get(timeout=0)
        assert f"[{result.id}] received" not in worker.output
    assert f"Job {expired[0].id} of queue late expired" in worker.output


def test_an_id_that_has_not_ended_is_not_enqueued_again(tasks: t.Any, world: World):
    first = tasks.add.apply_async((1, 2), task_id="once", queue=NO_WORKER)
    second = tasks.add.apply_async((5, 5), task_id="once", queue=NO_WORKER)
    assert (first.created, second.created, second) == (True, False, first)
    assert (second.args, second.state) == ([1, 2], "PENDING")
    assert world.client.llen(f"rq:queue:{NO_WORKER}") == 1
    world.client.delete(f"rq:queue:{NO_WORKER}")
    first.revoke()
    third = tasks.add.apply_async((5, 5), task_id="once")
    assert (third.created, third.get(timeout=10)) == (True, 10)


def test_a_running_id_is_not_enqueued_again(tasks: t.Any, path: Path):
    first = tasks.hold.apply_async((str(path),), task_id="running")
    with held(first, path):
        assert not tasks.add.apply_async((1, 2), task_id="running").created
    assert first.get(timeout=10) == "released"
    again = tasks.add.apply_async((1, 2), task_id="running")
    assert (again.created, again.get(timeout=10)) == (True, 3)
    assert again.name == "calls.add"


def test_a_link_gets_the_result_and_has_an_id_of_its_own(tasks: t.Any, world: World):
    m = tasks.mul.apply_async((2, 2), link=tasks.mul.s(3))
    assert m.get(timeout=10) == 4
    (child,) = m.children
    assert child.get(timeout=10) == 12
    assert (child.id != m.id, child.args, child.parent) == (True, [4, 3], m)
    for result, value in ((m, 4), (child, 12)):
        world.line(rf"Task calls\.mul\[{result.id}\] succeeded in [\d.]+s: {value}$")


def test_links_of_every_form(tasks: t.Any):
    nested = tasks.add.s(1).link(tasks.mul.s(10).set(link=tasks.echo.s()))
    result = tasks.add.apply_async(
        (1, 1),
        link=[
            nested,
            tasks.add.si(7, 7),
            tasks.request.s("own", key=1).set(queue="reports", countdown=0.2),
            tasks.tq.signature("calls.add", (5,)),
        ],
    )
    assert result.get(timeout=10) == 2
    chained, fixed, told, named = result.children
    values = [3, 30, 30]
    node = chained
    for value in values:
        assert node.get(timeout=10) == value
        node = (node.children or [None])[0]
    assert node is None
    assert (fixed.get(timeout=10), named.get(timeout=10)) == (14, 7)
    seen = told.get(timeout=10)
    assert (seen["args"], seen["kwargs"]) == ([2, "own"], {"key": 1})
    assert (seen["queue"], seen["parent_id"]) == ("reports", result.id)
    assert seen["root_id"] == result.id


def test_a_link_runs_once_after_the_last_retry(tasks: t.Any, path: Path):
    result = tasks.flaky.apply_async(
        (str(path), 2, True, {"countdown": 0}), link=tasks.add.s(100)
    )
    assert result.get(timeout=10) == 2
    assert [child.get(timeout=10) for child in result.children] == [102]


def test_errbacks_of_every_form(tasks: t.Any):
    result = tasks.fail.apply_async(
        ("Broken", 1, "two"),
        link=tasks.add.si(1, 1),
        link_error=[
            tasks.errback.s(),
            tasks.errback_by_id.s(),
            tasks.add.si(2, 2),
        ],
    )
    with pytest.raises(tasks.Broken):
        result.get(timeout=10)
    full, by_id, fixed = result.children
    assert full.get(timeout=10) == [
        result.id, "calls.fail", "Broken", [1, "two"], True,
    ]  # fmt: skip
    assert by_id.get(timeout=10) == [result.id, "FAILURE"]
    assert fixed.get(timeout=10) == 4
    assert full.parent == result


def test_calls_inside_a_task_are_its_children(tasks: t.Any):
    result = tasks.parent_of_two.delay()
    first, second = result.get(timeout=10)
    assert [child.id for child in result.children] == [first, second]
    told = AsyncResult(second).get(timeout=10)
    assert (told["parent_id"], told["root_id"]) == (result.id, result.id)
    (link,) = AsyncResult(second).children
    assert link.get(timeout=10)["id"] == second
    assert link.parent == AsyncResult(second)


def test_every_field_can_be_read_right_after_delay(tasks: t.Any):
    result = tasks.add.apply_async((1,), {"y": 2}, queue=NO_WORKER)
    assert (result.state, result.status, result.ready()) == ("PENDING",) * 2 + (False,)
    assert (result.successful(), result.failed(), result.exists()) == (
        False,
        False,
        True,
    )
    assert (result.result, result.info, result.traceback) == (None, {}, None)
    assert (result.progress, result.retries, result.errors) == (None, 0, [])
    assert (result.name, result.args, result.kwargs) == ("calls.add", [1], {"y": 2})
    assert (result.queue, result.worker) == (NO_WORKER, None)
    assert (result.date_done, result.runtime) == (None, None)
    assert (result.children, result.parent, result.created) == ([], None, True)
    later = tasks.add.apply_async((1, 2), countdown=60)
    assert (later.state, later.info, later.ready()) == ("PENDING", {}, False)
    for handle in (result, later):
        handle.revoke()


def test_fields_while_it_runs_and_after(tasks: t.Any, path: Path, world: World):
    result = tasks.hold.delay(str(path))
    with held(result, path):
        assert (result.state, result.ready()) == ("STARTED", False)
        assert result.info == {"pid": world.worker.pid, "hostname": result.worker}
        assert result.worker
        assert result.result is None
    assert result.get(timeout=10) == "released"
    assert (result.result, result.info, result.successful()) == ("released",) * 2 + (
        True,
    )
    assert result.runtime is not None
    assert result.runtime > 0
    done = result.date_done
    assert done is not None
    assert timedelta(0) <= datetime.now(UTC) - done < timedelta(seconds=30)


def test_another_process_reads_it_by_id(tasks: t.Any, world: World):
    result = tasks.add.delay(2, 3)
    code = (
        "import sys\nsys.path.insert(0, '')\nfrom calls import add, app, tq\n"
        "from flask_taskqueue import AsyncResult\n"
        "with app.app_context():\n"
        "    for make in (AsyncResult, tq.AsyncResult, add.AsyncResult):\n"
        "        print(make(id=sys.argv[1]).get(timeout=10))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, result.id],
        cwd=world.folder.folder, env=world.folder.env, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.split() == ["5", "5", "5"], done.stderr


def test_an_unknown_job_is_unknown(tasks: t.Any):
    result = AsyncResult(str(uuid.uuid4()))
    assert (result.state, result.ready(), result.exists()) == ("UNKNOWN", True, False)
    assert (result.successful(), result.failed()) == (False, False)
    assert (result.result, result.info, result.name) == (None, {}, None)
    assert (result.args, result.kwargs, result.queue) == (None, None, None)
    assert (result.children, result.errors, result.date_done) == ([], [], None)
    with pytest.raises(JobNotFound, match=result.id):
        result.get()
    result.revoke()
    result.forget()
    assert result.state == "UNKNOWN"


def test_get_raises_when_time_is_up(tasks: t.Any):
    result = tasks.add.apply_async((1, 2), queue=NO_WORKER)
    begun = time.monotonic()
    with pytest.raises(ResultTimeout, match=r"is PENDING after 0\.2 s") as caught:
        result.get(timeout=0.2)
    assert 0.2 <= time.monotonic() - begun < 1.5
    assert isinstance(caught.value, TimeoutError)
    with pytest.raises(ResultTimeout):
        result.get(timeout=0)
    result.revoke()


@pytest.mark.parametrize(("seconds", "reads"), [(0.2, 1), (1.0, 2)])
def test_get_is_woken_and_does_not_poll(
    tasks: t.Any, world: World, seconds: float, reads: int
):
    """A blocking read, then a look at the job. The first read of a new one is short."""

    def calls() -> dict[str, int]:
        stats = world.client.info("commandstats")
        return {
            name: stats.get(f"cmdstat_{name}", {}).get("calls", 0)
            for name in ("xread", "xrevrange", "hmget", "xrange")
        }

    before = calls()
    assert tasks.snooze.delay(seconds).get(timeout=10) == "slept"
    after = calls()
    assert after["xread"] - before["xread"] == reads
    assert after["xrevrange"] - before["xrevrange"] == reads
    assert after["xrange"] == before["xrange"]


def test_many_threads_wait_at_once(tasks: t.Any):
    results = [tasks.echo.delay(n) for n in range(20)]
    found: dict[int, object] = {}

    def wait(n: int) -> None:
        with tasks.app.app_context():
            found[n] = results[n].get(timeout=10)

    threads = [threading.Thread(target=wait, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: n for n in range(20)}


def test_get_outlives_a_restart_of_redis(
    own_server: Server, tmp_path: Path, tasks: t.Any
):
    folder = AppFolder(tmp_path, own_server.url, app="jobs")
    try:
        module = folder.module()
        app = module.create_app(TASKQUEUE_URL=own_server.url)
        found: list[object] = []

        def wait() -> None:
            with app.app_context():
                found.append(result.get(timeout=30))

        with app.app_context():
            result = module.add.delay(1, 2)
            waiting = threading.Thread(target=wait)
            waiting.start()
            with own_server.client() as client:
                eventually(lambda: client.info("clients")["blocked_clients"])
            own_server.restart()
            folder.worker("-c", "1", "--burst", ready=False)
            waiting.join()
            assert found == [3]
            own_server.stop()
            with pytest.raises(ResultTimeout, match="Redis was away"):
                result.get(timeout=0.3)
            app.extensions["taskqueue"].state.broker.close()
    finally:
        folder.close()


def test_get_inside_a_task_is_refused_unless_allowed(tasks: t.Any):
    with pytest.raises(RuntimeError, match=r"inside a task .*allow_join=True"):
        tasks.joins.delay(False).get(timeout=10)
    assert tasks.joins.delay(True).get(timeout=10) == 23


def test_forget_removes_it(tasks: t.Any, world: World, path: Path):
    result = tasks.add.delay(1, 2)
    assert (result.get(timeout=10), result.get(timeout=10)) == (3, 3)
    result.forget()
    assert (result.state, result.exists(), result.args) == ("UNKNOWN", False, None)
    with pytest.raises(JobNotFound):
        result.get()
    assert not world.client.exists(f"rq:results:{result.id}")
    assert 0 < world.client.ttl(f"rq:job:{result.id}") <= 60
    assert not world.client.zscore("rq:finished:default", result.id)
    running = tasks.hold.delay(str(path))
    with held(running, path):
        running.forget()
        assert running.state == "UNKNOWN"
    eventually(lambda: world.client.ttl(f"rq:job:{running.id}") > 0)
    assert running.state == "UNKNOWN"


def test_a_running_job_that_is_revoked_ends_and_counts(tasks: t.Any, path: Path):
    result = tasks.hold.delay(str(path))
    with held(result, path):
        result.revoke()
        assert result.state == "STARTED"
    assert result.get(timeout=10) == "released"
    result.revoke()
    assert result.state == "SUCCESS"


def test_a_running_job_that_is_terminated_stops(tasks: t.Any, path: Path):
    result = tasks.hold.delay(str(path))
    with held(result, path):
        begun = time.monotonic()
        result.revoke(terminate=True)
        with pytest.raises(TaskRevokedError, match="terminated"):
            result.get(timeout=10)
        seconds = time.monotonic() - begun
        assert seconds < 3
        assert result.state == "REVOKED"
        # Since it began, which is after it was held.
        assert result.runtime is not None
        assert 0 < result.runtime < seconds + 10
    assert tasks.add.delay(1, 2).get(timeout=10) == 3


def test_a_revoked_job_is_not_retried(tasks: t.Any, path: Path):
    result = tasks.revoked_meanwhile.delay(str(path))
    with held(result, path):
        result.revoke()
    with pytest.raises(TaskRevokedError):
        result.get(timeout=10)
    assert (result.state, result.retries) == ("REVOKED", 0)


def test_a_job_that_waits_for_its_retry_can_be_revoked(tasks: t.Any, path: Path):
    result = tasks.flaky.delay(str(path), 9, True, {"countdown": 60})
    eventually(lambda: result.state == "RETRY")
    assert repr(result.info) == repr(result.result) == "Broken(0)"
    assert not result.ready()
    result.revoke()
    assert (result.state, result.retries) == ("REVOKED", 1)
    assert [repr(error) for error in result.errors] == ["Broken(0)"]


def test_an_error_comes_back_as_its_own_class(tasks: t.Any):
    result = tasks.fail.delay("Broken", 1, "two")
    with pytest.raises(tasks.Broken) as caught:
        result.get(timeout=10)
    assert caught.value.args == (1, "two")
    assert (result.state, result.failed(), result.ready()) == ("FAILURE", True, True)
    for found in (result.get(propagate=False), result.result, result.info):
        assert repr(found) == "Broken(1, 'two')"
    assert "calls.py" in (result.traceback or "")
    assert [repr(error) for error in result.errors] == ["Broken(1, 'two')"]
    with pytest.raises(KeyError, match="gone"):
        tasks.fail.delay("KeyError", "gone").get(timeout=10)


@pytest.mark.parametrize(
    ("call", "type_name", "text"),
    [
        pytest.param(
            lambda m: m.fail_elsewhere.delay(), "elsewhere.Strange", "(1, 'two')",
            id="class-not-loaded",
        ),
        pytest.param(
            lambda m: m.fail.delay("Unbuildable", 1, 2), "calls.Unbuildable", "1 and 2",
            id="other-arguments",
        ),
        pytest.param(
            lambda m: m.fail.delay("SystemExit", 3), "SystemExit", "3",
            id="no-exception",
        ),
        pytest.param(
            lambda m: m.fail_with_object.delay(), "calls.Broken", "<object object",
            id="arguments-not-encodable",
        ),
    ],
)  # fmt: skip
def test_an_error_that_cannot_be_rebuilt_is_task_failed(
    tasks: t.Any, call: t.Any, type_name: str, text: str
):
    result = call(tasks)
    with pytest.raises(TaskFailed) as caught:
        result.get(timeout=10)
    assert caught.value.type_name == type_name
    assert text in caught.value.text
    assert "elsewhere" not in sys.modules
    assert result.failed()


def runs(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_three_retries_run_it_four_times_then_raise_the_original(
    tasks: t.Any, path: Path
):
    options = {"countdown": 0.1, "max_retries": 3}
    result = tasks.flaky.delay(str(path), 9, True, options)
    with pytest.raises(tasks.Broken) as caught:
        result.get(timeout=10)
    rows = [line.split() for line in runs(path)]
    assert [retries for retries, _ in rows] == ["0", "1", "2", "3"]
    times = [float(at) for _, at in rows]
    gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
    assert all(0.1 <= gap < 1.5 for gap in gaps), gaps
    assert caught.value.args == (3,)
    assert (result.state, result.retries) == ("FAILURE", 3)
    assert [error.args for error in result.errors] == [(0,), (1,), (2,), (3,)]


def test_without_an_exception_it_ends_with_max_retries_exceeded(
    tasks: t.Any, path: Path
):
    result = tasks.flaky.delay(str(path), 9, False, {"countdown": 0, "max_retries": 1})
    with pytest.raises(MaxRetriesExceededError, match="retried 1 times"):
        result.get(timeout=10)
    assert len(runs(path)) == 2
    assert [type(error).__name__ for error in result.errors] == [
        "Broken", "MaxRetriesExceededError",
    ]  # fmt: skip


def test_success_after_retries_keeps_the_errors(tasks: t.Any, path: Path):
    result = tasks.flaky.delay(str(path), 2, True, {"countdown": 0})
    assert result.get(timeout=10) == 2
    assert (result.state, result.retries, result.traceback) == ("SUCCESS", 2, None)
    assert [error.args for error in result.errors] == [(0,), (1,)]


@pytest.mark.parametrize(
    ("max_retries", "good_at", "count"),
    [(0, 9, 1), (1, 9, 2), (None, 5, 6)],
    ids=["never", "once", "for-ever"],
)
def test_a_call_says_how_often(
    tasks: t.Any, path: Path, max_retries: int | None, good_at: int, count: int
):
    result = tasks.flaky.apply_async(
        (str(path), good_at, True, {"countdown": 0}), max_retries=max_retries
    )
    result.get(timeout=10, propagate=False)
    assert len(runs(path)) == count


def test_a_retry_waits_the_tasks_delay_by_default(tasks: t.Any, path: Path):
    result = tasks.by_default.delay(str(path))
    with pytest.raises(MaxRetriesExceededError):
        result.get(timeout=10)
    first, second = map(float, runs(path))
    assert 0.3 <= second - first < 2
    again = path.with_name("again")
    tasks.by_default.apply_async((str(again),), default_retry_delay=0).get(
        timeout=10, propagate=False
    )
    assert len(runs(again)) == 2


def test_a_retry_at_an_instant(tasks: t.Any, path: Path):
    # JSON gives the task a datetime, as it gives it to whoever reads the result.
    due = datetime.now(UTC) + timedelta(seconds=0.6)
    result = tasks.flaky.delay(str(path), 1, True, {"eta": due})
    assert result.get(timeout=10) == 1
    assert float(runs(path)[1].split()[1]) >= due.timestamp()


def test_without_throw_the_function_goes_on(tasks: t.Any, path: Path):
    result = tasks.goes_on.delay(str(path))
    assert result.get(timeout=10) == "returned by 1"
    assert runs(path) == ["went on: Retry"]


def test_a_retry_may_change_the_call(tasks: t.Any):
    result = tasks.moves.delay(1)
    assert result.get(timeout=10) == [2, 7, "reports", 1]
    assert (result.args, result.kwargs, result.queue) == ([2], {"y": 7}, "reports")


def test_a_retry_may_change_options_from_now_on(tasks: t.Any, world: World, path: Path):
    changes = {"countdown": 60, "priority": 1, "time_limit": 9, "ignore_result": True}
    result = tasks.flaky.delay(str(path), 1, True, changes)
    eventually(lambda: result.state == "RETRY")
    fields = world.client.hgetall(f"rq:job:{result.id}")
    assert fields[b"enqueue_at_front"] == b"1"
    stored = json.loads(fields[b"tq_options"])
    assert (stored["time_limit"], stored["ignore_result"]) == (9, True)
    result.revoke()
    late = tasks.flaky.delay(str(path), 9, True, {"countdown": 0.1, "expires": 0.05})
    with pytest.raises(TaskRevokedError, match="expired"):
        late.get(timeout=10)
    assert (late.state, late.retries) == ("REVOKED", 1)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("arguments", "argument 0"),
        ("option", "a known option of retry, got 'link'"),
        ("countdown", "'countdown' to be a number"),
    ],
)
def test_a_retry_that_cannot_be_is_the_tasks_error(tasks: t.Any, how: str, words: str):
    result = tasks.badly.delay(how)
    with pytest.raises(TypeError, match=words):
        result.get(timeout=10)
    assert (result.state, result.retries) == ("FAILURE", 0)


def test_automatic_retries_back_off(tasks: t.Any, world: World):
    result = tasks.automatic.delay("Broken")
    with pytest.raises(tasks.Broken):
        result.get(timeout=10)
    assert [error.args for error in result.errors] == [(0,), (1,), (2,), (3,)]
    world.line(rf"Task calls\.automatic\[{result.id}\] failed in")
    waits = re.findall(
        rf"\[{result.id}\] retry: Retry in ([\d.]+)s: Broken", world.worker.output
    )
    assert waits == ["0.02", "0.04", "0.05"]


def test_jitter_only_shortens_a_backoff(tasks: t.Any, world: World):
    result = tasks.automatic.apply_async(
        ("Broken",), retry_backoff=0.4, retry_backoff_max=0.4, retry_jitter=True
    )
    result.get(timeout=10, propagate=False)
    world.line(rf"Task calls\.automatic\[{result.id}\] failed in")
    waits = [
        float(wait)
        for wait in re.findall(
            rf"\[{result.id}\] retry: Retry in ([\d.]+)s", world.worker.output
        )
    ]
    assert len(waits) == 3
    # In milliseconds two may be equal by chance, all three hardly.
    assert len(set(waits)) > 1
    assert all(0 <= wait <= 0.4 for wait in waits)


def test_some_errors_are_not_retried(tasks: t.Any):
    result = tasks.automatic.delay("KeyError")
    with pytest.raises(KeyError):
        result.get(timeout=10)
    assert result.retries == 0


def test_giving_up_by_hand_ends_automatic_retries_too(tasks: t.Any, path: Path):
    result = tasks.gives_up.delay(str(path))
    with pytest.raises(tasks.Broken, match="enough"):
        result.get(timeout=10)
    assert runs(path) == ["0", "1"]


def test_a_soft_limit_can_be_caught(tasks: t.Any):
    caught = tasks.careful.apply_async((60,), soft_time_limit=0.2)
    assert caught.get(timeout=10) == "cleaned up"
    assert tasks.careful.apply_async((0,), soft_time_limit=30).get(timeout=10)


def test_a_soft_limit_arrives_where_a_coroutine_waits(tasks: t.Any):
    assert tasks.patient.delay().get(timeout=10) == "caught"
    with pytest.raises(SoftTimeLimitExceeded):
        tasks.impatient.delay().get(timeout=10)


@pytest.mark.parametrize("name", ["careless", "careless_coroutine"])
def test_a_soft_limit_that_is_not_caught_fails_the_job(tasks: t.Any, name: str):
    result = getattr(tasks, name).delay()
    with pytest.raises(SoftTimeLimitExceeded):
        result.get(timeout=10)
    assert result.state == "FAILURE"


def test_a_hard_limit_kills_it(tasks: t.Any):
    begun = time.monotonic()
    result = tasks.snooze.apply_async(
        (60,), time_limit=0.3, link_error=tasks.errback.s()
    )
    with pytest.raises(TimeLimitExceeded, match=r"time limit of 0\.3 s is over"):
        result.get(timeout=10)
    assert time.monotonic() - begun < 4
    assert (result.state, result.retries) == ("FAILURE", 0)
    (child,) = result.children
    assert child.get(timeout=10)[2] == "TimeLimitExceeded"


@pytest.mark.parametrize(
    ("how", "state", "info"),
    [
        ("progress", "PROGRESS", {"current": 3, "total": 10, "message": "three"}),
        ("default", "PROGRESS", [1, 2]),
        ("UPLOADING", "UPLOADING", {"at": 1}),
    ],
)
def test_what_a_task_says_of_itself_shows(
    tasks: t.Any, path: Path, how: str, state: str, info: object
):
    result = tasks.steps.delay(str(path), how)
    with held(result, path):
        assert (result.state, result.info, result.progress) == (state, info, info)
        assert not result.ready()
    assert (result.get(timeout=10), result.state) == ("done", "SUCCESS")
    assert result.info == "done"


def test_a_meta_that_is_too_large_is_the_tasks_error(tasks: t.Any):
    with pytest.raises(PayloadTooLarge, match="meta takes"):
        tasks.large_meta.delay().get(timeout=10)


@pytest.mark.parametrize(
    ("state", "seen", "info"),
    [("SKIPPED", "SKIPPED", {"why": "so"}), (None, "SUCCESS", None)],
    ids=["said", "nothing-said"],
)
def test_ignore_ends_it_in_the_state_it_said(
    tasks: t.Any, state: str | None, seen: str, info: object
):
    result = tasks.ignores.delay(state)
    assert result.get(timeout=10) is None
    assert (result.state, result.info, result.ready()) == (seen, info, True)
    assert not result.failed()


def test_reject_fails_it_or_puts_it_back(tasks: t.Any, path: Path):
    result = tasks.rejects.delay(str(path), False)
    with pytest.raises(Reject, match="not now"):
        result.get(timeout=10)
    assert result.state == "FAILURE"
    path.unlink()
    back = tasks.rejects.delay(str(path), True)
    assert (back.get(timeout=10), back.retries, back.errors) == ("second time", 0, [])


def test_a_job_has_a_line_when_it_comes_and_one_when_it_ends(
    tasks: t.Any, world: World
):
    results = {
        "short": (tasks.add.delay(1, 2), r": 3$"),
        "long": (tasks.echo.delay("x" * 300), r": 'x{98}…$"),
        "ignored": (tasks.forgetful.delay(), r"$"),
        "none": (tasks.nothing.delay(), r": None$"),
    }
    for result, end in results.values():
        name = re.escape(result.name)
        begins = rf"INFO \d+ Task {name}\[{result.id}\]"
        received = world.line(rf"{begins} received$")
        ended = world.line(rf"{begins} succeeded in \d+\.\d{{4}}s{end}")
        output = world.worker.output
        assert output.index(received) < output.index(ended)


def test_a_tasks_own_lines_name_its_job(tasks: t.Any, world: World):
    tasks.nothing.delay().get(timeout=10)
    world.line("nothing is printed")
    result = tasks.mul.delay(6, 7)
    result.get(timeout=10)
    world.line(rf"calls\.mul\[{result.id}\]: args \[6, 7\]")


def test_a_failure_is_logged_with_its_traceback_unless_expected(
    tasks: t.Any, world: World
):
    failed = tasks.fail.delay("Broken", "logged")
    world.line(
        rf"ERROR \d+ Task calls\.fail\[{failed.id}\] failed in [\d.]+s: "
        r"Broken\('logged'\)\nTraceback"
    )
    expected = tasks.expected.delay()
    line = world.line(rf"INFO \d+ Task calls\.expected\[{expected.id}\] failed")
    assert f"{line}\nTraceback" not in world.worker.output


def test_a_program_enqueues_what_the_flask_worker_runs(world: World, tmp_path: Path):
    """``python app.py`` and ``flask worker`` agree on the names of tasks."""
    url = world.folder.env["FLASK_TASKQUEUE_URL"]
    folder = AppFolder(tmp_path, url, app="calls")
    try:
        source = folder.module_path.read_text()
        folder.module_path.write_text(
            f"{source}\n\nif __name__ == '__main__':\n"
            "    with app.app_context():\n"
            "        print(app_name.apply_async(queue='program').id)\n"
            "        print(add.apply_async((1, 2), queue='program').id)\n"
        )
        done = subprocess.run(
            [sys.executable, "calls.py"], cwd=tmp_path, env=folder.env,
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        folder.worker("-c", "1", "-Q", "program", "--burst", ready=False)
        named, added = map(AsyncResult, done.stdout.split())
        assert (added.get(timeout=15), added.name) == (3, "calls.add")
        assert named.get(timeout=15) == "calls"
    finally:
        for worker in folder._workers:
            worker.kill()
