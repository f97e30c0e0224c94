"""Progress bars in a real browser: a page, a web server, a worker, Redis."""

from __future__ import annotations

import json
import re
import typing as t
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
import redis
from playwright.sync_api import Browser, Locator, Page, Request, expect

from ..browser import Web
from ..processes import AppFolder
from ..servers import Server, eventually

DOCS = Path(__file__).parents[2] / "docs" / "pages.md"
UNKNOWN = "12345678-1234-4234-8234-123456789abc"


class Job:
    """A job that does what it is told."""

    def __init__(self, client: redis.Redis, job_id: str) -> None:
        self._client = client
        self.id = job_id

    def _order(self, order: str, value: object) -> None:
        self._client.rpush(f"orders:{self.id}", json.dumps([order, value]))

    def progress(self, current: float, total: float, message: str = "") -> None:
        """Let it say how far it is."""
        self._order("progress", [current, total, message])

    def succeed(self, value: object = None) -> None:
        """Let it end well."""
        self._order("return", value)

    def fail(self, message: str) -> None:
        """Let it end with an exception."""
        self._order("raise", message)


class Site:
    """The app ``tests/apps/pages.py``, with a worker and web servers.

    :param web: The one that all tests share.
    """

    def __init__(self, folder: AppFolder, web: Web, client: redis.Redis) -> None:
        self.folder = folder
        self.web = web
        self._client = client

    def start(self) -> Job:
        """A new job, not asked to do anything yet."""
        begin = urllib.request.Request(f"{self.web.url}/jobs", method="POST")
        with urllib.request.urlopen(begin) as answer:
            return self.job(json.load(answer)["id"])

    def job(self, job_id: str) -> Job:
        """One that a page has started."""
        return Job(self._client, job_id)

    def bars(self, *jobs: Job, web: Web | None = None, **options: str) -> str:
        """URL of a page with a bar for each of some jobs."""
        query = urlencode([*(("id", job.id) for job in jobs), *options.items()])
        return f"{(web or self.web).url}/bars?{query}"


def without_streams(site: Site) -> Web:
    """A server that has no room for a stream."""
    return Web(site.folder, FLASK_TASKQUEUE_MAX_STREAMS="0")


@contextmanager
def orders(site: Site, number: int = 1) -> Iterator[list[Job]]:
    """Jobs that have ended when the test has: they occupy the worker."""
    jobs = [site.start() for _ in range(number)]
    try:
        yield jobs
    finally:
        for job in jobs:
            job.succeed()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    place = tmp_path_factory.mktemp("pages")
    with Server(place / "server") as server, server.client() as client:
        (place / "app").mkdir()
        folder = AppFolder(place / "app", server.url, "pages")
        worker = folder.worker("-c", "3", ready=False)
        try:
            with Web(folder) as web:
                worker.await_line(" ready.")
                yield Site(folder, web, client)
        finally:
            folder.close()


class Asked:
    """What a page asks of the endpoint."""

    def __init__(self, page: Page) -> None:
        self.streams: list[str] = []
        self.polls: list[str] = []
        page.on("request", self._note)

    def _note(self, request: Request) -> None:
        path = urlsplit(request.url).path
        if path.endswith("/events"):
            self.streams.append(request.url)
        elif re.fullmatch(r"/tasks/[0-9a-f-]{36}", path):
            self.polls.append(request.url)


def noticed(page: Page, condition: t.Callable[[], object]) -> None:
    """Wait for what Playwright tells of, which it does while it is called."""
    eventually(lambda: page.title() is not None and condition())


def bar(page: Page, name: str = "Import 1") -> Locator:
    """The bar of that name, as a screen reader finds it."""
    return page.get_by_role("progressbar", name=name, exact=True)


def said(page: Page) -> Locator:
    """What a screen reader is told of the only bar."""
    return page.locator("task-progress").get_by_role("status")


def message(page: Page) -> Locator:
    """What the task of the only bar says."""
    return page.locator("task-progress [data-part=message]")


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page on which no script fails and nothing breaks the app's policy."""
    page = browser.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda line: wrong.append(line.text))
    yield page
    page.context.close()
    # Refused streams and a server that is away are logged, too.
    assert [line for line in wrong if "Failed to load resource" not in line] == []


def test_the_bar_moves_with_events(site: Site, page: Page):
    asked = Asked(page)
    with orders(site) as [job]:
        page.goto(site.bars(job))
        expect(said(page)).to_have_text("Running")
        assert bar(page).get_attribute("value") is None
        job.progress(3, 10, "row 3")
        expect(bar(page)).to_have_attribute("value", "3")
        expect(bar(page)).to_have_attribute("max", "10")
        expect(message(page)).to_have_text("row 3")
        job.progress(7, 10, "row 7")
        expect(bar(page)).to_have_attribute("value", "7")
        assert (len(asked.streams), asked.polls) == (1, [])
        job.succeed()
        expect(said(page)).to_have_text("Done")
        expect(bar(page)).to_have_attribute("value", "10")
        expect(page.get_by_role("link", name="Refresh")).to_be_visible()
        # The last event says all.
        assert (len(asked.streams), asked.polls) == (1, [])


def test_a_stream_that_falls_silent_is_left(site: Site, page: Page):
    asked = Asked(page)
    page.clock.install()
    with orders(site) as [job]:
        page.goto(site.bars(job))
        for times in (1, 2):
            # Comes by a stream, which from then on is expected to say more.
            job.progress(times, 10)
            expect(bar(page)).to_have_attribute("value", str(times))
            page.clock.fast_forward(30_000)
            noticed(page, lambda most=times: len(asked.streams) > most)
        assert {urlsplit(url).query for url in asked.polls} == {""}
        job.progress(3, 10)
        expect(bar(page)).to_have_attribute("value", "3")


def test_a_screen_reader_is_told_of_states_and_not_of_progress(site: Site, page: Page):
    with orders(site) as [job]:
        page.goto(site.bars(job))
        job.progress(1, 10, "row 1")
        expect(message(page)).to_have_text("row 1")
        page.evaluate(
            "() => { window.spoken = [];"
            " const status = document.querySelector('[role=status]');"
            " new MutationObserver(() => window.spoken.push(status.textContent))"
            ".observe(status, { childList: true, characterData: true,"
            " subtree: true }); }"
        )
        for current in range(2, 7):
            job.progress(current, 10, f"row {current}")
            expect(message(page)).to_have_text(f"row {current}")
        assert page.evaluate("window.spoken") == []
        job.succeed()
        expect(said(page)).to_have_text("Done")
        assert page.evaluate("window.spoken") == ["Done"]


def test_the_bar_moves_where_streams_are_refused(site: Site, page: Page):
    asked = Asked(page)
    with (
        Web(site.folder, FLASK_TASKQUEUE_MAX_STREAMS="0") as web,
        orders(site) as [job],
    ):
        page.goto(site.bars(job, web=web))
        job.progress(3, 10, "row 3")
        expect(bar(page)).to_have_attribute("value", "3")
        job.progress(7, 10, "row 7")
        expect(bar(page)).to_have_attribute("value", "7")
        job.succeed()
        expect(said(page)).to_have_text("Done")
        expect(message(page)).to_have_text("row 7")
    # Asked once for a stream, refused, not asked again.
    assert len(asked.streams) == 1
    assert {urlsplit(url).query for url in asked.polls} == {"wait=2"}


def test_the_bar_moves_where_a_proxy_lets_no_event_through(site: Site, page: Page):
    asked = Asked(page)
    page.clock.install()
    page.route("**/events", lambda route: None)
    with orders(site) as [job]:
        page.goto(site.bars(job))
        noticed(page, lambda: asked.streams)
        job.progress(3, 10)
        page.clock.fast_forward(5_000)
        expect(bar(page)).to_have_attribute("value", "3")


def test_a_bar_goes_on_when_the_server_was_restarted(site: Site, page: Page):
    asked = Asked(page)
    with Web(site.folder) as web, orders(site) as [job]:
        page.goto(site.bars(job, web=web))
        job.progress(3, 10)
        expect(bar(page)).to_have_attribute("value", "3")
        web.stop()
        job.progress(7, 10)
        web.start()
        expect(bar(page)).to_have_attribute("value", "7")
        # The browser has opened the stream again by itself.
        assert asked.polls == []
        job.succeed()
        expect(said(page)).to_have_text("Done")


def test_a_polling_bar_goes_on_when_the_server_was_restarted(site: Site, page: Page):
    with (
        Web(site.folder, FLASK_TASKQUEUE_MAX_STREAMS="0") as web,
        orders(site) as [job],
    ):
        page.goto(site.bars(job, web=web))
        job.progress(3, 10)
        expect(bar(page)).to_have_attribute("value", "3")
        with page.expect_event("requestfailed"):
            web.stop()
        job.progress(7, 10)
        web.start()
        expect(bar(page)).to_have_attribute("value", "7")


def test_a_message_is_text_whatever_it_holds(site: Site, page: Page):
    hostile = "<img src=x onerror=document.title='owned'><b>bold</b>"
    with orders(site) as [job]:
        page.goto(site.bars(job))
        job.progress(1, 2, hostile)
        expect(message(page)).to_have_text(hostile)
        assert page.locator("task-progress img").count() == 0
        page.reload()
        expect(message(page)).to_have_text(hostile)
        assert page.locator("task-progress img").count() == 0


@pytest.mark.parametrize(
    ("end", "text", "value"),
    [
        pytest.param(Job.succeed, "Done", "10", id="success"),
        pytest.param(lambda job: job.fail("no"), "Failed", "3", id="failure"),
    ],
)
def test_the_end_is_an_event_and_the_page_stays(
    site: Site, page: Page, end: t.Callable[[Job], None], text: str, value: str
):
    with orders(site) as [job]:
        page.goto(site.bars(job))
        page.evaluate(
            "document.addEventListener('taskqueue:end', (event) => {"
            " window.ended = [event.target.localName, event.detail.state]; });"
        )
        refresh = page.get_by_role("link", name="Refresh")
        job.progress(3, 10)
        expect(bar(page)).to_have_attribute("value", "3")
        expect(refresh).to_be_hidden()
        end(job)
        expect(said(page)).to_have_text(text)
        ended = eventually(lambda: page.evaluate("window.ended"))
        assert ended == ["task-progress", "SUCCESS" if text == "Done" else "FAILURE"]
        expect(bar(page)).to_have_attribute("value", value)
        # The page may have more to show now.
        expect(refresh).to_be_visible()
        refresh.click()
        expect(refresh).to_have_count(0)
        expect(bar(page)).to_have_attribute("value", value)
        expect(said(page)).to_have_text(text)


def test_the_page_is_loaded_again_once_at_the_end(site: Site, page: Page):
    loads: list[str] = []
    page.on("load", lambda loaded: loads.append(loaded.url))
    with orders(site) as [job]:
        page.goto(site.bars(job, reload="yes"))
        job.succeed()
        # Made by the server: a page that ended without being loaded has it hidden.
        expect(page.get_by_role("link", name="Refresh")).to_have_count(0)
        expect(said(page)).to_have_text("Done")
        page.wait_for_load_state("networkidle")
    assert len(loads) == 2


def test_the_page_leads_on_when_the_job_succeeded(site: Site, page: Page):
    with orders(site, 2) as [job, other]:
        page.goto(site.bars(job, next="/done"))
        job.succeed()
        expect(page.get_by_role("heading")).to_have_text("All is done")
        page.goto(site.bars(other, next="/done"))
        other.fail("no")
        expect(said(page)).to_have_text("Failed")
        assert urlsplit(page.url).path == "/bars"
        page.goto(site.bars(job, next="/done"))
        expect(said(page)).to_have_text("Done")
        page.get_by_role("link", name="Continue").click()
        expect(page.get_by_role("heading")).to_have_text("All is done")


def test_a_listener_keeps_the_page_where_it_is(site: Site, page: Page):
    with orders(site) as [job]:
        page.goto(site.bars(job, next="/done", reload="yes"))
        page.evaluate(
            "document.addEventListener('taskqueue:end',"
            " (event) => { event.preventDefault(); window.kept = true; });"
        )
        job.succeed()
        eventually(lambda: page.evaluate("window.kept"))
        page.wait_for_load_state("networkidle")
        assert page.evaluate("window.kept")


def test_two_bars_on_a_page_move_apart(site: Site, page: Page):
    with orders(site, 2) as [first, second]:
        page.goto(site.bars(first, second))
        first.progress(3, 10)
        second.progress(4, 5)
        expect(bar(page, "Import 1")).to_have_attribute("value", "3")
        expect(bar(page, "Import 2")).to_have_attribute("value", "4")
        first.succeed()
        texts = page.locator("task-progress").get_by_role("status")
        expect(texts).to_have_text(["Done", "Running"])


def test_many_bars_leave_connections_for_the_page(site: Site, page: Page):
    asked = Asked(page)
    with orders(site, 8) as jobs:
        page.goto(site.bars(*jobs))
        noticed(page, lambda: len({*asked.polls}) == 6)
        assert len(asked.streams) == 2
        assert {urlsplit(url).query for url in asked.polls} == {""}
        assert page.evaluate("fetch('/done').then((answer) => answer.status)") == 200
        for job in jobs:
            job.succeed()
        expect(page.get_by_text("Done", exact=True)).to_have_count(8)


def test_a_hidden_page_holds_no_connection(site: Site, page: Page):
    asked = Asked(page)
    page.add_init_script(
        "Object.defineProperty(document, 'hidden', { get: () => window.away });"
        "window.turn = (away) => { window.away = away;"
        " document.dispatchEvent(new Event('visibilitychange')); };"
    )
    with orders(site) as [job]:
        page.goto(site.bars(job))
        job.progress(1, 4)
        expect(bar(page)).to_have_attribute("value", "1")
        with page.expect_event("requestfailed"):
            page.evaluate("turn(true)")
        for current in ("2", "3"):
            job.progress(int(current), 4)
            expect(bar(page)).to_have_attribute("value", current)
        assert len(asked.streams) == 1
        assert {urlsplit(url).query for url in asked.polls} == {""}
        with page.expect_request("**/events"):
            page.evaluate("turn(false)")


def test_a_bar_that_is_added_is_live_and_a_removed_one_is_not(site: Site, page: Page):
    with orders(site, 2) as [first, second]:
        page.goto(site.bars(first))
        page.evaluate(
            "async (url) => { const page = await (await fetch(url)).text();"
            " document.querySelector('output').innerHTML = page; }",
            site.bars(second),
        )
        added = page.locator("output").get_by_role("progressbar")
        second.progress(2, 4)
        expect(added).to_have_attribute("value", "2")
        with page.expect_event("requestfailed") as failed:
            page.evaluate("document.querySelector('output task-progress').remove()")
        assert second.id in failed.value.url


def test_an_old_browser_has_the_link(site: Site, page: Page):
    page.add_init_script("delete AbortSignal.any;")
    with orders(site) as [job]:
        page.goto(site.bars(job))
        expect(said(page)).to_have_text("Not known at the moment")
        expect(page.get_by_role("link", name="Refresh")).to_be_visible()


def test_without_javascript_a_link_leads_on(site: Site, browser: Browser):
    with (
        browser.new_context(java_script_enabled=False) as context,
        orders(site) as [job],
    ):
        page = context.new_page()
        page.goto(site.bars(job, next="/done"))
        job.progress(3, 10, "row 3")
        link = page.get_by_role("link", name="Refresh")

        def clicked_until(text: str) -> bool:
            link.click()
            shown = said(page).text_content(), message(page).text_content()
            return shown == (text, "row 3")

        eventually(lambda: clicked_until("Running"))
        expect(bar(page)).to_have_attribute("value", "3")
        expect(bar(page)).to_have_attribute("max", "10")
        job.succeed()
        eventually(lambda: clicked_until("Done") if link.count() else True)
        page.get_by_role("link", name="Continue").click()
        expect(page.get_by_role("heading")).to_have_text("All is done")


def test_a_page_is_made_while_redis_is_away(
    tmp_path: Path, own_server: Server, page: Page
):
    (tmp_path / "app").mkdir()
    folder = AppFolder(tmp_path / "app", own_server.url, "pages")
    with Web(folder) as web, own_server.client() as client:
        site = Site(folder, web, client)
        job = site.start()
        own_server.stop()
        answer = page.goto(site.bars(job))
        assert answer is not None
        assert answer.status == 200
        expect(said(page)).to_have_text("Not known at the moment")
        own_server.start()
        expect(said(page)).to_have_text("Waiting")


WATCH = """async (job) => {
    const { watch } = await import("/tasks/static/taskqueue.js");
    const told = (window.told = []);
    const onProgress = (progress, state) => told.push([state, progress]);
    window.stopping = new AbortController();
    try {
        const { signal } = window.stopping;
        const { state, result } = await watch(job, { onProgress, signal });
        return { state, result, told };
    } catch (error) {
        return { name: error.name, message: error.message };
    }
}"""


@pytest.fixture
def lab(site: Site, page: Page) -> Page:
    """A page without bars, to try the module in."""
    page.goto(site.bars())
    return page


def test_watch_resolves_with_the_job(site: Site, lab: Page):
    with orders(site) as [job]:
        job.progress(1, 2, "half")
        job.succeed({"rows": 5})
        found = lab.evaluate(WATCH, f"/tasks/{job.id}")
    assert (found["state"], found["result"]) == ("SUCCESS", {"rows": 5})
    half = {"current": 1, "total": 2, "message": "half"}
    assert found["told"][-1] == ["SUCCESS", half]
    assert all(one != two for one, two in pairwise(found["told"]))


def test_watch_resolves_with_a_job_that_failed(site: Site, lab: Page):
    with orders(site) as [job]:
        job.fail("no")
        assert lab.evaluate(WATCH, job.id)["state"] == "FAILURE"


def test_watch_rejects_an_unknown_job(site: Site, lab: Page):
    found = lab.evaluate(WATCH, UNKNOWN)
    assert found == {
        "name": "Error",
        "message": f"{site.web.url}/tasks/{UNKNOWN}: 404",
    }


def test_watch_rejects_what_is_no_json(lab: Page):
    assert lab.evaluate(WATCH, "/done")["name"] == "SyntaxError"


@pytest.mark.parametrize("streams", ["32", "0"])
def test_watch_stops_when_it_is_told(site: Site, page: Page, streams: str):
    # No timer ends what the signal should.
    page.clock.install(time=0)
    page.clock.pause_at(1)
    with (
        Web(site.folder, FLASK_TASKQUEUE_MAX_STREAMS=streams) as web,
        orders(site) as [job],
    ):
        page.goto(site.bars(web=web))
        page.evaluate(f"(job) => {{ window.found = ({WATCH})(job); }}", job.id)
        eventually(lambda: page.evaluate("window.told?.length"))
        page.evaluate("window.stopping.abort()")
        assert page.evaluate("window.found")["name"] == "AbortError"


def documented(number: int, folder: Path) -> str:
    """A script of the documentation as a static file: its name."""
    scripts = re.findall(r"^```js\n(.*?)^```", DOCS.read_text("utf-8"), re.M | re.S)
    static = folder / "static"
    static.mkdir(exist_ok=True)
    (static / f"{number}.js").write_text(scripts[number], "utf-8")
    return f"{number}.js"


def test_the_documented_listener_works(site: Site, page: Page):
    script = documented(0, site.folder.folder)
    with orders(site) as [job]:
        page.goto(site.bars(job, script=script))
        job.succeed(5)
        expect(page.locator("output")).to_have_text("Result: 5")


def test_the_documented_form_works(site: Site, page: Page):
    page.goto(site.bars(script=documented(1, site.folder.folder)))
    with page.expect_response("**/jobs") as started:
        page.get_by_role("button", name="Start").click()
    job = site.job(started.value.json()["id"])
    job.progress(3, 10)
    expect(page.locator("output")).to_have_text("3 of 10")
    job.fail("no")
    expect(page.locator("output")).to_have_text("Failed: no")
