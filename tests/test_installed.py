"""The installed package, used by ``flask`` processes where the checkout is not."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import typing as t
import urllib.request
from collections.abc import Iterator
from importlib import metadata, resources
from pathlib import Path

import pytest

import flask_taskqueue

from .processes import AppFolder, Worker
from .servers import eventually, free_port

NAME = "Flask-TaskQueue"
PACKAGE = Path(flask_taskqueue.__file__).parent
CHECKOUT = Path(__file__).parents[1]
UNKNOWN = "12345678-1234-4234-8234-123456789abc"


def is_editable() -> bool:
    """Whether the distribution is installed as a link to a checkout (PEP 610).

    The checkout may hold metadata of its own, which say nothing of that.
    """
    texts = [d.read_text("direct_url.json") for d in metadata.distributions(name=NAME)]
    origins = [json.loads(text) for text in texts if text]
    return any(x.get("dir_info", {}).get("editable") for x in origins)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[AppFolder]:
    """Without ``TASKQUEUE_URL``; only what is installed is found there."""
    folder = AppFolder(tmp_path, None, "where")
    del folder.env["PYTHONPATH"]
    yield folder
    folder.close()


@pytest.fixture
def web(folder: AppFolder) -> Iterator[str]:
    """URL of the app under ``flask run``."""
    port = free_port()
    with (folder.folder / "web.log").open("wb") as log:
        process = subprocess.Popen(
            folder.command("run", "--port", str(port)),
            cwd=folder.folder,
            env=folder.env,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    running = Worker(process, folder.folder / "web.log")
    running.await_line("Running on http")
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(10)


def ask(url: str, method: str = "GET") -> dict[str, t.Any]:
    request = urllib.request.Request(url, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return t.cast("dict[str, t.Any]", json.load(answer))


def result_of(url: str, job_id: str) -> dict[str, t.Any]:
    """The result of a job, asked for by HTTP."""
    answer = eventually(
        lambda: (found := ask(f"{url}/tasks/{job_id}"))["ready"] and found, 20
    )
    assert answer["state"] == "SUCCESS", answer
    return t.cast("dict[str, t.Any]", answer["result"])


def test_web_and_worker_use_this_package_and_one_server(folder: AppFolder, web: str):
    """Two commands, no configuration: a private server that both find."""
    job_id = ask(f"{web}/start", "POST")["id"]
    folder.worker("-c", "1")
    here, there = ask(f"{web}/where"), result_of(web, job_id)
    assert here["pid"] != there["pid"]
    server = f"embedded://{folder.folder}/instance/taskqueue"
    assert here["server"] == there["server"] == server
    assert here["folder"] == there["folder"] == str(folder.folder)
    assert here["file"] == there["file"] == flask_taskqueue.__file__
    assert here["executable"] == there["executable"] == sys.executable


def test_the_package_lies_in_site_packages_unless_it_is_editable():
    installed = [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")]
    inside = any(PACKAGE.is_relative_to(path) for path in installed)
    assert inside != is_editable()
    if is_editable():
        assert PACKAGE.parent == CHECKOUT


def test_a_process_outside_the_checkout_finds_the_same_package(tmp_path: Path):
    source = "import flask_taskqueue; print(flask_taskqueue.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", source],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert found.stdout.strip() == flask_taskqueue.__file__


SCRIPTS = sorted((CHECKOUT / "flask_taskqueue" / "broker" / "lua").rglob("*.lua"))


def test_scripts_and_type_marker_are_part_of_the_package():
    files = resources.files("flask_taskqueue")
    assert files.joinpath("py.typed").is_file()
    wanted = [path.relative_to(CHECKOUT / "flask_taskqueue") for path in SCRIPTS]
    assert Path("broker/lua/lib/claiming.lua") in wanted
    for path in wanted:
        source = CHECKOUT / "flask_taskqueue" / path
        assert files.joinpath(*path.parts).read_bytes() == source.read_bytes()
    if not is_editable():
        recorded = {str(path) for path in metadata.files(NAME) or ()}
        assert {f"flask_taskqueue/{path.as_posix()}" for path in wanted} <= recorded
        assert "flask_taskqueue/py.typed" in recorded


WSGI = """
import where
app = where.create_app()           # Redis is not needed to start
client = app.test_client()
print(client.post("/start").status_code, client.get("/tasks/{id}").status_code)
"""


def wsgi(folder: AppFolder, **env: str) -> subprocess.CompletedProcess[str]:
    """The app as a WSGI server imports and calls it."""
    return subprocess.run(
        [sys.executable, "-c", WSGI.replace("{id}", UNKNOWN)],
        cwd=folder.folder,
        env={**folder.env, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_wsgi_server_needs_a_url(folder: AppFolder):
    done = wsgi(folder)
    assert done.stdout.split() == ["500", "500"]
    assert "ConfigError: TASKQUEUE_URL is not set" in done.stderr
    assert not (folder.folder / "instance").exists()


@pytest.mark.parametrize("name", ["FLASK_DEBUG", "FLASK_TESTING"])
def test_a_wsgi_server_that_develops_does_not(folder: AppFolder, name: str):
    done = wsgi(folder, **{name: "1"})
    assert done.stdout.split() == ["202", "404"], done.stderr
    assert "TASKQUEUE_URL" in done.stderr  # one line says that it is for production


def test_a_wsgi_server_with_a_url_shares_the_workers_server(
    folder: AppFolder, redis_url: str
):
    folder.env["FLASK_TASKQUEUE_URL"] = redis_url
    done = wsgi(folder)
    assert done.stdout.split() == ["202", "404"], done.stderr
    worker = folder.worker("-c", "1", "--burst", ready=False)
    assert worker.process.wait(30) == 0
    assert "Task where.where[" in worker.output
    assert not (folder.folder / "instance").exists()


def test_a_view_says_soon_that_redis_is_away(folder: AppFolder):
    done = wsgi(folder, FLASK_TASKQUEUE_URL="redis://:s3cret@127.0.0.1:1/0")
    assert done.stdout.split() == ["500", "503"]
    assert "BrokerUnavailable: redis://" in done.stderr
    assert "s3cret" not in done.stderr
