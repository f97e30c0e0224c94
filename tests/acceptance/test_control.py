"""How people and machines tell a worker what to do, and what they see of it."""

from __future__ import annotations

import json
import re
import signal
import socket
import tempfile
import time
import typing as t
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from click.testing import Result
from flask import current_app
from rq.command import (
    send_kill_horse_command,
    send_shutdown_command,
    send_stop_job_command,
)
from rq.serializers import JSONSerializer
from rq.suspension import resume, suspend

from flask_taskqueue.errors import TaskRevokedError, WorkerLostError

from ..commands import runner
from ..processes import AppFolder, Worker
from ..servers import eventually
from .live import calling


@pytest.fixture
def tasks(jobs: AppFolder) -> t.Iterator[t.Any]:
    """The tasks of ``tests/apps/jobs.py``, to be called from here."""
    with calling(jobs) as tasks:
        yield tasks


class Held:
    """A job of ``hold``: it runs until it is let go."""

    def __init__(self, tasks: t.Any, path: Path) -> None:
        self.path = path
        self.result = tasks.hold.delay(str(path))

    @property
    def pids(self) -> list[int]:
        """Of its runs."""
        return [int(pid) for pid in self.path.read_text().split()]

    def await_start(self) -> Held:
        eventually(self.path.exists, message="the job starts")
        return self

    def let_go(self) -> t.Any:
        self.path.unlink()
        return self.result.get(timeout=10)


@pytest.fixture
def hold(tasks: t.Any, tmp_path: Path) -> t.Iterator[t.Callable[[], Held]]:
    made: list[Held] = []

    def hold() -> Held:
        made.append(Held(tasks, tmp_path / f"held{len(made)}"))
        return made[-1]

    yield hold
    for held in made:
        held.path.unlink(missing_ok=True)


def name_of(worker: Worker) -> str:
    return worker.output.split()[0]


def ask(*args: str) -> Result:
    """Run a command of ``flask worker`` here, in the app context of ``tasks``."""
    app = current_app._get_current_object()
    return runner(app).invoke(args=["worker", *args])


def listed() -> list[dict[str, t.Any]]:
    return t.cast(
        "list[dict[str, t.Any]]", json.loads(ask("list", "--json").stdout)["workers"]
    )


def charged(client: t.Any, held: Held) -> list[int]:
    """Attempts and recoveries of a job."""
    values = client.hmget(f"rq:job:{held.result.id}", "tq_retries", "tq_recoveries")
    return [int(value or 0) for value in values]


def asked(worker: Worker, path: str) -> tuple[int, str]:
    """Status and text of an answer of a worker's health port."""
    found = re.search(r"Health is told on (\S+)/ready", worker.output)
    assert found is not None, worker.output
    try:
        with urllib.request.urlopen(found[1] + path, timeout=5) as answer:
            return answer.status, answer.read().decode().strip()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode().strip()


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_quiet_worker_ends_what_runs_takes_nothing_more_and_stays(
    jobs: AppFolder, tasks: t.Any, hold: t.Any, client: t.Any, pool: str
):
    worker = jobs.worker("-c", "1", "-P", pool, "--health-port", "127.0.0.1:0")
    held = hold().await_start()
    assert asked(worker, "/ready") == (200, "ready")
    worker.signal(signal.SIGTSTP, group=True)
    worker.await_line("Quiet: ")
    late = tasks.add.delay(1, 2)
    record = f"rq:worker:{name_of(worker)}"
    eventually(lambda: client.hget(record, "tq_standing") == b"quiet")
    assert asked(worker, "/ready") == (503, "not ready: quiet")
    assert asked(worker, "/live") == (200, "live")
    assert held.let_go() == "released"
    eventually(lambda: not client.hget(record, "current_job"), message="it idles")
    worker.signal(signal.SIGCONT)
    assert late.state == "PENDING"
    assert worker.process.poll() is None
    assert worker.stop() == 0
    assert charged(client, held) == [0, 0]


def test_workers_are_listed_asked_made_quiet_and_stopped(jobs: AppFolder, hold: t.Any):
    first = jobs.worker("-n", "mail", "-c", "2", "-Q", "mail,default", ready=False)
    second = jobs.worker("-n", "web", "-c", "1", "-P", "solo", "-Q", "other")
    first.await_line(" ready.")
    held = hold().await_start()
    eventually(lambda: listed()[0]["jobs"], message="the record is renewed")
    mail, web = listed()
    assert (mail["name"], web["name"]) == (name_of(first), name_of(second))
    assert (mail["state"], web["state"]) == ("busy", "idle")
    assert (mail["pool"], mail["concurrency"], web["pool"]) == ("prefork", 2, "solo")
    assert mail["queues"] == ["mail", "default"]
    assert mail["jobs"] == [held.result.id]
    assert (mail["done"], mail["failed"], mail["pid"]) == (0, 0, first.pid)
    assert mail["since"] <= mail["seen_at"]
    heads, row, _ = ask("list").stdout.splitlines()
    assert heads.split()[:4] == ["NAME", "STATE", "POOL", "RUNNING"]
    assert row.split()[:6] == [name_of(first), "busy", "prefork", "1/2", "0", "0"]

    second.signal(signal.SIGSTOP)
    done = ask("ping", "--timeout", "0.5")
    answer, silence = done.stdout.splitlines()
    assert done.exit_code == 0
    assert re.fullmatch(rf"{re.escape(name_of(first))}: answered in \d+ ms", answer)
    assert silence == f"{name_of(second)}: no answer"
    assert ask("ping", "web", "--timeout", "0.1").exit_code == 1
    second.signal(signal.SIGCONT)

    done = ask("quiet", "mail")
    assert done.stdout == f"{name_of(first)} takes no more jobs.\n"
    first.await_line("Quiet: ")
    eventually(lambda: listed()[0]["state"] == "quiet", message="it says so")
    done = ask("stop", "mial")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "no worker is named 'mial' (did you mean 'mail'?)" in done.stderr
    assert ask("stop", "m").exit_code == 0
    assert held.let_go() == "released"
    assert first.process.wait(20) == 0
    assert [row["name"] for row in listed()] == [name_of(second)]


def test_a_name_that_two_workers_begin_with_is_refused(jobs: AppFolder, tasks: t.Any):
    workers = [jobs.worker("-n", "web", "-c", "1", ready=False) for _ in "ab"]
    for worker in workers:
        worker.await_line(" ready.")
    done = ask("stop", "web")
    assert done.exit_code == 1
    assert "2 workers begin with 'web': " in done.stderr


def test_nobody_answers_where_no_worker_is(tasks: t.Any):
    done = ask("ping")
    assert (done.exit_code, done.stderr) == (1, "No worker is up.\n")
    assert ask("list").stdout.split()[0] == "NAME"


def test_commands_of_rq_are_obeyed(
    jobs: AppFolder, tasks: t.Any, hold: t.Any, client: t.Any
):
    worker = jobs.worker("-c", "2")
    stopped, other = hold().await_start(), hold().await_start()
    send_stop_job_command(client, stopped.result.id, serializer=JSONSerializer)
    with pytest.raises(TaskRevokedError):
        stopped.result.get(timeout=10)
    assert other.result.state == "STARTED"

    suspend(client)
    late = tasks.add.delay(1, 2)
    assert other.let_go() == "released"
    eventually(lambda: client.hget(f"rq:worker:{name_of(worker)}", "state") == b"idle")
    assert late.state == "PENDING"
    resume(client)
    assert late.get(timeout=10) == 3

    last = hold().await_start()
    send_shutdown_command(client, name_of(worker))
    worker.await_line("then stopping")
    assert last.let_go() == "released"
    assert worker.process.wait(20) == 0
    # The slot of the job that was stopped; the others went on.
    assert worker.output.count("stopped: ") == 1


def test_a_killed_horse_fails_what_it_ran(
    jobs: AppFolder, tasks: t.Any, hold: t.Any, client: t.Any
):
    worker = jobs.worker("-c", "2")
    running = [hold().await_start(), hold().await_start()]
    send_kill_horse_command(client, name_of(worker))
    for held in running:
        with pytest.raises(WorkerLostError, match="told to kill"):
            held.result.get(timeout=10)
        assert charged(client, held) == [0, 0]
    assert tasks.add.delay(1, 2).get(timeout=10) == 3


@pytest.mark.parametrize(
    ("port", "message"),
    [
        ("nine", "expected a port from 0 to 65535, got 'nine'"),
        ("70000", "expected a port from 0 to 65535, got '70000'"),
        ("::1:80", "expected an IPv6 address in brackets, got '::1:80'"),
    ],
)
def test_a_port_that_can_be_none_is_wrong_usage(
    jobs: AppFolder, port: str, message: str
):
    done = jobs.flask("worker", "--health-port", port)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_port_in_use_is_refused(jobs: AppFolder):
    worker = jobs.worker("-c", "1", "--health-port", "[::1]:0")
    found = re.search(r"http://(\[::1\]:\d+)/ready", worker.output)
    assert found is not None
    done = jobs.flask("worker", "--health-port", found[1])
    assert done.returncode == 1
    assert "Error: cannot listen on ::1:" in done.stderr
    assert "Address already in use" in done.stderr
    assert asked(worker, "/ready") == (200, "ready")


def test_health_tells_that_redis_is_away(jobs: AppFolder, own_server: t.Any):
    jobs.env["FLASK_TASKQUEUE_URL"] = own_server.url
    worker = jobs.worker("-c", "1", "--health-port", "0")
    assert asked(worker, "/ready") == (200, "ready")
    own_server.stop()
    eventually(lambda: asked(worker, "/ready")[0] == 503)
    assert asked(worker, "/ready") == (503, "not ready: no connection to Redis")
    assert asked(worker, "/live") == (200, "live")
    own_server.start()
    eventually(lambda: asked(worker, "/ready")[0] == 200)


class Systemd:
    """What systemd hears from a service of ``Type=notify``."""

    def __init__(self, link: socket.socket, name: str) -> None:
        self.link = link
        self.name = name

    def await_word(self, name: str) -> dict[str, str]:
        """The next message with this assignment."""
        while True:
            lines = self.link.recv(4096).decode().splitlines()
            message = dict(line.split("=", 1) for line in lines)
            if name in message:
                return message


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest) -> t.Iterator[Systemd]:
    with (
        tempfile.TemporaryDirectory(prefix="ftq-") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link,
    ):
        is_abstract = request.param == "abstract"
        link.bind("\0" + folder if is_abstract else f"{folder}/notify")
        link.settimeout(20)
        yield Systemd(link, "@" + folder if is_abstract else f"{folder}/notify")


def test_systemd_is_told_how_the_worker_is(jobs: AppFolder, systemd: Systemd):
    jobs.env["NOTIFY_SOCKET"] = systemd.name
    worker = jobs.worker("-c", "1", WATCHDOG_USEC="1000000")
    assert systemd.await_word("READY") == {"READY": "1"}
    assert systemd.await_word("WATCHDOG") == {"WATCHDOG": "1"}
    assert systemd.await_word("WATCHDOG") == {"WATCHDOG": "1"}
    asked_at = time.monotonic() * 1_000_000
    worker.signal(signal.SIGHUP)
    reloading = systemd.await_word("RELOADING")
    assert reloading.keys() == {"RELOADING", "MONOTONIC_USEC"}
    assert asked_at <= int(reloading["MONOTONIC_USEC"])
    assert systemd.await_word("READY") == {"READY": "1"}
    worker.process.terminate()
    assert systemd.await_word("STOPPING") == {"STOPPING": "1"}
    assert worker.process.wait(20) == 0
