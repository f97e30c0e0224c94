"""The endpoint answers as ``static/openapi.json`` says."""

from __future__ import annotations

import typing as t
from collections import Counter, defaultdict

import pytest
import redis
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, given, settings

from flask_taskqueue import Task
from flask_taskqueue.web import events

from .running import InProcess, claim

FILE = "/tasks/static/openapi.json"
UNKNOWN = "12345678-1234-4234-8234-123456789abc"


class Site(InProcess):
    """An app with a job in each state."""

    def __init__(self, url: str, client: redis.Redis, *, guarded: bool) -> None:
        super().__init__("openapiapp", url, client)
        if guarded:
            self.tq.authorize_status(lambda job: {"read", "traceback", "revoke"})
        task = self.tq.task
        give = task(name="give")(lambda value: value)
        fail = task(name="fail", max_retries=0)(_fail)
        again = task(name="again", bind=True)(_again)
        say = task(name="say", bind=True)(lambda self: self.update_state(meta=[1]))
        parent = task(name="parent")(lambda: [give.delay(1).id, b"\xff"])
        with self.app.app_context():
            self.ids = {
                "SUCCESS": give.delay({"a": 1}).id,
                "FAILURE": fail.delay().id,
                "RETRY": again.delay().id,
                "said": say.delay().id,
                "bytes": parent.delay().id,
                "unlimited": give.apply_async((1,), max_retries=None).id,
                "ignored": give.apply_async((1,), ignore_result=True).id,
            }
            self.run_all()
            self.ids["STARTED"] = give.delay(1).id
            assert claim(client) is not None
            self.ids["PENDING"] = give.delay(1).id
            self.ids["scheduled"] = give.apply_async((1,), countdown=100).id
            self.ids["REVOKED"] = (revoked := give.delay(1)).id
            revoked.revoke()
            client.hset(f"rq:job:{self.ids['unlimited']}", "tq_options", b"\xff")
            self.ids["unknown"] = UNKNOWN
            if guarded:
                self.ids["custom"] = give.apply_async((1,), task_id="order-17").id


def _fail() -> t.NoReturn:
    raise ValueError("no")


def _again(self: Task[[], None]) -> t.NoReturn:
    raise self.retry(exc=ValueError("not yet"), countdown=100)


def schema_of(app: Flask) -> t.Any:
    """The file as the app serves it."""
    return schemathesis.openapi.from_wsgi(FILE, app)


@pytest.fixture(params=[False, True], ids=["open", "guarded"])
def site(
    request: pytest.FixtureRequest,
    redis_url: str,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> Site:
    monkeypatch.setattr(events, "STREAM_LASTS", 0.05)
    return Site(redis_url, client, guarded=request.param)


def test_the_file_is_openapi_3_1(site: Site):
    api = schema_of(site.app)
    api.validate()
    assert api.raw_schema["openapi"] == "3.1.0"


def test_the_file_is_below_the_prefix_and_may_be_kept(site: Site):
    page = site.app.test_client()
    with page.get(FILE) as answer:
        assert answer.mimetype == "application/json"
    tag = {"If-None-Match": answer.headers["ETag"]}
    with page.get(FILE, headers=tag) as again:
        assert again.status_code == 304


def test_the_server_is_where_the_endpoint_is(site: Site):
    page = site.app.test_client()
    for base, prefix in (("", "/tasks"), ("http://localhost/shop/", "/shop/tasks")):
        answer = page.get(FILE, base_url=base or None)
        (server,) = answer.get_json()["servers"]
        assert server["url"] == prefix


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=str)
def test_any_request_is_answered_as_it_says(site: Site, mode: t.Any):
    for operation in schema_of(site.app).get_all_operations():
        found = operation.ok()
        if found.method == "delete" and "custom" not in site.ids:
            continue  # It is 405, whatever is asked.
        cases = found.as_strategy(generation_mode=mode)

        @settings(
            max_examples=40,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=cases)
        def ask(case: t.Any) -> None:
            case.call_and_validate()

        ask()


def test_every_job_is_answered_as_it_says(site: Site):
    api = schema_of(site.app)
    statuses: dict[str, Counter[int]] = defaultdict(Counter)
    for operation in api.get_all_operations():
        found = operation.ok()
        queries = [{}, {"wait": 0.05}] if found.label == "GET /{id}" else [{}]
        for job_id in site.ids.values():
            for query in queries:
                case = found.Case(path_parameters={"id": job_id}, query=query)
                statuses[found.label][case.call_and_validate().status_code] += 1
    jobs = len(site.ids)
    assert statuses["GET /{id}"] == {200: 2 * jobs - 2, 404: 2}
    assert statuses["GET /{id}/events"] == {200: jobs - 1, 404: 1}
    deleted = {200: jobs - 2, 202: 1, 404: 1} if "custom" in site.ids else {405: jobs}
    assert statuses["DELETE /{id}"] == deleted
