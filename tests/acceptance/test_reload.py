"""HUP and ``--reload``: a worker goes on with new code while old jobs finish."""

from __future__ import annotations

import os
import signal
import subprocess
import typing as t
from pathlib import Path

import pytest

from ..processes import AppFolder, Worker, alive
from ..servers import eventually
from .live import Ledger, calling

LOADED = "The new code loads"


@pytest.fixture
def tasks(jobs: AppFolder) -> t.Iterator[t.Any]:
    """The tasks of ``tests/apps/jobs.py``, to be called from here."""
    with calling(jobs) as tasks:
        yield tasks


@pytest.fixture
def gate(tmp_path: Path) -> t.Iterator[t.Callable[[str], Path]]:
    """Files for jobs of ``hold``, gone when the test is over."""
    made: list[Path] = []

    def gate(name: str) -> Path:
        made.append(tmp_path / name)
        return made[-1]

    yield gate
    for path in made:
        path.unlink(missing_ok=True)


def change(jobs: AppFolder, code: str) -> None:
    """Add code to the app's module."""
    with jobs.module_path.open("a") as module:
        module.write(f"\n\n{code}\n")


NEW_TASK = """
@tq.task
def new(x: int) -> int:
    return -x
"""


def times_ready(worker: Worker) -> int:
    return worker.output.count(" ready.")


def charged(client: t.Any, result: t.Any) -> list[int]:
    """Attempts and recoveries of a job."""
    values = client.hmget(f"rq:job:{result.id}", "tq_retries", "tq_recoveries")
    return [int(value or 0) for value in values]


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_hup_goes_on_with_new_code_while_old_jobs_finish(
    jobs: AppFolder, tasks: t.Any, client: t.Any, gate: t.Any, pool: str
):
    worker = jobs.worker("-c", "2", "-P", pool)
    old = gate("old")
    running = tasks.hold.delay(str(old))
    eventually(old.exists, message="the job starts")
    old_pids = set(worker.children)
    name = worker.output.split()[0]
    born = client.hget(f"rq:worker:{name}", "birth")
    change(jobs, NEW_TASK)
    worker.signal(signal.SIGHUP)
    assert tasks.tq.send_task("jobs.new", (5,)).get(timeout=20) == -5
    eventually(lambda: times_ready(worker) == 2, message="it is ready again")
    assert running.state == "STARTED"
    # The other slot has the new code; there is no third one at work.
    busy = gate("busy")
    tasks.hold.delay(str(busy))
    eventually(busy.exists, message="the other slot works")
    late = tasks.add.delay(1, 2)
    assert client.hget(f"rq:worker:{name}", "birth") == born
    assert client.smembers("rq:workers:default") == {f"rq:worker:{name}".encode()}
    assert late.state == "PENDING"
    old.unlink()
    assert running.get(timeout=10) == "released"
    assert late.get(timeout=10) == 3
    assert charged(client, running) == [0, 0]
    eventually(lambda: not old_pids & set(worker.children), message="they are gone")
    busy.unlink()
    assert worker.stop() == 0
    assert "died" not in worker.output


def test_code_that_cannot_be_loaded_is_refused(jobs: AppFolder, tasks: t.Any):
    worker = jobs.worker("-c", "1", "--health-port", "127.0.0.1:0")
    pid = tasks.whoami.delay().get(timeout=10)["pid"]
    change(jobs, "def broken(:")
    worker.signal(signal.SIGHUP)
    worker.await_line("SyntaxError: ")
    assert "goes on with the old code" in worker.output
    assert tasks.whoami.delay().get(timeout=10)["pid"] == pid
    jobs.module_path.write_text(
        jobs.module_path.read_text().replace("def broken(:", NEW_TASK)
    )
    worker.signal(signal.SIGHUP)
    assert tasks.tq.send_task("jobs.new", (5,)).get(timeout=20) == -5
    assert tasks.whoami.delay().get(timeout=10)["pid"] != pid


def test_solo_reloads_when_its_job_is_over(jobs: AppFolder, tasks: t.Any, gate: t.Any):
    worker = jobs.worker("-P", "solo")
    held = gate("held")
    running = tasks.hold.delay(str(held))
    eventually(held.exists, message="the job starts")
    change(jobs, NEW_TASK)
    worker.signal(signal.SIGHUP)
    worker.await_line(LOADED)
    answer = tasks.tq.send_task("jobs.new", (5,))
    assert running.state == "STARTED"
    held.unlink()
    assert running.get(timeout=10) == "released"
    assert answer.get(timeout=20) == -5
    assert tasks.whoami.delay().get(timeout=10)["pid"] == worker.pid
    assert worker.stop() == 0


def test_reloads_under_load_run_each_job_once(
    jobs: AppFolder, tasks: t.Any, tmp_path: Path
):
    ledger = Ledger(tmp_path / "ledger")
    worker = jobs.worker("-c", "2")
    results = []
    for turn in range(3):
        calls = [(str(ledger.path), turn * 100 + n, 0.005) for n in range(100)]
        results += tasks.ledger.delay_many(calls)
        worker.signal(signal.SIGHUP)
        eventually(lambda: times_ready(worker) == turn + 2, 30, "it is ready again")  # noqa: B023
    for result in results:
        result.get(timeout=30)
    assert ledger.read().starts() == dict.fromkeys(range(300), 1)
    assert worker.stop() == 0
    assert "died" not in worker.output


def test_a_quiet_worker_takes_jobs_again_after_a_hup(jobs: AppFolder, tasks: t.Any):
    worker = jobs.worker("-c", "1")
    worker.signal(signal.SIGTSTP)
    worker.await_line("Quiet: ")
    result = tasks.add.delay(1, 2)
    worker.signal(signal.SIGHUP)
    assert result.get(timeout=20) == 3


def test_a_changed_file_is_loaded_where_that_was_asked_for(
    jobs: AppFolder, tasks: t.Any
):
    worker = jobs.worker("-c", "1", "--reload")
    change(jobs, "def broken(:")
    worker.await_line("SyntaxError: ")
    jobs.module_path.write_text(
        jobs.module_path.read_text().replace("def broken(:", NEW_TASK)
    )
    assert tasks.tq.send_task("jobs.new", (5,)).get(timeout=20) == -5
    assert f"{jobs.module_path} has changed" in worker.output
    assert worker.stop() == 0


def test_what_a_worker_is_told_while_it_loads_is_not_lost(
    jobs: AppFolder, tasks: t.Any, client: t.Any, gate: t.Any
):
    worker = jobs.worker("-c", "1")
    held = gate("held")
    running = tasks.hold.delay(str(held))
    eventually(held.exists, message="the job starts")
    loads = jobs.folder / "loads"
    change(jobs, f"note({str(loads)!r}, 'begun')\ntime.sleep(1)")
    worker.signal(signal.SIGHUP)
    # The first time it is only tried.
    eventually(
        lambda: loads.exists() and loads.read_text() == "begun\n" * 2,
        timeout=20,
        message="the new program loads the app",
    )
    worker.signal(signal.SIGTERM)
    worker.signal(signal.SIGTSTP)
    worker.await_line("SIGTERM: finishing what runs")
    held.unlink()
    assert running.get(timeout=10) == "released"
    assert worker.process.wait(20) == 0
    assert charged(client, running) == [0, 0]


def test_another_version_waits_for_running_jobs(
    jobs: AppFolder, tasks: t.Any, gate: t.Any
):
    worker = jobs.worker("-c", "1")
    held = gate("held")
    running = tasks.hold.delay(str(held))
    eventually(held.exists, message="the job starts")
    other = "import importlib.metadata as metadata\nmetadata.version = lambda _: '0'"
    change(jobs, NEW_TASK + other)
    worker.signal(signal.SIGHUP)
    worker.await_line(LOADED)
    answer = tasks.tq.send_task("jobs.new", (5,))
    held.unlink()
    assert running.get(timeout=10) == "released"
    assert answer.get(timeout=20) == -5
    # It is one that adopted no child.
    assert worker.output.count(" ready.") == 2


def test_no_old_child_outlives_the_new_program(
    jobs: AppFolder, tasks: t.Any, gate: t.Any
):
    worker = jobs.worker("-c", "1")
    held = gate("held")
    tasks.hold.delay(str(held))
    eventually(held.exists, message="the job starts")
    (child,) = worker.children
    worker.signal(signal.SIGHUP)
    eventually(lambda: times_ready(worker) == 2, message="it is ready again")
    worker.signal(signal.SIGKILL)
    eventually(lambda: not alive(child), message="it died")


def test_a_worker_stops_with_its_terminal(jobs: AppFolder):
    ours, theirs = os.openpty()
    log = jobs.folder / "terminal.log"
    command = jobs.command("worker", "-c", "1")
    with log.open("wb") as out:
        process = subprocess.Popen(
            # In a session of its own, as the shell of a window is.
            ["setsid", "--ctty", *command],
            cwd=jobs.folder,
            env=jobs.env,
            stdin=theirs,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    os.close(theirs)
    try:
        eventually(lambda: " ready." in log.read_text(), 20)
        os.close(ours)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    assert "SIGTERM: finishing what runs" in log.read_text()
