"""The handle of a job where Redis hangs, and where RQ's own tools changed the job."""

from __future__ import annotations

import signal
import threading
import time
import typing as t

import pytest
from flask import Flask
from redis.exceptions import ResponseError
from rq.job import Job
from rq.serializers import JSONSerializer

from flask_taskqueue import AsyncResult, TaskQueue
from flask_taskqueue.errors import JobNotFound, ResultTimeout, TaskRevokedError

from .running import run_all
from .servers import Server

SLACK = 3.0
"""Factor for bounds on a busy machine."""


def bind(url: str) -> tuple[Flask, t.Any]:
    app = Flask(__name__)
    app.config["TASKQUEUE_URL"] = url
    tq = TaskQueue(app)

    @tq.task(name="fails", autoretry_for=(ValueError,), default_retry_delay=600)
    def fails() -> None:
        raise ValueError("no")

    return app, fails


def test_get_ends_in_time_when_redis_hangs(own_server: Server):
    app, fails = bind(own_server.url)
    with app.app_context():
        result = fails.delay()
        assert own_server.process is not None
        stop = threading.Timer(0.3, own_server.process.send_signal, [signal.SIGSTOP])
        stop.start()
        began = time.monotonic()
        try:
            with pytest.raises(ResultTimeout):
                result.get(timeout=1)
            assert time.monotonic() - began < 1.5 * SLACK
        finally:
            stop.join()
            own_server.process.send_signal(signal.SIGCONT)


def test_a_job_cancelled_by_rq_between_attempts_is_revoked(
    redis_url: str, client: t.Any
):
    app, fails = bind(redis_url)
    with app.app_context():
        result = fails.delay()
        run_all(app.extensions["taskqueue"].state, client, ["default"])
        assert (result.state, result.retries) == ("RETRY", 1)
        job = Job.fetch(result.id, connection=client, serializer=JSONSerializer)
        job.cancel()
        assert result.state == "REVOKED"
        with pytest.raises(TaskRevokedError):
            result.get(timeout=1)
        assert isinstance(result.info, TaskRevokedError)


def test_a_job_requeued_by_rq_begins_anew(redis_url: str, client: t.Any):
    app, fails = bind(redis_url)
    with app.app_context():
        result = fails.apply_async(max_retries=1, default_retry_delay=0)
        run_all(app.extensions["taskqueue"].state, client, ["default"])
        assert (result.state, result.retries) == ("FAILURE", 1)
        Job.fetch(result.id, connection=client, serializer=JSONSerializer).requeue()
        assert (result.state, result.info, result.traceback) == ("PENDING", {}, None)


def test_a_status_nobody_knows_is_ready(redis_url: str, client: t.Any):
    app, fails = bind(redis_url)
    with app.app_context():
        result = fails.delay()
        client.hset(f"rq:job:{result.id}", "status", "garbage")
        assert (result.state, result.ready()) == ("UNKNOWN", True)
        with pytest.raises(JobNotFound):
            result.get(timeout=1)


def test_an_id_that_is_no_text_is_unknown(redis_url: str):
    app, _ = bind(redis_url)
    with app.app_context():
        result: AsyncResult[t.Any] = AsyncResult("\ud800")
        assert (result.state, result.args) == ("UNKNOWN", None)


def test_a_refusal_is_not_taken_for_an_unknown_job(own_server: Server):
    with own_server.client() as admin:
        admin.acl_setuser("blind", enabled=True, nopass=True, commands=["+ping"])
    url = own_server.url.replace("redis://", "redis://blind:x@")
    app, _ = bind(url)
    with app.app_context(), pytest.raises(ResponseError, match="NOPERM|permission"):
        _ = AsyncResult[t.Any]("some-id").state
