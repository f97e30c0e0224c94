"""What a user of ``flask beat`` and ``flask worker -B`` sees."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import typing as t
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

import pytest
from flask import Flask

from flask_taskqueue import TaskQueue
from flask_taskqueue.beat import listing
from flask_taskqueue.beat.listing import Fired

from ..processes import AppFolder, Worker
from ..servers import Server, eventually, free_port

TAKES_OVER = 5.0
"""Seconds within which a dead leader is promised to be replaced."""

EACH = {"task": "jobs.add", "schedule": 0.5, "args": [1, 2]}


def declare(folder: AppFolder, **entries: dict[str, t.Any]) -> None:
    """Let the code of the folder's app declare these entries."""
    folder.env["FLASK_TASKQUEUE_BEAT_SCHEDULE"] = json.dumps(entries)


@pytest.fixture
def ours(jobs: AppFolder, own_server: Server) -> AppFolder:
    """A folder on a server of the test's own."""
    jobs.env["FLASK_TASKQUEUE_URL"] = own_server.url
    declare(jobs, each=EACH)
    return jobs


class History:
    """What an app's entries did, as Redis has it."""

    def __init__(self, url: str) -> None:
        self.app = Flask("jobs")
        self.state = TaskQueue(self.app, url=url).state_of(self.app)

    def fired(self, name: str = "each") -> list[Fired]:
        """The last 100 firings, oldest first."""
        return listing.firings(self.state, name, 100)[::-1]

    def await_count(self, count: int, timeout: float = 15.0) -> list[Fired]:
        """Wait until an entry has fired so often."""
        eventually(lambda: len(self.fired()) >= count, timeout, f"{count} firings")
        return self.fired()

    def await_more(self, count: int, timeout: float = 15.0) -> list[Fired]:
        """Wait until it has fired so often from now on."""
        return self.await_count(len(self.fired()) + count, timeout)

    def leader(self) -> str | None:
        client: t.Any = self.state.broker.monitor
        name: bytes | None = client.get("tq:lead:jobs")
        return None if name is None else name.decode()

    def close(self) -> None:
        self.state.broker.close()


@pytest.fixture
def history(ours: AppFolder) -> t.Iterator[History]:
    history = History(ours.env["FLASK_TASKQUEUE_URL"])
    yield history
    history.close()


def assert_no_hole(rows: list[Fired], seconds: float = 0.5) -> None:
    """Each due time once, none missing, none early."""
    steps = {b.due - a.due for a, b in zip(rows, rows[1:], strict=False)}
    assert steps == {timedelta(seconds=seconds)}
    assert {row.what for row in rows} == {"fired"}
    assert min(row.at - row.due for row in rows) >= timedelta(0)


def name_of(beat: Worker) -> str:
    return beat.output.split()[0]


def test_a_beat_introduces_itself(jobs: AppFolder, redis_url: str):
    declare(
        jobs,
        nightly={"task": "jobs.add", "schedule": "0 3 * * *", "args": [1, 2]},
        zoned={
            "task": "jobs.add",
            "schedule": "30 16 * * *",
            "args": [1, 2],
            "tz": "Asia/Tokyo",
        },
    )
    beat = jobs.beat("-l", "Info", FLASK_TASKQUEUE_TIMEZONE="Asia/Kolkata")
    eventually(lambda: "zoned" in beat.output)
    banner, _, table = beat.output.partition("NAME")
    assert re.fullmatch(r"[\w.-]+\.\d+\.[0-9a-f]+", name_of(beat))
    assert f"Flask-TaskQueue {version('Flask-TaskQueue')}" in banner
    assert re.search(r"app: +jobs\n", banner)
    assert re.search(rf"broker: +{redis_url}\n", banner)
    assert re.search(r"time zone: +Asia/Kolkata\n", banner)
    assert re.search(r"nightly +jobs\.add +.*Asia/Kolkata.* 03:00:00\+05:30\n", table)
    assert re.search(r"zoned +jobs\.add +.*Asia/Tokyo.* 16:30:00\+09:00\n", table)
    assert beat.stop() == 0


def test_firings_are_logged_and_their_jobs_run(ours: AppFolder, history: History):
    beat = ours.beat()
    worker = ours.worker("-c", "1")
    history.await_count(3)
    beat.await_line("INFO")
    lines = re.findall(r"Scheduler: Sending due task each \(jobs\.add\)", beat.output)
    assert len(lines) >= 3
    assert beat.stop() == 0
    worker.await_line(f"Task jobs.add[{history.fired()[0].job_id}] succeeded")
    eventually(lambda: {row.state for row in history.fired()} == {"SUCCESS"})
    assert worker.stop() == 0


def test_three_beats_fire_each_due_time_once(
    ours: AppFolder, history: History, own_server: Server
):
    beats = [ours.beat() for _ in range(3)]
    rows = history.await_more(8)
    assert_no_hole(rows)
    for beat in beats:
        assert beat.stop() == 0
    rows = history.fired()
    assert_no_hole(rows)
    with own_server.client() as client:
        raw: t.Any = client
        waiting = [job.decode() for job in raw.lrange("rq:queue:default", 0, -1)]
    assert waiting == [row.job_id for row in rows]
    said = sum(beat.output.count("Sending due task") for beat in beats)
    assert said == len(rows)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_leader_that_is_gone_is_replaced(
    ours: AppFolder, history: History, number: int
):
    beats = {name_of(beat): beat for beat in (ours.beat(), ours.beat())}
    history.await_count(2)
    leader = history.leader()
    assert leader is not None
    beats[leader].signal(number)
    began = time.monotonic()
    eventually(lambda: history.leader() not in (leader, None), TAKES_OVER)
    history.await_more(2, TAKES_OVER)
    assert time.monotonic() - began < TAKES_OVER + 1
    if number == signal.SIGSTOP:
        # It wakes with a plan for due times that were fired meanwhile.
        beats[leader].signal(signal.SIGCONT)
        beats[leader].await_line("stands by")
    assert_no_hole(history.await_more(3))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_leader_steps_down_at_once(
    ours: AppFolder, history: History, number: int
):
    beats = {name_of(beat): beat for beat in (ours.beat(), ours.beat())}
    leader = eventually(history.leader)
    began = time.monotonic()
    beats[leader].signal(number)
    eventually(lambda: history.leader() not in (leader, None), 2)
    assert time.monotonic() - began < 1.5
    assert beats.pop(leader).process.wait(5) == 0
    assert_no_hole(history.await_more(3))
    (other,) = beats.values()
    assert other.stop() == 0
    assert history.leader() is None


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_beat_goes_on_after_a_restart_of_redis(
    ours: AppFolder, history: History, own_server: Server, how: str
):
    beat = ours.beat()
    history.await_count(2)
    getattr(own_server, how)()
    beat.await_line("No connection to")
    own_server.start()
    rows = history.await_more(4)
    # With the one that was due while Redis was away, late.
    assert_no_hole(rows[-4:])
    assert "Traceback" not in beat.output
    assert beat.stop() == 0


def test_a_beat_waits_for_redis_at_its_start(
    ours: AppFolder, history: History, own_server: Server
):
    own_server.stop()
    beat = ours.beat(ready=False)
    beat.await_line("No connection to")
    assert "time zone" in beat.output
    own_server.start()
    beat.await_line("NEXT")
    history.await_count(1)
    assert beat.output.count("No connection to") == 1
    assert beat.stop() == 0


def test_a_beat_without_redis_can_be_stopped(ours: AppFolder, own_server: Server):
    own_server.stop()
    beat = ours.beat(ready=False)
    beat.await_line("No connection to")
    assert beat.stop(timeout=5) == 0


def test_entries_come_back_after_everything_is_gone(
    ours: AppFolder, history: History, own_server: Server
):
    beat = ours.beat()
    history.await_count(2)
    with own_server.client() as client:
        client.flushall()
        client.script_flush()
    assert_no_hole(history.await_count(3))
    beat.await_line("gone from Redis")
    assert beat.stop() == 0


def test_an_unchanged_entry_keeps_its_next_time_over_a_restart(
    ours: AppFolder, own_server: Server
):
    declare(ours, rare={**EACH, "schedule": 3600}, changed={**EACH, "schedule": 3600})

    def due() -> dict[bytes, float]:
        with own_server.client() as client:
            raw: t.Any = client
            found = raw.zrange("rq:scheduler:scheduled_jobs", 0, -1, withscores=True)
            return {id.split(b"-")[1]: score for id, score in found}

    assert ours.beat().stop() == 0
    before = due()
    declare(ours, rare={**EACH, "schedule": 3600}, changed={**EACH, "schedule": 1800})
    assert ours.beat().stop() == 0
    after = due()
    assert after[b"rare"] == before[b"rare"]
    assert after[b"changed"] < before[b"changed"]


HANGING = """
import os, time
from flask import Flask
from flask_taskqueue import Task, TaskQueue

app = Flask("hanging")
app.config.from_prefixed_env()
tq = TaskQueue(app)

class Hanging(Task):
    def apply_async(self, *args, **options):
        while os.path.exists("hang"):
            open("hangs", "w").close()
            time.sleep(0.01)
        return super().apply_async(*args, **options)

@tq.task(base=Hanging)
def hang(): ...

tq.add_periodic_task(0.2, hang.s(), name="hangs")
"""


@pytest.fixture
def hanging(tmp_path: Path, redis_url: str) -> t.Iterator[AppFolder]:
    """A folder whose beat hangs in user code as soon as there is a file ``hang``."""
    folder = AppFolder(tmp_path, redis_url, "hanging", source=HANGING)
    yield folder
    folder.close()


def test_a_second_interrupt_ends_a_beat_that_hangs(hanging: AppFolder):
    beat = hanging.beat()
    (hanging.folder / "hang").touch()
    eventually((hanging.folder / "hangs").exists)
    beat.signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        beat.process.wait(0.5)
    beat.signal(signal.SIGINT)
    assert beat.process.wait(5) == 1
    assert "Traceback" not in beat.output


def test_a_beat_that_is_stopped_finishes_what_it_does(hanging: AppFolder):
    beat = hanging.beat()
    (hanging.folder / "hang").touch()
    eventually((hanging.folder / "hangs").exists)
    fired = beat.output.count("Sending due task")
    beat.signal(signal.SIGTERM)
    (hanging.folder / "hang").unlink()
    assert beat.process.wait(5) == 0
    assert beat.output.count("Sending due task") > fired


WRONG = {
    "text": {"task": "jobs.add", "schedule": 1, "args": "Erics"},
    "task": {"task": "jobs.ad", "schedule": 1, "args": [1, 2]},
    "zone": {"task": "jobs.add", "schedule": 1, "args": [1, 2], "tz": "Europe/Pari"},
}


@pytest.mark.parametrize("command", ["beat", "beat check", "worker -B"])
def test_wrong_entries_are_refused_without_redis(jobs: AppFolder, command: str):
    jobs.env["FLASK_TASKQUEUE_URL"] = f"redis://127.0.0.1:{free_port()}/0"
    declare(jobs, right=EACH, **WRONG)
    done = jobs.flask(*command.split())
    assert done.returncode == 1
    shown = (done.stdout if "check" in command else done.stderr).splitlines()
    for name in WRONG:
        (line,) = [line for line in shown if f"{name!r}" in line]
    assert "('Erics'" in done.stdout + done.stderr
    assert "'jobs.add'" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "- broker" not in done.stdout


def test_entries_are_checked_without_redis(jobs: AppFolder):
    jobs.env["FLASK_TASKQUEUE_URL"] = f"redis://127.0.0.1:{free_port()}/0"
    declare(jobs, each=EACH, off={**EACH, "enabled": False})
    done = jobs.flask("beat", "check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("2 entries, no problems.\n")
    assert re.search(r"each +jobs\.add +every 0\.5 s +20\d\d-.*\+00:00", done.stdout)
    assert re.search(r"off +jobs\.add +every 0\.5 s +-\n", done.stdout)
    document = json.loads(jobs.flask("beat", "check", "--json").stdout)
    assert document["problems"] == []
    assert [row["name"] for row in document["entries"]] == ["each", "off"]
    assert document["entries"][1]["next"] is None
    declare(jobs, each=EACH, **WRONG)
    done = jobs.flask("beat", "check", "--json")
    assert done.returncode == 1
    assert len(json.loads(done.stdout)["problems"]) == len(WRONG)


def test_an_option_can_be_an_environment_variable(ours: AppFolder, history: History):
    beat = ours.beat(FLASK_BEAT_LOGLEVEL="Warning")
    history.await_count(1)
    assert beat.stop() == 0
    assert "INFO" not in beat.output


def test_two_workers_with_a_beat_fire_each_due_time_once(
    ours: AppFolder, history: History
):
    workers = [ours.worker("-c", "1", "-B") for _ in range(2)]
    rows = history.await_more(6)
    assert_no_hole(rows)
    eventually(lambda: history.fired()[0].state == "SUCCESS")
    leader = next(worker for worker in workers if name_of(worker) == history.leader())
    assert leader.stop() == 0
    assert_no_hole(history.await_more(3))
    workers.remove(leader)
    assert workers[0].stop() == 0
    assert history.leader() is None
    for worker in (leader, *workers):
        assert "Traceback" not in worker.output


def beat_of(worker: Worker) -> int:
    """Pid of the beat of a worker with one child for jobs: the younger one."""
    eventually(lambda: len(worker.children) == 2)
    return max(worker.children)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_beat_of_a_worker_that_died_is_replaced(
    ours: AppFolder, history: History, number: int
):
    worker = ours.worker("-c", "1", "-B")
    history.await_count(2)
    pids = set(worker.children)
    os.kill(beat_of(worker), number)
    name = signal.Signals(number).name
    worker.await_line(
        f"The beat of the worker died (killed by signal {number:d} ({name}))"
    )
    assert_no_hole(history.await_more(4))
    assert len(pids & set(worker.children)) == 1
    assert worker.stop() == 0


def test_a_beat_of_a_worker_ends_with_it(ours: AppFolder, history: History):
    worker = ours.worker("-c", "1", "-B")
    pid = beat_of(worker)
    history.await_count(1)
    worker.signal(signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{pid}").exists() or is_zombie(pid))


def is_zombie(pid: int) -> bool:
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        )
    except OSError:
        return True


def test_a_hanging_beat_does_not_hold_up_the_stop_of_its_worker(
    ours: AppFolder, history: History
):
    worker = ours.worker("-c", "1", "-B")
    os.kill(beat_of(worker), signal.SIGSTOP)
    began = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - began < 4
    assert "did not stop" in worker.output


def test_a_terminals_interrupt_stops_a_worker_with_its_beat_in_order(
    ours: AppFolder, history: History
):
    worker = ours.worker("-c", "1", "-B")
    history.await_count(1)
    worker.signal(signal.SIGINT, group=True)
    assert worker.process.wait(10) == 0
    assert "Traceback" not in worker.output
    assert history.leader() is None


def test_the_solo_pool_has_its_beat_in_a_thread(ours: AppFolder, history: History):
    worker = ours.worker("-P", "solo", "-B")
    assert_no_hole(history.await_count(4))
    assert worker.children == []
    began = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - began < 4
    assert history.leader() is None


def test_a_worker_without_a_beat_fires_nothing(ours: AppFolder, history: History):
    worker = ours.worker("-c", "1")
    assert len(worker.children) == 1
    assert history.leader() is None
    assert worker.stop() == 0


def test_burst_with_a_beat_is_wrong_usage(jobs: AppFolder):
    done = jobs.flask("worker", "-B", "--burst")
    assert done.returncode == 2
    assert "-B" in done.stderr


def test_a_stray_rqscheduler_is_told_and_fires_nothing(
    ours: AppFolder, history: History, own_server: Server
):
    code = "from rq_scheduler.scripts.rqscheduler import main; main()"
    options = ["--port", str(own_server.port), "--interval", "0.2"]
    stray = subprocess.Popen([sys.executable, "-c", code, *options])
    try:
        with own_server.client() as client:
            raw: t.Any = client
            # Its lock is there for milliseconds only.
            eventually(lambda: raw.keys("rq:scheduler_instance:*"))
            beat = ours.beat()
            beat.await_line("'flask beat import'")
            rows = history.await_count(6)
            assert_no_hole(rows)
            waiting = raw.lrange("rq:queue:default", 0, -1)
            assert len(waiting) == len(set(waiting))
            assert {row.job_id for row in rows} <= {job.decode() for job in waiting}
            assert raw.get("rq:scheduler_lock") == b"flask-taskqueue"
        assert stray.poll() is None
        assert beat.stop() == 0
    finally:
        stray.kill()
        stray.wait()
