"""Plain rq-scheduler and a plain ``rq worker --with-scheduler`` beside a beat."""

from __future__ import annotations

import subprocess
import sys
import time
import typing as t
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis
from rq_scheduler import Scheduler

from ..processes import AppFolder, Worker
from ..servers import eventually
from .books import EACH, SCHEDULER_SET, Books, assert_on_grid, declaring

OURS = {"each": 0.5, "cron": 1.0}
LOCK = "rq:scheduler_lock"

# rq-scheduler makes naive times in a way that Python 3.12 and later warn of.
pytestmark = pytest.mark.filterwarnings(
    "ignore:datetime.datetime.utc:DeprecationWarning"
)


class Plain:
    """Entries and processes of RQ's family, on the server of an app.

    :param folder: Where the app is.
    """

    def __init__(self, folder: AppFolder, client: redis.Redis) -> None:
        self._folder = folder
        self._client: t.Any = client
        self._scheduler = Scheduler(connection=client)
        self._running: list[Worker] = []

    def start(self, script: str, *args: str) -> Worker:
        """Start a program of the environment, in a process group of its own."""
        url = self._folder.env["FLASK_TASKQUEUE_URL"]
        path = Path(sys.executable).with_name(script)
        log = self._folder.folder / f"{script}-{len(self._running)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [path, *args, "--url", url],
                cwd=self._folder.folder,
                env=self._folder.env,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running.append(Worker(process, log))
        return self._running[-1]

    def start_scheduler(self) -> Worker:
        """Start an ``rqscheduler`` that looks each second."""
        return self.start("rqscheduler", "--interval", "1", "--verbose")

    def schedule(self, at: float, interval: int | None = None) -> str:
        """Make an entry of rq-scheduler in the queue ``theirs``; its id."""
        job = self._scheduler.schedule(
            datetime.fromtimestamp(at, UTC),
            "operator.add",
            args=(1, 2),
            interval=interval,
            queue_name="theirs",
        )
        return t.cast(str, job.id)

    def due(self) -> dict[str, float]:
        """Its entries' times."""
        found = self._client.zrange(SCHEDULER_SET, 0, -1, withscores=True)
        times = {member.decode(): score for member, score in found}
        return {id: at for id, at in times.items() if not id.startswith("beat-")}

    def has(self, id: str) -> bool:
        """Whether the job of one of its entries is there."""
        return bool(self._client.exists(f"rq:job:{id}"))

    def close(self) -> None:
        """Kill what is left."""
        for process in self._running:
            process.kill()


@pytest.fixture
def plain(jobs: AppFolder, client: redis.Redis) -> t.Iterator[Plain]:
    plain = Plain(jobs, client)
    yield plain
    plain.close()


@pytest.fixture
def ours(jobs: AppFolder, books: Books) -> AppFolder:
    """A folder whose app declares :data:`OURS`."""
    jobs.env |= declaring(each=EACH, cron={**EACH, "schedule": "* * * * * *"})
    return jobs


def assert_ours(books: Books) -> None:
    """Each due time fired once, by the histories: a plain worker takes the jobs."""
    for name, interval in OURS.items():
        rows = books.rows(name)
        dues = [row.due for row in rows]
        assert_on_grid(dues, round(interval * 1_000_000), name)
        assert {row.what for row in rows} == {"fired"}
        for row in rows:
            assert books.client.exists(f"rq:job:{row.job}")


def test_plain_schedulers_beside_a_beat_cost_no_entry(
    ours: AppFolder, books: Books, plain: Plain
):
    worker = plain.start("rq", "worker", "--with-scheduler", "theirs", "default")
    stray = plain.start_scheduler()
    at = time.time()
    theirs = plain.schedule(at, 1)
    # rq-scheduler takes an entry out before it puts it back.
    eventually(lambda: plain.due().get(theirs, 0) > at)
    worker.await_line("Job OK")

    beat = ours.beat()
    beat.await_line("A plain rqscheduler runs beside this beat")
    beat.await_line("A plain rq worker runs its scheduler here")
    later = plain.schedule(time.time())
    stray.await_line("Lock already taken")
    books.await_firings(OURS, 2)
    assert set(plain.due()) == {theirs, later}
    assert max(plain.due().values()) < time.time()
    assert plain.has(theirs)
    assert plain.has(later)
    assert books.names() == set(OURS)

    # Without a beat the lock stays.
    assert beat.stop() == 0
    before = plain.due()
    skipped = stray.output.count("Lock already taken")
    eventually(lambda: stray.output.count("Lock already taken") > skipped + 1)
    assert plain.due() == before
    assert books.names() == set(OURS)

    assert stray.process.poll() is None
    beat = ours.beat()
    books.await_firings(OURS, 1)
    assert beat.stop() == 0
    assert_ours(books)
    assert books.names() == set(OURS)


def test_an_rqscheduler_that_finds_no_lock_changes_none_of_ours(
    ours: AppFolder, books: Books, plain: Plain
):
    beat = ours.beat()
    books.await_firings(OURS, 1)
    assert beat.stop() == 0
    earlier = plain.schedule(time.time() - 10, 1)
    oldest = eventually(lambda: min(books.next_due(name) for name in OURS))
    behind = plain.schedule(oldest + 1)
    eventually(lambda: time.time() > oldest + 2)
    before = {name: books.next_due(name) for name in OURS}
    fired = {name: books.rows(name) for name in OURS}
    books.client.delete(LOCK)

    stray = plain.start_scheduler()
    assert stray.process.wait(10) == 1
    assert "DeserializationError" in stray.output
    # It stops at the first of ours: what is due before that has fired, once.
    assert plain.due()[earlier] > oldest
    assert plain.due()[behind] == int(oldest + 1)
    assert books.enqueued("theirs") != {}
    assert books.names() == set(OURS)
    assert {name: books.next_due(name) for name in OURS} == before
    assert {name: books.rows(name) for name in OURS} == fired
    assert set(books.enqueued()) == {books.id(name) for name in OURS}

    beat = ours.beat()
    books.await_firings(OURS, 1)
    assert beat.stop() == 0
    for name, interval in OURS.items():
        books.assert_each_once(name, interval)
