"""TTIN: what every process of a worker is doing."""

from __future__ import annotations

import re
import signal
import typing as t
from pathlib import Path

import pytest

from ..processes import AppFolder
from ..servers import eventually
from .live import calling

APP = """
import time
from pathlib import Path

from flask import Flask
from flask_taskqueue import TaskQueue

tq = TaskQueue()


def create_app(**config):
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config.update(config)
    tq.init_app(app)
    return app


@tq.task
def compute(path):
    Path(path).touch()
    # One call of C code, for hours: nothing of Python runs meanwhile.
    sum(range(10**13))


@tq.task
def hold(path):
    Path(path).touch()
    while Path(path).exists():
        time.sleep(0.005)


@tq.task
def add(x, y):
    return x + y
"""


@pytest.fixture
def folder(tmp_path: Path, redis_url: str) -> t.Iterator[AppFolder]:
    folder = AppFolder(tmp_path, redis_url, "deep", source=APP)
    yield folder
    folder.close()


@pytest.fixture
def tasks(folder: AppFolder) -> t.Iterator[t.Any]:
    with calling(folder) as tasks:
        yield tasks


def test_a_child_shows_its_stack_although_it_holds_the_gil(
    folder: AppFolder, tasks: t.Any, tmp_path: Path
):
    worker = folder.worker("-c", "2")
    result = tasks.compute.delay(str(tmp_path / "begun"))
    eventually((tmp_path / "begun").exists, message="the job starts")
    worker.signal(signal.SIGTTIN)
    worker.await_line("in compute")
    stacks = "(most recent call first)"
    eventually(lambda: worker.output.count(stacks) >= 3, message="the idle one")
    # Its own.
    assert "in _turn" in worker.output or "in _sleep" in worker.output
    told, job = r"Child (\d+) of the worker: ", rf"job {result.id} of queue default"
    (busy,) = re.findall(rf"{told}slot \d, {job}: runs for \d+\.\d s\n", worker.output)
    (idle,) = re.findall(rf"{told}nothing runs\n", worker.output)
    assert {int(busy), int(idle)} == set(worker.children)
    # It goes on.
    assert tasks.add.delay(1, 2).get(timeout=10) == 3
    worker.signal(signal.SIGQUIT)
    assert worker.process.wait(30) == 75


def test_a_worker_of_one_process_shows_its_stacks(
    folder: AppFolder, tasks: t.Any, tmp_path: Path
):
    worker = folder.worker("-P", "solo")
    held = tmp_path / "held"
    result = tasks.hold.delay(str(held))
    eventually(held.exists, message="the job starts")
    worker.signal(signal.SIGTTIN)
    worker.await_line("in hold")
    worker.await_line(
        f"Child {worker.pid} of the worker: slot 1, job {result.id} of queue"
    )
    assert 'File "' in worker.output
    assert "supervisor.py" in worker.output
    held.unlink()
    result.get(timeout=15)
    assert worker.stop() == 0
