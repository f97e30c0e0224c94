"""The testing kit as pytest fixtures, built on a fixture ``app`` of the test-suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
from flask import Flask

from ..appstate import state_of
from ..broker.connection import Broker
from .calls import CapturedJob, captured, eager
from .running import drain, run_worker


@pytest.fixture(scope="session")
def taskqueue_server(tmp_path_factory: pytest.TempPathFactory) -> str:
    """URL of a private server, started when it is first used, for all tests."""
    return f"embedded://{tmp_path_factory.mktemp('taskqueue')}"


@pytest.fixture
def taskqueue_url(taskqueue_server: str) -> str:
    """For ``TASKQUEUE_URL``: a private server, empty at the start of the test."""
    broker = Broker(taskqueue_server)
    broker.producer.flushall()
    broker.close()
    return taskqueue_server


@pytest.fixture
def taskqueue_eager(app: Flask) -> Iterator[None]:
    """Calls run where they are made: :func:`.eager` around the test."""
    with eager(app):
        yield


@pytest.fixture
def taskqueue_captured(app: Flask) -> Iterator[list[CapturedJob]]:
    """Calls are kept: the list of :func:`.captured`, around the test."""
    with captured(app) as jobs:
        yield jobs


@pytest.fixture
def taskqueue_drain(app: Flask) -> Iterator[Callable[..., int]]:
    """:func:`.drain` for the app; its connections are closed after the test."""
    yield partial(drain, app)
    _disconnect(app)


@pytest.fixture
def taskqueue_worker(app: Flask) -> Iterator[Callable[..., None]]:
    """:func:`.run_worker` for the app; its connections are closed after the test."""
    yield partial(run_worker, app)
    _disconnect(app)


def _disconnect(app: Flask) -> None:
    state_of(app).broker.close()
