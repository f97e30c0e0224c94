"""A worker meets what it cannot use: it says so, keeps it, and goes on."""

from __future__ import annotations

import contextlib
import json
import typing as t
import zlib
from pathlib import Path

import pytest
import redis
from flask import Flask
from rq import Queue
from rq.serializers import JSONSerializer

from flask_taskqueue import AsyncResult
from flask_taskqueue.errors import DecodeError, PayloadTooLarge, TaskQueueError

from ..hostile import FIELDS, values
from ..processes import AppFolder, Worker
from ..servers import Server, eventually


class Site(t.NamedTuple):
    """A running worker with one child, and an app beside it."""

    folder: AppFolder
    worker: Worker
    client: redis.Redis
    module: t.Any
    trap: Path
    app: Flask

    def good_job_runs(self) -> None:
        """The child goes on, and it is the same one."""
        assert self.module.add.delay(1, 2).get(timeout=10) == 3


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Site]:
    with Server(tmp_path_factory.mktemp("server")) as server:
        folder = AppFolder(
            tmp_path_factory.mktemp("app"),
            server.url,
            "rqjobs",
            FLASK_TASKQUEUE_IMPORTABLE="rqjobs.#",
            FLASK_TASKQUEUE_ACCEPT_CONTENT="json,msgpack",
        )
        module = folder.module()
        trap = folder.folder / "trapped"
        app = module.create_app(TASKQUEUE_URL=server.url)
        with server.client() as client:
            worker = folder.worker("-c", "1", "-Q", "broken,default")
            yield Site(folder, worker, client, module, trap, app)
        folder.close()


@pytest.fixture(autouse=True)
def child_survives(site: Site) -> t.Iterator[None]:
    """No test may cost the worker its child."""
    before = site.worker.children
    with site.app.app_context():
        yield
        site.good_job_runs()
        site.module.tq.state.broker.close()
    assert site.worker.children == before, site.worker.output[-5000:]
    assert not site.trap.exists()


def template(site: Site, kind: str) -> dict[bytes, bytes]:
    """The hash of a sound job, as its producer writes it."""
    if kind == "task":
        result = site.module.add.apply_async((1, 2), queue="nowhere", max_retries=0)
        key = f"rq:job:{result.id}"
    else:
        queue = Queue("nowhere", connection=site.client, serializer=JSONSerializer)
        key = queue.enqueue("rqjobs.double", 1).key
    found = t.cast("dict[bytes, bytes]", site.client.hgetall(key))
    assert found
    return found


def push(site: Site, job_id: str | bytes, fields: t.Mapping[t.Any, t.Any]) -> None:
    raw = job_id.encode() if isinstance(job_id, str) else job_id
    site.client.hset(b"rq:job:" + raw, mapping=dict(fields))
    site.client.rpush("rq:queue:default", raw)


def status(site: Site, job_id: str) -> str:
    found = t.cast("bytes | None", site.client.hget(f"rq:job:{job_id}", "status"))
    return (found or b"").decode("utf-8", "replace")


def settled(site: Site, job_id: str) -> str:
    eventually(lambda: status(site, job_id) in ENDED, message=f"{job_id} is dealt with")
    return status(site, job_id)


ENDED = ("finished", "failed", "canceled", "deferred")
"""What may become of a job here; a deferred one is parked."""

FIELD_READS = (
    "state", "result", "info", "progress", "traceback", "name", "args", "kwargs",
    "queue", "worker", "retries", "date_done", "runtime", "children", "parent",
    "errors",
)  # fmt: skip


def look_at(site: Site, job_id: str) -> None:
    """Everything there is to ask, by Python and by HTTP."""
    result: AsyncResult[object] = AsyncResult(job_id)
    for name in FIELD_READS:
        with contextlib.suppress(TaskQueueError):
            getattr(result, name)
    for method in (result.ready, result.successful, result.failed, result.exists):
        with contextlib.suppress(TaskQueueError):
            method()


@pytest.mark.parametrize("kind", ["task", "plain"])
def test_bytes_of_every_kind_in_every_field(site: Site, kind: str):
    sound = template(site, kind)
    jobs = []
    every = values(str(site.trap))
    for field in FIELDS:
        for name, value in every.items():
            job_id = f"{kind}-{field}-{name}"
            jobs.append(job_id)
            push(site, job_id, {**sound, field.encode(): value})
    site.good_job_runs()
    assert site.client.llen("rq:queue:default") == 0
    left = {x: found for x in jobs if (found := status(site, x)) not in ENDED}
    assert left == {}
    for job_id in jobs:
        if status(site, job_id) == "failed":
            score = site.client.zscore("rq:failed:default", job_id)
            assert score is not None, job_id
            assert site.client.hget(f"rq:job:{job_id}", "tq_error"), job_id
    assert "cannot be stored" not in site.worker.output
    assert "was lost by its worker" not in site.worker.output
    assert "died" not in site.worker.output


SOUND_CALL = b'["rqjobs.add", null, [1, 2], {}]'


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        pytest.param("data", b"", "got b'' first|DecodeError", id="no-data"),
        pytest.param("data", b"[1]", "a call to be a list of 4", id="no-call"),
        pytest.param("data", b"[" * 100_000, "RecursionError", id="deep"),
        pytest.param("data", zlib.compress(b"0" * 2**21), "at most 1048576", id="bomb"),
        pytest.param("data", b"x" * 2**21, "at most 1048576", id="too-large"),
        pytest.param(
            "tq_content", b"pickle", "TASKQUEUE_ACCEPT_CONTENT", id="not-accepted"
        ),
        pytest.param("tq_content", b"\xff", "'tq_content' is not UTF-8", id="bytes"),
        pytest.param("tq_options", b"[]", "'tq_options' is not a JSON", id="list"),
        pytest.param(
            "tq_options", b'{"time_limit": 1e300}', "time_limit", id="endless-limit"
        ),
        pytest.param("tq_retries", b"x", "'tq_retries' is not a number", id="text"),
        pytest.param("tq_headers", b"[]", "headers are not", id="headers"),
        pytest.param(
            "tq_carried", b'{"headers": {"a": 1}}', "carried headers", id="carried"
        ),
        pytest.param("tq_cause", b'{"error": []}', "cause has no error", id="cause"),
        pytest.param("status", b"\xff", "unknown status", id="status"),
        pytest.param("status", b"", "unknown status", id="empty-status"),
    ],
)
def test_the_reason_is_kept(site: Site, field: str, value: bytes, reason: str):
    job_id = f"reason-{zlib.crc32(field.encode() + value)}"
    push(site, job_id, {**template(site, "task"), field.encode(): value})
    assert settled(site, job_id) == "failed"
    result: AsyncResult[object] = AsyncResult(job_id)
    assert result.state == "FAILURE"
    error = result.result
    assert isinstance(error, TaskQueueError)
    assert any(part in str(error) for part in reason.split("|")), error
    assert site.client.zscore("rq:failed:default", job_id)


def test_a_job_without_status_is_kept(site: Site):
    site.client.hset("rq:job:bare", "data", SOUND_CALL)
    site.client.rpush("rq:queue:default", "bare")
    assert settled(site, "bare") == "failed"
    with pytest.raises(DecodeError, match="no status"):
        AsyncResult("bare").get(timeout=1)


@pytest.mark.parametrize(
    "job_id",
    [
        pytest.param(b"../../etc/passwd", id="dots"),
        pytest.param(b"a b", id="space"),
        pytest.param(b"a:b:c", id="colons"),
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xfe", id="no-utf-8"),
        pytest.param(b"a\0b", id="zero-byte"),
        pytest.param(b"a\r\n*1\r\n$4\r\nPING\r\n", id="line-breaks"),
        pytest.param("\u202eгод".encode(), id="not-ascii"),
        pytest.param(b"%s%n{0}", id="format"),
        pytest.param(b"x" * 5000, id="long"),
    ],
)
def test_an_id_of_any_form_ends_or_is_kept(site: Site, job_id: bytes):
    push(site, job_id, template(site, "task"))
    site.good_job_runs()
    found = site.client.hget(b"rq:job:" + job_id, "status")
    assert found in (b"finished", b"failed"), found
    name = found.decode()
    assert site.client.zscore(f"rq:{name}:default", job_id) is not None
    assert site.client.zcard("rq:wip:default") == 0
    text = job_id.decode("utf-8", "surrogateescape")
    if text.isprintable():
        look_at(site, text)


KEYS: dict[str, t.Callable[[redis.Redis, str], object]] = {
    "string": lambda client, key: client.set(key, "x"),
    "list": lambda client, key: client.rpush(key, "x"),
    "set": lambda client, key: client.sadd(key, "x"),
    "zset": lambda client, key: client.zadd(key, {"x": 1}),
    "stream": lambda client, key: client.xadd(key, {"x": "x"}),
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_wrong_type_under_a_jobs_key_is_kept(site: Site, kind: str):
    job_id = f"wrong-{kind}"
    KEYS[kind](site.client, f"rq:job:{job_id}")
    site.client.rpush("rq:queue:default", job_id)
    site.good_job_runs()
    assert site.client.zscore("rq:failed:default", job_id)
    assert site.client.type(f"rq:job:{job_id}") == kind.encode()
    eventually(lambda: f"Job {job_id} of queue default quarantined" in (
        site.worker.output
    ))  # fmt: skip
    assert "the job is not stored as a hash" in site.worker.output
    assert AsyncResult(job_id).state == "UNKNOWN"
    look_at(site, job_id)
    for change in (AsyncResult(job_id).forget, AsyncResult(job_id).revoke):
        with pytest.raises(TaskQueueError, match="not? .*job|no job"):
            change()
    with pytest.raises(TaskQueueError, match="not a job"):
        site.module.add.apply_async((1, 2), task_id=job_id)


@pytest.mark.parametrize("kind", [kind for kind in KEYS if kind != "stream"])
def test_a_wrong_type_under_a_jobs_results_is_replaced(site: Site, kind: str):
    job_id = f"results-{kind}"
    KEYS[kind](site.client, f"rq:results:{job_id}")
    push(site, job_id, template(site, "task"))
    assert settled(site, job_id) == "finished"
    assert site.client.zscore("rq:finished:default", job_id)
    look_at(site, job_id)
    assert AsyncResult(job_id).get(timeout=1) == 3


@pytest.mark.parametrize("kind", [kind for kind in KEYS if kind != "list"])
def test_a_wrong_type_under_a_queue_leaves_the_other_queues(site: Site, kind: str):
    KEYS[kind](site.client, "rq:queue:broken")
    site.good_job_runs()
    with pytest.raises(TaskQueueError, match="nothing was enqueued"):
        site.module.add.apply_async((1, 2), queue="broken")
    site.client.delete("rq:queue:broken")
    assert site.module.add.apply_async((1, 2), queue="broken").get(timeout=10) == 3


def test_ids_without_a_job_are_dropped(site: Site):
    site.client.rpush("rq:queue:default", *[f"gone-{n}" for n in range(500)])
    site.good_job_runs()
    assert site.client.llen("rq:queue:default") == 0
    assert not site.client.zscore("rq:failed:default", "gone-1")


def test_a_hash_that_is_replaced_while_it_runs_costs_nobody_else(
    site: Site, tmp_path: Path
):
    gate = tmp_path / "gate"
    gate.touch()
    result = site.module.held.delay(str(gate))
    eventually(lambda: result.state == "STARTED")
    site.client.set(f"rq:job:{result.id}", "x")
    gate.unlink()
    site.good_job_runs()
    assert site.client.zcard("rq:wip:default") == 0
    assert result.state == "UNKNOWN"


def test_large_arguments_are_refused_in_the_caller(site: Site):
    with pytest.raises(PayloadTooLarge, match="TASKQUEUE_MAX_ARGS_BYTES"):
        site.module.echo.delay("x" * 2**20)
    assert site.module.echo.delay("x" * 1000).get(timeout=10) == "x" * 1000


def test_large_results_fail_the_job(site: Site):
    result = site.module.large.delay(17 * 2**20)
    with pytest.raises(PayloadTooLarge, match="TASKQUEUE_MAX_RESULT_BYTES"):
        result.get(timeout=20)


@pytest.mark.parametrize(
    "message",
    [b"", b"x", b"[]", b"{}", b'{"command": 1}', b'{"command": "stop-job"}', b"\xff"],
    ids=lambda value: value.decode("latin1") or "empty",
)
def test_commands_that_make_no_sense_are_ignored(site: Site, message: bytes):
    names = t.cast("set[bytes]", site.client.smembers("rq:workers"))
    for name in names:
        channel = name.replace(b"rq:worker:", b"rq:pubsub:")
        assert site.client.publish(channel, message) == 1
    site.client.publish("tq:wake", message)
    site.good_job_runs()


def test_the_json_of_links_is_checked_field_by_field(site: Site):
    """A link that cannot be enqueued changes nothing about the job's own end."""
    result = site.module.add.apply_async(
        (1, 2), link=site.module.add.s(3), queue="nowhere"
    )
    fields = t.cast("dict[bytes, bytes]", site.client.hgetall(f"rq:job:{result.id}"))
    (row,) = json.loads(fields[b"tq_links"])
    for number, change in enumerate(
        [
            {"id": "../x"}, {"id": 1}, {"queue": "a:b"}, {"queue": ""}, {"due": "soon"},
            {"due": None}, {"expires": "+x"}, {"fields": None}, {"call": "\ud800"},
            {"fields": {**row["fields"], "x": [1]}}, {"fields": {}},
            {"fields": {**row["fields"], "x": "\ud800"}},
            {"fields": {**row["fields"], "tq_content": "pickle"}},
            {"call": "e30="}, {"call": None},
        ]
    ):  # fmt: skip
        job_id = f"link-{number}"
        links = json.dumps([{**row, "id": f"linked-{number}", **change}])
        push(site, job_id, {**fields, b"tq_links": links})
        assert settled(site, job_id) == "finished", change
        assert site.client.exists(f"rq:job:linked-{number}") == 0, change
    push(site, "link-sound", {**fields, b"tq_links": json.dumps([row])})
    assert AsyncResult(row["id"]).state in ("UNKNOWN", "PENDING", "STARTED", "SUCCESS")
    eventually(lambda: AsyncResult(row["id"]).state == "SUCCESS")
