"""Whoever is killed between any two commands leaves each job in one place, from where
a healthy worker runs it to its end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import typing as t
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import redis

from flask_taskqueue.broker import scripts
from flask_taskqueue.testing import drain

from ..processes import AppFolder
from ..servers import eventually
from .looking import REGISTRIES, Look, one_place

OPERATIONS = (
    "enqueue", "enqueue_later", "replace", "enqueue_many", "slot", "slot_of_a_child",
    "revoke", "requeue", "requeue_by_command", "purge_by_command", "forget",
    "child_dies", "limit_is_over", "worker_stops", "upkeep",
)  # fmt: skip

MOST = 200
"""Commands after which an operation should be over."""

RUNS = {"again": 2, "later": 2}
"""How often a job's function is called where no process dies, if not once."""

TWICE = {"slot": 16, "slot_of_a_child": 1}
"""How many jobs may have run for nothing: the one that ran; and where the whole worker
is lost, those whose ends were to be stored together with its."""

NEVER = {"expires", "revoked"}
"""Jobs whose functions nobody calls."""


class Crashes:
    """Processes that die; see ``tests/apps/crashpoints.py``."""

    def __init__(self, folder: AppFolder) -> None:
        self.client: t.Any = None
        self.folder = folder.folder
        self._log = self.folder / "crashes.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(folder.module_path)],
                cwd=self.folder,
                env=folder.env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                text=True,
            )

    def die(self, operation: str, at: int, how: str) -> bool:
        """Kill an operation at its command of this number; whether it has so many."""
        self.client.flushdb()
        (self.folder / "ledger").write_text("")
        before = self._connections()
        order = {"do": operation, "at": at, "how": how}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        status = int(self._process.stdout.readline())
        # Until the server has done what the dead sent, and dropped them.
        eventually(lambda: self._connections() <= before)
        assert status in (0, -signal.SIGKILL), self._log.read_text("utf-8")
        return status != 0

    def _connections(self) -> set[str]:
        return {row["id"] for row in self.client.client_list()}

    @property
    def runs(self) -> Counter[str]:
        """How often each job's function was called."""
        return Counter((self.folder / "ledger").read_text().split())

    def close(self) -> None:
        """Kill it with all it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate(timeout=10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, server: t.Any) -> t.Any:
    folder = AppFolder(tmp_path_factory.mktemp("app"), server.url, "crashpoints")
    yield folder
    folder.close()


@pytest.fixture(scope="module")
def module(folder: AppFolder) -> t.Any:
    """The app in this process: the healthy worker, which knows all tasks."""
    module = folder.module()

    @module.tq.task(name="nowhere", bind=True)
    def nowhere(self: t.Any) -> None:
        module.note(self.request.id)

    return module


@pytest.fixture(scope="module")
def dying(folder: AppFolder) -> Iterator[Crashes]:
    crashes = Crashes(folder)
    yield crashes
    crashes.close()


@pytest.fixture
def crashes(
    dying: Crashes, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> Crashes:
    monkeypatch.chdir(dying.folder)
    dying.client = client
    return dying


@pytest.fixture
def app(module: t.Any, redis_url: str) -> Iterator[t.Any]:
    app = module.create_app(TASKQUEUE_URL=redis_url)
    yield app
    with app.app_context():
        module.tq.state.broker.close()


def assert_each_in_one_place(look: Look) -> None:
    """Each job is in one place, and no place names an id without a job."""
    for job_id in look.jobs:
        if look.field(job_id, "tq_forgotten"):
            assert look.places(job_id) == []
        else:
            one_place(look, job_id)
    assert look.named <= look.jobs | {"gone"}


def recover(client: t.Any, queues: t.Sequence[str]) -> None:
    """What another worker does once the leases of the dead are over."""
    for queue in queues:
        for member in client.zrange(f"rq:wip:{queue}", 0, -1):
            client.zadd(f"rq:wip:{queue}", {member: 1.0})
    client.set("tq:swept", time.time())
    swept = scripts.sweep(client, gap=60, lease=10, most=100)
    for task in swept.parked:
        scripts.unpark(client, task, most=100, queues=queues)


def assert_all_ended(look: Look, runs: Counter[str], operation: str) -> None:
    """Each job ended, each of its ends is there once, and none ran too often."""
    twice = 0
    for job_id in look.jobs - {"f0"} if operation == "forget" else look.jobs:
        place, _ = one_place(look, job_id)
        assert place in REGISTRIES
        wanted = RUNS.get(job_id, 1)
        if operation.startswith("requeue"):
            assert look.ends(job_id) == runs[job_id] in (1, 2)
            continue
        assert look.ends(job_id) == 1
        assert runs[job_id] >= wanted or place != "finished"
        assert runs[job_id] == 0 or job_id not in NEVER
        twice += max(runs[job_id] - wanted, 0)
    assert twice <= TWICE.get(operation, 0)
    assert look.kept_for_ever == set()


@pytest.mark.parametrize("how", ["before", "after"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_killed_at_any_command(
    crashes: Crashes, module: t.Any, app: t.Any, operation: str, how: str
):
    prepared: set[str] | None = None
    for number in range(1, MOST):
        is_dead = crashes.die(operation, number, how)
        look = Look(crashes.client)
        assert_each_in_one_place(look)
        prepared = look.jobs if prepared is None else prepared
        assert prepared <= look.jobs
        recover(crashes.client, module.QUEUES)
        assert_each_in_one_place(Look(crashes.client))
        drain(app, module.QUEUES, now=datetime.now(UTC) + timedelta(days=1))
        assert_all_ended(Look(crashes.client), crashes.runs, operation)
        if not is_dead:
            break
    assert 1 < number < MOST - 1, "commands of the operation"
