"""Arbitrary bytes in arbitrary fields: a worker ends each such job, or sets it aside,
and goes on with the next."""

from __future__ import annotations

import contextlib
import json
import typing as t
from collections.abc import Iterator

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from rq import Queue, Repeat, Retry
from rq.serializers import JSONSerializer

from flask_taskqueue import AsyncResult
from flask_taskqueue.errors import TaskQueueError

from ..hostile import FIELDS, values
from ..processes import AppFolder
from ..running import InProcess, claim, run
from .examples import TIMEOUT, examples
from .looking import Look, one_place

MOST = 20
"""Executions after which a job may wait for the next: it wants to repeat so often."""

ID = "0a0a0a0a-0a0a-4a0a-8a0a-0a0a0a0a0a0{}"

READS = (
    "state", "result", "info", "progress", "traceback", "name", "args", "kwargs",
    "queue", "worker", "retries", "date_done", "runtime", "children", "parent",
    "errors",
)  # fmt: skip

MORE = (
    "repeat_intervals", "stopped_callback_name", "stopped_callback_timeout",
    "tq_revoked", "tq_parked", "tq_forgotten", "tq_aftermath",
)  # fmt: skip
"""Fields that are there for a while only."""

Hash = dict[bytes, bytes]
KINDS = ("task", "linked", "plain", "repeating")


class Site(t.NamedTuple):
    """An app in this process that admits ``rqjobs``, and sound jobs of each kind."""

    inside: InProcess
    client: t.Any
    sound: dict[str, Hash]


@pytest.fixture
def site(client: redis.Redis, redis_url: str, tmp_path: t.Any) -> Iterator[Site]:
    folder = AppFolder(tmp_path, None, "rqjobs")
    folder.module()
    inside = InProcess(
        __name__, redis_url, client, TASKQUEUE_ACCEPT_CONTENT="json,msgpack",
        TASKQUEUE_IMPORTABLE="rqjobs.#",
    )  # fmt: skip

    @inside.tq.task(name="add", max_retries=1)
    def add(x: int, y: int) -> int:
        return x + y

    with inside.app.app_context():
        add.apply_async((1, 2), task_id="task")
        linked = {"link": add.s(3), "link_error": add.si(1, 1)}
        add.apply_async((1, 2), task_id="linked", headers={"a": 1}, **linked)
        queue = Queue(connection=client, serializer=JSONSerializer)
        queue.enqueue("rqjobs.double", 1, job_id="plain", retry=Retry(max=1))
        queue.enqueue("rqjobs.double", 1, job_id="repeating", repeat=Repeat(times=1))
        sound = {kind: client.hgetall(f"rq:job:{kind}") for kind in KINDS}
        yield Site(inside, client, t.cast("dict[str, Hash]", sound))
    folder.close()


def inside_json(value: object) -> bytes:
    return json.dumps(value).encode()


BITS = st.one_of(
    st.binary(max_size=30),
    st.sampled_from(sorted(values().values())),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["retry", "time_limit", "headers", "error", "id", "max_retries"]
                ),
                inner,
                max_size=3,
            )
        ),
        max_leaves=6,
    ).map(inside_json),
)

JOBS = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.dictionaries(st.sampled_from(FIELDS + MORE), BITS, min_size=1, max_size=4),
    ),
    min_size=1,
    max_size=3,
)


@pytest.mark.timeout(TIMEOUT)
@examples(300)
@given(jobs=JOBS)
def test_each_ends_or_is_set_aside(
    site: Site, jobs: list[tuple[str, dict[str, bytes]]]
):
    site.client.flushdb()
    ids = [ID.format(number) for number in range(len(jobs))]
    for job_id, (kind, changed) in zip(ids, jobs, strict=True):
        fields = {name.encode(): value for name, value in changed.items()}
        site.client.hset(f"rq:job:{job_id}", mapping=site.sound[kind] | fields)
        site.client.rpush("rq:queue:default", job_id)
    site.client.hset("rq:job:good", mapping=site.sound["task"])
    site.client.rpush("rq:queue:default", "good")
    state = site.inside.tq.state
    for _ in range(MOST):
        if (claimed := claim(site.client)) is not None:
            run(state, site.client, claimed)
    look = Look(site.client)
    assert look.field("good", "status") == "finished"
    assert not look.members("rq:wip:default")
    for job_id, (_, changed) in zip(ids, jobs, strict=True):
        look_at(site, job_id)
        place, _ = one_place(look, job_id)
        assert place != "queue" or "repeats_left" in changed


def look_at(site: Site, job_id: str) -> None:
    """Everything there is to ask, by Python and by HTTP: nothing but our errors."""
    result: AsyncResult[object] = AsyncResult(job_id)
    for name in READS:
        with contextlib.suppress(TaskQueueError):
            getattr(result, name)
    with contextlib.suppress(TaskQueueError):
        result.get(timeout=0, propagate=False)
    answer = site.inside.app.test_client().get(f"/tasks/{job_id}")
    assert answer.status_code in (200, 404)
    assert answer.is_json
