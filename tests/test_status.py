"""``GET /tasks/<id>`` and ``tq.accepted()``: the exact answers."""

from __future__ import annotations

import time
import typing as t
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from flask import Response
from flask.json.provider import DefaultJSONProvider
from flask.testing import FlaskClient
from rq.job import Job
from rq.serializers import JSONSerializer
from werkzeug.test import TestResponse

from flask_taskqueue import AsyncResult, Task
from flask_taskqueue.errors import BrokerUnavailable

from .running import InProcess, claim
from .servers import Server

UNKNOWN = "12345678-1234-4234-8234-123456789abc"


class Site(InProcess):
    """An app with the endpoint, and what its views may do."""

    def __init__(self, url: str, client: redis.Redis, **config: object) -> None:
        super().__init__("statusapp", url, client, **config)
        task = self.tq.task
        self.add = task(name="add")(lambda x, y: x + y)
        self.fail = task(name="fail", max_retries=0)(_fail)
        self.give = task(name="give")(lambda: _GIVEN[0])
        self.halfway = task(name="halfway", bind=True)(self._halfway)
        self.again = task(name="again", bind=True, max_retries=2)(_again)
        self.parent = task(name="parent")(lambda: str(self.add.delay(1, 1)))

        @self.app.route("/start/<int:x>", methods=["GET", "POST"])
        def start(x: int) -> Response:
            return self.tq.accepted(self.add.delay(x, 1))

    def _halfway(self, task: Task[..., None], meta: object) -> None:
        task.update_state(state="HALF", meta=meta)
        assert task.request.id is not None
        _GIVEN[0] = self.get(task.request.id)

    @property
    def page(self) -> FlaskClient:
        return self.app.test_client()

    def get(self, job_id: str, **kwargs: t.Any) -> TestResponse:
        return self.page.get(f"/tasks/{job_id}", **kwargs)


_GIVEN: list[object] = [None]


def _fail(message: str) -> t.NoReturn:
    raise ValueError(message)


def _again(self: Task[[], None]) -> t.NoReturn:
    raise self.retry(exc=ValueError("not yet"), countdown=100)


@pytest.fixture
def site(redis_url: str, client: redis.Redis) -> Iterator[Site]:
    site = Site(redis_url, client)
    with site.app.app_context():
        yield site


def links(job_id: str, prefix: str = "/tasks") -> dict[str, str]:
    return {"self": f"{prefix}/{job_id}", "events": f"{prefix}/{job_id}/events"}


def expected(asked: AsyncResult[t.Any], /, **changes: object) -> dict[str, object]:
    """The answer for a job that waits, but for some of its keys."""
    return {
        "id": asked.id,
        "task": "add",
        "state": "PENDING",
        "ready": False,
        "successful": False,
        "result": None,
        "error": None,
        "progress": None,
        "queue": "default",
        "retries": 0,
        "max_retries": 3,
        "recoveries": 0,
        "eta": None,
        "enqueued_at": None,
        "started_at": None,
        "ended_at": None,
        "runtime": None,
        "children": [],
        "links": links(asked.id),
        **changes,
    }


def stamp(site: Site, result: AsyncResult[t.Any], field: str) -> str:
    """A stored time as the endpoint writes it: cut to milliseconds, offset named."""
    raw = t.cast(bytes, site.client.hget(f"rq:job:{result.id}", field)).decode()
    assert raw.endswith("Z")
    return f"{raw[:23]}+00:00"


def stamps(site: Site, result: AsyncResult[t.Any], *names: str) -> dict[str, str]:
    return {name: stamp(site, result, name) for name in names}


def body(answer: TestResponse, status: int = 200) -> dict[str, t.Any]:
    assert answer.status_code == status
    assert answer.mimetype == "application/json"
    return t.cast("dict[str, t.Any]", answer.get_json())


def test_a_job_that_waits(site: Site):
    result = site.add.delay(1, 2)
    answer = site.get(result.id)
    assert body(answer) == expected(result, **stamps(site, result, "enqueued_at"))
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert "ETag" not in answer.headers


def test_a_job_that_is_scheduled(site: Site):
    eta = datetime.now(UTC).replace(microsecond=123_456) + timedelta(hours=1)
    result = site.add.apply_async((1, 2), eta=eta, queue="mail", max_retries=None)
    assert body(site.get(result.id)) == expected(
        result,
        queue="mail",
        max_retries=None,
        eta=eta.isoformat(timespec="milliseconds"),
    )


def test_a_job_that_runs(site: Site):
    result = site.add.delay(1, 2)
    claim(site.client)
    answer = site.get(result.id)
    assert body(answer) == expected(
        result, state="STARTED", **stamps(site, result, "enqueued_at", "started_at")
    )
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    "meta", [{"current": 1, "total": 4}, {"text": "ščř"}, {"list": [1, None]}]
)
def test_a_job_that_says_how_far_it_is(site: Site, meta: object):
    result = site.halfway.delay(meta)
    site.run_all()
    answer = t.cast(TestResponse, _GIVEN[0])  # asked while it ran
    assert body(answer) == expected(
        result,
        task="halfway",
        state="HALF",
        progress=meta,
        **stamps(site, result, "enqueued_at", "started_at"),
    )
    assert answer.headers["Retry-After"] == "1"
    assert body(site.get(result.id))["state"] == "SUCCESS"


def test_a_job_that_waits_for_its_retry(site: Site):
    result = site.again.delay()
    site.run_all()
    found = body(site.get(result.id))
    eta = datetime.fromisoformat(found["eta"]) - datetime.now(UTC)
    assert timedelta(seconds=90) < eta <= timedelta(seconds=100)
    assert found == expected(
        result,
        task="again",
        state="RETRY",
        error={"type": "ValueError", "message": "not yet"},
        retries=1,
        max_retries=2,
        eta=found["eta"],
        **stamps(site, result, "enqueued_at"),
    )


def test_a_job_that_succeeded(site: Site):
    result = site.add.delay(1, 2)
    site.run_all()
    answer = site.get(result.id)
    found = body(answer)
    assert 0 <= found["runtime"] < 5
    assert found == expected(
        result,
        state="SUCCESS",
        ready=True,
        successful=True,
        result=3,
        runtime=found["runtime"],
        **stamps(site, result, "enqueued_at", "started_at", "ended_at"),
    )
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert answer.headers["ETag"]
    assert "Retry-After" not in answer.headers


def test_a_job_that_failed(site: Site):
    result = site.fail.delay("secret-free text")
    site.run_all()
    found = body(site.get(result.id))
    assert found == expected(
        result,
        task="fail",
        state="FAILURE",
        ready=True,
        error={"type": "ValueError", "message": "secret-free text"},
        max_retries=0,
        runtime=found["runtime"],
        **stamps(site, result, "enqueued_at", "started_at", "ended_at"),
    )


def test_a_job_that_was_revoked(site: Site):
    result = site.add.delay(1, 2)
    result.revoke()
    assert body(site.get(result.id)) == expected(
        result,
        state="REVOKED",
        ready=True,
        error={"type": "TaskRevokedError", "message": "revoked"},
        **stamps(site, result, "enqueued_at", "ended_at"),
    )


def test_a_job_cancelled_by_rq_between_attempts_shows_no_old_error(site: Site):
    result = site.again.delay()
    site.run_all()
    job = Job.fetch(result.id, connection=site.client, serializer=JSONSerializer)
    job.cancel()
    found = body(site.get(result.id))
    assert (found["state"], found["error"]) == (
        "REVOKED",
        {"type": "TaskRevokedError", "message": "revoked"},
    )


def test_a_job_with_children(site: Site):
    result = site.parent.apply_async(link=site.add.si(2, 2))
    site.run_all()
    found = body(site.get(result.id))
    assert len(found["children"]) == 2
    assert found["children"][0] == found["result"]
    assert found["children"] == [child.id for child in result.children]


def test_arguments_are_never_shown(site: Site):
    result = site.add.apply_async((123_456, 654_321), headers={"owner": "carol"})
    text = site.get(result.id).get_data(as_text=True)
    assert "123456" not in text
    assert "carol" not in text


def problem(answer: TestResponse, status: int) -> dict[str, t.Any]:
    assert answer.status_code == status
    assert answer.mimetype == "application/problem+json"
    assert answer.headers["Cache-Control"] == "private, no-store"
    return t.cast("dict[str, t.Any]", answer.get_json(force=True))


def test_an_unknown_id(site: Site):
    assert problem(site.get(UNKNOWN), 404) == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "There is no such job.",
    }


def test_a_forgotten_job(site: Site):
    result = site.add.delay(1, 2)
    result.forget()
    problem(site.get(result.id), 404)


def test_a_job_whose_id_is_no_uuid_is_not_shown(site: Site):
    site.add.apply_async((1, 2), task_id="order-17")
    answer = site.get("order-17")
    assert answer.status_code == 404
    assert b"order-17" not in answer.data


def test_an_id_in_capitals_is_another_id(site: Site):
    given = UNKNOWN.upper()
    site.add.apply_async((1, 2), task_id=given)
    assert body(site.get(given))["links"] == links(given)
    problem(site.get(UNKNOWN), 404)


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
def test_nothing_can_be_changed(site: Site, method: str):
    result = site.add.delay(1, 2)
    assert getattr(site.page, method)(f"/tasks/{result.id}").status_code == 405
    assert result.state == "PENDING"


def test_the_apps_own_paths_below_the_prefix_stay_its_own(site: Site):
    @site.app.route("/tasks/<slug>")
    def own(slug: str) -> str:
        return f"own {slug}"

    @site.app.route("/tasks/")
    def index() -> str:
        return "index"

    result = site.add.delay(1, 2)
    page = site.page
    for path in ("order-17", "1234", f"{UNKNOWN}x", f"x{UNKNOWN}", UNKNOWN[:-1]):
        assert page.get(f"/tasks/{path}").get_data(as_text=True) == f"own {path}"
    assert page.get("/tasks/").get_data(as_text=True) == "index"
    assert body(page.get(f"/tasks/{result.id}"))["id"] == result.id
    problem(page.get(f"/tasks/{UNKNOWN}"), 404)


def test_a_known_answer_is_not_sent_again(site: Site):
    result = site.add.delay(1, 2)
    site.run_all()
    first = site.get(result.id)
    again = site.get(result.id, headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304
    assert again.data == b""
    assert again.headers["ETag"] == first.headers["ETag"]
    assert again.headers["Cache-Control"] == "private, no-cache"
    other = site.get(result.id, headers={"If-None-Match": '"other"'})
    assert body(other) == first.get_json()


def test_the_etag_changes_with_the_answer(site: Site):
    result = site.add.delay(1, 2)
    site.run_all()
    before = site.get(result.id).headers["ETag"]
    result.forget()
    assert site.get(result.id, headers={"If-None-Match": before}).status_code == 404
    site.client.delete(f"rq:job:{result.id}")
    site.add.apply_async((2, 2), task_id=result.id)
    waiting = site.get(result.id, headers={"If-None-Match": before})
    assert body(waiting)["state"] == "PENDING"
    site.run_all()
    after = site.get(result.id, headers={"If-None-Match": before})
    assert body(after)["result"] == 4
    assert after.headers["ETag"] != before


def test_head(site: Site):
    result = site.add.delay(1, 2)
    site.run_all()
    answer = site.page.head(f"/tasks/{result.id}")
    assert (answer.status_code, answer.data) == (200, b"")
    assert answer.headers["ETag"] == site.get(result.id).headers["ETag"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        pytest.param(None, None, id="none"),
        pytest.param({"a": [1, 2.5, None]}, {"a": [1, 2.5, None]}, id="json"),
        pytest.param("ščř \u2028", "ščř \u2028", id="text"),
        pytest.param(
            datetime(2026, 1, 2, tzinfo=UTC), "Fri, 02 Jan 2026 00:00:00 GMT", id="date"
        ),
    ],
)  # fmt: skip
def test_a_result_is_written_as_the_app_writes_json(site: Site, value, shown):
    _GIVEN[0] = value
    result = site.give.delay()
    site.run_all()
    found = body(site.get(result.id))
    assert (found["state"], found["result"]) == ("SUCCESS", shown)
    assert "result_type" not in found


def test_a_result_that_is_no_json_is_named_by_its_type(site: Site):
    _GIVEN[0] = b"\xff"
    result = site.give.delay()
    site.run_all()
    found = body(site.get(result.id))
    assert (found["result"], found["result_type"]) == (None, "bytes")
    assert result.get(timeout=1) == b"\xff"


@pytest.mark.parametrize("value", [float("nan"), [1.0, float("-inf")]], ids=repr)
def test_a_number_that_is_no_json_is_named_by_its_type(site: Site, value):
    _GIVEN[0] = value
    result = site.give.delay()
    site.run_all()
    found = body(site.get(result.id))
    assert (found["result"], found["result_type"]) == (None, type(value).__name__)


def test_a_text_that_only_reads_so_is_shown(site: Site):
    _GIVEN[0] = "NaN, Infinity"
    result = site.give.delay()
    site.run_all()
    assert body(site.get(result.id))["result"] == "NaN, Infinity"


def test_a_result_no_text_can_hold_is_named_by_its_type(site: Site):
    site.app.json.ensure_ascii = False  # type: ignore[attr-defined]
    _GIVEN[0] = "\ud800"
    result = site.give.delay()
    site.run_all()
    found = body(site.get(result.id))
    assert (found["result"], found["result_type"]) == (None, "str")


def test_an_error_no_text_can_hold_is_shown_as_far_as_it_goes(site: Site):
    site.app.json.ensure_ascii = False  # type: ignore[attr-defined]
    result = site.fail.delay("no \ud800")
    site.run_all()
    assert body(site.get(result.id))["error"]["message"] == "no ?"


def test_a_job_is_written_once(site: Site):
    class Counting(DefaultJSONProvider):
        def dumps(self, obj: t.Any, **kwargs: t.Any) -> str:
            written.append(obj)
            return super().dumps(obj, **kwargs)

    written: list[object] = []
    result = site.add.delay(1, 2)
    site.run_all()
    site.app.json = Counting(site.app)
    assert body(site.get(result.id))["result"] == 3
    assert len(written) == 1


class Trap:
    """Unpickling one makes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[t.Any, ...]:
        return open, (self.path, "w")


def test_a_pickled_result_is_not_decoded(redis_url, client, tmp_path: Path):
    site = Site(
        redis_url, client, TASKQUEUE_SIGN=True, SECRET_KEY="s",
        TASKQUEUE_SERIALIZER="pickle",
    )  # fmt: skip
    with site.app.app_context():
        trap = tmp_path / "trap"
        _GIVEN[0] = Trap(str(trap))
        result = site.give.delay()
        site.run_all()
        found = body(site.get(result.id))
        assert found["state"] == "SUCCESS"
        assert (found["result"], found["result_type"]) == (None, "pickle")
        assert not trap.exists()


def test_a_traceback_is_shown_in_debug_mode_only(redis_url, client):
    site = Site(redis_url, client)
    with site.app.app_context():
        result = site.fail.delay("no")
        site.run_all()
        assert "traceback" not in body(site.get(result.id))
        site.app.debug = True
        found = body(site.get(result.id))
        assert found["traceback"].startswith("Traceback (most recent call last)")
        assert found["traceback"].endswith("ValueError: no\n")
        assert found["error"] == {"type": "ValueError", "message": "no"}


def test_another_prefix(redis_url, client):
    site = Site(redis_url, client, TASKQUEUE_STATUS_PREFIX="/api/jobs")
    with site.app.app_context():
        result = site.add.delay(1, 2)
        assert site.get(result.id).status_code == 404
        found = body(site.page.get(f"/api/jobs/{result.id}"))
        assert found["links"] == links(result.id, "/api/jobs")


def test_without_a_prefix_there_is_no_endpoint(redis_url, client):
    site = Site(redis_url, client, TASKQUEUE_STATUS_PREFIX=None)
    with site.app.app_context():
        result = site.add.delay(1, 2)
        assert site.get(result.id).status_code == 404
    assert "taskqueue.status" not in site.app.view_functions
    answer = site.page.post("/start/1")
    assert answer.status_code == 202
    assert "Location" not in answer.headers
    assert answer.get_json()["links"] == {}


def test_an_app_below_a_path_links_there(site: Site):
    result = site.add.delay(1, 2)
    answer = site.get(result.id, base_url="https://example.org/shop")
    assert answer.get_json()["links"] == links(result.id, "/shop/tasks")


def test_a_view_answers_where_to_ask(site: Site):
    answer = site.page.post("/start/5")
    found = body(answer, 202)
    result = AsyncResult[int](found["id"])
    assert found == expected(result, **stamps(site, result, "enqueued_at"))
    assert answer.headers["Location"] == f"/tasks/{result.id}"
    assert answer.headers["Retry-After"] == "1"
    assert answer.headers["Cache-Control"] == "private, no-store"
    site.run_all()
    assert body(site.page.get(answer.headers["Location"]))["result"] == 6


def test_an_eager_job_is_accepted_and_asked_for(redis_url, client):
    site = Site("redis://127.0.0.1:1/0", client, TASKQUEUE_EAGER=True)
    answer = site.page.post("/start/5", headers={"If-None-Match": "*"})
    found = body(answer, 202)
    assert (found["state"], found["result"], found["ready"]) == ("SUCCESS", 6, True)
    assert "ETag" not in answer.headers
    assert body(site.page.get(answer.headers["Location"])) == found
    # Also where a conditional GET asks a view that accepts.
    assert site.page.get("/start/5", headers={"If-None-Match": "*"}).status_code == 202


def test_a_job_that_is_gone_is_accepted_no_more(site: Site):
    result = site.add.delay(1, 2)
    result.forget()
    with site.app.test_request_context():
        answer = site.tq.accepted(result)
    assert answer.status_code == 404


def test_a_job_that_cannot_be_read_is_accepted_no_more(site: Site):
    for field in ("origin", "status"):
        result = site.add.delay(1, 2)
        site.client.hset(f"rq:job:{result.id}", field, b"\xff")
        with site.app.test_request_context():
            assert site.tq.accepted(result).status_code == 404


def test_a_call_is_accepted_though_redis_went_away_since(
    own_server: Server, client: redis.Redis
):
    site = Site(own_server.url, client)
    with site.app.app_context():
        result = site.add.delay(1, 2)
        own_server.stop()
        with site.app.test_request_context():
            answer = site.tq.accepted(result)
    assert answer.status_code == 202
    assert answer.get_json() == {"id": result.id, "links": links(result.id)}
    assert answer.headers["Location"] == f"/tasks/{result.id}"


def test_an_id_is_accepted_as_its_result_is(site: Site):
    result = site.add.delay(1, 2)
    with site.app.test_request_context():
        by_id, by_result = (site.tq.accepted(what) for what in (result.id, result))
        assert by_id.status_code == 202
        assert by_id.data == by_result.data
        assert by_id.headers == by_result.headers
        with pytest.raises(TypeError, match="expected the id of a job, a str, got"):
            site.tq.accepted(None)  # type: ignore[arg-type]


@pytest.fixture(params=["refused", "silent"])
def away(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a server that refuses, or that takes connections and says nothing."""
    if request.param == "refused":
        yield "redis://127.0.0.1:1/0"
        return
    with Server(tmp_path / "server", tcp=True) as server:
        assert server.process is not None
        server.process.send_signal(19)
        yield server.url


def test_redis_is_away(away: str, client: redis.Redis):
    site = Site(away, client)
    began = time.monotonic()
    answer = site.get(UNKNOWN)
    assert time.monotonic() - began < 6  # 2 s, and slack for a busy machine
    assert problem(answer, 503) == {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "Redis cannot be reached; ask again.",
    }
    assert answer.headers["Retry-After"] == "1"


def test_a_call_fails_soon_while_redis_is_away(away: str, client: redis.Redis):
    site = Site(away, client)

    @site.app.errorhandler(BrokerUnavailable)
    def away_page(error: BrokerUnavailable) -> tuple[str, int]:
        return "later", 503

    began = time.monotonic()
    assert site.page.post("/start/1").status_code == 503
    assert time.monotonic() - began < 6  # 2 s, and slack for a busy machine


def test_it_is_back(own_server: Server, client: redis.Redis):
    site = Site(own_server.url, client)
    assert site.get(UNKNOWN).status_code == 404
    own_server.stop()
    assert site.get(UNKNOWN).status_code == 503
    own_server.start()
    assert site.get(UNKNOWN).status_code == 404
