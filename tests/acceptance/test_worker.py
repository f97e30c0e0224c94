"""What a user of ``flask worker`` sees."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import typing as t
from importlib.metadata import version
from pathlib import Path

import pytest
from rq import Worker as RqWorker
from rq.utils import str_to_date

from flask_taskqueue.errors import TaskRevokedError, TimeLimitExceeded

from ..processes import AppFolder, Worker, alive
from ..servers import Server, eventually
from .live import Ledger, calling


@pytest.fixture
def tasks(jobs: AppFolder) -> t.Iterator[t.Any]:
    """The tasks of ``tests/apps/jobs.py``, to be called from here."""
    with calling(jobs) as tasks:
        yield tasks


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


class Held:
    """A job of ``hold``: it runs until it is let go.

    :param options: Of ``apply_async``.
    """

    def __init__(self, tasks: t.Any, path: Path, **options: t.Any) -> None:
        self.path = path
        self.result = tasks.hold.apply_async((str(path),), **options)

    @property
    def pids(self) -> list[int]:
        """Of its runs."""
        return [int(pid) for pid in self.path.read_text().split()]

    def await_start(self) -> Held:
        eventually(lambda: self.path.exists() and self.pids, message="the job starts")
        return self

    def let_go(self) -> None:
        self.path.unlink()


@pytest.fixture
def hold(tasks: t.Any, tmp_path: Path) -> t.Iterator[t.Callable[..., Held]]:
    made: list[Held] = []

    def hold(**options: t.Any) -> Held:
        made.append(Held(tasks, tmp_path / f"held{len(made)}", **options))
        return made[-1]

    yield hold
    for held in made:
        held.path.unlink(missing_ok=True)


def waiting(client: t.Any, queue: str = "default") -> list[str]:
    return [job_id.decode() for job_id in client.lrange(f"rq:queue:{queue}", 0, -1)]


def counts(client: t.Any, held: Held) -> list[bytes | None]:
    """Attempts and recoveries of a job."""
    values = client.hmget(f"rq:job:{held.result.id}", "tq_retries", "tq_recoveries")
    return t.cast("list[bytes | None]", values)


def test_a_job_runs_in_a_worker_and_its_result_comes_back(
    jobs: AppFolder, tasks: t.Any
):
    worker = jobs.worker("-c", "1")
    result = tasks.add.delay(1, 2)
    assert result.get(timeout=10) == 3
    assert result.state == "SUCCESS"
    assert worker.stop() == 0
    assert f"Task jobs.add[{result.id}] received" in worker.output
    assert f"Task jobs.add[{result.id}] succeeded in" in worker.output


def test_a_worker_introduces_itself(jobs: AppFolder, redis_url: str):
    worker = jobs.worker("-Q", "high,low", "-c", "2", "-n", "mail@%h", "-l", "Info")
    banner, _, log = worker.output.partition("[tasks]")
    name = banner.split()[0]
    assert re.fullmatch(r"mail@[\w.-]+\.\d+\.[0-9a-f]+", name)
    assert f"Flask-TaskQueue {version('Flask-TaskQueue')}" in banner
    assert re.search(r"app: +jobs\n", banner)
    assert re.search(rf"broker: +{redis_url}\n", banner)
    assert re.search(r"concurrency: +2 \(prefork\)\n", banner)
    assert re.search(r"queues: +high, low\n", banner)
    assert "  . jobs.add\n  . jobs.app_name\n" in log
    assert log.index("Connected to ") < log.index(f"{name} ready.")


def test_a_password_in_the_url_is_masked(jobs: AppFolder, own_server: Server):
    with own_server.client() as client:
        client.config_set("requirepass", "pa55word")
    jobs.env["FLASK_TASKQUEUE_URL"] = f"redis://:pa55word@127.0.0.1:{own_server.port}/0"
    worker = jobs.worker("-c", "1")
    assert worker.stop() == 0
    assert worker.output.count(f"redis://:***@127.0.0.1:{own_server.port}/0") == 2
    assert "pa55word" not in worker.output


def test_a_worker_that_has_work_at_once_is_ready_too(jobs: AppFolder, hold: t.Any):
    held = hold()
    worker = jobs.worker("-c", "1")
    held.await_start()
    held.let_go()
    assert worker.stop() == 0


def test_loglevels_in_any_case_leave_out_what_is_below(jobs: AppFolder, tasks: t.Any):
    tasks.add.delay(1, 2)
    done = jobs.flask("worker", "--burst", "-c", "1", "-l", "WarninG")
    assert done.returncode == 0
    assert "[tasks]" in done.stdout
    assert "ready." not in done.stdout + done.stderr
    assert "succeeded" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-P", "eventlet"], "its authors advise against eventlet"),
        (["-P", "fibers"], "prefork, threads, gevent, solo"),
        (["-P", "solo", "-c", "2"], "solo runs one job at a time"),
        (["-c", "0"], "a number >= 1 or auto"),
        (["-c", "many"], "a number >= 1 or auto"),
        (["-Q", ","], "queue"),
        (["-l", "loud"], "loud"),
        (["--shutdown-timeout", "-1"], "0"),
    ],
    ids=" ".join,
)
def test_wrong_usage_says_what_is_right(tasks: t.Any, args: list[str], message: str):
    app = tasks.create_app()
    result = app.test_cli_runner().invoke(args=["worker", *args])
    assert result.exit_code == 2
    assert message in result.output


def test_a_worker_is_one_worker_of_rqs(
    jobs: AppFolder, client: t.Any, redis_url: str, hold: t.Any
):
    worker = jobs.worker("-Q", "one,default", "-c", "2")
    (record,) = RqWorker.all(connection=client)
    key = f"rq:worker:{record.name}"
    assert record.pid == worker.pid
    assert record.queue_names() == ["one", "default"]
    assert record.get_state() == "idle"
    assert 45 < client.ttl(key) <= 90
    held = hold().await_start()
    eventually(lambda: client.hget(key, "state") == b"busy", timeout=5)
    assert client.hget(key, "current_job").decode() == held.result.id
    command = [sys.executable, "-m", "rq.cli", "info", "-u", redis_url, "-W"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "1 workers" in shown
    assert record.name in shown
    held.let_go()
    assert worker.stop() == 0
    assert client.exists(key, "rq:workers", "rq:workers:one") == 0


def test_queues_are_served_in_order_and_a_burst_ends(
    jobs: AppFolder, tasks: t.Any, ledger: Ledger
):
    for number, queue in enumerate(["low", "high", "low", "other", "high"]):
        tasks.ledger.apply_async((str(ledger.path), number), queue=queue)
    done = jobs.flask("worker", "-Q", "high,low", "--burst", "-c", "1")
    assert done.returncode == 0
    order = [number for kind, number, *_ in ledger.read().lines if kind == "start"]
    assert order == [1, 4, 0, 2]


def test_as_many_jobs_run_at_once_as_it_was_told(
    jobs: AppFolder, hold: t.Any, client: t.Any
):
    jobs.worker("-c", "2")
    held = [hold() for _ in range(3)]
    for one in held[:2]:
        one.await_start()
    assert len({held[0].pids[0], held[1].pids[0]}) == 2
    assert client.zcard("rq:wip:default") == 2
    assert not held[2].path.exists()
    free = held[0].pids
    held[0].let_go()
    assert held[2].await_start().pids == free


def test_a_job_is_not_early_and_hardly_late(
    jobs: AppFolder, tasks: t.Any, client: t.Any, capsys: pytest.CaptureFixture[str]
):
    jobs.worker("-c", "1")
    given = [tasks.whoami.apply_async(countdown=0.2 + n / 10) for n in range(8)]
    for result in given:
        result.get(timeout=10)
    late = []
    for result in given:
        due, began = client.hmget(f"rq:job:{result.id}", "tq_eta", "started_at")
        late.append(str_to_date(began).timestamp() - float(due))
    with capsys.disabled():
        sys.stdout.write(f"\nlate by at most {max(late) * 1000:.0f} ms\n")
    assert min(late) >= -1e-5
    assert max(late) < 0.5


@pytest.mark.parametrize("count", [1, 10])
def test_jobs_nobody_knows_wait_for_a_worker_that_does(
    jobs: AppFolder, tasks: t.Any, count: int
):
    old = jobs.worker("-c", "1")
    results = [tasks.tq.send_task("jobs.later") for _ in range(count)]
    eventually(lambda: old.output.count("parked: not registered") == count)
    # The line comes before the change is stored.
    eventually(lambda: {result.state for result in results} == {"PENDING"})
    assert tasks.add.delay(1, 1).get(timeout=10) == 2
    jobs.worker("-c", "1", KNOWS_LATER="1")
    for result in results:
        assert result.get(timeout=10) == "known by now"
    assert old.output.count("WARNING") == count


def test_a_revoke_holds_for_a_worker_started_later(
    jobs: AppFolder, tasks: t.Any, ledger: Ledger
):
    now = tasks.ledger.delay(str(ledger.path), 1)
    later = tasks.ledger.apply_async((str(ledger.path), 2), countdown=0.1)
    now.revoke()
    later.revoke()
    kept = tasks.ledger.apply_async((str(ledger.path), 3), countdown=0.2)
    jobs.worker("-c", "1")
    assert kept.get(timeout=10) == 9
    assert set(ledger.read().starts()) == {3}
    assert now.state == later.state == "REVOKED"


def test_a_running_job_is_terminated_at_once_and_alone(
    jobs: AppFolder, hold: t.Any, client: t.Any, capsys: pytest.CaptureFixture[str]
):
    worker = jobs.worker("-c", "2")
    meant, other = hold().await_start(), hold().await_start()
    began = time.monotonic()
    meant.result.revoke(terminate=True)
    with pytest.raises(TaskRevokedError):
        meant.result.get(timeout=10)
    seconds = time.monotonic() - began
    with capsys.disabled():
        sys.stdout.write(f"\nterminated after {seconds * 1000:.0f} ms\n")
    assert seconds < 3
    assert meant.result.state == "REVOKED"
    assert client.xlen(f"rq:results:{meant.result.id}") == 1
    other.let_go()
    assert other.result.get(timeout=10) == "released"
    assert counts(client, other) == [None, None]
    assert len(meant.pids) == 1
    eventually(lambda: len(worker.children) == 2, message="the child is replaced")


def test_a_hard_limit_kills_the_job_it_is_for(
    jobs: AppFolder, hold: t.Any, tasks: t.Any, client: t.Any
):
    jobs.worker("-c", "2")
    other, meant = hold().await_start(), hold(time_limit=0.3)
    with pytest.raises(TimeLimitExceeded, match=r"0\.3 s"):
        meant.result.get(timeout=10)
    assert meant.result.state == "FAILURE"
    assert tasks.add.delay(1, 1).get(timeout=10) == 2
    other.let_go()
    assert other.result.get(timeout=10) == "released"
    assert counts(client, other) == counts(client, meant) == [None, None]


@pytest.mark.parametrize("pool", ["prefork", "solo"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_a_stop_lets_running_jobs_finish(
    jobs: AppFolder, hold: t.Any, client: t.Any, pool: str, number: int
):
    worker = jobs.worker("-c", "1", "-P", pool)
    held, queued = hold().await_start(), hold()
    # A terminal sends INT to all of them.
    worker.signal(number, group=number == signal.SIGINT)
    worker.await_line("finishing what runs")
    held.let_go()
    assert worker.process.wait(10) == 0
    assert held.result.get(timeout=1) == "released"
    assert waiting(client) == [queued.result.id]


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_what_takes_longer_than_the_timeout_is_given_back(
    jobs: AppFolder, hold: t.Any, client: t.Any, pool: str
):
    worker = jobs.worker("-c", "1", "-P", pool, "--shutdown-timeout", "0.2")
    held = hold().await_start()
    assert worker.stop() == 75
    assert waiting(client) == [held.result.id]
    assert counts(client, held) == [None, None]
    assert held.result.state == "PENDING"
    assert client.keys("rq:wip:*") == []


@pytest.mark.parametrize("numbers", ["QUIT", "INT INT", "TERM QUIT"])
def test_a_stop_at_once_gives_back_in_order(
    jobs: AppFolder, hold: t.Any, client: t.Any, numbers: str
):
    worker = jobs.worker("-c", "3")
    held = [hold().await_start() for _ in range(3)]
    queued = hold()
    began = time.monotonic()
    for number in numbers.split():
        worker.signal(getattr(signal, f"SIG{number}"))
        worker.await_line(f"{number}: ")
    assert worker.process.wait(10) == 75
    assert time.monotonic() - began < 5
    assert waiting(client) == [one.result.id for one in (*held, queued)]
    for one in held:
        assert counts(client, one) == [None, None]


def test_a_stop_without_redis_ends_too(jobs: AppFolder, own_server: Server):
    jobs.env["FLASK_TASKQUEUE_URL"] = own_server.url
    worker = jobs.worker("-c", "1")
    own_server.kill()
    worker.await_line("refused; trying again")
    assert worker.stop(timeout=10) == 0


def test_a_child_that_died_is_replaced(jobs: AppFolder, tasks: t.Any):
    worker = jobs.worker("-c", "2")
    before = set(worker.children)
    os.kill(min(before), signal.SIGKILL)
    eventually(lambda: len(set(worker.children) - before) == 1)
    pids = set()

    def both() -> bool:
        pids.add(tasks.whoami.delay().get(timeout=10)["pid"])
        return pids == set(worker.children)

    eventually(both)
    assert not pids & {min(before)}


def test_jobs_that_kill_children_at_once_do_not_end_the_worker(
    jobs: AppFolder, tasks: t.Any
):
    poison = [tasks.die_once.delay() for _ in range(8)]
    jobs.worker("-c", "1")
    assert tasks.add.delay(1, 1).get(timeout=20) == 2
    assert {result.state for result in poison} == {"FAILURE"}


def test_a_worker_whose_children_cannot_start_gives_up(
    jobs: AppFolder,
):
    with jobs.module_path.open("a") as module:
        module.write(
            "\n\nfrom flask_taskqueue.signals import worker_process_init\n\n\n"
            "@worker_process_init.connect\n"
            "def refuse(*args: object, **kwargs: object) -> None:\n"
            "    os._exit(3)\n"
        )
    done = jobs.flask("worker", "-c", "1")
    assert done.returncode == 70
    assert "exit status 3" in done.stderr
    assert "children cannot start" in done.stderr


def test_no_child_outlives_its_supervisor(jobs: AppFolder, hold: t.Any):
    worker = jobs.worker("-c", "2")
    held = hold().await_start()
    children = worker.children
    assert held.pids[0] in children
    worker.signal(signal.SIGKILL)
    eventually(lambda: not any(map(alive, children)), timeout=3)


def commands(client: t.Any, seconds: float) -> float:
    """Commands a second a server runs, those of scripts included; ours left out."""
    before = client.info("stats")["total_commands_processed"]
    began = time.monotonic()
    eventually(lambda: time.monotonic() - began > seconds, timeout=seconds + 1)
    after = client.info("stats")["total_commands_processed"]
    return float(after - before - 1) / seconds


def worker_on(jobs: AppFolder, server: Server, *args: str) -> Worker:
    jobs.env["FLASK_TASKQUEUE_URL"] = server.url
    return jobs.worker(*args)


def test_an_idle_worker_costs_redis_little(
    jobs: AppFolder, own_server: Server, capsys: pytest.CaptureFixture[str]
):
    worker_on(jobs, own_server, "-Q", "one,two,three", "-c", "2")
    with own_server.client() as client:
        rate = commands(client, 6.0)
    with capsys.disabled():
        sys.stdout.write(f"\nidle: {rate:.2f} commands a second\n")
    assert rate < 1.5


@pytest.mark.parametrize("key", ["tq:paused", "rq:suspended"])
def test_a_pause_holds_everything_back_and_costs_little(
    jobs: AppFolder, own_server: Server, key: str
):
    worker_on(jobs, own_server, "-c", "2")
    with own_server.client() as client, calling(jobs) as tasks:
        if key == "tq:paused":
            client.sadd(key, "default")
        else:
            client.set(key, "1")
        results = [tasks.add.delay(n, n) for n in range(3)]
        eventually(lambda: client.llen("rq:queue:default") <= 3)
        assert commands(client, 2.5) < 60
        assert {result.state for result in results} == {"PENDING"}
        client.delete(key)
        assert [result.get(timeout=6) for result in results] == [0, 2, 4]


def test_a_program_that_a_task_starts_can_be_ended(jobs: AppFolder, tasks: t.Any):
    jobs.worker("-c", "1")
    assert tasks.run_a_program.delay().get(timeout=15) == -signal.SIGTERM


def test_children_of_every_attempt_are_kept(jobs: AppFolder, tasks: t.Any):
    jobs.worker("-c", "1")
    result = tasks.enqueue_and_retry.delay()
    result.get(timeout=10)
    assert [child.get(timeout=10) for child in result.children] == [1, 2]


def test_rq_counts_short_jobs_soon(jobs: AppFolder, tasks: t.Any, client: t.Any):
    jobs.worker("-c", "1")
    assert tasks.add.delay(1, 2).get(timeout=10) == 3
    tasks.fail.delay("no").get(timeout=10, propagate=False)

    def counted() -> bool:
        (found,) = RqWorker.all(connection=client)
        return (found.successful_job_count, found.failed_job_count) == (1, 1)

    # With the next renewal: 3 s after it ran, not with an idle worker's next sign.
    eventually(counted, timeout=9)


def test_a_soft_limit_leaves_no_reply_unread(
    jobs: AppFolder, tasks: t.Any, client: t.Any, hold: t.Callable[..., Held]
):
    """It may be over between a command and its reply: the connection is made anew."""
    jobs.worker("-c", "1")

    def opened(soft_time_limit: float) -> int:
        def count() -> int:
            return int(client.info("stats")["total_connections_received"])

        before = count()
        for _ in range(4):
            held = hold(soft_time_limit=soft_time_limit).await_start()
            if soft_time_limit > 1:
                held.let_go()
            held.result.get(timeout=10, propagate=False)
            assert tasks.add.delay(1, 2).get(timeout=10) == 3
        return count() - before

    assert opened(60.0) < 4 <= opened(0.1)
