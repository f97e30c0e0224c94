"""``/events`` and ``?wait=``: what they answer, and what they hold meanwhile."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import typing as t
import warnings
from collections.abc import Iterator

import pytest
import redis
from flask import Response, g, has_app_context, has_request_context, session
from flask.json.provider import DefaultJSONProvider
from rq.job import Job
from rq.serializers import JSONSerializer
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder, TestResponse

from flask_taskqueue import AsyncResult, Task
from flask_taskqueue.broker import scripts
from flask_taskqueue.broker.wire import Claimed, Lease
from flask_taskqueue.web import events, waiting, watching

from .running import InProcess, claim, run
from .servers import Server, eventually

UNKNOWN = "12345678-1234-4234-8234-123456789abc"


class Site(InProcess):
    """An app with the endpoint and two tasks."""

    def __init__(self, url: str, client: redis.Redis, **config: object) -> None:
        super().__init__("eventsapp", url, client, **config)
        self._answered = threading.Event()
        self._changes: list[threading.Thread] = []
        self.app.after_request(self._note)
        # Listeners of earlier tests live on for a while.
        self._others = {row["id"] for row in client.client_list()}
        self.add = self.tq.task(name="add")(lambda x, y: x + y)
        self.again = self.tq.task(name="again", bind=True)(_again)

    def get(self, path: str, **kwargs: t.Any) -> TestResponse:
        answer = self.app.test_client().get(f"/tasks/{path}", **kwargs)
        # A test must not end, and its server with it, in the middle of a change.
        while self._changes:
            self._changes.pop().join(20)
        return answer

    def stream(self, result: AsyncResult[t.Any], **kwargs: t.Any) -> Stream:
        return Stream(self.get(f"{result.id}/events", **kwargs))

    def _note(self, answer: Response) -> Response:
        self._answered.set()
        return answer

    @property
    def connections(self) -> list[dict[str, str]]:
        """Those of the app, as the server sees them."""
        rows = self.client.client_list()
        return [row for row in rows if row["id"] not in self._others]

    @property
    def listening(self) -> list[dict[str, str]]:
        """Those of them that listen to a job."""
        return [row for row in self.connections if row["sub"] != "0"]

    def soon(self, change: t.Callable[[], object]) -> None:
        """Do something in a thread, once the next request is past its view: by then
        it watches its job, and has seen it. ``get`` returns when it is done."""
        self._answered.clear()

        def wait_and_change() -> None:
            assert self._answered.wait(10)
            with self.app.app_context():
                change()

        thread = threading.Thread(target=wait_and_change, daemon=True)
        thread.start()
        self._changes.append(thread)


def _again(self: Task[[], None]) -> t.NoReturn:
    raise self.retry(exc=ValueError("not yet"), countdown=100)


class Event(t.NamedTuple):
    name: str
    data: t.Any
    id: str | None = None


class Stream:
    """A stream that a test reads part by part."""

    def __init__(self, answer: TestResponse) -> None:
        assert answer.status_code == 200, answer.get_data()
        assert answer.mimetype == "text/event-stream"
        self.answer = answer
        self._parts = answer.iter_encoded()

    def read(self) -> list[Event]:
        """Events of the next part."""
        return parse(next(self._parts).decode())

    def rest(self) -> list[Event]:
        """Events until the stream ends."""
        told = parse(b"".join(self._parts).decode())
        self.close()
        return told

    def close(self) -> None:
        self.answer.close()


def parse(text: str) -> list[Event]:
    """Events as a browser reads them."""
    found = []
    for block in text.split("\n\n"):
        pairs = [line.split(": ", 1) for line in block.split("\n") if ": " in line]
        if fields := [pair for pair in pairs if pair[0] != "retry"]:
            data = "\n".join(value for name, value in fields if name == "data")
            rest = dict(fields)
            found.append(Event(rest["event"], json.loads(data), rest.get("id")))
    return found


def state(name: str, *, ready: bool = False, retries: int = 0, recoveries: int = 0):
    data = {"ready": ready, "recoveries": recoveries, "retries": retries}
    return Event("state", {"state": name, **data})


@pytest.fixture
def site(redis_url: str, client: redis.Redis) -> Iterator[Site]:
    site = Site(redis_url, client)
    with site.app.app_context():
        yield site


def start(site: Site) -> Claimed:
    claimed = claim(site.client)
    assert claimed is not None
    return claimed


def say(site: Site, claimed: Claimed, name: str, info: object) -> None:
    fields = {"tq_state": name, "tq_info": json.dumps(info)}
    assert scripts.progress(site.client, claimed.lease, fields)


def test_a_stream_tells_a_job_from_its_beginning_to_its_end(site: Site):
    result = site.add.delay(1, 2)
    stream = site.stream(result)
    first = next(stream._parts).decode()
    assert first.startswith("retry: 1000\n\n")
    assert parse(first) == [state("PENDING")]
    claimed = start(site)
    assert stream.read() == [state("STARTED")]
    say(site, claimed, "PROGRESS", {"done": 1})
    assert stream.read() == [state("PROGRESS"), Event("progress", {"done": 1})]
    say(site, claimed, "PROGRESS", {"done": 2})
    assert stream.read() == [Event("progress", {"done": 2})]
    scripts.release(site.client, [claimed.lease], started=True)
    assert stream.read() == [state("PENDING"), Event("progress", None)]
    claimed = start(site)
    assert stream.read() == [state("STARTED")]
    run(site.tq.state, site.client, claimed)
    *others, end = stream.rest()
    whole = site.get(result.id)
    assert others == [state("SUCCESS", ready=True)]
    assert end == Event("end", whole.get_json(), whole.get_etag()[0])
    assert end.data["result"] == 3


def test_headers_of_a_stream(site: Site):
    stream = site.stream(site.add.delay(1, 2))
    assert dict(stream.answer.headers) == {
        "Content-Type": "text/event-stream; charset=utf-8",
        "Cache-Control": "private, no-store, no-transform",
        "X-Accel-Buffering": "no",
    }
    stream.close()


def test_a_job_whose_state_cannot_be_read_is_the_404_of_the_job(site: Site):
    result = site.add.delay(1, 2)
    site.client.hset(f"rq:job:{result.id}", "status", b"\xff")
    asked = site.get(result.id)
    for path in (f"{result.id}/events", f"{result.id}?wait=5"):
        answer = site.get(path, headers={"Last-Event-ID": "x"})
        assert (answer.status_code, answer.data) == (404, asked.data)


def test_a_job_that_has_ended_is_told_at_once(site: Site):
    result = site.add.delay(1, 2)
    site.run_all()
    told = site.stream(result).rest()
    assert [event.name for event in told] == ["state", "end"]
    assert told[1].data == site.get(result.id).get_json()


def test_who_has_seen_the_end_need_not_come_back(site: Site):
    result = site.add.delay(1, 2)
    site.run_all()
    end = site.stream(result).rest()[-1]
    answer = site.get(f"{result.id}/events", headers={"Last-Event-ID": end.id})
    assert (answer.status_code, answer.data) == (204, b"")
    other = {"Last-Event-ID": "other"}
    assert site.stream(result, headers=other).rest()[-1] == end


def test_a_job_of_another_life_is_told_to_who_has_seen_the_end(site: Site):
    result = site.add.delay(1, 2)
    site.run_all()
    seen = {"Last-Event-ID": site.stream(result).rest()[-1].id}
    site.add.apply_async((2, 2), task_id=result.id)
    stream = site.stream(result, headers=seen)
    assert stream.read() == [state("PENDING")]
    site.run_all()
    assert stream.rest()[-1].data["result"] == 4


def test_a_retry_is_told(site: Site):
    result = site.again.delay()
    stream = site.stream(result)
    stream.read()
    claimed = start(site)
    assert stream.read() == [state("STARTED")]
    run(site.tq.state, site.client, claimed)
    assert stream.read() == [state("RETRY", retries=1)]
    result.revoke()
    *_, end = stream.rest()
    assert (end.name, end.data["state"]) == ("end", "REVOKED")


def test_a_stream_of_a_job_that_is_forgotten_ends(site: Site):
    result = site.add.delay(1, 2)
    stream = site.stream(result)
    stream.read()
    result.forget()
    assert stream.rest() == []
    assert site.get(f"{result.id}/events").status_code == 404


def replace(site: Site, result: AsyncResult[t.Any]) -> None:
    """Let another job, that has ended, take a job's id."""
    changes = {"created_at": "2026-01-01T00:00:00Z", "status": "finished"}
    site.client.hset(f"rq:job:{result.id}", mapping=changes)
    site.client.publish(f"tq:job:{result.id}", "")


def test_another_job_that_took_the_id_is_not_streamed(site: Site):
    result = site.add.delay(1, 2)
    stream = site.stream(result)
    assert stream.read() == [state("PENDING")]
    replace(site, result)
    # Who comes back is authorised anew.
    assert stream.rest() == []


def test_another_job_that_took_the_id_is_not_waited_for(site: Site):
    result = site.add.delay(1, 2)
    site.soon(lambda: replace(site, result))
    answer = site.get(f"{result.id}?wait=20")
    assert (answer.get_json()["state"], answer.headers["Retry-After"]) == (
        "PENDING",
        "1",
    )


def test_a_stream_of_a_job_that_can_no_longer_be_read_ends(site: Site):
    result = site.add.delay(1, 2)
    stream = site.stream(result)
    stream.read()
    site.client.hset(f"rq:job:{result.id}", "origin", b"\xff")
    site.client.publish(f"tq:job:{result.id}", "")
    assert stream.rest() == []
    # Nor does it keep others from being told.
    other = site.stream(site.add.delay(1, 2))
    assert other.read() == [state("PENDING")]
    other.close()


def test_a_stream_is_kept_alive_and_closed(site: Site, monkeypatch):
    monkeypatch.setattr(events, "STREAM_LASTS", 0.5)
    monkeypatch.setattr(events, "COMMENT_EVERY", 0.2)
    stream = site.stream(site.add.delay(1, 2))
    parts = [part.decode() for part in stream._parts]
    assert parts[1:] == [":\n\n", ":\n\n"]


def test_json_of_many_lines_is_read_whole(site: Site):
    class Pretty(DefaultJSONProvider):
        def dumps(self, obj: t.Any, **kwargs: t.Any) -> str:
            return super().dumps(obj, **kwargs, indent=2)

    site.app.json = Pretty(site.app)
    result = site.add.delay("a\n\nb", "c")
    site.run_all()
    assert site.stream(result).rest()[-1].data["result"] == "a\n\nbc"


def test_head_starts_no_stream(site: Site):
    result = site.add.delay(1, 2)
    path = f"/tasks/{result.id}/events"
    answer = site.app.test_client().head(path)
    assert (answer.status_code, answer.data) == (200, b"")
    assert answer.mimetype == "text/event-stream"
    assert "Content-Length" not in answer.headers
    assert site.listening == []
    site.run_all()
    seen = {"Last-Event-ID": site.get(result.id).get_etag()[0]}
    assert site.app.test_client().head(path, headers=seen).status_code == 204


def test_a_stream_of_an_unknown_job_is_the_404_of_the_job(site: Site):
    asked, streamed = site.get(UNKNOWN), site.get(f"{UNKNOWN}/events")
    assert streamed.status_code == 404
    assert (streamed.data, streamed.headers) == (asked.data, asked.headers)


def test_an_eager_job_is_streamed(redis_url, client):
    site = Site("redis://127.0.0.1:1/0", client, TASKQUEUE_EAGER=True)
    with site.app.app_context():
        result = site.add.delay(1, 2)
        assert site.stream(result).rest()[-1].data["result"] == 3
        assert site.get(f"{result.id}?wait=5").get_json()["result"] == 3
        assert site.get(f"{UNKNOWN}/events").status_code == 404


def test_a_wait_is_over_when_the_job_has_ended(site: Site):
    result = site.add.delay(1, 2)
    site.soon(site.run_all)
    answer = site.get(f"{result.id}?wait=20")
    assert answer.get_json()["result"] == 3
    whole = site.get(result.id)
    assert answer.data == whole.data
    assert answer.headers == whole.headers


def test_a_wait_is_over_when_its_time_is_up(site: Site):
    result = site.add.delay(1, 2)
    site.soon(lambda: start(site))
    began = time.monotonic()
    answer = site.get(f"{result.id}?wait=0.5")
    assert time.monotonic() - began >= 0.5
    assert answer.get_json()["state"] == "STARTED"
    assert answer.data == site.get(result.id).data
    assert answer.headers == site.get(result.id).headers


def test_a_wait_for_a_job_that_has_ended_is_over_at_once(site: Site):
    result = site.add.delay(1, 2)
    site.run_all()
    answer = site.get(f"{result.id}?wait=20")
    assert (answer.data, answer.headers) == (
        site.get(result.id).data,
        site.get(result.id).headers,
    )
    tag = {"If-None-Match": answer.headers["ETag"]}
    assert site.get(f"{result.id}?wait=20", headers=tag).status_code == 304


def test_a_wait_ends_in_not_modified(site: Site):
    result = site.add.delay(1, 2)
    # What the answer will be is not known before: any tag matches "*".
    site.soon(site.run_all)
    answer = site.get(f"{result.id}?wait=20", headers={"If-None-Match": "*"})
    assert (answer.status_code, answer.data) == (304, b"")
    assert answer.headers["ETag"] == site.get(result.id).headers["ETag"]
    assert "Content-Type" not in answer.headers


def test_a_wait_for_a_job_that_is_forgotten_is_a_404(site: Site):
    result = site.add.delay(1, 2)
    site.soon(result.forget)
    answer = site.get(f"{result.id}?wait=20")
    gone = site.get(result.id)
    assert answer.status_code == 404
    assert (answer.data, answer.headers) == (gone.data, gone.headers)


def test_a_wait_for_a_job_that_can_no_longer_be_read_is_a_404(site: Site):
    result = site.add.delay(1, 2)

    def spoil() -> None:
        site.client.hset(f"rq:job:{result.id}", "origin", b"\xff")
        site.client.publish(f"tq:job:{result.id}", "")

    site.soon(spoil)
    answer = site.get(f"{result.id}?wait=20")
    gone = site.get(result.id)
    assert (answer.status_code, answer.data) == (404, gone.data)


@pytest.mark.parametrize("given", ["", "x", "-1", "nan", "-inf", "1s"])
def test_a_wait_of_no_number_of_seconds_is_refused(site: Site, given: str):
    for job_id in (UNKNOWN, site.add.delay(1, 2).id):
        answer = site.get(f"{job_id}?wait={given}")
        assert answer.status_code == 400
        assert answer.mimetype == "application/problem+json"
        assert answer.get_json()["detail"] == (
            "Expected wait to be a number of seconds from 0 to 20."
        )


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(None, 0), ("0", 0), ("1.5", 1.5), ("20", 20), ("21", 20), ("inf", 20)],
)
def test_a_wait_lasts_20_seconds_at_most(given: str | None, seconds: float):
    assert waiting.seconds_of(given) == seconds


def test_a_wait_for_an_unknown_job_is_over_at_once(site: Site):
    answer = site.get(f"{UNKNOWN}?wait=20")
    assert (answer.status_code, answer.data) == (404, site.get(UNKNOWN).data)


def environ(path: str, **kwargs: t.Any) -> dict[str, t.Any]:
    return EnvironBuilder(f"/tasks/{path}", **kwargs).get_environ()


@pytest.mark.parametrize("query", ["/events", "?wait=20"])
def test_no_context_is_held_meanwhile(redis_url, client, query: str):
    site = Site(redis_url, client)
    with site.app.app_context():
        result = site.add.delay(1, 2)
    left: list[str] = []
    site.app.teardown_request(lambda error: left.append("request"))
    site.app.teardown_appcontext(lambda error: left.append("app"))
    parts = site.app.wsgi_app(environ(f"{result.id}{query}"), lambda *args: print)
    # Whoever goes on has waited for nothing yet, and the contexts are gone.
    assert left == ["request", "app"]
    with site.app.app_context():
        site.run_all()
    seen = [has_app_context() or has_request_context() for _ in parts]
    assert seen
    assert not any(seen)
    parts.close()  # type: ignore[attr-defined]


def test_what_the_app_adds_to_a_wait_is_kept(site: Site):
    site.app.secret_key = "s"

    @site.app.before_request
    def remember() -> None:
        session["seen"] = True

    @site.app.after_request
    def add(answer: Response) -> Response:
        answer.headers["Access-Control-Allow-Origin"] = "*"
        answer.headers["Content-Encoding"] = "gzip"  # of the body it has then
        return answer

    result = site.add.delay(1, 2)
    site.soon(site.run_all)
    answer = site.get(f"{result.id}?wait=20")
    assert answer.get_json()["result"] == 3
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Set-Cookie"].startswith("session=")
    assert "Content-Encoding" not in answer.headers
    assert int(answer.headers["Content-Length"]) == len(answer.data)


def test_what_the_app_sets_comes_before_what_a_wait_sets(site: Site):
    @site.app.after_request
    def add(answer: Response) -> Response:
        if answer.is_json:
            assert answer.get_json()["id"]
        answer.add_etag()  # of the body it has then
        answer.headers["Cache-Control"] = "private, max-age=5"
        answer.headers["Content-Type"] = "application/vnd.shop+json"
        answer.headers.add("Vary", "Cookie")
        answer.headers.pop("Retry-After", None)
        return answer

    result = site.add.delay(1, 2)
    pending = site.get(f"{result.id}?wait=0.01")
    assert "Retry-After" not in pending.headers
    assert "ETag" not in pending.headers
    site.soon(site.run_all)
    answer = site.get(f"{result.id}?wait=20")
    whole = site.get(result.id)
    assert answer.data == whole.data
    assert dict(answer.headers) == dict(whole.headers)
    assert answer.headers["Content-Type"] == "application/vnd.shop+json"
    assert answer.headers["Cache-Control"] == "private, max-age=5"


def test_a_wait_is_streamed_to_what_the_app_does_with_answers(site: Site):
    seen: list[bool] = []

    @site.app.after_request
    def note(answer: Response) -> Response:
        seen.append(answer.is_streamed and not answer.is_json)
        return answer

    assert site.get(f"{site.add.delay(1, 2).id}?wait=0.01").is_json
    assert seen == [True]


class Marked(Response):
    """An app's own response, which marks what it sends."""

    def get_wsgi_headers(self, environ: t.Any) -> Headers:
        headers = super().get_wsgi_headers(environ)
        headers["X-Mark"] = "own"
        return headers


@pytest.mark.parametrize("query", ["?wait=20", "/events"])
def test_an_app_has_responses_of_its_own(redis_url, client, query: str):
    site = Site(redis_url, client)
    site.app.response_class = Marked
    with site.app.app_context():
        result = site.add.delay(1, 2)
        site.soon(site.run_all)
        answer = site.get(result.id + query)
        assert answer.headers["X-Mark"] == "own"
        assert b'"result":3' in answer.data.replace(b" ", b"")


def test_what_the_app_does_at_the_end_of_a_request_is_done_once(redis_url, client):
    site = Site(redis_url, client)
    with site.app.app_context():
        result = site.add.delay(1, 2)
    left: list[str | None] = []

    @site.app.before_request
    def begin() -> None:
        g.db = "db"

    @site.app.teardown_appcontext
    def end(error: BaseException | None) -> None:
        left.append(g.get("db"))

    assert site.get(f"{result.id}?wait=0.1").get_json()["state"] == "PENDING"
    assert left == ["db"]
    stream = site.stream(result)
    stream.read()
    start(site)
    assert stream.read() == [state("STARTED")]
    stream.close()
    assert left == ["db", "db"]


@pytest.fixture
def small(redis_url: str, client: redis.Redis) -> Iterator[Site]:
    """A site that holds one stream at once."""
    site = Site(redis_url, client, TASKQUEUE_MAX_STREAMS=1)
    with site.app.app_context():
        yield site


def refused(answer: TestResponse) -> bool:
    if answer.status_code == 200:
        answer.close()
        return False
    assert answer.status_code == 503
    assert answer.mimetype == "application/problem+json"
    assert answer.headers["Retry-After"] == "1"
    assert answer.get_json()["detail"] == (
        "This process holds as many streams as it may."
    )
    return True


def test_beyond_the_quota_streams_are_refused_and_waits_are_none(small: Site):
    result = small.add.delay(1, 2)
    stream = small.stream(result)
    assert refused(small.get(f"{result.id}/events"))
    assert refused(small.get(f"{UNKNOWN}/events"))
    began = time.monotonic()
    answer = small.get(f"{result.id}?wait=20")
    assert time.monotonic() - began < 10
    assert answer.get_json()["state"] == "PENDING"
    assert small.get(result.id).status_code == 200
    stream.close()
    assert not refused(small.get(f"{result.id}/events"))


def test_a_stream_that_has_ended_counts_no_more(small: Site):
    result = small.add.delay(1, 2)
    small.soon(small.run_all)
    for _ in range(3):
        assert small.get(f"{result.id}?wait=20").get_json()["ready"]
        assert small.stream(result).rest()
        assert small.get(f"{UNKNOWN}/events").status_code == 404


def test_a_slow_reader_of_the_end_counts_no_more(small: Site):
    result = small.add.delay(1, 2)
    stream = small.stream(result)
    stream.read()
    small.run_all()
    # It has the last part, and does not ask whether there is another.
    while stream.read()[-1].name != "end":
        pass
    late = small.stream(result)
    assert [event.name for event in late.read()] == ["state", "end"]
    assert not refused(small.get(f"{result.id}/events"))
    stream.close()
    late.close()


def test_an_answer_that_is_never_asked_for_counts_no_more(small: Site):
    result = small.add.delay(1, 2)
    for query in ("/events", "?wait=20"):
        parts = small.app.wsgi_app(environ(result.id + query), lambda *args: print)
        assert refused(small.get(f"{result.id}/events"))
        parts.close()  # type: ignore[attr-defined]
        assert not refused(small.get(f"{result.id}/events"))


def test_an_answer_that_the_app_drops_counts_no_more(small: Site):
    result = small.add.delay(1, 2)

    @small.app.after_request
    def replace(answer: Response) -> Response:
        return Response("other")

    for query in ("/events", "?wait=20"):
        assert small.get(result.id + query).text == "other"
    assert watching.hub_of(small.tq.state).wanted() == (set(), set())


def test_a_quota_of_none_leaves_plain_answers(redis_url, client):
    site = Site(redis_url, client, TASKQUEUE_MAX_STREAMS=0)
    with site.app.app_context():
        result = site.add.delay(1, 2)
        assert refused(site.get(f"{result.id}/events"))
        answer = site.get(f"{result.id}?wait=20")
        assert answer.get_json()["links"] == {"self": f"/tasks/{result.id}"}
        assert site.listening == []


def test_one_connection_listens_for_all(redis_url, client):
    site = Site(redis_url, client, TASKQUEUE_MAX_STREAMS=100)
    with site.app.app_context():
        jobs = [site.add.delay(n, 1) for n in range(20)]
        streams = [site.stream(result) for result in jobs * 2]
        for stream in streams:
            assert stream.read() == [state("PENDING")]
        (listening,) = site.listening
        assert int(listening["sub"]) == 20
        # One that enqueues and reads, one that listens.
        assert len(site.connections) == 2
        site.run_all()
        for number, stream in enumerate(streams):
            assert stream.rest()[-1].data["result"] == number % 20 + 1
        again = site.stream(jobs[0])
        again.read()
        (listening,) = site.listening
        assert int(listening["sub"]) == 1
        again.close()


def test_when_nobody_watches_the_connection_ends(site: Site, monkeypatch):
    monkeypatch.setattr(watching, "IDLE", 0.1)
    monkeypatch.setattr(watching, "LOOK_EVERY", 0.1)
    for _ in range(2):
        stream = site.stream(site.add.delay(1, 2))
        stream.read()
        (listening,) = site.listening
        stream.close()
        eventually(
            lambda gone=listening["id"]: (
                gone not in {row["id"] for row in site.client.client_list()}
            )
        )


def test_what_rqs_own_tools_change_is_told_later(site: Site, monkeypatch):
    monkeypatch.setattr(watching, "LOOK_EVERY", 0.2)
    result = site.add.delay(1, 2)
    stream = site.stream(result)
    stream.read()
    job = Job.fetch(result.id, connection=site.client, serializer=JSONSerializer)
    job.cancel()
    assert stream.rest()[-1].data["state"] == "REVOKED"


def test_a_forked_child_listens_by_itself(site: Site):
    result = site.add.delay(1, 2)
    stream = site.stream(result)
    stream.read()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads and fork
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            told = site.stream(result).read()
            code = 0 if told == [state("PENDING")] else 2
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    site.run_all()
    assert stream.rest()[-1].data["result"] == 3


def test_a_forked_child_closes_what_it_inherits(site: Site):
    stream = site.stream(site.add.delay(1, 2))
    stream.read()
    hub = watching.hub_of(site.tq.state)
    held, forked = threading.Event(), threading.Event()

    def hold() -> None:
        with hub._lock:  # as a thread that watches does, for moments
            held.set()
            forked.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads and fork
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(10)
            stream.close()
            code = 0
        finally:
            os._exit(code)
    forked.set()
    thread.join()
    assert os.waitpid(pid, 0)[1] == 0
    stream.close()


def restart(server: Server, client: redis.Redis) -> None:
    server.restart()
    # The test's own client would find its connection reset.
    client.connection_pool.disconnect()


def test_a_stream_outlives_a_restart_of_redis(own_server: Server):
    with own_server.client() as client:
        site = Site(own_server.url, client)
        with site.app.app_context():
            result = site.add.delay(1, 2)
            stream = site.stream(result)
            stream.read()
            restart(own_server, client)
            assert start(site).lease.id == result.id
            assert stream.read() == [state("STARTED")]
            stream.close()


def test_a_wait_outlives_a_restart_of_redis(own_server: Server):
    with own_server.client() as client:
        site = Site(own_server.url, client)
        with site.app.app_context():
            result = site.add.delay(1, 2)

            def restart_and_run() -> None:
                restart(own_server, client)
                site.run_all()

            site.soon(restart_and_run)
            answer = site.get(f"{result.id}?wait=20")
            assert answer.get_json()["result"] == 3


@pytest.mark.parametrize("query", ["/events", "?wait=1"])
def test_redis_is_away(client: redis.Redis, query: str):
    site = Site("redis://127.0.0.1:1/0", client)
    began = time.monotonic()
    answer = site.get(f"{UNKNOWN}{query}")
    assert time.monotonic() - began < 6  # 2 s, and slack for a busy machine
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.data == site.get(UNKNOWN).data


@pytest.mark.parametrize("query", ["/events", "?wait=1"])
def test_redis_says_nothing(own_server: Server, query: str):
    with own_server.client() as client:
        site = Site(own_server.url, client)
        assert own_server.process is not None
        own_server.process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        answer = site.get(f"{UNKNOWN}{query}")
        assert time.monotonic() - began < 6  # 2 s, and slack for a busy machine
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


def test_redis_goes_away_for_good_during_a_wait(own_server: Server):
    with own_server.client() as client:
        site = Site(own_server.url, client)
        with site.app.app_context():
            result = site.add.delay(1, 2)
            site.soon(own_server.stop)
            answer = site.get(f"{result.id}?wait=2")
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
            assert answer.mimetype == "application/problem+json"


def test_a_server_that_lets_nobody_listen_is_an_error_of_the_app(
    own_server: Server,
):
    with own_server.client() as client:
        site = Site(own_server.url, client)
        with site.app.app_context():
            result = site.add.delay(1, 2)
            client.execute_command("ACL", "SETUSER", "default", "-subscribe")
            site.tq.state.broker.close()
            assert site.get(f"{result.id}/events").status_code == 500
            assert site.get(result.id).status_code == 200


def test_a_server_that_lets_nobody_publish_is_asked_every_5_s(
    own_server: Server, monkeypatch
):
    monkeypatch.setattr(watching, "LOOK_EVERY", 0.2)
    with own_server.client() as client:
        site = Site(own_server.url, client)
        with site.app.app_context():
            client.execute_command("ACL", "SETUSER", "default", "-publish")
            site.tq.state.broker.close()
            stream = site.stream(result := site.add.delay(1, 2))
            stream.read()
            site.run_all()
            assert stream.rest()[-1].data["result"] == 3
            assert result.get(timeout=5) == 3


def test_every_change_is_told(site: Site):
    heard = site.client.pubsub()
    heard.psubscribe("tq:job:*")
    assert heard.get_message(timeout=5)["type"] == "psubscribe"

    def told() -> list[str]:
        """Ids that were told of, up to now."""
        site.client.publish("tq:job:now", "")
        found = []
        while (message := heard.get_message(timeout=5)) is not None:
            name = message["channel"].decode().removeprefix("tq:job:")
            if name == "now":
                return found
            found.append(name)
        raise AssertionError(f"nothing more came after {found}")

    result = site.add.delay(1, 2)
    assert told() == []  # Nobody can watch it yet.
    lease = start(site).lease
    assert told() == [result.id]
    scripts.progress(site.client, lease, {"tq_state": "HALF"})
    assert told() == [result.id]
    scripts.release(site.client, [lease], started=True)
    assert told() == [result.id]
    lease = start(site).lease
    _lose(site, lease)
    assert told() == [result.id] * 2
    lease = start(site).lease
    assert scripts.abandon(
        site.client, lease.execution, ran=lease.execution, reason="it died",
        queues=["default"],
    )  # fmt: skip
    assert told() == [result.id] * 2
    lease = start(site).lease
    assert scripts.retry(site.client, lease, due="", error=b"{}") == (1, 1)
    assert told() == [result.id] * 2
    lease = start(site).lease
    assert scripts.park(site.client, lease, "add")
    assert told() == [result.id] * 2
    result.revoke()
    assert told() == [result.id]
    result.forget()
    assert told() == [result.id]
    other = site.add.delay(1, 2)
    site.run_all()
    assert told() == [other.id] * 2


def _lose(site: Site, lease: Lease) -> None:
    """Let a lease expire and be found so."""
    member = f"{lease.id}:{lease.execution}"
    scripts.sweep(site.client, gap=6, lease=10, most=10)
    site.client.zadd("rq:wip:default", {member: time.time() + 86_400 - 60})
    assert scripts.sweep(site.client, gap=6, lease=10, most=10).recovered


@pytest.mark.parametrize("query", ["?wait=20", "/events"])
def test_a_late_answer_is_written_as_the_app_writes_json(site: Site, query: str):
    class Named(DefaultJSONProvider):
        def dumps(self, obj: t.Any, **kwargs: t.Any) -> str:
            return super().dumps(obj, **kwargs).replace("add", self._app.name)

    site.app.json = Named(site.app)
    result = site.add.delay(1, 2)
    site.soon(site.run_all)
    assert b'"eventsapp"' in site.get(result.id + query).data
