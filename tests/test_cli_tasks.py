"""``flask tasks``: what it prints, and with which exit code it ends."""

from __future__ import annotations

import json
import subprocess
import sys
import typing as t
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import redis
from click.testing import Result
from flask import Flask
from rq import Queue

from flask_taskqueue import Task, TaskQueue

from .commands import runner
from .running import InProcess, claim
from .servers import Server, free_port

Client = t.Any

JOB_KEYS = {
    "id", "task", "state", "place", "held", "ready", "successful", "result", "error",
    "progress", "queue", "retries", "max_retries", "recoveries", "eta", "enqueued_at",
    "started_at", "ended_at", "runtime", "children", "worker", "parent", "traceback",
}  # fmt: skip


class Site(InProcess):
    """An app with tasks, and its command line."""

    def __init__(self, url: str, client: redis.Redis, **config: object) -> None:
        super().__init__(__name__, url, client, **config)
        task = self.tq.task
        self.add = task(name="pkg.add")(_add)
        self.fail = task(name="pkg.fail", max_retries=0, throws=(ValueError,))(_fail)
        self.login = task(name="pkg.login", bind=True, queue="mail")(_login)

    def flask(self, *args: str, **options: t.Any) -> Result:
        """Run ``flask tasks``."""
        return runner(self.app).invoke(args=["tasks", *args], **options)

    def json(self, *args: str, code: int = 0) -> t.Any:
        """The document a command prints."""
        done = self.flask(*args, "--json")
        assert done.exit_code == code, done.stderr
        return json.loads(done.stdout)


def _add(x: int, y: int = 0) -> int:
    return x + y


def _fail(message: str) -> t.NoReturn:
    raise ValueError(message)


def _login(self: Task[..., t.Any], user: str, password: str, *more: str) -> str:
    return user


@pytest.fixture
def site(redis_url: str, client: redis.Redis) -> Iterator[Site]:
    site = Site(redis_url, client)
    with site.app.app_context():
        yield site


def lines(done: Result) -> list[str]:
    assert done.exit_code == 0, done.stderr
    return done.stdout.splitlines()


def test_list_shows_a_table(site: Site):
    result = site.add.delay(1)
    failed = site.fail.delay("no")
    head, *rows = lines(site.flask("list"))
    heads = ["ID", "STATE", "PLACE", "QUEUE", "TASK", "TIME", "(UTC)", "MORE"]
    assert head.split() == heads
    assert [row.split()[:5] for row in rows] == [
        [result.id, "PENDING", "waiting", "default", "pkg.add"],
        [failed.id, "PENDING", "waiting", "default", "pkg.fail"],
    ]
    site.run_all()
    for choice in (
        ["--state", "FAILURE"],
        ["--state", "failure"],
        ["--place", "failed"],
    ):
        (row,) = lines(site.flask("list", *choice))[1:]
        assert row.endswith("ValueError: no")


def test_list_says_why_a_job_does_not_run(site: Site):
    site.tq.send_task("later")
    site.run_all()
    site.flask("pause", "default")
    site.add.delay(1)
    waiting, parked = lines(site.flask("list"))[1:]
    assert waiting.endswith("its queue is paused")
    assert parked.endswith("no worker knows this task")


def test_a_place_given_as_a_state_is_told(site: Site):
    done = site.flask("list", "--state", "failed")
    assert done.exit_code == 2
    assert "--place failed" in done.stderr
    assert lines(site.flask("list", "--state", "revoked"))


def test_list_says_where_to_go_on(site: Site):
    site.add.delay_many([(n,) for n in range(3)])
    done = site.flask("list", "--limit", "2")
    assert len(lines(done)) == 3
    assert "--offset 2" in done.stderr
    assert site.json("list", "--offset", "2")["next"] is None
    assert len(site.json("list", "--offset", "2")["jobs"]) == 1


def test_list_as_json(site: Site):
    site.fail.delay("no")
    site.run_all()
    document = site.json("list")
    assert set(document) == {"jobs", "next"}
    (job,) = document["jobs"]
    assert set(job) == {
        "id", "task", "queue", "state", "place", "held", "retries", "worker",
        "enqueued_at", "eta", "started_at", "ended_at", "error",
    }  # fmt: skip
    assert job["error"] == {"type": "ValueError", "message": "no"}
    assert job["ended_at"].endswith("+00:00")


def test_show_has_the_fields_of_the_endpoint(site: Site):
    result = site.add.delay(1, 2)
    site.run_all()
    body = site.json("show", result.id)
    assert set(body) == JOB_KEYS
    assert (body["state"], body["result"]) == ("SUCCESS", 3)
    assert body["worker"]
    shown = dict(line.split(":", 1) for line in lines(site.flask("show", result.id)))
    assert shown["result"].strip() == "3"
    assert shown["place"].strip() == "finished"
    assert "error" not in shown
    assert "held" not in shown


def test_show_says_that_a_job_returned_none(site: Site):
    result = site.tq.task(name="nothing")(lambda: None).delay()
    assert "result:" not in site.flask("show", result.id).stdout
    site.run_all()
    assert "result:       null" in lines(site.flask("show", result.id))


def test_show_says_why_a_job_does_not_run(site: Site):
    waiting, parked = site.add.delay(1), site.tq.send_task("later")
    body = site.json("show", waiting.id)
    held = "no worker serves its queue"
    assert (body["place"], body["held"]) == ("waiting", held)
    site.run_all()
    body = site.json("show", parked.id)
    held = "no worker knows this task"
    assert (body["place"], body["held"]) == ("deferred", held)
    assert f"held:         {held}" in lines(site.flask("show", parked.id))


def test_show_ends_with_the_traceback(site: Site):
    result = site.tq.task(name="raw", max_retries=0)(_fail).delay("no")
    site.run_all()
    shown = lines(site.flask("show", result.id))
    assert "Traceback (most recent call last):" in shown
    assert shown[-1] == "ValueError: no"


def test_arguments_are_shown_when_asked_for_and_without_secrets(site: Site):
    result = site.login.delay("ann", "hunter2", "x")
    other = site.login.apply_async(("ann",), {"password": "hunter2"})
    assert "ann" not in site.flask("show", result.id).stdout
    body = site.json("show", result.id, "--args")
    assert set(body) == JOB_KEYS | {"args", "kwargs"}
    assert (body["args"], body["kwargs"]) == ("['ann', '***', 'x']", "{}")
    shown = site.flask("show", other.id, "--args").stdout
    assert "{'password': '***'}" in shown
    assert "hunter2" not in shown


def test_of_a_job_whose_arguments_cannot_be_read_the_rest_is_shown(
    site: Site, client: redis.Redis
):
    pickled = Queue("default", connection=client).enqueue("pkg.add", 1)
    corrupt = site.add.delay(1)
    client.hset(f"rq:job:{corrupt.id}", "data", b"?")
    for job_id, reason in (
        (pickled.id, "ContentDisallowed"),
        (corrupt.id, "DecodeError"),
    ):
        shown = lines(site.flask("show", job_id, "--args"))
        assert f"args:         <{reason}>" in shown
        assert f"kwargs:       <{reason}>" in shown
        assert "state:        PENDING" in shown
        assert site.json("show", job_id, "--args")["args"] == f"<{reason}>"


def test_arguments_are_not_shown_where_secrets_cannot_be_told(
    redis_url: str, client: redis.Redis
):
    site = Site(redis_url, client, TASKQUEUE_IMPORTS=["no_such_module"])
    with site.app.app_context():
        known = site.login.delay("ann", "hunter2")
        other = site.tq.send_task("other.login", ["hunter2"], {"user": "ann"})
    body = site.json("show", other.id, "--args")
    assert body["args"] == "<ClickException>"
    assert body["kwargs"] == "{'user': 'ann'}"
    assert site.json("show", known.id, "--args")["args"] == "['ann', '***']"


def test_a_stored_escape_sequence_does_not_reach_the_terminal(
    site: Site, client: Client
):
    evil = "\x1b]0;owned\x07\u202e"
    result = site.fail.delay(evil)
    site.run_all()
    job = f"rq:job:{result.id}"
    client.hset(job, "worker_name", evil)
    client.hset(job, "tq_task", evil)
    client.hset("rq:job:" + evil, mapping={"status": "queued", "origin": "default"})
    client.rpush("rq:queue:default", evil)
    for args in (["list"], ["show", result.id], ["show", evil], ["wait", result.id]):
        done = site.flask(*args)
        seen = done.stdout + done.stderr
        assert "\\x1b]0;owned\\x07\\u202e" in seen
        assert not set("\x1b\x07\u202e") & set(seen)


@pytest.mark.parametrize(
    "args",
    [
        ["show", "nobody"],
        ["wait", "nobody"],
        ["revoke", "nobody"],
        ["requeue", "nobody"],
        ["show", "no bytes \udcff"],
        ["wait", "new\nline"],
    ],
    ids=" ".join,
)
def test_an_unknown_job_is_one_line_and_exit_code_1(site: Site, args: list[str]):
    done = site.flask(*args)
    assert done.exit_code == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: there is no job")


@pytest.mark.parametrize(
    "args",
    [
        ["list", "--place", "lost"],
        ["list", "--state", "waiting"],
        ["list", "--limit", "0"],
        ["list", "--queue", "a b"],
        ["wait", "x", "--timeout", "nan"],
        ["wait", "x", "--timeout", "-1"],
        ["call", "pkg.add", "--args", "[1]", "--timeout", "1"],
        ["call", "pkg.add", "--args", "[1]", "--countdown", "nan"],
        ["requeue"],
        ["requeue", "x", "--failed"],
        ["requeue", "x", "--queue", "q"],
        ["pause", "a,b"],
        ["call", "pkg.add"],
        ["call", "pkg.add", "--args", "[1"],
        ["call", "pkg.add", "--args", "{}"],
        ["call", "pkg.add", "--kwargs", "[]"],
        ["call", "pkg.add", "--args", "[1]", "--eta", "tomorrow"],
        ["call", "pkg.add", "--args", "[1]", "--task-id", "a b"],
        [
            *("call", "pkg.add", "--args", "[1]", "--countdown", "1"),
            *("--eta", "2030-01-01"),
        ],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(site: Site, args: list[str], client: Client):
    done = site.flask(*args)
    assert done.exit_code == 2, done.output
    assert not client.keys("rq:*")


def test_wait_prints_the_result(site: Site):
    result = site.add.delay(1, 2)
    text = site.tq.task(name="text")(lambda: "one\ntwo \x1b[1m").delay()
    site.run_all()
    assert lines(site.flask("wait", result.id)) == ["3"]
    assert lines(site.flask("wait", text.id)) == ["one", "two \\x1b[1m"]
    assert site.json("wait", result.id)["result"] == 3


def test_wait_for_a_failed_job_is_exit_code_1(site: Site):
    result = site.fail.delay("no")
    site.run_all()
    done = site.flask("wait", result.id)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "FAILURE ValueError: no\n"
    assert site.json("wait", result.id, code=1)["error"]["message"] == "no"


def test_wait_for_a_revoked_job_is_exit_code_1(site: Site):
    result = site.add.delay(1)
    result.revoke()
    done = site.flask("wait", result.id)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("REVOKED")


def test_wait_ends_when_the_time_is_up(site: Site):
    result = site.add.delay(1)
    done = site.flask("wait", result.id, "--timeout", "0.1")
    text = "PENDING after 0.1 s: no worker serves its queue\n"
    assert (done.exit_code, done.stderr) == (1, text)
    assert site.json("wait", result.id, "--timeout", "0", code=1)["state"] == "PENDING"


def test_call_enqueues_and_prints_the_id(site: Site, client: Client):
    (job_id,) = lines(site.flask("call", "pkg.add", "--args", "[1, 2]"))
    result = site.tq.AsyncResult(job_id)
    site.run_all()
    assert result.get() == 3
    document = site.json(
        *("call", "pkg.add", "--kwargs", '{"x": 5}', "--queue", "slow"),
        *("--task-id", "mine", "--countdown", "1000"),
    )
    assert document == {
        "id": "mine",
        "task": "pkg.add",
        "queue": "slow",
        "created": True,
    }
    assert client.zscore("rq:scheduled:slow", "mine")


def test_an_eta_without_an_offset_is_utc(site: Site):
    for eta in ("2040-01-01T12:00", "2040-01-01T14:00+02:00"):
        document = site.json("call", "pkg.add", "--args", "[1]", "--eta", eta)
        shown = site.json("show", document["id"])
        assert shown["eta"] == "2040-01-01T12:00:00.000+00:00"


def test_a_call_with_the_id_of_a_waiting_job_says_so(site: Site):
    args = ("call", "pkg.add", "--args", "[1]", "--task-id", "mine")
    assert site.json(*args)["created"]
    done = site.flask(*args)
    assert (done.exit_code, done.stdout) == (0, "mine\n")
    assert "nothing was enqueued" in done.stderr


def test_a_call_says_what_does_not_fit_the_signature(site: Site):
    done = site.flask("call", "pkg.add")
    assert "missing a required argument: 'x'" in done.stderr


def test_a_task_that_is_not_known_here_is_not_called_by_accident(
    site: Site, client: Client
):
    done = site.flask("call", "pkg.ad", "--args", "[1]")
    assert done.exit_code == 1
    assert "pkg.add?" in done.stderr or "pkg.add or" in done.stderr
    assert not client.keys("rq:*")
    (job_id,) = lines(site.flask("call", "pkg.ad", "--unregistered"))
    assert site.json("show", job_id)["task"] == "pkg.ad"


def test_a_call_by_the_function_s_name_is_told_the_task_s(site: Site):
    site.tq.task(name="shop.mail.add")(_add)
    done = site.flask("call", "add", "--args", "[1]")
    assert "Did you mean pkg.add or shop.mail.add?" in done.stderr


def test_a_call_that_waits_tells_its_id_first(site: Site):
    args = ("call", "pkg.add", "--args", "[1]", "--wait", "--timeout", "0")
    done = site.flask(*args)
    assert (done.exit_code, done.stdout) == (1, "")
    job_id, end = done.stderr.splitlines()
    assert site.json("show", job_id)["task"] == "pkg.add"
    assert end.startswith("PENDING after 0 s")
    assert site.json(*args, code=1)["task"] == "pkg.add"


def test_a_call_in_eager_mode_runs_here(redis_url: str, client: redis.Redis):
    site = Site(redis_url, client, TASKQUEUE_EAGER=True)
    args = ("call", "pkg.add", "--args", "[1, 2]", "--wait")
    assert lines(site.flask(*args)) == ["3"]


def test_what_a_task_raises_in_eager_mode_is_one_line(
    redis_url: str, client: redis.Redis
):
    site = Site(redis_url, client, TASKQUEUE_EAGER=True)
    done = site.flask("call", "pkg.fail", "--args", '["no\\n"]')
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "Error: ValueError: no\\n\n"


def test_a_missing_module_with_tasks_is_one_line(redis_url: str, client: redis.Redis):
    site = Site(redis_url, client, TASKQUEUE_IMPORTS=["flask", "flask.no.such"])
    for done in (
        site.flask("registered"),
        site.flask("call", "pkg.add", "--args", "[1]"),
        runner(site.app).invoke(args=["worker", "--burst"]),
    ):
        assert (done.exit_code, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert "TASKQUEUE_IMPORTS" in line
        assert "'flask.no.such'" in line


def test_an_import_that_fails_inside_a_module_keeps_its_traceback(
    redis_url: str, client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "needs_more.py").write_text("import no_such_module_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    site = Site(redis_url, client, TASKQUEUE_IMPORTS=["needs_more"])
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        site.flask("registered", catch_exceptions=False)


def test_revoke(site: Site, client: Client):
    result, running = site.add.delay(1), site.add.delay(2)
    assert lines(site.flask("revoke", result.id)) == [f"{result.id} is revoked."]
    done = site.flask("revoke", result.id)
    assert (done.exit_code, done.stdout) == (1, "")
    assert claim(client) is not None
    document = site.json("revoke", running.id, "--terminate")
    assert document == {"id": running.id, "was": "running", "terminate": True}


def test_requeue(site: Site):
    result = site.fail.delay("no")
    done = site.flask("requeue", result.id)
    assert done.exit_code == 1
    assert "has not" in done.stderr
    site.run_all()
    assert lines(site.flask("requeue", result.id)) == [f"{result.id} waits again."]
    site.run_all()
    assert site.json("requeue", result.id) == {"id": result.id, "requeued": 1}


def test_requeue_all_that_failed(site: Site):
    site.fail.delay_many([("no",), ("no",)])
    site.run_all()
    assert site.json("requeue", "--failed", "--queue", "mail") == {"requeued": 0}
    assert lines(site.flask("requeue", "--failed")) == ["Jobs that wait again: 2"]


def test_queues(site: Site):
    site.add.delay(1)
    assert lines(site.flask("pause", "mail")) == ["mail is paused."]
    done = site.flask("pause", "mail")
    assert (lines(done), done.stderr) == (["mail was paused already."], "")
    head, default, mail = (row.split() for row in lines(site.flask("queues")))
    assert dict(zip(head, default, strict=True))["WAITING"] == "1"
    assert dict(zip(head, mail, strict=True))["PAUSED"] == "yes"
    document = site.json("queues")
    assert set(document) == {"queues", "suspended"}
    assert set(document["queues"][0]) == {
        "name", "running", "waiting", "scheduled", "deferred", "failed", "finished",
        "revoked", "paused", "workers",
    }  # fmt: skip
    assert lines(site.flask("resume", "mail")) == ["mail is resumed."]
    assert site.json("resume", "mail") == {
        "queue": "mail",
        "paused": False,
        "changed": False,
    }


@pytest.mark.parametrize(
    "args",
    [
        ["pause", "mial"],
        ["resume", "mial"],
        ["purge", "mial", "--yes"],
        ["list", "--queue", "mial"],
        ["requeue", "--failed", "--queue", "mial"],
    ],
    ids=" ".join,
)
def test_a_queue_nobody_has_heard_of_is_told(site: Site, args: list[str]):
    done = site.flask(*args)
    assert done.exit_code == 0
    assert done.stderr == "No queue named mial is known.\n"


def test_purge_takes_what_it_is_told(site: Site):
    site.add.apply_async((1,), countdown=1000)
    site.tq.send_task("later")
    site.run_all()
    assert site.json("purge", "default", "--yes")["revoked"] == 0
    assert site.json("purge", "default", "--yes", "--scheduled")["revoked"] == 1
    assert site.json("purge", "default", "--yes", "--deferred")["revoked"] == 1


def test_suspended_queues_are_told(site: Site, client: Client):
    client.set("rq:suspended", "1")
    assert "suspended" in site.flask("queues").stderr
    assert site.json("queues")["suspended"] is True


def test_purge_asks_first(site: Site):
    result = site.add.delay(1)
    done = site.flask("purge", "default", input="n\n")
    assert done.exit_code == 1
    assert result.state == "PENDING"
    done = site.flask("purge", "default", input="y\n")
    assert lines(done)[-1] == "Jobs of default revoked: 1"
    assert result.state == "REVOKED"
    assert site.json("purge", "default", "--yes") == {"queue": "default", "revoked": 0}


def test_registered(site: Site):
    found = {row["name"]: row["options"] for row in site.json("registered")["tasks"]}
    assert found["pkg.add"] == {}
    assert found["pkg.fail"] == {"max_retries": 0, "throws": ["ValueError"]}
    rows = [row.split() for row in lines(site.flask("registered"))]
    assert ["pkg.login", "queue=mail"] in rows


@pytest.mark.parametrize(
    "args",
    [["list"], ["show", "x"], ["wait", "x"], ["revoke", "x"], ["requeue", "x"],
     ["requeue", "--failed"], ["call", "pkg.add", "--args", "[1]"], ["queues"],
     ["pause", "q"], ["resume", "q"], ["purge", "q", "--yes"]],
    ids=" ".join,
)  # fmt: skip
def test_redis_away_is_one_line_and_exit_code_69(client: Client, args: list[str]):
    site = Site(f"redis://:secret@127.0.0.1:{free_port()}", client)
    done = site.flask(*args)
    assert done.exit_code == 69, done.output
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: cannot reach redis://:***@127.0.0.1")


def test_a_server_that_answers_is_not_called_unreachable(site: Site, client: Client):
    args = ("call", "pkg.add", "--args", "[1]")
    assert site.flask(*args).exit_code == 0  # A full server takes no scripts.
    client.config_set("maxmemory", 1)
    try:
        done = site.flask(*args)
    finally:
        client.config_set("maxmemory", 0)
    assert done.exit_code == 69
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: Redis refused: unix://")
    assert "maxmemory" in line


def test_a_wrong_password_is_a_refusal(tmp_path: Path):
    with Server(tmp_path, tcp=True, config=["requirepass right"]) as server:
        url = f"redis://:wrong@127.0.0.1:{server.port}/0"
        with redis.Redis.from_url(url) as client:
            done = Site(url, client).flask("queues")
    assert done.exit_code == 69
    assert done.stderr.startswith("Error: Redis refused: redis://:***@")


def test_a_config_error_is_one_line_and_exit_code_1(redis_url: str, client: Client):
    site = Site(redis_url, client, TASKQUEUE_SIGN=True)
    done = site.flask("call", "pkg.add", "--args", "[1]")
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert "SECRET_KEY" in line


def test_a_refusal_of_redis_is_one_line_and_exit_code_1(site: Site, client: Client):
    client.set("rq:queue:default", "text")
    done = site.flask("purge", "default", "--yes")
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert "WRONGTYPE" in line


def test_every_command_takes_json():
    app = Flask(__name__)
    TaskQueue(app, url="redis://localhost")
    found = app.test_cli_runner().invoke(args=["tasks", "--help"]).output
    from flask_taskqueue.cli.tasks import group

    assert all(name in found for name in group.commands)
    for command in group.commands.values():
        options = {o for p in command.params for o in p.opts}
        assert "--json" in options, command.name


def test_a_group_of_that_name_is_left_to_the_app(caplog: pytest.LogCaptureFixture):
    app = Flask(__name__)
    own = click.Group("tasks")
    app.cli.add_command(own)
    TaskQueue(app, url="redis://localhost")
    assert app.cli.commands["tasks"] is own
    assert "flask tasks" in caplog.text


def test_help_and_a_listing_load_no_worker(redis_url: str):
    code = (
        "import sys; from flask import Flask; from flask_taskqueue import TaskQueue\n"
        f"app = Flask('app'); TaskQueue(app, url={redis_url!r})\n"
        "for args in (['--help'], ['list'], ['queues', '--json']):\n"
        "    done = app.test_cli_runner().invoke(args=['tasks', *args])\n"
        "    assert done.exit_code == 0, done.output\n"
        "print(*sys.modules)\n"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "flask_taskqueue.cli.jobs" in loaded
    assert [n for n in loaded if n.startswith("flask_taskqueue.worker")] == []
