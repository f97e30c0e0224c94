"""Whoever asks for a job that nobody can read gets a clear answer."""

from __future__ import annotations

import contextlib
import json
import pickle
import typing as t
from base64 import b64encode
from pathlib import Path
from uuid import uuid4

import pytest
import redis
from flask import Flask, url_for
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_taskqueue import AsyncResult, Task, TaskQueue
from flask_taskqueue.appstate import AppState
from flask_taskqueue.broker.wire import Lease
from flask_taskqueue.errors import DecodeError, TaskQueueError
from flask_taskqueue.job import StoredJob
from flask_taskqueue.worker.endings import Failed, Parked, Retried, Succeeded
from flask_taskqueue.worker.execution import Executor
from flask_taskqueue.worker.joblines import log_line
from flask_taskqueue.worker.limits import NoTimer
from flask_taskqueue.worker.outcome import end_of

from .hostile import FIELDS, Trap, values

ID = "0a0a0a0a-0a0a-4a0a-8a0a-0a0a0a0a0a0a"
READS = (
    "state", "result", "info", "progress", "traceback", "name", "args", "kwargs",
    "queue", "worker", "retries", "date_done", "runtime", "children", "parent",
    "errors",
)  # fmt: skip


class Site(t.NamedTuple):
    tq: TaskQueue
    app: Flask
    client: redis.Redis
    task: Task[t.Any, t.Any]
    state: AppState


@pytest.fixture
def site(client: redis.Redis, redis_url: str) -> t.Iterator[Site]:
    tq = TaskQueue()
    app = Flask(__name__)
    app.config.update(
        TASKQUEUE_URL=redis_url, TASKQUEUE_ACCEPT_CONTENT=["json", "msgpack", "pickle"]
    )
    tq.init_app(app)

    @tq.task(name="rqjobs.add", max_retries=1)
    def add(x: int, y: int) -> int:
        return x + y

    with app.app_context():
        yield Site(tq, app, client, add, tq.state)
        tq.state.broker.close()


def stored(site: Site) -> dict[bytes, bytes]:
    """Fields of a sound job."""
    result = site.task.apply_async((1, 2), task_id=str(uuid4()))
    key = f"rq:job:{result.id}"
    fields = t.cast("dict[bytes, bytes]", site.client.hgetall(key))
    site.client.flushdb()
    return fields


def look(site: Site, job_id: str = ID) -> int:
    """Ask for everything; the status of the answer by HTTP."""
    result: AsyncResult[object] = AsyncResult(job_id)
    asked: list[t.Callable[[], object]] = [
        *(lambda name=name: getattr(result, name) for name in READS),
        result.ready, result.successful, result.failed, result.exists,
        lambda: result.exists() and result.ready() and result.get(propagate=False),
    ]  # fmt: skip
    for ask in asked:
        with contextlib.suppress(TaskQueueError):
            ask()
    answer = site.app.test_client().get(f"/tasks/{job_id}")
    assert answer.is_json
    return answer.status_code


STATUSES = ("queued", "started", "finished", "failed", "canceled")


def test_bytes_of_every_kind_in_every_field(site: Site, tmp_path: Path):
    """Nothing but our errors, never 500, and nothing is unpickled to show it."""
    # Arguments and results may be unpickled in Python where pickle is accepted.
    trap = tmp_path / "trap"
    sound = stored(site)
    plain, guarded = values(), values(str(trap))
    codes = set()
    for number, field in enumerate(FIELDS):
        kinds = plain if field in ("data", "meta") else guarded
        for turn, (name, value) in enumerate(kinds.items()):
            status = STATUSES[(number + turn) % len(STATUSES)].encode()
            fields = {**sound, b"status": status, field.encode(): value}
            site.state.keep_eager(ID, fields)
            code = look(site)
            assert code in (200, 404), (field, name)
            codes.add(code)
    assert codes == {200, 404}
    assert not trap.exists()


ENTRY = ("type", "return_value", "exc_string", "tq_sig", "execution_ended_at")


@pytest.mark.parametrize("status", ["finished", "failed"])
@pytest.mark.parametrize("encode", [bytes, b64encode], ids=["raw", "base64"])
def test_bytes_of_every_kind_in_a_result(
    site: Site, tmp_path: Path, status: str, encode: t.Callable[[bytes], bytes]
):
    trap = tmp_path / "trap"
    site.client.hset(
        f"rq:job:{ID}",
        mapping={**stored(site), b"status": status},  # type: ignore[dict-item]
    )
    for field in ENTRY:
        for name, value in values(str(trap)).items():
            site.client.delete(f"rq:results:{ID}")
            site.client.xadd(f"rq:results:{ID}", {field: encode(value)})
            assert look(site) == 200, (field, name)
    assert not trap.exists()


@pytest.mark.parametrize("content", ["", "pickle"])
def test_a_page_never_unpickles_a_result(site: Site, tmp_path: Path, content: str):
    trap = tmp_path / "trap"
    fields = {**stored(site), b"status": b"finished", b"tq_content": content}
    site.client.hset(f"rq:job:{ID}", mapping=fields)  # type: ignore[arg-type]
    pickled = pickle.dumps(Trap(str(trap)))
    site.client.xadd(f"rq:results:{ID}", {"return_value": b64encode(pickled)})
    answer = site.app.test_client().get(f"/tasks/{ID}")
    assert answer.get_json()["result"] is None
    assert answer.get_json()["result_type"] == "pickle"
    assert not trap.exists()


WRONG: dict[str, t.Callable[[redis.Redis, str], object]] = {
    "string": lambda client, key: client.set(key, "x"),
    "list": lambda client, key: client.rpush(key, "x"),
    "set": lambda client, key: client.sadd(key, "x"),
    "zset": lambda client, key: client.zadd(key, {"x": 1}),
    "stream": lambda client, key: client.xadd(key, {"x": "x"}),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_type_under_a_jobs_key_is_no_job(site: Site, kind: str):
    WRONG[kind](site.client, f"rq:job:{ID}")
    assert look(site) == 404
    assert AsyncResult(ID).state == "UNKNOWN"
    for change in (AsyncResult(ID).forget, AsyncResult(ID).revoke):
        with pytest.raises(TaskQueueError, match=ID):
            change()
    with pytest.raises(TaskQueueError, match=ID):
        site.task.apply_async((1, 2), task_id=ID)


@pytest.mark.parametrize("kind", [kind for kind in WRONG if kind != "stream"])
def test_a_wrong_type_under_a_jobs_results_is_no_result(site: Site, kind: str):
    site.client.hset(f"rq:job:{ID}", mapping=stored(site))  # type: ignore[arg-type]
    WRONG[kind](site.client, f"rq:results:{ID}")
    assert look(site) == 200
    assert AsyncResult(ID).state == "PENDING"


@pytest.mark.parametrize(
    "job_id",
    ["../../x", "", " ", "a/b", "a:b", "\0", "\r\n", "x" * 100_000, "\u202e", "*"],
    ids=ascii,
)
def test_an_id_of_any_form_is_unknown(site: Site, job_id: str):
    result: AsyncResult[object] = AsyncResult(job_id)
    assert result.state == "UNKNOWN"
    assert not result.exists()
    result.forget()
    result.revoke()
    with pytest.raises(TaskQueueError, match="no job"):
        result.get(timeout=1)
    assert site.client.keys() == []
    with pytest.raises(ValueError, match="task_id"):
        site.task.apply_async((1, 2), task_id=job_id)


SOME = sorted(values().values())


@given(data=st.data())
@settings(
    max_examples=300,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_an_execution_never_raises(site: Site, data: st.DataObject):
    """What the executor says of any bytes can be stored and logged."""
    number = site.client.incr("template")
    if number == 1:
        site.state.keep_eager("template", stored(site))
    fields = dict(site.state.eager_jobs["template"])
    if data.draw(st.booleans(), label="a plain rq job"):
        del fields[b"tq_task"]
    bits = st.one_of(
        st.binary(max_size=40),
        st.sampled_from(SOME),
        st.recursive(
            st.none() | st.floats() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["retry", "time_limit", "headers", "error", "id"]),
                    inner,
                    max_size=3,
                )
            ),
            max_leaves=6,
        ).map(lambda value: json.dumps(value).encode()),
    )
    changed = st.dictionaries(st.sampled_from(FIELDS), bits, min_size=1, max_size=4)
    for name, value in data.draw(changed, label="fields").items():
        fields[name.encode()] = value
    job = StoredJob(ID, fields, "default")
    outcome = Executor(site.state, "worker", NoTimer()).run(job, Silent())
    assert log_line(job, outcome, ("password",), True)
    if isinstance(outcome, Failed | Succeeded):
        ended = end_of(site.state, job, Lease("default", ID, "w.1.1"), outcome)
        sendable(ended.argv())
    elif isinstance(outcome, Retried):
        sendable([outcome.due, outcome.error, *outcome.fields.values()])
    elif isinstance(outcome, Parked):
        sendable([outcome.task])


def test_an_exception_no_text_can_hold_is_stored(site: Site):
    fields = stored(site)
    fields[b"data"] = b'["rqjobs.add", null, [], {"\\ud800": 1}]'
    job = StoredJob(ID, fields, "default")
    outcome = Executor(site.state, "worker", NoTimer()).run(job, Silent())
    assert isinstance(outcome, Failed)
    ended = end_of(site.state, job, Lease("default", ID, "w.1.1"), outcome)
    sendable(ended.argv())


def sendable(arguments: t.Sequence[object]) -> None:
    """Fails where the client would not send one of these."""
    encoder = redis.connection.Encoder("utf-8", "strict", False)  # type: ignore[attr-defined]
    for argument in arguments:
        encoder.encode(argument)


BINDING = {
    "scheme": "https", "server": "example.com", "root": "/p/", "subdomain": "a",
    "method": "POST",
}  # fmt: skip
ODD_TEXTS = (
    "", "\0", "\ud800", "a\r\nX: y", "..", "[", "//@:", "a:b:c", "?#%", "žluť", "<x>",
    "xn--\u4e2d", "x" * 100_000,
)  # fmt: skip
NO_TEXTS: tuple[t.Any, ...] = (None, True, 1, 1e308, [], ["a"], {}, {"a": 1})


def carried(site: Site, row: object, *, within: bool) -> object:
    """What becomes of a job that carries this.

    :param within: It asks for a request context.
    """
    look = site.tq.task(name="look", request_context=within)(
        lambda: url_for("static", filename="a", _external=True)
    )
    fields = {**stored(site), b"tq_task": b"look", b"data": b'["look", null, [], {}]'}
    fields[b"tq_carried"] = json.dumps(row).encode()
    job = StoredJob(ID, fields, "default")
    outcome = Executor(site.state, "worker", NoTimer()).run(job, Silent())
    assert look.name == "look"
    assert isinstance(outcome, Failed | Succeeded)
    ended = end_of(site.state, job, Lease("default", ID, "w.1.1"), outcome)
    sendable(ended.argv())
    return outcome.exception if isinstance(outcome, Failed) else outcome.value


@pytest.mark.parametrize("within", [False, True], ids=["bare", "within"])
def test_what_a_job_carries_is_used_or_refused(site: Site, within: bool):
    good = carried(site, {"url": BINDING}, within=within)
    assert good == "https://example.com/p/static/a"
    rows = [{"url": {**BINDING, part: text}} for part in BINDING for text in ODD_TEXTS]
    rows += [{"headers": {text: "x"}} for text in ODD_TEXTS]
    rows += [{"headers": {"X-A": text}} for text in ODD_TEXTS]
    rows += [{"values": {text: text}, "url": BINDING} for text in ODD_TEXTS]
    rows += [{"values": {"name": value}, "url": BINDING} for value in NO_TEXTS]
    kinds = set()
    for row in rows:
        found = carried(site, row, within=within)
        # Without a binding, and without SERVER_NAME, there is no URL to build.
        no_url = isinstance(found, RuntimeError) and "url" not in row
        assert no_url or isinstance(found, str | DecodeError), row
        kinds.add(type(found))
    assert {str, DecodeError} <= kinds


@pytest.mark.parametrize("within", [False, True], ids=["bare", "within"])
def test_what_a_job_carries_in_a_wrong_form_is_refused(site: Site, within: bool):
    rows: list[object] = [
        {"url": {**BINDING, part: value}}
        for part in BINDING
        for value in NO_TEXTS
        if (part, value) != ("subdomain", None)
    ]
    rows += [
        {"url": {name: text for name, text in BINDING.items() if name != part}}
        for part in ("scheme", "server", "root")
    ]
    rows += [{"url": value} for value in (*NO_TEXTS, "text")]
    rows += [{"headers": value} for value in NO_TEXTS if value != {}]
    rows += [{"values": value} for value in NO_TEXTS if not isinstance(value, dict)]
    rows += [{"headers": {"X-A": value}} for value in NO_TEXTS]
    for row in rows:
        found = carried(site, row, within=within)
        assert isinstance(found, DecodeError), row


class Silent:
    def report(self, state: str, info: bytes) -> None:
        """Says nothing."""
