"""Values that an app lets travel with its jobs, and what is put around them."""

from __future__ import annotations

import json
import logging
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

import pytest
import redis
from flask import Flask, g, has_app_context, request
from flask_babel import Babel, force_locale, format_date, get_locale

from flask_taskqueue import AsyncResult, Task
from flask_taskqueue.errors import PayloadTooLarge

from .running import InProcess

Log = list[object]


class Site(InProcess):
    """An app that notes what its carriers and tasks do, in order."""

    def __init__(self, url: str, client: redis.Redis, **config: object) -> None:
        super().__init__(__name__, url, client, **config)
        self.log: Log = []
        self.say = self.tq.task(name="say")(self._say)
        self.fail = self.tq.task(name="fail")(_fail)
        self.app.teardown_appcontext(lambda error: self.log.append("teardown"))

    def _say(self, what: str) -> str:
        self.log.append(what)
        return what

    def carry(self, name: str, value: object) -> None:
        """Register a carrier of a value that notes when it is entered and left."""
        self.tq.carrier(name, capture=lambda: value, restore=lambda v: self.around(v))

    @contextmanager
    def around(self, value: object) -> Iterator[None]:
        assert has_app_context()
        self.log.append(("enter", value))
        try:
            yield
        except BaseException as error:
            self.log.append(("error", value, repr(error)))
            raise
        finally:
            self.log.append(("leave", value))


def _fail() -> t.NoReturn:
    raise ValueError("no")


@pytest.fixture(params=["worker", "eager"])
def site(
    request: pytest.FixtureRequest, redis_url: str, client: redis.Redis
) -> Iterator[Site]:
    """Run by a worker's code, and in the caller: both must be the same."""
    eager = request.param == "eager"
    site = Site(
        redis_url, client, TASKQUEUE_EAGER=eager, TASKQUEUE_EAGER_PROPAGATES=False
    )
    with site.app.app_context():
        yield site
        site.log.clear()


def test_carriers_are_around_the_job_in_order(site: Site):
    site.carry("b", {"n": [1, None, "ž"]})
    site.carry("a", 0)
    result = site.say.delay("run")
    site.run_all()
    assert result.get(timeout=1) == "run"
    b: object = {"n": [1, None, "ž"]}
    assert site.log == [
        ("enter", b), ("enter", 0), "run", ("leave", 0), ("leave", b), "teardown",
    ]  # fmt: skip


@pytest.mark.parametrize("value", [False, 0, "", [], {}], ids=repr)
def test_every_value_but_none_travels(site: Site, value: object):
    site.carry("there", value)
    site.carry("none", None)
    site.say.delay("run")
    site.run_all()
    assert site.log[0] == ("enter", value)
    assert len(site.log) == 4


def test_a_carrier_sees_the_exception_and_cannot_change_it(site: Site):
    @contextmanager
    def swallow(value: object) -> Iterator[None]:
        try:
            yield
        except ValueError:
            site.log.append("swallowed")

    site.carry("outer", 1)
    site.tq.carrier("inner", capture=lambda: 2, restore=swallow)
    result = site.fail.delay()
    site.run_all()
    assert result.state == "FAILURE"
    assert repr(result.result) == "ValueError('no')"
    assert site.log == [
        ("enter", 1), "swallowed", ("error", 1, "ValueError('no')"), ("leave", 1),
        "teardown",
    ]  # fmt: skip


def test_an_exception_when_leaving_is_logged_and_changes_nothing(
    site: Site, caplog: pytest.LogCaptureFixture
):
    @contextmanager
    def breaks(value: object) -> Iterator[None]:
        yield
        raise RuntimeError("cannot leave")

    site.carry("outer", 1)
    site.tq.carrier("inner", capture=lambda: 2, restore=breaks)
    result = site.say.delay("run")
    site.run_all()
    assert result.get(timeout=1) == "run"
    assert site.log == [("enter", 1), "run", ("leave", 1), "teardown"]
    (record,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert "'inner'" in record.getMessage()
    assert result.id in record.getMessage()
    assert "cannot leave" in caplog.text


def test_a_tasks_own_exception_is_not_logged_again(
    site: Site, caplog: pytest.LogCaptureFixture
):
    class Passes:
        def __enter__(self) -> None: ...

        def __exit__(self, kind: object, error: BaseException, trace: object) -> None:
            raise error

    site.tq.carrier("passes", capture=lambda: 1, restore=lambda value: Passes())
    site.fail.delay()
    site.run_all()
    assert "Leaving" not in caplog.text


@contextmanager
def _refuse(value: object) -> Iterator[None]:
    raise LookupError(f"no tenant {value}")
    yield


@pytest.mark.parametrize(
    ("restore", "expected"),
    [
        pytest.param(_refuse, "no tenant 7", id="entering"),
        pytest.param(lambda v: {}[v], "7", id="making"),
        pytest.param(lambda v: None, "context manager protocol", id="no-manager"),
    ],
)
def test_an_exception_when_entering_fails_the_job(
    site: Site, restore: t.Any, expected: str
):
    site.carry("outer", 1)
    site.tq.carrier("tenant", capture=lambda: 7, restore=restore)
    result = site.say.delay("run")
    site.run_all()
    assert result.state == "FAILURE"
    assert expected in str(result.result)
    kinds = [row[0] if isinstance(row, tuple) else row for row in site.log]
    assert kinds == ["enter", "error", "leave", "teardown"]


def test_an_exception_when_entering_is_retried_like_the_tasks_own(site: Site):
    tries = []

    @contextmanager
    def connect(value: object) -> Iterator[None]:
        tries.append(value)
        if len(tries) < 3:
            raise ConnectionError
        yield

    site.tq.carrier("tenant", capture=lambda: 7, restore=connect)
    options: t.Any = {"autoretry_for": (ConnectionError,), "default_retry_delay": 0}
    task = site.tq.task(name="again", **options)(lambda: "done")
    result = task.delay()
    site.run_all()
    assert result.get(timeout=1) == "done"
    assert tries == [7, 7, 7]


class Odd:
    """No JSON."""


@pytest.mark.parametrize(
    "value",
    [Odd(), {"a": Odd()}, date(2026, 1, 1), b"x", float("nan"), {(1, 2): 3}],
    ids=["object", "inside", "date", "bytes", "nan", "tuple-key"],
)
def test_a_value_that_is_no_json_is_an_error_in_the_caller(site: Site, value: object):
    site.carry("whoami", value)
    with pytest.raises(TypeError, match="carrier 'whoami' to give a JSON value"):
        site.say.delay("run")
    site.run_all()
    assert site.log == []


def test_an_endless_value_is_an_error_in_the_caller(site: Site):
    endless: list[object] = []
    endless.append(endless)
    site.carry("whoami", endless)
    with pytest.raises(TypeError, match="whoami"):
        site.say.delay("run")


def test_an_exception_of_capture_is_the_callers(site: Site):
    # Working outside of request context, as Flask says.
    site.tq.carrier("agent", capture=lambda: request.user_agent, restore=site.around)
    with pytest.raises(RuntimeError, match="request context"):
        site.say.delay("run")
    site.run_all()
    assert site.log == []


def test_too_much_to_carry_is_an_error_in_the_caller(site: Site):
    site.carry("small", "x" * 600_000)
    site.say.delay("run")
    site.carry("large", "x" * 600_000)
    with pytest.raises(
        PayloadTooLarge, match="TASKQUEUE_MAX_ARGS_BYTES allows 1048576"
    ):
        site.say.delay("run")


def test_what_no_carrier_here_takes_is_left_alone(
    redis_url: str, client: redis.Redis, caplog: pytest.LogCaptureFixture
):
    """Another version of the app enqueued it."""
    newer, older = Site(redis_url, client), Site(redis_url, client)
    newer.carry("added-later", "secret")
    with newer.app.app_context():
        result = newer.say.delay("run")
    with older.app.app_context(), caplog.at_level(logging.DEBUG, "flask_taskqueue"):
        older.run_all()
        assert AsyncResult(result.id).get(timeout=1) == "run"
    (record,) = [r for r in caplog.records if "added-later" in r.getMessage()]
    assert record.levelno == logging.DEBUG
    assert "secret" not in caplog.text


def test_a_carrier_is_asked_anew_inside_a_job(site: Site):
    """A request's URL and headers hold for the whole tree of jobs; a carrier's value
    is what it is where each is enqueued."""
    site.tq.carrier(
        "depth",
        capture=lambda: g.get("depth", 0) + 1,
        restore=lambda value: _setting_depth(value),
    )

    @site.tq.task(name="nest")
    def nest(more: int) -> list[t.Any]:
        return [g.depth, nest.delay(more - 1).id if more else None]

    depths = []
    top = nest.delay(2)
    site.run_all()
    below: str | None = top.id
    while below:
        depth, below = AsyncResult(below).get(timeout=1)
        depths.append(depth)
    assert depths == [1, 2, 3]


@contextmanager
def _setting_depth(value: int) -> Iterator[None]:
    g.depth = value
    yield


def test_retries_and_links_carry_what_their_job_carried(site: Site):
    mine = {"value": "first"}
    site.tq.carrier("v", capture=lambda: mine["value"], restore=site.around)

    @site.tq.task(name="again", bind=True, max_retries=1)
    def again(self: Task[[], None]) -> None:
        mine["value"] = "second"
        if self.request.retries == 0:
            raise self.retry(countdown=0)

    again.apply_async(link=site.say.si("linked"))
    site.run_all()
    entered = [row for row in site.log if isinstance(row, tuple) and row[0] == "enter"]
    assert entered == [("enter", "first")] * 3
    assert "linked" in site.log


def test_calls_made_at_once_and_their_links_ask_once(site: Site):
    asked = []

    def capture() -> int:
        asked.append("asked")
        return len(asked)

    site.tq.carrier("v", capture=capture, restore=site.around)
    link = site.say.si("linked").set(link=site.say.si("last"))
    site.say.delay_many([("a",), ("b",)], link=link, link_error=link)
    site.run_all()
    assert asked == ["asked"]
    assert site.log.count(("enter", 1)) == 6
    site.say.apply_async(("a",), link=link)
    assert len(asked) == 2


def test_a_carrier_of_the_same_name_replaces_the_first(site: Site):
    site.carry("v", 1)
    site.carry("v", 2)
    site.say.delay("run")
    site.run_all()
    assert site.log[0] == ("enter", 2)
    assert ("enter", 1) not in site.log


def test_all_apps_of_a_queue_have_its_carriers(site: Site):
    site.carry("v", 1)
    other = Flask("other")
    other.config["TASKQUEUE_EAGER"] = True
    site.tq.init_app(other)
    with other.app_context():
        assert site.say.delay("run").get() == "run"
    assert site.log[0] == ("enter", 1)


@pytest.mark.parametrize("eager", [False, True], ids=["worker", "eager"])
def test_the_locale_of_the_request_holds_in_the_task(
    redis_url: str, client: redis.Redis, eager: bool
):
    site = Site(redis_url, client, TASKQUEUE_EAGER=eager)

    def chosen() -> str | None:
        # There is no request in a shell, nor in a task.
        return request.accept_languages.best_match(["de", "cs"]) if request else None

    Babel(site.app, locale_selector=chosen)
    site.tq.carrier("locale", capture=lambda: str(get_locale()), restore=force_locale)

    @site.tq.task(name="greet")
    def greet() -> list[str]:
        return [str(get_locale()), format_date(date(2026, 3, 1), "MMMM")]

    @site.tq.task(name="relay")
    def relay() -> str:
        return greet.delay().id

    @site.app.get("/")
    def page() -> list[str]:
        return [greet.delay().id, relay.delay().id, *greet()]

    for language, month in (("de", "März"), ("cs", "března")):
        answer = site.app.test_client().get("/", headers={"Accept-Language": language})
        job, relayed, *seen = answer.get_json()
        assert seen == [language, month]
        with site.app.app_context():
            site.run_all()
            assert AsyncResult(job).get(timeout=1) == seen
            below = AsyncResult(relayed).get(timeout=1)
            assert AsyncResult(below).get(timeout=1) == seen
    with site.app.app_context():
        result = greet.delay()
        site.run_all()
        assert result.get(timeout=1) == ["en", "March"]


def test_what_is_carried_is_stored_as_json(redis_url: str, client: redis.Redis):
    site = Site(redis_url, client)
    site.carry("tenant", "ž")
    with site.app.test_request_context(
        base_url="https://example.com/p", headers={"X-Request-ID": "r"}
    ):
        job = site.say.delay("run").id
    raw = client.hget(f"rq:job:{job}", "tq_carried")
    assert json.loads(t.cast(bytes, raw)) == {
        "url": {
            "scheme": "https", "server": "example.com", "root": "/p/", "subdomain": "",
        },
        "headers": {"X-Request-ID": "r"},
        "values": {"tenant": "ž"},
    }  # fmt: skip
