"""What runs after a job whose process was killed: hooks, signals, callbacks."""

from __future__ import annotations

import time
import typing as t
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask import current_app, url_for
from rq import Callback, Queue, Webhook
from rq.serializers import JSONSerializer

from flask_taskqueue import AsyncResult, JobInfo, Task, signals
from flask_taskqueue.broker import scripts
from flask_taskqueue.broker.wire import Claim, Ended, Lease, Next
from flask_taskqueue.errors import (
    TaskRevokedError,
    TimeLimitExceeded,
    WorkerLostError,
)
from flask_taskqueue.stored_error import dump_error
from flask_taskqueue.testing import drain, run_worker
from flask_taskqueue.worker import aftermath
from flask_taskqueue.worker.execution import Executor
from flask_taskqueue.worker.limits import NoTimer

from .running import WORKER, InProcess, claim

Client = t.Any
Heard = list[tuple[t.Any, ...]]
AFTERMATH = "tq:aftermath:default"

called: Heard = []
"""By plain functions, which cannot have anything of a test's around them."""


class Told(Task[..., t.Any]):
    """Notes its hooks, and what is to be seen in them."""

    heard: t.ClassVar[Heard] = []

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        self.heard.append(("on_failure", repr(exc), task_id, list(args), kwargs))
        self.heard.append((current_app.name, self.request.id, self.request.retries))

    def after_return(self, status, retval, task_id, args, kwargs, einfo):
        self.heard.append(("after_return", status, repr(retval)))


@pytest.fixture
def site(redis_url: str, client: Client) -> Iterator[InProcess]:
    site = InProcess(
        __name__, redis_url, client, TASKQUEUE_IMPORTABLE=[f"{__name__}.*"]
    )
    Told.heard, called[:] = [], []
    site.tq.task(name="told", base=Told, on_worker_lost="fail")(
        lambda *args, **more: None
    )
    site.tq.task(name="quiet", on_worker_lost="fail")(lambda *args, **more: None)
    with site.app.app_context():
        yield site


def take(client: Client) -> Lease:
    """Claim a job, as a slot that will be killed."""
    claimed = claim(client)
    assert claimed is not None
    return claimed.lease


def ask(client: Client) -> Next:
    return scripts.claim(client, Claim(WORKER, f"{WORKER}.9.", 1, 10, ("default",)))


def bury(client: Client, lease: Lease, status: str, error: Exception) -> None:
    fields: dict[str, t.Any] = {"tq_error": dump_error(error, "")}
    ended = Ended(lease=lease, status=status, fields=fields, entry={})
    assert scripts.bury(client, ended) == scripts.STORED
    assert scripts.bury(client, ended) == scripts.STORED_BEFORE


def at_the_limit(client: Client, lease: Lease) -> None:
    bury(client, lease, "failed", TimeLimitExceeded("too long"))


def terminated(client: Client, lease: Lease) -> None:
    bury(client, lease, "stopped", TaskRevokedError("terminated"))


def at_a_stop(client: Client, lease: Lease) -> None:
    assert scripts.release(client, [lease], started=True) == [scripts.ENDED_INSTEAD]


def with_its_child(client: Client, lease: Lease) -> None:
    ran, queues = lease.execution, ["default"]
    told = {"ran": ran, "reason": "signal 9", "queues": queues}
    assert scripts.abandon(client, f"{WORKER}.1.", **told)[0].what == "failed"


def with_its_worker(client: Client, lease: Lease) -> None:
    numbers: dict[str, t.Any] = {"gap": 6.0, "lease": 10.0, "most": 9}
    scripts.sweep(client, **numbers)
    client.zadd("rq:wip:default", {f"{lease.id}:{lease.execution}": 0})
    assert scripts.sweep(client, **numbers).recovered[0].what == "failed"


def revoked_and_lost(client: Client, lease: Lease) -> None:
    scripts.revoke(client, lease.id, terminate=False)
    at_a_stop(client, lease)


Kill = Callable[[Client, Lease], None]
WAYS: dict[Kill, Exception] = {
    at_the_limit: TimeLimitExceeded("too long"),
    at_a_stop: WorkerLostError("the worker was stopped"),
    with_its_child: WorkerLostError("worker lost while the job ran: signal 9"),
    with_its_worker: WorkerLostError(
        "worker lost while the job ran: its worker is gone"
    ),
}
FAILURES = pytest.mark.parametrize("kill", WAYS, ids=lambda kill: kill.__name__)


@contextmanager
def listening(*names: str) -> Iterator[list[tuple[str, JobInfo]]]:
    """Hear signals of the app."""
    heard: list[tuple[str, JobInfo]] = []
    receivers = []
    for name in names:

        def receive(app: t.Any, job: JobInfo, name: str = name) -> None:
            heard.append((name, job))

        receivers.append(receive)
        getattr(signals, name).connect(receive)
    yield heard
    for name, receive in zip(names, receivers, strict=True):
        getattr(signals, name).disconnect(receive)


@FAILURES
def test_a_killed_jobs_hooks_and_signal_come_once(
    site: InProcess, client: Client, kill: Kill
):
    told = site.tq.tasks["told"]
    result = told.apply_async((1,), {"x": 2})
    kill(client, take(client))
    error = WAYS[kill]
    with listening("job_failed", "job_revoked") as heard:
        drain(site.app)
        drain(site.app)
    assert told.heard == [
        ("on_failure", repr(error), result.id, [1], {"x": 2}),
        (__name__, result.id, 0),
        ("after_return", "FAILURE", repr(error)),
    ]
    ((name, job),) = heard
    assert (name, job.id, job.task, job.state) == (
        "job_failed", result.id, "told", "FAILURE",
    )  # fmt: skip
    assert repr(job.exception) == repr(error)
    assert client.keys("tq:aftermath*") == []


@pytest.mark.parametrize(
    ("kill", "hooks", "says"),
    [
        pytest.param(
            terminated,
            [("after_return", "REVOKED", "TaskRevokedError('terminated')")],
            "terminated",
            id="terminated",
        ),
        pytest.param(revoked_and_lost, [], "revoked", id="revoked-and-lost"),
    ],
)
def test_a_revoked_job_is_told_as_revoked(
    site: InProcess, client: Client, kill: Kill, hooks: Heard, says: str
):
    result = site.tq.tasks["told"].delay()
    kill(client, take(client))
    with listening("job_failed", "job_revoked") as heard:
        drain(site.app)
    assert site.tq.tasks["told"].heard == hooks
    assert [(name, job.state, str(job.exception)) for name, job in heard] == [
        ("job_revoked", "REVOKED", says)
    ]
    assert result.state == "REVOKED"


def test_what_the_job_carried_is_there(site: InProcess, client: Client):
    """URL binding, headers, carriers; and what it enqueues is its child's."""
    restored: list[object] = []

    @contextmanager
    def restore(value: object) -> Iterator[None]:
        restored.append(value)
        try:
            yield
        finally:
            restored.append("left")

    class Asking(Told):
        def on_failure(self, exc, task_id, args, kwargs, einfo):
            self.heard.append((url_for("page", _external=True), self.request.carried))
            self.heard.append((list(restored), site.tq.tasks["quiet"].delay().parent))

    site.app.route("/page", endpoint="page")(lambda: "")
    site.tq.carrier("locale", capture=lambda: "fr", restore=restore)
    task = site.tq.task(name="asking", base=Asking)(lambda: None)
    headers = {"X-Request-ID": "77"}
    with site.app.test_request_context("/", base_url="https://shop", headers=headers):
        result = task.delay()
    at_the_limit(client, take(client))
    assert drain(site.app) == 1
    assert task.heard[:2] == [
        ("https://shop/page", headers), (["fr"], AsyncResult(result.id)),
    ]  # fmt: skip
    assert restored[:2] == ["fr", "left"]


def on_failure(job: t.Any, connection: t.Any, *error: t.Any) -> None:
    connection.ping()
    called.append(("failure", job.id, error[0].__name__, str(error[1]), error[2]))


def on_stopped(job: t.Any, connection: t.Any) -> None:
    connection.ping()
    called.append(("stopped", job.id))


def plain() -> None:
    """What a plain ``rq`` producer calls."""


@pytest.mark.parametrize(
    ("kill", "expected"),
    [
        pytest.param(
            at_the_limit, ("failure", "a", "TimeLimitExceeded", "too long", None),
            id="failed",
        ),
        pytest.param(terminated, ("stopped", "a"), id="stopped"),
        pytest.param(revoked_and_lost, None, id="revoked"),
    ],
)  # fmt: skip
def test_a_plain_jobs_callback_runs(
    site: InProcess, client: Client, kill: Kill, expected: tuple[t.Any, ...] | None
):
    queue = Queue(connection=client, serializer=JSONSerializer)
    queue.enqueue(
        plain, job_id="a",
        on_failure=Callback(on_failure), on_stopped=Callback(on_stopped),
    )  # fmt: skip
    kill(client, take(client))
    drain(site.app)
    assert called == ([] if expected is None else [expected])


def exits(job: object, connection: object) -> None:
    raise SystemExit(3)


def test_a_callback_that_exits_is_logged_and_teardown_gets_the_jobs_error(
    site: InProcess, client: Client, caplog: pytest.LogCaptureFixture
):
    noted: list[BaseException | None] = []
    site.app.teardown_appcontext(noted.append)
    queue = Queue(connection=client, serializer=JSONSerializer)
    job = queue.enqueue(plain, on_stopped=Callback(exits))
    terminated(client, take(client))
    drain(site.app)
    assert f"After job {job.id} was killed its callback raised" in caplog.messages
    assert [repr(error) for error in noted] == ["TaskRevokedError('terminated')"]
    assert client.keys("tq:aftermath*") == []


def test_no_job_is_taken_with_an_aftermath_and_it_comes_first(
    site: InProcess, client: Client
):
    """Under steady load it would wait for ever; and nobody waits behind it."""
    result = site.tq.tasks["told"].delay()
    lease = take(client)
    at_the_limit(client, lease)
    site.tq.tasks["quiet"].delay()
    answer = ask(client)
    assert (answer.job, answer.again) == (None, True)
    (note,) = answer.notes
    assert (note.kind, note.id, note.reason) == (
        "aftermath",
        result.id,
        lease.execution,
    )
    taken = ask(client)
    assert taken.job is not None
    assert taken.notes == ()


def test_a_worker_of_other_queues_leaves_it_alone(site: InProcess, client: Client):
    site.tq.tasks["told"].delay()
    at_the_limit(client, take(client))
    other = Claim(WORKER, f"{WORKER}.9.", 1, 10, ("other",))
    assert scripts.claim(client, other).notes == ()
    assert [note.kind for note in ask(client).notes] == ["aftermath"]


def test_slots_that_die_of_it_are_given_it_three_times(site: InProcess, client: Client):
    result = site.tq.tasks["told"].delay()
    at_the_limit(client, take(client))
    member = client.zrange(AFTERMATH, 0, 0)[0]
    for _ in range(3):
        assert [note.kind for note in ask(client).notes] == ["aftermath"]
        seconds, _ = client.time()
        # Nobody else gets it meanwhile.
        assert 170 < client.zscore(AFTERMATH, member) - seconds <= 181
        assert ask(client).notes == ()
        client.zadd(AFTERMATH, {member: 0})
    (note,) = ask(client).notes
    assert (note.kind, note.id) == ("given up", result.id)
    assert "begun 3 times" in note.reason
    assert ask(client).notes == ()
    assert client.keys("tq:aftermath*") == []


@pytest.mark.parametrize("change", ["started-again", "deleted", "string"])
def test_an_end_that_cannot_be_seen_any_more_is_dropped(
    site: InProcess, client: Client, change: str
):
    result = site.tq.tasks["told"].delay()
    at_the_limit(client, take(client))
    key = f"rq:job:{result.id}"
    if change == "started-again":
        client.hset(key, "tq_execution", "another")
    else:
        client.delete(key)
    if change == "string":
        client.set(key, "x")
    drain(site.app)
    assert site.tq.tasks["told"].heard == []
    assert client.keys("tq:aftermath*") == []


def test_it_is_over_before_its_job_requeued_starts_again(
    site: InProcess, client: Client
):
    result = site.tq.tasks["told"].delay()
    at_the_limit(client, take(client))
    assert scripts.call(client, "requeue", [result.id, "n"]) == 1
    (note,) = ask(client).notes
    assert (note.kind, note.id) == ("aftermath", result.id)


def test_a_second_death_does_not_take_the_first_ones_hooks(
    site: InProcess, client: Client
):
    """The slot that calls the first ones' is slow: it is done after the second."""
    result = site.tq.tasks["told"].delay()
    at_the_limit(client, take(client))
    (first,) = ask(client).notes
    scripts.call(client, "requeue", [result.id, "n"])
    at_the_limit(client, take(client))
    aftermath.done(client, first)
    (second,) = ask(client).notes
    assert second.id == result.id
    assert second.reason != first.reason


def test_where_nobody_listens_nothing_is_decoded_or_said(
    site: InProcess, client: Client, caplog: pytest.LogCaptureFixture
):
    result = site.tq.tasks["quiet"].delay()
    client.hset(f"rq:job:{result.id}", "data", b"\xff nothing to decode")
    at_the_limit(client, take(client))
    caplog.set_level("DEBUG")
    drain(site.app)
    assert client.keys("tq:aftermath*") == []
    assert caplog.messages == []


def test_what_a_hook_raises_is_logged_and_the_rest_is_called(
    site: InProcess, client: Client, caplog: pytest.LogCaptureFixture
):
    class Broken(Told):
        def on_failure(self, exc, task_id, args, kwargs, einfo):
            raise SystemExit(3)

    task = site.tq.task(name="broken", base=Broken)(lambda: None)
    result = task.delay()
    at_the_limit(client, take(client))
    drain(site.app)
    assert f"Hook on_failure of job {result.id} raised" in caplog.messages
    assert [call[0] for call in task.heard] == ["after_return"]
    assert client.keys("tq:aftermath*") == []


def test_a_task_that_is_not_known_here_is_left_to_another_worker(
    site: InProcess, client: Client, redis_url: str
):
    site.tq.tasks["told"].delay()
    at_the_limit(client, take(client))
    other = InProcess("other", redis_url, client)
    drain(other.app)
    member = client.zrange(AFTERMATH, 0, 0)[0]
    client.zadd(AFTERMATH, {member: 0})
    drain(site.app)
    assert [call[0] for call in site.tq.tasks["told"].heard[::2]] == [
        "on_failure", "after_return",
    ]  # fmt: skip


def test_a_job_that_cannot_be_opened_any_more_is_told_to_receivers(
    site: InProcess, client: Client, caplog: pytest.LogCaptureFixture
):
    result = site.tq.tasks["told"].delay()
    client.hset(f"rq:job:{result.id}", "data", b"\xff nothing to decode")
    at_the_limit(client, take(client))
    with listening("job_failed") as heard:
        drain(site.app)
    assert [job.id for _, job in heard] == [result.id]
    assert (
        f"The hooks of the killed job {result.id} cannot be called" in caplog.messages
    )


def test_webhooks_of_a_killed_job_are_sent_at_the_first_try_only(
    site: InProcess, client: Client, monkeypatch: pytest.MonkeyPatch
):
    sent: Heard = []
    monkeypatch.setattr(
        Webhook, "send", lambda hook, job, exc_string: sent.append((job.id, exc_string))
    )
    queue = Queue(connection=client, serializer=JSONSerializer)
    hook = Webhook("http://localhost/", "failed")
    job = queue.enqueue(plain, webhooks=[hook], on_failure=Callback(on_failure))
    at_the_limit(client, take(client))
    executor = Executor(site.tq.state, WORKER, NoTimer(), client)
    for _ in range(2):
        (note,) = ask(client).notes
        killed = aftermath.read(executor, client, note)
        assert killed is not None
        # The slot dies before it can say that it is done.
        assert aftermath.run(executor, killed)
        client.zadd(AFTERMATH, {f"{job.id}:{note.reason}": 0})
    assert sent == [(job.id, "TimeLimitExceeded: too long\n")]
    assert len(called) == 2


def test_sweep_names_the_queues_where_there_is_something_to_call(
    site: InProcess, client: Client
):
    numbers: dict[str, t.Any] = {"gap": 6.0, "lease": 10.0, "most": 9}
    site.tq.tasks["told"].delay()
    at_the_limit(client, take(client))
    assert scripts.sweep(client, **numbers).aftermath == {"default"}
    assert 604_000 < client.ttl(AFTERMATH) <= 604_800
    ask(client)
    assert scripts.sweep(client, **numbers).aftermath == set()
    client.delete(AFTERMATH)
    scripts.sweep(client, **numbers)
    assert not client.exists("tq:aftermath")


class Slow(Task[..., t.Any]):
    """Its hook does not end by itself."""

    path: t.ClassVar[str] = ""

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        with open(self.path, "a") as ledger:
            ledger.write("begun\n")
        time.sleep(60)


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        pytest.param("SOFT_LIMIT", "Hook on_failure of job {} raised", id="soft"),
        pytest.param("HARD_LIMIT", "with hooks of a killed job", id="hard"),
    ],
)
def test_hooks_that_do_not_end_are_stopped(
    site: InProcess,
    client: Client,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    limit: str,
    text: str,
):
    monkeypatch.setattr(aftermath, limit, 0.2)
    monkeypatch.setattr(Slow, "path", str(tmp_path / "ledger"))
    result = site.tq.task(name="slow", base=Slow)(lambda: None).delay()
    at_the_limit(client, take(client))
    run_worker(site.app, "default")
    assert (tmp_path / "ledger").read_text() == "begun\n"
    assert text.format(result.id) in capfd.readouterr().err + caplog.text
    # A slot that was stopped has not done it: it is given it again, not at once.
    assert client.exists(AFTERMATH) == (limit == "HARD_LIMIT")
