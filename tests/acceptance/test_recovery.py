"""What a SIGKILL, a crash and a long pause cost: nothing but a second run."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flask_taskqueue.errors import WorkerLostError

from ..processes import AppFolder, Worker
from ..servers import Server, eventually
from .live import Ledger, calling

TASKS = 500
TAKEN_OVER = 15.0
"""Seconds promised; 12.5 are meant to be enough, see what is printed."""


class RqInfo:
    """``rq info`` in a loop, as a monitor somebody left open."""

    def __init__(self, url: str) -> None:
        self._command = [sys.executable, "-m", "rq.cli", "info", "-u", url]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.outputs: list[str] = []
        self.failures: list[str] = []

    def _run(self) -> None:
        while not self._ended.is_set():
            done = subprocess.run(self._command, capture_output=True, text=True)
            self.outputs.append(done.stdout)
            if done.returncode:
                self.failures.append(done.stderr)

    def __enter__(self) -> RqInfo:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ended.set()
        self._thread.join()


@dataclass
class Disaster:
    """What was seen when one worker was killed and another one stopped."""

    results: dict[int, int] = field(default_factory=dict)
    killed_at: float = 0.0
    victims: list[int] = field(default_factory=list)
    ledger: Ledger = field(default_factory=lambda: Ledger(Path()))
    held_result: str = ""
    held_entries: int = 0
    held_fields: dict[bytes, bytes] = field(default_factory=dict)
    zombie: str = ""
    zombie_works: int = 0
    rescuer_exit: int = -1
    recoveries: dict[int, int] = field(default_factory=dict)
    info: RqInfo | None = None


@pytest.fixture(scope="module")
def disaster(tmp_path_factory: pytest.TempPathFactory) -> Disaster:
    """Both at once, because each takes as long as a lease."""
    path = tmp_path_factory.mktemp("disaster")
    with Server(path / "server") as server:
        folder = AppFolder(path, server.url)
        try:
            with calling(folder) as tasks, RqInfo(server.url) as info:
                return run_disaster(path, server, folder, tasks, info)
        finally:
            folder.close()


def run_disaster(
    path: Path, server: Server, folder: AppFolder, tasks: t.Any, info: RqInfo
) -> Disaster:
    seen = Disaster(info=info, ledger=Ledger(path / "ledger"))
    zombie = folder.worker("-Q", "z,zz", "-c", "1")
    held = tasks.hold.apply_async((str(path / "held"),), queue="z")
    eventually((path / "held").exists)
    victim = folder.worker("-Q", "one,two", "-c", "2")
    rescuer = folder.worker("-Q", "one,two,z", "-c", "2")
    jobs = [
        tasks.ledger.apply_async(
            (str(seen.ledger.path), number, 0.01), queue=("one", "two")[number % 2]
        )
        for number in range(TASKS)
    ]
    eventually(lambda: len(seen.ledger.read().lines) > 120)
    zombie.signal(signal.SIGSTOP, group=True)
    seen.victims = victim.children
    seen.killed_at = time.time()
    victim.kill()

    seen.results = {n: job.get(timeout=60) for n, job in enumerate(jobs)}
    seen.ledger = seen.ledger.read()
    eventually(lambda: len((path / "held").read_text().split()) == 2, timeout=30)
    (path / "held").unlink()
    seen.held_result = held.get(timeout=10)
    zombie.signal(signal.SIGCONT, group=True)
    seen.zombie_works = tasks.add.apply_async((2, 3), queue="zz").get(timeout=10)
    seen.zombie = zombie.output
    with server.client() as client:
        raw: t.Any = client
        seen.held_entries = raw.xlen(f"rq:results:{held.id}")
        seen.held_fields = raw.hgetall(f"rq:job:{held.id}")
        seen.recoveries = {
            n: int(raw.hget(f"rq:job:{job.id}", "tq_recoveries") or 0)
            for n, job in enumerate(jobs)
        }
        assert raw.zcard("rq:failed:one") == raw.zcard("rq:failed:two") == 0
    seen.rescuer_exit = rescuer.stop()
    return seen


def test_no_result_is_lost_with_a_worker(disaster: Disaster):
    assert disaster.results == {number: number**2 for number in range(TASKS)}


def test_only_what_ran_when_its_worker_was_killed_runs_twice(disaster: Disaster):
    starts = disaster.ledger.starts()
    twice = {number for number, count in starts.items() if count > 1}
    assert set(starts.values()) <= {1, 2}
    assert twice <= disaster.ledger.last_of(disaster.victims)
    # One that was claimed and had not begun leaves one start, yet a recovery.
    recovered = {n for n, count in disaster.recoveries.items() if count}
    assert twice <= recovered
    assert len(recovered) == len(disaster.victims) == 2


def test_what_a_killed_worker_ran_is_taken_over_in_time(
    disaster: Disaster, capsys: pytest.CaptureFixture[str]
):
    again = disaster.ledger.begun_after(disaster.killed_at)
    recovered = [n for n, count in disaster.recoveries.items() if count]
    times = [again[n] - disaster.killed_at for n in recovered]
    with capsys.disabled():
        shown = ", ".join(f"{seconds:.1f} s" for seconds in times)
        sys.stdout.write(f"\ntaken over after {shown}\n")
    assert 0 < max(times) < TAKEN_OVER


def test_a_monitor_of_rq_beside_it_disturbs_nothing(disaster: Disaster):
    assert disaster.info is not None
    assert disaster.info.failures == []
    assert len(disaster.info.outputs) > 3
    assert any("3 workers, 3 queues" in out for out in disaster.info.outputs)


def test_a_worker_that_was_paused_past_its_lease_changes_nothing(disaster: Disaster):
    assert disaster.held_result == "released"
    assert disaster.held_entries == 1
    assert disaster.held_fields[b"tq_recoveries"] == b"1"
    assert disaster.held_fields[b"worker_name"].decode() not in disaster.zombie


def test_a_worker_that_was_paused_goes_on_with_new_jobs(disaster: Disaster):
    assert disaster.zombie_works == 5


def test_the_worker_that_took_over_ends_in_good_order(disaster: Disaster):
    assert disaster.rescuer_exit == 0


@pytest.fixture
def tasks(jobs: AppFolder) -> t.Iterator[t.Any]:
    with calling(jobs) as tasks:
        yield tasks


def started(path: Path, count: int) -> list[str]:
    """Pids of the runs of ``hold``, when there are so many."""
    eventually(lambda: path.exists() and len(path.read_text().split()) >= count)
    return path.read_text().split()


def test_a_killed_childs_job_runs_again_at_once(
    jobs: AppFolder,
    tasks: t.Any,
    client: t.Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    worker = jobs.worker("-c", "1")
    path = tmp_path / "held"
    result = tasks.hold.delay(str(path))
    (first,) = started(path, 1)
    assert worker.children == [int(first)]
    killed_at = time.monotonic()
    subprocess.run(["kill", "-9", first], check=True)
    started(path, 2)
    seconds = time.monotonic() - killed_at
    with capsys.disabled():
        milliseconds = round(seconds * 1000)
        sys.stdout.write(f"\na killed child's job ran after {milliseconds} ms\n")
    assert seconds < 3
    path.unlink()
    assert result.get(timeout=10) == "released"
    assert client.hget(f"rq:job:{result.id}", "tq_recoveries") == b"1"
    assert result.retries == 0
    assert worker.stop() == 0


def test_a_job_that_kills_its_workers_stops_and_its_neighbours_go_on(
    jobs: AppFolder, tasks: t.Any, client: t.Any
):
    poison = [tasks.die.delay() for _ in range(2)]
    neighbours = [tasks.add.delay(n, n) for n in range(10)]
    worker = jobs.worker("-c", "1", ready=False)
    for result in poison:
        with pytest.raises(WorkerLostError, match=r"signal 9 \(SIGKILL\) \(4 times"):
            result.get(timeout=20)
        assert client.xlen(f"rq:results:{result.id}") == 1
    assert [result.get(timeout=10) for result in neighbours] == list(range(0, 20, 2))
    for result in neighbours:
        assert client.hget(f"rq:job:{result.id}", "tq_recoveries") is None
    assert worker.stop() == 0


def test_a_job_that_may_not_run_twice_fails_with_its_child(
    jobs: AppFolder, tasks: t.Any
):
    worker = jobs.worker("-c", "1")
    result = tasks.die_once.delay()
    with pytest.raises(WorkerLostError, match="SIGKILL"):
        result.get(timeout=10)
    assert worker.output.count("received") == 1
    # What watches the log for errors finds it as any other failed job.
    worker.await_line(f"Task jobs.die_once[{result.id}] failed: WorkerLostError(")
    (line,) = [line for line in worker.output.splitlines() if "WorkerLost" in line]
    assert " ERROR " in line
    assert_still_works(worker, tasks)


def test_a_job_that_may_not_be_given_back_fails_with_its_worker(
    jobs: AppFolder, tasks: t.Any, tmp_path: Path
):
    worker = jobs.worker("-c", "1", "--shutdown-timeout", "0")
    path = tmp_path / "held"
    result = tasks.hold_once.delay(str(path))
    started(path, 1)
    worker.stop()
    with pytest.raises(WorkerLostError, match="the worker was stopped"):
        result.get(timeout=10)
    assert f"Task jobs.hold_once[{result.id}] failed: Worker" in worker.output


def assert_still_works(worker: Worker, tasks: t.Any) -> None:
    assert tasks.add.delay(1, 1).get(timeout=10) == 2
    assert worker.process.poll() is None
