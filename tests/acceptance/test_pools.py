"""Pools whose slots share one process: threads and gevent."""

from __future__ import annotations

import os
import signal
import types
import typing as t
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from flask import Flask

from flask_taskqueue.errors import (
    SoftTimeLimitExceeded,
    TaskRevokedError,
    TimeLimitExceeded,
)

from ..processes import AppFolder, Worker
from ..servers import Server, eventually
from .live import calling

SLOTS = {"threads": 8, "gevent": 100}


@dataclass
class Site:
    """One worker with a pool, which the tests of a module share."""

    pool: str
    folder: AppFolder
    tasks: types.ModuleType
    app: Flask
    worker: Worker
    client: t.Any

    def path(self, name: str) -> Path:
        return self.folder.folder / name

    def hold(self, name: str) -> t.Any:
        """A job that runs until the file of its name is gone."""
        return self.tasks.hold.delay(str(self.path(name)))

    def runs(self, name: str, count: int) -> list[str]:
        """What a job noted in its file, when there is so much: a pid for each run."""
        path = self.path(name)
        eventually(lambda: path.exists() and len(path.read_text().split()) >= count)
        return path.read_text().split()

    def charges(self, result: t.Any) -> list[bytes | None]:
        """A job's attempts and recoveries."""
        names = ("tq_retries", "tq_recoveries")
        return t.cast("list[bytes | None]", self.client.hmget(_key(result), names))


def _key(result: t.Any) -> str:
    return f"rq:job:{result.id}"


@pytest.fixture(scope="module", params=SLOTS)
def working(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A worker with each pool in turn."""
    pool = request.param
    path = tmp_path_factory.mktemp(pool)
    with Server(path / "server") as server, server.client() as client:
        env = {"FILES": "256,4096"} | ({"COROUTINES": "1"} if pool == "threads" else {})
        folder = AppFolder(path, server.url, "pooled", **env)
        try:
            module = folder.module()
            app = module.create_app(TASKQUEUE_URL=server.url)
            worker = folder.worker("-P", pool, "-c", str(SLOTS[pool]))
            yield Site(pool, folder, module, app, worker, client)
        finally:
            folder.close()


@pytest.fixture
def site(working: Site) -> Iterator[Site]:
    """The same, where its tasks can be called."""
    with working.app.app_context():
        yield working


THREADS = pytest.mark.parametrize("working", ["threads"], indirect=True)
GEVENT = pytest.mark.parametrize("working", ["gevent"], indirect=True)


@dataclass
class Crowd:
    """Jobs that ran at once, one in each slot."""

    ids: list[str]
    seen: list[dict[str, t.Any]]
    ends: list[str]


@pytest.fixture(scope="module")
def crowd(working: Site) -> Crowd:
    folder = working.path("crowd")
    folder.mkdir()
    slots = SLOTS[working.pool]
    with working.app.app_context():
        results = working.tasks.meet.delay_many([(str(folder), slots)] * slots)
        seen = [result.get(timeout=30) for result in results]
    ends = folder / "ends"
    eventually(lambda: len(ends.read_text().split()) >= slots)
    return Crowd([result.id for result in results], seen, ends.read_text().split())


def test_all_slots_run_at_once_in_one_process(site: Site, crowd: Crowd):
    assert all(each["met"] for each in crowd.seen)
    assert {each["pid"] for each in crowd.seen} == set(site.worker.children)
    assert len({each["thread"] for each in crowd.seen}) == SLOTS[site.pool]
    assert site.path("inits").read_text().split() == [str(crowd.seen[0]["pid"])]
    assert f"concurrency: {SLOTS[site.pool]} ({site.pool})" in site.worker.output


def test_each_has_a_context_of_its_own(crowd: Crowd):
    for own, each in zip(crowd.ids, crowd.seen, strict=True):
        assert each["found"] == ["nobody's", "nobody's"]
        assert each["kept"] == [own, own, own]


def test_each_is_torn_down(crowd: Crowd):
    assert sorted(crowd.ends) == sorted(crowd.ids)


def test_a_soft_limit_can_be_caught(site: Site):
    limited = [
        site.tasks.careful.apply_async(soft_time_limit=0.1 + n / 10) for n in range(3)
    ]
    for result in limited:
        assert result.get(timeout=10) == [
            "SoftTimeLimitExceeded",
            "the soft time limit is over",
        ]


def test_a_soft_limit_that_is_not_caught_fails_the_job_alone(site: Site):
    (child,) = site.worker.children
    held = site.hold("soft")
    limited = site.tasks.careless.apply_async(soft_time_limit=0.1)
    with pytest.raises(SoftTimeLimitExceeded, match="the soft time limit is over"):
        limited.get(timeout=10)
    assert site.runs("soft", 1) == [str(child)]
    site.path("soft").unlink()
    assert held.get(timeout=10) == "released"
    assert site.worker.children == [child]


def test_programs_can_be_run(site: Site):
    assert site.tasks.run_programs.delay().get(timeout=10) == [-signal.SIGTERM, 3]


@THREADS
def test_a_coroutine_runs_in_a_thread_and_is_interrupted(site: Site):
    limited = site.tasks.tq.send_task("pooled.patient", soft_time_limit=0.1)
    assert limited.get(timeout=10) == "the soft time limit is over"


Stop = Callable[[t.Any], None]


def at_its_limit(result: t.Any) -> None:
    with pytest.raises(TimeLimitExceeded, match=r"the time limit of 0\.5 s is over"):
        result.get(timeout=10)
    assert result.state == "FAILURE"


def by_revoke(result: t.Any) -> None:
    result.revoke(terminate=True)
    with pytest.raises(TaskRevokedError, match="terminated"):
        result.get(timeout=10)
    assert result.state == "REVOKED"


ENDS = pytest.mark.parametrize(
    ("options", "end"),
    [
        pytest.param({"time_limit": 0.5}, at_its_limit, id="limit"),
        pytest.param({}, by_revoke, id="terminate"),
    ],
)


@ENDS
def test_what_only_a_kill_can_end_costs_the_others_nothing(
    site: Site, options: dict[str, float], end: Stop
):
    """In a thread, or where a greenlet computes, the process goes: its other jobs run
    again in the next one."""
    held, computing = f"beside-{end.__name__}", f"computes-{end.__name__}"
    other = site.hold(held)
    (before,) = site.runs(held, 1)
    job = site.tasks.compute.apply_async((str(site.path(computing)),), **options)
    site.runs(computing, 1)
    end(job)
    assert site.runs(held, 2)[1:] != [before]
    site.path(held).unlink()
    assert other.get(timeout=10) == "released"
    assert site.charges(other) == site.charges(job) == [None, None]
    assert len(site.runs(computing, 1)) == 1


@GEVENT
@ENDS
def test_a_greenlet_that_waits_is_ended_alone(
    site: Site, options: dict[str, float], end: Stop
):
    held, stubborn = f"near-{end.__name__}", site.path(f"stubborn-{end.__name__}")
    (child,) = site.worker.children
    other = site.hold(held)
    job = site.tasks.stubborn.apply_async((str(stubborn),), **options)
    eventually(lambda: job.state == "STARTED")
    end(job)
    assert site.runs(held, 1) == [str(child)]
    site.path(held).unlink()
    assert other.get(timeout=10) == "released"
    assert site.worker.children == [child]
    assert site.charges(job) == [None, None]
    # Its task could catch nothing; only a failure has hooks.
    if end is at_its_limit:
        assert site.runs(stubborn.name, 1) == ["TimeLimitExceeded"]
    else:
        assert not stubborn.exists()


def test_what_a_killed_process_ran_runs_again(site: Site):
    names = [f"lost{number}" for number in range(3)]
    held = [site.hold(name) for name in names]
    (child,) = site.worker.children
    for name in names:
        assert site.runs(name, 1) == [str(child)]
    os.kill(child, signal.SIGKILL)
    (heir,) = {site.runs(name, 2)[1] for name in names}
    assert heir != str(child)
    for name, result in zip(names, held, strict=True):
        site.path(name).unlink()
        assert result.get(timeout=10) == "released"
        assert site.charges(result) == [None, b"1"]


class Held:
    """Jobs that run in a worker with one of the pools, begun one after another.

    :param options: Of the worker.
    """

    def __init__(self, folder: AppFolder, tasks: t.Any, pool: str, *options: str):
        self.paths = [folder.folder / f"held{number}" for number in range(3)]
        self.results = []
        self.worker = folder.worker("-P", pool, "-c", "3", *options)
        for path in self.paths:
            self.results.append(tasks.hold.delay(str(path)))
            eventually(path.exists)
        self.waiting = tasks.hold.delay(str(folder.folder / "waiting"))


@pytest.fixture
def pooled(tmp_path: Path, redis_url: str) -> Iterator[AppFolder]:
    folder = AppFolder(tmp_path, redis_url, "pooled")
    yield folder
    folder.close()


@pytest.fixture
def tasks(pooled: AppFolder) -> Iterator[t.Any]:
    with calling(pooled) as tasks:
        yield tasks


EACH_POOL = pytest.mark.parametrize("pool", SLOTS)


@EACH_POOL
def test_a_stop_lets_running_jobs_finish(
    pooled: AppFolder, tasks: t.Any, client: t.Any, pool: str
):
    held = Held(pooled, tasks, pool)
    held.worker.signal(signal.SIGTERM)
    held.worker.await_line("finishing what runs")
    for path, result in zip(held.paths, held.results, strict=True):
        # One slot after another ends, and the last ends the process.
        path.unlink()
        assert result.get(timeout=10) == "released"
    assert held.worker.process.wait(10) == 0
    assert held.waiting.state == "PENDING"
    assert "Traceback" not in held.worker.output


@EACH_POOL
def test_what_takes_too_long_at_a_stop_is_given_back_in_order(
    pooled: AppFolder, tasks: t.Any, client: t.Any, pool: str
):
    held = Held(pooled, tasks, pool, "--shutdown-timeout", "0.2")
    assert held.worker.stop() == 75
    waiting = [job_id.decode() for job_id in client.lrange("rq:queue:default", 0, -1)]
    assert waiting == [result.id for result in (*held.results, held.waiting)]


@EACH_POOL
def test_a_burst_ends_when_nothing_waits(pooled: AppFolder, tasks: t.Any, pool: str):
    results = tasks.run_programs.delay_many([()] * 5)
    done = pooled.flask("worker", "--burst", "-P", pool, "-c", "3")
    assert done.returncode == 0, done.stderr
    assert {result.state for result in results} == {"SUCCESS"}


def test_an_app_may_patch_itself(pooled: AppFolder, tasks: t.Any):
    source = pooled.module_path.read_text()
    first = "from gevent import monkey\n\nmonkey.patch_all()\n"
    future = "from __future__ import annotations\n"
    pooled.module_path.write_text(source.replace(future, future + first))
    worker = pooled.worker("-P", "gevent", "-c", "3")
    assert "gevent.monkey" not in Path(f"/proc/{worker.pid}/cmdline").read_text()
    assert tasks.run_programs.delay().get(timeout=10) == [-signal.SIGTERM, 3]
    (child,) = worker.children
    os.kill(child, signal.SIGKILL)
    eventually(lambda: worker.children and worker.children != [child])
    assert tasks.run_programs.delay().get(timeout=10) == [-signal.SIGTERM, 3]
    assert worker.stop() == 0


def refused(folder: AppFolder, *options: str) -> str:
    """What a worker says that does not start."""
    done = folder.flask("worker", "--burst", *options)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_gevent_refuses_coroutines(pooled: AppFolder):
    pooled.env["COROUTINES"] = "1"
    said = refused(pooled, "-P", "gevent")
    assert "'async def'" in said
    assert "pooled.patient" in said
    assert "pooled.hold" not in said


def test_a_pool_needs_open_files(pooled: AppFolder):
    pooled.env["FILES"] = "256,300"
    said = refused(pooled, "-P", "threads", "-c", "100")
    assert "-c 100 needs up to 1256 open files" in said
    assert "the system allows 300" in said


def test_gevent_must_be_installed(pooled: AppFolder):
    with pooled.module_path.open("a") as module:
        module.write("\nimport sys\n\nsys.modules['gevent'] = None\n")
    assert "pip install 'Flask-TaskQueue[gevent]'" in refused(pooled, "-P", "gevent")


def test_gevent_does_not_replace_a_process_that_is_not_the_commands(tasks: t.Any):
    app = tasks.create_app()
    result = app.test_cli_runner().invoke(args=["worker", "-P", "gevent"])
    assert result.exit_code == 2
    assert "run it by the flask command" in result.output
