"""``TASKQUEUE_SIGN`` from a call to its result: good jobs run, altered ones do not."""

from __future__ import annotations

import base64
import builtins
import json
import pickle
import typing as t
from collections.abc import Callable, Iterator

import pytest
import redis
from rq import Queue
from rq.serializers import JSONSerializer

from flask_taskqueue import AsyncResult, Task
from flask_taskqueue.errors import BadSignature, ConfigError, TaskFailed

from .running import InProcess

KEY = "first secret"


class Trap:
    """Unpickling one runs code."""

    def __reduce__(self) -> tuple[t.Any, ...]:
        return exec, ("import builtins; builtins.trapped = True",)


class Site(InProcess):
    """An app that signs, and a worker's own code to run what is enqueued."""

    def __init__(self, redis_url: str, client: redis.Redis, **config: object) -> None:
        signed = {"TASKQUEUE_SIGN": True, "SECRET_KEY": KEY, **config}
        super().__init__(__name__, redis_url, client, **signed)
        self.ran: list[object] = []
        self.add = self._task("add", lambda x, y: x + y)
        self.fail = self._task("fail", self._fail)
        self.seen = self._task("seen", lambda value: self.ran.append(value))
        self.progress = self.tq.task(name="progress", bind=True)(self._progress)
        self.again = self.tq.task(name="again", bind=True)(self._again)

    def _task(self, name: str, function: Callable[..., t.Any]) -> t.Any:
        return self.tq.task(name=name)(function)

    @staticmethod
    def _fail(message: str) -> t.NoReturn:
        raise ValueError(message)

    @staticmethod
    def _progress(self: Task[[], str]) -> str:
        self.update_state(state="HALF", meta={"done": 1})
        return "done"

    @staticmethod
    def _again(self: Task[[int], int], number: int) -> int:
        if self.request.retries == 0:
            self.retry(args=(number + 1,), countdown=0, time_limit=7)
        return number

    def field(self, job_id: str, name: str) -> bytes:
        found = self.client.hget(f"rq:job:{job_id}", name)
        assert found is not None, name
        return t.cast(bytes, found)

    def alter(self, job_id: str, **fields: bytes | str) -> None:
        self.client.hset(f"rq:job:{job_id}", mapping=dict(fields))

    def entry(self, job_id: str) -> dict[bytes, bytes]:
        ((_, fields),) = t.cast(t.Any, self.client.xrange(f"rq:results:{job_id}"))
        return t.cast("dict[bytes, bytes]", fields)

    def replace_entry(self, job_id: str, **fields: bytes) -> None:
        changed = {**self.entry(job_id), **{k.encode(): v for k, v in fields.items()}}
        self.client.delete(f"rq:results:{job_id}")
        self.client.xadd(f"rq:results:{job_id}", t.cast(t.Any, changed))


@pytest.fixture(params=["json", "pickle", "msgpack"])
def site(
    request: pytest.FixtureRequest, redis_url: str, client: redis.Redis
) -> Iterator[Site]:
    site = Site(redis_url, client, TASKQUEUE_SERIALIZER=request.param)
    with site.app.app_context():
        yield site


def refused(site: Site, result: AsyncResult[t.Any]) -> None:
    """It failed for its signature, and ran nothing."""
    site.run_all()
    with pytest.raises(BadSignature):
        result.get(timeout=1)
    assert site.ran == []
    assert site.client.zscore("rq:failed:default", result.id) is not None


def test_a_signed_job_runs(site: Site):
    result = site.add.delay(1, 2)
    site.run_all()
    assert result.get(timeout=1) == 3
    assert result.state == "SUCCESS"
    assert result.args == [1, 2]


def test_what_pickle_alone_carries_comes_back(redis_url: str, client: redis.Redis):
    site = Site(redis_url, client, TASKQUEUE_SERIALIZER="pickle")
    with site.app.app_context():
        result = site.add.delay((1,), (b"\xff", {2}))
        site.run_all()
        assert result.get(timeout=1) == (1, b"\xff", {2})


def test_an_unsigned_job_is_refused(site: Site):
    result = site.seen.delay(1)
    site.client.hdel(f"rq:job:{result.id}", "tq_sig")
    refused(site, result)


CHANGES: dict[str, Callable[[Site, str], None]] = {
    "data": lambda site, i: site.alter(
        i, data=site.field(site.seen.delay(2).id, "data")
    ),
    "task": lambda site, i: site.alter(i, tq_task="fail"),
    "content": lambda site, i: site.alter(i, tq_content="application/json"),
    "options": lambda site, i: site.alter(i, tq_options='{"time_limit": 1}'),
    "headers": lambda site, i: site.alter(i, tq_headers='{"owner": "me"}'),
    "carried": lambda site, i: site.alter(i, tq_carried='{"headers": {}}'),
    "links": lambda site, i: site.alter(i, tq_links="[]"),
    "errlinks": lambda site, i: site.alter(i, tq_errlinks="[]"),
    "cause": lambda site, i: site.alter(i, tq_cause="{}"),
    "parent": lambda site, i: site.alter(i, tq_parent="x"),
    "signature": lambda site, i: site.alter(i, tq_sig=b"\xff"),
    "signature-of-another": lambda site, i: site.alter(
        i, tq_sig=site.field(site.seen.delay(1).id, "tq_sig")
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_an_altered_job_is_refused(site: Site, change: Callable[[Site, str], None]):
    result = site.seen.delay(1)
    site.client.ltrim("rq:queue:default", 1, 0)  # what change() enqueues is no test
    change(site, result.id)
    site.client.delete("rq:queue:default")
    site.client.rpush("rq:queue:default", result.id)
    refused(site, result)


def test_a_job_copied_to_another_id_is_refused(site: Site):
    original = site.seen.delay(1)
    site.client.copy(f"rq:job:{original.id}", "rq:job:copy")
    site.client.delete("rq:queue:default")
    site.client.rpush("rq:queue:default", "copy")
    refused(site, AsyncResult("copy"))


def test_a_job_of_a_plain_producer_is_refused(site: Site):
    queue = Queue(connection=site.client, serializer=JSONSerializer)
    job = queue.enqueue("seen", 1)
    refused(site, AsyncResult(job.id))


def test_a_pickle_is_not_decoded_before_its_signature_is_checked(
    redis_url: str, client: redis.Redis
):
    site = Site(redis_url, client, TASKQUEUE_SERIALIZER="pickle")
    with site.app.app_context():
        result = site.seen.delay(1)
        site.alter(result.id, data=pickle.dumps(["seen", None, [Trap()], {}]))
        with pytest.raises(BadSignature):
            _ = result.args
        refused(site, result)
    assert not hasattr(builtins, "trapped")


def test_links_run_and_are_signed_anew(site: Site):
    result = site.add.apply_async((1, 2), link=site.add.s(3))
    site.run_all()
    (child,) = result.children
    assert child.get(timeout=1) == 6
    assert site.field(child.id, "tq_sig")


def test_links_of_an_altered_job_are_not_followed(site: Site):
    """Else whoever can write to Redis would get a signature for a job of theirs."""
    result = site.seen.apply_async((1,), link_error=site.seen.si(2))
    rows = json.loads(site.field(result.id, "tq_errlinks"))
    rows[0]["id"] = "forged"
    site.alter(result.id, tq_errlinks=json.dumps(rows))
    refused(site, result)
    assert not AsyncResult("forged").exists()
    unsigned = site.seen.apply_async((1,), link_error=site.seen.si(2))
    site.client.hdel(f"rq:job:{unsigned.id}", "tq_sig")
    refused(site, unsigned)
    assert unsigned.children == []


def test_links_of_a_failed_job_are_followed(site: Site):
    result = site.fail.apply_async(("no",), link_error=site.seen.si(2))
    site.run_all()
    with pytest.raises(ValueError, match="no"):
        result.get(timeout=1)
    assert site.ran == [2]


def test_an_altered_result_is_refused(site: Site):
    result, other = site.add.delay(1, 2), site.add.delay(10, 20)
    site.run_all()
    good = site.entry(result.id)
    changes: list[dict[str, bytes]] = [
        {"return_value": site.entry(other.id)[b"return_value"]},
        {
            "return_value": site.entry(other.id)[b"return_value"],
            "tq_sig": site.entry(other.id)[b"tq_sig"],
        },
        {"return_value": base64.b64encode(pickle.dumps(Trap()))},
        {"tq_sig": b""},
        {"tq_sig": b"\xff"},
    ]
    page = site.app.test_client()
    for change in changes:
        site.replace_entry(result.id, **change)
        with pytest.raises(BadSignature):
            result.get(timeout=1)
        body = page.get(f"/tasks/{result.id}").get_json()
        assert body["result"] is None
        assert body["result_type"] in ("BadSignature", "pickle")
    site.replace_entry(result.id, **{k.decode(): v for k, v in good.items()})
    assert result.get(timeout=1) == 3
    assert not hasattr(builtins, "trapped")


def test_altered_progress_is_refused(site: Site):
    result = site.progress.delay()
    site.run_all()
    site.alter(result.id, status="started")
    assert (result.state, result.info) == ("HALF", {"done": 1})
    for change in ({"tq_info": '{"done": 9}'}, {"tq_state": "DONE"}):
        before = {name: site.field(result.id, name) for name in change}
        site.alter(result.id, **change)
        with pytest.raises(BadSignature):
            _ = result.progress
        body = site.app.test_client().get(f"/tasks/{result.id}").get_json()
        assert body["progress"] is None
        site.alter(result.id, **before)
    assert result.progress == {"done": 1}


def test_a_retry_with_other_arguments_is_signed_anew(site: Site):
    result = site.again.delay(1)
    site.run_all()
    assert result.get(timeout=1) == 2
    assert json.loads(site.field(result.id, "tq_options"))["time_limit"] == 7


def test_an_error_is_never_unpickled(redis_url: str, client: redis.Redis):
    """Errors bear no signature: they are of no use to run code."""
    site = Site(redis_url, client, TASKQUEUE_SERIALIZER="pickle")
    with site.app.app_context():
        result = site.fail.delay("no")
        site.run_all()
        stored = json.loads(site.field(result.id, "tq_error"))
        args = base64.b64encode(pickle.dumps([Trap()])).decode()
        stored |= {"args": args, "args_type": "pickle"}
        site.alter(result.id, tq_error=json.dumps(stored))
        assert isinstance(result.result, TaskFailed)
        page = site.app.test_client().get(f"/tasks/{result.id}")
        assert page.get_json()["error"] == {"type": "ValueError", "message": "no"}
    assert not hasattr(builtins, "trapped")


def both(
    redis_url: str, client: redis.Redis, **config: object
) -> tuple[AsyncResult[t.Any], Site]:
    """A job signed with :data:`KEY`, and an app with another configuration."""
    before = Site(redis_url, client)
    with before.app.app_context():
        result = before.add.delay(1, 2)
    return result, Site(redis_url, client, **config)


@pytest.mark.parametrize(
    "fallbacks",
    [
        pytest.param([KEY], id="list"),
        pytest.param(["older", KEY], id="several"),
        pytest.param(KEY, id="text"),
        pytest.param((KEY.encode(),), id="bytes"),
    ],
)
def test_a_key_of_before_still_verifies(redis_url, client, fallbacks):
    result, after = both(
        redis_url, client, SECRET_KEY="new", SECRET_KEY_FALLBACKS=fallbacks
    )
    with after.app.app_context():
        after.run_all()
        assert after.add.AsyncResult(result.id).get(timeout=1) == 3


def test_a_key_that_was_dropped_verifies_no_more(redis_url, client):
    result, after = both(redis_url, client, SECRET_KEY="new")
    with after.app.app_context():
        after.run_all()
        with pytest.raises(BadSignature):
            after.add.AsyncResult(result.id).get(timeout=1)


def test_a_fallback_given_as_text_is_one_key(redis_url, client):
    """Not one for each of its characters: anybody could sign with those."""
    site = Site(redis_url, client, SECRET_KEY="a", SECRET_KEY_FALLBACKS=None)
    with site.app.app_context():
        result = site.add.delay(1, 2)
    after = Site(redis_url, client, SECRET_KEY="new", SECRET_KEY_FALLBACKS="abc")
    with after.app.app_context():
        after.run_all()
        with pytest.raises(BadSignature):
            after.add.AsyncResult(result.id).get(timeout=1)


@pytest.mark.parametrize("key", [None, ""], ids=["none", "empty"])
def test_without_a_key_the_first_use_is_an_error(redis_url, client, key):
    site = Site(redis_url, client, SECRET_KEY=key)  # init_app itself needs none
    with site.app.app_context():
        with pytest.raises(ConfigError, match="SECRET_KEY"):
            site.add.delay(1, 2)
    assert client.keys() == []


def test_pickle_needs_signing(redis_url, client):
    with pytest.raises(ConfigError, match="TASKQUEUE_SIGN"):
        Site(redis_url, client, TASKQUEUE_SIGN=False, TASKQUEUE_SERIALIZER="pickle")
    site = Site(
        redis_url,
        client,
        TASKQUEUE_SIGN=False,
        TASKQUEUE_ACCEPT_CONTENT=["json", "pickle"],
    )
    with site.app.app_context():
        with pytest.raises(ValueError, match="TASKQUEUE_SIGN"):
            site.add.apply_async((1, 2), serializer="pickle")
    assert client.keys() == []


def test_signed_and_unsigned_apps_do_not_mix(redis_url, client):
    """An unsigned app runs signed jobs, a signing app refuses unsigned ones."""
    result, after = both(redis_url, client, TASKQUEUE_SIGN=False)
    with after.app.app_context():
        after.run_all()
        assert after.add.AsyncResult(result.id).get(timeout=1) == 3
        unsigned = after.add.delay(1, 2)
    signing = Site(redis_url, client)
    with signing.app.app_context():
        signing.run_all()
        with pytest.raises(BadSignature):
            signing.add.AsyncResult(unsigned.id).get(timeout=1)
