"""A worker's children are replaced: after so many jobs, or with so much memory."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ..processes import AppFolder
from ..servers import eventually
from .live import calling

APP = """
import os
import time
from pathlib import Path

from flask import Flask
from flask_taskqueue import TaskQueue

tq = TaskQueue()
kept = []


def create_app(**config):
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config.update(config)
    tq.init_app(app)
    return app


@tq.task
def pid():
    return os.getpid()


@tq.task
def keep(mebibytes):
    kept.append(bytearray(os.urandom(2**20) * mebibytes))
    return os.getpid()


@tq.task
def hold(folder, number):
    path = Path(folder, str(number))
    path.write_text(str(os.getpid()))
    while path.exists():
        time.sleep(0.005)
"""


@pytest.fixture
def folder(tmp_path: Path, redis_url: str) -> t.Iterator[AppFolder]:
    folder = AppFolder(tmp_path, redis_url, "recycled", source=APP)
    yield folder
    folder.close()


@pytest.fixture
def tasks(folder: AppFolder) -> t.Iterator[t.Any]:
    with calling(folder) as tasks:
        yield tasks


def pids(tasks: t.Any, count: int) -> list[int]:
    """In which process each of some jobs ran that were enqueued at once."""
    results = [tasks.pid.delay() for _ in range(count)]
    return [result.get(timeout=15) for result in results]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_no_child_runs_more_jobs_than_it_may(
    folder: AppFolder, tasks: t.Any, pool: str
):
    worker = folder.worker("-P", pool, "-c", "1", "--max-tasks-per-child", "2")
    ran = pids(tasks, 7)
    assert ran[0::2][:3] == ran[1::2]
    assert len(set(ran)) == 4
    worker.await_line("is replaced: it ran 2 jobs")
    assert worker.stop() == 0
    assert worker.output.count("is replaced") == 3
    assert "died" not in worker.output


def test_each_of_several_children_is_replaced_for_itself(
    folder: AppFolder, tasks: t.Any
):
    worker = folder.worker("-c", "2", FLASK_WORKER_MAX_TASKS_PER_CHILD="1")
    ran = pids(tasks, 8)
    assert len(set(ran)) == 8
    # The next ones are there before somebody asks for them.
    eventually(
        lambda: len(worker.children) == 2 and not set(worker.children) & set(ran)
    )
    assert worker.stop() == 0


def test_a_job_goes_on_beside_the_replacement_of_its_process(
    folder: AppFolder, tasks: t.Any, tmp_path: Path
):
    def held() -> dict[int, int]:
        """Jobs that are held, and their processes."""
        paths = [path for path in tmp_path.iterdir() if path.name.isdecimal()]
        return {int(path.name): int(path.read_text() or 0) for path in paths}

    worker = folder.worker("-P", "threads", "-c", "2", "--max-tasks-per-child", "2")
    results = [tasks.hold.delay(str(tmp_path), 0)]
    eventually(held, message="the first job runs")
    old = pids(tasks, 2)
    worker.await_line("is replaced: it ran 2 jobs")
    # One of two slots is taken by the job of the old process.
    results += [tasks.hold.delay(str(tmp_path), number) for number in (1, 2)]
    eventually(lambda: held().get(1), message="a job in the new process")
    new = held()[1]
    assert held() == {0: old[0], 1: new}
    assert set(worker.children) == {old[0], new}
    Path(tmp_path, "0").unlink()
    eventually(lambda: held().get(2), message="the other slot of the new process")
    assert held() == {1: new, 2: new}
    eventually(lambda: worker.children == [new], message="the old process ends")
    for number in (1, 2):
        Path(tmp_path, str(number)).unlink()
    for result in results:
        result.get(timeout=10)
    assert worker.stop() == 0


def test_a_child_that_takes_too_much_memory_is_replaced(
    folder: AppFolder, tasks: t.Any
):
    worker = folder.worker("-c", "1", "--max-memory-per-child", "150")
    ran = [tasks.keep.delay(20), tasks.keep.delay(150), tasks.keep.delay(1)]
    first, second, third = (result.get(timeout=15) for result in ran)
    assert first == second != third
    assert "Child 1 is replaced: it takes more than 150 MiB" in worker.output
    assert worker.stop() == 0


def test_a_child_too_large_from_the_start_is_used_all_the_same(
    folder: AppFolder, tasks: t.Any
):
    worker = folder.worker("-c", "1", "--max-memory-per-child", "2.5")
    assert len(set(pids(tasks, 5))) == 1
    assert worker.stop() == 0
    assert "MiB before its first job, and may take 2.5: it is" in worker.output
    assert "is replaced:" not in worker.output


def test_a_worker_that_ends_by_itself_replaces_what_it_needs(
    folder: AppFolder, tasks: t.Any
):
    results = [tasks.pid.delay() for _ in range(5)]
    done = folder.flask("worker", "--burst", "-c", "1", "--max-tasks-per-child", "1")
    assert done.returncode == 0, done.stderr
    assert len({result.get(timeout=1) for result in results}) == 5
