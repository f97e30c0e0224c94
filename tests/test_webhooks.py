"""Webhooks of plain ``rq`` jobs: what RQ's worker sends, once the end is stored."""

from __future__ import annotations

import json
import threading
import typing as t
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import redis
from rq import Queue, Retry, Webhook
from rq.serializers import JSONSerializer, PickleSerializer

from flask_taskqueue.testing import drain

from . import plain_workers
from .running import InProcess
from .servers import free_port

Client = redis.Redis


def double(x: int) -> int:
    return x + x


def fail() -> None:
    raise ValueError("always")


def ask_again() -> Retry:
    return Retry(max=1)


class Endpoint:
    """An HTTP server that keeps what it was sent.

    :ivar look: Called with each request before it is answered.
    """

    def __init__(self) -> None:
        self.requests: list[dict[str, t.Any]] = []
        self.look: Callable[[BaseHTTPRequestHandler], object] = lambda request: None
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                size = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(size)
                endpoint.requests.append(
                    {
                        "method": self.command,
                        "path": self.path,
                        "type": self.headers.get("Content-Type"),
                        "token": self.headers.get("X-Token"),
                        "body": json.loads(body) if body else None,
                    }
                )
                endpoint.look(self)
                with suppress(ConnectionError):
                    self.send_response(500 if self.path == "/broken" else 200)
                    self.end_headers()

            do_GET = do_POST = answer

            def log_message(self, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.01])
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def hook(self, status: t.Any, path: str = "/", **given: t.Any) -> Webhook:
        return Webhook(self.url + path, status, **given)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    yield endpoint
    endpoint.close()


@pytest.fixture
def site(redis_url: str, client: Client) -> InProcess:
    names = [f"{__name__}.{name}" for name in ("double", "fail", "ask_again", "gone")]
    return InProcess(__name__, redis_url, client, TASKQUEUE_IMPORTABLE=names)


@pytest.fixture
def queue(site: InProcess) -> Queue:
    return Queue(connection=site.client, serializer=JSONSerializer)


@pytest.mark.parametrize(
    ("name", "args", "given", "sent"),
    [
        pytest.param("double", (2,), {}, 2, id="success"),
        pytest.param("fail", (), {}, 2, id="failure"),
        pytest.param("fail", (), {"retry": Retry(1)}, 2, id="after-the-last-retry"),
        pytest.param("ask_again", (), {}, 2, id="too-many-returned-retries"),
        pytest.param("gone", (), {}, 2, id="no-such-function"),
    ],
)
def test_the_requests_are_those_of_rqs_worker(
    site: InProcess,
    queue: Queue,
    endpoint: Endpoint,
    name: str,
    args: tuple[int, ...],
    given: dict[str, t.Any],
    sent: int,
):
    hooks = [
        endpoint.hook(status, f"/{status}/{method}", method=method, headers=headers)
        for status in ("finished", "failed")
        for method, headers in (("GET", None), ("POST", {"X-Token": "secret"}))
    ]
    seen = []
    for run in (lambda: plain_workers.run_one(site.client), lambda: drain(site.app)):
        job = queue.enqueue(f"{__name__}.{name}", *args, webhooks=hooks, **given)
        while queue.job_ids:
            run()
        job.refresh()
        for request in endpoint.requests:
            if (body := request["body"]) is not None:
                assert body.pop("job_id") == job.id
                assert body.pop("ended_at") == job.ended_at.isoformat()
                assert body.pop("enqueued_at") == job.enqueued_at.isoformat()
                # The frames are the worker's, and how it says that there is no
                # such function.
                trace = body.get("exc_info", "")
                body["exc_info"] = bool(trace), trace.endswith("Error: always\n")
        seen.append(list(endpoint.requests))
        endpoint.requests.clear()
    rqs, ours = seen
    assert ours == rqs
    assert len(ours) == sent


def test_a_webhook_is_sent_when_the_end_is_stored(
    site: InProcess, queue: Queue, endpoint: Endpoint
):
    job = queue.enqueue(double, 2, webhooks=[endpoint.hook("finished")])
    seen = []
    endpoint.look = lambda request: seen.append(
        (job.get_status(refresh=True).value, job.return_value())
    )
    drain(site.app)
    assert seen == [("finished", 4)]


def test_a_webhook_that_cannot_be_sent_is_logged_and_the_rest_is(
    site: InProcess,
    queue: Queue,
    endpoint: Endpoint,
    caplog: pytest.LogCaptureFixture,
):
    nobody = f"http://127.0.0.1:{free_port()}/nobody"
    hooks = [
        Webhook(nobody, "finished"),
        endpoint.hook("finished", "/broken", method="POST"),
        endpoint.hook("finished", "/good"),
    ]
    job = queue.enqueue(double, 2, webhooks=hooks)
    drain(site.app)
    assert job.get_status(refresh=True).value == "finished"
    assert [request["path"] for request in endpoint.requests] == ["/broken", "/good"]
    failed = [line for line in caplog.messages if line.startswith("Failed to send")]
    assert [nobody in failed[0], "/broken" in failed[1]] == [True, True]
    assert len(failed) == 2


def test_a_job_that_may_not_be_decoded_has_no_webhook(
    site: InProcess, queue: Queue, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
):
    """To build one, RQ decodes the call: a pickle would run code."""
    pickled = Queue(connection=site.client, serializer=PickleSerializer)
    job = pickled.enqueue(double, 2, webhooks=[endpoint.hook("failed", method="POST")])
    drain(site.app)
    assert site.client.hget(job.key, "status") == b"failed"
    assert endpoint.requests == []
    assert f"Job {job.id}: a webhook was not sent" in caplog.messages


def test_where_jobs_are_signed_an_unsigned_one_has_no_webhook(
    redis_url: str, client: Client, endpoint: Endpoint
):
    site = InProcess(
        __name__, redis_url, client, TASKQUEUE_SIGN=True, SECRET_KEY="s" * 32,
        TASKQUEUE_IMPORTABLE=[f"{__name__}.*"],
    )  # fmt: skip
    queue = Queue(connection=client, serializer=JSONSerializer)
    job = queue.enqueue(double, 2, webhooks=[endpoint.hook("failed")])
    drain(site.app)
    assert job.get_status(refresh=True).value == "failed"
    assert "BadSignature" in str(client.hget(job.key, "tq_error"))
    assert endpoint.requests == []
