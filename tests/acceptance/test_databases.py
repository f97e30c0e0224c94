"""Databases and workers: sessions end with their job, engines are not shared over a
fork. On SQLite and on a real PostgreSQL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import typing as t
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_taskqueue import AsyncResult

from ..postgres import Postgres
from ..processes import AppFolder, Worker
from ..servers import Server, eventually


class World:
    """One app with two databases, its worker, and its web half in this process.

    :param databases: URLs, one for ``db.session``, one for the bind ``log``.
    :param options: Of the worker.
    """

    def __init__(
        self, folder: Path, server: Server, databases: tuple[str, str], *options: str
    ) -> None:
        first, second = databases
        config = {
            "SQLALCHEMY_DATABASE_URI": first,
            "SQLALCHEMY_BINDS": json.dumps({"log": second}),
        }
        env = {f"FLASK_{name}": value for name, value in config.items()}
        self.folder = AppFolder(folder, server.url, "databases", **env)
        self.tasks: t.Any = self.folder.module()
        self.app: Flask = self.tasks.create_app(
            SQLALCHEMY_DATABASE_URI=first,
            SQLALCHEMY_BINDS={"log": second},
            TASKQUEUE_URL=server.url,
        )
        self.web: FlaskClient = self.app.test_client()
        self.worker: Worker = self.folder.worker(*options)

    def close(self) -> None:
        """End the worker, and disconnect this process."""
        self.folder.close()
        with self.app.app_context():
            self.tasks.tq.state.broker.close()
            for engine in self.tasks.db.engines.values():
                engine.dispose()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def world(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    server: Server,
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "sqlite":
        urls = f"sqlite:///{folder / 'shop.db'}", f"sqlite:///{folder / 'log.db'}"
    else:
        postgres: Postgres = request.getfixturevalue("postgres")
        urls = postgres.new_database(), postgres.new_database()
    with server.client() as client:
        client.flushall()
    with closing(World(folder, server, urls, "-c", "4")) as world:
        yield world


only_sqlite = pytest.mark.parametrize("world", ["sqlite"], indirect=True)
only_postgresql = pytest.mark.parametrize("world", ["postgresql"], indirect=True)


@pytest.fixture
def tasks(world: World) -> Iterator[t.Any]:
    with world.app.app_context():
        yield world.tasks


def test_a_job_enqueued_on_commit_finds_the_row(world: World):
    answer = world.web.post("/orders/one")
    assert answer.status_code == 202
    with world.app.app_context():
        assert AsyncResult(answer.text).get(timeout=20) == "one"


def test_a_view_that_rolls_back_leaves_no_job(world: World, server: Server):
    with server.client() as client:
        before = set(client.keys())
        answer = world.web.post("/orders/odd")
        assert answer.status_code == 400
        assert set(client.keys()) <= before
    with world.app.app_context():
        assert AsyncResult(answer.text).state == "UNKNOWN"


def test_a_view_that_fails_leaves_no_job(world: World, server: Server):
    world.app.config["PROPAGATE_EXCEPTIONS"] = False
    answer = world.web.post("/orders/twice")
    with world.app.app_context():
        AsyncResult(answer.text).get(timeout=20)
    with server.client() as client:
        before = set(client.keys())
        assert world.web.post("/orders/twice").status_code == 500
        assert set(client.keys()) <= before


@pytest.mark.parametrize("flush", [True, False], ids=["broken", "unfinished"])
def test_a_job_that_fails_leaves_a_clean_session(tasks: t.Any, flush: bool):
    before = tasks.names.delay().get(timeout=20)
    failed = [tasks.fail.delay("failed", flush=flush) for _ in range(8)]
    results = [tasks.names.delay() for _ in range(8)]
    assert [result.get(timeout=20) for result in results] == [before] * 8
    wanted = "UNIQUE|unique" if flush else "failed"
    for result in failed:
        with pytest.raises(Exception, match=wanted):
            result.get(timeout=20)


def test_what_a_job_did_not_commit_is_rolled_back(tasks: t.Any):
    before = len(tasks.names.delay().get(timeout=20))
    for _ in range(8):
        assert tasks.leave_open.delay("open").get(timeout=20) == before + 1
    assert len(tasks.names.delay().get(timeout=20)) == before


def test_many_children_ask_their_databases_at_once(tasks: t.Any):
    results = tasks.compute.delay_many([(number,) for number in range(100)])
    answers = [result.get(timeout=50) for result in results]
    wanted = [20 * number + 210 for number in range(100)]
    assert [total for total, *_ in answers] == wanted
    assert len({pid for _, pid, *_ in answers}) > 1


@only_sqlite
def test_a_process_killed_between_commit_and_enqueue_loses_the_job(
    tasks: t.Any, world: World
):
    killed = subprocess.run(
        [sys.executable, "-c", KILLED], cwd=world.folder.folder, env=world.folder.env
    )
    assert killed.returncode == -signal.SIGKILL
    assert "killed" in tasks.names.delay().get(timeout=20)
    assert AsyncResult("killed").state == "UNKNOWN"


KILLED = """
import os, signal
from databases import Order, create_app, db, ship
from sqlalchemy import event

with create_app().app_context():
    db.session.add(Order(name="killed"))
    ship.apply_async_on_commit((1,), task_id="killed")
    kill = lambda session: os.kill(os.getpid(), signal.SIGKILL)
    event.listen(db.session(), "after_commit", kill)
    db.session.commit()
"""


@only_postgresql
def test_connections_belong_to_one_process_each(
    tasks: t.Any, world: World, postgres: Postgres
):
    factory = set(tasks.loaded_over.delay().get(timeout=20))
    for _ in range(2):
        answers = [r.get(timeout=50) for r in tasks.compute.delay_many([(1,)] * 50)]
        users: dict[int, set[int]] = {}
        for _, pid, *backends in answers:
            for backend in backends:
                users.setdefault(backend, set()).add(pid)
        assert {len(pids) for pids in users.values()} == {1}
        assert not factory & users.keys()
        # Those of the process that forks are as they were, for the next child, too.
        assert factory <= activity(postgres).keys()
        killed = world.worker.children[0]
        os.kill(killed, signal.SIGKILL)
        eventually(lambda gone=killed: len({*world.worker.children} - {gone}) == 4)


@only_postgresql
def test_no_transaction_is_left_open(tasks: t.Any, postgres: Postgres):
    for result in [
        *[tasks.leave_open.delay("open") for _ in range(8)],
        *[tasks.fail.delay("failed", flush=flush) for flush in (True, False)],
        *[tasks.names.delay() for _ in range(8)],
    ]:
        result.get(timeout=20, propagate=False)
    eventually(lambda: set(activity(postgres).values()) == {"idle"})


def activity(postgres: Postgres) -> dict[int, str]:
    """What the server's processes behind connections do, by their pids."""
    query = (
        "SELECT pid, state FROM pg_stat_activity"
        " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    with postgres.connect() as connection:
        return dict(connection.execute(query).fetchall())


@only_sqlite
def test_a_child_collects_no_connection_it_inherited(tasks: t.Any):
    results = [tasks.goodbyes_to_others.delay() for _ in range(16)]
    assert [result.get(timeout=20) for result in results] == [[]] * 16


def test_a_database_in_memory_is_there_for_a_solo_worker(
    tmp_path: Path, own_server: Server
):
    urls = "sqlite://", "sqlite://"
    with closing(World(tmp_path, own_server, urls, "-P", "solo")) as world:
        with world.app.app_context():
            assert world.tasks.names.delay().get(timeout=20) == []
