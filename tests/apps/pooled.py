"""Tasks that say where and beside what they run, for tests of pools."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import threading
import time
import typing as t
from contextvars import ContextVar
from pathlib import Path

from flask import Flask, g

from flask_taskqueue import Task, TaskQueue, current_task
from flask_taskqueue.errors import SoftTimeLimitExceeded
from flask_taskqueue.signals import worker_process_init

tq = TaskQueue()
mine: ContextVar[str] = ContextVar("mine", default="nobody's")

if limits := os.environ.get("FILES"):
    soft, hard = map(int, limits.split(","))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def create_app(**config: object) -> Flask:
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config.update(config)
    tq.init_app(app)

    @app.teardown_appcontext
    def note_end(error: BaseException | None) -> None:
        if "ends" in g:
            note(g.ends, current_task.request.id)

    return app


def note(path: str, line: object) -> None:
    """Append a line to a file, in one write."""
    with open(path, "a") as ledger:
        ledger.write(f"{line}\n")


@worker_process_init.connect
def begin(app: Flask, worker: str) -> None:
    note("inits", os.getpid())


@tq.task
def meet(folder: str, count: int) -> dict[str, t.Any]:
    """Wait here until so many have come, and say whether all is still as it was."""
    own = current_task.request.id
    found = [mine.get(), g.get("value", "nobody's")]
    mine.set(own)
    g.value, g.ends = own, f"{folder}/ends"
    (Path(folder) / own).touch()
    end = time.monotonic() + 20
    while len(os.listdir(folder)) < count and time.monotonic() < end:
        time.sleep(0.01)
    return {
        "met": len(os.listdir(folder)) >= count,
        "pid": os.getpid(),
        "thread": threading.get_ident(),
        "found": found,
        "kept": [mine.get(), g.value, current_task.request.id],
    }


@tq.task
def hold(path: str) -> str:
    """Run until a file of this name is gone."""
    note(path, os.getpid())
    while Path(path).exists():
        time.sleep(0.005)
    return "released"


@tq.task
def careful() -> list[str]:
    try:
        while True:
            time.sleep(0.005)
    except SoftTimeLimitExceeded as error:
        return [type(error).__name__, str(error)]


@tq.task
def careless() -> None:
    while True:
        time.sleep(0.005)


class Told(Task[[str], None]):
    """Its hook says how it ended."""

    def on_failure(
        self,
        exc: BaseException,
        task_id: str,
        args: t.Sequence[t.Any],
        kwargs: t.Mapping[str, t.Any],
        einfo: str,
    ) -> None:
        note(args[0], type(exc).__name__)


@tq.task(base=Told, autoretry_for=(Exception,))
def stubborn(path: str) -> None:
    """Go on whatever is raised."""
    while True:
        try:
            time.sleep(0.005)
        except Exception as error:  # noqa: BLE001 - that is what it is for
            note(path, f"caught {error!r}")


@tq.task
def compute(path: str) -> None:
    """Never wait for anything."""
    note(path, os.getpid())
    while Path(path).exists():
        pass


@tq.task
def run_programs() -> list[int]:
    begun = subprocess.Popen(["sleep", "60"])
    begun.terminate()
    return [begun.wait(10), subprocess.run(["sh", "-c", "exit 3"]).returncode]


if os.environ.get("COROUTINES"):

    @tq.task
    async def patient() -> str:
        try:
            await asyncio.sleep(60)
        except SoftTimeLimitExceeded as error:
            return str(error)
        return "slept"
