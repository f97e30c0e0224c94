"""The same jobs through RQ's ``SimpleWorker`` and through ours leave the same behind.

Both run plain functions that RQ's own classes enqueued, and tasks: by RQ as the
functions they are, by us as what ``apply_async`` enqueued.
"""

from __future__ import annotations

import time
import typing as t
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from unittest.mock import ANY

import pytest
import redis
from rq import Callback, Queue, Repeat, Retry, SimpleWorker
from rq.job import Dependency, Job
from rq.registry import (
    CanceledJobRegistry,
    DeferredJobRegistry,
    FailedJobRegistry,
    FinishedJobRegistry,
    ScheduledJobRegistry,
    StartedJobRegistry,
)
from rq.scheduler import RQScheduler
from rq.serializers import JSONSerializer

from flask_taskqueue import AsyncResult
from flask_taskqueue.testing import drain

from ..processes import AppFolder

REGISTRIES: tuple[t.Any, ...] = (
    CanceledJobRegistry, DeferredJobRegistry, FailedJobRegistry, FinishedJobRegistry,
    ScheduledJobRegistry, StartedJobRegistry,
)  # fmt: skip

SAME = (
    "origin", "description", "timeout", "result_ttl", "failure_ttl", "ttl", "meta",
    "retries_left", "retry_intervals", "number_of_retries", "enqueue_at_front",
    "allow_dependency_failures", "repeats_left", "group_id", "func_name", "args",
    "kwargs",
)  # fmt: skip

SET = ("created_at", "enqueued_at", "started_at", "ended_at", "worker_name")
"""Attributes of which only counts whether they are set."""

INFINITE = float("inf")
FOR_EVER, GONE = -1.0, -2.0
"""Lifetimes that are none."""

YEAR, DAY = 31_536_000.0, 86_400.0
DEFAULT = 500.0
"""Seconds for which RQ keeps a result."""

Found = dict[str, t.Any]
Difference = tuple[t.Any, t.Any]
"""What RQ leaves, and what we do."""


@dataclass
class Site:
    """An app, and a queue that is worked off by RQ or by us."""

    client: t.Any
    module: t.Any
    app: t.Any
    ledger: Path
    ours: bool = False

    @property
    def queue(self) -> Queue:
        return Queue("default", connection=self.client, serializer=JSONSerializer)

    def enqueue(self, name: str, *args: object, id: str = "a", **options: t.Any) -> Job:
        """A function of ``tests/apps/rqjobs.py``."""
        return self.queue.enqueue(f"rqjobs.{name}", *args, job_id=id, **options)

    def enqueue_task(
        self, name: str, *args: object, retry: int = 0, interval: int = 0
    ) -> None:
        """The same function as a task, where it is ours."""
        keep = {"result_ttl": 100, "failure_ttl": 200}
        if self.ours:
            task = self.module.tq.task(
                name=f"rqjobs.{name}", max_retries=retry, default_retry_delay=interval,
                autoretry_for=(ValueError,), **keep,
            )(getattr(self.module, name))  # fmt: skip
            task.apply_async(args, task_id="a")
        else:
            again = Retry(max=retry, interval=interval) if retry else None
            self.enqueue(name, *args, retry=again, **keep)

    def fetch(self, job_id: str = "a") -> Job:
        return Job.fetch(job_id, connection=self.client, serializer=JSONSerializer)

    def cancel(self, job_id: str = "a") -> None:
        if self.ours:
            AsyncResult(job_id).revoke()
        else:
            self.fetch(job_id).cancel()

    def let_time_pass(self) -> None:
        """What is scheduled becomes due."""
        for job_id in self.client.zrange("rq:scheduled:default", 0, -1):
            self.client.zadd("rq:scheduled:default", {job_id: 1.0})

    def run(self) -> None:
        """Run all that is due."""
        if self.ours:
            drain(self.app, "default")
            return
        scheduler = RQScheduler(
            [self.queue], connection=self.client, serializer=JSONSerializer
        )
        scheduler.acquire_locks()
        scheduler.enqueue_scheduled_jobs()
        scheduler.release_locks()
        scheduler.connection.close()
        worker = SimpleWorker(
            [self.queue], connection=self.client, serializer=JSONSerializer
        )
        # What work() does, without its signal handlers and its thread.
        worker.register_birth()
        while found := worker.dequeue_job_and_maintain_ttl(None):
            worker.execute_job(*found)
        worker.register_death()


@pytest.fixture
def site(tmp_path: Path, client: redis.Redis, redis_url: str) -> Iterator[Site]:
    folder = AppFolder(tmp_path, None, "rqjobs")
    module = folder.module()
    app = module.create_app(TASKQUEUE_URL=redis_url, TASKQUEUE_IMPORTABLE="rqjobs.#")
    with app.app_context():
        yield Site(client, module, app, tmp_path / "ledger")
        module.tq.state.broker.close()
    folder.close()


def registries(site: Site, job_id: str, end: float) -> Found:
    """Those that have the job, and for how long after its end."""
    found: Found = {}
    for kind in REGISTRIES:
        key = kind(queue=site.queue).key
        for member, score in site.client.zrange(key, 0, -1, withscores=True):
            if member.decode().partition(":")[0] == job_id:
                # RQ's -1 of a failed job is for ever, too: its clean-up starts at 0.
                found[kind.__name__] = INFINITE if score == -1 else score - end
    return found


def lifetime(site: Site, key: str, end: float) -> float:
    """Seconds a key outlives the end of its job."""
    at = float(site.client.execute_command("PEXPIRETIME", key))
    return at if at < 0 else at / 1000 - end


def seen(site: Site, job_id: str) -> Found:
    """What RQ's own classes, and a look at lifetimes, say of a job."""
    key = f"rq:job:{job_id}"
    if not site.client.exists(key):
        return {"lifetime": GONE}
    job = site.fetch(job_id)
    end = job.ended_at.timestamp() if job.ended_at else time.time()
    results = job.results()
    return {
        "status": job.get_status().value,
        **{name: getattr(job, name) for name in SAME},
        **{name: bool(getattr(job, name)) for name in SET},
        "in queue": site.queue.get_job_ids().count(job_id),
        "lifetime": lifetime(site, key, end),
        "lifetime of results": lifetime(site, f"rq:results:{job_id}", end),
        "error": last_line(results[0].exc_string) if results else "",
        "results": [
            (result.type.name, result.return_value, bool(result.exc_string))
            for result in reversed(results)
        ],
        "return value": job.return_value(),
    } | registries(site, job_id, end)


def last_line(trace: str | None) -> str:
    return (trace or "").strip().rpartition("\n")[2]


def differences(theirs: Found, ours: Found) -> dict[str, Difference]:
    """What of a job is not the same. Of one that is gone there is only that."""
    names = theirs.keys() | ours.keys()
    if GONE in (theirs["lifetime"], ours["lifetime"]):
        names = {"lifetime"}
    found = {name: (theirs.get(name), ours.get(name)) for name in names}
    return {name: pair for name, pair in found.items() if not alike(*pair)}


def alike(a: object, b: object) -> bool:
    """Lifetimes may differ by the time that storing takes."""
    if isinstance(a, float) and isinstance(b, float):
        return a == b or abs(a - b) < 3
    return a == b


# Differences that are meant.

# RQ gives the results of a failed job that says nothing no lifetime.
RESULTS_GO = {"lifetime of results": (FOR_EVER, YEAR)}

# A repeated call must find what it did: no hash goes sooner than 60 s after the end.
STAYS_A_MINUTE = {"lifetime": (GONE, 60.0)}

# A function that was not found is named as the job names it.
NOT_FOUND = {
    "error": (
        "ValueError: Invalid attribute name: gone",
        "ImportError: no module has a function 'rqjobs.gone' of its own",
    )
}

# A result nobody can read is no success.
UNREADABLE = {
    "status": ("finished", "failed"),
    "error": ("", ANY),
    "results": (
        [("SUCCESSFUL", "Unserializable return value", False)],
        [("FAILED", None, True)],
    ),
    "return value": ("Unserializable return value", None),
    "FinishedJobRegistry": (DEFAULT, None),
    "FailedJobRegistry": (None, YEAR),
    "lifetime": (DEFAULT, YEAR),
    "lifetime of results": (DEFAULT, YEAR),
}

# Between two attempts a job has neither begun nor ended, and is with no worker.
WAITS_FOR_RETRY = {
    "started_at": (True, False), "ended_at": (True, False),
    "worker_name": (True, False),
}  # fmt: skip


# What the function returned was no value.
RETRY_IS_NO_VALUE = {
    "results": (
        [
            ("RETRIED", "Unserializable return value", False),
            ("SUCCESSFUL", "after 2", False),
        ],
        [("RETRIED", None, False), ("SUCCESSFUL", "after 2", False)],
    ),
}

# And of too many there is an error to read.
TOO_MANY_RETRIES = {
    **RESULTS_GO,
    "error": (
        "",
        "flask_taskqueue.errors.MaxRetriesExceededError: the function returned Retry"
        " more than 1 times",
    ),
    "results": (
        [
            ("RETRIED", "Unserializable return value", False),
            ("MAX_RETRIES_EXCEEDED", "Unserializable return value", False),
        ],
        [("RETRIED", None, False), ("MAX_RETRIES_EXCEEDED", None, True)],
    ),
}


def revoked(ttl: float) -> dict[str, Difference]:
    """A revoked job has ended: whoever waits for it hears so, and one day it goes."""
    return {
        "ended_at": (False, True),
        "results": ([], [("STOPPED", None, False)]),
        "lifetime": (FOR_EVER, ttl),
        "lifetime of results": (GONE, ttl),
        "CanceledJobRegistry": (0.0, ttl),
    }


Scenario = Callable[[Site], Iterator[None]]


@dataclass(frozen=True)
class Case:
    """A scenario, and how it may differ by job."""

    play: Scenario
    meant: dict[str, dict[str, Difference]]


CASES: dict[str, Case] = {}


def case(name: str, **meant: dict[str, Difference]) -> Callable[[Scenario], Scenario]:
    def keep(play: Scenario) -> Scenario:
        CASES[name] = Case(play, meant)
        return play

    return keep


def one(name: str, function: str, *args: object, **options: t.Any) -> None:
    """A case of one job."""
    meant = options.pop("meant", {})

    @case(name, a=meant)
    def play(site: Site) -> Iterator[None]:
        filled = [str(site.ledger) if arg == "LEDGER" else arg for arg in args]
        site.enqueue(function, *filled, **options)
        yield


one("success", "double", 21)
one("result-ttl-0", "double", 21, result_ttl=0, meant=STAYS_A_MINUTE)
one("result-ttl-for-ever", "double", 21, result_ttl=-1)
one("result-ttl", "double", 21, result_ttl=120)
one("ttl", "double", 21, ttl=3000)
one("options", "double", 21, meta={"a": 1}, description="d", job_timeout=33)
one("no-result", "note", "LEDGER", "x")
one("no-json-result", "Shop", "x", meant=UNREADABLE)
one("meta", "keep_meta", meta={"b": 1})
one("failure", "double", None, meant=RESULTS_GO)
one("failure-ttl", "double", None, failure_ttl=500)
one("failure-ttl-0", "double", None, failure_ttl=0, meant=STAYS_A_MINUTE)
one("failure-ttl-for-ever", "double", None, failure_ttl=-1)
one("wrong-arguments", "double", 1, 2, 3, meant=RESULTS_GO)
one("no-function", "gone", meant={**RESULTS_GO, **NOT_FOUND})
one("retries-fail", "fail_until", "LEDGER", 9, retry=Retry(max=2), meant=RESULTS_GO)
one("retry-succeeds", "fail_until", "LEDGER", 1, retry=Retry(max=2))
one("retry-waits", "fail_until", "LEDGER", 9, retry=Retry(max=3, interval=[100, 200]),
    meant=WAITS_FOR_RETRY)  # fmt: skip
one("returned-retry", "ask_again", "LEDGER", 1, 3, meant=RETRY_IS_NO_VALUE)
one("returned-retries", "ask_again", "LEDGER", 9, 1, meant=TOO_MANY_RETRIES)
one("repeat", "note", "LEDGER", "x", repeat=Repeat(times=2))
one("repeat-waits", "note", "LEDGER", "x", repeat=Repeat(times=2, interval=[50, 100]))
one("on-success", "succeed_with", "LEDGER", 5, on_success=Callback("rqjobs.on_success"))
one("on-success-raises", "succeed_with", "LEDGER", 5,
    on_success=Callback("rqjobs.refuse"), meant=RESULTS_GO)  # fmt: skip
one("on-failure", "fail_until", "LEDGER", 9, on_failure=Callback("rqjobs.on_failure"),
    meant=RESULTS_GO)  # fmt: skip


@case("retries-after-their-intervals", a=RESULTS_GO)
def retries_wait(site: Site) -> Iterator[None]:
    retry = Retry(max=2, interval=[100, 200])
    site.enqueue("fail_until", str(site.ledger), 9, retry=retry)
    for _ in range(3):
        yield
        site.let_time_pass()


@case("eta")
def eta(site: Site) -> Iterator[None]:
    for job_id in "ab":
        site.queue.enqueue_in(
            timedelta(seconds=60), "rqjobs.note", str(site.ledger), job_id,
            job_id=job_id, at_front=job_id == "b",
        )  # fmt: skip
    yield
    site.let_time_pass()


@case("at-front")
def at_front(site: Site) -> Iterator[None]:
    for job_id in "abc":
        site.enqueue(
            "note", str(site.ledger), job_id, id=job_id, at_front=job_id == "c"
        )
    yield


@case("canceled")
def canceled(site: Site) -> Iterator[None]:
    site.enqueue("double", 2).cancel()
    yield


@case("revoked", a=revoked(DAY))
def revoked_by_us(site: Site) -> Iterator[None]:
    site.enqueue("double", 2)
    site.cancel()
    yield


@case("its-time-to-live-is-over")
def expired(site: Site) -> Iterator[None]:
    site.enqueue("double", 2, ttl=100)
    site.client.delete("rq:job:a")
    yield


@case("requeued")
def requeued(site: Site) -> Iterator[None]:
    site.enqueue("fail_until", str(site.ledger), 1)
    yield
    site.fetch().requeue()


@case("its-id-again")
def again(site: Site) -> Iterator[None]:
    site.enqueue("double", 1)
    yield
    site.enqueue("double", 5)


@case("dependent")
def dependent(site: Site) -> Iterator[None]:
    first = site.enqueue("double", 2)
    site.enqueue("double", 3, id="b", depends_on=first)
    yield


@case("dependents-of-a-failure", a=RESULTS_GO)
def dependents_of_a_failure(site: Site) -> Iterator[None]:
    first = site.enqueue("double", None)
    site.enqueue("double", 2, id="b", depends_on=first)
    site.enqueue("double", 3, id="c", depends_on=Dependency(first, allow_failure=True))
    yield


@case("dependents-of-two", b=RESULTS_GO)
def dependents_of_two(site: Site) -> Iterator[None]:
    both = [site.enqueue("double", 1), site.enqueue("double", None, id="b")]
    site.enqueue("double", 2, id="c", depends_on=both)
    any_way = Dependency(both, allow_failure=True, enqueue_at_front=True)
    site.enqueue("double", 3, id="d", depends_on=any_way)
    yield


@case("dependents-of-a-canceled-one")
def dependents_of_canceled(site: Site) -> Iterator[None]:
    first = site.enqueue("double", 1)
    site.enqueue("double", 2, id="b", depends_on=first)
    first.cancel()
    yield


@case("dependents-of-a-revoked-one", a=revoked(DAY))
def dependents_of_revoked(site: Site) -> Iterator[None]:
    first = site.enqueue("double", 1)
    site.enqueue("double", 2, id="b", depends_on=first)
    site.cancel()
    yield


# A task has no time-out unless it says so, and nothing shows its arguments.
TASK = {"timeout": (180, -1), "description": (ANY, ANY)}

# Its retry policy is among its options.
TASK_RETRIES = {"retries_left": (ANY, None), "retry_intervals": (ANY, None)}


@case("task-success", a=TASK)
def task_success(site: Site) -> Iterator[None]:
    site.enqueue_task("double", 1)
    yield


@case("task-failure", a=TASK)
def task_failure(site: Site) -> Iterator[None]:
    site.enqueue_task("double", None)
    yield


@case("task-retries", a={**TASK, **TASK_RETRIES})
def task_retries(site: Site) -> Iterator[None]:
    site.enqueue_task("fail_until", str(site.ledger), 9, retry=2)
    yield


@case("task-succeeds-at-last", a={**TASK, **TASK_RETRIES})
def task_succeeds(site: Site) -> Iterator[None]:
    site.enqueue_task("fail_until", str(site.ledger), 1, retry=1)
    yield


@case("task-waits", a={**TASK, **TASK_RETRIES, **WAITS_FOR_RETRY})
def task_waits(site: Site) -> Iterator[None]:
    site.enqueue_task("fail_until", str(site.ledger), 9, retry=2, interval=50)
    yield


@case("task-revoked", a={**TASK, **revoked(100.0)})
def task_revoked(site: Site) -> Iterator[None]:
    site.enqueue_task("double", 1)
    site.cancel()
    yield


def left_behind(site: Site, name: str, *, ours: bool) -> tuple[dict[str, Found], t.Any]:
    """What is there of each job; and the rest: keys, and what the functions noted."""
    site.client.flushdb()
    site.ledger.unlink(missing_ok=True)
    site.ours = ours
    for _ in CASES[name].play(site):
        site.run()
    site.run()
    keys = {key.decode() for key in site.client.keys("rq:*")}
    ids = {key[-1] for key in keys if key[:-1] == "rq:job:"} | {"a"}
    jobs = {job_id: seen(site, job_id) for job_id in ids}
    kept = {key for key in keys if key.startswith(RELATIONS)}
    return jobs, (kept, site.ledger.read_text() if site.ledger.exists() else "")


RELATIONS = ("rq:job:a:", "rq:job:b:", "rq:job::", "rq:execution", "rq:queue")
"""Beginnings of other keys that are to be the same."""


@pytest.mark.parametrize("name", CASES)
def test_the_same_is_left_behind(site: Site, name: str):
    theirs, noted = left_behind(site, name, ours=False)
    ours, noted_by_ours = left_behind(site, name, ours=True)
    assert noted_by_ours == noted
    assert ours.keys() == theirs.keys()
    for job_id, found in theirs.items():
        differing = differences(found, ours[job_id])
        meant = CASES[name].meant.get(job_id, {})
        assert differing.keys() == meant.keys(), {
            what: differing.get(what) for what in differing.keys() ^ meant.keys()
        }
        for what, pair in differing.items():
            assert all(map(alike, pair, meant[what])), (what, pair)
