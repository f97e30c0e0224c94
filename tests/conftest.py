"""Fixtures for all tests: real servers, and a look at what a test leaves behind."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import flask
import pytest
import redis
from flask.globals import app_ctx

from . import browser as chromium
from .postgres import Postgres, binaries
from .processes import AppFolder
from .running import InProcess
from .servers import Server, why_no_clock

if t.TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Server]:
    """A server all tests share: see :func:`redis_url`."""
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def redis_url(server: Server) -> str:
    """URL of the shared server, empty at the start of the test."""
    with server.client() as client:
        client.flushall()
        client.script_flush()
    return server.url


@pytest.fixture
def client(redis_url: str, server: Server) -> t.Iterator[redis.Redis]:
    """A plain client of the shared server, empty at the start of the test."""
    with server.client() as client:
        yield client


@pytest.fixture
def own_server(tmp_path: Path) -> t.Iterator[Server]:
    """A running server of the test's own, to be stopped and killed at will."""
    with Server(tmp_path / "server", tcp=True) as server:
        yield server


@pytest.fixture
def clock_server(tmp_path: Path) -> t.Iterator[Server]:
    """A server of the test's own whose clock it sets; see ``Server.set_clock``."""
    reason = why_no_clock()
    if reason:
        assert "CI" not in os.environ, reason
        pytest.skip(reason)
    with Server(tmp_path / "server", clock=True) as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> t.Iterator[Postgres]:
    """A PostgreSQL all tests share; each makes databases of its own in it."""
    found = binaries()
    if found is None:
        assert "CI" not in os.environ, "no initdb on PATH or below /usr/lib/postgresql"
        pytest.skip("PostgreSQL is not installed")
    with Postgres(found) as postgres:
        yield postgres


@pytest.fixture(scope="module")
def browser() -> t.Iterator[Browser]:
    """A headless browser for the tests of a module; each opens pages of its own."""
    found = chromium.binary()
    if found is None:
        assert "CI" not in os.environ, "no chromium on PATH"
        pytest.skip("Chromium is not installed")
    with chromium.running(found) as browser:
        yield browser


@pytest.fixture
def jobs(tmp_path: Path, redis_url: str) -> t.Iterator[AppFolder]:
    """A folder with ``tests/apps/jobs.py`` on the shared server."""
    folder = AppFolder(tmp_path, redis_url)
    yield folder
    folder.close()


@pytest.fixture(autouse=True)
def no_connection_left() -> t.Iterator[None]:
    """Disconnect the apps that a test made in its own process."""
    yield
    InProcess.disconnect_all()


@pytest.fixture(autouse=True)
def no_app_context_left() -> t.Iterator[None]:
    """Fails a test that leaves an app context pushed, and pops it."""
    yield
    left = 0
    while flask.has_app_context():
        app_ctx.pop()
        left += 1
    assert not left, f"the test left {left} app context(s) pushed"
