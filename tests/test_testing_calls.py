"""Calls in a test: run where they are made, or kept for a look."""

from __future__ import annotations

import threading
import typing as t
from datetime import UTC, datetime, timedelta

import pytest
import redis
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text

from flask_taskqueue import JobInfo
from flask_taskqueue.errors import (
    BrokerUnavailable,
    ResultTimeout,
)
from flask_taskqueue.signals import job_enqueued
from flask_taskqueue.testing import captured, drain, eager

from .running import InProcess
from .shop import NOWHERE, Shop

SOON = timedelta(seconds=1)


@pytest.fixture
def shop(redis_url: str, client: redis.Redis) -> t.Iterator[Shop]:
    shop = Shop(InProcess("shop", redis_url, client))
    with shop.app.app_context():
        yield shop


@pytest.fixture
def unplugged(client: redis.Redis) -> t.Iterator[Shop]:
    """Its Redis is not there."""
    shop = Shop(InProcess("unplugged", NOWHERE, client))
    with shop.app.app_context():
        yield shop


def test_eager_runs_calls_inside_and_only_there(unplugged: Shop):
    with eager(unplugged.app):
        assert unplugged.note.delay("in").get() == "in"
    with pytest.raises(BrokerUnavailable):
        unplugged.note.delay("out")
    assert unplugged.done == ["in"]


def test_eager_raises_what_the_task_raises_unless_told_otherwise(unplugged: Shop):
    with eager(unplugged.app), pytest.raises(ValueError, match="no"):
        unplugged.fail.delay()
    with eager(unplugged.app, propagates=False):
        assert unplugged.fail.delay().state == "FAILURE"


@pytest.mark.parametrize(
    "before",
    [
        pytest.param({}, id="nothing"),
        pytest.param(
            {"TASKQUEUE_EAGER": "no", "TASKQUEUE_EAGER_PROPAGATES": False}, id="values"
        ),
    ],
)
def test_eager_leaves_the_configuration_as_it_was(unplugged: Shop, before):
    unplugged.app.config.update(before)
    config = dict(unplugged.app.config)
    with pytest.raises(KeyError), eager(unplugged.app):
        raise KeyError
    assert unplugged.app.config == config


def test_eager_needs_an_app_with_a_task_queue():
    with (
        pytest.raises(RuntimeError, match="'bare' has no TaskQueue"),
        eager(Flask("bare")),
    ):
        pass


def test_captured_jobs_do_not_run_and_need_no_redis(unplugged: Shop):
    with captured(unplugged.app) as jobs:
        result = unplugged.note.delay("a", 1)
        (job,) = jobs
        assert (result.id, result.state, result.created) == (job.id, "PENDING", True)
        assert result.queue == "default"
        assert result.name == "note"
        assert result.args == ["a", 1]
        assert not result.ready()
        assert result.result is None
    assert isinstance(job, JobInfo)
    assert (job.task, job.queue, job.state) == ("note", "default", "PENDING")
    assert (job.args, job.kwargs, job.eta) == (["a", 1], {}, None)
    assert unplugged.done == []
    assert len(jobs) == 1


def test_captured_jobs_show_what_the_call_said(unplugged: Shop):
    eta = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    before = datetime.now(UTC)
    with captured(unplugged.app) as jobs:
        unplugged.note.apply_async(
            ("a",),
            {},
            queue="mail",
            headers={"owner": 7},
            countdown=60,
            time_limit=5,
            max_retries=9,
        )
        unplugged.note.apply_async(("b",), eta=eta, expires=eta + SOON)
    first, second = jobs
    assert (first.queue, first.headers) == ("mail", {"owner": 7})
    assert first.countdown == 60
    assert first.eta is not None
    assert timedelta(0) <= first.eta - before - timedelta(seconds=60) < 10 * SOON
    assert first.options["time_limit"] == 5
    assert first.options["retry"]["max_retries"] == 9
    assert (second.countdown, second.eta, second.expires) == (None, eta, eta + SOON)
    assert first.created_at is not None
    assert before <= first.created_at <= datetime.now(UTC)


def test_captured_jobs_show_their_links(unplugged: Shop):
    note, fail = unplugged.note, unplugged.fail
    with captured(unplugged.app) as (jobs):
        note.apply_async(
            ("a",),
            link=note.s("b").link(note.si("c").set(queue="late")),
            link_error=[fail.s("oh")],
        )
    (job,) = jobs
    (link,), (error,) = job.links, job.link_errors
    assert (link.task, link.args) == ("note", ["b"])
    assert [(x.queue, x.args) for x in link.links] == [("late", ["c"])]
    assert (error.task, error.args) == ("fail", ["oh"])


def test_every_way_to_enqueue_is_captured_in_order(unplugged: Shop):
    note, tq = unplugged.note, unplugged.tq
    with captured(unplugged.app) as jobs:
        note.delay(1)
        note.delay_many([(2,), (3,)])
        tq.send_task("elsewhere", [4])
        tq.send_task("note", [5])
        note.s(6).delay()
        tq.signature("elsewhere", (7,)).apply_async()
    assert [job.args[0] for job in jobs] == [1, 2, 3, 4, 5, 6, 7]
    assert unplugged.done == []


def test_a_call_on_commit_is_captured_when_it_is_committed(unplugged: Shop):
    unplugged.app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    db = SQLAlchemy(unplugged.app)
    with captured(unplugged.app) as jobs:
        for end in (db.session.rollback, db.session.commit):
            db.session.execute(text("select 1"))
            unplugged.note.delay_on_commit(end.__name__)
            assert jobs == []
            end()
    assert [job.args for job in jobs] == [["commit"]]
    db.session.remove()
    db.engine.dispose()


def test_the_jobs_of_a_request_are_captured(unplugged: Shop):
    with captured(unplugged.app) as jobs:
        answer = unplugged.app.test_client().post("/note/a")
        assert answer.status_code == 202
        assert answer.json["id"] == jobs[0].id
        seen = unplugged.app.test_client().get(answer.headers["Location"])
        assert (seen.status_code, seen.json["state"]) == (200, "PENDING")


def test_an_id_is_captured_once(unplugged: Shop):
    with captured(unplugged.app) as jobs:
        made = [
            unplugged.note.apply_async((n,), task_id="daily").created for n in (1, 2)
        ]
    assert made == [True, False]
    assert [job.args for job in jobs] == [[1]]
    with captured(unplugged.app) as jobs:
        assert unplugged.note.apply_async((3,), task_id="daily").created


def test_captured_wins_over_eager_and_the_inner_one_over_the_outer(unplugged: Shop):
    app, note = unplugged.app, unplugged.note
    app.config["TASKQUEUE_EAGER"] = True
    with captured(app) as outer:
        note.delay(1)
        with captured(app) as inner:
            note.delay(2)
        with eager(app):
            note.delay(3)
        note.delay(4)
    note.delay(5)
    assert [job.args for job in outer] == [[1], [4]]
    assert [job.args for job in inner] == [[2]]
    assert unplugged.done == [3, 5]


def test_only_the_app_given_is_captured(unplugged: Shop, shop: Shop):
    with captured(unplugged.app) as jobs:
        with shop.app.app_context():
            shop.note.delay("real")
        with unplugged.app.app_context():
            unplugged.note.delay("kept")
    assert [job.args for job in jobs] == [["kept"]]
    assert drain(shop.app) == 1
    assert shop.done == ["real"]


def test_what_a_task_enqueues_is_captured_when_it_is_applied(unplugged: Shop):
    @unplugged.tq.task(name="outer")
    def outer() -> None:
        unplugged.note.delay("inner")

    with captured(unplugged.app) as jobs:
        result = outer.apply()
        assert [child.id for child in result.children] == [jobs[0].id]
    assert unplugged.done == []


def test_waiting_for_a_captured_job_ends_at_once(unplugged: Shop):
    with captured(unplugged.app):
        result = unplugged.note.delay("a")
        with pytest.raises(ResultTimeout, match="nothing will run it"):
            result.get()


def test_an_unknown_id_is_unknown_without_redis(unplugged: Shop):
    with captured(unplugged.app):
        assert unplugged.tq.AsyncResult("never").state == "UNKNOWN"


def test_nothing_captured_is_left_after_the_block(shop: Shop):
    with captured(shop.app):
        result = shop.note.apply_async(("a",), task_id="x")
    assert result.state == "UNKNOWN"
    shop.note.apply_async(("b",), task_id="x")
    assert drain(shop.app) == 1
    assert result.get(timeout=1) == "b"


def test_a_captured_job_is_announced(unplugged: Shop):
    told = []

    def receive(sender: Flask, job: JobInfo) -> None:
        told.append((sender, job.task, job.state))

    with captured(unplugged.app), job_enqueued.connected_to(receive):
        unplugged.note.delay("a")
    assert told == [(unplugged.app, "note", "PENDING")]


@pytest.mark.parametrize(
    ("args", "error"),
    [
        pytest.param((object(),), "expected", id="argument"),
        pytest.param(("a",) * 1_000_000, "TASKQUEUE_MAX_ARGS_BYTES", id="size"),
    ],
)
def test_a_captured_call_is_checked_as_any(unplugged: Shop, args, error):
    with captured(unplugged.app) as jobs, pytest.raises(Exception, match=error):
        unplugged.note.delay(*args)
    assert jobs == []


def test_threads_are_captured_too(unplugged: Shop):
    def enqueue() -> None:
        with unplugged.app.app_context():
            for _ in range(50):
                unplugged.note.delay("a")

    with captured(unplugged.app) as jobs:
        threads = [threading.Thread(target=enqueue) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len({job.id for job in jobs}) == 200


def test_signed_and_other_contents_are_captured(client: redis.Redis):
    shop = Shop(
        InProcess(
            "signed",
            NOWHERE,
            client,
            SECRET_KEY="s",
            TASKQUEUE_SIGN=True,
            TASKQUEUE_SERIALIZER="msgpack",
            TASKQUEUE_ACCEPT_CONTENT=["json", "msgpack"],
        )
    )
    with shop.app.app_context(), captured(shop.app) as jobs:
        result = shop.note.apply_async(("a",), link=shop.note.s("b"))
        assert result.args == ["a"]
    assert [job.args for job in (*jobs, *jobs[0].links)] == [["a"], ["b"]]
