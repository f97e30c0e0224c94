"""``flask tasks`` beside real workers, as people and their scripts call it."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import time
from pathlib import Path

import redis

from ..processes import AppFolder
from ..servers import Server, eventually
from .live import calling


def test_a_waiting_terminal_sees_progress_and_the_result(jobs: AppFolder):
    code = (
        "\n\n@tq.task(bind=True)\n"
        "def steps(self, path):\n"
        "    for done in (1, 2):\n"
        "        self.progress(done, 4, f'step {done}')\n"
        "        while not Path(f'{path}{done}').exists():\n"
        "            time.sleep(0.01)\n"
        "    return 'fine'\n"
    )
    with jobs.module_path.open("a") as module:
        module.write(code)
    steps = jobs.folder / "step"
    call = jobs.flask("tasks", "call", "jobs.steps", "--args", json.dumps([str(steps)]))
    job_id = call.stdout.strip()
    jobs.worker("-c", "1")
    screen, terminal = pty.openpty()
    waiting = subprocess.Popen(
        jobs.command("tasks", "wait", job_id),
        cwd=jobs.folder,
        env=jobs.env | {"COLUMNS": "30"},
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
    )
    os.set_blocking(screen, False)
    seen = ""

    def shows(text: str) -> bool:
        nonlocal seen
        try:
            seen += os.read(screen, 65_536).decode()
        except BlockingIOError:
            pass
        return text in seen

    eventually(lambda: shows("step 1"), message="the first step")
    Path(f"{steps}1").touch()
    eventually(lambda: shows("step 2") and shows("50%"), message="the second step")
    Path(f"{steps}2").touch()
    assert waiting.communicate(timeout=20)[0] == "fine\n"
    assert waiting.returncode == 0
    os.close(screen)
    os.close(terminal)
    # Nothing wraps: each picture of the bar fits one line.
    pictures = re.split(r"\x1b\[[^A-Za-z]*[A-Za-z]|[\r\n]", seen)
    assert max(map(len, pictures)) <= 30


def test_a_resumed_queue_is_served_by_idle_workers(
    jobs: AppFolder, client: redis.Redis
):
    jobs.worker("-c", "1")
    assert jobs.flask("tasks", "pause", "default").returncode == 0
    with calling(jobs) as module:
        first, second = module.add.delay(1, 2), module.add.delay(3, 4)
        # A waiter had moved the first one before the worker saw the pause.
        eventually(lambda: client.llen("tq:ready:default"))
        found = json.loads(jobs.flask("tasks", "queues", "--json").stdout)
        (default,) = found["queues"]
        assert (default["waiting"], default["paused"], default["workers"]) == (
            2,
            True,
            1,
        )
        assert jobs.flask("tasks", "resume", "default").returncode == 0
        assert (first.get(timeout=5), second.get(timeout=5)) == (3, 7)


def test_a_requeued_job_runs_again(jobs: AppFolder):
    jobs.worker("-c", "1")
    with calling(jobs) as module:
        result = module.die_once.delay()
        eventually(result.failed, message="the job fails")
        ended = result.date_done
        done = jobs.flask("tasks", "requeue", result.id)
        assert done.stdout == f"{result.id} waits again.\n"
        eventually(lambda: result.failed() and result.date_done != ended)


def test_a_running_job_is_terminated(jobs: AppFolder):
    held = jobs.folder / "held"
    held.touch()
    jobs.worker("-c", "1")
    with calling(jobs) as module:
        result = module.hold.delay(str(held))
        eventually(lambda: result.state == "STARTED")
        assert jobs.flask("tasks", "revoke", result.id, "--terminate").returncode == 0
        done = jobs.flask("tasks", "wait", result.id, "--timeout", "10")
        assert (done.returncode, done.stderr.split()[0]) == (1, "REVOKED")


def test_every_option_has_its_environment_variable(jobs: AppFolder):
    with calling(jobs) as module:
        module.add.delay_many([(1, 2)] * 2)
    jobs.env |= {"FLASK_TASKS_LIST_LIMIT": "1", "FLASK_TASKS_LIST_JSON": "1"}
    document = json.loads(jobs.flask("tasks", "list").stdout)
    assert len(document["jobs"]) == document["next"] == 1


def test_a_reader_that_has_seen_enough_is_no_error(jobs: AppFolder):
    with calling(jobs) as module:
        module.add.delay_many([(1, 2)] * 300)
    listing = subprocess.Popen(
        jobs.command("tasks", "list", "--limit", "300", "--json"),
        cwd=jobs.folder,
        env=jobs.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert listing.stdout is not None
    assert listing.stderr is not None
    assert listing.stdout.readline() == "{\n"
    listing.stdout.close()
    assert listing.stderr.read() == ""
    listing.stderr.close()
    listing.wait(20)


def test_who_waits_is_told_that_redis_went_away(tmp_path: Path, own_server: Server):
    folder = AppFolder(tmp_path, own_server.url)
    call = folder.flask("tasks", "call", "jobs.add", "--args", "[1, 2]")
    waiting = subprocess.Popen(
        folder.command("tasks", "wait", call.stdout.strip(), "--timeout", "4"),
        cwd=folder.folder,
        env=folder.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with own_server.client() as client:
        eventually(lambda: client.execute_command("PUBSUB", "CHANNELS"))
    own_server.kill()
    result, told = waiting.communicate(timeout=20)
    assert (waiting.returncode, result) == (69, "")
    lost, error = told.splitlines()
    assert lost.startswith("cannot reach redis://")
    assert lost.endswith(" (waiting on)")
    assert error.startswith("Error: cannot reach redis://")


def test_who_waits_hears_of_the_end_when_redis_is_back(
    tmp_path: Path, own_server: Server
):
    folder = AppFolder(tmp_path, own_server.url)
    call = folder.flask("tasks", "call", "jobs.add", "--args", "[1, 2]")
    waiting = subprocess.Popen(
        folder.command("tasks", "wait", call.stdout.strip(), "--timeout", "60"),
        cwd=folder.folder,
        env=folder.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with own_server.client() as client:
        eventually(lambda: client.execute_command("PUBSUB", "CHANNELS"))
    own_server.kill()
    assert waiting.stderr is not None
    assert "cannot reach" in waiting.stderr.readline()
    own_server.start()
    folder.worker("-c", "1", "--burst", ready=False)
    result, told = waiting.communicate(timeout=30)
    folder.close()
    assert (waiting.returncode, result, told) == (0, "3\n", "")


def test_a_full_disk_is_one_line(jobs: AppFolder):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            jobs.command("tasks", "queues"),
            cwd=jobs.folder,
            env=jobs.env,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr == "Error: cannot write: No space left on device\n"


def test_a_server_that_hangs_is_told_within_two_seconds(
    tmp_path: Path, own_server: Server
):
    folder = AppFolder(tmp_path, own_server.url)
    ready = time.monotonic()
    assert folder.flask("tasks", "list").returncode == 0
    ready = time.monotonic() - ready
    assert own_server.process is not None
    own_server.process.send_signal(signal.SIGSTOP)
    try:
        begun = time.monotonic()
        done = folder.flask("tasks", "list")
        # Twice what it takes at best, for a machine with other things to do.
        assert time.monotonic() - begun < 2 + 2 * ready + 1
    finally:
        own_server.process.send_signal(signal.SIGCONT)
    assert done.returncode == 69
    (line,) = done.stderr.splitlines()
    assert "cannot reach" in line
