"""Producers and tools written for RQ work with our workers and jobs."""

from __future__ import annotations

import pickle
import subprocess
import sys
import typing as t
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgpack
import pytest
import redis
from rq import Callback, Queue, Retry, Worker
from rq.command import send_stop_job_command
from rq.job import Dependency, Job
from rq.registry import (
    CanceledJobRegistry,
    DeferredJobRegistry,
    FailedJobRegistry,
    FinishedJobRegistry,
    ScheduledJobRegistry,
)
from rq.results import Result
from rq.serializers import JSONSerializer, PickleSerializer

from flask_taskqueue.job import TaskJob

from ..processes import AppFolder
from ..processes import Worker as WorkerProcess
from ..servers import Server, eventually

SERIALIZERS = pytest.mark.parametrize(
    "serializer",
    [
        pytest.param(JSONSerializer, id="json"),
        pytest.param(PickleSerializer, id="pickle"),
    ],
)
ENDED = ("finished", "failed", "stopped", "canceled")


class Site(t.NamedTuple):
    """A running worker that admits ``rqjobs``, and a producer's view of its Redis."""

    folder: AppFolder
    worker: WorkerProcess
    client: redis.Redis
    url: str

    def queue(self, serializer: t.Any = JSONSerializer, name: str = "default") -> Queue:
        return Queue(name, connection=self.client, serializer=serializer)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Site]:
    """Not flushed between tests: the worker goes on."""
    with Server(tmp_path_factory.mktemp("server")) as server:
        folder = AppFolder(
            tmp_path_factory.mktemp("app"),
            server.url,
            "rqjobs",
            FLASK_TASKQUEUE_IMPORTABLE="rqjobs.#",
            FLASK_TASKQUEUE_ACCEPT_CONTENT="json,pickle",
            FLASK_TASKQUEUE_QUEUES="default,mail",
        )
        with server.client() as client:
            worker = folder.worker("-c", "2")
            yield Site(folder, worker, client, server.url)
        folder.close()


@pytest.fixture
def module(site: Site) -> t.Any:
    return site.folder.module()


@pytest.fixture
def app(site: Site, module: t.Any) -> t.Iterator[t.Any]:
    """The app in this process, its context pushed."""
    app = module.create_app(TASKQUEUE_URL=site.url)
    with app.app_context():
        yield app
        module.tq.state.broker.close()


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    return str(tmp_path / "ledger")


def lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def ended(job: Job) -> str:
    """The status it ended with, when it did."""

    def status() -> str:
        found = str(job.get_status(refresh=True).value)
        return found if found in ENDED else ""

    found = eventually(status, message=f"job {job.id} ends")
    job.refresh()
    return found


def has_status(job: Job, status: str) -> None:
    eventually(lambda: job.get_status(refresh=True).value == status, message=status)


@SERIALIZERS
def test_a_plain_job_runs_and_rq_reads_its_result(site: Site, module, serializer):
    job = site.queue(serializer).enqueue(module.double, 21)
    assert ended(job) == "finished"
    result = job.latest_result()
    assert result.type == Result.Type.SUCCESSFUL
    assert job.return_value() == result.return_value == 42
    assert job.started_at <= job.ended_at <= datetime.now(UTC)
    assert job.id in FinishedJobRegistry(queue=site.queue(serializer))
    assert job.get_position() is None


def test_a_pickled_value_no_json_can_write_comes_back(site: Site, module):
    job = site.queue(PickleSerializer).enqueue(module.double, (1, b"x"))
    assert ended(job) == "finished"
    assert job.return_value() == (1, b"x", 1, b"x")


def test_a_plain_job_runs_inside_the_app(site: Site, module):
    job = site.queue().enqueue(module.app_name)
    assert ended(job) == "finished"
    assert job.return_value() == "rqjobs"


@SERIALIZERS
def test_a_plain_job_that_names_a_task_runs_as_the_task(site: Site, serializer):
    job = site.queue(serializer, "mail").enqueue("rqjobs.as_task", 3)
    assert ended(job) == "finished"
    assert job.return_value() == [3, "rqjobs.as_task", "mail"]


def test_a_task_named_by_a_plain_job_retries_as_the_task(site: Site, ledger):
    job = site.queue().enqueue("rqjobs.flaky", ledger)
    assert ended(job) == "failed"
    assert lines(ledger) == ["retries 0", "retries 1"]


def test_arguments_are_neither_logged_nor_shown(site: Site, app, module):
    """RQ writes them into the job's description."""
    job = site.queue().enqueue(module.double, "hush-hush")
    assert ended(job) == "finished"
    assert "hush-hush" in job.description
    answer = app.test_client().get(f"/tasks/{job.id}").get_json()
    assert answer["task"] == "rqjobs.double"
    eventually(lambda: f"rqjobs.double[{job.id}] succeeded" in site.worker.output)
    assert "('hush-hush')" not in site.worker.output


def test_rqs_retry_counts_where_the_job_runs_as_a_task(site: Site):
    job = site.queue().enqueue("rqjobs.fail", "no", retry=Retry(max=2))
    assert ended(job) == "failed"
    assert job.retries_left == 0
    assert site.client.hget(job.key, "tq_retries") == b"2"


def test_methods_run(site: Site, module):
    queue = site.queue(PickleSerializer)
    bound = queue.enqueue(module.Shop("corner").open, 8)
    static = queue.enqueue("rqjobs.Shop.close", 20)
    assert (ended(bound), ended(static)) == ("finished", "finished")
    assert bound.return_value() == "corner at 8"
    assert static.return_value() == "closed at 20"


@SERIALIZERS
def test_a_scheduled_plain_job_waits_and_runs(site: Site, module, serializer):
    queue = site.queue(serializer)
    before = datetime.now(UTC)
    job = queue.enqueue_in(timedelta(seconds=1), module.double, 2)
    assert job.get_status().value == "scheduled"
    assert job.id in ScheduledJobRegistry(queue=queue)
    assert ended(job) == "finished"
    # RQ cuts the due time to whole seconds.
    assert timedelta(0) < job.started_at - before < timedelta(seconds=4)
    assert job.id not in ScheduledJobRegistry(queue=queue)


@SERIALIZERS
def test_retry_runs_it_again_and_counts_down(site: Site, module, ledger, serializer):
    job = site.queue(serializer).enqueue(
        module.fail_until, ledger, 2, retry=Retry(max=3, interval=[0, 1, 1])
    )
    has_status(job, "scheduled")
    assert Job.fetch(
        job.id, connection=site.client, serializer=serializer
    ).retries_left in (1, 2)
    assert ended(job) == "finished"
    assert job.return_value() == "after 3"
    assert job.retries_left == 1
    assert len(lines(ledger)) == 3


def test_retries_run_out(site: Site, module, ledger):
    job = site.queue().enqueue(module.fail_until, ledger, 9, retry=Retry(max=2))
    assert ended(job) == "failed"
    assert lines(ledger) == ["run"] * 3
    assert job.retries_left == 0
    assert "ValueError: run 3" in job.latest_result().exc_string
    assert job.id in FailedJobRegistry(queue=site.queue())


@pytest.mark.parametrize(
    ("times", "most", "end", "kinds"),
    [
        pytest.param(2, 5, "finished", "RETRIED RETRIED SUCCESSFUL", id="enough"),
        pytest.param(
            9, 1, "failed", "RETRIED MAX_RETRIES_EXCEEDED", id="more-than-max"
        ),
    ],
)
def test_a_returned_retry(site: Site, module, ledger, times, most, end, kinds):
    job = site.queue().enqueue(module.ask_again, ledger, times, most)
    assert ended(job) == end
    found = [result.type.name for result in reversed(job.results())]
    assert found == kinds.split()
    assert job.number_of_retries == min(times, most)
    assert len(lines(ledger)) == min(times, most) + 1


@SERIALIZERS
def test_the_success_callback_runs(site: Site, module, ledger, serializer):
    job = site.queue(serializer).enqueue(
        module.succeed_with, ledger, 5, on_success=Callback(module.on_success)
    )
    assert ended(job) == "finished"
    assert lines(ledger) == ["run", f"success {job.id} 5"]


def test_a_success_callback_that_raises_fails_the_job(site: Site, module, ledger):
    job = site.queue().enqueue(
        module.succeed_with, ledger, 5, on_success=Callback(module.refuse)
    )
    assert ended(job) == "failed"
    assert "RuntimeError: the callback refuses" in job.latest_result().exc_string


def test_a_callback_is_stopped_at_its_time_out(site: Site, module, ledger):
    job = site.queue().enqueue(
        module.succeed_with, ledger, 5, on_success=Callback(module.linger, timeout=1)
    )
    assert ended(job) == "failed"
    assert "JobTimeoutException" in job.latest_result().exc_string
    assert lines(ledger) == ["run", "start"]


def test_a_coroutine_function_is_run_to_its_end(site: Site, module, ledger):
    job = site.queue().enqueue(module.double_later, 4)
    assert ended(job) == "finished"
    assert job.return_value() == 8


def test_the_failure_callback_runs_for_each_attempt(site: Site, module, ledger):
    job = site.queue().enqueue(
        module.last_too_long,
        ledger,
        job_timeout=1,
        retry=Retry(max=1),
        on_failure=Callback(module.on_failure),
    )
    assert ended(job) == "failed"
    said = "failure JobTimeoutException"
    found = lines(ledger)
    assert [line[: len(said)] for line in found] == ["start", said] * 2
    assert all(line.endswith(" True") for line in found[1::2])


def test_a_failure_callback_that_raises_changes_nothing(site: Site, module, ledger):
    job = site.queue().enqueue(
        module.fail_until, ledger, 9, on_failure=Callback(module.refuse)
    )
    assert ended(job) == "failed"
    assert "ValueError: run 1" in job.latest_result().exc_string


def test_a_callback_that_is_not_admitted_is_not_called(site: Site, module, tmp_path):
    target = tmp_path / "made-by-the-callback"
    job = site.queue().enqueue(module.succeed_with, str(tmp_path / "ledger"), 5)
    assert ended(job) == "finished"
    job = Job.create(
        "rqjobs.succeed_with",
        (str(target), 5),
        connection=site.client,
        serializer=JSONSerializer,
        origin="default",
    )
    job._success_callback_name = "pathlib.Path.touch"
    site.queue().enqueue_job(job)
    assert ended(job) == "failed"
    assert "TASKQUEUE_IMPORTABLE" in job.latest_result().exc_string


def test_a_stopped_job_is_stopped(site: Site, module, ledger):
    job = site.queue().enqueue(
        module.last_too_long, ledger, on_stopped=Callback(module.on_stopped)
    )
    eventually(lambda: lines(ledger), message="it runs")
    send_stop_job_command(site.client, job.id, serializer=JSONSerializer)
    assert ended(job) == "stopped"
    assert job.id in FailedJobRegistry(queue=site.queue())
    assert job.latest_result().type == Result.Type.STOPPED
    eventually(lambda: lines(ledger)[-1] == f"stopped {job.id}", message="its callback")
    eventually(lambda: not site.client.exists("tq:aftermath"), message="done")
    assert len(lines(ledger)) == 2


def test_a_dependent_waits_for_all_its_dependencies(site: Site, module, tmp_path):
    gates = [tmp_path / name for name in "ab"]
    for gate in gates:
        gate.touch()
    queue = site.queue()
    first, second = (queue.enqueue(module.hold, str(gate)) for gate in gates)
    last = queue.enqueue(module.double, 1, depends_on=[first, second])
    assert last.get_status().value == "deferred"
    assert last.id in DeferredJobRegistry(queue=queue)
    gates[0].unlink()
    assert ended(first) == "finished"
    assert last.get_status(refresh=True).value == "deferred"
    gates[1].unlink()
    assert (ended(second), ended(last)) == ("finished", "finished")
    assert last.started_at >= second.ended_at
    assert last.id not in DeferredJobRegistry(queue=queue)


@pytest.mark.parametrize(
    ("allow_failure", "status"),
    [
        pytest.param(True, "finished", id="failure-allowed"),
        pytest.param(False, "deferred", id="failure-not-allowed"),
    ],
)
def test_a_dependent_of_a_failed_job(site: Site, module, ledger, allow_failure, status):
    queue = site.queue()
    # Its parent waits a little, so that both are stored before it fails.
    parent = queue.enqueue_in(timedelta(seconds=1), module.fail_until, ledger, 9)
    after = queue.enqueue(
        module.double,
        4,
        depends_on=Dependency(parent, allow_failure=allow_failure),
    )
    assert ended(parent) == "failed"
    if allow_failure:
        assert ended(after) == status
        assert after.return_value() == 8
    else:
        assert after.get_status(refresh=True).value == status


def test_a_dependent_of_a_job_of_ours_runs(site: Site, app, module):
    queue = site.queue()
    result = module.add.apply_async((1, 2), countdown=0.5)
    parent = Job.fetch(result.id, connection=site.client, serializer=JSONSerializer)
    after = queue.enqueue(module.double, 4, depends_on=parent)
    assert after.get_status().value == "deferred"
    assert ended(after) == "finished"
    assert result.get(timeout=5) == 3


@SERIALIZERS
def test_the_current_job_is_known_and_its_meta_is_kept(site: Site, module, serializer):
    job = site.queue(serializer).enqueue(module.keep_meta, meta={"mine": 1})
    assert ended(job) == "finished"
    assert job.return_value() == job.id
    assert job.get_meta() == {"mine": 1, "seen": [job.id, []]}


def test_a_job_runs_into_its_time_out(site: Site, module, ledger):
    job = site.queue().enqueue(module.last_too_long, ledger, job_timeout=1)
    assert ended(job) == "failed"
    assert "JobTimeoutException" in job.latest_result().exc_string


@pytest.mark.parametrize(
    ("given", "low", "high"),
    [
        # So that a repeated call finds it, no job goes sooner than 60 s.
        pytest.param({"result_ttl": 0}, 50, 60, id="zero"),
        pytest.param({"result_ttl": -1}, -1, -1, id="for-ever"),
        pytest.param({"result_ttl": 1000}, 990, 1000, id="given"),
        pytest.param({}, 490, 500, id="rq-default"),
    ],
)
def test_the_result_ttl_is_kept(site: Site, module, given, low, high):
    job = site.queue().enqueue(module.double, 1, **given)
    assert ended(job) == "finished"
    for key in (job.key, f"rq:results:{job.id}"):
        assert low <= t.cast(int, site.client.ttl(key)) <= high
    score = site.client.zscore("rq:finished:default", job.id)
    assert (score == float("inf")) == (low == -1)


def test_a_failed_job_without_a_ttl_is_kept_for_rqs_year(site: Site, module, ledger):
    job = site.queue().enqueue(module.fail_until, ledger, 9)
    assert ended(job) == "failed"
    year = 365 * 86_400
    for key in (job.key, f"rq:results:{job.id}"):
        assert year - 60 <= t.cast(int, site.client.ttl(key)) <= year


@pytest.fixture
def strict(tmp_path: Path, redis_url: str) -> t.Iterator[AppFolder]:
    """An app that admits pickles, and no names but ``rqjobs``'s own."""
    folder = AppFolder(
        tmp_path, redis_url, "rqjobs", FLASK_TASKQUEUE_ACCEPT_CONTENT="json,pickle"
    )
    yield folder
    folder.close()


@pytest.mark.parametrize(
    "importable",
    [pytest.param("", id="unset"), pytest.param("rqjobs.#", id="own-module")],
)
def test_a_name_that_is_not_admitted_is_parked(strict, client, importable):
    strict.env["FLASK_TASKQUEUE_IMPORTABLE"] = importable
    target = strict.folder / "made"
    source = f"open({str(target)!r}, 'w')"
    (strict.folder / "outside.py").write_text(f"{source}\ndef run(): {source}\n")
    queue = Queue(connection=client, serializer=JSONSerializer)
    pickled = Queue(connection=client, serializer=PickleSerializer)
    jobs = [
        queue.enqueue(name, *args)
        for name, args in [
            ("os.system", (f"touch {target}",)),
            ("operator.add", (1, 2)),
            ("builtins.open", (str(target), "w")),
            ("outside.run", ()),
            ("rqjobs.os.system", (f"touch {target}",)),
            ("rqjobs.Path.touch", (str(target),)),
            ("rqjobs.Flask", ("x",)),
            ("rqjobs.get_current_job", ()),
            ("rqjobs.Shop.open.__globals__.clear", ()),
            ("rqjobs.double.__class__", ()),
            ("rqjobs.no_such_name", ()),
            (".rqjobs.double", (1,)),
            ("double", (1,)),
        ]
    ]
    jobs.append(pickled.enqueue(target.touch))
    deferred, failed = DeferredJobRegistry(queue=queue), FailedJobRegistry(queue=queue)
    good = queue.enqueue("rqjobs.as_task", 1)
    worker = strict.worker("-c", "1", "--burst", ready=False)
    assert worker.process.wait(30) == 0, worker.output
    assert ended(good) == "finished"
    assert not target.exists()
    for job in jobs:
        # The pattern admits it, the module does not have it as its own: no worker
        # that is yet to come would run it either.
        refused = importable and job.description.startswith("rqjobs.")
        assert job.get_status(refresh=True).value == (
            "failed" if refused else "deferred"
        )
        assert job.id in (failed if refused else deferred)
    assert client.smembers("tq:parked") >= {b"os.system", b"operator.add"}
    assert "os.system" in worker.output


def test_a_pickle_is_not_decoded_unless_it_is_accepted(strict, client):
    class Trap:
        def __reduce__(self):
            return eval, ("open('made', 'w')",)

    strict.env["FLASK_TASKQUEUE_ACCEPT_CONTENT"] = "json,msgpack"
    strict.env["FLASK_TASKQUEUE_IMPORTABLE"] = "rqjobs.#"

    queue = Queue(connection=client, serializer=PickleSerializer)
    plain = queue.enqueue("rqjobs.double", Trap())
    # A job that says it is msgpack must not get its meta unpickled either.
    forged = Queue(connection=client).enqueue("rqjobs.double", 1)
    client.hset(
        forged.key,
        mapping={
            "data": msgpack.packb(["rqjobs.double", None, [1], {}]),
            "tq_content": "msgpack",
            "meta": pickle.dumps({"x": Trap()}),
        },
    )
    result = Queue(connection=client, serializer=JSONSerializer).enqueue(
        "rqjobs.double", 1
    )
    client.hset(result.key, "meta", pickle.dumps({"x": Trap()}))
    client.hset(result.key, "result", pickle.dumps({"x": Trap()}))
    worker = strict.worker("-c", "1", "--burst", ready=False)
    assert worker.process.wait(30) == 0
    assert not (strict.folder / "made").exists()
    for job, status in ((plain, "failed"), (forged, "failed"), (result, "finished")):
        assert client.hget(job.key, "status") == status.encode()
    assert b"a JSON list" in t.cast(bytes, client.hget(forged.key, "tq_error"))
    assert "TASKQUEUE_ACCEPT_CONTENT" in worker.output


def fetch(site: Site, job_id: str) -> Job:
    return Job.fetch(job_id, connection=site.client, serializer=JSONSerializer)


def test_rq_reads_a_job_of_ours(site: Site, app, module):
    before = datetime.now(UTC)
    result = module.add.delay(1, y=2)
    assert result.get(timeout=10) == 3
    job = fetch(site, result.id)
    assert (job.func_name, list(job.args), job.kwargs) == ("rqjobs.add", [1], {"y": 2})
    assert job.is_finished
    assert job.return_value() == job.latest_result().return_value == 3
    assert before <= job.created_at <= job.enqueued_at <= job.started_at
    assert job.started_at <= job.ended_at <= datetime.now(UTC)
    assert (job.origin, job.description) == ("default", "rqjobs.add")
    assert job.worker_name
    assert job.meta == {}
    assert job.result_ttl == 86_400
    assert result.id in FinishedJobRegistry(queue=site.queue())


def test_rq_reads_a_failed_job_of_ours(site: Site, app, module):
    result = module.fail.delay("no")
    with pytest.raises(ValueError, match="^no$"):
        result.get(timeout=10)
    job = fetch(site, result.id)
    assert job.is_failed
    found = job.latest_result()
    assert found.type == Result.Type.FAILED
    assert found.exc_string.endswith("ValueError: no\n")
    assert "Traceback" in found.exc_string
    assert result.id in FailedJobRegistry(queue=site.queue())


def test_rq_sees_a_scheduled_job_of_ours(site: Site, app, module):
    result = module.add.apply_async((1, 2), countdown=600)
    registry = ScheduledJobRegistry(queue=site.queue())
    assert result.id in registry
    due = registry.get_scheduled_time(result.id) - datetime.now(UTC)
    assert timedelta(seconds=590) < due <= timedelta(seconds=600)
    assert fetch(site, result.id).is_scheduled
    result.revoke()
    assert fetch(site, result.id).is_canceled
    assert result.id in CanceledJobRegistry(queue=site.queue())


def test_a_running_job_of_ours_is_in_rqs_registries(site: Site, app, module, tmp_path):
    gate = tmp_path / "gate"
    gate.touch()
    job = site.queue().enqueue(module.hold, str(gate))
    has_status(job, "started")
    assert site.queue().started_job_registry.get_job_ids() == [job.id]
    info = subprocess.run(
        [sys.executable, "-m", "rq.cli", "info", "--raw", "-u", site.url],
        capture_output=True,
        text=True,
        timeout=30,
        env=site.folder.env,
    )
    assert info.returncode == 0, info.stderr
    found = info.stdout.splitlines()
    assert any(line.startswith("queue default ") for line in found), info.stdout
    workers = [line for line in found if line.startswith("worker ")]
    assert len(workers) == 1
    assert "default" in workers[0]
    assert job.get_status(refresh=True).value == "started"
    gate.unlink()
    assert ended(job) == "finished"


def test_rq_lists_one_worker(site: Site):
    with redis.Redis.from_url(site.url) as client:
        known = Worker.all(connection=client)
    assert len(known) == 1
    assert known[0].queue_names() == ["default", "mail"]
    assert known[0].pid == site.worker.pid
    assert site.worker.output.count(f"{known[0].name} ready.") == 1


def test_a_task_job_has_what_rqs_class_lacks(site: Site, app, module):
    result = module.add.delay(1, 2)
    result.get(timeout=10)
    job = TaskJob.fetch(result.id, connection=site.client, serializer=JSONSerializer)
    assert isinstance(job, Job)
    assert job.stored.task == "rqjobs.add"
    assert job.stored.state == "SUCCESS"
    assert job.stored.recoveries == 0


def test_rqs_requeue_runs_a_failed_job_again_with_full_counts(
    site: Site, app, module, ledger
):
    result = module.flaky.delay(ledger)
    with pytest.raises(ValueError, match="always"):
        result.get(timeout=10)
    assert lines(ledger) == ["retries 0", "retries 1"]
    fetch(site, result.id).requeue()
    eventually(lambda: len(lines(ledger)) == 4, message="it runs twice again")
    assert lines(ledger) == ["retries 0", "retries 1"] * 2
    assert ended(fetch(site, result.id)) == "failed"
    assert result.state == "FAILURE"
    assert result.retries == 1


def test_rqs_cancel_keeps_a_job_of_ours_from_running(site: Site, app, module, ledger):
    result = module.flaky.apply_async((ledger,), countdown=1)
    fetch(site, result.id).cancel()
    assert result.state == "REVOKED"
    later = module.add.apply_async((1, 2), countdown=1.2)
    assert later.get(timeout=10) == 3
    assert lines(ledger) == []


def test_rqs_cancel_takes_effect_while_it_waits_in_a_queue(jobs, client):
    module = jobs.module()
    app = module.create_app(TASKQUEUE_URL=jobs.env["FLASK_TASKQUEUE_URL"])
    with app.app_context():
        result, later = module.add.delay(1, 1), module.add.delay(2, 2)
        Job.fetch(result.id, connection=client, serializer=JSONSerializer).cancel()
        worker = jobs.worker("--burst", "-c", "1", ready=False)
        assert worker.process.wait(30) == 0
        assert later.get(timeout=1) == 4
        assert result.state == "REVOKED"
        assert f"[{result.id}]" not in worker.output
        module.tq.state.broker.close()
