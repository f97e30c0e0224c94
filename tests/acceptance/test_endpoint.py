"""The endpoint behind real servers, with real workers."""

from __future__ import annotations

import json
import types
import typing as t
from pathlib import Path

import pytest
import redis

from ..processes import AppFolder
from ..servers import eventually
from .live import calling
from .serving import GUNICORN, Served

GTHREAD = (*GUNICORN, "-k", "gthread", "-b", "127.0.0.1:{port}", "jobs:create_app()")
SERVERS = {
    "gthread": ("--threads", "4", *GTHREAD),
    "gevent": (*GUNICORN, "-k", "gevent", "-b", "127.0.0.1:{port}", "jobs:create_app()"),
    "sync": (*GUNICORN, "-b", "127.0.0.1:{port}", "jobs:create_app()"),
    "flask": ("-m", "flask", "--app", "jobs", "run", "--port", "{port}"),
}


@pytest.fixture
def tasks(jobs: AppFolder) -> t.Iterator[types.ModuleType]:
    """The tasks of ``tests/apps/jobs.py``, to be called from here."""
    with calling(jobs) as tasks:
        yield tasks


def listening(client: redis.Redis) -> list[int]:
    """Number of channels, for each connection that listens to jobs."""
    rows = client.client_list()
    return [int(row["sub"]) for row in rows if row["cmd"] == "subscribe"]


def gthread(threads: int) -> tuple[str, ...]:
    return (*GUNICORN, "--threads", str(threads), *GTHREAD[len(GUNICORN) :])
