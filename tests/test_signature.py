"""Calls to be made later: what they keep, and how they are put together."""

from __future__ import annotations

import json
import typing as t

import pytest
import redis
from flask import Flask

from flask_taskqueue import TaskQueue
from flask_taskqueue.errors import TaskNotRegistered
from flask_taskqueue.signature import Signature

tq = TaskQueue()


@tq.task
def add(*numbers: int, scale: int = 1) -> int:
    return sum(numbers) * scale


@tq.task(queue="mul")
def mul(x: int, y: int) -> int:
    return x * y


@pytest.fixture
def eager() -> t.Iterator[Flask]:
    app = Flask(__name__)
    app.config.update(TASKQUEUE_EAGER=True, TASKQUEUE_URL="redis://127.0.0.1:1/0")
    tq.init_app(app)
    with app.app_context():
        yield app


@pytest.fixture
def app(redis_url: str) -> t.Iterator[Flask]:
    app = Flask(__name__)
    app.config.update(TASKQUEUE_URL=redis_url)
    tq.init_app(app)
    with app.app_context():
        yield app


@pytest.mark.parametrize(
    ("signature", "args", "kwargs", "options", "immutable"),
    [
        pytest.param(add.s(), (), {}, {}, False, id="s-empty"),
        pytest.param(add.s(1, scale=2), (1,), {"scale": 2}, {}, False, id="s"),
        pytest.param(add.si(1), (1,), {}, {}, True, id="si"),
        pytest.param(
            add.signature([1, 2], {"scale": 3}, countdown=5),
            (1, 2), {"scale": 3}, {"countdown": 5}, False, id="signature",
        ),
        pytest.param(
            add.signature((1,), immutable=True), (1,), {}, {}, True, id="immutable"
        ),
        pytest.param(
            tq.signature(add.name, (1,), queue="q"),
            (1,), {}, {"queue": "q"}, False, id="by-name",
        ),
    ],
)  # fmt: skip
def test_it_keeps_a_call(signature: Signature, args, kwargs, options, immutable):
    assert signature.task == f"{__name__}.add"
    assert (signature.args, signature.kwargs) == (args, kwargs)
    assert (signature.options, signature.immutable) == (options, immutable)


def test_it_can_be_called_by_name_alone():
    assert tq.signature("elsewhere.job", (1,)).task == "elsewhere.job"


@pytest.mark.parametrize(
    ("signature", "text"),
    [
        (add.s(1, scale=2), "add(1, scale=2)"),
        (mul.si("a", 2), "mul('a', 2)"),
        (add.s(), "add()"),
    ],
)
def test_repr_is_the_call(signature: Signature, text: str):
    assert repr(signature) == f"{__name__}.{text}"


def test_equal_when_everything_is():
    assert add.s(1) == add.s(1)
    for other in (add.s(2), add.si(1), mul.s(1), add.s(1).set(queue="x"), "add(1)"):
        assert add.s(1) != other


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: add.signature("12"), id="text-for-args"),
        pytest.param(lambda: add.signature((1,), [2]), id="list-for-kwargs"),
        pytest.param(lambda: add.signature((), nope=1), id="unknown-option"),
        pytest.param(lambda: add.s(1).set(nope=1), id="set-unknown-option"),
        pytest.param(lambda: tq.signature("a.b", eta=1), id="by-name-wrong-type"),
        pytest.param(lambda: tq.signature(""), id="no-name"),
    ],
)
def test_what_is_wrong_is_refused_at_once(make: t.Callable[[], object]):
    with pytest.raises(TypeError):
        make()


def test_a_refused_option_changes_nothing():
    signature = add.s(1).set(countdown=1)
    with pytest.raises(ValueError, match="countdown"):
        signature.set(countdown=float("nan"))
    assert signature.options == {"countdown": 1}


def test_set_changes_it_and_returns_it():
    signature = add.s(1)
    assert signature.set(queue="x", immutable=True) is signature
    assert (signature.options, signature.immutable) == ({"queue": "x"}, True)


def test_clone_puts_arguments_before_and_leaves_the_original():
    signature = add.s(2, scale=2).set(queue="a")
    other = signature.clone((1,), {"scale": 3}, countdown=1)
    assert (other.args, other.kwargs) == ((1, 2), {"scale": 3})
    assert other.options == {"queue": "a", "countdown": 1}
    assert (signature.args, signature.options) == ((2,), {"queue": "a"})
    fixed = add.si(2).clone((1,), {"scale": 3}, countdown=1)
    assert (fixed.args, fixed.kwargs) == ((2,), {})
    assert fixed.options == {"countdown": 1}


def test_links_are_collected_once_each():
    a, b, c = add.s(1), add.s(2), add.s(3)
    signature = mul.s(1).set(link=a)
    assert signature.link(b, a).link(c) is signature
    assert signature.options["link"] == (a, b, c)
    assert mul.s(1).link_error(a).on_error(b).options["link_error"] == (a, b)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(lambda: add.s(1, 2)(), 3, id="plain"),
        pytest.param(lambda: add.s(1)(5, scale=2), 12, id="plain-more"),
        pytest.param(lambda: mul.s(2).delay(3).get(), 6, id="delay"),
        pytest.param(lambda: add.si(1).delay(3).get(), 1, id="delay-immutable"),
        pytest.param(lambda: add.s(1).apply_async((2,)).get(), 3, id="apply_async"),
        pytest.param(
            lambda: add.s(1).apply_async((2,), {"scale": 2}).get(), 6, id="kwargs"
        ),
        pytest.param(lambda: mul.s(2).apply((3,)).get(), 6, id="apply"),
    ],
)
def test_calling_it_calls_the_task(
    eager: Flask, call: t.Callable[[], object], expected: object
):
    assert call() == expected


def test_a_name_without_code_here_cannot_run_here(eager: Flask):
    with pytest.raises(TaskNotRegistered, match=r"no task 'elsewhere\.job'"):
        tq.signature("elsewhere.job").delay()
    with pytest.raises(LookupError):
        tq.signature("elsewhere.job").apply()


def test_options_of_a_call_come_before_its_own(app: Flask, client: redis.Redis):
    signature = mul.s(2).set(queue="own", priority=1, task_id="fixed")
    result = signature.apply_async((3,), queue="call")
    assert (result.id, result.queue, result.args) == ("fixed", "call", [3, 2])
    assert client.lrange("rq:queue:call", 0, -1) == [b"fixed"]
    assert signature.apply_async((3,)).created is False


def test_links_are_prepared_with_their_parent(app: Flask, client: redis.Redis):
    after = add.s(1, scale=2).set(queue="later", countdown=5).link(mul.si(2, 3))
    result = mul.apply_async((2, 2), link=[after, add.s()], link_error=add.si(0))
    fields = client.hgetall(f"rq:job:{result.id}")
    first, second = json.loads(fields[b"tq_links"])
    assert (first["task"], first["queue"]) == (f"{__name__}.add", "later")
    assert first["due"] == "+5.000000"
    nested = json.loads(first["fields"]["tq_links"])
    assert [row["queue"] for row in nested] == ["mul"]
    assert (second["queue"], second["immutable"]) == ("default", False)
    assert [row["immutable"] for row in json.loads(fields[b"tq_errlinks"])] == [True]
    parents = [first["fields"]["tq_parent"], nested[0]["fields"]["tq_parent"]]
    assert parents == [result.id, first["id"]]
    roots = [first["fields"]["tq_root"], nested[0]["fields"]["tq_root"]]
    assert roots == [result.id, result.id]


@pytest.mark.parametrize("link", ["add", add, [add.s(1), "add"]], ids=str)
def test_a_link_is_a_signature(app: Flask, client: redis.Redis, link: t.Any):
    with pytest.raises(TypeError, match=r"links to be signatures such as add\.s\(3\)"):
        mul.apply_async((1, 2), link=link)
    assert client.dbsize() == 0


def test_a_link_that_cannot_be_encoded_enqueues_nothing(
    app: Flask, client: redis.Redis
):
    with pytest.raises(TypeError, match="argument 0"):
        mul.apply_async((1, 2), link=add.s(object()))
    assert client.dbsize() == 0
