"""What an app's tests are given: calls run, kept, and run later, on a real server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import typing as t
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text

from flask_taskqueue import JobInfo
from flask_taskqueue.errors import (
    BrokerUnavailable,
    ResultTimeout,
    TaskQueueError,
    TaskRevokedError,
)
from flask_taskqueue.signals import job_enqueued, job_revoked
from flask_taskqueue.testing import captured, drain, eager, run_worker

from .running import InProcess
from .servers import eventually

NOWHERE = "redis://127.0.0.1:1/0"
SOON = timedelta(seconds=1)


class Shop:
    """An app with tasks that note what they did in :attr:`done`."""

    def __init__(self, site: InProcess) -> None:
        self.app, self.tq = site.app, site.tq
        self.done: list[t.Any] = []
        tq, done = self.tq, self.done

        @tq.task(name="note")
        def note(*what: t.Any) -> t.Any:
            done.append(what[0])
            return what[0]

        @tq.task(name="fail")
        def fail(text: str = "no") -> None:
            raise ValueError(text)

        @tq.task(name="retried", bind=True, max_retries=2, default_retry_delay=60)
        def retried(self: t.Any) -> int:
            done.append(self.request.retries)
            if self.request.retries < 2:
                self.retry()
            return t.cast(int, self.request.retries)

        self.note, self.fail, self.retried = note, fail, retried

        @self.app.post("/note/<what>")
        def start(what: str) -> t.Any:
            return self.tq.accepted(note.delay(what))


@pytest.fixture
def shop(redis_url: str, client: redis.Redis) -> t.Iterator[Shop]:
    shop = Shop(InProcess("shop", redis_url, client))
    with shop.app.app_context():
        yield shop


@pytest.fixture
def unplugged(client: redis.Redis) -> t.Iterator[Shop]:
    """Its Redis is not there."""
    shop = Shop(InProcess("unplugged", NOWHERE, client))
    with shop.app.app_context():
        yield shop


# --- eager ---------------------------------------------------------------------------


def test_eager_runs_calls_inside_and_only_there(unplugged: Shop):
    with eager(unplugged.app):
        assert unplugged.note.delay("in").get() == "in"
    with pytest.raises(BrokerUnavailable):
        unplugged.note.delay("out")
    assert unplugged.done == ["in"]


def test_eager_raises_what_the_task_raises_unless_told_otherwise(unplugged: Shop):
    with eager(unplugged.app), pytest.raises(ValueError, match="no"):
        unplugged.fail.delay()
    with eager(unplugged.app, propagates=False):
        assert unplugged.fail.delay().state == "FAILURE"


@pytest.mark.parametrize(
    "before",
    [
        pytest.param({}, id="nothing"),
        pytest.param(
            {"TASKQUEUE_EAGER": "no", "TASKQUEUE_EAGER_PROPAGATES": False}, id="values"
        ),
    ],
)
def test_eager_leaves_the_configuration_as_it_was(unplugged: Shop, before):
    unplugged.app.config.update(before)
    config = dict(unplugged.app.config)
    with pytest.raises(KeyError), eager(unplugged.app):
        raise KeyError
    assert unplugged.app.config == config


def test_eager_needs_an_app_with_a_task_queue():
    with (
        pytest.raises(RuntimeError, match="'bare' has no TaskQueue"),
        eager(Flask("bare")),
    ):
        pass


# --- captured ------------------------------------------------------------------------


def test_captured_jobs_do_not_run_and_need_no_redis(unplugged: Shop):
    with captured(unplugged.app) as jobs:
        result = unplugged.note.delay("a", 1)
        (job,) = jobs
        assert (result.id, result.state, result.created) == (job.id, "PENDING", True)
        assert result.queue == "default"
        assert result.name == "note"
        assert result.args == ["a", 1]
        assert not result.ready()
        assert result.result is None
    assert isinstance(job, JobInfo)
    assert (job.task, job.queue, job.state) == ("note", "default", "PENDING")
    assert (job.args, job.kwargs, job.eta) == (["a", 1], {}, None)
    assert unplugged.done == []
    assert len(jobs) == 1


def test_captured_jobs_show_what_the_call_said(unplugged: Shop):
    eta = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    before = datetime.now(UTC)
    with captured(unplugged.app) as jobs:
        unplugged.note.apply_async(
            ("a",),
            {},
            queue="mail",
            headers={"owner": 7},
            countdown=60,
            time_limit=5,
            max_retries=9,
        )
        unplugged.note.apply_async(("b",), eta=eta, expires=eta + SOON)
    first, second = jobs
    assert (first.queue, first.headers) == ("mail", {"owner": 7})
    assert first.countdown == 60
    assert first.eta is not None
    assert timedelta(0) <= first.eta - before - timedelta(seconds=60) < 10 * SOON
    assert first.options["time_limit"] == 5
    assert first.options["retry"]["max_retries"] == 9
    assert (second.countdown, second.eta, second.expires) == (None, eta, eta + SOON)
    assert first.created_at is not None
    assert before <= first.created_at <= datetime.now(UTC)


def test_captured_jobs_show_their_links(unplugged: Shop):
    note, fail = unplugged.note, unplugged.fail
    with captured(unplugged.app) as (jobs):
        note.apply_async(
            ("a",),
            link=note.s("b").link(note.si("c").set(queue="late")),
            link_error=[fail.s("oh")],
        )
    (job,) = jobs
    (link,), (error,) = job.links, job.link_errors
    assert (link.task, link.args) == ("note", ["b"])
    assert [(x.queue, x.args) for x in link.links] == [("late", ["c"])]
    assert (error.task, error.args) == ("fail", ["oh"])


def test_every_way_to_enqueue_is_captured_in_order(unplugged: Shop):
    note, tq = unplugged.note, unplugged.tq
    with captured(unplugged.app) as jobs:
        note.delay(1)
        note.delay_many([(2,), (3,)])
        tq.send_task("elsewhere", [4])
        tq.send_task("note", [5])
        note.s(6).delay()
        tq.signature("elsewhere", (7,)).apply_async()
    assert [job.args[0] for job in jobs] == [1, 2, 3, 4, 5, 6, 7]
    assert unplugged.done == []


def test_a_call_on_commit_is_captured_when_it_is_committed(unplugged: Shop):
    unplugged.app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    db = SQLAlchemy(unplugged.app)
    with captured(unplugged.app) as jobs:
        for end in (db.session.rollback, db.session.commit):
            db.session.execute(text("select 1"))
            unplugged.note.delay_on_commit(end.__name__)
            assert jobs == []
            end()
    assert [job.args for job in jobs] == [["commit"]]


def test_the_jobs_of_a_request_are_captured(unplugged: Shop):
    with captured(unplugged.app) as jobs:
        answer = unplugged.app.test_client().post("/note/a")
        assert answer.status_code == 202
        assert answer.json["id"] == jobs[0].id
        seen = unplugged.app.test_client().get(answer.headers["Location"])
        assert (seen.status_code, seen.json["state"]) == (200, "PENDING")


def test_an_id_is_captured_once(unplugged: Shop):
    with captured(unplugged.app) as jobs:
        made = [
            unplugged.note.apply_async((n,), task_id="daily").created for n in (1, 2)
        ]
    assert made == [True, False]
    assert [job.args for job in jobs] == [[1]]
    with captured(unplugged.app) as jobs:
        assert unplugged.note.apply_async((3,), task_id="daily").created


def test_captured_wins_over_eager_and_the_inner_one_over_the_outer(unplugged: Shop):
    app, note = unplugged.app, unplugged.note
    app.config["TASKQUEUE_EAGER"] = True
    with captured(app) as outer:
        note.delay(1)
        with captured(app) as inner:
            note.delay(2)
        with eager(app):
            note.delay(3)
        note.delay(4)
    note.delay(5)
    assert [job.args for job in outer] == [[1], [4]]
    assert [job.args for job in inner] == [[2]]
    assert unplugged.done == [3, 5]


def test_only_the_app_given_is_captured(unplugged: Shop, shop: Shop):
    with captured(unplugged.app) as jobs:
        with shop.app.app_context():
            shop.note.delay("real")
        with unplugged.app.app_context():
            unplugged.note.delay("kept")
    assert [job.args for job in jobs] == [["kept"]]
    assert drain(shop.app) == 1
    assert shop.done == ["real"]


def test_what_a_task_enqueues_is_captured_when_it_is_applied(unplugged: Shop):
    @unplugged.tq.task(name="outer")
    def outer() -> None:
        unplugged.note.delay("inner")

    with captured(unplugged.app) as jobs:
        result = outer.apply()
        assert [child.id for child in result.children] == [jobs[0].id]
    assert unplugged.done == []


def test_waiting_for_a_captured_job_ends_at_once(unplugged: Shop):
    with captured(unplugged.app):
        result = unplugged.note.delay("a")
        with pytest.raises(ResultTimeout, match="nothing will run it"):
            result.get()


def test_an_unknown_id_is_unknown_without_redis(unplugged: Shop):
    with captured(unplugged.app):
        assert unplugged.tq.AsyncResult("never").state == "UNKNOWN"


def test_nothing_captured_is_left_after_the_block(shop: Shop):
    with captured(shop.app):
        result = shop.note.apply_async(("a",), task_id="x")
    assert result.state == "UNKNOWN"
    shop.note.apply_async(("b",), task_id="x")
    assert drain(shop.app) == 1
    assert result.get(timeout=1) == "b"


def test_a_captured_job_is_announced(unplugged: Shop):
    told = []

    def receive(sender: Flask, job: JobInfo) -> None:
        told.append((sender, job.task, job.state))

    with captured(unplugged.app), job_enqueued.connected_to(receive):
        unplugged.note.delay("a")
    assert told == [(unplugged.app, "note", "PENDING")]


@pytest.mark.parametrize(
    ("args", "error"),
    [
        pytest.param((object(),), "expected", id="argument"),
        pytest.param(("a",) * 1_000_000, "TASKQUEUE_MAX_ARGS_BYTES", id="size"),
    ],
)
def test_a_captured_call_is_checked_as_any(unplugged: Shop, args, error):
    with captured(unplugged.app) as jobs, pytest.raises(Exception, match=error):
        unplugged.note.delay(*args)
    assert jobs == []


def test_threads_are_captured_too(unplugged: Shop):
    def enqueue() -> None:
        with unplugged.app.app_context():
            for _ in range(50):
                unplugged.note.delay("a")

    with captured(unplugged.app) as jobs:
        threads = [threading.Thread(target=enqueue) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len({job.id for job in jobs}) == 200


def test_signed_and_other_contents_are_captured(client: redis.Redis):
    shop = Shop(
        InProcess(
            "signed",
            NOWHERE,
            client,
            SECRET_KEY="s",
            TASKQUEUE_SIGN=True,
            TASKQUEUE_SERIALIZER="msgpack",
            TASKQUEUE_ACCEPT_CONTENT=["json", "msgpack"],
        )
    )
    with shop.app.app_context(), captured(shop.app) as jobs:
        result = shop.note.apply_async(("a",), link=shop.note.s("b"))
        assert result.args == ["a"]
    assert [job.args for job in (*jobs, *jobs[0].links)] == [["a"], ["b"]]


# --- drain ---------------------------------------------------------------------------


def test_drain_runs_what_waits_and_says_how_much(shop: Shop):
    results = shop.note.delay_many([("a",), ("b",)])
    assert drain(shop.app) == 2
    assert [result.state for result in results] == ["SUCCESS", "SUCCESS"]
    assert results[0].get() == "a"
    assert drain(shop.app) == 0


def test_drain_runs_links_and_retries(shop: Shop):
    @shop.tq.task(name="twice", bind=True)
    def twice(self: t.Any) -> str:
        if not self.request.retries:
            self.retry(countdown=0)
        return "done"

    result = twice.apply_async(link=shop.note.s("linked"))
    assert drain(shop.app) == 3
    assert (result.state, result.retries) == ("SUCCESS", 1)
    assert shop.done == ["done"]


def test_drain_runs_jobs_of_queues_that_no_configuration_names(shop: Shop):
    shop.note.apply_async(("a",), queue="side")
    assert drain(shop.app, queues=["other"]) == 0
    assert drain(shop.app, queues="side") == 1
    shop.note.apply_async(("b",), queue="side")
    shop.note.apply_async(("c",))
    assert drain(shop.app) == 2
    assert shop.done == ["a", "c", "b"]


def test_a_failing_job_is_a_failure_and_the_next_one_runs(shop: Shop, caplog):
    failed = shop.fail.delay("broken")
    shop.note.delay("a")
    assert drain(shop.app) == 2
    assert failed.state == "FAILURE"
    assert "ValueError: broken" in caplog.text
    assert shop.done == ["a"]


def test_drain_raises_what_a_task_raises_when_asked_to(shop: Shop):
    failed = shop.fail.delay("broken")
    shop.note.delay("a")
    with pytest.raises(ValueError, match="broken"):
        drain(shop.app, propagates=True)
    assert failed.state == "FAILURE"
    assert drain(shop.app) == 1


def test_drain_does_not_run_what_is_due_later(shop: Shop):
    result = shop.note.apply_async(("a",), countdown=60)
    assert drain(shop.app) == 0
    assert result.state == "PENDING"


def test_drain_runs_what_is_due_by_a_time_in_its_order(shop: Shop):
    for name, seconds in (("c", 180), ("b", 120), ("a", 60)):
        shop.note.apply_async((name,), countdown=seconds)
    now = datetime.now(UTC)
    assert drain(shop.app, now=now + timedelta(seconds=150)) == 2
    assert shop.done == ["a", "b"]
    assert drain(shop.app, now=now + timedelta(seconds=150)) == 0
    assert drain(shop.app, now=(now + timedelta(seconds=200)).replace(tzinfo=None)) == 1
    assert shop.done == ["a", "b", "c"]


def test_time_passes_between_retries(shop: Shop):
    """Each is due 60 s after the one before, not after the present."""
    result = shop.retried.delay()
    now = datetime.now(UTC)
    assert drain(shop.app, now=now + timedelta(seconds=70)) == 2
    assert result.state == "RETRY"
    assert drain(shop.app, now=now + timedelta(seconds=70)) == 0
    assert drain(shop.app, now=now + timedelta(seconds=130)) == 1
    assert result.get(timeout=1) == 2
    assert shop.done == [0, 1, 2]


def test_what_is_left_is_due_when_it_was(shop: Shop, client: redis.Redis):
    shop.note.apply_async(("a",), countdown=60)
    later = shop.note.apply_async(("b",), countdown=600, expires=900)
    due = client.zscore("rq:scheduled:default", later.id)
    expires = client.hget(f"rq:job:{later.id}", "tq_expires")
    assert drain(shop.app, now=datetime.now(UTC) + timedelta(seconds=90)) == 1
    assert client.zscore("rq:scheduled:default", later.id) == pytest.approx(
        due, abs=1e-3
    )
    left = client.hget(f"rq:job:{later.id}", "tq_expires")
    assert float(left) == pytest.approx(float(expires), abs=1e-3)


def test_a_job_that_expires_before_it_is_due_does_not_run(shop: Shop):
    told = []

    def receive(sender: Flask, job: JobInfo) -> None:
        told.append((job.id, type(job.exception)))

    result = shop.note.apply_async(("a",), countdown=60, expires=30)
    with job_revoked.connected_to(receive):
        assert drain(shop.app, now=datetime.now(UTC) + timedelta(seconds=90)) == 0
    assert result.state == "REVOKED"
    assert told == [(result.id, TaskRevokedError)]


def test_a_task_without_end_is_an_error(shop: Shop):
    @shop.tq.task(name="again")
    def again() -> None:
        again.delay()

    again.delay()
    with pytest.raises(TaskQueueError, match="ran 5 jobs.*enqueue itself"):
        drain(shop.app, most=5)
    assert shop.tq.state.broker.producer.llen("rq:queue:default") == 1


def test_a_task_that_is_not_here_is_not_counted(shop: Shop):
    result = shop.tq.send_task("elsewhere")
    assert drain(shop.app) == 0
    assert result.state == "PENDING"


def test_tasks_are_imported_as_a_worker_does(
    redis_url: str, client: redis.Redis, tmp_path: Path, monkeypatch
):
    (tmp_path / "late_tasks.py").write_text(
        "from flask_taskqueue import shared_task\n"
        "@shared_task(name='late')\n"
        "def late(): return 'here'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    site = InProcess("late", redis_url, client, TASKQUEUE_IMPORTS=["late_tasks"])
    with site.app.app_context():
        result = site.tq.send_task("late")
        assert drain(site.app) == 1
        assert result.get(timeout=1) == "here"


def test_an_interrupt_in_a_task_reaches_the_test(shop: Shop):
    @shop.tq.task(name="interrupted")
    def interrupted() -> None:
        raise KeyboardInterrupt

    result = interrupted.delay()
    with pytest.raises(KeyboardInterrupt):
        drain(shop.app)
    assert result.state == "FAILURE"


def test_a_task_that_exits_fails_alone(shop: Shop):
    @shop.tq.task(name="exits")
    def exits() -> None:
        sys.exit(3)

    result = exits.delay()
    assert drain(shop.app) == 1
    assert result.state == "FAILURE"


def test_only_jobs_have_a_context_that_is_torn_down(shop: Shop):
    popped: list[object] = []
    shop.app.teardown_appcontext(popped.append)
    failed = shop.fail.delay("broken")
    shop.note.delay("a")
    with eager(shop.app), captured(shop.app):
        pass
    drain(shop.app)
    run_worker(shop.app)
    assert [repr(error) for error in popped] == ["ValueError('broken')", "None"]
    assert failed.state == "FAILURE"


def test_drain_in_a_thread(shop: Shop):
    shop.note.delay("a")
    counts: list[int] = []
    thread = threading.Thread(target=lambda: counts.append(drain(shop.app)))
    thread.start()
    thread.join()
    assert counts == [1]


def test_drain_leaves_nothing_connected_or_held(shop: Shop, client: redis.Redis):
    shop.note.delay("a")
    drain(shop.app)
    shop.tq.state.broker.close()
    eventually(lambda: len(client.client_list()) == 1)
    assert client.zcard("rq:wip:default") == 0


@pytest.mark.parametrize("run", [drain, run_worker])
def test_without_redis_it_fails_soon(unplugged: Shop, run):
    with pytest.raises(BrokerUnavailable, match="127.0.0.1:1"):
        run(unplugged.app)


@pytest.mark.parametrize("run", [drain, run_worker])
def test_a_queue_no_worker_can_serve_is_refused(shop: Shop, run):
    with pytest.raises(ValueError, match="queue"):
        run(shop.app, queues=["a b"])


# --- run_worker ----------------------------------------------------------------------


def pid() -> int:
    return os.getpid()


def test_a_worker_runs_what_waits_in_another_process(shop: Shop, client: redis.Redis):
    task = shop.tq.task(name="pid")(pid)
    results = [task.delay(), task.apply_async(queue="side")]
    run_worker(shop.app)
    assert os.getpid() not in {result.get(timeout=1) for result in results}
    assert client.smembers("rq:workers") == set()


def test_a_worker_keeps_limits(shop: Shop):
    @shop.tq.task(name="endless", time_limit=0.3)
    def endless() -> None:
        signal.pause()

    result = endless.delay()
    run_worker(shop.app)
    assert result.state == "FAILURE"
    assert "TimeLimitExceeded" in repr(result.result)


def test_a_worker_leaves_jobs_that_are_due_later(shop: Shop):
    later = shop.note.apply_async(("a",), countdown=60)
    failed = shop.fail.delay()
    run_worker(shop.app)
    assert (later.state, failed.state) == ("PENDING", "FAILURE")


def test_what_a_workers_process_logs_is_shown(shop: Shop, capfd):
    shop.fail.delay("broken")
    run_worker(shop.app)
    shown = capfd.readouterr().err
    assert shown.count("ValueError: broken") == 1
    assert "Task fail[" in shown


def test_a_worker_leaves_signal_handlers_alone(shop: Shop):
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD)
    before = [signal.getsignal(number) for number in numbers]
    shop.note.delay("a")
    run_worker(shop.app)
    assert [signal.getsignal(number) for number in numbers] == before


def test_a_worker_in_a_thread(shop: Shop):
    result = shop.note.delay("a")
    thread = threading.Thread(target=run_worker, args=(shop.app,))
    thread.start()
    thread.join()
    assert result.get(timeout=1) == "a"


# --- fixtures, as a user's tests have them -------------------------------------------

USER_APP = """
from flask import Flask
from flask_taskqueue import TaskQueue

tq = TaskQueue()
done = []

@tq.task
def note(what: str) -> str:
    done.append(what)
    return what

def create_app(**config):
    app = Flask(__name__)
    app.config.update(config)
    tq.init_app(app)

    @app.post("/note/<what>")
    def start(what):
        return tq.accepted(note.delay(what))

    return app
"""

CONFTEST = """
import pytest
import notes

pytest_plugins = ["flask_taskqueue.testing"]

@pytest.fixture
def app(taskqueue_url):
    notes.done.clear()
    return notes.create_app(TESTING=True, TASKQUEUE_URL=taskqueue_url)
"""

USER_TESTS = """
import notes

def test_eager(app, taskqueue_eager):
    app.test_client().post("/note/a")
    assert notes.done == ["a"]

def test_captured(app, taskqueue_captured):
    app.test_client().post("/note/a")
    assert [job.args for job in taskqueue_captured] == [["a"]]
    assert notes.done == []

def test_drain(app, taskqueue_drain):
    app.test_client().post("/note/a")
    assert taskqueue_drain() == 1
    assert notes.done == ["a"]

def test_worker(app, taskqueue_worker):
    answer = app.test_client().post("/note/a")
    taskqueue_worker(queues=["default"])
    seen = app.test_client().get(answer.headers["Location"])
    assert seen.json["result"] == "a"
    assert notes.done == []

def test_leave_a_job(app):
    app.test_client().post("/note/a")

def test_start_empty(app, taskqueue_drain):
    assert taskqueue_drain() == 0
"""


def suite(folder: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a user's test-suite."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *args],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **env},
        capture_output=True,
        text=True,
        timeout=50,
    )


def test_fixtures_of_a_users_suite(tmp_path: Path):
    (tmp_path / "notes.py").write_text(USER_APP)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_notes.py").write_text(USER_TESTS)
    done = suite(tmp_path, "-q", "-W", "error")
    assert "6 passed" in done.stdout, done.stdout + done.stderr
    shown = suite(tmp_path, "--fixtures", "-q").stdout
    for name in (
        "server [session scope]",
        "url",
        "eager",
        "captured",
        "drain",
        "worker",
    ):
        assert f"taskqueue_{name} -- " in shown


def test_no_plugin_loads_by_itself(tmp_path: Path):
    (tmp_path / "test_none.py").write_text(
        "import sys\n"
        "def test_none(pytestconfig):\n"
        "    assert 'flask_taskqueue' not in sys.modules\n"
    )
    done = suite(tmp_path, "-q")
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_the_kit_works_without_pytest():
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "from flask_taskqueue.testing import captured, drain, eager, run_worker"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
