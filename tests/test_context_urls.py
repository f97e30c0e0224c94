"""The URLs a task builds are those of the request that enqueued it."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

import pytest
import redis
from flask import Blueprint, Flask, has_request_context, url_for
from flask.views import MethodView
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client

from flask_taskqueue import AsyncResult

from .running import InProcess

URLS = list[str]


def external() -> URLS:
    """What this page, or this task, would write into a mail."""
    pages = [
        url_for("start", _external=True),
        url_for("page", name="žluť ?", q="1&2", _external=True),
        url_for("page", name="x", _external=True, _scheme="https"),
        url_for("shop.item", n=3, _external=True),
        url_for("users", _external=True),
        url_for("users", n=5, _external=True),
        url_for("static", filename="a.css", _external=True),
    ]
    # Without _external a request gives a path, a task a whole URL: Flask's rule.
    return [*pages, url_for("start")] if has_request_context() else pages


class Users(MethodView):
    """Has other rules for POST."""

    def get(self, n: int) -> str:
        return ""

    def post(self) -> URLS:
        return []


class Pages(InProcess):
    """An app whose page answers with its own URLs and the id of a job with a task's."""

    def __init__(
        self, url: str, client: redis.Redis, app: Flask, **config: object
    ) -> None:
        super().__init__(__name__, url, client, app, **config)
        self.bare = self.tq.task(name="bare")(external)
        self.within = self.tq.task(name="within", request_context=True)(external)
        self.relay = self.tq.task(name="relay")(self._relay)

        @app.route("/start", methods=["GET", "POST"])
        @app.route("/start", subdomain="a.b")
        def start() -> dict[str, t.Any]:
            jobs = [self.bare.delay().id, self.within.delay().id, self.relay.delay().id]
            return {"urls": external(), "jobs": jobs}

        @app.get("/page/<name>")
        def page(name: str) -> str:
            return name

        shop = Blueprint("shop", __name__, subdomain="shop")
        shop.add_url_rule("/item/<int:n>", "item", lambda n: str(n))
        app.register_blueprint(shop)
        users = Users.as_view("users")
        app.add_url_rule("/users/", view_func=users, methods=["POST"])
        app.add_url_rule("/users/<int:n>", view_func=users, methods=["GET"])

    def _relay(self) -> str:
        return self.bare.delay().id


@dataclass(frozen=True)
class Case:
    """A way to deploy an app, and a request that reaches it.

    :param app: Arguments of ``Flask(…)``.
    """

    base: str = "http://example.com"
    app: dict[str, t.Any] = field(default_factory=dict)
    config: dict[str, t.Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    proxied: bool = False
    method: str = "GET"


FORWARDED = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "public.example:8443",
    "X-Forwarded-Prefix": "/tools/app",
}
CASES = {
    "plain": Case(),
    "port": Case("https://example.com:8443"),
    "upper-case": Case("http://EXAMPLE.com"),
    "prefix": Case("http://example.com/tools/app"),
    "odd-prefix": Case("http://example.com/ž%20%3F%25/x"),
    "proxy": Case("http://10.0.0.7:8000", headers=FORWARDED, proxied=True),
    "proxy-unheeded": Case("http://10.0.0.7:8000", headers=FORWARDED),
    "ipv6": Case("http://[::1]:5000"),
    "idn": Case("http://žluť.example"),
    "odd-scheme": Case("gopher://example.com"),
    "post": Case(method="POST"),
    "server-name": Case(config={"SERVER_NAME": "example.com"}),
    "other-server-name": Case(config={"SERVER_NAME": "other.example:81"}),
    "server-name-and-root": Case(
        "https://example.com/mounted",
        config={
            "SERVER_NAME": "example.com",
            "APPLICATION_ROOT": "/elsewhere",
            "PREFERRED_URL_SCHEME": "http",
        },
    ),
    "subdomain": Case(
        "http://a.b.example.com:81",
        app={"subdomain_matching": True},
        config={"SERVER_NAME": "example.com:81"},
    ),
    "no-subdomain": Case(
        "http://example.com",
        app={"subdomain_matching": True},
        config={"SERVER_NAME": "example.com"},
    ),
    "trusted-host": Case(
        "http://www.example.com", config={"TRUSTED_HOSTS": [".example.com"]}
    ),
}


@pytest.mark.parametrize("eager", [False, True], ids=["worker", "eager"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
# Werkzeug warns where the host is not SERVER_NAME; its URL is what we are after.
@pytest.mark.filterwarnings("ignore:Current server name")
def test_a_task_builds_the_urls_of_the_request(
    redis_url: str, client: redis.Redis, case: Case, eager: bool
):
    app = Flask(__name__, **case.app)
    pages = Pages(redis_url, client, app, TASKQUEUE_EAGER=eager, **case.config)
    wsgi = ProxyFix(app.wsgi_app, x_host=1, x_prefix=1) if case.proxied else app
    sent = Client(wsgi).open(
        "/start", base_url=case.base, method=case.method, headers=case.headers
    )
    told = sent.get_json()
    with app.app_context():
        pages.run_all()
        bare, within, relay = (AsyncResult(job) for job in told["jobs"])
        assert bare.get(timeout=1) == told["urls"][:-1]
        assert within.get(timeout=1) == told["urls"]
        below = AsyncResult(relay.get(timeout=1))
        assert below.get(timeout=1) == told["urls"][:-1]


def test_a_task_builds_the_urls_of_any_host(redis_url: str, client: redis.Redis):
    app = Flask(__name__, host_matching=True, static_host="static.example")
    site = InProcess(__name__, redis_url, client, app, SERVER_NAME="example.com")

    @site.tq.task(name="build")
    def build() -> URLS:
        there = url_for("there", tenant="b", _external=True)
        return [there, url_for("static", filename="a.css", _external=True)]

    @app.get("/", host="<tenant>.example:81")
    def there(tenant: str) -> dict[str, t.Any]:
        return {"urls": build(), "job": build.delay().id}

    told = app.test_client().get("/", base_url="https://a.example:81/p").get_json()
    assert told["urls"][0] == "https://b.example:81/p/"
    with app.app_context():
        site.run_all()
        assert AsyncResult(told["job"]).get(timeout=1) == told["urls"]


@pytest.fixture(params=["bare", "within"])
def kind(request: pytest.FixtureRequest) -> str:
    """A task without, and one with, a request context."""
    return str(request.param)


def test_server_name_decides_outside_a_request(
    redis_url: str, client: redis.Redis, kind: str
):
    site = InProcess(
        __name__, redis_url, client,
        SERVER_NAME="example.com", APPLICATION_ROOT="/app",
        PREFERRED_URL_SCHEME="https",
        # About the hosts of requests: the name set above is trusted as it is.
        TRUSTED_HOSTS=["www.example.org"],
    )  # fmt: skip
    build = site.tq.task(name="build", request_context=kind == "within")(
        lambda: url_for("static", filename="a.css", _external=True)
    )
    with site.app.app_context():
        result = build.delay()
        site.run_all()
        assert result.get(timeout=1) == "https://example.com/app/static/a.css"


def test_without_server_name_there_is_no_url_outside_a_request(
    redis_url: str, client: redis.Redis
):
    site = InProcess(__name__, redis_url, client)
    build = site.tq.task(name="build")(lambda: url_for("static", filename="a"))
    with site.app.app_context():
        result = build.delay()
        site.run_all()
        with pytest.raises(RuntimeError, match="SERVER_NAME"):
            result.get(timeout=1)


@pytest.mark.parametrize("server_name", [None, "example.com"])
def test_a_request_to_a_refused_host_enqueues_and_says_nothing(
    redis_url: str, client: redis.Redis, kind: str, server_name: str | None
):
    """It is answered with 400, but not before functions of the app have run."""
    site = InProcess(
        __name__, redis_url, client,
        SERVER_NAME=server_name, TRUSTED_HOSTS=["example.com"],
    )  # fmt: skip
    app = site.app
    ids = []

    @site.tq.task(name="build", request_context=kind == "within")
    def build() -> str:
        return url_for("static", filename="a", _external=True)

    @app.errorhandler(400)
    def refused(error: Exception) -> tuple[str, int]:
        ids.append(build.delay().id)
        return "refused", 400

    answer = app.test_client().get("/", base_url="http://evil.example")
    assert answer.status_code == 400
    with app.app_context():
        site.run_all()
        result: AsyncResult[t.Any] = AsyncResult(ids[0])
        host = server_name or {"bare": None, "within": "localhost"}[kind]
        if host is None:
            assert result.state == "FAILURE"
        else:
            assert result.get(timeout=1) == f"http://{host}/static/a"


def test_the_request_of_another_app_is_no_binding(redis_url: str, client: redis.Redis):
    """One app's page that calls the task of another, mounted elsewhere."""
    outer = Flask("outer")
    site = InProcess(__name__, redis_url, client, SERVER_NAME="inner.example")
    build = site.tq.task(name="build")(lambda: url_for("static", filename="a"))

    @outer.get("/")
    def page() -> str:
        with site.app.app_context():
            return build.delay().id

    job = outer.test_client().get("/", base_url="http://outer.example/x").text
    with site.app.app_context():
        site.run_all()
        assert AsyncResult(job).get(timeout=1) == "http://inner.example/static/a"


def test_a_request_made_inside_a_task_has_its_own_urls(
    redis_url: str, client: redis.Redis, kind: str
):
    site = InProcess(__name__, redis_url, client)
    build = site.tq.task(name="build")(lambda: url_for("static", filename="a"))

    @site.tq.task(name="outer", request_context=kind == "within")
    def outer() -> str:
        with site.app.test_request_context(base_url="https://tenant.example"):
            return build.delay().id

    with site.app.test_request_context(base_url="http://example.com"):
        result = outer.delay()
    with site.app.app_context():
        site.run_all()
        below = AsyncResult(result.get(timeout=1))
        assert below.get(timeout=1) == "https://tenant.example/static/a"


def test_retries_and_links_keep_the_urls(redis_url: str, client: redis.Redis):
    site = InProcess(__name__, redis_url, client)
    seen = []

    @site.tq.task(name="again", max_retries=1)
    def again() -> None:
        seen.append(url_for("static", filename="a"))
        if len(seen) == 1:
            site.tq.tasks["again"].retry(countdown=0)

    @site.tq.task(name="link")
    def link() -> None:
        seen.append(url_for("static", filename="b"))

    with site.app.test_request_context(base_url="https://example.com/p"):
        again.apply_async(link=link.si())
    with site.app.app_context():
        site.run_all()
    base = "https://example.com/p/static/"
    assert seen == [f"{base}a", f"{base}a", f"{base}b"]
