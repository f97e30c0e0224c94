"""Signals: when, where and with what they are sent, and what raising receivers do."""

from __future__ import annotations

import asyncio
import logging
import socket
import typing as t
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
import rq
from blinker import NamedSignal
from flask import Flask, current_app
from rq.serializers import JSONSerializer

from flask_taskqueue import AsyncResult, JobInfo, Task, hooks, signals
from flask_taskqueue.broker import scripts
from flask_taskqueue.broker.wire import NewJob
from flask_taskqueue.errors import (
    BadSignature,
    BrokerUnavailable,
    DecodeError,
    Ignore,
    TaskRevokedError,
)
from flask_taskqueue.job import StoredJob
from flask_taskqueue.worker import outcome
from flask_taskqueue.worker.board import Board
from flask_taskqueue.worker.callbacks import dropped
from flask_taskqueue.worker.execution import Executor
from flask_taskqueue.worker.limits import NoTimer
from flask_taskqueue.worker.line import Place
from flask_taskqueue.worker.loop import Slot
from flask_taskqueue.worker.reporter import JobReporter

from .running import WORKER, InProcess, claim

SIGNALS = {
    name: signal for name, signal in vars(signals).items()
    if isinstance(signal, NamedSignal)
}  # fmt: skip
JOB_SIGNALS = {name: SIGNALS[name] for name in SIGNALS if name.startswith("job_")}

Heard = list[tuple[str, JobInfo]]


class Broken(Exception):
    pass


@pytest.fixture
def site(redis_url: str, client: redis.Redis) -> Iterator[InProcess]:
    """An app with tasks, in its context."""
    site = InProcess(__name__, redis_url, client)
    task = site.tq.task
    task(name="add")(lambda x, y: x + y)
    task(name="fail", max_retries=1, default_retry_delay=0)(fail)
    task(name="flaky", bind=True)(flaky)
    with site.app.app_context():
        yield site


def fail() -> None:
    raise Broken("no")


def flaky(self: t.Any) -> str:
    if self.request.retries == 0:
        self.retry(exc=Broken("not yet"), countdown=0)
    return "at last"


def listening(site: InProcess, receiver: Callable[[str, JobInfo], object]) -> ExitStack:
    """Have a receiver called for each job signal of an app, with the signal's name."""
    stack = ExitStack()
    for name, signal in JOB_SIGNALS.items():

        def receive(app: Flask, *, job: JobInfo, name: str = name) -> None:
            receiver(name.removeprefix("job_"), job)

        stack.enter_context(signal.connected_to(receive, sender=site.app))
    return stack


@pytest.fixture
def heard(site: InProcess) -> Iterator[Heard]:
    """Names and jobs of the job signals, in order."""
    heard: Heard = []
    with listening(site, lambda name, job: heard.append((name, job))):
        yield heard


def summary(heard: Heard) -> list[tuple[str, str, str]]:
    return [(name, job.task, job.state) for name, job in heard]


def test_a_success_is_told_from_call_to_end(site: InProcess, heard: Heard):
    before = datetime.now(UTC)
    with site.app.test_request_context(headers={"X-Request-ID": "r-1"}):
        result = site.tq.tasks["add"].apply_async(
            (1, 2), headers={"owner": "me"}, queue="default"
        )
    (_, job), *_ = heard
    assert job.created_at is not None
    assert before <= job.created_at <= datetime.now(UTC)
    assert job == JobInfo(
        id=result.id,
        task="add",
        queue="default",
        state="PENDING",
        headers={"owner": "me"},
        carried={"X-Request-ID": "r-1"},
        created_at=job.created_at,
    )
    site.run_all()
    assert summary(heard) == [
        ("enqueued", "add", "PENDING"),
        ("started", "add", "STARTED"),
        ("succeeded", "add", "SUCCESS"),
    ]
    job = heard[-1][1]
    assert (job.id, job.queue, job.exception) == (result.id, "default", None)
    assert (job.headers, job.carried) == ({"owner": "me"}, {"X-Request-ID": "r-1"})
    assert job.created_at is not None
    assert abs(job.created_at - before) < timedelta(minutes=1)


def test_retries_and_failures_come_with_their_exception(site: InProcess, heard: Heard):
    site.tq.tasks["flaky"].delay()
    site.tq.tasks["fail"].delay()
    site.run_all()
    assert [
        (name, job.state, str(job.exception)) for name, job in heard if job.exception
    ] == [("retried", "RETRY", "not yet"), ("failed", "FAILURE", "no")]
    assert [name for name, job in heard if job.task == "flaky"] == [
        "enqueued", "started", "retried", "started", "succeeded",
    ]  # fmt: skip


def test_hooks_and_signals_take_turns(site: InProcess):
    seen: list[str] = []

    class Noting(Task[..., t.Any]):
        def before_start(self, *args: t.Any) -> None:
            seen.append("before_start")

        def on_success(self, *args: t.Any) -> None:
            seen.append("on_success")

        def on_retry(self, *args: t.Any) -> None:
            seen.append("on_retry")

        def after_return(self, *args: t.Any) -> None:
            seen.append("after_return")

    task = site.tq.task(base=Noting, bind=True, name="noting")(flaky)
    site.app.teardown_appcontext(lambda error: seen.append("teardown"))
    with listening(site, lambda name, job: seen.append(name)):
        task.delay()
        site.run_all()
    assert seen == [
        "enqueued",
        "started", "before_start", "on_retry", "retried", "teardown",
        "started", "before_start", "on_success", "succeeded", "after_return",
        "teardown",
    ]  # fmt: skip


def test_receivers_run_in_the_job_before_its_end_is_stored(site: InProcess):
    seen: list[tuple[str, str, str]] = []

    def look(name: str, job: JobInfo) -> None:
        seen.append((name, current_app.name, AsyncResult(job.id).state))

    with listening(site, look):
        site.tq.tasks["add"].delay(1, 2)
        site.run_all()
    assert seen == [
        ("enqueued", __name__, "PENDING"),
        ("started", __name__, "STARTED"),
        ("succeeded", __name__, "STARTED"),
    ]


def test_ignore_is_only_started(site: InProcess, heard: Heard):
    @site.tq.task
    def ignore() -> None:
        raise Ignore

    ignore.delay()
    site.run_all()
    assert [name for name, _ in heard] == ["enqueued", "started"]


def test_a_call_that_enqueues_nothing_is_not_told(site: InProcess, heard: Heard):
    add = site.tq.tasks["add"]
    assert add.apply_async((1, 2), task_id="one").created
    assert not add.apply_async((1, 2), task_id="one").created
    site.client.set("rq:job:two", "no job")
    with pytest.raises(Exception, match="something that is not a job"):
        add.apply_async((1, 2), task_id="two")
    assert [job.id for _, job in heard] == ["one"]


def test_a_call_that_redis_does_not_take_is_not_told(client: redis.Redis):
    site = InProcess(__name__, "redis://127.0.0.1:1/0", client)
    add = site.tq.task(lambda x, y: x + y)
    heard: Heard = []
    with (
        site.app.app_context(),
        listening(site, lambda name, job: heard.append((name, job))),
        pytest.raises(BrokerUnavailable),
    ):
        add.delay(1, 2)
    assert heard == []


def test_each_of_many_calls_is_told(site: InProcess, heard: Heard):
    results = site.tq.tasks["add"].delay_many([(1, 2), (3, 4)])
    assert [job.id for _, job in heard] == [result.id for result in results]


def test_a_job_by_name_alone_is_told(site: InProcess, heard: Heard):
    site.tq.send_task("elsewhere.task")
    assert summary(heard) == [("enqueued", "elsewhere.task", "PENDING")]


def test_links_are_told_by_who_stored_the_end(site: InProcess):
    add, seen = site.tq.tasks["add"], []

    def look(name: str, job: JobInfo) -> None:
        seen.append((name, job.id, current_app.name, parent and parent.state))

    parent: AsyncResult[t.Any] | None = None
    with listening(site, look):
        parent = add.apply_async((1, 2), link=add.s(10))
        site.run_all()
    (child,) = parent.children
    assert child.get() == 13
    assert seen == [
        ("enqueued", parent.id, __name__, None),
        ("started", parent.id, __name__, "STARTED"),
        ("succeeded", parent.id, __name__, "STARTED"),
        ("enqueued", child.id, __name__, "SUCCESS"),
        ("started", child.id, __name__, "SUCCESS"),
        ("succeeded", child.id, __name__, "SUCCESS"),
    ]


def test_no_job_is_taken_while_receivers_hear_of_links(site: InProcess):
    add, waiting = site.tq.tasks["add"], []

    def look(name: str, job: JobInfo) -> None:
        if name == "enqueued":
            waiting.append(site.client.llen("rq:queue:default"))

    first = add.apply_async((1, 2), link=add.s(10))
    other = add.delay(5, 5)
    claimed = claim(site.client)
    assert claimed is not None
    stored = StoredJob(first.id, claimed.fields, "default")
    reporter = JobReporter(
        site.client, site.tq.state, claimed.lease, lambda error: None
    )
    ended = Executor(site.tq.state, WORKER, NoTimer()).run(stored, reporter)
    wanted = scripts.Claim(WORKER, f"{WORKER}.2.", 1, 10, ("default",))
    with listening(site, look):
        accepted, following = outcome.store(
            site.client, site.tq.state, stored, claimed.lease, ended, wanted
        )
    assert accepted
    assert waiting == [2]
    assert following.job is not None
    assert following.job.lease.id == other.id


def plain(x: int) -> int:
    return x + 1


def test_plain_rq_functions_are_told_by_their_dotted_name(
    redis_url: str, client: redis.Redis
):
    site = InProcess(
        __name__, redis_url, client, TASKQUEUE_IMPORTABLE=[f"{__name__}.*"]
    )
    heard: Heard = []
    queue = rq.Queue(connection=client, serializer=JSONSerializer)
    job = queue.enqueue(plain, 1, description="anything (at all)")
    with (
        site.app.app_context(),
        listening(site, lambda name, job: heard.append((name, job))),
    ):
        site.run_all()
        assert AsyncResult(job.id).get() == 2
    name = f"{__name__}.plain"
    assert summary(heard) == [
        ("started", name, "STARTED"), ("succeeded", name, "SUCCESS"),
    ]  # fmt: skip


def test_a_job_that_is_refused_has_failed_without_a_start(
    redis_url: str, client: redis.Redis
):
    site = InProcess(
        __name__, redis_url, client, TASKQUEUE_SIGN=True, SECRET_KEY="k" * 32
    )
    add, heard = site.tq.task(lambda x, y: x + y), []
    with (
        site.app.app_context(),
        listening(site, lambda name, job: heard.append((name, job))),
    ):
        result = add.delay(1, 2)
        client.hset(f"rq:job:{result.id}", "tq_headers", "\xff")
        site.run_all()
    assert [name for name, _ in heard] == ["enqueued", "failed"]
    job = heard[-1][1]
    assert (job.id, job.task, job.state, job.headers) == (
        result.id, add.name, "FAILURE", {},
    )  # fmt: skip
    assert isinstance(job.exception, BadSignature)


def test_who_revokes_a_waiting_job_hears_of_it(site: InProcess, heard: Heard):
    result = site.tq.tasks["add"].apply_async((1, 2), headers={"owner": "me"})
    heard.clear()
    result.revoke()
    result.revoke()
    AsyncResult("nobody").revoke()
    ((name, job),) = heard
    assert (name, job.id, job.task, job.queue, job.state, job.headers) == (
        "revoked", result.id, "add", "default", "REVOKED", {"owner": "me"},
    )  # fmt: skip
    assert isinstance(job.exception, TaskRevokedError)
    assert job.created_at is not None


def test_a_revoked_job_that_cannot_be_read_is_told_by_its_id(
    site: InProcess, heard: Heard
):
    result = site.tq.tasks["add"].delay(1, 2)
    site.client.hset(f"rq:job:{result.id}", "origin", b"\xff")
    heard.clear()
    result.revoke()
    ((name, job),) = heard
    assert (name, job.id, job.task, job.queue) == ("revoked", result.id, "", "")


def test_a_job_revoked_while_it_runs_is_revoked_when_it_retries(
    site: InProcess, heard: Heard
):
    @site.tq.task(bind=True)
    def late(self: t.Any) -> None:
        AsyncResult(self.request.id).revoke()
        self.retry(countdown=0)

    result = late.delay()
    site.run_all()
    assert result.state == "REVOKED"
    assert summary(heard)[1:] == [
        ("started", late.name, "STARTED"),
        ("retried", late.name, "RETRY"),
        ("revoked", late.name, "REVOKED"),
    ]


def test_a_job_claimed_beside_a_dropped_one_is_held_while_receivers_run(
    site: InProcess,
):
    """Whose lease a board names is renewed; any other could lapse meanwhile."""
    board, held = Board(), []
    ours, theirs = socket.socketpair()
    place = Place(
        worker=WORKER, label="1", queues=("default",), board=board, channel=theirs
    )
    add = site.tq.tasks["add"]
    add.apply_async((1, 2), expires=datetime(2020, 1, 1, tzinfo=UTC))
    beside = add.delay(1, 2)

    def look(name: str, job: JobInfo) -> None:
        held.append((name, *(lease.id for lease in board.read().leases)))
        board.stamp(stopping=name == "succeeded")

    board.stamp()
    with ours, theirs, listening(site, look):
        Slot(site.tq.state, place, NoTimer()).run()
    assert held == [
        ("revoked", beside.id), ("started", beside.id), ("succeeded", beside.id),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "reason", "expected"),
    [
        ("expired", "", ("revoked", "REVOKED", TaskRevokedError, "expired")),
        ("revoked", "", ("revoked", "REVOKED", TaskRevokedError, "revoked")),
        ("quarantined", "no status", ("failed", "FAILURE", DecodeError, "no status")),
    ],
    ids=["expired", "revoked", "quarantined"],
)
def test_a_job_dropped_by_a_claim_is_told(
    site: InProcess,
    heard: Heard,
    kind: str,
    reason: str,
    expected: tuple[str, str, type[Exception], str],
):
    result = site.tq.tasks["add"].delay(1, 2)
    heard.clear()
    note = scripts.Note(kind, result.id, "default", reason)
    dropped(site.tq.state, site.client, note)
    ((name, job),) = heard
    assert (name, job.state, type(job.exception), str(job.exception)) == expected
    assert (job.id, job.task, job.queue) == (result.id, "add", "default")


def test_a_dropped_job_without_a_hash_is_told_by_its_id(site: InProcess, heard: Heard):
    site.client.set("rq:job:odd", "text")
    dropped(site.tq.state, site.client, scripts.Note("quarantined", "odd", "q", "why"))
    ((_, job),) = heard
    assert (job.id, job.task, job.queue, job.created_at) == ("odd", "", "q", None)


def test_of_a_callback_s_note_nothing_is_told(site: InProcess, heard: Heard):
    dropped(site.tq.state, site.client, scripts.Note("aftermath", "id", "", ""))
    assert heard == []


def test_nothing_is_read_for_nobody(site: InProcess):
    site.client.config_resetstat()
    dropped(site.tq.state, site.client, scripts.Note("expired", "id", "q", ""))
    assert "cmdstat_hmget" not in site.client.info("commandstats")


@pytest.mark.parametrize("error", [Broken("receiver"), SystemExit(1)], ids=repr)
def test_a_receiver_that_raises_changes_nothing(
    site: InProcess,
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
):
    def receive(name: str, job: JobInfo) -> None:
        # A caller may exit in a receiver.
        if isinstance(error, Exception) or name != "enqueued" or job.id != "parent":
            raise error

    flaky = site.tq.tasks["flaky"]
    with listening(site, receive):
        result = flaky.apply_async(link=flaky.si(), task_id="parent")
        site.run_all()
    assert result.get() == "at last"
    assert result.children[0].get() == "at last"
    records = [record for record in caplog.records if record.levelno == logging.ERROR]
    told = {record.__dict__["job_id"] for record in records}
    assert told == {result.id, result.children[0].id}
    assert all(result.id in r.getMessage() for r in records[:1])
    assert {r.exc_info[1] for r in records if r.exc_info} == {error}


def test_a_muted_signal_reaches_nobody(site: InProcess, heard: Heard):
    with signals.job_succeeded.muted():
        site.tq.tasks["add"].delay(1, 2)
        site.run_all()
    assert [name for name, _ in heard] == ["enqueued", "started"]


def test_a_receiver_may_be_a_coroutine(
    site: InProcess, caplog: pytest.LogCaptureFixture
):
    seen: list[str] = []

    async def receive(app: Flask, *, job: JobInfo) -> None:
        await asyncio.sleep(0)
        seen.append(job.state)
        if job.state == "SUCCESS":
            raise Broken("late")

    with (
        signals.job_enqueued.connected_to(receive, sender=site.app),
        signals.job_succeeded.connected_to(receive, sender=site.app),
    ):
        result = site.tq.tasks["add"].delay(1, 2)
        site.run_all()
    assert (result.get(), seen) == (3, ["PENDING", "SUCCESS"])
    assert f"A receiver of job-succeeded raised, job {result.id}" in caplog.messages


def test_the_other_receivers_hear_all_the_same(site: InProcess, heard: Heard):
    def fail(app: Flask, job: JobInfo) -> None:
        raise Broken

    with signals.job_enqueued.connected_to(fail), listening(site, fail):
        site.tq.tasks["add"].delay(1, 2)
    assert [name for name, _ in heard] == ["enqueued"]


def test_a_teardown_that_raises_after_a_signal_ends_nothing(
    site: InProcess, heard: Heard, caplog: pytest.LogCaptureFixture
):
    def fail(error: BaseException | None) -> None:
        raise Broken("teardown")

    result = site.tq.tasks["add"].delay(1, 2)
    site.app.teardown_appcontext(fail)
    try:
        dropped(site.tq.state, site.client, scripts.Note("expired", result.id, "q", ""))
    finally:
        site.app.teardown_appcontext_funcs.clear()
    assert [name for name, _ in heard] == ["enqueued", "revoked"]
    assert f"A signal of job {result.id} raised" in caplog.text


def test_eager_calls_are_told_too(site: InProcess, heard: Heard):
    site.app.config.update(TASKQUEUE_EAGER=True, TASKQUEUE_EAGER_PROPAGATES=False)
    add, flaky = site.tq.tasks["add"], site.tq.tasks["flaky"]
    result = add.apply_async((1, 2), link=flaky.si())
    assert [(name, job.task) for name, job in heard] == [
        ("enqueued", "add"), ("started", "add"), ("succeeded", "add"),
        ("enqueued", "flaky"), ("started", "flaky"), ("retried", "flaky"),
        ("started", "flaky"), ("succeeded", "flaky"),
    ]  # fmt: skip
    assert heard[0][1].id == result.id
    heard.clear()
    add.apply_async((1, 2), expires=datetime(2020, 1, 1, tzinfo=UTC))
    assert summary(heard) == [
        ("enqueued", "add", "PENDING"), ("revoked", "add", "REVOKED"),
    ]  # fmt: skip


def test_receivers_of_another_app_hear_nothing(
    site: InProcess, heard: Heard, redis_url: str, client: redis.Redis
):
    other = InProcess("other", redis_url, client)
    add = other.tq.task(lambda x, y: x + y)
    with other.app.app_context():
        add.delay(1, 2)
        other.run_all()
    assert heard == []


def test_fields_that_cannot_be_read_are_empty():
    bad = b"\xff{"
    names = (b"tq_task", b"tq_headers", b"tq_carried", b"created_at", b"status")
    assert JobInfo.of(StoredJob("id", dict.fromkeys(names, bad), "q")) == JobInfo(
        id="id", task="", queue="q", state="UNKNOWN"
    )


def test_a_new_job_reads_as_it_will_be_stored():
    new = NewJob(
        id="id", queue="q", fields={"tq_task": "t", "timeout": 3, "data": b"d"}
    )
    stored = StoredJob.of_new(new)
    assert (stored.id, stored.queue, stored.task) == ("id", "q", "t")
    assert (stored.number("timeout"), stored.fields[b"data"]) == (3.0, b"d")


def test_every_signal_and_hook_is_in_the_table():
    page = Path(__file__).parents[1] / "docs" / "signals.md"
    rows = [line.split("|")[1] for line in page.read_text("utf-8").splitlines()
            if line.startswith("| `")]  # fmt: skip
    shown = [name.strip("` ") for row in rows for name in row.split(",")]
    assert sorted(shown) == sorted([*SIGNALS, *hooks.NAMES])
