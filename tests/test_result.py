"""The handle of a job where Redis hangs, and of jobs in odd states."""

from __future__ import annotations

import signal
import threading
import time
import typing as t

import pytest
import redis
from flask import Flask
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from flask_taskqueue import AsyncResult, Task, TaskQueue
from flask_taskqueue.errors import (
    Ignore,
    JobNotFound,
    ResultTimeout,
    TaskRevokedError,
)

from . import running
from .servers import Server

tq = TaskQueue()

SLACK = 3.0
"""Factor for bounds on a busy machine."""


@tq.task(bind=True, max_retries=1)
def flaky(self: Task[[float], None], countdown: float) -> None:
    self.update_state(state="WORKING", meta={"at": 1})
    raise self.retry(exc=ValueError("attempt"), countdown=countdown)


@tq.task(bind=True)
def skip(self: Task[[str], None], state: str = "SKIPPED") -> None:
    self.update_state(state=state, meta={"why": "so"})
    raise Ignore


def make_app(url: str) -> Flask:
    app = Flask(__name__)
    app.config["TASKQUEUE_URL"] = url
    tq.init_app(app)
    return app


@pytest.fixture
def app(redis_url: str) -> t.Iterator[Flask]:
    app = make_app(redis_url)
    with app.app_context():
        yield app
        tq.state.broker.close()


def fetch(client: redis.Redis, job_id: str) -> Job:
    return Job.fetch(job_id, connection=client, serializer=JSONSerializer)


def test_get_ends_in_time_when_redis_hangs(own_server: Server):
    app = make_app(own_server.url)
    with app.app_context():
        result = flaky.delay(0)
        assert own_server.process is not None
        stop = threading.Timer(0.3, own_server.process.send_signal, [signal.SIGSTOP])
        stop.start()
        began = time.monotonic()
        try:
            with pytest.raises(ResultTimeout, match="Redis was away"):
                result.get(timeout=1)
            assert 1 <= time.monotonic() - began < 1.5 * SLACK
        finally:
            stop.join()
            own_server.process.send_signal(signal.SIGCONT)
        tq.state.broker.close()


def reads(client: redis.Redis) -> int:
    """Blocking reads until now."""
    stats = t.cast(t.Any, client.info("commandstats"))
    return int(stats.get("cmdstat_xread", {}).get("calls", 0))


def test_get_of_a_new_job_reads_once_in_its_time(app: Flask, client: redis.Redis):
    before = reads(client)
    with pytest.raises(ResultTimeout, match="is PENDING"):
        flaky.delay(0).get(timeout=0.2)
    assert reads(client) - before == 1


def test_get_of_a_new_job_that_is_forgotten_does_not_wait(
    app: Flask, client: redis.Redis
):
    result = flaky.delay(0)
    result.forget()
    before = reads(client)
    with pytest.raises(JobNotFound):
        result.get(timeout=60)
    assert reads(client) == before


def test_get_of_a_new_job_that_is_gone_waits_a_moment(app: Flask, client: redis.Redis):
    result = flaky.delay(0)
    client.flushall()
    before = reads(client)
    with pytest.raises(JobNotFound):
        result.get(timeout=60)
    assert reads(client) - before == 1


def test_get_bears_a_server_that_forgot_the_scripts(app: Flask, client: redis.Redis):
    result = flaky.delay(0)
    client.script_flush()
    with pytest.raises(ResultTimeout, match="is PENDING"):
        result.get(timeout=0.1)


def test_a_connection_serves_one_wait_after_the_other(app: Flask, client: redis.Redis):
    result = flaky.delay(0)

    def identities() -> set[str]:
        return {found["id"] for found in t.cast(t.Any, client.client_list())}

    def wait() -> None:
        with pytest.raises(ResultTimeout, match="is PENDING"):
            result.get(timeout=0.05)

    wait()
    known = identities()
    wait()
    wait()
    # Fewer there may be: garbage of earlier tests is collected at any time.
    assert identities() <= known


@pytest.mark.parametrize("way", ["rq", "ours"])
def test_a_revoked_job_was_revoked_whatever_it_failed_with_before(
    app: Flask, client: redis.Redis, way: str
):
    result = flaky.delay(60)
    running.run_all(tq.state, client)
    assert (result.state, str(result.info)) == ("RETRY", "attempt")
    assert "ValueError" in (result.traceback or "")
    if way == "rq":
        fetch(client, result.id).cancel()
    else:
        result.revoke()
    assert (result.state, result.ready()) == ("REVOKED", True)
    with pytest.raises(TaskRevokedError, match="revoked"):
        result.get(timeout=1)
    for error in (result.info, result.result, result.get(propagate=False)):
        assert isinstance(error, TaskRevokedError)
    assert result.traceback is None


def test_a_requeued_job_waits_as_a_new_one(app: Flask, client: redis.Redis):
    result = flaky.delay(0)
    running.run_all(tq.state, client)
    assert (result.state, result.retries) == ("FAILURE", 1)
    assert len(result.errors) == 2
    fetch(client, result.id).requeue()
    assert (result.state, result.ready()) == ("PENDING", False)
    assert (result.info, result.result, result.traceback) == ({}, None, None)
    assert (result.progress, result.retries, result.errors) == (None, 0, [])
    with pytest.raises(ResultTimeout, match="is PENDING"):
        result.get(timeout=0)
    claimed = running.claim(client)
    assert claimed is not None
    assert (result.state, result.result, result.retries) == ("STARTED", None, 0)
    running.run(tq.state, client, claimed)
    assert (result.state, result.retries) == ("RETRY", 1)


def test_a_requeued_job_that_was_ignored_says_nothing(app: Flask, client: redis.Redis):
    result = skip.delay()
    running.run_all(tq.state, client)
    assert (result.state, result.info) == ("SKIPPED", {"why": "so"})
    Queue(connection=client, serializer=JSONSerializer).enqueue_job(
        fetch(client, result.id)
    )
    assert (result.state, result.info, result.progress) == ("PENDING", {}, None)


@pytest.mark.parametrize("state", ["SKIPPED", "SUCCESS", "FAILURE", "REVOKED"])
def test_what_a_task_said_before_ignore_is_the_last_word(
    app: Flask, client: redis.Redis, state: str
):
    result = skip.delay(state)
    running.run_all(tq.state, client)
    assert (result.state, result.ready()) == (state, True)
    assert (result.info, result.result, result.get()) == ({"why": "so"}, None, None)
    assert result.successful() is (state == "SUCCESS")
    assert result.failed() is (state == "FAILURE")


@pytest.mark.parametrize("status", ["odd", "FINISHED", "?"])
def test_of_an_unknown_status_nothing_more_is_to_come(
    app: Flask, client: redis.Redis, status: str
):
    result = flaky.delay(0)
    client.hset(f"rq:job:{result.id}", "status", status)
    assert (result.state, result.ready()) == ("UNKNOWN", True)
    assert (result.successful(), result.failed(), result.info) == (False, False, {})
    with pytest.raises(JobNotFound):
        result.get(timeout=1)


@pytest.mark.parametrize(
    "said", ["PENDING", "RETRY", "SUCCESS", "FAILURE", "REVOKED", "UNKNOWN"]
)
def test_a_task_that_says_it_has_ended_still_runs(
    app: Flask, client: redis.Redis, said: str
):
    result = flaky.delay(0)
    fields = {"status": "started", "tq_state": said, "tq_info": "{}"}
    client.hset(f"rq:job:{result.id}", mapping=fields)
    assert (result.state, result.ready()) == ("STARTED", False)
    assert (result.successful(), result.failed()) == (False, False)
    with pytest.raises(ResultTimeout):
        result.get(timeout=0)


@pytest.mark.parametrize("eager", [False, True], ids=["redis", "eager"])
@pytest.mark.parametrize("job_id", ["\ud800", "x\udfff" * 100], ids=["one", "many"])
def test_an_id_no_bytes_can_hold_is_unknown(app: Flask, job_id: str, eager: bool):
    app.config["TASKQUEUE_EAGER"] = eager
    result: AsyncResult[object] = AsyncResult(job_id)
    assert (result.state, result.ready(), result.exists()) == ("UNKNOWN", True, False)
    assert (result.args, result.name, result.errors) == (None, None, [])
    with pytest.raises(JobNotFound):
        result.get(timeout=1)
    result.revoke()
    result.forget()


@pytest.mark.parametrize("job_id", [None, 7, b"id"])
def test_what_is_no_id_is_refused_at_once(job_id: t.Any):
    with pytest.raises(TypeError, match="expected the id of a job, a str, got"):
        AsyncResult(job_id)


def test_the_name_of_a_plain_job_is_without_its_arguments(
    app: Flask, client: redis.Redis
):
    queue = Queue(connection=client, serializer=JSONSerializer)
    job = queue.enqueue("mail.send", "hush", key="hush-hush")
    assert "hush" in job.description
    assert AsyncResult(job.id).name == "mail.send"


@pytest.mark.parametrize("read", ["state", "args"])
def test_a_refusal_is_not_taken_for_an_unknown_job(own_server: Server, read: str):
    with own_server.client() as admin:
        admin.acl_setuser("blind", enabled=True, nopass=True, commands=["+ping"])
    app = make_app(own_server.url.replace("redis://", "redis://blind:x@"))
    with app.app_context():
        with pytest.raises(redis.ResponseError, match="NOPERM|permission"):
            getattr(AsyncResult[object]("some-id"), read)
        tq.state.broker.close()
