"""Redis goes away, or fills up: nothing is lost, no process ends.

Under load: ``tests/chaos``.
"""

from __future__ import annotations

import socket
import time
import typing as t
from pathlib import Path

import pytest

from flask_taskqueue.errors import BrokerUnavailable, TimeLimitExceeded

from ..processes import AppFolder, Worker
from ..servers import Server, eventually, free_port
from .live import calling

GOES_ON = 15.0
"""Seconds for work to go on after trouble: 5 are promised."""


@pytest.fixture
def ours(jobs: AppFolder, own_server: Server) -> AppFolder:
    """A folder on a server of the test's own."""
    jobs.env["FLASK_TASKQUEUE_URL"] = own_server.url
    return jobs


@pytest.fixture
def tasks(ours: AppFolder) -> t.Iterator[t.Any]:
    with calling(ours) as tasks:
        yield tasks


def test_lost_connections_of_an_idle_worker_are_made_anew(
    ours: AppFolder, tasks: t.Any, own_server: Server
):
    worker = ours.worker("-c", "2")
    with own_server.client() as client:
        raw: t.Any = client
        for number in range(3):
            for kind in ("normal", "pubsub"):
                raw.client_kill_filter(_type=kind, skipme=True)
            assert tasks.add.delay(number, 1).get(timeout=GOES_ON) == number + 1
    assert_unharmed(worker)


def test_a_worker_waits_for_redis_at_its_start(
    ours: AppFolder, tasks: t.Any, own_server: Server
):
    own_server.stop()
    worker = ours.worker("-c", "1", ready=False)
    worker.await_line("No connection to")
    assert "ready." not in worker.output
    own_server.start()
    worker.await_line("ready.")
    assert tasks.add.delay(1, 2).get(timeout=GOES_ON) == 3
    assert worker.output.count("No connection to") == 1
    assert worker.stop() == 0


def test_a_job_ends_although_redis_was_away_when_it_did(
    ours: AppFolder, tasks: t.Any, own_server: Server, tmp_path: Path
):
    worker = ours.worker("-c", "1")
    held = tmp_path / "held"
    result = tasks.hold.delay(str(held))
    eventually(held.exists)
    own_server.stop()
    worker.await_line("No connection to")
    held.unlink()
    worker.await_line("succeeded")
    own_server.start()
    assert result.get(timeout=GOES_ON) == "released"
    assert worker.output.count("received") == 1
    assert_unharmed(worker)


def test_what_a_job_says_while_redis_is_away_is_one_line_in_the_log(
    ours: AppFolder, tasks: t.Any, own_server: Server, tmp_path: Path
):
    worker = ours.worker("-c", "1")
    words, on = tmp_path / "words", tmp_path / "words.on"
    on.touch()
    result = tasks.tell.delay(str(words))
    eventually(lambda: words.exists() and result.info)
    own_server.stop()
    lost = "what it says of itself is lost"
    worker.await_line(lost)
    before = len(words.read_text())
    # Long enough for it to try again in vain.
    eventually(lambda: len(words.read_text()) > before + 4000, timeout=GOES_ON)
    own_server.start()
    last = int(words.read_text().split()[-1])
    eventually(lambda: result.info.get("current", 0) > last, timeout=GOES_ON)
    on.unlink()
    assert result.get(timeout=GOES_ON) is None
    assert worker.output.count(lost) == 1
    assert_unharmed(worker)


def test_a_dead_child_is_dealt_with_when_redis_is_back(
    ours: AppFolder, tasks: t.Any, own_server: Server, tmp_path: Path
):
    worker = ours.worker("-c", "1")
    held = tmp_path / "held"
    result = tasks.hold.apply_async((str(held),), time_limit=0.5)
    eventually(held.exists)
    own_server.stop()
    worker.await_line("the time limit of 0.5 s is over")
    own_server.start()
    with pytest.raises(TimeLimitExceeded, match=r"0\.5 s"):
        result.get(timeout=GOES_ON)
    assert result.state == "FAILURE"
    assert tasks.add.delay(1, 2).get(timeout=GOES_ON) == 3
    assert_unharmed(worker)


def test_a_full_server_is_emptied(
    ours: AppFolder, tasks: t.Any, own_server: Server, tmp_path: Path
):
    worker = ours.worker("-c", "1")
    held = tmp_path / "held"
    running = tasks.hold.delay(str(held))
    eventually(held.exists)
    queued = [tasks.add.delay(n, n) for n in range(3)]
    later = tasks.add.apply_async((5, 5), countdown=1)
    with own_server.client() as client:
        client.config_set("maxmemory", 1)
        with pytest.raises(BrokerUnavailable, match="maxmemory"):
            tasks.add.delay(1, 2)
        held.unlink()
        assert running.get(timeout=GOES_ON) == "released"
        assert [result.get(timeout=GOES_ON) for result in queued] == [0, 2, 4]
        # By now the worker is idle: what it waits with is refused, too.
        assert later.get(timeout=GOES_ON) == 10
        client.config_set("maxmemory", 0)
    assert tasks.add.delay(1, 2).get(timeout=GOES_ON) == 3
    assert_unharmed(worker)


def assert_unharmed(worker: Worker) -> None:
    assert "Traceback" not in worker.output
    assert worker.process.poll() is None
    assert worker.stop() == 0


def test_a_producer_is_told_within_two_seconds_that_redis_is_away(
    jobs: AppFolder, tasks: t.Any
):
    with socket.socket() as deaf:
        # It accepts connections, into its backlog, and never answers.
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(8)
        for port in (free_port(), deaf.getsockname()[1]):
            app = tasks.create_app(TASKQUEUE_URL=f"redis://127.0.0.1:{port}/0")
            began = time.monotonic()
            with app.app_context(), pytest.raises(BrokerUnavailable):
                tasks.add.delay(1, 2)
            assert time.monotonic() - began < 2.5
