"""Which queue a call goes to, which worker takes it, and in what form it travels."""

from __future__ import annotations

import json
import pickle
import typing as t
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import msgpack
import pytest
import redis

from flask_taskqueue import AsyncResult
from flask_taskqueue.errors import ContentDisallowed

from ..processes import AppFolder, Worker
from ..servers import Server, eventually

SERVED = "feed_task,foo,large,mail,own,elsewhere,celery"


class Site(t.NamedTuple):
    folder: AppFolder
    worker: Worker
    client: redis.Redis
    url: str


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Site]:
    with Server(tmp_path_factory.mktemp("server")) as server:
        folder = AppFolder(
            tmp_path_factory.mktemp("app"),
            server.url,
            "routes",
            FLASK_TASKQUEUE_ACCEPT_CONTENT="json,msgpack",
        )
        with server.client() as client:
            worker = folder.worker("-c", "1", "-Q", SERVED)
            yield Site(folder, worker, client, server.url)
        folder.close()


@pytest.fixture
def module(site: Site) -> t.Iterator[t.Any]:
    """The app's module, its context pushed."""
    module = site.folder.module()
    app = module.create_app(
        TASKQUEUE_URL=site.url, TASKQUEUE_ACCEPT_CONTENT=["json", "msgpack"]
    )
    with app.app_context():
        yield module
        module.tq.state.broker.close()


Call = t.Callable[[t.Any], AsyncResult[t.Any]]


@pytest.mark.parametrize(
    ("call", "queue"),
    [
        pytest.param(lambda m: m.add.delay(), "celery", id="default"),
        pytest.param(lambda m: m.mul.delay(), "feed_task", id="route-by-name"),
        pytest.param(lambda m: m.keyed.delay(), "foo", id="route-by-key"),
        pytest.param(lambda m: m.sized.delay(500), "large", id="route-function"),
        pytest.param(lambda m: m.sized.delay(5), "mail", id="route-glob-after"),
        pytest.param(lambda m: m.named.delay(), "foo", id="task-name-as-key"),
        pytest.param(lambda m: m.with_queue.delay(), "own", id="task-queue"),
        pytest.param(lambda m: m.with_key.delay(), "feed_task", id="task-key"),
        pytest.param(
            lambda m: m.add.apply_async(routing_key="task.a.b"), "foo", id="hash"
        ),
        pytest.param(
            lambda m: m.add.apply_async(routing_key="task"), "foo", id="hash-none"
        ),
        pytest.param(
            lambda m: m.add.apply_async(routing_key="a.feed"), "feed_task", id="star"
        ),
        pytest.param(
            lambda m: m.add.apply_async(routing_key="a.b.feed"), "celery", id="star-two"
        ),
        pytest.param(
            lambda m: m.add.apply_async(routing_key="unheard.of"),
            "celery",
            id="key-fits-nothing",
        ),
        pytest.param(
            lambda m: m.add.apply_async(queue="feed_task", routing_key="task.x"),
            "feed_task",
            id="call-queue-over-call-key",
        ),
        pytest.param(
            lambda m: m.mul.apply_async((2, 2), queue="elsewhere"),
            "elsewhere",
            id="call-over-route",
        ),
        pytest.param(
            lambda m: m.mul.apply_async((2, 2), routing_key="task.x"),
            "foo",
            id="call-key-over-route",
        ),
        pytest.param(
            lambda m: m.with_queue.apply_async(queue="mail"),
            "mail",
            id="call-over-task",
        ),
        pytest.param(
            lambda m: m.with_queue.apply_async(routing_key="task.x"),
            "foo",
            id="call-key-over-task-queue",
        ),
        pytest.param(
            lambda m: m.tq.send_task("routes.mul", (1,)), "feed_task", id="by-name"
        ),
        pytest.param(lambda m: m.mul.s(1).delay(), "feed_task", id="signature"),
        pytest.param(
            lambda m: m.mul.s(1).set(queue="large").delay(),
            "large",
            id="signature-option",
        ),
        pytest.param(
            lambda m: m.mul.apply_async((1,), countdown=0.1),
            "feed_task",
            id="scheduled",
        ),
    ],
)
def test_a_call_goes_to_its_queue_and_runs(module, call: Call, queue: str):
    result = call(module)
    assert result.get(timeout=10) == queue
    assert result.queue == queue


def test_the_banner_lists_the_queues(site: Site):
    assert f"queues:      {', '.join(SERVED.split(','))}" in site.worker.output


def test_a_worker_serves_only_its_queues_in_their_order(
    site: Site, module, tmp_path: Path
):
    ledger, gate = tmp_path / "ledger", tmp_path / "gate"
    gate.touch()
    other = module.note.apply_async((str(ledger), "unserved"), queue="unserved")
    first = module.note.apply_async((str(ledger), "first", str(gate)), queue="celery")
    eventually(lambda: first.state == "STARTED")
    jobs = [
        module.note.apply_async((str(ledger), f"{queue} {number}"), queue=queue)
        for number in (1, 2)
        for queue in ("celery", "mail", "foo", "feed_task")
    ]
    gate.unlink()
    for job in jobs:
        job.get(timeout=10)
    assert ledger.read_text().splitlines() == [
        "first", "feed_task 1", "feed_task 2", "foo 1", "foo 2", "mail 1", "mail 2",
        "celery 1", "celery 2",
    ]  # fmt: skip
    assert other.state == "PENDING"


def test_priority_goes_to_the_front(site: Site, module, tmp_path: Path):
    ledger, gate = tmp_path / "ledger", tmp_path / "gate"
    gate.touch()
    first = module.note.delay(str(ledger), "first", str(gate))
    eventually(lambda: first.state == "STARTED")
    late = module.note.delay(str(ledger), "late")
    module.note.apply_async((str(ledger), "urgent"), priority=5)
    gate.unlink()
    late.get(timeout=10)
    assert ledger.read_text().splitlines() == ["first", "urgent", "late"]


VALUES = {
    "text": "šÄ😀",
    "bytes": b"\xff\x00",
    "numbers": [1, -(2**63), 2**80, 1.5, None, True],
    "datetime": datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=UTC),
    "date": date(2026, 1, 2),
    "decimal": Decimal("1.10"),
    "uuid": UUID("12345678123456781234567812345678"),
    "nested": {"a": [{"b": [b"x"]}]},
}


@pytest.mark.parametrize("serializer", ["json", "msgpack"])
def test_arguments_and_results_travel_in_the_serializer_asked_for(
    site: Site, module, serializer: str
):
    result = module.echo.apply_async((VALUES,), {"x": VALUES}, serializer=serializer)
    assert result.get(timeout=10) == [[VALUES], {"x": VALUES}]
    assert result.args == [VALUES]
    fields = t.cast("dict[bytes, bytes]", site.client.hgetall(f"rq:job:{result.id}"))
    assert fields[b"tq_content"] == serializer.encode()


def test_the_serializer_of_a_task(site: Site, module):
    result = module.packed.delay([1, b"\xff"])
    assert result.get(timeout=10) == [1, b"\xff"]
    data = site.client.hget(f"rq:job:{result.id}", "data")
    assert msgpack.unpackb(t.cast(bytes, data)) == [
        "routes.packed", None, [[1, b"\xff"]], {},
    ]  # fmt: skip
    other = module.packed.apply_async(([1],), serializer="json")
    assert other.get(timeout=10) == [1]
    data = t.cast(bytes, site.client.hget(f"rq:job:{other.id}", "data"))
    assert json.loads(data) == ["routes.packed", None, [[1]], {}]


def test_a_serializer_that_is_not_accepted_is_refused_in_the_caller(site: Site, module):
    with pytest.raises(ValueError, match="TASKQUEUE_ACCEPT_CONTENT"):
        module.echo.apply_async((1,), serializer="pickle")


class Trap:
    """Unpickling one makes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[t.Any, ...]:
        return open, (self.path, "w")


def test_what_is_not_accepted_is_not_decoded(site: Site, module, tmp_path: Path):
    trap = tmp_path / "trap"
    result = module.echo.apply_async((1,), queue="nowhere")
    data = pickle.dumps(("routes.echo", None, (Trap(str(trap)),), {}))
    site.client.hset(
        f"rq:job:{result.id}", mapping={"data": data, "tq_content": "pickle"}
    )
    site.client.rpush("rq:queue:celery", result.id)
    with pytest.raises(ContentDisallowed, match="TASKQUEUE_ACCEPT_CONTENT"):
        result.get(timeout=10)
    assert not trap.exists()
    with pytest.raises(ContentDisallowed):
        _ = result.args
    assert not trap.exists()
