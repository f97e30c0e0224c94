"""``@tq.authorize_status``: who may ask, and ``DELETE``, which only it can allow."""

from __future__ import annotations

import time
import typing as t
from collections.abc import Iterator

import pytest
import redis
from flask import Flask, abort, has_request_context, request
from werkzeug.test import TestResponse

from flask_taskqueue import AsyncResult, JobInfo, TaskQueue

from .running import InProcess, claim

UNKNOWN = "12345678-1234-4234-8234-123456789abc"


class Site(InProcess):
    """An app whose authoriser says what the test says."""

    def __init__(
        self, url: str, client: redis.Redis, *, guarded: bool = True, **config: object
    ) -> None:
        super().__init__("guarded", url, client, **config)
        self.add = self.tq.task(name="add")(lambda x, y: x + y)
        self.fail = self.tq.task(name="fail", max_retries=0)(_fail)
        self.says: t.Any = True
        self.asked: list[JobInfo] = []
        if guarded:
            self.tq.authorize_status(self.decide)

    def decide(self, job: JobInfo) -> t.Any:
        assert has_request_context()
        self.asked.append(job)
        return self.says

    def get(self, path: str, **kwargs: t.Any) -> TestResponse:
        return self.app.test_client().get(f"/tasks/{path}", **kwargs)

    def delete(self, path: str, **kwargs: t.Any) -> TestResponse:
        return self.app.test_client().delete(f"/tasks/{path}", **kwargs)


def _fail() -> t.NoReturn:
    raise ValueError("no")


@pytest.fixture
def site(redis_url: str, client: redis.Redis) -> Iterator[Site]:
    site = Site(redis_url, client)
    with site.app.app_context():
        yield site


def answer_of(answer: TestResponse) -> tuple[int, bytes, list[tuple[str, str]]]:
    """All of an answer."""
    return answer.status_code, answer.get_data(), list(answer.headers)


def test_an_authoriser_is_told_of_the_job(site: Site):
    result = site.add.apply_async((1, 2), queue="mail", headers={"owner": "carol"})
    assert site.get(result.id).status_code == 200
    (job,) = site.asked
    assert (job.id, job.task, job.queue, job.state) == (
        result.id,
        "add",
        "mail",
        "PENDING",
    )
    assert job.headers == {"owner": "carol"}
    assert job.created_at is not None
    site.get(UNKNOWN)
    assert len(site.asked) == 1  # Nobody is asked about what there is not.


def test_an_owner_may_ask_and_others_may_not(redis_url, client):
    site = Site(redis_url, client, guarded=False)
    site.tq.authorize_status(
        lambda job: job.headers.get("owner") == request.args["user"]
    )
    with site.app.app_context():
        result = site.add.apply_async((1, 2), headers={"owner": "carol"})
        assert site.get(f"{result.id}?user=carol").get_json()["id"] == result.id
        assert site.get(f"{result.id}?user=dave").status_code == 404


MALFORMED = ["a.b", "x" * 256, "%20", "š", "a:b", "%00", "-%2D."]


@pytest.mark.parametrize("query", ["", "/events", "?wait=5"])
@pytest.mark.parametrize("says", [False, None, set(), 0, {"revoke"}], ids=repr)
def test_refused_looks_like_unknown(site: Site, says: object, query: str):
    site.says = says
    results = [site.add.delay(1, 2), site.add.apply_async((1, 2), task_id="order-17")]
    site.run_all()
    unknown = answer_of(site.get(UNKNOWN + query))
    assert unknown[0] == 404
    for job_id in (*(result.id for result in results), "order-18", *MALFORMED):
        found = site.get(job_id + query, headers={"If-None-Match": "*"})
        assert answer_of(found) == unknown, job_id
        if says != {"revoke"}:
            assert answer_of(site.delete(job_id)) == unknown, job_id


def test_a_job_that_cannot_be_read_looks_like_unknown_to_who_is_refused(site: Site):
    result = site.add.delay(1, 2)
    site.client.hset(f"rq:job:{result.id}", "status", b"\xff")
    site.says = False
    assert answer_of(site.get(result.id)) == answer_of(site.get(UNKNOWN))
    site.says = True
    assert "cannot be read" in site.get(result.id).get_json(force=True)["detail"]


@pytest.mark.parametrize("query", ["", "/events", "?wait=5"])
@pytest.mark.parametrize("field", ["origin", "status", "tq_headers"])
def test_a_job_whose_fields_are_no_text_looks_like_unknown_to_who_is_refused(
    site: Site, field: str, query: str
):
    site.says = False
    result = site.add.delay(1, 2)
    site.client.hset(f"rq:job:{result.id}", field, b"\xff")
    assert answer_of(site.get(result.id + query)) == answer_of(site.get(UNKNOWN))
    assert answer_of(site.delete(result.id)) == answer_of(site.get(UNKNOWN))


def test_a_job_of_which_nobody_can_say_whose_it_is_looks_like_unknown(site: Site):
    result = site.add.delay(1, 2)
    site.client.hset(f"rq:job:{result.id}", "origin", b"\xff")
    assert answer_of(site.get(result.id)) == answer_of(site.get(UNKNOWN))
    assert site.asked == []


def test_a_known_answer_is_compared_after_the_authoriser_was_asked(site: Site):
    result = site.add.delay(1, 2)
    site.run_all()
    tag = {"If-None-Match": site.get(result.id).headers["ETag"]}
    assert site.get(result.id, headers=tag).status_code == 304
    site.says = False
    assert site.get(result.id, headers=tag).status_code == 404


def test_ids_of_any_form_answer(site: Site):
    for job_id in ("order-17", "A", "_", "x" * 255, "events", "static"):
        site.add.apply_async((1, 2), task_id=job_id)
        body = site.get(job_id).get_json()
        assert body["id"] == job_id
        assert body["links"] == {
            "self": f"/tasks/{job_id}",
            "events": f"/tasks/{job_id}/events",
        }


def test_a_job_of_the_name_of_the_static_files_is_streamed(site: Site):
    site.add.apply_async((1, 2), task_id="static")
    answer = site.get("static/events")
    assert b"PENDING" in next(answer.iter_encoded())
    answer.close()
    with site.get("static/taskqueue.js") as script:
        assert script.mimetype == "text/javascript"


def _abort(job: JobInfo) -> bool:
    abort(401)


def _break(job: JobInfo) -> bool:
    raise LookupError("no such user")


@pytest.mark.parametrize("refuse", [lambda job: False, _abort, _break])
def test_an_accepted_job_says_nothing_to_who_is_refused(site: Site, refuse):
    # Somebody else's: the id was taken.
    result = site.add.apply_async((1, 2), task_id="order-17")
    site.tq.authorize_status(refuse)
    with site.app.test_request_context():
        answer = site.tq.accepted(result)
    assert answer.status_code == 202
    assert answer.get_json() == {
        "id": "order-17",
        "links": {"self": "/tasks/order-17", "events": "/tasks/order-17/events"},
    }


def test_an_accepted_job_of_any_form_is_linked_to(site: Site):
    result = site.add.apply_async((1, 2), task_id="order-17")
    with site.app.test_request_context():
        answer = site.tq.accepted(result)
    assert answer.headers["Location"] == "/tasks/order-17"


@pytest.mark.parametrize("rule", ["/tasks/<slug>", "/tasks/<path:rest>"])
def test_the_apps_own_rule_comes_first_for_all_but_uuids(site: Site, rule: str):
    @site.app.route(rule)
    def own(**values: str) -> str:
        return "own"

    site.add.apply_async((1, 2), task_id="order-17")
    result = site.add.delay(1, 2)
    assert site.get("order-17").text == "own"
    assert site.get(result.id).get_json()["id"] == result.id
    site.says = {"read", "revoke"}
    assert site.delete(result.id).get_json()["state"] == "REVOKED"


def test_without_an_authoriser_a_page_of_the_app_is_found_as_before(redis_url, client):
    site = Site(redis_url, client, guarded=False)

    @site.app.route("/<path:rest>")
    def own(rest: str) -> str:
        return f"own {rest}"

    with site.app.app_context():
        site.add.apply_async((1, 2), task_id="order-17")
        assert site.get("order-17").text == "own tasks/order-17"
        assert site.get("order-17/events").text == "own tasks/order-17/events"


def test_an_authoriser_may_come_before_or_after_the_app(redis_url, client):
    tq = TaskQueue(url=redis_url)
    apps = [Flask("early"), Flask("late")]
    tq.init_app(apps[1])
    tq.authorize_status(lambda job: False)
    tq.authorize_status(lambda job: job.id == "order-17")  # The last one counts.
    tq.init_app(apps[0])
    for app in apps:
        with app.app_context():
            tq.send_task("add", (1, 2), task_id="order-17")
            assert app.test_client().get("/tasks/order-17").status_code == 200
            tq.state.broker.close()


def test_an_authoriser_that_comes_too_late_changes_nothing(redis_url, client):
    tq = TaskQueue(url=redis_url)
    apps = [Flask("fresh"), Flask("begun")]
    for app in apps:
        tq.init_app(app)
    apps[1].test_client().get("/")
    with pytest.raises(AssertionError, match="can no longer be called"):
        tq.authorize_status(lambda job: True)
    for app in apps:
        with app.app_context():
            tq.send_task("add", (1, 2), task_id="order-17")
            assert app.test_client().get("/tasks/order-17").status_code == 404
            result = tq.send_task("add", (1, 2))
            assert app.test_client().get(f"/tasks/{result.id}").status_code == 200
            tq.state.broker.close()


def test_without_a_prefix_an_authoriser_changes_nothing(redis_url, client):
    site = Site(redis_url, client, TASKQUEUE_STATUS_PREFIX=None)
    with site.app.app_context():
        site.add.apply_async((1, 2), task_id="order-17")
        assert site.get("order-17").status_code == 404
    assert site.asked == []


def test_a_traceback_is_shown_to_who_may_see_it(site: Site):
    result = site.fail.delay()
    site.run_all()
    assert "traceback" not in site.get(result.id).get_json()
    site.says = {"read", "traceback"}
    body = site.get(result.id).get_json()
    assert body["traceback"].endswith("ValueError: no\n")
    assert '"traceback"' in site.get(f"{result.id}/events").text


@pytest.mark.parametrize(
    ("says", "error", "message"),
    [
        pytest.param(
            {"read", "write"},
            ValueError,
            r"expected authorize_status to return a set out of \['read', 'revoke',"
            r" 'traceback'\], got \['write'\] in it",
            id="unknown",
        ),
        pytest.param("read", TypeError, "a bool or a set .*, got 'read'", id="text"),
        pytest.param(["read"], TypeError, r"a set .*, got \['read'\]", id="list"),
        pytest.param(1, TypeError, "a bool or a set .*, got 1", id="number"),
    ],
)  # fmt: skip
def test_an_authoriser_that_answers_something_else_is_told(
    site: Site, says, error, message
):
    site.app.testing = True
    site.says = says
    result = site.add.delay(1, 2)
    with pytest.raises(error, match=message):
        site.get(result.id)


@pytest.mark.parametrize("query", ["", "/events", "?wait=5"])
def test_an_authoriser_may_abort_and_fail(site: Site, query: str):
    def abort_401(job: JobInfo) -> bool:
        abort(401)

    def fail(job: JobInfo) -> bool:
        raise LookupError("no such user")

    result = site.add.delay(1, 2)
    site.tq.authorize_status(abort_401)
    assert site.get(result.id + query).status_code == 401
    site.tq.authorize_status(fail)
    assert site.get(result.id + query).status_code == 500
    # Nothing is held.
    site.tq.authorize_status(site.decide)
    assert site.get(result.id + "?wait=0.1").status_code == 200


def test_a_job_is_revoked(site: Site):
    site.says = {"read", "revoke"}
    result = site.add.delay(1, 2)
    answer = site.delete(result.id)
    assert answer.status_code == 200
    assert answer.get_json() == site.get(result.id).get_json()
    assert answer.get_json()["state"] == "REVOKED"
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert site.delete(result.id).get_json() == answer.get_json()


def test_a_job_that_has_ended_stays_as_it_is(site: Site):
    site.says = {"read", "revoke"}
    result = site.add.delay(1, 2)
    site.run_all()
    answer = site.delete(f"{result.id}?terminate=1")
    assert (answer.status_code, answer.get_json()["result"]) == (200, 3)


@pytest.mark.parametrize(
    ("query", "mark"),
    [
        ("", b"revoke"),
        ("?terminate=0", b"revoke"),
        ("?terminate=1", b"terminate"),
        ("?terminate=true", b"terminate"),
    ],
)
def test_a_job_that_runs_is_revoked(site: Site, query: str, mark: bytes):
    site.says = {"read", "revoke"}
    result = site.add.delay(1, 2)
    claim(site.client)
    answer = site.delete(result.id + query)
    assert answer.status_code == 202
    assert answer.headers["Retry-After"] == "1"
    assert answer.get_json() == site.get(result.id).get_json()
    assert answer.get_json()["state"] == "STARTED"
    assert site.client.hget(f"rq:job:{result.id}", "tq_revoked") == mark


def test_a_job_of_any_form_is_revoked(site: Site):
    site.says = {"read", "revoke"}
    site.add.apply_async((1, 2), task_id="order-17")
    assert site.delete("order-17").get_json()["state"] == "REVOKED"


def test_who_may_only_read_may_not_revoke(site: Site):
    result = site.add.delay(1, 2)
    answer = site.delete(result.id)
    assert answer.status_code == 403
    assert answer.get_json(force=True) == {
        "type": "about:blank",
        "title": "Forbidden",
        "status": 403,
        "detail": "This job may be read, but not revoked.",
    }
    assert result.state == "PENDING"


def test_who_may_only_revoke_sees_nothing(site: Site):
    site.says = {"revoke"}
    result = site.add.delay(1, 2)
    answer = site.delete(result.id)
    assert (answer.status_code, answer.data) == (204, b"")
    assert result.state == "REVOKED"
    assert site.get(result.id).status_code == 404


class Meanwhile:
    """An authoriser that allows all, and while it thinks something else happens."""

    def __init__(self, happens: t.Callable[[JobInfo], object]) -> None:
        self.happens = happens

    def __call__(self, job: JobInfo) -> set[str]:
        self.happens(job)
        return {"read", "revoke"}


def test_a_job_that_goes_while_it_is_revoked_is_unknown(site: Site):
    result = site.add.delay(1, 2)
    site.tq.authorize_status(Meanwhile(lambda job: result.forget()))
    assert answer_of(site.delete(result.id)) == answer_of(site.get(UNKNOWN))


def test_another_job_that_took_the_id_while_it_is_revoked_is_not_shown(site: Site):
    result = site.add.delay(1, 2)
    site.run_all()

    def replace(job: JobInfo) -> None:
        site.add.apply_async((3, 4), task_id=result.id)
        site.run_all()

    site.tq.authorize_status(Meanwhile(replace))
    assert answer_of(site.delete(result.id)) == answer_of(site.get(UNKNOWN))


def test_another_job_that_took_the_id_while_it_is_revoked_is_not_revoked(site: Site):
    result = site.add.delay(1, 2)
    site.run_all()
    site.tq.authorize_status(
        Meanwhile(lambda job: site.add.apply_async((3, 4), task_id=result.id))
    )
    assert answer_of(site.delete(result.id)) == answer_of(site.get(UNKNOWN))
    assert result.state == "PENDING"


def test_a_word_that_is_no_flag_is_refused(site: Site):
    site.says = {"read", "revoke"}
    result = site.add.delay(1, 2)
    answer = site.delete(f"{result.id}?terminate=maybe")
    assert answer.status_code == 400
    assert answer.get_json(force=True)["detail"] == "Expected terminate to be 1 or 0."
    assert result.state == "PENDING"


def test_an_unknown_job_cannot_be_revoked(site: Site):
    site.says = {"read", "revoke"}
    assert answer_of(site.delete(UNKNOWN)) == answer_of(site.get(UNKNOWN))


def test_without_an_authoriser_nothing_can_be_revoked(redis_url, client):
    site = Site(redis_url, client, guarded=False)
    with site.app.app_context():
        result = site.add.delay(1, 2)
        answer = site.delete(result.id)
        assert answer.status_code == 405
        assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
        options = site.app.test_client().options(f"/tasks/{result.id}")
        assert "DELETE" not in options.headers["Allow"]
        assert result.state == "PENDING"


def test_with_an_authoriser_the_methods_are_told(site: Site):
    for job_id in (UNKNOWN, "order-17"):
        answer = site.app.test_client().options(f"/tasks/{job_id}")
        assert set(answer.headers["Allow"].split(", ")) == {
            "GET", "HEAD", "OPTIONS", "DELETE",
        }  # fmt: skip


def test_redis_is_away(client: redis.Redis):
    site = Site("redis://127.0.0.1:1/0", client)
    site.says = {"read", "revoke"}
    began = time.monotonic()
    answer = site.delete("order-17")
    assert time.monotonic() - began < 6  # 2 s, and slack for a busy machine
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.mimetype == "application/problem+json"


def test_a_jobs_end_is_told_to_who_revoked_it(site: Site):
    site.says = {"read", "revoke"}
    result = AsyncResult[int](site.add.delay(1, 2).id)
    stream = site.get(f"{result.id}/events")
    parts = stream.iter_encoded()
    assert b"PENDING" in next(parts)
    site.delete(result.id)
    assert b"event: end" in next(parts)
    stream.close()


def test_all_requests_are_those_of_one_blueprint(site: Site):
    # By which CSRFProtect(app).exempt(app.blueprints["taskqueue"]) goes.
    seen: list[str | None] = []
    site.app.before_request(lambda: seen.append(request.blueprint))
    site.says = {"read", "revoke"}
    result = site.add.apply_async((1, 2), task_id="order-17")
    site.get(result.id)
    site.delete(result.id)
    assert seen == ["taskqueue", "taskqueue"]
