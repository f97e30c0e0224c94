"""``{{ task_progress(result) }}``: the markup, without a browser."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import redis
from flask import Flask, abort, render_template_string

from flask_taskqueue import AsyncResult, Task
from flask_taskqueue.web import pages

from .running import InProcess
from .servers import Server

UNKNOWN = "12345678-1234-4234-8234-123456789abc"
SCRIPT = "/tasks/static/taskqueue.js"


class Element(t.NamedTuple):
    """A tag with its attributes."""

    tag: str
    attributes: dict[str, str | None]


class Markup(HTMLParser):
    """What a browser makes of some markup: its elements and texts in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data.strip())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of each element of that name."""
        return [element.attributes for element in self.elements if element.tag == tag]

    def the(self, tag: str) -> dict[str, str | None]:
        """Attributes of the only element of that name."""
        [attributes] = self.all(tag)
        return attributes


class Site(InProcess):
    """An app with pages, and a task that shows itself while it runs."""

    def __init__(
        self,
        url: str,
        client: redis.Redis,
        app: Flask | None = None,
        **config: object,
    ) -> None:
        super().__init__("pagesapp", url, client, app, **config)
        self.meta: object = None
        self.state: str | None = None
        self.error: Exception | None = None
        self.seen = Markup("")
        self.work = self.tq.task(name="work", bind=True, max_retries=0)(self._work)

    def _work(self, task: Task[..., None]) -> None:
        task.update_state(state=self.state, meta=self.meta)
        assert task.request.id is not None
        self.seen = self.page(task.request.id)
        if self.error:
            raise self.error

    def page(self, result: object, arguments: str = "", **values: object) -> Markup:
        """A page with nothing but the bar."""
        with self.app.test_request_context():
            source = f"{{{{ task_progress(result, {arguments}) }}}}"
            return Markup(render_template_string(source, result=result, **values))

    def while_running(self, meta: object, state: str | None = None) -> Markup:
        """The page while a task says that of itself."""
        self.meta, self.state = meta, state
        self.work.delay()
        self.run_all()
        return self.seen


@pytest.fixture
def site(redis_url: str, client: redis.Redis) -> Iterator[Site]:
    site = Site(redis_url, client)
    with site.app.app_context():
        yield site


def test_a_job_that_waits_has_an_endless_bar_and_a_link(site: Site):
    result = site.work.delay()
    page = site.page(result)
    assert page.texts == ["Progress", "Waiting", "Refresh"]
    assert page.the("progress") == {}
    assert page.the("a")["href"] == ""
    assert [e.attributes.get("role") for e in page.elements].count("status") == 1
    tags = [element.tag for element in page.elements]
    assert tags[tags.index("label") + 1] == "progress"


def test_an_id_is_as_good_as_a_result(site: Site):
    result = site.work.delay()
    assert site.page(result.id).elements == site.page(result).elements


def test_what_is_neither_is_told(site: Site):
    with pytest.raises(TypeError, match="expected an AsyncResult or the id of a job"):
        site.page(None)


def test_the_script_finds_the_job(site: Site):
    result = site.work.delay()
    page = site.page(result)
    assert page.the("script") == {"type": "module", "src": SCRIPT}
    assert page.the("task-progress")["data-url"] == f"/tasks/{result.id}"


def test_links_keep_the_prefix_of_the_app(site: Site):
    result = site.work.delay()
    with site.app.test_request_context(base_url="http://localhost/shop/"):
        page = Markup(str(pages.task_progress(result)))
    assert page.the("script")["src"] == f"/shop{SCRIPT}"
    assert page.the("task-progress")["data-url"] == f"/shop/tasks/{result.id}"


@pytest.mark.parametrize(
    ("meta", "bar", "message"),
    [
        pytest.param(
            {"current": 3, "total": 10, "message": "row 3"},
            {"value": "3", "max": "10"},
            ["row 3"],
            id="numbers",
        ),
        pytest.param(
            {"current": 0.5, "total": 1}, {"value": "0.5", "max": "1"}, [], id="float"
        ),
        pytest.param(
            {"current": 0, "total": 10}, {"value": "0", "max": "10"}, [], id="start"
        ),
        pytest.param(
            {"current": 11, "total": 10}, {"value": "10", "max": "10"}, [], id="over"
        ),
        pytest.param({"current": -1, "total": 10}, {}, [], id="negative"),
        pytest.param({"current": 1, "total": 0}, {}, [], id="of-nothing"),
        pytest.param({"current": "1", "total": "2"}, {}, [], id="text"),
        pytest.param({"current": 1}, {}, [], id="no-total"),
        pytest.param(float("nan"), {}, [], id="nan"),
        pytest.param({"message": "busy"}, {}, ["busy"], id="message-only"),
        pytest.param(["a", "list"], {}, [], id="list"),
        pytest.param(7, {}, [], id="number"),
    ],
)
def test_the_bar_is_as_long_as_the_task_says(
    site: Site, meta: object, bar: dict[str, str], message: list[str]
):
    page = site.while_running(meta)
    assert page.the("progress") == bar
    assert page.texts == ["Progress", "Running", *message, "Refresh"]


def test_nothing_a_task_says_becomes_markup(site: Site):
    hostile = "\"'><script>alert(1)</script>"
    page = site.while_running({"message": hostile}, state=hostile)
    assert page.texts == ["Progress", hostile, hostile, "Refresh"]
    assert page.the("task-progress")["data-state"] == hostile
    assert [script["src"] for script in page.all("script")] == [SCRIPT]


def test_nothing_a_page_says_becomes_markup(site: Site):
    hostile = "\"'><script>alert(1)</script>"
    page = site.page(
        site.work.delay(),
        "label=text, next=text, texts={'PENDING': text, 'refresh': text}",
        text=hostile,
    )
    assert page.texts == [hostile, hostile, hostile]
    assert page.the("task-progress")["data-next"] == hostile
    assert [script["src"] for script in page.all("script")] == [SCRIPT]


def ended(site: Site, error: Exception | None = None) -> AsyncResult[None]:
    site.error, site.meta = error, {"current": 3, "total": 10, "message": "row 3"}
    result = site.work.delay()
    site.run_all()
    return result


def test_a_job_that_succeeded_has_a_full_bar_and_no_link(site: Site):
    page = site.page(ended(site), "reload=True")
    assert page.texts == ["Progress", "Done", "row 3"]
    assert page.the("progress") == {"value": "10", "max": "10"}
    # A page that loads itself again would do so for ever.
    assert page.all("script") == []
    assert page.the("task-progress") == {"data-state": "SUCCESS"}


def test_a_job_that_failed_has_the_bar_where_it_was(site: Site):
    page = site.page(ended(site, ValueError("secret")), "next='/done'")
    assert page.texts == ["Progress", "Failed", "row 3"]
    assert page.the("progress") == {"value": "3", "max": "10"}


def test_a_job_that_succeeded_leads_on(site: Site):
    page = site.page(ended(site), "next='/done'")
    assert page.texts[-1] == "Continue"
    assert page.the("a") == {"href": "/done"}


def test_a_revoked_job_is_cancelled(site: Site):
    result = site.work.delay()
    result.revoke()
    page = site.page(result)
    assert page.texts == ["Progress", "Cancelled"]
    assert page.the("progress") == {"value": "0", "max": "1"}


@pytest.mark.parametrize("job_id", [UNKNOWN, "own-id", "no id\ud800", ""])
def test_a_job_that_does_not_exist_is_not_waited_for(site: Site, job_id: str):
    page = site.page(job_id)
    assert page.texts == ["Progress", "No such job"]
    assert page.the("progress") == {"value": "0", "max": "1"}
    assert page.all("script") == []


def test_a_job_that_cannot_be_read_is_not_there(site: Site):
    result = site.work.delay()
    site.client.hset(f"rq:job:{result.id}", "tq_retries", "many")
    assert site.page(result).texts == ["Progress", "No such job"]


def is_static(page: Markup) -> bool:
    """Whether a page has the link only."""
    assert page.texts[-1] == "Refresh"
    return page.all("script") == [] and set(page.the("task-progress")) == {"data-state"}


def test_the_bar_is_static_without_the_endpoint(redis_url: str, client: redis.Redis):
    site = Site(redis_url, client, TASKQUEUE_STATUS_PREFIX=None)
    with site.app.app_context():
        assert is_static(site.page(site.work.delay(), "reload=True, next='/done'"))


def test_the_bar_is_static_for_an_id_the_endpoint_does_not_know(site: Site):
    assert is_static(site.page(site.work.apply_async(task_id="own-id")))


def test_an_authoriser_decides_whether_the_bar_is_live(site: Site):
    site.tq.authorize_status(lambda job: job.headers.get("owner") == "me")
    mine = site.work.apply_async(task_id="mine", headers={"owner": "me"})
    other = site.work.apply_async(task_id="other", headers={"owner": "you"})
    assert site.page(mine).the("task-progress")["data-url"] == "/tasks/mine"
    assert is_static(site.page(other))


def test_who_may_revoke_but_not_read_has_no_live_bar(site: Site):
    site.tq.authorize_status(lambda job: {"revoke"})
    assert is_static(site.page(site.work.delay()))


def test_an_authoriser_that_aborts_or_fails_does_not_take_the_page_with_it(
    site: Site, caplog: pytest.LogCaptureFixture
):
    result = site.work.delay()
    site.tq.authorize_status(lambda job: abort(401))
    assert is_static(site.page(result))
    assert caplog.records == []
    site.tq.authorize_status(lambda job: {}["user"])
    assert is_static(site.page(result))
    (record,) = caplog.records
    assert record.exc_info
    assert record.__dict__["job_id"] == result.id


def test_a_screen_reader_is_told_the_state_and_not_each_message(site: Site):
    page = site.while_running({"current": 1, "total": 2, "message": "row 1"})
    (status,) = [e for e in page.elements if e.attributes.get("role") == "status"]
    assert status.attributes["data-part"] == "text"
    assert "row 1" in page.texts


def test_the_bar_is_static_in_an_app_that_matches_hosts(redis_url, client):
    app = Flask("hosts", host_matching=True, static_folder=None)
    site = Site(redis_url, client, app)
    with app.app_context():
        result = site.work.delay()
        assert is_static(site.page(result))
        with app.test_request_context():
            answer = site.tq.accepted(result)
        assert answer.get_json()["links"] == {}
        assert "Location" not in answer.headers


def test_the_bar_is_static_outside_a_request(site: Site):
    source = "{{ task_progress(result) }}"
    page = Markup(render_template_string(source, result=site.work.delay()))
    assert is_static(page)


def test_redis_may_be_away(own_server: Server, client: redis.Redis):
    site = Site(own_server.url, client)
    own_server.stop()
    page = site.page(UNKNOWN)
    assert page.texts == ["Progress", "Not known at the moment", "Refresh"]
    assert page.the("progress") == {}
    # It goes on when Redis is back.
    assert page.the("task-progress")["data-url"] == f"/tasks/{UNKNOWN}"


def test_a_page_has_its_own_words(site: Site):
    class Lazy:
        def __str__(self) -> str:
            return "Wartet"

    page = site.page(
        site.work.delay(),
        "label='Import', texts={'PENDING': lazy, 'refresh': 'Neu laden'}",
        lazy=Lazy(),
    )
    assert page.texts == ["Import", "Wartet", "Neu laden"]
    assert '"PENDING": "Wartet"' in (page.the("task-progress")["data-texts"] or "")


def test_a_state_has_a_text_where_the_page_says_so(site: Site):
    assert site.while_running(None, state="SORTING").texts[1] == "SORTING"
    words = site.page(site.work.delay(), "texts={'SORTING': 'Sorts'}")
    assert '"SORTING": "Sorts"' in (words.the("task-progress")["data-texts"] or "")


def test_macros_know_the_global(site: Site):
    with site.app.test_request_context():
        template = site.app.jinja_env.from_string(
            "{% macro bar(job) %}{{ task_progress(job) }}{% endmacro %}"
        )
        module: t.Any = template.module
        assert "Waiting" in module.bar(site.work.delay().id)


def test_an_app_has_markup_of_its_own(
    tmp_path: Path, redis_url: str, client: redis.Redis
):
    (tmp_path / "taskqueue").mkdir()
    (tmp_path / "taskqueue" / "progress.html").write_text("<i>{{ bar.state }}</i>")
    app = Flask("ownpages", template_folder=str(tmp_path))
    site = Site(redis_url, client, app)
    with app.app_context():
        page = site.page(site.work.delay())
    assert [element.tag for element in page.elements] == ["i"]
    assert page.texts == ["PENDING"]


def test_the_script_is_small_and_needs_nothing(site: Site):
    with site.app.test_client() as browser, browser.get(SCRIPT) as answer:
        text = answer.get_data()
    assert answer.mimetype == "text/javascript"
    assert len(text) < 4096
    assert not re.search(rb"^\s*import\s|import\(", text, re.M)


def test_two_apps_have_pages_of_their_own(redis_url: str, client: redis.Redis):
    sites = [
        Site(redis_url, client, TASKQUEUE_STATUS_PREFIX=prefix)
        for prefix in ("/one", "/two")
    ]
    for site, prefix in zip(sites, ("/one", "/two"), strict=True):
        with site.app.app_context():
            page = site.page(site.work.delay())
        assert page.the("script")["src"] == f"{prefix}/static/taskqueue.js"
