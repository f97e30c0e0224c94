"""A worker that claims many short jobs at once runs each once, whatever happens."""

from __future__ import annotations

import signal
import typing as t
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_taskqueue import AsyncResult
from flask_taskqueue.errors import (
    SoftTimeLimitExceeded,
    TaskRevokedError,
    TimeLimitExceeded,
)
from flask_taskqueue.worker.pace import MOST

from ..processes import AppFolder
from ..servers import Server, eventually
from .live import Ledger, calling

Client = t.Any

MOST_LOST = 2 * MOST
"""Short jobs whose ends may be lost with a worker."""

SHORT = 100
"""Jobs after a slow one until many are claimed at once again."""


class Site:
    """The app's tasks here, and its workers."""

    def __init__(self, folder: AppFolder, tasks: t.Any, client: Client) -> None:
        self.folder = folder
        self.tasks = tasks
        self.client = client
        self.jobs: dict[int, AsyncResult[t.Any]] = {}
        self.worker = folder.worker

    def add(self, task: t.Any, *args: object, **options: t.Any) -> AsyncResult[t.Any]:
        """Enqueue a job; its number is its place among all."""
        number = len(self.jobs)
        self.jobs[number] = job = task.apply_async((number, *args), **options)
        return job

    def add_short(
        self, count: int, task: t.Any = None, queue: str = "default"
    ) -> range:
        """Enqueue short jobs; their numbers."""
        task = self.tasks.short if task is None else task
        first = len(self.jobs)
        numbers = range(first, first + count)
        given = [(number,) for number in numbers]
        results = task.delay_many(given, queue=queue)
        self.jobs |= zip(numbers, results, strict=True)
        return numbers

    def file(self, name: str) -> Path:
        path = self.folder.folder / name
        path.touch()
        return path

    def ledger(self) -> Ledger:
        return Ledger(self.folder.folder / "ledger").read()

    def await_start(self, number: int) -> None:
        eventually(lambda: self.ledger().starts()[number], 30, f"{number} starts")

    def number_of(self, job: AsyncResult[t.Any]) -> int:
        return next(n for n, other in self.jobs.items() if other is job)

    def await_end(self, numbers: t.Iterable[int] | None = None) -> None:
        """Wait until jobs have ended well, and see that each did so once."""
        wanted = list(self.jobs if numbers is None else numbers)
        left = set(wanted)

        def over() -> bool:
            with self.client.pipeline() as pipe:
                some = sorted(left)[:500]
                for number in some:
                    pipe.hget(f"rq:job:{self.jobs[number].id}", "status")
                statuses = dict(zip(some, pipe.execute(), strict=True))
            ended = {n for n, status in statuses.items() if status == b"finished"}
            left.difference_update(ended)
            return not left

        eventually(over, 60, "all have ended well")
        with self.client.pipeline() as pipe:
            for number in wanted:
                pipe.xrange(f"rq:results:{self.jobs[number].id}")
            streams = dict(zip(wanted, pipe.execute(), strict=True))
        for number, entries in streams.items():
            ((_, entry),) = entries
            assert b64decode(entry[b"return_value"]) == str(number**2).encode()

    def field(self, job: AsyncResult[t.Any], name: str) -> str:
        value = self.client.hget(f"rq:job:{job.id}", name)
        return "" if value is None else value.decode()

    def charged(self) -> dict[int, int]:
        """Jobs that were charged a recovery."""
        with self.client.pipeline() as pipe:
            for job in self.jobs.values():
                pipe.hget(f"rq:job:{job.id}", "tq_recoveries")
            found = zip(self.jobs, pipe.execute(), strict=True)
        return {number: int(count) for number, count in found if int(count or 0)}

    def held(self, queue: str = "default") -> int:
        """Jobs that somebody has a lease for."""
        return int(self.client.zcard(f"rq:wip:{queue}"))

    def ended(self, queue: str = "default") -> int:
        return int(self.client.zcard(f"rq:finished:{queue}"))


@pytest.fixture
def site(tmp_path: Path, redis_url: str, client: Client) -> Iterator[Site]:
    folder = AppFolder(tmp_path, redis_url, "ahead")
    try:
        with calling(folder) as tasks:
            yield Site(folder, tasks, client)
    finally:
        folder.close()


def calls(client: Client) -> int:
    """How many scripts were called."""
    stats = client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]
               for name in ("eval", "evalsha"))  # fmt: skip


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "solo"])
def test_many_short_jobs_run_once_each_in_few_calls(site: Site, pool: str):
    numbers = site.add_short(600, site.tasks.pure)
    before = calls(site.client)
    slots = () if pool == "solo" else ("-c", "2")
    site.worker("-P", pool, *slots, "-l", "warning", ready=False)
    eventually(lambda: site.ended() == len(numbers), 60, "all ended")
    assert calls(site.client) - before < len(numbers) / 2
    site.await_end()
    assert site.charged() == {}


def test_what_waits_behind_a_long_job_runs_elsewhere_in_order(site: Site):
    site.add_short(SHORT)
    path = site.file("held")
    long = site.add(site.tasks.hold, path.name)
    before = range(len(site.jobs) - 1)
    behind = site.add_short(60)
    site.worker("-c", "1")
    site.await_start(before.stop)
    site.await_end(before)
    eventually(lambda: site.held() == 1, message="the others are given back")
    assert site.field(long, "started_at")
    site.worker("-c", "1")
    site.await_end(behind)
    assert long.state == "STARTED"
    path.unlink()
    assert long.get(timeout=15) == before.stop**2
    ledger = site.ledger()
    order = [number for kind, number, *_ in ledger.lines if kind == "start"]
    assert order == sorted(order) == list(site.jobs), "in order, each once"
    assert site.charged() == {}


def test_nothing_waits_for_a_job_that_lets_no_other_code_run(site: Site):
    site.worker("-c", "1")
    site.worker("-c", "1")
    before = site.add_short(SHORT)
    hog = site.add(site.tasks.hog, 3.0)
    behind = site.add_short(60)
    site.await_end([*before, *behind])
    assert hog.state in ("STARTED", "PENDING"), "it was not waited for"
    assert hog.get(timeout=15) == before.stop**2
    starts = site.ledger().starts()
    assert starts == Counter(dict.fromkeys(site.jobs, 1))
    assert site.charged() == {}


def test_of_a_child_that_dies_only_the_running_job_is_charged(site: Site):
    site.add_short(SHORT)
    site.add(site.tasks.die)
    dying = len(site.jobs) - 1
    site.add_short(60)
    site.worker("-c", "1")
    site.await_end()
    # What had ended before was stored, although its process was killed.
    assert site.ledger().starts() - Counter(list(site.jobs)) == Counter([dying])
    assert site.charged() == {dying: 1}


def test_limits_and_a_revoke_end_one_job_of_many(site: Site):
    tasks, never = site.tasks, site.file("never")
    site.add_short(SHORT)
    soft = site.add(tasks.hold, never.name, soft_time_limit=0.2)
    site.add_short(SHORT // 2)
    hard = site.add(tasks.hold, never.name, time_limit=0.3)
    site.add_short(SHORT // 2)
    revoked = site.add(tasks.hold, never.name)
    site.add_short(SHORT // 2)
    site.worker("-c", "1")
    with pytest.raises(SoftTimeLimitExceeded):
        soft.get(timeout=30)
    with pytest.raises(TimeLimitExceeded):
        hard.get(timeout=30)
    site.await_start(site.number_of(revoked))
    revoked.revoke(terminate=True)
    with pytest.raises(TaskRevokedError):
        revoked.get(timeout=30)
    others = {site.number_of(job) for job in (soft, hard, revoked)}
    site.await_end(site.jobs.keys() - others)
    assert site.ledger().starts() == Counter(list(site.jobs))
    assert site.charged() == {}


def test_a_reload_under_load_runs_nothing_twice(site: Site):
    worker = site.worker("-c", "2")
    worker.signal(signal.SIGHUP)

    def goes_on() -> bool:
        # There is always something to do.
        if site.client.llen("rq:queue:default") < 200:
            site.add_short(400)
        return worker.output.count(" ready.") == 2

    eventually(goes_on, 30, "the new program is ready")
    site.await_end()
    assert site.ledger().starts() == Counter(list(site.jobs))
    assert site.charged() == {}
    assert worker.stop() == 0


def test_a_stop_in_the_middle_gives_back_what_is_not_begun(site: Site):
    site.add_short(3000)
    worker = site.worker("-c", "2", ready=False)
    eventually(lambda: site.ended() > 50, 30)
    assert worker.stop() == 0
    assert site.held() == 0
    waiting = site.client.llen("rq:queue:default")
    assert site.ended() + waiting == len(site.jobs)
    assert waiting > 0, "it stopped in the middle"
    site.worker("-c", "2")
    site.await_end()
    assert site.ledger().starts() == Counter(list(site.jobs))
    assert site.charged() == {}


def test_connections_that_are_cut_under_load_cost_no_second_run(site: Site):
    site.add_short(2000)
    site.worker("-c", "2")
    cuts = ended = 0
    while (now := site.ended()) < len(site.jobs):
        if now > ended + 20:
            site.client.client_kill_filter(_type="normal", skipme=True)
            cuts, ended = cuts + 1, now
            if cuts % 3 == 0:
                site.client.script_flush()
    assert cuts > 10
    site.await_end()
    assert site.ledger().starts() == Counter(list(site.jobs))
    assert site.charged() == {}


def test_what_is_more_than_a_short_job_takes_no_other_with_it(site: Site):
    tasks = site.tasks
    site.add_short(SHORT)
    odd = [site.add(tasks.again)]
    site.add_short(20, tasks.report)
    big = site.add(tasks.large, 10)
    site.add_short(SHORT)
    odd.append(site.add(tasks.fork))
    site.add_short(SHORT)
    odd.append(site.add(tasks.exit_in_hook))
    site.add_short(20)
    site.worker("-c", "1", FLASK_TASKQUEUE_MAX_RESULT_BYTES=str(16 * 2**20))
    assert len(big.get(timeout=30)) == 10 * 2**20
    site.await_end(site.jobs.keys() - {site.number_of(big)})
    retried, exiting = site.number_of(odd[0]), site.number_of(odd[-1])
    twice = site.ledger().starts() - Counter(list(site.jobs))
    assert twice == Counter([retried, exiting])
    assert site.charged() == {exiting: 1}


def test_a_child_that_is_worn_begins_no_more_of_what_it_claimed(site: Site):
    site.add_short(SHORT)
    site.add(site.tasks.keep, 300)
    worn = len(site.jobs) - 1
    site.add_short(40)
    worker = site.worker("-c", "1", "--max-memory-per-child", "250")
    site.await_end()
    worker.await_line("takes more than 250 MiB")
    ran = {n: pid for kind, n, pid, _ in site.ledger().lines if kind == "start"}
    assert [n for n, pid in ran.items() if pid == ran[worn] and n > worn] == []
    assert site.ledger().starts() == Counter(list(site.jobs))
    assert site.charged() == {}


def test_no_child_claims_more_than_it_may_run(site: Site):
    site.add_short(60)
    site.worker("-c", "1", "--max-tasks-per-child", "25")
    site.await_end()
    ran = Counter(pid for kind, _, pid, _ in site.ledger().lines)
    assert sorted(ran.values()) == [10, 25, 25]
    assert site.ledger().starts() == Counter(list(site.jobs))


@pytest.fixture
def lonely(tmp_path: Path) -> Iterator[Site]:
    """On a server of its own, where nobody else gives leases to others."""
    with Server(tmp_path / "server") as server, server.client() as client:
        folder = AppFolder(tmp_path, server.url, "ahead")
        try:
            with calling(folder) as tasks:
                yield Site(folder, tasks, client)
        finally:
            folder.close()


def test_a_worker_that_is_lost_or_paused_with_jobs_claimed_ahead(lonely: Site):
    """Both at once, because each takes as long as a lease."""
    site, tasks = lonely, lonely.tasks
    path = site.file("held")
    held = site.add(tasks.hold, path.name, queue="lost")
    # In the middle of others its process is killed, or stopped, with its supervisor.
    site.add_short(SHORT, queue="lost")
    site.add(tasks.signal_group, signal.SIGKILL, queue="lost")
    site.add_short(60, queue="lost")
    first = site.add_short(SHORT, queue="paused").start
    site.add(tasks.signal_group, signal.SIGSTOP, queue="paused")
    site.add_short(60, queue="paused")
    lost = site.worker("-c", "2", "-Q", "lost", ready=False)
    paused = site.worker("-c", "1", "-Q", "paused,own", ready=False)
    for which in (signal.SIGKILL, signal.SIGSTOP):
        eventually((site.folder.folder / f"signal-{which.value}").exists, 30)
    lost.process.wait(10)
    before = site.ledger()
    site.worker("-c", "2", "-Q", "lost,paused")
    eventually(lambda: site.ledger().starts()[0] == 2, 30, "what was lost runs again")
    path.unlink()
    site.await_end()

    charged = site.charged()
    begun = {number for kind, number, *_ in before.lines if kind == "start"}
    assert charged[site.number_of(held)] == 1
    assert set(charged) <= begun, "only what was begun is charged"
    twice = site.ledger().starts() - Counter(list(site.jobs))
    assert set(twice) <= begun
    assert set(twice.values()) == {1}
    # Those whose ends were to be stored together, and what ran, of either worker.
    assert len([n for n in twice if n < first]) <= MOST_LOST + 1
    assert len([n for n in twice if n >= first]) <= MOST_LOST

    known = len(site.ledger().lines)
    paused.signal(signal.SIGCONT, group=True)
    own = tasks.pure.apply_async((12,), queue="own")
    assert own.get(timeout=15) == 144
    assert paused.stop() == 0
    assert len(site.ledger().lines) == known, "it begins nothing of what it had"
    site.await_end()
