"""The testing kit in a test-suite of a user's own, run by pytest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

USER_APP = """
from flask import Flask
from flask_taskqueue import TaskQueue

tq = TaskQueue()
done = []

@tq.task
def note(what: str) -> str:
    done.append(what)
    return what

def create_app(**config):
    app = Flask(__name__)
    app.config.update(config)
    tq.init_app(app)

    @app.post("/note/<what>")
    def start(what):
        return tq.accepted(note.delay(what))

    return app
"""

CONFTEST = """
import pytest
import notes

pytest_plugins = ["flask_taskqueue.testing"]

@pytest.fixture
def app(taskqueue_url):
    notes.done.clear()
    return notes.create_app(TESTING=True, TASKQUEUE_URL=taskqueue_url)
"""

USER_TESTS = """
import notes

def test_eager(app, taskqueue_eager):
    app.test_client().post("/note/a")
    assert notes.done == ["a"]

def test_captured(app, taskqueue_captured):
    app.test_client().post("/note/a")
    assert [job.args for job in taskqueue_captured] == [["a"]]
    assert notes.done == []

def test_drain(app, taskqueue_drain):
    app.test_client().post("/note/a")
    assert taskqueue_drain() == 1
    assert notes.done == ["a"]

def test_worker(app, taskqueue_worker):
    answer = app.test_client().post("/note/a")
    taskqueue_worker(queues=["default"])
    seen = app.test_client().get(answer.headers["Location"])
    assert seen.json["result"] == "a"
    assert notes.done == []

def test_leave_a_job(app):
    app.test_client().post("/note/a")

def test_start_empty(app, taskqueue_drain):
    assert taskqueue_drain() == 0
"""


def suite(folder: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a user's test-suite."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *args],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **env},
        capture_output=True,
        text=True,
        timeout=50,
    )


def test_fixtures_of_a_users_suite(tmp_path: Path):
    (tmp_path / "notes.py").write_text(USER_APP)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_notes.py").write_text(USER_TESTS)
    done = suite(tmp_path, "-q", "-W", "error")
    assert "6 passed" in done.stdout, done.stdout + done.stderr
    shown = suite(tmp_path, "--fixtures", "-q").stdout
    for name in (
        "server [session scope]",
        "url",
        "eager",
        "captured",
        "drain",
        "worker",
    ):
        assert f"taskqueue_{name} -- " in shown


def test_no_plugin_loads_by_itself(tmp_path: Path):
    (tmp_path / "test_none.py").write_text(
        "import sys\n"
        "def test_none(pytestconfig):\n"
        "    assert 'flask_taskqueue' not in sys.modules\n"
    )
    done = suite(tmp_path, "-q")
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_the_kit_works_without_pytest():
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "from flask_taskqueue.testing import captured, drain, eager, run_worker"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
