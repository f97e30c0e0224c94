"""A teardown function that raises stops neither a worker nor its jobs."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from flask import Flask

from flask_taskqueue import AsyncResult, TaskQueue

from ..processes import AppFolder

SOURCE = """
import sqlite3

from flask import Flask, g
from flask_sqlalchemy import SQLAlchemy

from flask_taskqueue import TaskQueue

app = Flask(__name__)
app.config.from_prefixed_env()
app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
db = SQLAlchemy(app)
tq = TaskQueue(app)
tq.autodiscover_tasks()


@app.before_request
def connect():
    g.db = sqlite3.connect(":memory:")


@app.teardown_appcontext
def close(error):
    g.db.close()


@tq.task
def add(x, y):
    return x + y
"""


@pytest.fixture
def folder(tmp_path: Path, redis_url: str) -> t.Iterator[AppFolder]:
    folder = AppFolder(tmp_path, redis_url, "careless", source=SOURCE)
    yield folder
    folder.close()


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_worker_starts_runs_and_ends(folder: AppFolder, redis_url: str, pool: str):
    app = Flask(__name__)
    tq = TaskQueue(app, url=redis_url)
    with app.app_context():
        result = tq.send_task("careless.add", (1, 2))
        done = folder.flask("worker", "--burst", "-c", "1", "-P", pool)
        assert AsyncResult(result.id).get(timeout=1) == 3
        tq.state.broker.close()
    assert done.returncode == 0, done.stderr
    assert f"Teardown after job {result.id} raised" in done.stderr
