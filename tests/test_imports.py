"""What a process loads that imports the package, or serves a web app with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PACKAGE = "flask_taskqueue"
WORKING = tuple(
    f"{PACKAGE}.{name}" for name in ("worker.", "beat.", "eager", "testing")
)

IMPORT = """
import sys, threading
import flask_taskqueue
"""

WEB = """
from flask import Flask, jsonify

tq = flask_taskqueue.TaskQueue()

@tq.task
def add(x, y):
    return x + y

app = Flask("web")
app.config.from_prefixed_env()
tq.init_app(app)

@app.post("/add")
def start():
    return tq.accepted(add.delay(1, 2))

client = app.test_client()
answer = client.post("/add")
assert answer.status_code == 202
assert client.get(answer.location).json["state"] == "PENDING"
"""

SAY = """
print(threading.active_count(), *sys.modules)
"""


def loaded(code: str, folder: Path, **env: str) -> tuple[int, list[str]]:
    """Number of threads, and modules of the package, after some code was run."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code + SAY],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **env},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    threads, *names = done.stdout.split()
    return int(threads), [name for name in names if name.split(".")[0] == PACKAGE]


def test_an_import_loads_no_side_of_the_package(tmp_path: Path):
    threads, names = loaded(IMPORT, tmp_path)
    sides = tuple(f"{PACKAGE}.{name}" for name in ("web", "worker", "beat", "cli"))
    assert PACKAGE in names
    assert [name for name in names if name.startswith((*sides, *WORKING))] == []
    assert threads == 1


def test_a_web_process_loads_no_code_of_workers(tmp_path: Path, redis_url: str):
    """Not for ``init_app``, for calls, or for the pages it serves."""
    _, names = loaded(IMPORT + WEB, tmp_path, FLASK_TASKQUEUE_URL=redis_url)
    assert f"{PACKAGE}.web.status" in names
    commands = [name for name in names if name.startswith(f"{PACKAGE}.cli.")]
    assert [name for name in names if name.startswith(WORKING)] + commands == []
