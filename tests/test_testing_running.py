"""What a test has enqueued is run: in its process, or by a worker."""

from __future__ import annotations

import os
import signal
import sys
import threading
import typing as t
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from flask import Flask

from flask_taskqueue import JobInfo
from flask_taskqueue.errors import (
    BrokerUnavailable,
    TaskQueueError,
    TaskRevokedError,
)
from flask_taskqueue.signals import job_revoked
from flask_taskqueue.testing import captured, drain, eager, run_worker

from .running import InProcess
from .servers import eventually
from .shop import NOWHERE, Shop


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
    before = len(client.client_list())
    shop.note.delay("a")
    drain(shop.app)
    shop.tq.state.broker.close()
    eventually(lambda: len(client.client_list()) <= before)
    assert client.zcard("rq:wip:default") == 0


@pytest.mark.parametrize("run", [drain, run_worker])
def test_without_redis_it_fails_soon(unplugged: Shop, run):
    with pytest.raises(BrokerUnavailable, match="127.0.0.1:1"):
        run(unplugged.app)


@pytest.mark.parametrize("run", [drain, run_worker])
def test_a_queue_no_worker_can_serve_is_refused(shop: Shop, run):
    with pytest.raises(ValueError, match="queue"):
        run(shop.app, queues=["a b"])


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
