"""``--log-format json``: whatever a worker or a beat says on stderr, line by line."""

from __future__ import annotations

import json
import typing as t
from datetime import datetime
from pathlib import Path

import pytest
from flask import Flask

from flask_taskqueue import TaskQueue

from ..processes import AppFolder
from .live import calling

Line = dict[str, t.Any]
KEYS = [
    "time", "level", "logger", "message", "job_id", "task", "queue", "exception"
]  # fmt: skip


def lines(text: str) -> list[Line]:
    found = [json.loads(line) for line in text.splitlines()]
    for line in found:
        assert list(line) == KEYS
        assert datetime.fromisoformat(line["time"]).tzinfo is not None
    return found


def said(text: str, end: str) -> Line:
    """The one line with this end."""
    (found,) = [line for line in lines(text) if line["message"].endswith(end)]
    return found


def test_a_workers_lines_are_objects(jobs: AppFolder):
    with calling(jobs) as tasks:
        good = tasks.add.apply_async((1, 2), queue="mail")
        bad = tasks.fail.delay("a\nb")
    options = ("--burst", "-c", "1", "-Q", "mail,default", "--log-format", "JSON")
    done = jobs.flask("worker", *options)
    assert done.returncode == 0
    assert "[tasks]" in done.stdout
    received = said(done.stderr, f"jobs.add[{good.id}] received")
    assert received["level"] == "INFO"
    assert received["logger"].startswith("flask_taskqueue.")
    job = [received[key] for key in ("job_id", "task", "queue")]
    assert job == [good.id, "jobs.add", "mail"]
    assert received["exception"] is None
    (failed,) = [line for line in lines(done.stderr) if line["level"] == "ERROR"]
    assert [failed["job_id"], failed["task"]] == [bad.id, "jobs.fail"]
    assert failed["exception"].startswith("Traceback")
    assert failed["exception"].endswith("ValueError: a\nb")
    (no_job,) = [x for x in lines(done.stderr) if x["message"].startswith("Connected")]
    assert [no_job[key] for key in ("job_id", "task", "queue")] == [None] * 3


@pytest.mark.parametrize("root", [False, True], ids=["of-flask", "of-the-root"])
def test_lines_of_the_apps_own_handlers_are_objects_too(
    tmp_path: Path, redis_url: str, root: bool
):
    audit = tmp_path / "audit.log"
    folder = AppFolder(tmp_path, redis_url, "loud", LOUD_AUDIT=str(audit))
    if root:
        folder.env["LOUD_ROOT"] = "1"
    try:
        app = Flask(__name__)
        with app.app_context():
            job = TaskQueue(app, url=redis_url).send_task("loud.speak")
        done = folder.flask("worker", "--burst", "-c", "1", "--log-format", "json")
    finally:
        folder.close()
    assert done.returncode == 0
    # The app's handler of the root writes to stdout, as the banner does.
    shown = done.stdout if root else done.stderr
    # Nobody has set anything up while the app is made.
    shown = shown[shown.index("{") :]
    for end in ("by the app", "by a part", "by the task"):
        line = said(shown, end)
        assert (line["job_id"], line["task"]) == (job.id, "loud.speak")
    assert said(shown, "by a library")["logger"] == "library"
    # Elsewhere than on the terminal the app's form stays.
    assert audit.read_text().splitlines() == ["by the audit"]


def test_a_beats_lines_are_objects(jobs: AppFolder):
    beat = jobs.beat("--log-format", "json", ready=False)
    beat.await_line('"message": "Connected to ')
    assert beat.stop() == 0
    logged = "\n".join(x for x in beat.output.splitlines() if x.startswith("{"))
    assert said(logged, jobs.env["FLASK_TASKQUEUE_URL"])["level"] == "INFO"
