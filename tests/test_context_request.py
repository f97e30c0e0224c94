"""Tasks and requests: what of one a task has, and what it never sees."""

from __future__ import annotations

import typing as t

import pytest
import redis
from flask import (
    Flask,
    appcontext_pushed,
    g,
    has_request_context,
    request,
    session,
    url_for,
)
from flask.globals import app_ctx
from flask_login import LoginManager, UserMixin, current_user, login_user

from flask_taskqueue import AsyncResult, current_task

from .running import InProcess


class User(UserMixin):
    """Whoever has this id."""

    def __init__(self, name: str) -> None:
        self.id = name


class Site(InProcess):
    """An app with sessions and users, and a page that enqueues.

    :ivar ran: What Flask called inside jobs: name of the task, kind of function,
        exception.
    """

    def __init__(self, url: str, client: redis.Redis, **config: object) -> None:
        super().__init__(__name__, url, client, SECRET_KEY="of sessions", **config)
        self.ran: list[tuple[str, str, str]] = []
        self.app.before_request(lambda: self._note("before"))
        self.app.teardown_request(lambda error: self._note("request", error))
        self.app.teardown_appcontext(lambda error: self._note("app", error))
        self.app.post("/start/<name>")(self._start)
        self.app.get("/", endpoint="index")(lambda: "")
        LoginManager(self.app).user_loader(User)
        for task in (look, describe, user, fail):
            self.tq.task(name=task.__name__)(task)
            self.tq.task(name=f"{task.__name__}-within", request_context=True)(task)

    def _note(self, kind: str, error: BaseException | None = None) -> None:
        if current_task:
            self.ran.append((str(current_task.name), kind, repr(error)))

    def _start(self, name: str) -> str:
        login_user(User("carol"))
        session["mine"] = g.mine = 1
        job = self.tq.tasks[name].delay()
        assert (session["mine"], g.mine, request.path) == (1, 1, f"/start/{name}")
        assert current_user.id == "carol"
        return job.id

    def visit(self, name: str, **given: t.Any) -> AsyncResult[t.Any]:
        """The job that the page enqueues for somebody who has been there before."""
        browser = self.app.test_client()
        browser.post("/start/look")
        job = browser.post(f"/start/{name}?q=1", **given).text
        with self.app.app_context():
            self.run_all()
            return AsyncResult(job, self.tq.state)


def look() -> dict[str, object]:
    return {"request": has_request_context(), "g": sorted(g)}


def describe() -> dict[str, object]:
    return {
        "url": request.url,
        "method": request.method,
        "headers": dict(request.headers),
        "cookies": dict(request.cookies),
        "session": dict(session),
        "body": request.get_data(as_text=True),
        "form": dict(request.form),
        "address": request.remote_addr,
    }


def user() -> list[object]:
    found = current_user._get_current_object()
    return [type(found).__name__, getattr(found, "is_authenticated", None)]


def fail() -> t.NoReturn:
    raise ValueError("no")


@pytest.fixture(params=["worker", "eager"])
def site(
    request: pytest.FixtureRequest, redis_url: str, client: redis.Redis
) -> t.Iterator[Site]:
    """Run by a worker's code, and in the page: both must be the same."""
    eager = request.param == "eager"
    return Site(
        redis_url, client, TASKQUEUE_EAGER=eager, TASKQUEUE_EAGER_PROPAGATES=False
    )


def test_a_task_sees_no_request(site: Site):
    assert site.visit("look").get(timeout=1) == {"request": False, "g": []}
    refused = site.visit("describe")
    with pytest.raises(RuntimeError, match="outside of request context"):
        refused.get(timeout=1)


def test_a_task_that_asks_for_it_has_a_request_of_its_own(site: Site):
    found = site.visit("look-within").get(timeout=1)
    assert found == {"request": True, "g": []}


def test_nothing_of_the_enqueuing_request_is_in_it_but_what_travels(site: Site):
    given = {"X-Request-ID": "r-1", "Authorization": "Bearer x", "X-Other": "o"}
    told = site.visit(
        "describe-within",
        base_url="https://example.com:8443/prefix",
        headers=given,
        data={"field": "of a form"},
    ).get(timeout=1)
    assert told == {
        "url": "https://example.com:8443/prefix/",
        "method": "GET",
        "headers": {"Host": "example.com:8443", "X-Request-Id": "r-1"},
        "cookies": {},
        "session": {},
        "body": "",
        "form": {},
        "address": None,
    }


@pytest.mark.parametrize(
    ("config", "url"),
    [
        ({}, "http://localhost/"),
        ({"SERVER_NAME": "example.com"}, "http://example.com/"),
        (
            {
                "SERVER_NAME": "example.com",
                "APPLICATION_ROOT": "/app",
                "PREFERRED_URL_SCHEME": "https",
            },
            "https://example.com/app/",
        ),
        ({"TRUSTED_HOSTS": ["example.com"]}, "http://localhost/"),
        (
            {"TRUSTED_HOSTS": ["www.example.com"], "SERVER_NAME": "example.com"},
            "http://example.com/",
        ),
    ],
    ids=["defaults", "server-name", "all", "trusted", "trusted-others"],
)
def test_outside_a_request_the_configuration_decides(
    redis_url: str, client: redis.Redis, config: dict[str, t.Any], url: str
):
    site = Site(redis_url, client, **config)
    with site.app.app_context():
        result = site.tq.tasks["describe-within"].delay()
        site.run_all()
        told = result.get(timeout=1)
    assert told["url"] == url
    assert told["headers"] == {"Host": url.split("/")[2]}


def test_a_trusted_host_decides_for_the_client_alone(
    redis_url: str, client: redis.Redis
):
    """With ``SERVER_NAME`` the job's host is that, whatever the client called it."""
    hosts = {"TRUSTED_HOSTS": ["www.example.com"], "SERVER_NAME": "example.com"}
    site = Site(redis_url, client, **hosts)
    told = site.visit("describe-within", base_url="http://www.example.com")
    assert told.get(timeout=1)["url"] == "http://example.com/"
    path = site.tq.task(name="path", request_context=True)(lambda: url_for("index"))
    site.app.config["SERVER_NAME"] = None
    with site.app.app_context():
        result = path.delay()
        site.run_all()
        assert result.get(timeout=1) == "/"


def test_the_default_host_of_a_request_is_not_handed_on(
    redis_url: str, client: redis.Redis
):
    """Nobody asked for http://localhost: there is no URL to give to other jobs."""
    site = Site(redis_url, client)
    outer = site.tq.task(name="outer", request_context=True)(
        lambda: site.tq.tasks["look"].delay().id
    )
    with site.app.app_context():
        outer.delay()
        site.run_all()
    stored = [client.hget(key, "tq_carried") for key in client.keys("rq:job:*")]
    assert stored == [None, None]


@pytest.mark.parametrize("task", ["look", "fail"])
def test_functions_around_requests(site: Site, task: str):
    error = "None" if task == "look" else "ValueError('no')"
    site.visit(task)
    site.visit(f"{task}-within")
    mine = [row for row in site.ran if row[0].startswith(task)]
    # The visits before enqueue a "look" each.
    expected = [(task, "app", error)] * (3 if task == "look" else 1)
    within = f"{task}-within"
    expected += [(within, "request", error), (within, "app", error)]
    assert sorted(mine) == sorted(expected)
    assert mine[-2:] == expected[-2:]


@pytest.mark.parametrize("name", ["look", "look-within"])
def test_a_job_has_one_app_context(site: Site, name: str):
    pushed = []

    def note(sender: Flask, **extra: object) -> None:
        if current_task and current_task.name == name:
            pushed.append(id(app_ctx._get_current_object()))  # type: ignore[attr-defined]

    with appcontext_pushed.connected_to(note, site.app), site.app.app_context():
        site.tq.tasks[name].delay()
        site.run_all()
    assert len(pushed) == 1


def test_nobody_is_logged_in_inside_a_task(site: Site):
    # Flask-Login knows no user outside a request, not even an anonymous one.
    assert site.visit("user").get(timeout=1) == ["NoneType", None]
    assert site.visit("user-within").get(timeout=1) == ["AnonymousUserMixin", False]


def test_a_header_that_is_no_header_is_the_end_of_that_job(
    redis_url: str, client: redis.Redis
):
    site = Site(redis_url, client)
    with site.app.app_context():
        result = site.tq.tasks["look-within"].delay()
        after = site.tq.tasks["look-within"].delay()
        odd = '{"headers": {"X-Request-ID": "a\\r\\nCookie: b=c"}}'
        client.hset(f"rq:job:{result.id}", "tq_carried", odd)
        site.run_all()
        assert type(result.result).__name__ == "DecodeError"
        assert "carried headers" in str(result.result)
        assert after.get(timeout=1)["request"]
